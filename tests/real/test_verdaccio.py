"""Verdaccio as an upstream that nobody here wrote: publish, deprecate, unpublish, and publish again with other bytes.

Each test has a registry of its own, empty at the start and without uplinks. Unlike npm's registry it lets a version be
published twice, which is what an equivocation looks like from below (P5).
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import (
    CLIENTS,
    Network,
    make_small_project,
    mirrorwitness,
    node_program,
    run_client,
    serve_mirror,
)
from tests.real.servers import NotInstalledError, free_ports, run_process, wait_for_http

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any

HERE = Network((), is_isolated=True)
"""Publishing needs no isolation: Verdaccio has no uplink, and npm is told of no other registry."""

CONFIG = """
storage: {directory}/storage
auth: {{htpasswd: {{file: {directory}/htpasswd}}}}
uplinks: {{}}
packages:
  '**': {{access: $all, publish: $authenticated, unpublish: $authenticated}}
web: {{enable: false}}
log: {{type: stdout, format: pretty, level: http}}
"""


@dataclass(frozen=True, slots=True)
class Verdaccio:
    """A running Verdaccio with one user.

    Attributes:
        url: its address, without a trailing slash.
        token: the user's.
        directory: for projects and the mirror.
    """

    url: str
    token: str
    directory: Path

    @property
    def storage(self) -> Path:
        """Where its mirror lies."""
        return self.directory / "mirror"

    def npm(self, *arguments: str, project: str = "shell", content: str | None = None, **manifest: object) -> None:
        """Run npm as the user, in a project with the given manifest."""
        directory = self.directory / "npm" / project
        directory.mkdir(parents=True, exist_ok=True)
        (directory.parent / "home").mkdir(exist_ok=True)
        host = self.url.removeprefix("http:")
        settings = f"registry={self.url}/\n{host}/:_authToken={self.token}\nfetch-retries=0\nupdate-notifier=false\n"
        (directory / ".npmrc").write_text(settings)
        (directory / "package.json").write_text(json.dumps({"name": "shell", "version": "1.0.0", **manifest}))
        if content is not None:
            (directory / "index.js").write_text(content)
        done = run_client(CLIENTS["npm-11"], arguments, project=directory, network=HERE)
        assert done.code == 0, done.output

    def publish(self, name: str, version: str, *, content: str | None = None) -> None:
        """Publish a version."""
        project = f"{name.replace('/', '-')}-{version}"
        text = content or f"module.exports = '{name}@{version}'\n"
        self.npm("publish", "--access=public", project=project, content=text, name=name, version=version)

    def sync(self, *names: str) -> tuple[int, dict[str, Any]]:
        """Mirror packages; return the exit code and the report."""
        where = ("--registry", self.url, "--storage", f"file:{self.storage}")
        done = mirrorwitness("sync", "--once", "--json", *where, *names)
        return done.code, json.loads(done.output)

    def audit(self) -> tuple[int, list[dict[str, Any]]]:
        """Audit the mirror; return the exit code and the findings."""
        done = mirrorwitness("audit", "--json", "--storage", f"file:{self.storage}")
        return done.code, json.loads(done.output)["findings"]

    def packument(self, name: str) -> dict[str, Any]:
        """Return the mirror's stored document."""
        found: dict[str, Any] = json.loads((self.storage / "npm" / name / "packument.json").read_bytes())
        return found

    def files(self) -> dict[str, bytes]:
        """Return the public files of the mirror."""
        paths = (path for path in (self.storage / "npm").rglob("*") if path.is_file())
        return {path.relative_to(self.storage).as_posix(): path.read_bytes() for path in paths}


@pytest.fixture
def verdaccio(tmp_path: Path) -> Iterator[Verdaccio]:
    """Run Verdaccio on a free port, with a user."""
    try:
        script = node_program("verdaccio/bin/verdaccio")
    except NotInstalledError as error:
        pytest.skip(str(error))
    (port,) = free_ports(1)
    directory = tmp_path / "verdaccio"
    directory.mkdir()
    config = directory / "config.yaml"
    config.write_text(CONFIG.format(directory=directory))
    url = f"http://127.0.0.1:{port}"
    command = ["node", str(script), "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    with run_process(command, directory=directory, environment={"HOME": str(directory)}) as process:
        wait_for_http(process, f"{url}/-/ping")
        yield Verdaccio(url, make_user(url), tmp_path)


def make_user(url: str) -> str:
    """Make a user and return the token."""
    body = json.dumps({"name": "tester", "password": "loopback-only-secret"}).encode()
    request = urllib.request.Request(
        f"{url}/-/user/org.couchdb.user:tester",
        data=body,
        method="PUT",
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        token: str = json.load(answer)["token"]
    return token


def sri(data: bytes) -> str:
    """Return the integrity of bytes."""
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def test_published_packages_install_from_the_mirror(verdaccio: Verdaccio, network: Network, tmp_path: Path) -> None:
    """P1, P2: what npm published to Verdaccio, npm installs from the mirror; a second run downloads nothing."""
    names = ("first", "second", "@scope/third")
    for name in names:
        verdaccio.publish(name, "1.0.0")
    code, report = verdaccio.sync(*names)
    assert (code, report["counts"]["tarballs_downloaded"], report["alarms"]) == (0, 3, [])
    code, report = verdaccio.sync(*names)
    assert (code, report["counts"]["tarballs_downloaded"], report["counts"]["packages_unchanged"]) == (0, 0, 3)
    with serve_mirror(verdaccio.storage, network=network, directory=tmp_path / "served") as served:
        client = CLIENTS["npm-11"]
        project = make_small_project(tmp_path / "app", client, served.url, dict.fromkeys(names, "^1.0.0"))
        done = run_client(client, client.install, project=project, network=network)
    assert done.code == 0, done.output
    found = {name: (project / "node_modules" / name / "index.js").read_text() for name in names}
    assert found == {name: f"module.exports = '{name}@1.0.0'\n" for name in names}
    assert verdaccio.audit() == (0, [])


def test_row_34_deprecation_and_tags_move_no_tarball(verdaccio: Verdaccio) -> None:
    """P4: a deprecation and a moved dist-tag arrive, and nothing is downloaded for them."""
    for version in ("1.0.0", "1.1.0"):
        verdaccio.publish("first", version)
    assert verdaccio.sync("first")[0] == 0
    verdaccio.npm("deprecate", "first@1.0.0", "use 1.1.0")
    verdaccio.npm("dist-tag", "add", "first@1.0.0", "stable")
    code, report = verdaccio.sync("first")
    assert (code, report["counts"]["tarballs_downloaded"], report["counts"]["packages_updated"]) == (0, 0, 1)
    served = verdaccio.packument("first")
    assert served["versions"]["1.0.0"]["deprecated"] == "use 1.1.0"
    assert served["dist-tags"] == {"latest": "1.1.0", "stable": "1.0.0"}
    assert verdaccio.audit() == (0, [])


def test_row_01_an_unpublished_version_leaves_the_document(verdaccio: Verdaccio) -> None:
    """P4, P5: the version is no longer served; its tarball stays, with a tombstone, and the operator is told."""
    for version in ("1.0.0", "1.1.0"):
        verdaccio.publish("first", version)
    assert verdaccio.sync("first")[0] == 0
    before = verdaccio.files()
    verdaccio.npm("unpublish", "first@1.1.0", "--force")
    code, report = verdaccio.sync("first")
    assert (code, report["counts"]["tarballs_downloaded"], len(report["alarms"])) == (0, 0, 1)
    assert re.match(r"first: upstream withdrew 1 versions .*\(unpublished\): 1\.1\.0", report["alarms"][0])
    served = verdaccio.packument("first")
    assert (list(served["versions"]), served["dist-tags"]) == (["1.0.0"], {"latest": "1.0.0"})
    kept = "npm/first/-/first-1.1.0.tgz"
    assert verdaccio.files()[kept] == before[kept]
    (stone,) = (verdaccio.storage / "state/tombstones/first/1.1.0").iterdir()
    assert stone.name.startswith("unpublished-")
    assert verdaccio.audit() == (0, [])


@pytest.mark.parametrize("sees_the_gap", [False, True], ids=["between two runs", "with a run in between"])
def test_row_05_other_bytes_under_a_known_version(verdaccio: Verdaccio, *, sees_the_gap: bool) -> None:
    """P5: republished with other bytes: exit 4, both documents kept as evidence, the first bytes stay as they are.

    They are still served, unless the mirror saw that upstream had withdrawn the version.
    """
    verdaccio.publish("first", "1.0.0")
    verdaccio.publish("first", "2.0.0")
    assert verdaccio.sync("first")[0] == 0
    tarball = "npm/first/-/first-2.0.0.tgz"
    first_bytes = verdaccio.files()[tarball]
    verdaccio.npm("unpublish", "first@2.0.0", "--force")
    if sees_the_gap:
        assert verdaccio.sync("first")[0] == 0
    verdaccio.publish("first", "2.0.0", content="module.exports = 'other bytes'\n")
    for _ in ("found", "found again"):
        code, report = verdaccio.sync("first")
        assert (code, report["counts"]["packages_diverged"], report["counts"]["tarballs_downloaded"]) == (4, 1, 0)
        assert verdaccio.files()[tarball] == first_bytes
        served = verdaccio.packument("first")
        promised = {version: item["dist"]["integrity"] for version, item in served["versions"].items()}
        assert promised.get("2.0.0") == (None if sees_the_gap else sri(first_bytes))
        assert verdaccio.audit() == (0, [])
    (evidence,) = (verdaccio.storage / "evidence/first/2.0.0").iterdir()
    content = json.loads(evidence.read_bytes())
    assert content["held"]["sri"] == sri(first_bytes)
    assert content["upstream"]["dist"]["integrity"] != sri(first_bytes)
    assert verdaccio.sync("first")[1]["evidence"] == [evidence.relative_to(verdaccio.storage).as_posix()]


def test_row_03_a_plain_404_deletes_nothing(verdaccio: Verdaccio) -> None:
    """P3, P4: a whole package that upstream answers 404 for stays, is named as unfinished, and the run exits with 3."""
    verdaccio.publish("first", "1.0.0")
    verdaccio.publish("second", "1.0.0")
    assert verdaccio.sync("first", "second")[0] == 0
    before = verdaccio.files()
    verdaccio.npm("unpublish", "first", "--force")
    code, report = verdaccio.sync("first", "second")
    assert (code, [problem["name"] for problem in report["problems"]]) == (3, ["first"])
    assert verdaccio.files() == before
    assert verdaccio.audit() == (0, [])
