"""A mirror's public part served by nginx alone, with the one path rule of ``examples/nginx.conf``.

The mirror is one of its own, with a public URL; it is made from the mirror that `mirrorwitness serve` serves, so this
is also a mirror of a mirror.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.real.clients import (
    APP,
    CLIENTS,
    ROOT,
    Served,
    make_project,
    node_program,
    run_client,
    run_to_end,
    serve_mirror,
)
from tests.real.installed import find_differences, locked_tarballs
from tests.real.servers import CACHE, NotInstalledError, free_ports, run_process, tail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.clients import Network, Outcome

LISTEN = "127.0.0.1:8080"
ROOT_DIRECTORY = "root /srv/mirror;"

ASK = """
const [url, ...paths] = process.argv.slice(1)
const ask = async (path) => {
  const answer = await fetch(url + path)
  return [path, answer.status, answer.headers.get('content-type'), (await answer.text()).slice(0, 12)]
}
Promise.all(paths.map(ask)).then((found) => console.log(JSON.stringify(found)))
"""
"""Asks for paths from inside the network."""


def nginx() -> str:
    """Return nginx, or skip."""
    for found in (shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin"), CACHE / "nginx/usr/sbin/nginx"):
        if found is not None and shutil.which(found) is not None:
            return str(found)
    pytest.skip("nginx is not installed; run scripts/real/install-clients nginx")


@pytest.fixture(scope="module")
def static(mirror: Path, network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Served, Path]]:
    """Mirror the served mirror for a public URL, stop everything of ours, and let nginx serve it at that URL."""
    program = nginx()
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
    config = (ROOT / "examples" / "nginx.conf").read_text()
    assert (config.count(LISTEN), config.count(ROOT_DIRECTORY)) == (3, 1)
    config = config.replace(LISTEN, f"127.0.0.1:{port}").replace(ROOT_DIRECTORY, f"root {storage};")
    # Workers of a root process would be another user, whom pytest's private directories shut out.
    (directory / "nginx.conf").write_text(f"master_process off;\n{config}")
    command = [*network.prefix, program, "-c", str(directory / "nginx.conf"), "-p", str(directory)]
    with run_process(command, directory=directory) as process:
        (directory / "home").mkdir()
        (directory / "ask").mkdir()
        served = Served(url, directory / f"{Path(command[0]).name}.log", network)
        for _ in range(20):
            if ask(served, directory / "ask", "/-/ping").code == 0:
                break
            assert process.poll() is None
        yield served, storage


def ask(served: Served, project: Path, *paths: str) -> Outcome:
    """Ask for paths; the output is a JSON list of path, status, type and the first characters."""
    return run_to_end(["node", "-e", ASK, served.url, *paths], project=project, network=served.network)


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
        *("/state/package/glob.json", "/state/run/last.json", "/about/mirror.json", "/.mirrorwitness"),
        *("/npm/glob/packument.json", "/glob/7.2.3", "/no-such-package"),
    ]
    climbing = ["/glob/-/..%2f..%2f..%2fstate%2frun%2flast.json", "/..%2fstate%2frun%2flast.json"]
    shown = [
        *("/glob", "/@node-rs%2fcrc32", "/@node-rs%2Fcrc32", "/@node-rs/crc32", "/%40node-rs%2fcrc32", "/JSONStream"),
        *("/-/ping", "/-/npm/v1/keys", "/-/npm/v1/attestations/@node-rs%2fcrc32@1.10.6"),
    ]
    answers = json.loads(ask(served, storage.parent / "ask", *hidden, *climbing, *shown).output)
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
    answers = json.loads(ask(served, storage.parent / "ask", *paths).output)
    assert [answer[:3] for answer in answers] == [[path, 200, "application/octet-stream"] for path in paths]
