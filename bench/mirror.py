"""A cold mirror of real tarballs, and the run after it, beside bandersnatch, rclone and a plain Python pipeline.

    python -m bench mirror [--packages 250] [--versions 10] [--rounds 3] [--only file|s3|wall] [--rows TEXT]

Everything runs on loopback (`bench.setting`); the measured process has the first core to itself. mirrorwitness runs as
its command does, start-up included, with verification on (SHA-512, registry signatures), and records what it did.

What is printed: each figure is the median of the rounds, which are interleaved; then each goal with the ratio found,
as a whole and beyond start-up. Goals are for reading, never asserted: a busy machine misses them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Final

from bench import peers
from bench.goals import FIRST, NOTHING, ONE, START, print_goals, print_table
from bench.processes import run_measured
from bench.setting import LATENCY_MS, SINK_KEYS, environment, mirror_command, open_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.setting import Setting, Sink
    from tests.real.servers import S3Server

__all__ = ["main"]

SLOW: Final = (32, 64)
"""Tarballs in flight in the rows with latency. At 64 the ideal is 800 a second: more than one core of ours does."""

SLOW_PACKAGES: Final = 128
"""Packages in work in those rows: enough that their own requests never leave a tarball's place empty."""

Rows = dict[str, "Callable[[], None]"]


def main(arguments: Sequence[str]) -> int:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m bench mirror", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=int, default=250)
    parser.add_argument("--versions", type=int, default=10, help="tarballs of each package")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--only", choices=("file", "s3", "wall"), help="rows into a directory, SeaweedFS, the fast sink"
    )
    parser.add_argument("--rows", default="", help="only rows whose name has this text")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        setting = open_setting(stack, packages=options.packages, versions=options.versions, only=options.only)
        rows: Rows = {START: lambda: _version(setting)}
        rows |= {name: run for name, run in _rows(setting, options.only).items() if options.rows in name}
        loads = [os.getloadavg()[0]]
        for number in range(options.rounds):
            for name, run in rows.items():
                print(f"round {number + 1}: {name} …", file=sys.stderr, flush=True)
                run()
            loads.append(os.getloadavg()[0])
        print("load average before and after each round: " + ", ".join(f"{load:.1f}" for load in loads))
        print_table(setting)
        print_goals(setting)
    return 0


def _rows(setting: Setting, only: str | None) -> Rows:
    rows: Rows = {}
    if only in {None, "file"}:
        rows |= _file_rows(setting)
    if only in {None, "s3"} and setting.server is not None:
        rows |= _s3_rows(setting, setting.server)
    if only in {None, "wall"} and setting.sink is not None:
        rows |= _wall_rows(setting, setting.sink)
    return rows


def _version(setting: Setting) -> None:
    _run(setting, START, [sys.executable, "-m", "mirrorwitness", "--version"])


def _file_rows(setting: Setting) -> Rows:
    def ours(row: str, query: str) -> None:
        storage = f"file:{setting.new_directory()}/mirror{query}"
        _sync(setting, row, storage, environment())
        _again(setting, row, storage, environment())

    def plain() -> None:
        target = str(setting.new_directory())
        _run(setting, "start-up: plain, file", peers.plain(setting.base, setting.scratch / "none", 32, target))
        _run(setting, "file: plain httpx", peers.plain(setting.base, setting.scratch / "names", 32, target))

    def rclone() -> None:
        target = str(setting.new_directory())
        _run(setting, "start-up: rclone", peers.rclone(setting.base, setting.scratch / "none", 32, target))
        _run(setting, "file: rclone", peers.rclone(setting.base, setting.scratch / "files", 32, target))

    def bandersnatch() -> None:
        command = peers.bandersnatch(setting.base, setting.projects, setting.new_directory())
        _run(setting, "start-up: bandersnatch", command and [command[0], "--version"])
        _run(setting, "file: bandersnatch, 10 workers", command)

    return {
        "file: ours, fsync=off": lambda: ours("file: ours, fsync=off", "?fsync=off"),
        "file: ours, fsync=on": lambda: ours("file: ours, fsync=on", ""),
        "file: plain httpx": plain,
        "file: rclone": rclone,
        "file: bandersnatch": bandersnatch,
    }


def _s3_rows(setting: Setting, server: S3Server) -> Rows:
    keys = server.environment()

    def ours() -> None:
        storage = server.address(setting.new_bucket())
        _sync(setting, "s3: ours", storage, environment(keys))
        _again(setting, "s3: ours", storage, environment(keys))

    def plain() -> None:
        target = (server.endpoint, setting.new_bucket())
        settings = environment(keys)
        _run(setting, "start-up: plain, s3", peers.plain(setting.base, setting.scratch / "none", 32, *target), settings)
        _run(
            setting,
            "s3: plain httpx + boto3",
            peers.plain(setting.base, setting.scratch / "names", 32, *target),
            settings,
        )

    def rclone() -> None:
        target = f":s3:{setting.new_bucket()}/npm"
        command = peers.rclone(setting.base, setting.scratch / "files", 32, target)
        _run(setting, "s3: rclone", command, peers.rclone_environment(server))

    return {"s3: ours": ours, "s3: plain": plain, "s3: rclone": rclone}


def _wall_rows(setting: Setting, sink: Sink) -> Rows:
    def fast(in_flight: int) -> None:
        storage = sink.address(setting.new_directory().name, slow=False)
        _sync(setting, f"sink: ours, {in_flight} in flight", storage, environment(SINK_KEYS, in_flight=in_flight))

    def slow(in_flight: int) -> None:
        row = f"sink: ours, {in_flight} in flight, {LATENCY_MS} ms"
        storage = sink.address(setting.new_directory().name, slow=True)
        settings = environment(SINK_KEYS, in_flight=in_flight, packages=SLOW_PACKAGES, connections=SLOW_PACKAGES)
        before = sink.cpu_seconds()
        _sync(setting, row, storage, settings, base=sink.slow_base)
        usage = setting.results[row][-1]
        share = (sink.cpu_seconds() - before) / usage.wall
        setting.results[row][-1] = dataclasses.replace(usage, note=f"{share:.2f}")
        if in_flight == SLOW[0]:
            first = mirror_command(
                setting.corpus.names[:1],
                base=sink.slow_base,
                storage=sink.address(setting.new_directory().name, slow=True),
            )
            _run(setting, f"{row}{FIRST}", first, settings)
            _again(setting, row, storage, settings, base=sink.slow_base, log=sink.slow_log)

    def ceiling(in_flight: int) -> None:
        bucket = setting.new_directory().name
        ports = [sink.slow_base.rpartition(":")[2], str(sink.slow_port)]
        command = [
            sys.executable,
            "-m",
            "bench.ceiling",
            *ports,
            bucket,
            str(setting.scratch / "files"),
            str(in_flight),
        ]
        row = f"sink: ceiling, {in_flight} in flight, {LATENCY_MS} ms"
        before = sink.cpu_seconds()
        _run(setting, row, command)
        usage = setting.results[row][-1]
        share = (sink.cpu_seconds() - before) / usage.wall
        setting.results[row][-1] = dataclasses.replace(usage, note=f"{share:.2f}")

    rows: Rows = {f"sink: ours, {count}": partial(fast, count) for count in (32, 256)}
    rows |= {f"sink: ours, {count}, latency": partial(slow, count) for count in SLOW}
    return rows | {f"sink: ceiling, {count}, latency": partial(ceiling, count) for count in SLOW}


def _run(setting: Setting, row: str, command: Sequence[str] | None, settings: Mapping[str, str] | None = None) -> None:
    """Run a command once and keep what it used; None is a peer that is not installed."""
    if command is None:
        if row not in setting.results:
            print(f"skipped: {row}, not installed (scripts/bench/install tools)")
        return
    usage = run_measured(command, environment=settings or environment())
    setting.results.setdefault(row, []).append(usage)


def _sync(setting: Setting, row: str, storage: str, settings: Mapping[str, str], *, base: str = "") -> None:
    command = mirror_command(setting.corpus.names, base=base or setting.base, storage=storage)
    _run(setting, row, command, settings)


def _again(
    setting: Setting,
    row: str,
    storage: str,
    settings: Mapping[str, str],
    *,
    base: str = "",
    log: Path | None = None,
) -> None:
    """Run twice more over a mirror that is complete: one package of it, and all, counting what upstream saw."""
    log = log or setting.log
    command = mirror_command(setting.corpus.names[:1], base=base or setting.base, storage=storage)
    _run(setting, f"{row}{ONE}", command, settings)
    os.truncate(log, 0)
    _sync(setting, f"{row}{NOTHING}", storage, settings, base=base)
    asked = log.read_text(encoding="ascii").splitlines()
    answered = [re.split(" ", line) for line in asked if "/-/npm/v1/keys" not in line]
    bodies = sum(fields[1] == "200" for fields in answered)
    usages = setting.results[f"{row}{NOTHING}"]
    usages[-1] = dataclasses.replace(usages[-1], note=f"{len(answered)} {bodies}")
