"""One log, the sequencers that extend it, and everything that may happen to them: the histories of issue 5.

A history is a few rounds. In each one or two processes open the log and append, and each operation of theirs on the
storage takes its time, so that they meet in every order. A process is killed at any moment; what it had sent may then
arrive late. The storage fails, before an operation took effect or after it, when its answer is lost.

What was answered is collected (`World.acknowledged`), and every head that any storage ever had under its keys
(`Place.heads`). `World.check` recomputes the tree from the records and holds all of it to that.

Times are virtual and follow from the seed alone, not from the order in which tasks happen to run.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from mirrorwitness.errors import LogLostError, PreconditionFailedError, StorageUnavailableError
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.head import Identity, parse_head
from mirrorwitness.sumdb.log import Fate, Proposal, Sequenced, create_log, open_log
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint
from mirrorwitness.tlog.merkle import Hash, leaf_hash, root_of
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import KEYS, ORIGIN, make_proposal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from mirrorwitness.storage import Body, Listing, ObjectInfo, ObjectReader, Put
    from mirrorwitness.sumdb.faults import Fault

__all__ = ["World", "play"]

LOG_KEYS = KEYS[:1]
"""Ed25519 alone: the other algorithm takes a hundred times as long, and changes nothing here."""

IDENTITY = Identity(ORIGIN, tuple([key.verifier for key in LOG_KEYS]))
ROUNDS = 4
LATE = 30.0
"""Seconds after which what a dead process had sent has arrived: time for the next one to open the log and append."""

_T = TypeVar("_T")


class Place(MemoryStorage):
    """The storage, which remembers every head that it ever had.

    Attributes:
        heads: all of them.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads: list[Checkpoint] = []

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        info = await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        assert isinstance(body, bytes)
        if key == HEAD_KEY:
            self.heads.append(parse_head(body, IDENTITY).checkpoint)
        if key == CHECKPOINT_KEY:
            self.heads.append(open_checkpoint(body, IDENTITY.keys, origin=ORIGIN).checkpoint)
        return info


class Wire:
    """One process's way to the storage.

    Args:
        place: the storage.
        seed: decides how long each operation takes, and what becomes of it.
        faults: how many of a hundred operations fail.
        late: where what was on its way when the process died goes on.
    """

    def __init__(self, place: Place, *, seed: str, faults: int, late: trio.Nursery) -> None:
        self._place = place
        self._seed = seed
        self._faults = faults
        self._late = late
        self._counts: dict[tuple[str, str], int] = {}

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        return await self._act("read", key, partial(self._place.read, key, limit=limit))

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        return self._place.open(key, start=start, length=length)

    async def stat(self, key: str) -> ObjectInfo | None:
        return await self._act("stat", key, partial(self._place.stat, key))

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        work = partial(self._place.put, if_absent=if_absent, if_match=if_match, content_type=content_type)
        return await self._act("put", key, partial(work, key, body))

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        raise NotImplementedError("a log writes no pairs")

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        return await self._act("list", prefix, partial(self._place.list, prefix, after=after, limit=limit))

    async def delete(self, key: str) -> None:
        await self._act("delete", key, partial(self._place.delete, key))

    async def _act(self, operation: str, key: str, work: Callable[[], Awaitable[_T]]) -> _T:
        count = self._counts[operation, key] = self._counts.get((operation, key), 0) + 1
        chance = random.Random(f"{self._seed} {operation} {key} {count}")  # noqa: S311
        is_failing = chance.randrange(100) < self._faults
        is_late = chance.random() < 0.5
        try:
            await trio.sleep(chance.random())
            if is_failing and not is_late:
                raise StorageUnavailableError(f"{operation} {key}")
        except trio.Cancelled:
            if operation in {"put", "delete"} and is_late:
                self._late.start_soon(_arrive, chance.uniform(0, LATE), work)
            raise
        found = await work()
        await trio.sleep(chance.random())
        if is_failing:
            raise StorageUnavailableError(f"{operation} {key}, and its answer was lost")
        return found


async def _arrive(delay: float, work: Callable[[], Awaitable[object]]) -> None:
    await trio.sleep(delay)
    try:
        await work()
    except PreconditionFailedError:
        return


@dataclass
class World:
    """What happened.

    Attributes:
        place: the storage.
        acknowledged: what was answered, each record with its answer.
        kills: how many processes were killed at work.
        losses: how many stopped because another one extended the log.
    """

    place: Place = field(default_factory=Place)
    acknowledged: list[tuple[Proposal, Sequenced]] = field(default_factory=list)
    kills: int = 0
    losses: int = 0

    async def check(self) -> None:
        """Open the log once more, and hold everything that was said to what is there."""
        log = await open_log(self.place, origin=ORIGIN, keys=LOG_KEYS, now=lambda: 9e9)
        prover = Prover(StoredLog(self.place))
        entries = [await prover.entry(index, log.size) for index in range(log.size)]
        leaves = [Hash(leaf_hash(entry)) for entry in entries]
        for head in self.place.heads:
            assert head.size <= log.size, f"{head} was signed, and is gone"
            assert head.root == root_of(leaves[: head.size]), f"{head} is no earlier state of the log"
        for proposal, done in self.acknowledged:
            assert done.index < log.size, f"{proposal.record} was acknowledged, and is lost"
            if done.fate in {Fate.LOGGED, Fate.KNOWN}:
                assert entries[done.index] == proposal.body
        assert len(set(entries)) == len(entries), "a record was logged twice"
        faults: list[Fault] = []
        report = await fsck(self.place, on_fault=faults.append)
        assert faults == []
        assert (report.size, report.root, report.staged) == (log.size, root_of(leaves), 0)
        again = await log.append([proposal for proposal, _ in self.acknowledged])
        assert {done.fate for done in again} <= {Fate.KNOWN, Fate.KNOWN_CONFLICT}


async def play(seed: int) -> World:
    """Play one history, and check it."""
    chance = random.Random(seed)  # noqa: S311
    world = World()
    await create_log(world.place, origin=ORIGIN, keys=LOG_KEYS, now=0.0)
    for turn in range(ROUNDS):
        # The nursery for what is late is the outer one: a round ends when everything has arrived.
        count, losses = chance.choice([1, 1, 2, 3]), world.losses
        async with trio.open_nursery() as late, trio.open_nursery() as nursery:
            for number in range(count):
                wire = Wire(world.place, seed=f"{seed} {turn} {number}", faults=chance.choice([0, 0, 2, 10]), late=late)
                life = chance.choice([chance.uniform(0, 60), chance.uniform(0, 400), 1e6])
                nursery.start_soon(_live, world, wire, random.Random(chance.random()), life)  # noqa: S311
        assert count > 1 or world.losses == losses, "a sequencer that was alone thinks that there is another"
    await world.check()
    return world


async def _live(world: World, wire: Wire, chance: random.Random, life: float) -> None:
    """Live as a sequencer does, until it is lost, killed, or has nothing more to do."""
    with trio.move_on_after(life) as scope:
        try:
            await _sequence(world, wire, chance)
        except LogLostError:
            world.losses += 1
        except StorageUnavailableError:
            pass  # the log could not be opened
    world.kills += scope.cancelled_caught


async def _sequence(world: World, wire: Wire, chance: random.Random) -> None:
    log = await open_log(wire, origin=ORIGIN, keys=LOG_KEYS, now=trio.current_time)
    for _ in range(chance.randint(1, 5)):
        offered = [_any_proposal(chance) for _ in range(chance.choice([1, 3, 20, 150]))]
        try:
            done = await log.append(offered)
        except StorageUnavailableError:
            continue
        world.acknowledged += zip(offered, done, strict=True)
        if chance.random() < 0.5:
            try:
                await log.publish(log.head)
            except StorageUnavailableError:
                continue


def _any_proposal(chance: random.Random) -> Proposal:
    """Return the record of one of 400 versions, now and then with other bytes."""
    content = "swapped" if chance.random() < 0.02 else ""
    return make_proposal(f"p{chance.randrange(40)}", f"1.0.{chance.randrange(10)}", content=content)
