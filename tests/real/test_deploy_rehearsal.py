"""A rehearsal of k8s/: its jobs and servers as processes of the built image over one real S3 server (issue 6).

Commands, environment, files and user are those of the rendered manifests, the root cannot be written, and what ends is
started again as the rules of its Job say (`tests/real/cluster.py`). The upstream is the registry and feed of
`tests/fakes`, as a process of its own.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import signal
import time
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.deploy.jobs import Outcome
from tests.deploy.manifests import parse
from tests.fakes.feed_process import run_feed
from tests.fakes.registry import Signer
from tests.fakes.registry_demo import demo_names, demo_version
from tests.real.clients import mirrorwitness
from tests.real.cluster import open_cluster
from tests.real.conftest import BUCKET
from tests.real.image import needs_image_tools
from tests.real.overlays import K8S, Values, needs_k8s_tools, write_overlay
from tests.real.servers import READER_KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from tests.fakes.feed_process import FeedProcess
    from tests.fakes.thread import ThreadedRegistry
    from tests.real.cluster import Cluster, Pod
    from tests.real.image import Image
    from tests.real.servers import S3Server

pytestmark = [needs_k8s_tools, needs_image_tools, pytest.mark.timeout(900)]

PACKAGES, VERSIONS = 90, 4
SHARDS = 3
KILLED = 128 + signal.SIGKILL
INTERRUPTED = 130
SECONDS = 120
"""Longest wait for anything on a busy machine."""

ORIGIN = "sumdb.example/npm"


@dataclass(frozen=True, slots=True)
class Site:
    """Where an operator works: a bucket, an upstream, a cluster."""

    server: S3Server
    prefix: str
    upstream: FeedProcess
    cluster: Cluster
    folder: Path

    def storage(self, name: str) -> str:
        """Return the address of a corner of the bucket."""
        return self.server.address(BUCKET, f"{self.prefix}/{name}")

    @contextmanager
    def client(self, access_key: str | None = None) -> Iterator[Any]:
        """Open an S3 client that is not ours."""
        client = boto3.client(
            "s3",
            endpoint_url=self.server.endpoint,
            region_name=self.server.region,
            aws_access_key_id=access_key or self.server.access_key,
            aws_secret_access_key=self.server.secret_key,
            config=Config(s3={"addressing_style": "path"}),
        )
        yield client
        client.close()

    def tarballs(self) -> dict[str, datetime]:
        """Return the mirror's tarballs, and when each was stored."""
        prefix = f"{self.prefix}/mirror/"
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
            items = [item for page in pages for item in page.get("Contents", ())]
        found = {item["Key"].removeprefix(prefix): item["LastModified"] for item in items}
        return {key: when for key, when in found.items() if key.endswith(".tgz")}

    def flip_a_bit(self, key: str) -> None:
        """Change one stored byte of the mirror."""
        where = {"Bucket": BUCKET, "Key": f"{self.prefix}/mirror/{key}"}
        with self.client() as client:
            body = client.get_object(**where)["Body"].read()
            client.put_object(**where, Body=bytes([body[0] ^ 1]) + body[1:])

    def apply(self, overlay: str, values: Values) -> None:
        """Apply an overlay with an operator's values; what was applied before goes."""
        folder = self.folder / secrets.token_hex(4)
        folder.mkdir()
        self.cluster.apply(write_overlay(folder, f"overlays/{overlay}", values))

    def complete(self, name: str) -> None:
        """Run a job, which has to come to its good end."""
        assert self.cluster.run_job(name).outcome is Outcome.COMPLETE, self.cluster.said()


@pytest.fixture
def site(
    image: Image, start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None], tmp_path: Path
) -> Iterator[Site]:
    """Open a site over SeaweedFS, with the secrets that k8s/README.md names: those of readers can write nothing."""
    server = start_server("seaweedfs")
    use_credentials(server)
    reader = {**server.environment(), "AWS_ACCESS_KEY_ID": READER_KEY}
    made = {name: server.environment() for name in ("mirror-s3", "witness-s3", "sumdb-s3")}
    made |= {name: dict(reader) for name in ("mirror-reader-s3", "sumdb-reader-s3")}
    with run_upstream() as upstream, open_cluster(image, made) as cluster:
        yield Site(server, secrets.token_hex(6), upstream, cluster, tmp_path)
        assert cluster.too_large() == {}


@contextmanager
def run_upstream() -> Iterator[FeedProcess]:
    """Run the registry and its feed; each answer takes a moment, so that a shard is at work for a while."""
    sizes = ("--demo", str(PACKAGES), "--versions", str(VERSIONS), "--tarball-size", "3000")
    with run_feed(*sizes, "--latency-ms", "20") as upstream:
        yield upstream


def mirror_values(site: Site) -> Values:
    """Return the community mirror with our addresses, and its bootstrap in three shards."""
    overlay = K8S / "overlays/community-mirror/mirrorwitness.toml"
    config = overlay.read_text(encoding="utf-8").replace("https://replicate.example/registry", site.upstream.feed)
    settings = {"MIRRORWITNESS_STORAGE": site.storage("mirror"), "MIRRORWITNESS_REGISTRY": site.upstream.registry}
    replaced = [
        ("/spec/completions", SHARDS),
        ("/spec/parallelism", SHARDS),
        ("/spec/template/spec/containers/0/args/3", f"job/{SHARDS}"),
    ]
    patch = json.dumps([{"op": "replace", "path": path, "value": value} for path, value in replaced])
    return Values(
        settings={"mirror": settings},
        files={"mirror-config": {"mirrorwitness.toml": config}},
        resources=("base/bootstrap",),
        patches=({"target": {"kind": "Job", "name": "mirror-bootstrap"}, "patch": patch},),
        digest=site.cluster.image.digest,
    )


@dataclass(frozen=True, slots=True)
class Keys:
    """Verifier keys: of the log, and of its witness."""

    log: str
    witness: str


def make_keys(site: Site) -> Keys:
    """Begin a log and make a witness's key, as their operators do, and hand the key files to the cluster."""
    log_file, witness_file = site.folder / "sumdb.key", site.folder / "witness.key"
    begun = mirrorwitness("sumdb", "init", "--storage", site.storage("sumdb"), "--name", ORIGIN, "--out", str(log_file))
    made = mirrorwitness("witness", "keygen", "--name", "witness.example/a", "--out", str(witness_file))
    assert (begun.code, made.code) == (0, 0)
    site.cluster.secrets |= {
        "sumdb-key": {"key": log_file.read_text(encoding="utf-8")},
        "witness-key": {"key": witness_file.read_text(encoding="utf-8")},
    }
    return Keys(begun.output.split()[0], made.output.strip())


def witness_values(site: Site, keys: Keys, *, polled: str = "https://sumdb.example/npm") -> Values:
    """Return the witness with our storage, its anchor in another place, and the one log that it knows."""
    settings = {
        "STORAGE": site.storage("witness"),
        "ANCHOR": site.storage("anchor"),
        "POLLED_LOG": f"{keys.log}={polled}",
    }
    return Values(
        settings={"witness": settings},
        files={"witness-logs": {"logs.txt": f"logs/v0\n\nvkey {keys.log}\n"}},
        digest=site.cluster.image.digest,
    )


def sumdb_values(site: Site, keys: Keys, witness: str) -> Values:
    """Return the checksum database with our addresses, and a quorum of the one witness."""
    policy = f"log {keys.log} https://{ORIGIN}\nwitness a {keys.witness} {witness}\nquorum a\n"
    config = f'[feed]\nurl = "{site.upstream.feed}"\n'
    return Values(
        settings={"sumdb": {"STORAGE": site.storage("sumdb"), "MIRRORWITNESS_REGISTRY": site.upstream.registry}},
        files={"sumdb-policy": {"policy.txt": policy, "mirrorwitness.toml": config}},
        digest=site.cluster.image.digest,
    )


def wait_for_size(url: str, size: int) -> None:
    """Wait until a log's published checkpoint has a size."""
    limit = time.monotonic() + SECONDS
    while (seen := fetch(f"{url}/checkpoint").decode().split("\n")[1]) != str(size):
        assert time.monotonic() < limit, f"{url} stays at {seen}, expected {size}"
        time.sleep(0.2)


def expected_keys() -> set[str]:
    """Return the keys of all tarballs that the upstream has."""
    return {
        f"npm/{name}/-/{name.rpartition('/')[2]}-{demo_version(number)}.tgz"
        for name in demo_names(PACKAGES)
        for number in range(VERSIONS)
    }


def fetch(url: str) -> bytes:
    """Return the body of an answer."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
        return body


def test_a_mirror_is_filled_in_shards_kept_current_audited_and_served(site: Site) -> None:
    """One shard is killed half-way, one is drained; both start again, nothing is missing, nothing is stored twice."""
    site.apply("community-mirror", mirror_values(site))

    def disturb(pods: dict[int, Pod]) -> None:
        limit = time.monotonic() + SECONDS
        while len(site.tarballs()) < PACKAGES * VERSIONS // 4:
            assert time.monotonic() < limit
            assert {pod.process.poll() for pod in pods.values()} == {None}
        pods[1].process.kill()
        assert pods[1].wait() == KILLED
        # It ends by itself, well within its time; a drained node uses up no try.
        assert site.cluster.drain("mirror-bootstrap", pods[2]) in {0, INTERRUPTED}

    state = site.cluster.run_job("mirror-bootstrap", meanwhile=disturb)
    assert (state.outcome, state.tries) == (Outcome.COMPLETE, {1: 1})
    filled = site.tarballs()
    assert filled.keys() == expected_keys()
    site.complete("mirror-sync")
    assert site.tarballs() == filled
    site.complete("mirror-audit")
    with site.cluster.serve("mirror-serve") as urls:
        assert len(urls) == 3
        for url in urls:
            check_served(url, demo_names(PACKAGES)[4])
            assert "\nmirrorwitness_mirror_ready_status 1.0\n" in scrape(url, "mirror")


def test_a_reader_can_write_nothing(site: Site) -> None:
    """Its key is refused a single object: what serves and audits with it needs no more."""
    key = f"{site.prefix}/no"
    with site.client(READER_KEY) as client, pytest.raises(ClientError, match="AccessDenied"):
        client.put_object(Bucket=BUCKET, Key=key, Body=b"")


def scrape(url: str, role: str) -> str:
    """Return what a Prometheus would get that the optional monitoring tells of this role."""
    monitors = parse((K8S / "components/monitoring/monitors.yaml").read_text(encoding="utf-8"))
    (path,) = [each["spec"]["endpoints"][0]["path"] for each in monitors if each["metadata"]["name"] == role]
    return fetch(f"{url}{path}").decode()


def check_served(url: str, name: str) -> None:
    """Check that one replica has a package, and a tarball of it."""
    document: dict[str, Any] = json.loads(fetch(f"{url}/{name.replace('/', '%2f')}"))
    assert list(document["versions"]) == [demo_version(number) for number in range(VERSIONS)]
    dist = document["versions"][demo_version(0)]["dist"]
    # Documents name the public address of the overlay; here the replica stands for it.
    body = fetch(dist["tarball"].replace("https://npm.community.example", url))
    assert hashlib.sha1(body, usedforsecurity=False).hexdigest() == dist["shasum"]


def test_the_audit_job_fails_for_good_where_a_stored_byte_is_wrong(site: Site) -> None:
    """Exit code 4: no second try, whatever the limit says."""
    site.apply("community-mirror", mirror_values(site))
    site.complete("mirror-sync")
    site.flip_a_bit(min(site.tarballs()))
    state = site.cluster.run_job("mirror-audit")
    assert (state.outcome, state.is_failed, state.tries) == (Outcome.FAILED, True, {})
    assert site.cluster.pods[-1].wait() == 4


def make_lockfile(registry: ThreadedRegistry, names: Sequence[str]) -> str:
    """Publish signed packages, and return the lockfile of a project that pins the first version of each."""
    signer = Signer()
    entries: dict[str, Any] = {"": {"name": "app"}}
    for name in names:
        for version in ("1.0.0", "2.0.0"):
            registry.sim.publish(name, version, signer=signer)
        dist = json.loads(fetch(f"{registry.url}/{name}"))["versions"]["1.0.0"]["dist"]
        pinned = {"version": "1.0.0", "resolved": dist["tarball"], "integrity": dist["integrity"]}
        entries[f"node_modules/{name}"] = pinned
    return json.dumps({"name": "app", "lockfileVersion": 3, "packages": entries})


def test_an_organizations_mirror_has_what_its_lockfile_pins(site: Site, registry: ThreadedRegistry) -> None:
    """And nothing else; signatures are required, the lockfile lies in the ConfigMap, the audit reads all of it."""
    lockfile = make_lockfile(registry, ("left", "right"))
    registry.sim.publish("other", "1.0.0")
    settings = {"MIRRORWITNESS_STORAGE": site.storage("mirror"), "MIRRORWITNESS_REGISTRY": registry.url}
    files = {"mirror-config": {"app-package-lock.json": lockfile}}
    digest = site.cluster.image.digest
    site.apply("org-partial-mirror", Values(settings={"mirror": settings}, files=files, digest=digest))
    site.complete("mirror-sync")
    assert set(site.tarballs()) == {"npm/left/-/left-1.0.0.tgz", "npm/right/-/right-1.0.0.tgz"}
    site.complete("mirror-audit")


def test_a_wrong_option_fails_the_whole_bootstrap_at_once(site: Site) -> None:
    """Exit code 2 of one shard ends the job; nobody tries twenty times."""
    values = mirror_values(site)
    wrong = {**values.files["mirror-config"], "mirrorwitness.toml": "unknown_option = 1\n"}
    site.apply("community-mirror", replace(values, files={"mirror-config": wrong}))
    state = site.cluster.run_job("mirror-bootstrap")
    assert (state.outcome, state.is_failed, state.tries) == (Outcome.FAILED, True, {})
    assert "unknown_option" in site.cluster.said()


def test_a_pod_has_no_rights_and_a_root_that_it_cannot_write(site: Site) -> None:
    """Which makes the rehearsal one: user, capabilities and mounts as the kernel shows them."""
    site.apply("community-mirror", mirror_values(site))
    with site.cluster.serve("mirror-serve"):
        folder = Path("/proc") / str(site.cluster.pods[0].process.pid)
        status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines())
        wanted = ("Uid", "Gid", "Groups", "CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs")
        user, none = "\t".join(["65532"] * 4), "0" * 16
        assert [status[name].strip() for name in wanted] == [user, user, "65532", none, none, none, none, "1"]
        lines = [line.split() for line in (folder / "mountinfo").read_text().splitlines()]
        mounts = {words[4]: words[5].split(",")[0] for words in lines}
        assert {place: mounts[place] for place in ("/", "/tmp")} == {"/": "ro", "/tmp": "rw"}
        assert (folder / "exe").readlink() == site.cluster.image.root / "usr/bin/python3.11"


def test_a_log_is_filled_cosigned_read_polled_and_checked(site: Site) -> None:
    """Checksum database and witness together: two replicas of the witness, two readers, one of them polled; fsck."""
    keys = make_keys(site)
    site.apply("witness", witness_values(site, keys))
    with site.cluster.serve("witness-serve") as witnesses:
        assert len(witnesses) == 2
        site.apply("sumdb", sumdb_values(site, keys, witnesses[1]))
        with site.cluster.serve("sumdb-log") as (log,), site.cluster.serve("sumdb-read") as readers:
            wait_for_size(log, PACKAGES * VERSIONS)
            wait_for_size(readers[0], PACKAGES * VERSIONS)
            proof = fetch(f"{readers[1]}/lookup/{demo_names(1)[0]}@{demo_version(0)}").decode()
            assert proof.startswith("c2sp.org/tlog-proof@v1\n")
            assert keys.witness.partition("+")[0] in proof
            site.apply("witness", witness_values(site, keys, polled=readers[1]))
            site.complete("witness-poll")
            seen = fetch(f"{witnesses[0]}/{hashlib.sha256(ORIGIN.encode()).hexdigest()}/checkpoint").decode()
            assert seen.split("\n")[:2] == [ORIGIN, str(PACKAGES * VERSIONS)]
            assert "mirrorwitness_witness_known_logs" in scrape(witnesses[0], "witness")
            assert "mirrorwitness_sumdb_logged_records" in scrape(log, "sumdb")
    site.complete("sumdb-fsck")
