"""A log mirror's copy and its cosignatures, whatever becomes of its processes and clients.

Random histories: one or two processes at a time over one storage, each killed at some operation or not; clients that
bring checkpoints, entries from anywhere in any number, old tickets, and those of a fork; pulls beside pushes. After
each generation of processes everything that was published is checked against the log, tile by tile.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio

from mirrorwitness.errors import RolledBackError, StorageError
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.logmirror.protocol import parse_info
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from mirrorwitness.witness.feeder import Action
from tests.fault.dying import DyingStorage, run_until_death
from tests.unit.logmirror.sources import LabSource
from tests.unit.logmirror.test_puller import make_puller
from tests.unit.logmirror.world import LAB, MirrorWorld, add, body_of, check_copy, lines_of, next_of, receiver

if TYPE_CHECKING:
    from mirrorwitness.logmirror.service import LogMirror

HISTORIES: Final = int(os.environ.get("FUZZ_EXAMPLES") or 120)
PARTS: Final = 4
LARGEST: Final = 1600
FORK: Final = LAB.fork(3)
"""A fork that no checkpoint of a history can be consistent with: the first one has at least 4 entries."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass
class History:
    """What clients know, and what was answered.

    Attributes:
        chance: makes the choices.
        world: what outlives processes.
        pending: size of the largest checkpoint that was taken.
        next_entry: what clients were told last.
        tickets: size → ticket.
        answered: sizes of all trees whose cosignature was given to somebody.
        refused: how often a fork was refused.
    """

    chance: random.Random
    world: MirrorWorld = field(default_factory=MirrorWorld)
    pending: int = 0
    next_entry: int = 0
    tickets: dict[int, bytes] = field(default_factory=dict[int, bytes])
    answered: list[int] = field(default_factory=list[int])
    refused: int = 0

    async def live(self, storage: DyingStorage | None) -> None:
        """Do what a process is asked to do in its life."""
        try:
            mirror = await self.world.start(storage=storage or self.world.storage)
        except (StorageError, RolledBackError):  # two begin over an empty storage; the last start of all has to work
            return
        for _ in range(self.chance.randint(1, 6)):
            step = self.chance.choice((self.grow, self.push, self.push, self.push, self.pull, self.lie, self.refresh))
            await step(mirror)

    async def grow(self, mirror: LogMirror) -> None:
        """Bring a larger checkpoint."""
        old = self.pending
        size = min(LARGEST, max(4, old + self.chance.randint(0, 400)))
        given = await mirror.add_checkpoint(add(old, size))
        assert given.status in {200, 409, 503}, given
        if given.status == 200:
            self.pending = max(self.pending, size)
        elif given.status == 409:
            self.pending = int(given.body)

    async def push(self, mirror: LogMirror) -> None:
        """Bring entries, from where clients were told or from elsewhere, all or the first packages."""
        size = self.chance.choice((self.pending, self.pending, *self.tickets))
        start = max(0, min(size, self.next_entry + self.chance.choice((0, 0, 0, -1, -300, 5))))
        packages = self.chance.choice((None, None, 1, 2))
        body = body_of(start, size, ticket=self.tickets.get(size, b""), packages=packages)
        cut = len(body) - self.chance.choice((0, 0, 0, 1))
        given = await mirror.add_entries(receiver(*[body[at : at + 9000] for at in range(0, cut, 9000)]))
        assert given.status in {200, 202, 400, 409, 422, 503}, given
        if given.status == 422:
            assert not size, "nothing but the want of a checkpoint is a reason"
        if given.status == 200:
            lines_of(given, size)
            self.answered.append(size)
        if given.status in {202, 409}:
            info = parse_info(given.body)
            self.tickets[info.size] = info.ticket
            self.next_entry = info.next_entry

    async def pull(self, mirror: LogMirror) -> None:
        """Let the mirror read the log."""
        size = min(LARGEST, max(4, self.pending + self.chance.choice((0, 0, 70))))
        polled = await make_puller(self.world, mirror, LabSource(LAB, size), refresh=0).poll()
        assert polled.action in {Action.COSIGNED, Action.REFRESHED, Action.REFUSED, Action.BEHIND, Action.OLDER_HEAD}
        if polled.action in {Action.COSIGNED, Action.REFRESHED}:
            self.pending = max(self.pending, size)
            self.answered.append(size)

    async def lie(self, mirror: LogMirror) -> None:
        """Bring a checkpoint, and entries, of a fork: the log's key signed them."""
        if not self.pending:
            return
        size = self.pending + self.chance.randint(0, 9)
        given = await mirror.add_checkpoint(add(self.pending, size, FORK))
        assert given.status in {409, 422, 503}, given
        given = await mirror.add_entries(receiver(body_of(0, self.pending, lab=FORK)))
        assert given.status in {409, 422, 503}, given
        self.refused += 1

    async def refresh(self, mirror: LogMirror) -> None:
        """Ask for a fresh cosignature of what was signed."""
        self.world.clock.at += self.chance.choice((1, 60))
        size = self.chance.choice(self.answered or [0])
        given = await mirror.add_entries(receiver(body_of(size, size)))
        assert given.status in {200, 409, 422, 503}, given
        if given.status == 200:
            lines_of(given, size)

    def check(self, before: int | None) -> int | None:
        """Check all that is published and remembered; return the size of the tree."""
        size = self.world.size()
        if size is not None:
            check_copy(self.world, size)
            assert len(self.world.storage.objects) < MAX_NOTE_BYTES
        assert (size or 0) >= (before or 0)
        assert (size or 0) >= max(self.answered, default=0)
        if self.world.state_key in self.world.storage.objects:
            for at in range(next_of(self.world) // 256):
                assert tile_key(LAB.origin, EntriesTile(at, 256)) in self.world.storage.objects
                assert tile_key(LAB.origin, Tile(0, at, 256)) in self.world.storage.objects
        return size


async def play(seed: int) -> History:
    """Play one history."""
    history = History(random.Random(seed))  # noqa: S311 - a test's
    chance, size = history.chance, None
    for _ in range(chance.randint(2, 6)):
        async with trio.open_nursery() as nursery:
            for _ in range(chance.choice((1, 1, 2))):
                if chance.random() < 0.4:
                    nursery.start_soon(history.live, None)
                    continue
                late = chance.random() < 0.5
                dying = DyingStorage(history.world.storage, operations=chance.randint(1, 90), is_late=late)
                nursery.start_soon(run_until_death, dying, partial(history.live, dying))
        size = history.check(size)
    final = await history.world.start()
    await history.grow(final)
    await history.pull(final)
    history.check(size)
    return history


@pytest.mark.parametrize("part", range(PARTS))
async def test_copies_and_cosignatures_are_right_in_every_history(part: int) -> None:
    """Nothing that is published was ever not the log's, or not whole; nothing goes back; forks are never taken."""
    signed = refused = 0
    for number in range(HISTORIES // PARTS):
        seed = part * 1_000_000 + number
        try:
            history = await play(seed)
        except BaseException as error:
            error.add_note(f"history {seed}")
            raise
        signed += len(history.answered)
        refused += history.refused
    assert signed > HISTORIES // PARTS
    assert refused
