"""P9: what one worker was told by a host, the others know without asking it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.fetch import HostGate, Origin
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.pauses import LEAST_SHARED, LOOK_EVERY, SharedPauses
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from trio.testing import MockClock

HOST = Origin("https://registry.example:443")
MOST = 300.0


@dataclass
class World:
    """One storage, one clock, any number of workers."""

    storage: MemoryStorage = field(default_factory=MemoryStorage)
    begin: datetime = datetime(2026, 9, 15, tzinfo=UTC)
    step: float = 0.0
    """By how much the clock of workers made from now on is ahead, in seconds."""

    def worker(self, name: str = "one") -> HostGate:
        ahead = self.step

        def now() -> datetime:
            return self.begin + timedelta(seconds=trio.current_time() + ahead)

        return HostGate(board=SharedPauses(storage=self.storage, worker=name, now=now, most=MOST))


async def wait_for_slot(gate: HostGate) -> float:
    """Return for how long a request to the host had to wait."""
    begin = trio.current_time()
    async with gate.slot(HOST):
        return trio.current_time() - begin


async def test_p9_a_pause_is_kept_by_workers_that_were_never_asked_to(autojump_clock: MockClock) -> None:
    """Another shard, and one that is started later, wait as long as the one that got the 429."""
    world = World()
    one, two = world.worker("one"), world.worker("two")
    assert await wait_for_slot(two) == 0
    one.pause(HOST, 120)
    assert await wait_for_slot(one) == pytest.approx(120, abs=1)
    one.pause(HOST, 120)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_slot, one)
        await trio.sleep(LOOK_EVERY)
        assert await wait_for_slot(two) == pytest.approx(120 - LOOK_EVERY, abs=1)
        assert two.statistics()[HOST].pauses == 0, "it was not this one that was told"
    one.pause(HOST, 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_slot, one)
        await trio.sleep(40)
        assert await wait_for_slot(world.worker("later")) == pytest.approx(60, abs=1)


async def test_p9_a_pause_that_is_over_costs_nobody_anything(autojump_clock: MockClock) -> None:
    """Also one of a host that is not asked, and one that is too short to be told."""
    world = World()
    one = world.worker()
    one.pause(HOST, LEAST_SHARED - 1)
    assert await wait_for_slot(one) == pytest.approx(LEAST_SHARED - 1)
    assert not world.storage.objects
    one.pause(HOST, 60)
    await wait_for_slot(one)
    assert await wait_for_slot(world.worker("later")) == 0


async def test_p9_a_wrong_clock_or_a_wrong_object_does_not_stop_a_mirror(autojump_clock: MockClock) -> None:
    """The longest pause is what the operator allows a host to ask for."""
    world = World(step=86_400.0)
    one = world.worker("a day ahead")
    one.pause(HOST, 60)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_for_slot, one)
        await trio.sleep(1)
        world.step = 0.0
        assert await wait_for_slot(world.worker("right")) == pytest.approx(MOST, abs=1)
    for body in [
        b"{",
        b"{}",
        b'{"origin":"https://other:443","until":"2030-01-01T00:00:00Z","worker":"x"}',
        b'{"origin":"https://registry.example:443","until":"soon","worker":"x"}',
    ]:
        world.storage.set_bytes(layout.pause_key(HOST), body)
        assert await wait_for_slot(world.worker("reader")) == 0


@pytest.mark.parametrize("operation", ["list", "read", "put"])
async def test_p9_a_storage_that_fails_costs_one_request_to_the_host(autojump_clock: MockClock, operation: str) -> None:
    """Pauses are shared as well as can be; nothing waits for that."""
    world = World()
    world.storage.fail_before(operation, "*", StorageUnavailableError("no answer"), times=2)  # type: ignore[arg-type]  # a literal
    one = world.worker()
    one.pause(HOST, 60)
    assert await wait_for_slot(one) == pytest.approx(60)
    assert await wait_for_slot(world.worker("later")) == 0


async def test_what_is_written_names_host_and_end(autojump_clock: MockClock) -> None:
    """One small object for each host, overwritten."""
    world = World()
    one = world.worker()
    for seconds in (60, 90):
        one.pause(HOST, seconds)
        await wait_for_slot(one)
    (key,) = world.storage.objects
    assert key == layout.pause_key(HOST)
    record = json.loads(world.storage.objects[key])
    assert record == {"origin": HOST, "until": "2026-09-15T00:02:30Z", "worker": "one"}
