"""A mirror that was carried in a bundle: imported in a network that holds nothing, and real clients install from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.real.clients import (
    APP,
    CLIENTS,
    Outcome,
    make_project,
    mirrorwitness,
    node_program,
    run_client,
    run_to_end,
    serve_mirror,
)
from tests.real.installed import find_differences, locked_tarballs
from tests.real.servers import NotInstalledError, tail

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.clients import Network, Served


@pytest.fixture(scope="module")
def carried(mirror: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export the mirror, and import it where there is no network."""
    folder = tmp_path_factory.mktemp("carried")
    bundle, storage = folder / "app.tar", folder / "storage"
    done = mirrorwitness("bundle", "export", "--storage", f"file:{mirror}", "--out", str(bundle))
    assert done == Outcome(0, done.output), done.output
    done = mirrorwitness("bundle", "import", str(bundle), "--storage", f"file:{storage}", network=network)
    assert done == Outcome(0, done.output), done.output
    return storage


@pytest.fixture(scope="module")
def served_inside(carried: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Serve what was imported."""
    with serve_mirror(carried, network=network, directory=tmp_path_factory.mktemp("served")) as running:
        yield running


@pytest.mark.parametrize("name", sorted(CLIENTS))
def test_installs_what_was_carried(name: str, served_inside: Served, carried: Path, tmp_path: Path) -> None:
    """P1, P2: every client installs the application, and every installed byte is the lockfile's."""
    client = CLIENTS[name]
    try:
        node_program(client.program)
    except NotInstalledError as error:
        pytest.skip(str(error))
    lockfile = APP / "package-lock.json" if client.lockfile == "package-lock.json" else None
    project = make_project(tmp_path, client, served_inside.url, lockfile=lockfile)
    command = client.install if lockfile is None else client.locked
    outcome = run_client(client, command, project=project, network=served_inside.network)
    assert outcome.code == 0, f"{outcome.output}\n--- the server:\n{tail(served_inside.log)}"
    ran = run_to_end(["node", "index.js"], project=project, network=served_inside.network)
    assert ran.code == 0, ran.output
    assert find_differences(project, locked_tarballs(carried)) == []


def test_what_was_carried_is_audited(carried: Path) -> None:
    """The importing mirror finds nothing wrong with itself."""
    done = mirrorwitness("audit", "--storage", f"file:{carried}")
    assert done == Outcome(0, done.output), done.output
