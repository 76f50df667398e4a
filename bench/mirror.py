"""A cold mirror of real tarballs, and the run after it, beside a plain Python pipeline and rclone.

    python -m bench mirror [--packages 250] [--versions 10] [--rounds 3] [--only file|s3]

Everything runs on loopback: nginx serves the registry from files, with ETag and gzip, on the last core with the S3
server; the measured process has the first core to itself. mirrorwitness runs as its command does, start-up included,
with verification on (SHA-512, registry signatures), into ``file:`` and into SeaweedFS. It verifies and records;
rclone copies the same tarballs and checks nothing.

What is printed: each figure is the median of the rounds, which are interleaved; then each goal with the ratio found.
Goals are for reading, never asserted: a busy machine misses them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import boto3

from bench.corpus import find_tarballs, lay_out
from bench.processes import ROOT, Usage, delayed, free_port, is_pinned, nginx, run_measured, wait_for_port
from tests.real.servers import NotInstalledError, S3Server, seaweedfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.corpus import Corpus

__all__ = ["main", "mirror_command"]

LATENCY_MS: Final = 40
MB: Final = 1_000_000
RCLONE: Final = (ROOT / ".cache/bench/bin/rclone", ROOT / ".cache/real/odd/bin/rclone")


@dataclass(frozen=True, slots=True)
class Setting:
    """What a benchmark runs in.

    Attributes:
        scratch: a directory of its own.
        corpus: what is served.
        base: the registry.
        log: nginx's access log.
        slow_base: the same registry behind a front with latency.
        server: the S3 server, or None.
        slow_endpoint: the S3 server behind latency.
        buckets: gives a new bucket each time.
        results: usages by row.
    """

    scratch: Path
    corpus: Corpus
    base: str
    log: Path
    slow_base: str
    server: S3Server | None
    slow_endpoint: str
    buckets: Iterator[str]
    results: dict[str, list[Usage]] = field(default_factory=dict)


def environment(server: S3Server | None, *, in_flight: int, packages: int | None = None) -> dict[str, str]:
    """Return the settings of a run: no politeness towards ourselves, and the wanted concurrency."""
    settings = {
        "MIRRORWITNESS_LIMITS_REQUESTS_PER_SECOND": "0",
        "MIRRORWITNESS_LIMITS_CONCURRENCY": str(in_flight),
        "MIRRORWITNESS_LIMITS_CONNECTIONS": str(in_flight),
        "MIRRORWITNESS_LIMITS_PACKAGES": str(packages or max(32, in_flight // 2)),
        "NO_PROXY": "127.0.0.1",
        "PYTHONPATH": str(ROOT),
    }
    return {**settings, **(server.environment() if server else {})}


def mirror_command(names: tuple[str, ...], *, base: str, storage: str) -> list[str]:
    """Return the command of one run."""
    python = [sys.executable, "-m", "mirrorwitness", "sync", "--once", "--json", "--signatures", "require"]
    return [*python, "--registry", base, "--storage", storage, *names]


def main(arguments: list[str]) -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(prog="python -m bench mirror", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--packages", type=int, default=250)
    parser.add_argument("--versions", type=int, default=10, help="tarballs of each package")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("file", "s3"))
    parser.add_argument("--rows", default="", help="only rows whose name has this text")
    options = parser.parse_args(arguments)
    with ExitStack() as stack:
        setting = _prepare(stack, options)
        rows = {name: run for name, run in _rows(setting, options.only).items() if options.rows in name}
        for number in range(options.rounds):
            for name, run in rows.items():
                print(f"round {number + 1}: {name} …", file=sys.stderr, flush=True)
                run()
        _print(setting)


def _prepare(stack: ExitStack, options: argparse.Namespace) -> Setting:
    scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mirrorwitness-bench-")))
    wanted = options.packages * options.versions
    tarballs, is_real = find_tarballs(scratch / "made-up", most=wanted)
    port, slow = free_port(), free_port()
    layout = {"packages": options.packages, "versions": options.versions}
    corpus = lay_out(scratch / "www", tarballs, base=f"http://127.0.0.1:{port}", **layout)
    lay_out(scratch / "slow", tarballs, base=f"http://127.0.0.1:{slow}", **layout)
    log = stack.enter_context(nginx(scratch / "www", scratch / "nginx", port))
    slow_port = free_port()
    stack.enter_context(nginx(scratch / "slow", scratch / "nginx-slow", slow_port))
    stack.enter_context(delayed(slow_port, slow, milliseconds=LATENCY_MS))
    server, slow_endpoint = None, ""
    if options.only != "file":
        server, slow_endpoint = _start_s3(stack)
    kind = "real tarballs" if is_real else "made-up bodies (no npm cache was found)"
    print(
        f"{len(corpus.files):,} tarballs of {len(corpus.names):,} packages, {corpus.size / MB:,.0f} MB: {corpus.unique:,}"
        f" different {kind}; {'a core each' if is_pinned() else 'cores shared'} for the measured process and the servers"
    )
    (scratch / "names").write_text("\n".join(corpus.names), encoding="utf-8")
    (scratch / "files").write_text("\n".join(corpus.files), encoding="utf-8")
    base = f"http://127.0.0.1:{port}"
    buckets = _buckets(server)
    return Setting(scratch, corpus, base, log, f"http://127.0.0.1:{slow}", server, slow_endpoint, buckets)


def _start_s3(stack: ExitStack) -> tuple[S3Server | None, str]:
    before = os.sched_getaffinity(0)
    try:
        if is_pinned():
            os.sched_setaffinity(0, {max(before)})  # the server inherits it
        server = stack.enter_context(seaweedfs())
    except NotInstalledError as error:
        print(f"skipped: S3, {error}")
        return None, ""
    finally:
        os.sched_setaffinity(0, before)
    target = int(server.endpoint.rpartition(":")[2])
    port = stack.enter_context(delayed(target, free_port(), milliseconds=LATENCY_MS))
    wait_for_port(port)
    return server, f"http://127.0.0.1:{port}"


def _buckets(server: S3Server | None) -> Iterator[str]:
    number = 0
    while server is not None:
        number += 1
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )
        client.create_bucket(Bucket=f"bench-{number}")
        client.close()
        yield f"bench-{number}"


def _rows(setting: Setting, only: str | None) -> dict[str, Callable[[], None]]:
    rows: dict[str, Callable[[], None]] = {}
    if only != "s3":
        rows |= _file_rows(setting)
    if only != "file" and setting.server is not None:
        rows |= _s3_rows(setting, setting.server)
    return rows


def _file_rows(setting: Setting) -> dict[str, Callable[[], None]]:
    def ours(row: str, in_flight: int, query: str = "") -> None:
        storage = f"file:{_new_directory(setting)}/mirror{query}"
        _sync(setting, row, setting.base, storage, environment(None, in_flight=in_flight))
        if row == "file: ours":
            _again(setting, "file: ours, nothing changed", storage, environment(None, in_flight=in_flight))

    def plain() -> None:
        target = _new_directory(setting)
        command = [sys.executable, "-m", "bench.plain", setting.base, str(setting.scratch / "names"), "32", target]
        _add(setting, "file: plain httpx", run_measured(command, environment=environment(None, in_flight=32)))

    def rclone() -> None:
        _rclone(setting, "file: rclone", _new_directory(setting), environment(None, in_flight=32))

    return {
        "file: ours": lambda: ours("file: ours", 32),
        "file: ours, fsync=off": lambda: ours("file: ours, fsync=off", 32, "?fsync=off"),
        "file: plain httpx": plain,
        "file: rclone": rclone,
    }


def _s3_rows(setting: Setting, server: S3Server) -> dict[str, Callable[[], None]]:
    def ours(row: str, in_flight: int) -> None:
        storage = server.address(next(setting.buckets))
        _sync(setting, row, setting.base, storage, environment(server, in_flight=in_flight))
        if row == "s3: ours, 32 in flight":
            _again(setting, "s3: ours, nothing changed", storage, environment(server, in_flight=in_flight))

    def slow() -> None:
        storage = server.address(next(setting.buckets)).replace(
            server.endpoint.rpartition(":")[2], setting.slow_endpoint.rpartition(":")[2]
        )
        # 64 tarballs in flight; packages enough that their own requests never leave a place for a tarball empty.
        settings = environment(server, in_flight=64, packages=256)
        settings["MIRRORWITNESS_LIMITS_CONNECTIONS"] = "128"
        _sync(setting, f"s3: ours, 64 in flight, {LATENCY_MS} ms", setting.slow_base, storage, settings)

    def plain() -> None:
        target = [server.endpoint, next(setting.buckets)]
        command = [sys.executable, "-m", "bench.plain", setting.base, str(setting.scratch / "names"), "32", *target]
        _add(setting, "s3: plain httpx + boto3", run_measured(command, environment=environment(server, in_flight=32)))

    def rclone() -> None:
        settings = environment(server, in_flight=32)
        settings |= {"RCLONE_S3_ENDPOINT": server.endpoint, "RCLONE_S3_PROVIDER": "SeaweedFS"}
        settings |= {
            "RCLONE_S3_ENV_AUTH": "true",
            "RCLONE_S3_REGION": server.region,
            "RCLONE_S3_NO_CHECK_BUCKET": "true",
        }
        _rclone(setting, "s3: rclone", f":s3:{next(setting.buckets)}/npm", settings)

    return {
        "s3: ours, 32 in flight": lambda: ours("s3: ours, 32 in flight", 32),
        "s3: ours, 256 in flight": lambda: ours("s3: ours, 256 in flight", 256),
        "s3: ours, latency": slow,
        "s3: plain httpx + boto3": plain,
        "s3: rclone": rclone,
    }


def _new_directory(setting: Setting) -> str:
    """Make a directory that stays until the end.

    ext4 gives no inode out again for a minute after it was freed, and looks for another one by one, so a run after a
    large removal would pay three times its own system time.
    """
    return tempfile.mkdtemp(dir=setting.scratch)


def _add(setting: Setting, row: str, usage: Usage) -> None:
    setting.results.setdefault(row, []).append(usage)


def _sync(setting: Setting, row: str, base: str, storage: str, settings: dict[str, str]) -> None:
    command = mirror_command(setting.corpus.names, base=base, storage=storage)
    _add(setting, row, run_measured(command, environment=settings))


def _again(setting: Setting, row: str, storage: str, settings: dict[str, str]) -> None:
    """Run once more over a mirror that is complete, and count what upstream saw."""
    setting.log.write_bytes(b"")
    _sync(setting, row, setting.base, storage, settings)
    asked = setting.log.read_text(encoding="ascii").splitlines()
    bodies = sum(line.split()[1] == "200" for line in asked if "/-/npm/v1/keys" not in line)
    setting.results[row][-1] = Usage(
        *(getattr(setting.results[row][-1], name) for name in ("wall", "cpu", "rss")), f"{len(asked)} {bodies}", 0
    )


def _rclone(setting: Setting, row: str, target: str, settings: dict[str, str]) -> None:
    program = next((path for path in RCLONE if path.exists()), None)
    if program is None:
        print(f"skipped: {row}, rclone is not installed (python -m bench --install)")
        return
    flags = ["--transfers", "32", "--checkers", "32", "--no-traverse", "--http-no-head", "--retries", "1"]
    listed = ["--files-from-raw", str(setting.scratch / "files"), "--http-url", setting.base]
    settings = {**settings, "RCLONE_CONFIG": "/dev/null"}
    _add(
        setting,
        row,
        run_measured([str(program), "copy", *flags, *listed, ":http:", target], environment=settings),
    )


def _print(setting: Setting) -> None:
    corpus, results = setting.corpus, setting.results
    count = len(corpus.files)
    print(
        f"\n{'cold run':<36}{'wall s':>8}{'CPU s':>8}{'packages/s':>12}{'tarballs/s':>12}{'MB/s':>8}"
        f"{'CPU s/1000 tarballs':>21}{'peak RSS MB':>13}"
    )
    for row, usages in results.items():
        wall, cpu = _median(usages, "wall"), _median(usages, "cpu")
        rates = f"{len(corpus.names) / wall:>12,.0f}{count / wall:>12,.0f}{corpus.size / MB / wall:>8,.0f}"
        rss = _median(usages, "rss") / MB
        print(f"{row:<36}{wall:>8.2f}{cpu:>8.2f}{rates}{cpu / count * 1000:>21.2f}{rss:>13.0f}")
    print()
    for goal in _goals(setting):
        print(goal)


def _goals(setting: Setting) -> Iterator[str]:
    found = setting.results

    def ratio(text: str, field_name: str, one: str, other: str, goal: str) -> Iterator[str]:
        if one in found and other in found:
            yield f"{text}: {_median(found[one], field_name) / _median(found[other], field_name):.3f} (goal {goal})"

    fast = "s3: ours, 32 in flight"
    yield from ratio("CPU of ours / plain pipeline, file:", "cpu", "file: ours", "file: plain httpx", "≤ 0.33")
    yield from ratio("CPU of ours / plain pipeline, s3:", "cpu", fast, "s3: plain httpx + boto3", "≤ 0.33")
    yield from ratio("CPU of ours / rclone, file:", "cpu", "file: ours", "file: rclone", "≤ 1.75")
    yield from ratio("CPU of ours / rclone, s3:", "cpu", fast, "s3: rclone", "≤ 1.75")
    yield from ratio("throughput at 256 in flight / 32, by wall", "wall", fast, "s3: ours, 256 in flight", "≥ 0.8")
    yield from ratio("throughput at 256 in flight / 32, by CPU", "cpu", fast, "s3: ours, 256 in flight", "≥ 0.8")
    slow = f"s3: ours, 64 in flight, {LATENCY_MS} ms"
    if slow in found:
        ideal = 64 / (2 * LATENCY_MS / 1000)
        rate = len(setting.corpus.files) / _median(found[slow], "wall")
        yield f"tarballs/s with {LATENCY_MS} ms on every GET and PUT / ideal {ideal:.0f}: {rate / ideal:.2f} (goal ≥ 0.65)"
    ours = [usage.rss for row, usages in found.items() if "ours" in row for usage in usages]
    if ours:
        yield f"largest peak RSS of ours: {max(ours) / MB:.0f} MB (goal ≤ 150)"
    for kind, cold in (("file", "file: ours"), ("s3", fast)):
        again = f"{kind}: ours, nothing changed"
        yield from ratio(f"time of a run that finds nothing changed / cold, {kind}:", "wall", again, cold, "< 0.05")
        if again in found:
            asked, bodies = found[again][-1].output.split()
            each = int(asked) / len(setting.corpus.names)
            yield f"  upstream requests per package {each:.3f} (goal ≤ 1, and the keys), bodies {bodies} (goal 0)"


def _median(usages: list[Usage], name: str) -> float:
    return statistics.median(getattr(usage, name) for usage in usages)
