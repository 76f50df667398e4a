"""nginx over a directory, with the rule of ``examples/nginx.conf`` and nothing of ours running."""

from __future__ import annotations

import contextlib
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from tests.real.clients import ROOT, Served, run_to_end
from tests.real.servers import CACHE, run_process

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.real.clients import Network, Outcome

__all__ = ["ask", "serve_static"]

LISTEN: Final = "127.0.0.1:8080"
ROOT_DIRECTORY: Final = "root /srv/mirror;"

_ASK: Final = """
const [url, ...paths] = process.argv.slice(1)
const ask = async (path) => {
  const answer = await fetch(url + path)
  return [path, answer.status, answer.headers.get('content-type'), (await answer.text()).slice(0, 12)]
}
Promise.all(paths.map(ask)).then((found) => console.log(JSON.stringify(found)))
"""


def _nginx() -> str:
    """Return nginx, or skip."""
    for found in (shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin"), CACHE / "nginx/usr/sbin/nginx"):
        if found is not None and shutil.which(found) is not None:
            return str(found)
    pytest.skip("nginx is not installed; run scripts/real/install-clients nginx")


@contextlib.contextmanager
def serve_static(storage: Path, *, port: int, network: Network, directory: Path) -> Iterator[Served]:
    """Serve a directory of a mirror's public part on a port of a network."""
    program = _nginx()
    config = (ROOT / "examples" / "nginx.conf").read_text()
    assert (config.count(LISTEN), config.count(ROOT_DIRECTORY)) == (3, 1)
    config = config.replace(LISTEN, f"127.0.0.1:{port}").replace(ROOT_DIRECTORY, f"root {storage};")
    # Workers of a root process would be another user, whom pytest's private directories shut out.
    (directory / "nginx.conf").write_text(f"master_process off;\n{config}")
    command = [*network.prefix, program, "-c", str(directory / "nginx.conf"), "-p", str(directory)]
    with run_process(command, directory=directory) as process:
        (directory / "home").mkdir()
        (directory / "ask").mkdir()
        served = Served(f"http://127.0.0.1:{port}", directory / f"{command[0].rpartition('/')[2]}.log", network)
        for _ in range(20):
            if ask(served, directory, "/-/ping").code == 0:
                break
            assert process.poll() is None
        yield served


def ask(served: Served, directory: Path, *paths: str) -> Outcome:
    """Ask for paths from inside the network; the output is a JSON list of path, status, type, first characters."""
    return run_to_end(["node", "-e", _ASK, served.url, *paths], project=directory / "ask", network=served.network)
