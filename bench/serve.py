"""How many answers a second `mirrorwitness serve` gives, beside nginx with the same files and Verdaccio (F 7).

    python -m bench serve [--seconds 5] [--connections 32] [--verdaccio PATH]

Every server is one process pinned to the last core, wrk to the first, in one run, so that the *ratios* hold on a busy
machine; the rates hold on this one only. CPU time per answer (user and system, of the server) is steadier than the
rate, which for large bodies from nginx is wrk's own limit. nginx answers from static files and decides nothing, so it
is the ceiling. A peer that is not installed is skipped, and said so. Loopback only.

What is served: a package document of about 300 KB (640 versions), the same compressed, a small one, and a tarball of
20 KB. Ours come from a directory, rendered for the client and then from memory, as in a warm mirror.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.request import Request, urlopen

import trio

from bench.goals import format_goal
from bench.processes import ROOT, child_of, cpu_seconds, free_port, nginx_program, started, wait_for_port
from mirrorwitness.mirror.layout import STORED_BASE, packument_key, tarball_key, tarball_url
from mirrorwitness.npm.names import PackageName
from mirrorwitness.run.serve import serve
from mirrorwitness.server import ServeOptions, make_app
from mirrorwitness.storage.address import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["main"]

LARGE_VERSIONS: Final = 640
TARBALL_BYTES: Final = 20_480

Case = tuple[str, str, str]
CASES: Final[tuple[Case, ...]] = (
    ("packument 300 KB", "/large", ""),
    ("packument 300 KB, gzip", "/large", "gzip"),
    ("packument 0.5 KB", "/small", ""),
    ("tarball 20 KB", "/small/-/small-1.0.0.tgz", ""),
)

GOALS: Final[dict[str, float | None]] = {
    "packument 300 KB": 15.0,
    "packument 300 KB, gzip": None,
    "packument 0.5 KB": 1.0,
    "tarball 20 KB": 1.0,
}
NODE_PLACES: Final = (ROOT / ".cache/bench/bin", ROOT / ".cache/real/bin")
"""Where a Node is linked when the machine has none (scripts/real/node.sh)."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one server did in one case."""

    rate: float
    cpu_microseconds: float
    p99: str


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench serve", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=int, default=5, help="seconds for each case")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--verdaccio", default=_find_verdaccio(), help="Verdaccio's program")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.worker:
        trio.run(_work, options.worker)
        return 0
    if not shutil.which("wrk"):
        print("skipped: wrk is not installed (apt-get install wrk)")
        return 0
    with tempfile.TemporaryDirectory(prefix="mirrorwitness-bench-") as scratch:
        results = _run_all(Path(scratch), options)
    _print_table(results)
    _print_goals(results)
    return 0


def _run_all(scratch: Path, options: argparse.Namespace) -> dict[str, dict[str, Result]]:
    documents = make_documents()
    trio.run(_fill, scratch / "mirror", documents)
    measure = partial(_measure, seconds=options.seconds, connections=options.connections)
    results: dict[str, dict[str, Result]] = {}
    with _ours(scratch / "mirror") as (process, port):
        results["mirrorwitness"] = measure(process.pid, port)
    nginx = nginx_program()
    if nginx:
        with _nginx(nginx, scratch / "static", documents) as (pid, port):
            results["nginx static"] = measure(pid, port)
    else:
        print("skipped: nginx is not installed (apt-get install nginx-light)")
    if options.verdaccio:
        with _verdaccio(options.verdaccio, scratch / "verdaccio", documents) as (process, port):
            results["Verdaccio"] = measure(process.pid, port)
    else:
        print("skipped: Verdaccio is not installed (make test-real installs it; give --verdaccio PATH)")
    return results


def make_documents() -> dict[str, dict[str, bytes]]:
    """Return, for each package, its files: ``packument`` and tarballs."""
    body = os.urandom(TARBALL_BYTES)
    return {"small": _make_package("small", 1, body, filler=0), "large": _make_package("large", LARGE_VERSIONS, body)}


def _make_package(name: str, count: int, body: bytes, filler: int = 200) -> dict[str, bytes]:
    digest = "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()
    versions = {
        f"1.0.{patch}": {
            "name": name,
            "version": f"1.0.{patch}",
            "description": "d" * filler,
            "dist": {
                "tarball": tarball_url(STORED_BASE, PackageName(name), f"{name}-1.0.{patch}.tgz"),
                "integrity": digest,
                "shasum": hashlib.sha1(body, usedforsecurity=False).hexdigest(),
            },
        }
        for patch in range(count)
    }
    document = {"_id": name, "name": name, "dist-tags": {"latest": "1.0.0"}, "versions": versions, "time": {}}
    return {"packument": json.dumps(document).encode(), f"{name}-1.0.0.tgz": body}


async def _fill(root: Path, documents: Mapping[str, Mapping[str, bytes]]) -> None:
    async with open_storage(f"file:{root}?fsync=off") as storage:
        for name, files in documents.items():
            for file, body in files.items():
                key = packument_key(PackageName(name))
                await storage.put(key if file == "packument" else tarball_key(PackageName(name), file), body)


async def _work(root: str) -> None:
    shutdown = trio.Event()
    async with open_storage(f"file:{root}") as storage, trio.open_nursery() as nursery:
        app = make_app(storage=storage, options=ServeOptions())
        _, port = await nursery.start(partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown))
        print(port, flush=True)
        with trio.open_signal_receiver(signal.SIGTERM) as signals:
            await anext(signals)
        shutdown.set()


@contextmanager
def _ours(root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    with started([sys.executable, "-m", "bench", "serve", "--worker", str(root)], output=subprocess.PIPE) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())


@contextmanager
def _nginx(program: str, root: Path, documents: Mapping[str, Mapping[str, bytes]]) -> Iterator[tuple[int, int]]:
    port = free_port()
    for name, files in documents.items():
        (root / name / "-").mkdir(parents=True)
        for file, body in files.items():
            (root / name / ("packument.json" if file == "packument" else f"-/{file}")).write_bytes(body)
        (root / name / "packument.json.gz").write_bytes(gzip.compress(files["packument"], 6))
    (root / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {root}/pid; error_log stderr crit; {_nginx_user()}
events {{ worker_connections 1024; }}
http {{ access_log off; sendfile on; keepalive_requests 1000000; default_type application/octet-stream;
  client_body_temp_path {root}/t1; proxy_temp_path {root}/t2; fastcgi_temp_path {root}/t3;
  uwsgi_temp_path {root}/t4; scgi_temp_path {root}/t5;
  server {{ listen 127.0.0.1:{port}; root {root}; gzip_static on;
    location ~ ^/[a-z]+$ {{ try_files $uri/packument.json =404; default_type application/json; }} }} }}
""",
        encoding="utf-8",
    )
    with started([program, "-c", str(root / "nginx.conf"), "-e", "stderr"]) as process:
        wait_for_port(port)
        yield child_of(process.pid), port


@contextmanager
def _verdaccio(
    program: str, root: Path, documents: Mapping[str, Mapping[str, bytes]]
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    for name, files in documents.items():
        (root / "storage" / name).mkdir(parents=True)
        for file, body in files.items():
            stored = _as_verdaccio_stores(body) if file == "packument" else body
            (root / "storage" / name / ("package.json" if file == "packument" else file)).write_bytes(stored)
    settings = {
        "storage": str(root / "storage"),
        "auth": {"htpasswd": {"file": str(root / "htpasswd")}},
        "packages": {"**": {"access": "$all"}},
        "log": {"type": "stdout", "level": "fatal"},
        "userRateLimit": {"windowMs": 1, "max": 1_000_000_000},
    }
    (root / "config.yaml").write_text(json.dumps(settings), encoding="utf-8")
    command = [program, "--config", str(root / "config.yaml"), "--listen", f"127.0.0.1:{port}"]
    path = os.pathsep.join([*(str(place) for place in NODE_PLACES), os.environ["PATH"]])
    with started(command, environment={"NODE_ENV": "production", "PATH": path}) as process:
        wait_for_port(port)
        yield process, port


def _as_verdaccio_stores(packument: bytes) -> bytes:
    document = json.loads(packument)
    files = {
        manifest["dist"]["tarball"].rpartition("/")[2]: {"shasum": manifest["dist"]["shasum"], "version": version}
        for version, manifest in document["versions"].items()
    }
    extra = {"_attachments": files, "_distfiles": {}, "_uplinks": {}, "_rev": "1-0"}
    return json.dumps({**document, **extra}).encode()


def _measure(pid: int, port: int, *, seconds: int, connections: int) -> dict[str, Result]:
    results: dict[str, Result] = {}
    for name, path, coding in CASES:
        url = f"http://127.0.0.1:{port}{path}"
        with urlopen(Request(url, headers={"accept-encoding": coding or "identity"})) as answer:
            assert answer.status == 200
            answer.read()
        before, load = cpu_seconds(pid), ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
        header = ["-H", f"accept-encoding: {coding}"] if coding else []
        pinned = ["taskset", "-c", "0"] if shutil.which("taskset") else []
        told = subprocess.run([*pinned, *load, *header, url], check=True, capture_output=True, text=True).stdout
        used = cpu_seconds(pid) - before
        assert "Non-2xx" not in told, told
        count = int(_find(r"(\d+) requests in", told))
        results[name] = Result(
            float(_find(r"Requests/sec:\s*(\S+)", told)), used / count * 1e6, _find(r"99%\s*(\S+)", told)
        )
    return results


def _print_table(results: Mapping[str, Mapping[str, Result]]) -> None:
    ours = results["mirrorwitness"]
    print(f"{'case':<24}{'server':<15}{'answers/s':>10}{'CPU us':>9}{'p99':>10}{'rate ratio':>12}{'CPU ratio':>11}")
    for name, _, _ in CASES:
        for server, cases in results.items():
            found, base = cases[name], ours[name]
            line = f"{name:<24}{server:<15}{found.rate:>10,.0f}{found.cpu_microseconds:>9,.0f}{found.p99:>10}"
            rate, cpu = base.rate / found.rate, found.cpu_microseconds / base.cpu_microseconds
            print(line if found is base else f"{line}{rate:>11.2f}x{cpu:>10.2f}x")
    print("ratios: how many times more answers a second mirrorwitness gives, and how many times less CPU each takes it")


def _print_goals(results: Mapping[str, Mapping[str, Result]]) -> None:
    if "Verdaccio" not in results:
        return
    for name, _, _ in CASES:
        ratio = results["mirrorwitness"][name].rate / results["Verdaccio"][name].rate
        print(format_goal(f"answers/s, ours / Verdaccio, {name}", ratio, GOALS[name], at_least=True))
        used = results["Verdaccio"][name].cpu_microseconds / results["mirrorwitness"][name].cpu_microseconds
        print(format_goal(f"answers per CPU second, ours / Verdaccio, {name}", used, GOALS[name], at_least=True))


def _find_verdaccio() -> str | None:
    installed = ROOT / ".cache/real/clients/node_modules/.bin/verdaccio"
    return str(installed) if installed.exists() else shutil.which("verdaccio")


def _find(pattern: str, text: str) -> str:
    found = re.search(pattern, text)
    assert found, text
    return found.group(1)


def _nginx_user() -> str:
    # A master that runs as root gives its worker another user, who may not read the scratch directory.
    return "user root;" if os.getuid() == 0 else ""
