"""A process that imports everything once and forks a child for each sync, so that a trial costs milliseconds.

Each line of standard input is a JSON object with "storage", "registry", "names" and "kill_after"; for each a child
runs one sync, is killed after that many seconds (null: never), and its wait status is printed. The parent kills before
it waits, so the process id cannot be another's. ``python -m tests.fault.kill_worker``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time

import trio

from mirrorwitness.config import Config, Registry
from mirrorwitness.config.options import Limits
from mirrorwitness.config.quantities import Count
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.run.jobs import run_sync
from mirrorwitness.run.session import Wishes


def sync(storage: str, registry: str, names: list[str]) -> int:
    """Run one sync as `mirrorwitness sync --once` does, and return its exit code."""
    config = Config(storage=storage, registries=(Registry(url=registry),), limits=Limits(requests_per_second=Count(0)))
    wishes = Wishes(config=config, rules=tuple(parse_rule(name, origin="a trial") for name in names))
    return int(trio.run(run_sync, wishes, SilentProgress()).exit_code())


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(sync(wanted["storage"], wanted["registry"], wanted["names"]))
        if wanted["kill_after"] is not None:
            time.sleep(wanted["kill_after"])
            os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
