"""npm, pnpm, yarn and bun install the example application from a mirror that the product made and serves.

The mirror is made once, from the registry that npm is configured for; everything after runs in a network that holds
nothing but the mirror.
"""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import APP, CLIENTS, make_project, node_program, run_client, run_to_end
from tests.real.installed import find_differences, locked_tarballs
from tests.real.servers import NotInstalledError, tail

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.clients import Client, Outcome, Served


@pytest.fixture(params=sorted(CLIENTS))
def client(request: pytest.FixtureRequest) -> Client:
    """Every client in turn."""
    chosen = CLIENTS[request.param]
    try:
        node_program(chosen.program)
    except NotInstalledError as error:
        pytest.skip(str(error))
    return chosen


def check(outcome: Outcome, served: Served) -> None:
    """Hold a command to success; what it and the server printed is in the failure."""
    assert outcome.code == 0, f"{outcome.output}\n--- the server:\n{tail(served.log)}"


def check_app(project: Path, served: Served, storage: Path) -> None:
    """The application runs, and every installed byte is the lockfile's."""
    check(run_to_end(["node", "index.js"], project=project, network=served.network), served)
    assert find_differences(project, locked_tarballs(storage)) == []


def foreign_hosts(project: Path, client: Client, served: Served) -> list[str]:
    """Return tarball URLs in a lockfile that do not lead to the mirror."""
    text = (project / client.lockfile).read_text()
    urls = re.findall(r"https?://[^\s\"'#,}]+\.tgz", text)
    return [url for url in urls if not url.startswith(f"{served.url}/")]


def test_installs_cold_locked_and_warm(client: Client, served: Served, mirror: Path, tmp_path: Path) -> None:
    """P1, P2: from packuments with an empty cache, from the lockfile with an empty cache, and again with a warm one."""
    project = make_project(tmp_path / "first", client, served.url)
    check(run_client(client, client.install, project=project, network=served.network), served)
    check_app(project, served, mirror)
    assert foreign_hosts(project, client, served) == []

    again = make_project(tmp_path / "again", client, served.url, lockfile=project / client.lockfile)
    for _ in ("cold", "warm"):
        check(run_client(client, client.locked, project=again, network=served.network), served)
        check_app(again, served, mirror)
        assert (again / client.lockfile).read_bytes() == (project / client.lockfile).read_bytes()
        shutil.rmtree(again / "node_modules")


@pytest.mark.parametrize("name", ["npm-8", "npm-10", "npm-11"])
def test_npm_leaves_the_lockfile_as_it_is(name: str, served: Served, mirror: Path, tmp_path: Path) -> None:
    """P4: the application's own lockfile installs from the mirror, and no byte of it changes."""
    client = CLIENTS[name]
    lockfile = APP / "package-lock.json"
    project = make_project(tmp_path, client, served.url, lockfile=lockfile)
    with (project / ".npmrc").open("a") as settings:
        settings.write("omit-lockfile-registry-resolved=true\n")
    check(run_client(client, client.locked, project=project, network=served.network), served)
    check_app(project, served, mirror)
    assert (project / client.lockfile).read_bytes() == lockfile.read_bytes()
    check(run_client(client, client.install, project=project, network=served.network), served)
    assert read_lockfile(project / client.lockfile) == read_lockfile(lockfile)


def read_lockfile(path: Path) -> object:
    """Read a lockfile without ``libc``, which npm 8 and 10 do not write."""

    def drop_libc(pairs: list[tuple[str, object]]) -> list[tuple[str, object]]:
        return [pair for pair in pairs if pair[0] != "libc"]

    return json.loads(path.read_bytes(), object_pairs_hook=drop_libc)
