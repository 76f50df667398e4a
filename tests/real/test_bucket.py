"""The example's mirror in a bucket of a real S3 server: made there, served from there to npm, and kept through faults.

Server, mirror and npm are all in the network that holds nothing else; the upstream is the mirror that the other tests
use, served by `mirrorwitness serve`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from tests.fault.invariants import check_invariants
from tests.real.clients import (
    APP,
    CLIENT_SECONDS,
    CLIENTS,
    ROOT,
    Network,
    inside,
    make_project,
    mirrorwitness,
    node_program,
    run_client,
    run_to_end,
    serve_mirror,
)
from tests.real.conftest import BUCKET, make_bucket
from tests.real.installed import find_differences, locked_tarballs
from tests.real.servers import SERVERS, NotInstalledError, free_ports, tail
from tests.real.static import serve_static

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tests.real.clients import Outcome, Served
    from tests.real.servers import S3Server

NAMES = ("seaweedfs", "rgw")

ENOUGH = 5
"""Tarballs after which the server is killed; the example has 44."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A server in a network, and a mirror of the example in its bucket.

    Attributes:
        server: the server.
        network: where it runs, and where everybody who asks it must run.
        upstream: the registry that is mirrored.
        prefix: where in the bucket.
    """

    server: S3Server
    network: Network
    upstream: Served
    prefix: str

    @property
    def address(self) -> str:
        """The mirror's storage address."""
        return self.server.address(BUCKET, self.prefix)

    @property
    def environment(self) -> dict[str, str]:
        """The credentials, and nobody's own configuration."""
        nowhere = dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
        return {**self.server.environment(), **nowhere, "AWS_EC2_METADATA_DISABLED": "true"}

    @property
    def sync_arguments(self) -> tuple[str, ...]:
        """The words of a sync of the example."""
        where = ("--registry", self.upstream.url, "--storage", self.address)
        return ("sync", "--once", "--json", "--lockfile", str(APP / "package-lock.json"), *where)

    def run(self, *arguments: str, **environment: str) -> Outcome:
        """Run a command of the product in the network."""
        return mirrorwitness(*arguments, environment={**self.environment, **environment}, network=self.network)

    def sync(self) -> tuple[int, dict[str, Any]]:
        """Mirror the example; return the exit code and the report."""
        done = self.run(*self.sync_arguments)
        return done.code, json.loads(done.output)

    def audit(self) -> tuple[int, list[dict[str, Any]]]:
        """Audit the mirror; return the exit code and the findings."""
        done = self.run("audit", "--json", "--storage", self.address)
        return done.code, json.loads(done.output)["findings"]

    @contextmanager
    def client(self) -> Iterator[Any]:
        """Open an S3 client that is not ours."""
        with inside(self.network):
            client = boto3.client(
                "s3",
                endpoint_url=self.server.endpoint,
                region_name=self.server.region,
                aws_access_key_id=self.server.access_key,
                aws_secret_access_key=self.server.secret_key,
                config=Config(s3={"addressing_style": "path"}),
            )
            yield client
            client.close()

    def list_keys(self) -> list[str]:
        """Return the mirror's keys."""
        with self.client() as client:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{self.prefix}/")
            return [item["Key"].removeprefix(f"{self.prefix}/") for page in pages for item in page.get("Contents", ())]

    def objects(self) -> dict[str, bytes]:
        """Return everything that is stored."""
        keys = self.list_keys()
        with self.client() as client:
            answers = {key: client.get_object(Bucket=BUCKET, Key=f"{self.prefix}/{key}") for key in keys}
            return {key: answer["Body"].read() for key, answer in answers.items()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers of this module run.

    Attributes:
        network: the empty network where this process can enter it (as root), else the machine's own.
        upstream: the registry that everybody there mirrors.
    """

    network: Network
    upstream: Served

    def bucket(self, server: S3Server, prefix: str) -> Bucket:
        """Return a corner of a server's bucket."""
        return Bucket(server, self.network, self.upstream, prefix)


@pytest.fixture(scope="module")
def place(mirror: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Serve the example's mirror as the upstream of all buckets."""
    is_open = network.namespace is not None or not network.is_isolated
    here = network if is_open else Network((), is_isolated=False)
    with serve_mirror(mirror, network=here, directory=tmp_path_factory.mktemp("upstream")) as running:
        yield Place(here, running)


@contextmanager
def open_server(name: str, network: Network) -> Iterator[S3Server]:
    """Run a server of this module's own in a network, with the bucket in it."""
    with ExitStack() as stack:
        with inside(network):
            try:
                server = stack.enter_context(SERVERS[name]())
            except NotInstalledError as error:
                pytest.skip(str(error))
            make_bucket(server)
        yield server


@pytest.fixture(scope="module", params=NAMES)
def server(request: pytest.FixtureRequest, place: Place) -> Iterator[S3Server]:
    """Run each server in turn."""
    with open_server(request.param, place.network) as running:
        yield running


def check_installs(served: Served, mirror: Path, directory: Path, *rounds: str) -> None:
    """Install the example's own lockfile with npm, with an empty cache first; every byte is right."""
    client = CLIENTS["npm-11"]
    try:
        node_program(client.program)
    except NotInstalledError as error:
        pytest.skip(str(error))
    project = make_project(directory, client, served.url, lockfile=APP / "package-lock.json")
    for each in rounds:
        done = run_client(client, client.locked, project=project, network=served.network)
        assert done.code == 0, f"{each}: {done.output}\n--- the server:\n{tail(served.log)}"
        ran = run_to_end(["node", "index.js"], project=project, network=served.network)
        assert (ran.code, find_differences(project, locked_tarballs(mirror))) == (0, []), ran.output
        shutil.rmtree(project / "node_modules")


def serve_bucket(bucket: Bucket, directory: Path) -> AbstractContextManager[Served]:
    """Serve the mirror in a bucket."""
    return serve_mirror(bucket.address, network=bucket.network, directory=directory, environment=bucket.environment)


def test_example_is_mirrored_into_a_bucket_and_installed_from_it(
    server: S3Server, place: Place, mirror: Path, tmp_path: Path
) -> None:
    """P1, P2, P3: the first run stores everything, the second nothing; audit and npm find every byte right."""
    bucket = place.bucket(server, "whole")
    tarballs = locked_tarballs(mirror)
    code, report = bucket.sync()
    assert (code, report["problems"], report["counts"]["tarballs_downloaded"]) == (0, [], len(tarballs))
    objects = bucket.objects()
    check_invariants(objects, published=set(tarballs.values()))
    assert sum(key.endswith(".tgz") for key in objects) == len(tarballs)
    code, report = bucket.sync()
    assert (code, report["counts"]["tarballs_downloaded"]) == (0, 0)
    assert {key for key in bucket.list_keys() if key.startswith("npm/")} == {
        key for key in objects if key.startswith("npm/")
    }
    assert bucket.audit() == (0, [])
    with serve_bucket(bucket, tmp_path / "served") as served:
        check_installs(served, mirror, tmp_path / "npm", "cold", "warm")


REFUSALS = {
    "wrong secret": ({"AWS_SECRET_ACCESS_KEY": "not-the-secret"}, BUCKET, "SignatureDoesNotMatch"),
    "unknown key": ({"AWS_ACCESS_KEY_ID": "nobody"}, BUCKET, "InvalidAccessKeyId"),
    "no bucket": ({}, "no-such-bucket", "NoSuchBucket"),
}
"""What is changed in the environment, which bucket is named, and the word that has to be in the message."""


@pytest.mark.parametrize("command", ["sync", "store-check"])
@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_named_and_changes_nothing(server: S3Server, place: Place, command: str, refusal: str) -> None:
    """P3: exit code 2 at once, a message that says what to correct, no secret in it, and nothing written."""
    environment, bucket_name, word = REFUSALS[refusal]
    bucket = place.bucket(server, "refused")
    address = server.address(bucket_name, "refused")
    arguments = [address if each == bucket.address else each for each in bucket.sync_arguments]
    started = time.monotonic()
    done = bucket.run(*(arguments if command == "sync" else [command, "--json", address]), **environment)
    assert done.code == 2, done.output
    text = json.loads(done.output)["error"]["message"]
    assert word in text
    assert "; " in text, f"no advice: {text}"
    assert not [secret for secret in (server.secret_key, "not-the-secret") if secret in text]
    # All tries of an unavailable service would take some 10 s more.
    assert time.monotonic() - started < 8
    assert bucket.list_keys() == []


def test_a_buckets_public_part_is_served_by_nginx(server: S3Server, place: Place, mirror: Path, tmp_path: Path) -> None:
    """P2: ``npm/`` and ``about/``, copied out of the bucket by a tool that is not ours, are a registry behind nginx."""
    bucket = place.bucket(server, "public")
    (port,) = free_ports(1)
    done = bucket.run(*bucket.sync_arguments, "--public-url", f"http://127.0.0.1:{port}")
    assert done.code == 0, done.output
    for key, body in bucket.objects().items():
        if key.startswith(("npm/", "about/")):
            path = tmp_path / "copy" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
    with serve_static(tmp_path / "copy", port=port, network=place.network, directory=tmp_path) as served:
        check_installs(served, mirror, tmp_path / "npm", "cold", "warm")


@pytest.mark.timeout(600)
@pytest.mark.parametrize("returns", ["after the run", "during the run"])
@pytest.mark.parametrize("name", NAMES)
def test_server_killed_in_the_middle_of_a_sync(
    name: str, returns: str, place: Place, mirror: Path, tmp_path: Path
) -> None:
    """P2, P3, P8: kill -9 of the server: exit code 3 or 5 unless it came back in time, nothing wrong, then complete."""
    with open_server(name, place.network) as server, ExitStack() as stack:
        bucket = place.bucket(server, "killed")
        command = [*place.network.prefix, sys.executable, "-m", "mirrorwitness", *bucket.sync_arguments]
        # One at a time, so that the middle lasts.
        slow = {"MIRRORWITNESS_LIMITS_CONCURRENCY": "1", "MIRRORWITNESS_LIMITS_PACKAGES": "2"}
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **bucket.environment, **slow},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        stack.callback(process.kill)
        while sum(key.endswith(".tgz") for key in bucket.list_keys()) < ENOUGH:
            assert process.poll() is None, process.communicate()
        os.kill(server.pid, signal.SIGKILL)
        assert process.poll() is None, "the run was over before the server was killed"
        if returns == "during the run":
            time.sleep(1)
            with inside(place.network):
                stack.enter_context(server.start_again())
        started = time.monotonic()
        output, errors = process.communicate(timeout=CLIENT_SECONDS * 2)
        sys.stderr.write(f"exit code {process.returncode} after {time.monotonic() - started:.1f} s\n{errors.decode()}")
        assert process.returncode in ({3, 5} if returns == "after the run" else {0, 3}), output + errors
        assert b"Traceback" not in errors
        if returns == "after the run":
            with inside(place.network):
                stack.enter_context(server.start_again())
        tarballs = locked_tarballs(mirror)
        published = set(tarballs.values())
        objects = bucket.objects()
        check_invariants(objects, published=published)
        assert bucket.audit() == (0, [])
        stored = sum(key.endswith(".tgz") for key in objects)
        assert stored >= ENOUGH
        code, report = bucket.sync()
        assert (code, report["problems"]) == (0, [])
        assert report["counts"]["tarballs_downloaded"] <= len(tarballs) - stored
        check_invariants(bucket.objects(), published=published)
        with serve_bucket(bucket, tmp_path / "served") as served:
            check_installs(served, mirror, tmp_path / "npm", "cold")
