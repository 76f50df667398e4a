"""A process that imports everything once and forks a child for each run, so that a trial costs milliseconds.

Each line of standard input is a `tests.fault.killing.Job` as JSON; for each a child does what `mirrorwitness sync` or
`mirrorwitness audit` does, is killed after ``kill_after`` seconds (null: never), and its wait status is printed. The
parent kills before it waits, so the process id cannot be another's. ``python -m tests.fault.kill_worker``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import timedelta
from typing import Any
from unittest import mock

import boto3  # noqa: F401 - the product imports it where it is used; the children find it there
import msgspec
import trio

from mirrorwitness.config import Config, Registry
from mirrorwitness.config.options import Feed, Limits
from mirrorwitness.config.quantities import Count, Seconds
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.mirror.shards import WHOLE
from mirrorwitness.run import following, jobs, mirroring
from mirrorwitness.run.session import Wishes, now

_LIMITS = Limits(requests_per_second=Count(0), retries=Count(1))
_FEED = Feed(
    idle_least=Seconds(0.005), idle_most=Seconds(0.02), reread_every=Seconds(0.05), confirm_deletion=Seconds(0)
)


async def work(kind: str, wishes: Wishes) -> int:
    """Do what the command does, and return its exit code."""
    if kind in {"follow", "once"}:
        following_run = following.run_follow(wishes, SilentProgress(), shard=WHOLE, is_once=kind == "once")
        return int((await following_run).exit_code())
    if kind == "sync":
        return int((await mirroring.run_sync(wishes, SilentProgress())).exit_code())
    summary = await jobs.run_audit(wishes, SilentProgress(), sample=None, is_repair=kind == "repair")
    return int(summary.exit_code())


def run(wanted: dict[str, Any]) -> int:
    """Run one command as a process of its own would."""
    config = Config(
        storage=wanted["storage"],
        registries=(Registry(url=wanted["registry"]),),
        limits=_LIMITS,
        feed=msgspec.structs.replace(_FEED, url=wanted["feed"]),
    )
    rules = tuple(parse_rule(name, origin="a trial") for name in wanted["names"])
    shifted = mock.Mock(side_effect=lambda: now() + timedelta(days=wanted["days_ahead"]))
    mock.patch.object(mirroring, "now", shifted).start()
    return trio.run(work, wanted["kind"], Wishes(config=config, rules=rules))


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        wanted = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(run(wanted))
        if wanted["kill_after"] is not None:
            time.sleep(wanted["kill_after"])
            os.kill(child, signal.SIGKILL)
        print(os.waitpid(child, 0)[1], flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
