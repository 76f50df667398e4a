"""Downloads: our transport beside httpx's own pool, in processor time per GET.

    python -m bench download [--requests 6000] [--rounds 3] [--size 15000] [--in-flight 32,64,256]

Both read the same bodies over loopback HTTP/1.1 with keep-alive, from nginx in a temporary directory (from the
registry simulator where nginx is not installed). Each measurement is a process of its own; the rounds of the clients
are interleaved, and the best of each counts, because neighbours only ever add. The rows: `Fetcher` (deadlines
included), the same transport under ``httpx.AsyncClient`` (what leaving that layer out saves), and stock pooled httpx.

Goals (research/F 10): at most 0.35 times the processor time of stock httpx at 32 in flight, and at 256 at least 0.8
times the throughput per core of 32.
"""

from __future__ import annotations

import argparse
import functools
import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import trio

from bench.goals import format_goal
from bench.processes import ROOT, free_port, nginx_program
from mirrorwitness.fetch import FetchOptions, open_fetcher
from mirrorwitness.fetch.transport import StackTransport

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

GOAL_RATIO = 0.35
GOAL_THROUGHPUT = 0.8
FILES = 64
HEADERS = {"accept-encoding": "identity"}

NGINX = """
daemon off; worker_processes 1; pid {dir}/pid; error_log stderr crit;
events {{ worker_connections 2048; }}
http {{
  access_log off; keepalive_requests 1000000; sendfile on; tcp_nopush on;
  client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  server {{ listen 127.0.0.1:{port}; root {dir}/www; }}
}}
"""


async def drive(get: Callable[[str], Awaitable[int]], urls: list[str], requests: int, in_flight: int) -> None:
    """Send GETs, `in_flight` at a time, check every length, and print what `requests` of them cost.

    The connections are opened before the clock starts.
    """
    size: set[int] = set()

    async def worker(numbers: Iterator[int]) -> None:
        for number in numbers:
            size.add(await get(urls[number % len(urls)]))

    async def run(count: int) -> None:
        numbers = iter(range(count))
        async with trio.open_nursery() as nursery:
            for _ in range(in_flight):
                nursery.start_soon(worker, numbers)

    await run(2 * in_flight)
    wall, processor = time.perf_counter(), time.process_time()
    await run(requests)
    processor = time.process_time() - processor
    wall = time.perf_counter() - wall
    assert len(size) == 1, size
    print(f"{processor / requests * 1e6:.1f} {requests / wall:.1f}")


async def run_fetcher(urls: list[str], requests: int, in_flight: int) -> None:
    """Measure `Fetcher`."""
    async with open_fetcher(FetchOptions(max_connections=in_flight)) as fetcher:

        async def get(url: str) -> int:
            async with fetcher.request("GET", url, headers=HEADERS) as response:
                size = 0
                while piece := await response.receive_some():
                    size += len(piece)
                return size

        await drive(get, urls, requests, in_flight)


async def run_client(urls: list[str], requests: int, in_flight: int, *, own: bool) -> None:
    """Measure ``httpx.AsyncClient``, over our transport or its own pool."""
    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    transport = StackTransport(max_connections=in_flight, max_idle=60) if own else None
    async with httpx.AsyncClient(limits=limits, transport=transport, trust_env=False) as client:

        async def get(url: str) -> int:
            async with client.stream("GET", url, headers=HEADERS) as response:
                size = 0
                async for piece in response.aiter_raw():
                    size += len(piece)
                return size

        await drive(get, urls, requests, in_flight)


def measure_here(client: str, base: str, requests: int, in_flight: int) -> None:
    """Run one measurement in this process; it prints microseconds of processor time per GET, and GETs per second."""
    urls = [f"{base}/f{number}.tgz" for number in range(FILES)]

    if client == "Fetcher":
        trio.run(run_fetcher, urls, requests, in_flight)
    else:
        trio.run(functools.partial(run_client, urls, requests, in_flight, own=client == "AsyncClient+ours"))


@contextmanager
def serving(size: int) -> Iterator[str]:
    """Serve `FILES` files of `size` bytes; give the base URL."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "www").mkdir()
        for number in range(FILES):
            (directory / "www" / f"f{number}.tgz").write_bytes(bytes([number]) * size)
        nginx = nginx_program()
        if nginx is None:
            yield from serve_simulator(directory, size)
            return
        port = free_port()
        (directory / "conf").write_text(NGINX.format(dir=directory, port=port))
        directory.chmod(0o755)
        process = subprocess.Popen([nginx, "-c", str(directory / "conf"), "-p", name], stderr=subprocess.DEVNULL)
        try:
            wait_for(f"http://127.0.0.1:{port}/f0.tgz")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait()


def serve_simulator(directory: Path, size: int) -> Iterator[str]:
    """Serve the same files from the registry simulator."""
    package = directory / "bench"
    (package / "-").mkdir(parents=True)
    (package / "packument.json").write_text('{"name": "bench", "versions": {}}')
    for number in range(FILES):
        (package / "-" / f"f{number}.tgz").write_bytes(bytes([number]) * size)
    command = [sys.executable, "-m", "tests.fakes.registry", "--data", str(directory), "--port", "0"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        base = process.stdout.readline().removeprefix("listening on ").strip()
        yield f"{base}/bench/-"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str) -> None:
    """Wait until a server answers."""
    for _ in range(100):
        try:
            httpx.get(url, trust_env=False)
        except httpx.TransportError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing answers at {url}")


def main(arguments: Sequence[str]) -> int:
    """Run all measurements and print one table."""
    parser = argparse.ArgumentParser(prog="python -m bench download", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=15_000)
    parser.add_argument("--in-flight", default="32,64,256")
    parser.add_argument("--measure", nargs=3, metavar=("CLIENT", "BASE", "IN_FLIGHT"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        client, base, in_flight = options.measure
        measure_here(client, base, options.requests, int(in_flight))
        return 0
    clients = ("Fetcher", "AsyncClient+ours", "httpx")
    levels = [int(text) for text in re.split(r"\D+", options.in_flight)]
    found: dict[tuple[str, int], list[tuple[float, float]]] = {}
    with serving(options.size) as base:
        for _ in range(options.rounds):
            for level in levels:
                for client in clients:
                    # Stock httpx takes milliseconds per request at 256: fewer of them say the same.
                    count = options.requests // (1 if client != "httpx" else max(1, level // 32))
                    command = [
                        sys.executable,
                        "-m",
                        "bench",
                        "download",
                        "--requests",
                        str(count),
                        "--measure",
                        client,
                        base,
                    ]
                    output = subprocess.run(
                        [*command, str(level)], check=True, cwd=ROOT, capture_output=True, text=True
                    ).stdout
                    processor, rate = output.split()
                    found.setdefault((client, level), []).append((float(processor), float(rate)))
    report(clients, levels, found, options.size)
    return 0


def report(
    clients: tuple[str, ...], levels: list[int], found: dict[tuple[str, int], list[tuple[float, float]]], size: int
) -> None:
    """Print the table and judge it."""
    cost = {key: min(pair[0] for pair in pairs) for key, pairs in found.items()}
    rate = {key: max(pair[1] for pair in pairs) for key, pairs in found.items()}
    print(f"GET of {size} bytes        in flight   CPU us/GET   GET/s wall   CPU vs stock httpx")
    for level in levels:
        for client in clients:
            ratio = cost[client, level] / cost["httpx", level]
            print(f"{client:24} {level:9} {cost[client, level]:12.0f} {rate[client, level]:12.0f} {ratio:14.2f}x")
    low, high = levels[0], levels[-1]
    ratio, kept = cost["Fetcher", low] / cost["httpx", low], cost["Fetcher", low] / cost["Fetcher", high]
    print(format_goal(f"CPU of Fetcher / stock httpx at {low} in flight", ratio, GOAL_RATIO))
    print(format_goal(f"throughput per core at {high} in flight / {low}", kept, GOAL_THROUGHPUT, at_least=True))
