"""Leases of the month's budget: races, kills, clocks over a month's end, and storages that cannot swap (P9)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror.budget import FIRST_LEASE
from mirrorwitness.mirror.lease import ASK_AGAIN, OVERDRAFT, TRIES, Lease, read_budget
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from trio.testing import MockClock

    from mirrorwitness.storage import Body, ObjectInfo

SEPTEMBER = "state/budget/2026-09.json"
OCTOBER = "state/budget/2026-10.json"
GONE = StorageUnavailableError("no answer")


@dataclass
class World:
    """A storage, a clock that can step, and workers."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    allowed: int = 1000
    begin: datetime = datetime(2026, 9, 15, tzinfo=UTC)

    def now(self) -> datetime:
        return self.begin + timedelta(seconds=trio.current_time())

    def worker(self, name: str = "one") -> Lease:
        return Lease(storage=self.storage, allowed=self.allowed, worker=name, now=self.now, jitter=lambda: 0.5)

    def taken(self, key: str = SEPTEMBER) -> int:
        record: dict[str, Any] = json.loads(self.storage.objects[key])
        return int(record.get("taken", 0))


async def spend(lease: Lease, times: int) -> int:
    """Take requests until that many, or none is left; return how many it were."""
    for done in range(times):
        try:
            await lease.take()
        except BudgetExhaustedError:
            return done
        await trio.sleep(0.01)
    return times


async def test_p9_what_is_sent_was_taken_before(autojump_clock: MockClock) -> None:
    """The storage has charged at least what was sent, at every instant; a graceful end gives the rest back."""
    world = World()
    lease = world.worker()
    for sent in range(1, 120):
        await lease.take()
        assert world.taken() >= sent
    assert world.taken() == FIRST_LEASE + 118  # it is quick: the second lease is an eighth of what is left
    await lease.give_back()
    assert world.taken() == 119
    assert lease.statistics().sent == 119
    assert (await read_budget(world.storage, allowed=1000, now=world.now())).left == 881


async def test_p9_two_workers_that_race_never_take_the_same_requests(autojump_clock: MockClock) -> None:
    """Ten workers take until nothing is left: together exactly what is allowed, and each of them is told."""
    world = World(allowed=2000)
    sent: list[int] = []

    async def work(name: str) -> None:
        sent.append(await spend(world.worker(name), 2000))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(work, f"w{number}")
    assert sum(sent) == world.taken() == 2000
    assert len([count for count in sent if count]) > 1


async def test_many_tasks_share_one_lease(autojump_clock: MockClock) -> None:
    """Tasks that find it empty at once fetch one lease, not one each."""
    world = World(allowed=100_000)
    lease = world.worker()
    async with trio.open_nursery() as nursery:
        for _ in range(30):
            nursery.start_soon(lease.take)
    assert world.storage.keys_of("put") == [SEPTEMBER]
    assert lease.statistics().held == FIRST_LEASE - 30


async def test_p9_a_killed_worker_loses_its_lease_and_no_more(autojump_clock: MockClock) -> None:
    """What a dead worker held counts as used: the mirror asks for less than it may, never for more."""
    world = World(allowed=1000)
    await world.worker("killed").take()
    assert world.taken() == FIRST_LEASE
    assert await spend(world.worker("next"), 2000) == 1000 - FIRST_LEASE


async def test_a_budget_that_is_used_up_is_asked_for_again_later(autojump_clock: MockClock) -> None:
    """Not at each request; and what another worker gives back is found."""
    world = World(allowed=20)
    other, lease = world.worker("other"), world.worker()
    await other.take()
    assert await spend(lease, 99) == 10
    reads = len(world.storage.keys_of("read"))
    for _ in range(5):
        with pytest.raises(BudgetExhaustedError, match=r"20 requests for 2026-09.*2026-10-01T00:00:00Z"):
            await lease.take()
    assert len(world.storage.keys_of("read")) == reads
    await other.give_back()
    await trio.sleep(ASK_AGAIN)
    assert await spend(lease, 99) == 9


async def test_a_months_end_begins_a_budget_of_its_own(autojump_clock: MockClock) -> None:
    """The rest of a lease is not carried over; what is used up in September is not in October."""
    world = World(allowed=60, begin=datetime(2026, 9, 30, 23, 59, 0, tzinfo=UTC))
    lease = world.worker()
    assert await spend(lease, 99) == 60
    await trio.sleep(61)
    await lease.take()
    assert (world.taken(), world.taken(OCTOBER)) == (60, 10)
    await lease.give_back()
    assert (world.taken(), world.taken(OCTOBER)) == (60, 1)


async def test_clock_steps_over_a_months_end_and_back(autojump_clock: MockClock) -> None:
    """Each request is charged to the month that the clock shows, and no month forgets what was taken in it."""
    world = World(allowed=1000, begin=datetime(2026, 9, 30, tzinfo=UTC))
    lease = world.worker()
    await lease.take()
    world.begin += timedelta(days=2)
    await lease.take()
    assert (world.taken(), world.taken(OCTOBER)) == (50, 125)
    world.begin -= timedelta(days=2)
    await lease.take()
    assert (world.taken(), world.taken(OCTOBER)) == (50 + 118, 125)
    world.begin += timedelta(days=2)
    await lease.give_back()  # a rest of September's, in October
    assert (world.taken(), world.taken(OCTOBER)) == (50 + 118, 125)


class Unconditional(MemoryStorage):
    """A service that does no conditional writes; `between` runs between two steps of one save."""

    rival: MemoryStorage | None = None

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if if_absent or if_match is not None:
            await trio.lowlevel.checkpoint()
            raise UnsupportedConditionError("no conditional writes")
        return await super().put(key, body, content_type=content_type)


async def test_storage_without_conditional_writes(autojump_clock: MockClock) -> None:
    """It is read before it is written and read back after; workers that do not meet count right."""
    world = World(storage=Unconditional(), allowed=200)
    one, two = world.worker("one"), world.worker("two")
    assert await spend(one, 60) + await spend(two, 60) == 120
    await one.give_back()
    await two.give_back()
    assert world.taken() == 120


async def test_storage_without_conditional_writes_notices_who_meets_it(autojump_clock: MockClock) -> None:
    """A rival that saves between the look and the read-back is noticed, and the lease is taken anew."""
    world = World(storage=Unconditional(), allowed=2000)
    sent: list[int] = []

    async def work(name: str) -> None:
        sent.append(await spend(world.worker(name), 100))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(work, f"w{number}")
    # The known hole: a lease may be charged once for two; never is a whole worker's work unseen.
    assert sum(sent) == 400
    assert world.taken() >= 400 - 3 * FIRST_LEASE


async def test_storage_without_conditional_writes_and_a_rival_between_two_steps(autojump_clock: MockClock) -> None:
    """Who saved between our reading and our look is seen: nothing is written over it, and the lease is taken anew."""

    class Rival(Unconditional):
        async def stat(self, key: str) -> ObjectInfo | None:
            if key == SEPTEMBER and key not in self.objects:
                self.set_bytes(key, b'{"month": "2026-09", "taken": 70, "worker": "rival"}')
            return await super().stat(key)

    world = World(storage=Rival())
    await world.worker().take()
    assert world.taken() == 70 + FIRST_LEASE


async def test_lost_answer_is_read_back(autojump_clock: MockClock) -> None:
    """A save that took effect before its answer was lost is not made twice."""
    world = World()
    world.storage.fail_after("put", "state/budget/*", GONE)
    lease = world.worker()
    await lease.take()
    assert (world.taken(), lease.statistics().held) == (FIRST_LEASE, FIRST_LEASE - 1)


async def test_p9_storage_outage_lends_a_little_once_and_charges_it(autojump_clock: MockClock) -> None:
    """A follower goes on for a hundred requests while the storage is away, and no further; then it pays."""
    world = World()
    world.storage.fail_before("read", "state/budget/*", GONE, times=2)
    lease = world.worker()
    for _ in range(OVERDRAFT):
        await lease.take()
    with pytest.raises(StorageUnavailableError):
        await lease.take()
    await lease.take()
    await lease.give_back()
    assert world.taken() == OVERDRAFT + 1


async def test_an_outage_at_the_end_counts_the_rest_as_used(autojump_clock: MockClock) -> None:
    """Giving back may fail; then less is left, never more."""
    world = World()
    lease = world.worker()
    await lease.take()
    world.storage.fail_before("put", "state/budget/*", GONE)
    with pytest.raises(StorageUnavailableError):
        await lease.give_back()
    assert world.taken() == FIRST_LEASE


async def test_storage_that_refuses_or_is_damaged_lends_nothing(autojump_clock: MockClock) -> None:
    """Read-only, or a record that nobody understands: an error that says what to do, and no request."""
    world = World()
    world.storage.fail_before("put", "state/budget/*", StorageRefusedError("read-only"))
    with pytest.raises(StorageRefusedError):
        await world.worker().take()
    world.storage.set_bytes(SEPTEMBER, b"{")
    with pytest.raises(StorageError, match=r"2026-09\.json is damaged.*count from nothing"):
        await world.worker().take()


async def test_swaps_that_are_always_lost_end(autojump_clock: MockClock) -> None:
    """A storage that refuses every swap is at fault; nobody waits for ever."""
    world = World()

    class Always(MemoryStorage):
        async def put(self, key: str, body: Body, **conditions: Any) -> ObjectInfo:
            self.set_bytes(SEPTEMBER, json.dumps({"month": "2026-09", "taken": len(self.operations)}).encode())
            return await super().put(key, body, **conditions)

    world.storage = Always()
    lease = world.worker()
    assert await spend(lease, OVERDRAFT) == OVERDRAFT
    with pytest.raises(StorageUnavailableError, match=f"{TRIES} times in a row"):
        await lease.take()


async def test_put_back_undoes_a_take(autojump_clock: MockClock) -> None:
    """A request that was cancelled before it was sent is another's."""
    world = World(allowed=10)
    lease = world.worker()
    await lease.take()
    lease.put_back()
    assert await spend(lease, 99) == 10
    assert repr(lease) == "<Lease of one, 0 of 10 left for 2026-09, 10 sent>"


def test_no_budget_is_no_lease() -> None:
    """Nothing allowed is a configuration that nobody means."""
    with pytest.raises(ConfigurationError):
        World(allowed=0).worker()
