"""Real servers for the tests of this directory: each started when first asked for, once, and stopped at the end.

Everything here is marked ``real`` and skipped unless ``--run-real`` is given (`make test-real`); a server that is not
installed skips its tests with the command that installs it. When a test fails, the ends of the logs of all servers
that run are in its report.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from tests.real.clients import APP, Network, Outcome, Served, mirrorwitness, open_network, serve_mirror
from tests.real.image import built_image
from tests.real.servers import CACHE, SERVERS, NotInstalledError, S3Server, tail

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.real.image import Image

BUCKET = "mirrorwitness-real"

# Where the machine's own Node is too old, or missing, the scripts put another one there.
os.environ["PATH"] = f"{CACHE / 'bin'}{os.pathsep}{os.environ['PATH']}"

_running: dict[str, S3Server] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option; known only where this directory or a file of it is named on the command line."""
    parser.addoption("--run-real", action="store_true", help="run the tests against real servers and clients")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what lies here as real, and skip it where nobody asked for it."""
    here = config.rootpath / "tests" / "real"
    skip = pytest.mark.skip(reason="needs real servers: make test-real (pytest tests/real --run-real)")
    for item in items:
        if item.path.is_relative_to(here):
            item.add_marker(pytest.mark.real)
            if not config.getoption("--run-real", default=False):
                item.add_marker(skip)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the ends of the servers' logs to the report of a failed test."""
    report = yield
    if report.failed:
        report.sections += [(f"the end of {each.log.name}", tail(each.log)) for each in _running.values()]
    return report


@pytest.fixture(scope="session")
def start_server() -> Iterator[Callable[[str], S3Server]]:
    """Start a server by its name in `SERVERS`; the same one again for the same name."""
    with contextlib.ExitStack() as stack:

        def start(name: str) -> S3Server:
            if name not in _running:
                try:
                    server = stack.enter_context(SERVERS[name]())
                except NotInstalledError as error:
                    pytest.skip(str(error))
                make_bucket(server)
                _running[name] = server
            return _running[name]

        try:
            yield start
        finally:
            _running.clear()


@pytest.fixture
def use_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[S3Server], None]:
    """Let AWS tools find a server's credentials, and nobody's own configuration."""

    def use(server: S3Server) -> None:
        for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION", "AWS_REGION"):
            monkeypatch.delenv(name, raising=False)
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.setenv(name, str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)

    return use


@pytest.fixture
def start_storage(
    start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None]
) -> Callable[[str], str]:
    """Start a server and return the address of an empty corner of its bucket, credentials in the environment."""

    def start(name: str) -> str:
        server = start_server(name)
        use_credentials(server)
        return server.address(BUCKET, secrets.token_hex(6))

    return start


def make_bucket(server: S3Server) -> None:
    """Make the bucket of all tests."""
    client = boto3.client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(s3={"addressing_style": "path"}),
    )
    client.create_bucket(Bucket=BUCKET)
    client.close()


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    """Make the network that servers and clients of the client tests share: loopback and nothing else."""
    with open_network(tmp_path_factory.mktemp("network")) as opened:
        yield opened


@pytest.fixture(scope="session")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Mirror the example's lockfile, once, from the registry that npm is configured for. Nobody may change it."""
    storage = tmp_path_factory.mktemp("mirror") / "storage"
    lockfile = ("--lockfile", str(APP / "package-lock.json"))
    done = mirrorwitness("sync", "--once", *lockfile, "--storage", f"file:{storage}")
    assert done == Outcome(0, done.output), done.output
    return storage


@pytest.fixture(scope="session")
def served(mirror: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve that mirror."""
    with serve_mirror(mirror, network=network, directory=tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Build the container image of this tree, and unpack it; nobody may change it."""
    with built_image() as built:
        yield built
