"""A mirror's public part served by nginx alone, with the one path rule of ``examples/nginx.conf``.

The mirror is one of its own, with a public URL; it is made from the mirror that `mirrorwitness serve` serves, so this
is also a mirror of a mirror.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import (
    APP,
    CLIENTS,
    ROOT,
    make_project,
    node_program,
    run_client,
    run_to_end,
    serve_mirror,
)
from tests.real.installed import find_differences, locked_tarballs
from tests.real.servers import NotInstalledError, free_ports, tail
from tests.real.static import ask, serve_static

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.clients import Network, Served


@pytest.fixture(scope="module")
def static(mirror: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """Mirror the served mirror for a public URL, stop everything of ours, and let nginx serve it at that URL."""
    directory = tmp_path_factory.mktemp("static")
    storage = directory / "storage"
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    with serve_mirror(mirror, network=network, directory=directory / "upstream") as upstream:
        made = subprocess.run(
            [
                *(*network.prefix, sys.executable, "-m", "mirrorwitness", "sync", "--once"),
                *("--registry", upstream.url, "--lockfile", str(APP / "package-lock.json")),
                *("--storage", f"file:{storage}", "--public-url", url),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    assert made.returncode == 0, made.stdout.decode()
    # The registry behind this mirror has neither; nginx only has to find them.
    (storage / "about" / "keys.json").write_text('{"keys": []}')
    (storage / "npm" / "@node-rs" / "crc32" / "attestations").mkdir()
    (storage / "npm" / "@node-rs" / "crc32" / "attestations" / "1.10.6.json").write_text('{"attestations": []}')
    (storage / "evidence" / "glob").mkdir(parents=True)
    (storage / "evidence" / "glob" / "one.json").write_text("{}")
    with serve_static(storage, port=port, network=network, directory=directory) as served:
        yield served, storage


@pytest.mark.parametrize("name", ["npm-8", "npm-11", "pnpm-12", "yarn-1", "yarn-4", "bun"])
def test_clients_install_from_static_files(
    name: str, static: tuple[Served, Path], mirror: Path, tmp_path: Path
) -> None:
    """P2: with full documents only and no content negotiation, from packuments and from the lockfile."""
    served, _ = static
    client = CLIENTS[name]
    try:
        node_program(client.program)
    except NotInstalledError as error:
        pytest.skip(str(error))
    project = make_project(tmp_path / "first", client, served.url)
    again = tmp_path / "again"
    for arguments in (client.install, client.locked):
        done = run_client(client, arguments, project=project, network=served.network)
        assert done.code == 0, f"{done.output}\n--- nginx:\n{tail(served.log)}"
        ran = run_to_end(["node", "index.js"], project=project, network=served.network)
        assert (ran.code, find_differences(project, locked_tarballs(mirror))) == (0, []), ran.output
        if arguments is client.install:
            project = make_project(again, client, served.url, lockfile=project / client.lockfile)


def test_only_public_files_are_served(static: tuple[Served, Path]) -> None:
    """P1: records, evidence and documents by their keys are out of reach; what is missing is answered in JSON."""
    served, storage = static
    assert (storage / "state/package/glob.json").is_file()
    hidden = [
        *("/evidence/glob/one.json", "/npm/evidence/glob/one.json"),
        *("/state/package/glob.json", "/state/run/last.json", "/about/mirror.json", "/.mirrorwitness"),
        *("/npm/glob/packument.json", "/glob/7.2.3", "/no-such-package"),
    ]
    climbing = ["/glob/-/..%2f..%2f..%2fstate%2frun%2flast.json", "/..%2fstate%2frun%2flast.json"]
    shown = [
        *("/glob", "/@node-rs%2fcrc32", "/@node-rs%2Fcrc32", "/@node-rs/crc32", "/%40node-rs%2fcrc32", "/JSONStream"),
        *("/-/ping", "/-/npm/v1/keys", "/-/npm/v1/attestations/@node-rs%2fcrc32@1.10.6"),
    ]
    answers = json.loads(ask(served, storage.parent, *hidden, *climbing, *shown).output)
    missing = [404, "application/json", '{"error": "t']
    assert [answer[1:] for answer in answers[: len(hidden)]] == [missing] * len(hidden)
    del answers[: len(hidden)]
    # Both leave the root; nginx refuses such a path before any rule of ours.
    assert [answer[1] for answer in answers[: len(climbing)]] == [400, 400]
    del answers[: len(climbing)]
    assert [answer[1:3] for answer in answers] == [[200, "application/json"]] * len(shown)


def test_nginx_names_every_tarball_at_the_public_url(static: tuple[Served, Path]) -> None:
    """P4: every tarball URL in every stored document leads to the public URL, and is answered from there."""
    served, storage = static
    urls = [
        manifest["dist"]["tarball"]
        for path in sorted((storage / "npm").rglob("packument.json"))
        for manifest in json.loads(path.read_bytes())["versions"].values()
    ]
    assert len(urls) == len(locked_tarballs(storage))
    paths = [url.removeprefix(served.url) for url in urls]
    answers = json.loads(ask(served, storage.parent, *paths).output)
    assert [answer[:3] for answer in answers] == [[path, 200, "application/octet-stream"] for path in paths]


def test_nginx_serves_what_others_compare_by(static: tuple[Served, Path]) -> None:
    """The description, and every node of the summary at the address of its digest."""
    served, storage = static
    found = sorted(path for path in (storage / "about" / "summary").rglob("*") if path.is_file())
    nodes = [f"/-/summary/{path.parent.name}/{path.name}" for path in found]
    answers = json.loads(ask(served, storage.parent, "/-/about.json", *nodes).output)
    assert nodes
    assert [answer[:3] for answer in answers] == [
        ["/-/about.json", 200, "application/json"],
        *([path, 200, "text/plain"] for path in nodes),
    ]
