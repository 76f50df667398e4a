"""A log mirror's copy and its cosignatures, whatever becomes of its processes, its clients and its machine.

Random histories: one or two processes at a time over one storage, each killed at some operation or not; clients that
bring checkpoints, entries from anywhere in any number, old tickets, and those of a fork; pulls beside pushes; a machine
that loses power. After each generation of processes everything that was published is checked against the log, tile by
tile. No process ever finds its state rolled back, as nothing is restored here: a false alarm is as wrong as none.

Over every kind of storage of `tests.property.witness_places`: most in memory, where they are quick.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest
import trio
from trio.testing import MockClock

from mirrorwitness.errors import StorageError
from mirrorwitness.logmirror.paths import pending_key, tile_key
from mirrorwitness.logmirror.protocol import parse_info
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from mirrorwitness.witness.feeder import Action
from mirrorwitness.witness.protocol import Reason
from tests.fault.dying import DyingStorage, run_until_death
from tests.property.witness_places import (
    copy_objects,
    open_directories,
    open_hostile_buckets,
    open_memory,
    restore_objects,
)
from tests.unit.logmirror.sources import LabSource
from tests.unit.logmirror.test_puller import make_puller
from tests.unit.logmirror.world import LAB, MirrorWorld, add, body_of, check_copy, lines_of, next_of, receiver
from tests.unit.witness.world import MeddledStorage

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.storage import Storage
    from mirrorwitness.witness.protocol import Answer
    from tests.property.witness_places import Place

HISTORIES: Final = int(os.environ.get("FUZZ_EXAMPLES") or 120)
IN_DIRECTORIES: Final = max(8, HISTORIES // 10)
IN_BUCKETS: Final = max(8, HISTORIES // 10)
PARTS: Final = 4
LARGEST: Final = 1600
FORK: Final = LAB.fork(3)
"""A fork that no checkpoint of a history can be consistent with: the first one has at least 4 entries."""

_DONE: Final = frozenset({Action.COSIGNED, Action.REFRESHED})
_NOT_DONE: Final = frozenset({Action.REFUSED, Action.BEHIND, Action.OLDER_HEAD})

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), pytest.mark.parametrize("part", range(PARTS))]


@dataclass
class History:
    """What clients know, and what was answered.

    Attributes:
        chance: makes the choices.
        place: where it is played.
        world: what outlives processes.
        pending: size of the largest checkpoint that was taken.
        next_entry: what clients were told last.
        tickets: size → ticket.
        answered: sizes of all trees whose cosignature was given to somebody.
        refused: how often a fork was refused.
        is_troubled: whether operations fail below the storage's interface.
    """

    chance: random.Random
    place: Place
    world: MirrorWorld = field(default_factory=MirrorWorld)
    pending: int = 0
    next_entry: int = 0
    tickets: dict[int, bytes] = field(default_factory=dict[int, bytes])
    answered: list[int] = field(default_factory=list[int])
    refused: int = 0
    is_troubled: bool = False

    async def live(self, storage: Storage) -> None:
        """Do what a process is asked to do in its life; none but a storage that fails keeps it from beginning."""
        try:
            mirror = await self.world.start(storage=storage)
            if self.chance.random() < 0.5:
                await self.publish_again(mirror)
        except StorageError:
            assert self.is_troubled
            return
        for _ in range(self.chance.randint(1, 6)):
            if self.place.trouble is not None and self.chance.random() < 0.3:
                self.place.trouble(self.chance)
                self.is_troubled = True
            step = self.chance.choice((self.grow, self.push, self.push, self.push, self.pull, self.lie, self.refresh))
            await step(mirror)

    async def publish_again(self, mirror: LogMirror) -> None:
        """Do what a server does first."""
        for log in mirror.logs:
            await mirror.publish_again(log)

    async def grow(self, mirror: LogMirror) -> None:
        """Bring a larger checkpoint."""
        old = self.pending
        size = min(LARGEST, max(4, old + self.chance.randint(0, 400)))
        given = _known(await mirror.add_checkpoint(add(old, size)), 200, 409)
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
        pieces = receiver(*[body[at : at + 9000] for at in range(0, cut, 9000)])
        given = _known(await mirror.add_entries(pieces), 200, 202, 400, 409, 422)
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
        assert polled.action in _DONE | _NOT_DONE, polled
        if polled.action in _DONE:
            self.pending = max(self.pending, size)
            self.answered.append(size)

    async def lie(self, mirror: LogMirror) -> None:
        """Bring a checkpoint, and entries, of a fork: the log's key signed them."""
        if not self.pending:
            return
        size = self.pending + self.chance.randint(0, 9)
        _known(await mirror.add_checkpoint(add(self.pending, size, FORK)), 409, 422)
        _known(await mirror.add_entries(receiver(body_of(0, self.pending, lab=FORK))), 409, 422)
        self.refused += 1

    async def refresh(self, mirror: LogMirror) -> None:
        """Ask for a fresh cosignature of what was signed."""
        self.world.clock.at += self.chance.choice((1, 60))
        size = self.chance.choice(self.answered or [0])
        given = _known(await mirror.add_entries(receiver(body_of(size, size))), 200, 409, 422)
        if given.status == 200:
            lines_of(given, size)

    async def lose_power(self) -> None:
        """Let the machine go down; what comes up again publishes what is missing."""
        if self.place.lose_power is not None and self.chance.random() < 0.4:
            self.place.lose_power(self.chance)
            await self.publish_again(await self.world.start(storage=self.place.storage))

    async def check(self, before: int | None) -> int | None:
        """Check all that is published and remembered; return the size of the tree."""
        found = MirrorWorld(storage=MeddledStorage(await copy_objects(self.place.storage)))
        size = found.size()
        if size is not None:
            check_copy(found, size)
        assert (size or 0) >= (before or 0)
        assert (size or 0) >= max(self.answered, default=0)
        if pending_key(LAB.origin) in found.storage.objects:
            for at in range(next_of(found) // 256):
                assert tile_key(LAB.origin, EntriesTile(at, 256)) in found.storage.objects
                assert tile_key(LAB.origin, Tile(0, at, 256)) in found.storage.objects
        return size


async def play(seed: int, place: Place) -> History:
    """Play one history, in a place of which nothing that it holds is left."""
    for storage in (place.storage, place.anchor):
        await restore_objects(storage, {})
    history = History(random.Random(seed), place)  # noqa: S311 - a test's
    chance, size = history.chance, None
    history.world.anchor = place.anchor if chance.random() < 0.3 else None
    for _ in range(chance.randint(2, 6)):
        async with trio.open_nursery() as nursery:
            for _ in range(chance.choice((1, 1, 2))):
                if chance.random() < 0.4:
                    nursery.start_soon(history.live, place.storage)
                    continue
                late = chance.random() < 0.5
                dying = DyingStorage(place.storage, operations=chance.randint(1, 90), is_late=late)
                nursery.start_soon(run_until_death, dying, partial(history.live, dying))
        size = await history.check(size)
        await history.lose_power()
        size = await history.check(size)
    final = await history.world.start(storage=place.storage)
    await history.grow(final)
    await history.pull(final)
    await history.check(size)
    return history


async def play_all(part: int, place: Place, *, count: int) -> None:
    """Play some histories, others for each part."""
    signed = refused = 0
    for number in range(count):
        seed = part * 1_000_000 + number
        try:
            history = await play(seed, place)
        except BaseException as error:
            error.add_note(f"history {seed}")
            raise
        signed += len(history.answered)
        refused += history.refused
    assert signed >= count
    assert refused or count < 10


async def test_copies_and_cosignatures_are_right_in_every_history(part: int) -> None:
    """Nothing that is published was ever not the log's, or not whole; nothing goes back; forks are never taken."""
    async with open_memory() as place:
        await play_all(part, place, count=HISTORIES // PARTS)


async def test_no_history_in_a_directory(part: int, tmp_path: Path) -> None:
    """The same with real files and threads."""
    async with open_directories(tmp_path) as place:
        await play_all(part, place, count=IN_DIRECTORIES // PARTS)


async def test_no_history_in_a_bucket(part: int, credentials: None, clock: MockClock) -> None:
    """The same through HTTP, where answers are lost below the storage, and requests are tried again."""
    async with open_hostile_buckets() as place:
        await play_all(part, place, count=IN_BUCKETS // PARTS)


@pytest.fixture
def clock() -> MockClock:
    """Jump over the pauses before a request is tried again, once nothing has moved for 20 ms: sockets are real."""
    return MockClock(autojump_threshold=0.02)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made-up credentials in the environment, and none anywhere else."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


def _known(given: Answer, *statuses: int) -> Answer:
    """Check that an answer has one of these statuses, or says that it may be tried again, and nothing of a rollback."""
    assert given.status in {*statuses, 503}, given
    assert given.reason is not Reason.ROLLED_BACK, given
    return given
