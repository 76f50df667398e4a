"""How many checkpoints a second `mirrorwitness witness serve` cosigns, with durable state, over loopback (research/A 4.3).

    python -m bench witness [--requests 500] [--logs 40000]

Rows: one connection, one request after another; eight logs on eight connections; both algorithms; without waiting for the
disk, which says what that costs; and the first two with the server held to one processor, as Python runs one thread at a
time and hands over from processor to processor at a price. Beside them, in the same run, aics-witness as shipped and with the one option that it
lacks (issue 4 measures machines by that: 700/s), and litewitness, where
`scripts/real/install-witness` installed them; one that is not there is said to be missing. The *ratios* hold on a busy
machine; the rates hold on this one only. The client builds all requests beforehand.

Two lines say what the disk allows, in a loop that does nothing else: files that are replaced as our record is, and pages
that are written in place, as a database's log is. The last line starts a witness of 40,000 logs: seconds until it
listens, and its memory.
"""

from __future__ import annotations

import argparse
import os
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.goals import format_goal
from bench.processes import ROOT, on_one_core
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.keys import KeyType, format_signer_key, make_signer_key
from mirrorwitness.tlog.merkle import Hash, leaf_hash, make_proof, plan_consistency, root_of
from mirrorwitness.tlog.note import sign_note
from mirrorwitness.witness.protocol import format_add_checkpoint
from tests.real.witness_peers import is_installed, start_aics, start_litewitness

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mirrorwitness.tlog.keys import SignerKey

__all__ = ["main"]

PROGRAM: Final = Path(sys.executable).with_name("mirrorwitness")
HELD: Final = ", one processor"
_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Log:
    """A log that grows by one entry with each request.

    Attributes:
        key: signs.
        requests: bodies of add-checkpoint, in order.
    """

    key: SignerKey
    requests: list[bytes] = field(default_factory=list[bytes])

    def build(self, count: int) -> None:
        """Build the requests."""
        leaves: list[Hash] = []
        for old in range(count):
            leaves.append(leaf_hash(secrets.token_bytes(8)))
            proof = make_proof(plan_consistency(old, old + 1), lambda node: root_of(leaves[node.start : node.end]))
            note = sign_note(Checkpoint(self.key.name, old + 1, root_of(leaves)).text, [self.key])
            self.requests.append(format_add_checkpoint(old, proof, note))


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    Attributes:
        rate: answers in a second.
        median: of the latency, in milliseconds.
        high: its 99th percentile.
        memory: resident memory of the server in megabytes; None where it was not looked at.
    """

    rate: float
    median: float
    high: float
    memory: float | None = None


def make_logs(count: int, requests: int) -> list[Log]:
    """Make logs with their requests."""
    logs = [Log(make_signer_key(f"log{number}-of-{count}.example", secrets.token_bytes(32))) for number in range(count)]
    for log in logs:
        log.build(requests // count)
    return logs


@contextmanager
def running(words: Sequence[str | Path]) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server that says where it listens; yield it and its port."""
    process = subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit(f"bench: {words[0]} did not start")
        yield process, int(line.rstrip("/\n").rpartition(":")[2])
    finally:
        process.terminate()
        process.wait()


def drive(port: int, logs: Sequence[Log]) -> tuple[float, list[float]]:
    """Send each log's requests on a connection of its own; return the seconds in all and each latency."""
    latencies: list[float] = []
    failures: list[bytes] = []

    def go(log: Log) -> None:
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for body in log.requests:
                head = b"POST /add-checkpoint HTTP/1.1\r\nHost: witness\r\nContent-Length: %d\r\n\r\n" % len(body)
                begin = time.perf_counter()
                connection.sendall(head + body)
                answer = _receive(connection)
                latencies.append(time.perf_counter() - begin)
                if not answer.startswith(b"HTTP/1.1 200"):
                    failures.append(answer)
                    return

    threads = [threading.Thread(target=go, args=(log,)) for log in logs]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise SystemExit(f"bench: not cosigned: {failures[0][:300]!r}")
    return time.perf_counter() - begin, latencies


def _receive(connection: socket.socket) -> bytes:
    """Receive one answer."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive_some(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    length = int(found[1]) if found else 0
    while len(body) < length:
        body += _receive_some(connection)
    return head + b"\r\n\r\n" + body


def _receive_some(connection: socket.socket) -> bytes:
    piece = connection.recv(65_536)
    if not piece:
        raise SystemExit("bench: the server closed the connection")
    return piece


def measure(words: Sequence[str | Path], logs: Sequence[Log], *, is_held: bool = False) -> Figures:
    """Measure one server, held to one processor or not."""
    with ExitStack() as stack:
        with on_one_core() if is_held else nullcontext():
            process, port = stack.enter_context(running(words))
        seconds, latencies = drive(port, logs)
        memory = read_memory(process.pid)
    return _figures(seconds, latencies, memory)


def _figures(seconds: float, latencies: list[float], memory: float | None = None) -> Figures:
    latencies.sort()
    high = latencies[int(len(latencies) * 0.99)]
    return Figures(len(latencies) / seconds, 1000 * statistics.median(latencies), 1000 * high, memory)


def measure_peers(one: Sequence[Log], eight: Sequence[Log]) -> Iterator[tuple[str, Figures]]:
    """Measure the peers that are installed."""
    vkeys = [str(log.key.verifier) for log in (*one, *eight)]
    for name, part, needs, start in (
        ("aics-witness", "python", (), start_aics),
        ("aics-witness with TCP_NODELAY", "python", (), partial(start_aics, sends_at_once=True)),
        ("litewitness", "debian", ("ssh-agent", "ssh-add", "ssh-keygen"), start_litewitness),
    ):
        if not is_installed(part, *needs):
            print(f"{name} is missing: scripts/real/install-witness {part}")
            continue
        for is_held in (False, True):
            with ExitStack() as stack:
                with on_one_core() if is_held else nullcontext():
                    peer = stack.enter_context(start(vkeys))
                port = int(peer.url.rpartition(":")[2].rstrip("/"))
                held = HELD if is_held else ""
                yield f"{name}: one connection{held}", _figures(*drive(port, one))
                yield f"{name}: 8 logs, 8 connections{held}", _figures(*drive(port, eight))


def read_memory(pid: int) -> float:
    """Return a process's resident memory in megabytes."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    return int(found[1]) / 1000 if found else 0.0


def replace_files(folder: Path, count: int = 300) -> float:
    """Return how often a second a small file is replaced durably: bytes, name, directory."""
    begin = time.perf_counter()
    for _ in range(count):
        with (folder / "new").open("xb", buffering=0) as file:
            file.write(bytes(1000))
            os.fsync(file.fileno())
        (folder / "new").rename(folder / "record")
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    return count / (time.perf_counter() - begin)


def write_pages(folder: Path, count: int = 300) -> float:
    """Return how often a second a page is written in place, durably."""
    with (folder / "pages").open("w+b", buffering=0) as file:
        file.write(bytes(4096))
        os.fsync(file.fileno())
        begin = time.perf_counter()
        for _ in range(count):
            os.pwrite(file.fileno(), bytes(4096), 0)
            os.fsync(file.fileno())
    return count / (time.perf_counter() - begin)


def ours(folder: Path, keys: Sequence[Path], logs: Sequence[Log], *, fsync: bool = True) -> list[str | Path]:
    """Return the words that start our witness on an empty storage."""
    storage = Path(tempfile.mkdtemp(dir=folder))
    words: list[str | Path] = [PROGRAM, "witness", "serve", "--listen", "127.0.0.1:0"]
    words += ["--storage", f"file:{storage}{'' if fsync else '?fsync=off'}"]
    for key in keys:
        words += ["--key", key]
    for log in logs:
        words += ["--log", str(log.key.verifier)]
    return words


def write_keys(folder: Path) -> tuple[Path, Path]:
    """Write a key of each algorithm."""
    paths = (folder / "ed25519.key", folder / "ml-dsa-44.key")
    for path, kind in zip(paths, (KeyType.COSIGNATURE, KeyType.ML_DSA_44), strict=True):
        path.write_text(format_signer_key(make_signer_key("bench.example/w", secrets.token_bytes(32), kind)) + "\n")
        path.chmod(0o600)
    return paths


def start_many(folder: Path, key: Path, count: int) -> tuple[float, float]:
    """Start a witness of many logs; return the seconds until it listens, and its memory in megabytes."""
    path = folder / "logs.txt"
    keys = (make_signer_key(f"log{number}.example", secrets.token_bytes(32)) for number in range(count))
    path.write_text("logs/v0\n" + "".join(f"vkey {key.verifier}\nqpd 86400\n" for key in keys), encoding="utf-8")
    words: list[str | Path] = [PROGRAM, "witness", "serve", "--listen", "127.0.0.1:0", "--key", key]
    words += ["--storage", f"file:{folder / 'many'}", "--log-list", path]
    begin = time.perf_counter()
    with running(words) as (process, _):
        return time.perf_counter() - begin, read_memory(process.pid)


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench witness", description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--logs", type=int, default=40_000)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ed25519, ml_dsa = write_keys(folder)
        one, eight = make_logs(1, options.requests), make_logs(8, options.requests * 8 // 5)
        rows = {
            "one connection": measure(ours(folder, [ed25519], one), one),
            "8 logs, 8 connections": measure(ours(folder, [ed25519], eight), eight),
            "one connection, both algorithms": measure(ours(folder, [ed25519, ml_dsa], one), one),
            "one connection, fsync=off": measure(ours(folder, [ed25519], one, fsync=False), one),
            f"one connection{HELD}": measure(ours(folder, [ed25519], one), one, is_held=True),
            f"8 logs, 8 connections{HELD}": measure(ours(folder, [ed25519], eight), eight, is_held=True),
        }
        ours_rows = dict(rows)
        rows |= dict(measure_peers(one, eight))
        print(f"{'row':<70}{'answers/s':>10}{'p50 ms':>8}{'p99 ms':>8}{'RSS MB':>8}")
        for row, found in rows.items():
            memory = "" if found.memory is None else f"{found.memory:.0f}"
            print(f"{row:<70}{found.rate:>10,.0f}{found.median:>8.2f}{found.high:>8.2f}{memory:>8}")
        for row in (name + held for held in ("", HELD) for name in ("one connection", "8 logs, 8 connections")):
            for peer, found in rows.items():
                if peer.endswith(f": {row}"):
                    print(f"{row}: {ours_rows[row].rate / found.rate:.2f} times {peer.partition(':')[0]}")
        for row, goal in (
            ("one connection", 700),
            ("8 logs, 8 connections", 750),
            ("one connection, both algorithms", 350),
        ):
            print(format_goal(f"answers a second, {row}", rows[row].rate, goal, at_least=True))
        print(format_goal("p99 of one connection, ms", rows["one connection"].high, 10.0))
        disk = rows["one connection"].median / rows["one connection, fsync=off"].median
        print(f"waiting for the disk: {disk:.2f} times the latency without")
        print(f"the disk alone: {replace_files(folder):,.0f} files replaced a second")
        print(f"the disk alone: {write_pages(folder):,.0f} pages written in place a second")
        seconds, resident = start_many(folder, ed25519, options.logs)
        print(f"start with {options.logs:,} logs: {seconds:.1f} s, {resident:.0f} MB")
        print(format_goal("start with 40,000 logs, seconds", seconds, 5.0))
        print(format_goal("memory with 40,000 logs, MB", resident, 300.0))
    return 0
