"""Sequencers that are killed while they log: nothing acknowledged is lost, no two heads contradict each other."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import trio

from mirrorwitness.storage.address import open_storage
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import open_checkpoint
from tests.fault.sequencing import Told, Turn
from tests.unit.sumdb.logs import KEYS, ORIGIN, begin_log, make_proposals, reopen

if TYPE_CHECKING:
    import random
    from pathlib import Path

    from mirrorwitness.sumdb.faults import Fault

__all__ = ["begin", "check", "kill_sequencers"]

VERIFIERS = [key.verifier for key in KEYS]
SECONDS = 0.25
"""A sequencer has opened the log after some 20 ms, and each of its batches takes 5 to 50, on a machine with time."""

OPEN = 0.7
"""How many have opened the log before their time begins; the others are met while they complete the last batch."""

LONGER, SHORTER = 1.5, 0.9
"""How the time within which they are killed follows what the kills meet: most meet one at work."""


async def begin(storage: str) -> None:
    """Begin a log."""
    async with open_storage(storage) as opened:
        await begin_log(opened)


async def check(storage: str, told: list[Told]) -> int:
    """Open the log as the next sequencer does, and hold it to everything that was told; return its size."""
    async with open_storage(storage) as opened:
        log = await reopen(opened)
        prover = Prover(StoredLog(opened))
        head = open_checkpoint(log.head, VERIFIERS, origin=ORIGIN).checkpoint
        for each in told:
            earlier = open_checkpoint(each.head.encode(), VERIFIERS, origin=ORIGIN).checkpoint
            assert earlier.size <= head.size, f"{earlier} was answered, and the log is at {head}"
            assert await prover.root(earlier.size) == earlier.root
            offered = make_proposals(each.start, each.start + len(each.indexes))
            for index, proposal in list(zip(each.indexes, offered, strict=True))[:: max(1, len(offered) // 5)]:
                assert await prover.entry(index, head.size) == proposal.body
        faults: list[Fault] = []
        report = await fsck(opened, on_fault=faults.append)
        assert faults == []
        assert (report.size, report.root, report.staged) == (head.size, head.root, 0)
        return head.size


def read_told(path: Path) -> list[Told]:
    """Return all that sequencers were told."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [Told(**json.loads(line)) for line in lines]


def kill_sequencers(storage: str, told: Path, chance: random.Random, *, kills: int, seconds: float = SECONDS) -> int:
    """Kill sequencers of one log, check it after each, and return how many entries it has at last.

    Args:
        storage: its address; there is nothing yet.
        told: a file for what the sequencers were told.
        chance: where the moments come from.
        kills: how many.
        seconds: within which time they are killed at first.
    """
    trio.run(begin, storage)
    command = [sys.executable, "-m", "tests.fault.sequencing"]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    size = met = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=inherited) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(kills):
            is_open = chance.random() < OPEN
            turn = Turn(storage, str(told), chance.randrange(10**9), chance.uniform(0, seconds), is_open)
            process.stdin.write(turn.format())
            process.stdin.flush()
            assert int(process.stdout.readline()) == signal.SIGKILL, "a sequencer ended by itself"
            now = trio.run(check, storage, read_told(told))
            met += now > size
            seconds *= SHORTER if now > size else LONGER
            size = now
        process.stdin.close()
        assert process.wait(timeout=30) == 0
    assert met > kills / 4, "most sequencers were killed before they had logged anything"
    return size
