"""A process that imports everything once, forks a sequencer for each line, and kills it: see `tests.fault.killing`.

Each line of standard input is a `Turn` as JSON. What the sequencer was told of each batch stands in the file ``told``,
one JSON line each, written before the next batch begins. ``python -m tests.fault.sequencing``.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import boto3  # noqa: F401 # pyright: ignore[reportUnusedImport] - the children find it there
import trio

from mirrorwitness.storage.address import open_storage
from mirrorwitness.sumdb.log import open_log
from tests.unit.sumdb.logs import KEYS, ORIGIN, make_proposals

if TYPE_CHECKING:
    from mirrorwitness.sumdb.log import Log

__all__ = ["Told", "Turn"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One life of a sequencer.

    Attributes:
        storage: address of the log.
        told: path of the file.
        seed: decides what it offers.
        kill_after: seconds after which it is killed.
        is_open: whether they count from when it has opened the log, and not from its start.
    """

    storage: str
    told: str
    seed: int
    kill_after: float
    is_open: bool

    def format(self) -> str:
        """Write the line."""
        return json.dumps(asdict(self)) + "\n"


@dataclass(frozen=True, slots=True)
class Told:
    """What was answered for one batch.

    Attributes:
        start: number of the first proposal; the others follow.
        indexes: the leaf of each.
        head: the signed checkpoint that held them.
    """

    start: int
    indexes: list[int]
    head: str


async def sequence(turn: Turn, ready: int) -> None:
    """Append for ever: mostly what is new, sometimes what was offered before."""
    chance = random.Random(turn.seed)  # noqa: S311
    async with open_storage(turn.storage) as storage:
        log = await open_log(storage, origin=ORIGIN, keys=KEYS, now=time.time)
        os.write(ready, b"!")
        while True:
            await _append(log, turn, chance)


async def _append(log: Log, turn: Turn, chance: random.Random) -> None:
    start = max(0, log.size - chance.choice([0, 0, 0, 7]))
    done = await log.append(make_proposals(start, start + chance.choice([1, 2, 30, 300])))
    told = Told(start, [each.index for each in done], log.head.decode())
    descriptor = os.open(turn.told, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (json.dumps(asdict(told)) + "\n").encode())
    os.close(descriptor)
    if chance.random() < 0.3:
        await log.publish(log.head)


def main() -> None:
    """Fork a child for each line."""
    for line in sys.stdin:
        turn = Turn(**json.loads(line))
        is_ready, ready = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                trio.run(sequence, turn, ready)
            finally:
                os._exit(1)
        os.close(ready)
        if turn.is_open:
            os.read(is_ready, 1)
        os.close(is_ready)
        time.sleep(turn.kill_after)
        os.kill(child, signal.SIGKILL)
        print(os.WTERMSIG(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201 - the protocol


if __name__ == "__main__":
    main()
