"""Followers whose storage operations fail once each, who are cancelled at each step, on storages that lie (P2, P8)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Literal

import pytest
import trio
from trio.testing import MockClock

from mirrorwitness.errors import (
    CursorLostError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror.cursor import CursorRecord, CursorStore
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.shards import WHOLE
from tests.fakes.registry import Fault
from tests.fakes.storage import MemoryStorage, StorageCall
from tests.fault.cursors import check_cursor
from tests.fault.follow_trials import compare
from tests.fault.invariants import check_invariants
from tests.fault.test_cancellation import CancelAt
from tests.unit.mirror.following import Following, make_upstream

if TYPE_CHECKING:
    from mirrorwitness.storage import Body, ObjectInfo

pytestmark = [pytest.mark.fault, pytest.mark.slow]

HOUR = 3600.0
POINTS = 250
"""Steps at which a follower is cancelled; a longer life is sampled evenly."""


async def day_after(storage: MemoryStorage | None = None) -> tuple[Following, set[bytes]]:
    """Return a mirror of yesterday with a note, whose upstream has changed in every way, and what may be stored."""
    upstream = make_upstream("alpha", "beta", "@s/one", "Gamma")
    following = Following(upstream, terms=OwedTerms(confirm_after=0))
    if storage is not None:
        following.mirror.storage = storage
    await following.once()
    sim = upstream.sim
    published = {sim.tarball(name, "1.0.0") for name in sim.names}
    published.add(sim.publish("beta", "1.1.0"))
    sim.fail("/beta/-/beta-1.1.0.tgz", Fault.status(404), times=1)
    await following.once()
    published |= {sim.publish("alpha", "1.1.0"), sim.publish("new", "1.0.0")}
    sim.unpublish("@s/one")
    sim.remove("Gamma")
    return following, published


async def live(following: Following) -> None:
    """Live for a minute as a follower, and end well."""
    async with following.running():
        await trio.sleep(90)


def check(following: Following, published: set[bytes]) -> None:
    """Hold what is stored to what must always be true."""
    objects = following.mirror.storage.objects
    check_invariants(objects, published=published)
    check_cursor(objects, following.upstream.feed.rows.rows())


async def check_recovery(following: Following, published: set[bytes]) -> None:
    """The next follower makes the mirror what upstream is."""
    check(following, published)
    following.mirror.storage.heal()
    await following.once()
    check(following, published)
    compare(following.mirror.storage.objects, following.upstream.sim)
    assert await following.mirror.audit(*following.upstream.sim.names) == []


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [StorageUnavailableError, StorageRefusedError])
async def test_p8_each_storage_operation_of_a_follower_fails_once(
    kind: type[StorageError], when: Literal["before", "after"], autojump_clock: MockClock
) -> None:
    """Whatever fails, before or after it took effect, nothing is lost and the next follower completes."""
    following, _ = await day_after()
    begin = len(following.mirror.storage.operations)
    await live(following)
    operations: list[StorageCall] = list(dict.fromkeys(following.mirror.storage.operations[begin:]))
    compare(following.mirror.storage.objects, following.upstream.sim)
    assert len(operations) > 20
    for call in operations:
        following, published = await day_after()
        storage = following.mirror.storage
        plan = storage.fail_before if when == "before" else storage.fail_after
        plan(call.operation, call.key, kind(f"{call.operation} {call.key}: injected"))
        try:
            await live(following)
        except* StorageError:
            pass
        await check_recovery(following, published)


def test_p2_a_follower_is_cancelled_at_each_step() -> None:
    """Cancelled anywhere, it leaves a consistent mirror and a cursor that is behind, and the next one completes."""

    async def once(instrument: CancelAt) -> None:
        following, published = await day_after()
        with trio.CancelScope() as scope:
            instrument.arm(scope)
            async with following.running():
                await trio.sleep(40)
        instrument.disarm()
        await check_recovery(following, published)

    def run(step: int | None) -> int:
        instrument = CancelAt(step)
        trio.run(partial(once, instrument), instruments=[instrument], clock=MockClock(autojump_threshold=0))
        return instrument.steps

    steps = run(None)
    assert steps > 100
    for step in range(1, steps + 1, -(-steps // POINTS)):
        run(step)


class Unconditional(MemoryStorage):
    """A service without conditional writes: it says so, or it ignores the conditions.

    Attributes:
        is_honest: whether it says so.
    """

    is_honest = True

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if self.is_honest and (if_absent or if_match is not None):
            await trio.lowlevel.checkpoint()
            raise UnsupportedConditionError(f"{key}: no conditions here")
        return await super().put(key, body, content_type=content_type)


@pytest.mark.parametrize("is_honest", [True, False])
async def test_p8_storages_without_conditional_writes_are_followed_all_the_same(
    is_honest: bool,  # noqa: FBT001
    autojump_clock: MockClock,
) -> None:
    """One worker needs no conditions: everything is mirrored, and the cursor moves."""
    storage = Unconditional()
    storage.is_honest = is_honest
    following, published = await day_after(storage)
    await live(following)
    await check_recovery(following, published)


@pytest.mark.parametrize("is_honest", [True, False])
async def test_p8_two_workers_without_conditional_writes_corrupt_nothing_and_one_notices(
    is_honest: bool,  # noqa: FBT001
    autojump_clock: MockClock,
) -> None:
    """The cursor is looked at before it is replaced, so the second worker is noticed though nothing is enforced."""
    storage = Unconditional()
    storage.is_honest = is_honest
    first, published = await day_after(storage)
    second = Following(first.upstream, worker="worker-2", terms=first.terms)
    second.mirror = first.mirror

    async def duel() -> None:
        async with first.running():
            await trio.sleep(20)
            async with second.running():
                for number in range(20):
                    published.add(first.upstream.sim.publish("alpha", f"2.{number}.0"))
                    await trio.sleep(30)

    with pytest.raises(ExceptionGroup) as found:
        await duel()
    assert found.group_contains(CursorLostError)
    await check_recovery(first, published)


async def test_p8_a_save_whose_outcome_was_never_known_is_no_other_worker() -> None:
    """It took effect, its answer was lost and so was the look at it: the next save finds its own, and goes on."""
    storage = MemoryStorage()
    store = CursorStore(storage=storage, shard=WHOLE, worker="worker-1")
    record = CursorRecord(feed="f", selection="s", position="1")
    await store.save(record, saved="t1")
    away = StorageUnavailableError("away")
    storage.fail_after("put", "state/cursor/*", away)
    storage.fail_before("read", "state/cursor/*", away)
    with pytest.raises(StorageUnavailableError):
        await store.save(record, saved="t2")
    storage.heal()
    await store.save(record, saved="t3")
    other = CursorStore(storage=storage, shard=WHOLE, worker="worker-2")
    assert (await other.load()) is not None
    await other.save(record, saved="t4")
    with pytest.raises(CursorLostError, match="worker-2 at t4"):
        await store.save(record, saved="t5")
