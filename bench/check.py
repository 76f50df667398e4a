"""`mirrorwitness check` of a large lockfile against a checksum database of the registry's size.

    python -m bench check [--entries 1500] [--size 40000000] [--rounds 3]

Rows: *cold*, with nothing verified before; *warm*, the same again; *a day later*, when the log grew by 50,000 records and
what was verified is still young; *offline*, against the bundle that the cold run wrote. Whole commands, start-up included,
as a CI job runs them: both witnesses have to have cosigned.

The log is simulated (`bench/sparselog.py`): a tree of 40 million entries of which the lockfile's are known and all others
are one. Its proofs have the length of real ones, and records are of the length that npm's have (660 bytes here). It runs
in a process of its own on the last core; bytes are those that it sent, heads of answers included.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from bench.goals import format_goal
from bench.processes import MB, ROOT, on_last_core, run_measured
from bench.sparselog import KEY, WITNESSES
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record, format_record

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

PROGRAM: Final = str(Path(sys.executable).with_name("mirrorwitness"))
DAY: Final = 50_000
"""Versions that npm's registry gains in a day, roughly."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run used.

    Attributes:
        wall: seconds.
        cpu: seconds of processor time.
        sent: bytes that the log sent.
        rss: bytes of peak memory.
    """

    wall: float
    cpu: float
    sent: int
    rss: int


def make_record(number: int) -> Record:
    """Make a record of the length that npm's have."""
    digest = hashlib.sha512(str(number).encode()).digest()
    signature = base64.b64encode(b"0" * 71).decode()
    return Record(
        registry="registry.example",
        name=PackageName(f"@scope-of-some-length/package-{number}"),
        version=Version(f"{number % 9}.{number % 30}.{number % 7}"),
        integrity=f"sha512-{base64.b64encode(digest).decode()}",
        tarball_size=10_000 + number,
        shasum=digest[:20].hex(),
        manifest=digest[:32],
        tarball_manifest=digest[32:],
        published="2026-07-01T12:00:00.000Z",
        signatures=((f"SHA256:{base64.b64encode(digest[:32]).decode()}", signature),),
        attestations=digest[:32],
        event=Event.PUBLISH,
    )


def write_inputs(folder: Path, count: int) -> None:
    """Write the records, the lockfile that pins them, and the policy."""
    records = [make_record(number) for number in range(count)]
    (folder / "records").write_bytes(b"\n".join([format_record(record) for record in records]))
    entries = {
        f"node_modules/{record.name}": {
            "version": record.version,
            "resolved": f"https://registry.example/{record.name}/-/{record.name.rpartition('/')[2]}-{record.version}.tgz",
            "integrity": record.integrity,
        }
        for record in records
    }
    lock = {"name": "app", "lockfileVersion": 3, "packages": {"": {"name": "app"}, **entries}}
    (folder / "package-lock.json").write_text(json.dumps(lock, indent=2), encoding="utf-8")
    one, two = [key.verifier for key in WITNESSES]
    policy = f"witness w1 {one}\nwitness w2 {two}\ngroup both all w1 w2\nquorum both\n"
    (folder / "policy").write_text(policy, encoding="ascii")


@contextmanager
def serving(folder: Path, size: int) -> Iterator[str]:
    """Run the log; gives its address."""
    words = [sys.executable, "-m", "bench.sparselog", "--records", str(folder / "records"), "--size", str(size)]
    with on_last_core():
        process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit("bench: the log did not start")
        yield line.removeprefix("listening on ").strip()
    finally:
        process.terminate()
        process.wait()


def ask(url: str) -> bytes:
    """Ask the log for something that only the benchmark asks for."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own server on loopback
        body: bytes = answer.read()
    return body


def check(folder: Path, url: str, state: Path, *more: str, is_online: bool = True) -> Figures:
    """Run the command once."""
    ask(f"{url}/-/sent")
    log = f"{KEY.verifier}={url}" if is_online else str(KEY.verifier)
    words = [PROGRAM, "check", str(folder / "package-lock.json"), "--sumdb", log, "--policy", str(folder / "policy")]
    usage = run_measured([*words, "--state", str(state), *more])
    return Figures(usage.wall, usage.cpu, int(ask(f"{url}/-/sent")), usage.rss)


def measure(folder: Path, url: str, size: int, number: int) -> dict[str, Figures]:
    """Run each row once, from an empty state."""
    state, bundle = folder / f"state-{number}", str(folder / "bundle")
    ask(f"{url}/-/show/{size}")
    rows = {"cold": check(folder, url, state, "--write-bundle", bundle), "warm": check(folder, url, state)}
    ask(f"{url}/-/show/{size + DAY}")
    rows["a day later"] = check(folder, url, state)
    rows["offline, from a bundle"] = check(folder, url, state, "--bundle", bundle, is_online=False)
    usage = run_measured([PROGRAM, "check", "--help"])
    rows["start-up alone"] = Figures(usage.wall, usage.cpu, 0, usage.rss)
    return rows


def main(arguments: list[str]) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench check", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--entries", type=int, default=1500)
    parser.add_argument("--size", type=int, default=40_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, options.entries)
        with serving(folder, options.size) as url:
            rounds = [measure(folder, url, options.size, number) for number in range(options.rounds)]
    print(f"{options.entries} entries, a simulated log of {options.size:,} records; medians of {options.rounds} rounds")
    print(f"{'row':<26}{'wall s':>8}{'CPU s':>8}{'MB sent':>9}{'kB each':>9}{'RSS MB':>8}")
    rows = {row: _median([found[row] for found in rounds]) for row in rounds[0]}
    for row, found in rows.items():
        each = found.sent / options.entries / 1000
        print(f"{row:<26}{found.wall:>8.2f}{found.cpu:>8.2f}{found.sent / MB:>9.2f}{each:>9.2f}{found.rss / MB:>8.0f}")
    print(format_goal("cold check, seconds", rows["cold"].wall, 10.0))
    print(format_goal("cold check, MB downloaded", rows["cold"].sent / MB, 5.0))
    print(format_goal("warm check, seconds", rows["warm"].wall, 1.0))
    beyond = rows["warm"].wall - rows["start-up alone"].wall
    print(format_goal("warm check beyond start-up, seconds", beyond, None))
    return 0


def _median(found: list[Figures]) -> Figures:
    return Figures(
        statistics.median(item.wall for item in found),
        statistics.median(item.cpu for item in found),
        round(statistics.median(item.sent for item in found)),
        round(statistics.median(item.rss for item in found)),
    )
