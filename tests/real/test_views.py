"""Real clients install from a view by tree size: what the registry would have given then, and byte for byte again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.fakes.registry import RegistrySimulator
from tests.fakes.serving import serve
from tests.fakes.sumdb import REGISTRY, FakeSumdb
from tests.fakes.thread import run_in_thread, serve_in_thread
from tests.real.clients import (
    CLIENTS,
    make_small_project,
    mirrorwitness,
    node_program,
    run_client,
    serve_mirror,
)
from tests.real.servers import NotInstalledError, tail
from tests.unit.cli.test_sumdb_checks import record_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.clients import Client, Network, Served


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    """Every client in turn."""
    chosen = CLIENTS[request.param]
    try:
        node_program(chosen.program)
    except NotInstalledError as error:
        pytest.skip(str(error))
    return chosen


@pytest.fixture(scope="module")
def served(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve a mirror of two packages: the log had three records when ``left`` 1.1.0 and its new dependency came."""
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    sim.publish("@scope/right", "1.0.0")
    sim.publish("left", "1.1.0", dependencies={"@scope/right": "^1.0.0"})
    sim.publish("@scope/right", "1.2.0")
    storage = tmp_path_factory.mktemp("view") / "mirror"
    log = FakeSumdb([
        record_of(sim, name, version)
        for name, version in (
            ("left", "1.0.0"),
            ("@scope/right", "1.0.0"),
            ("left", "1.1.0"),
            ("@scope/right", "1.2.0"),
        )
    ])
    with serve_in_thread(sim) as registry, run_in_thread(serve(log)):
        done = mirrorwitness(
            *("sync", "--once", "left", "@scope/right", "--storage", f"file:{storage}"),
            *("--registry", registry.url, "--sumdb", log.flag),
            # Served from loopback, it repeats the names of the registry that the log reads.
            environment={"MIRRORWITNESS_SUMDB_REGISTRY": f"https://{REGISTRY}"},
        )
        assert done.code == 0, done.output
    with serve_mirror(storage, network=network, directory=storage.parent / "server") as server:
        yield server


def installed(project: Path, name: str) -> str | None:
    """Return the version of a package that is installed."""
    path = project / "node_modules" / name / "package.json"
    return json.loads(path.read_bytes())["version"] if path.exists() else None


@pytest.mark.parametrize(
    ("view", "expected"),
    [("/-/at/1", ("1.0.0", None)), ("/-/at/3", ("1.1.0", "1.0.0")), ("", ("1.1.0", "1.2.0"))],
)
def test_time_travel(
    client: Client, served: Served, tmp_path: Path, view: str, expected: tuple[str, str | None]
) -> None:
    """Resolved with an empty cache, then from the lockfile with another: the versions of that size, from the view."""
    wishes = {"left": "^1.0.0"} | ({} if expected[1] is None else {"@scope/right": "^1.0.0"})
    project = make_small_project(tmp_path / "first", client, f"{served.url}{view}", wishes)
    if client.name == "yarn-4":
        (project / client.lockfile).touch()
    outcome = run_client(client, client.install, project=project, network=served.network)
    assert outcome.code == 0, f"{outcome.output}\n--- the server:\n{tail(served.log)}"
    assert (installed(project, "left"), installed(project, "@scope/right")) == expected
    again = make_small_project(tmp_path / "again", client, f"{served.url}{view}", wishes)
    (again / client.lockfile).write_bytes((project / client.lockfile).read_bytes())
    outcome = run_client(client, client.locked, project=again, network=served.network)
    assert outcome.code == 0, f"{outcome.output}\n--- the server:\n{tail(served.log)}"
    assert (installed(again, "left"), installed(again, "@scope/right")) == expected
