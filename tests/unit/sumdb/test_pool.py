"""The pool: records of many tasks in one batch, bounded, and an error for everybody when it cannot go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from mirrorwitness.errors import LogLostError, MirrorWitnessError, StorageUnavailableError
from mirrorwitness.sumdb.log import Fate, Sequenced
from mirrorwitness.sumdb.pool import CHUNK, Pool
from tests.unit.sumdb.logs import make_proposal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from mirrorwitness.sumdb.log import Proposal

ONE = make_proposal()


class FakeLog:
    """Logs whatever comes, takes its time, and fails on request.

    Attributes:
        batches: how many proposals came at a time.
        error: what the next batches end in.
        seconds: how long each takes.
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self.batches: list[int] = []
        self.error: MirrorWitnessError | None = None
        self.seconds = seconds
        self._size = 0

    def __repr__(self) -> str:
        return "<FakeLog>"

    async def append(self, proposals: Sequence[Proposal]) -> tuple[Sequenced, ...]:
        self.batches.append(len(proposals))
        await trio.sleep(self.seconds)
        if self.error is not None:
            raise self.error
        self._size += len(proposals)
        return tuple([Sequenced(at, Fate.LOGGED) for at in range(self._size - len(proposals), self._size)])


async def test_what_comes_together_is_logged_together(autojump_clock: MockClock) -> None:
    """A batch gathers for the interval; what comes while it is logged is the next one; each task gets its own part."""
    log = FakeLog()
    told: list[float] = []
    pool = Pool(log, interval=0.5, after_batch=lambda: told.append(trio.current_time() - begin))
    found: dict[float, list[int]] = {}
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        begin = trio.current_time()

        async def offer(delay: float, count: int) -> None:
            await trio.sleep(delay)
            found[delay] = [done.index for done in await pool.add([ONE] * count)]

        async with trio.open_nursery() as tasks:
            for delay, count in ((0.0, 2), (0.4, 1), (0.6, 3), (1.2, 2)):
                tasks.start_soon(offer, delay, count)
        nursery.cancel_scope.cancel()
    assert log.batches == [3, 5]
    assert found == {0.0: [0, 1], 0.4: [2], 0.6: [3, 4, 5], 1.2: [6, 7]}
    assert told == pytest.approx([1.5, 2.5])


async def test_a_full_batch_does_not_wait_and_the_rest_waits_for_room(autojump_clock: MockClock) -> None:
    """One task that brings much is cut into pieces; no more than one batch waits beside the one that is logged."""
    log = FakeLog()
    pool = Pool(log, interval=100.0, most=2 * CHUNK)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        begin = trio.current_time()
        done = await pool.add([ONE] * (6 * CHUNK))
        assert trio.current_time() - begin == pytest.approx(3.0)
        nursery.cancel_scope.cancel()
    assert log.batches == [2 * CHUNK] * 3
    assert [each.index for each in done] == list(range(6 * CHUNK))
    assert await pool_of_nothing() == ()


async def pool_of_nothing() -> tuple[Sequenced, ...]:
    """Offer nothing: it is not waited for anybody."""
    return await Pool(FakeLog()).add([])


async def test_a_storage_that_does_not_answer_fails_one_batch_and_not_the_next(
    autojump_clock: MockClock,
) -> None:
    """Who waited is told; who comes later is served."""
    log = FakeLog()
    log.error = StorageUnavailableError("no answer")
    pool = Pool(log)
    async with trio.open_nursery() as nursery:
        await nursery.start(pool.run)
        with pytest.raises(StorageUnavailableError, match="no answer"):
            await pool.add([ONE])
        log.error = None
        assert await pool.add([ONE]) == (Sequenced(0, Fate.LOGGED),)
        nursery.cancel_scope.cancel()


async def test_a_lost_log_ends_the_pool_and_everybody_is_told(autojump_clock: MockClock) -> None:
    """Those of the batch, those that wait for the next one or for room, and those that come later."""
    log = FakeLog()
    log.error = LogLostError("another one")
    pool = Pool(log, most=CHUNK)
    failed: list[str] = []

    async def offer() -> None:
        with pytest.raises(LogLostError) as caught:
            await pool.add([ONE] * CHUNK)
        failed.append(str(caught.value))

    async with trio.open_nursery() as tasks:
        for _ in range(4):
            tasks.start_soon(offer)
        with pytest.raises(LogLostError, match="another one"):
            await pool.run()
    await offer()
    assert failed == ["another one"] * 5
    assert repr(pool) == "<Pool of <FakeLog>, 0 waiting, ended>"


async def test_a_pool_that_is_cancelled_leaves_nobody_waiting(autojump_clock: MockClock) -> None:
    """In the middle of a batch, and while one gathers: an error that says that records may be logged."""
    for delay in (0.1, 0.5):
        pool = Pool(FakeLog(), interval=0.2)
        failed: list[str] = []

        async def offer(pool: Pool = pool, failed: list[str] = failed) -> None:
            with pytest.raises(StorageUnavailableError) as caught:
                await pool.add([ONE])
            failed.append(str(caught.value))

        async with trio.open_nursery() as tasks:
            tasks.start_soon(offer)
            await wait_all_tasks_blocked()
            with trio.move_on_after(delay):
                await pool.run()
        assert failed == ["the log is being closed; what was offered may be logged"]
