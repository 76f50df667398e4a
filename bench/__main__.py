"""Run benchmarks by name.

    python -m bench [mirror|download|packument|serve|memory|feed|witness|sumdb|check|all] [options]

``all``, the default, runs each with its own defaults, one after another: about 15 minutes. Each takes ``--help``.

mirror     a cold mirror of real tarballs and the run after it, beside bandersnatch, rclone, and httpx with boto3
memory     peak memory against the number of packages and the size of a tarball
download   our HTTP client beside stock httpx
packument  our reading of package documents beside orjson
serve      `mirrorwitness serve` beside Verdaccio and nginx
feed       rows of a feed decided, a day's changes, bytes written, faults noticed, at the registry's scale
witness    checkpoints cosigned a second, and a start with 40,000 logs
sumdb      records sequenced, bytes written, tiles of 10 million leaves, look-ups in them
check      a lockfile of 1,500 entries against a log of 40 million records, cold, warm and offline
"""

from __future__ import annotations

import importlib
import signal
import sys
import time
from typing import Final

NAMES: Final = ("mirror", "memory", "download", "packument", "serve", "feed", "witness", "sumdb", "check")


def main(arguments: list[str]) -> int:
    """Run what is named; 0 unless a benchmark could not run. A missed goal is printed, and no failure."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("all", [])
    if name in {"-h", "--help"}:
        print(__doc__)
        return 0
    if name not in {*NAMES, "all"}:
        print(f"bench: no benchmark {name!r}; known: {', '.join(NAMES)}, all", file=sys.stderr)
        return 2
    if name == "all" and rest:
        print("bench: all takes no options; name one benchmark", file=sys.stderr)
        return 2
    if name != "all":
        return _run(name, rest)
    for each in NAMES:
        print(f"\n=== {each} ===", flush=True)
        begin = time.monotonic()
        status = _run(each, [])
        if status:
            return status
        print(f"({each}: {time.monotonic() - begin:.0f} s)", flush=True)
    return 0


def _run(name: str, options: list[str]) -> int:
    # Imported when asked for: a measured process is often this one again, with another name.
    status: int = importlib.import_module(f"bench.{name}").main(options)
    return status


if __name__ == "__main__":
    # Ended from outside, a benchmark still stops the servers that it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
