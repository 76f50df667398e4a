"""The counters of what a mirror serves are what its records say, whatever happened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import PreconditionFailedError, StorageUnavailableError, UnsupportedConditionError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.coverage import Coverage, CoverageStore, measure
from tests.fakes.registry import RegistrySimulator
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.builder import STAMP, make_mirror
from tests.unit.mirror.following import Following, make_upstream

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.unit.mirror.builder import Mirror

ONE = Coverage(packages=1, versions=2, bytes=30, signatures={"verified": 2})


async def count(mirror: Mirror) -> Coverage:
    """Count the records one by one."""
    total = Coverage()
    keys, _ = await mirror.catalogue.record_page()
    for key in keys:
        total = total.plus(measure(await mirror.catalogue.read_record_key(key)))
    return total


def plain(coverage: Coverage | None) -> Coverage:
    """Leave the times out."""
    assert coverage is not None
    return Coverage(
        packages=coverage.packages,
        versions=coverage.versions,
        bytes=coverage.bytes,
        weak=coverage.weak,
        signatures=coverage.signatures,
    )


async def test_counters_are_what_the_records_say_after_each_run() -> None:
    """New versions, withdrawn ones, packages without any: the difference is added each time."""
    sim = RegistrySimulator()
    for version in ("1.0.0", "1.1.0"):
        sim.publish("left", version)
    sim.publish("right", "1.0.0", dist={"integrity": None})
    mirror = make_mirror(sim, rules=["left", "right"])
    run = await mirror.make_run()
    await run.run(mirror.selection().names())
    await run._attempts.save_change()
    store = CoverageStore(mirror.storage)
    first = plain(await store.read())
    assert first == await count(mirror)
    assert (first.packages, first.versions, first.weak, first.signatures) == (2, 3, 1, {"unsigned": 3})
    sim.unpublish("left", "1.0.0")
    sim.unpublish("right")
    sim.publish("left", "1.2.0")
    run = await mirror.make_run()
    await run.run(mirror.selection().names())
    await run._attempts.save_change()
    assert plain(await store.read()) == await count(mirror)
    assert (await count(mirror)).packages == 1


async def test_a_follower_adds_with_its_cursor(autojump_clock: MockClock) -> None:
    """Also what the feed called deleted is taken off."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.remove("right")
        await trio.sleep(3 * 3600)
    found = plain(await CoverageStore(following.mirror.storage).read())
    assert found == await count(following.mirror)
    assert (found.packages, found.versions) == (1, 2)


async def test_two_workers_add_at_once() -> None:
    """None of many additions is lost."""
    storage = MemoryStorage()

    async def add() -> None:
        await CoverageStore(storage).add(ONE, now=STAMP)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(add)
    total = await CoverageStore(storage).read()
    assert total == Coverage(packages=10, versions=20, bytes=300, signatures={"verified": 20}, changed=STAMP)


async def test_a_swap_that_is_always_lost_is_an_error() -> None:
    """It is not tried for ever."""
    storage = MemoryStorage()
    storage.fail_before("put", layout.COVERAGE_KEY, PreconditionFailedError("lost"), times=1000)
    with pytest.raises(PreconditionFailedError, match=r"coverage\.json"):
        await CoverageStore(storage).add(ONE, now=STAMP)


async def test_a_storage_without_conditions_is_written_plainly() -> None:
    """Counters are worth less than a lock."""
    storage = MemoryStorage()
    storage.fail_before("put", layout.COVERAGE_KEY, UnsupportedConditionError("no"))
    await CoverageStore(storage).add(ONE, now=STAMP)
    assert plain(await CoverageStore(storage).read()) == ONE


async def test_what_could_not_be_added_is_added_the_next_time() -> None:
    """A failed save keeps the difference."""
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    mirror = make_mirror(sim, rules=["left"])
    run = await mirror.make_run()
    await run.run(mirror.selection().names())
    mirror.storage.fail_before("put", layout.COVERAGE_KEY, StorageUnavailableError("away"))
    with pytest.raises(StorageUnavailableError):
        await run._attempts.save_change()
    await run._attempts.save_change()
    assert plain(await CoverageStore(mirror.storage).read()) == await count(mirror)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"packages":"many"}'])
async def test_damaged_counters_are_counted_anew(body: bytes) -> None:
    """They are as none, and a full count replaces them unless somebody changed them meanwhile."""
    storage = MemoryStorage({layout.COVERAGE_KEY: body})
    store = CoverageStore(storage)
    before = await store.read()
    assert before is None
    assert await store.replace(ONE, since=before, now=STAMP)
    found = await store.read()
    assert found is not None
    assert (plain(found), found.counted) == (ONE, STAMP)
    await store.add(ONE, now=STAMP)
    assert not await store.replace(ONE, since=found, now=STAMP)
