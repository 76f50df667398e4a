"""Feeding where something fails or is in the way: logs that cannot be read, storages, replicas, cancellation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import RolledBackError, StorageUnavailableError
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.feeder import Action
from mirrorwitness.witness.protocol import Answer, Reason, answer
from mirrorwitness.witness.service import Witness
from tests.fakes.registry_server import Fault
from tests.unit.witness.feeding import paths, scene

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.witness.feeder import Feeder
    from mirrorwitness.witness.protocol import AddCheckpoint


async def test_a_partial_tile_that_was_deleted() -> None:
    """The log grew on while we read: the full tile is taken, and what it has beyond the head is cut off."""
    async with scene(300) as found:
        found.server.grow(1100)
        found.server.grow(1000)
        found.server.gone.add("/tile/0/003.p/232")
        assert await found.poll() == (Action.COSIGNED, 300, 1000)
        assert sorted(found.server.asked) == sorted({*paths(Dialect.TILES, 300, 1000), "/tile/0/003"})


@pytest.mark.parametrize("path", ["/checkpoint", "/tile/0/001", "/tile/0/003.p/232"])
@pytest.mark.parametrize("fault", [Fault.status(404), Fault.status(500), Fault.truncated(), Fault.html(), Fault.half()])
async def test_what_cannot_be_read(path: str, fault: Fault) -> None:
    """Missing, sick, cut, or something else: nothing is cosigned, the next poll is as good as the first."""
    async with scene(300) as found:
        found.server.grow(1000)
        found.server.fail(path, fault)
        polled = await found.feeder.poll()
        assert (polled.action, polled.before, polled.after) == (Action.UNREAD, 300, 300)
        assert polled.text
        found.server.heal()
        assert await found.poll() == (Action.COSIGNED, 300, 1000)


async def test_a_storage_that_fails_before_anything_is_written() -> None:
    """Refused, and the log is not blamed; the next poll is as good as the first."""
    async with scene(300) as found:
        found.server.grow(400)
        for operation in ("put", "read"):
            found.world.storage.fail_before(operation, "state/*", StorageUnavailableError("no answer"))
            polled = await found.feeder.poll()
            assert (polled.action, polled.before, polled.after) == (Action.REFUSED, 300, 300)
            assert polled.text in {"the witness's storage does not answer", "no answer"}
        assert await found.poll() == (Action.COSIGNED, 300, 400)


@pytest.mark.parametrize("process", ["the same", "the next"])
async def test_a_storage_that_fails_between_state_and_publication(process: str) -> None:
    """What was signed and not published is signed again by the next poll, also by that of the next process."""
    async with scene(300) as found:
        found.server.grow(400)
        found.world.storage.fail_before("put", "witness/*", StorageUnavailableError("no answer"))
        assert await found.poll() == (Action.REFUSED, 300, 300)
        assert found.published_size() == 300
        feeder = found.make_feeder(await found.world.start()) if process == "the next" else found.feeder
        assert [(await feeder.poll()).action for _ in range(2)] == [Action.REFRESHED, Action.UNCHANGED]
        assert found.published_size() == 400


async def test_a_first_cosignature_that_was_not_published() -> None:
    """There is no published checkpoint at all: it is brought there."""
    async with scene() as found:
        found.server.grow(5)
        found.world.storage.fail_before("put", "witness/*", StorageUnavailableError("no answer"))
        assert [(await found.feeder.poll()).action for _ in range(2)] == [Action.REFUSED, Action.REFRESHED]
        assert found.published_size() == 5


@pytest.mark.parametrize("kind", ["down", "behind"])
async def test_attack_a_log_that_keeps_what_power_took_from_being_shown(kind: str) -> None:
    """It is published again before the log is asked, so a restored state is noticed; and signed once that answers."""
    async with scene(300) as found:
        copy = found.world.copy("state/")
        found.server.grow(400)
        assert await found.poll() == (Action.COSIGNED, 300, 400)
        assert len(found.world.storage.lose_power()) == 1
        if kind == "down":
            found.server.fail("/checkpoint", Fault.status(500))
        else:
            found.server.grow(300)
        feeder = found.make_feeder(await found.world.start())
        assert (await feeder.poll()).action is (Action.UNREAD if kind == "down" else Action.BEHIND)
        assert found.published_size() == 400
        if kind == "down":
            found.server.heal()
            assert [(await feeder.poll()).action for _ in range(2)] == [Action.REFRESHED, Action.UNCHANGED]
        found.world.restore(copy, "state/")
        with pytest.raises(RolledBackError, match="has our cosignature on"):
            await found.world.start()


async def test_a_poll_can_be_cancelled_at_any_point() -> None:
    """After each number of steps: the next poll does what is missing, be it all, the publication only, or nothing."""
    steps = 0
    is_done = False
    actions: list[Action] = []
    while not is_done:
        async with scene(300) as found:
            found.server.grow(900)
            is_done = await run_steps(found.feeder.poll, steps)
            steps += 1
            actions.append((await found.feeder.poll()).action)
            assert found.published_size() == 900
    assert list(dict.fromkeys(actions)) == [Action.COSIGNED, Action.REFRESHED, Action.UNCHANGED]


async def run_steps(work: Callable[[], Awaitable[object]], steps: int) -> bool:
    """Run something, cancelling it at the checkpoint of its storage or of its sockets with that number."""
    with trio.CancelScope() as scope:
        counter = StepCounter(steps, scope)
        trio.lowlevel.add_instrument(counter)
        try:
            await work()
        finally:
            trio.lowlevel.remove_instrument(counter)
    return not scope.cancelled_caught


class StepCounter(trio.abc.Instrument):
    """Cancels a scope after a number of steps of the task that made it."""

    def __init__(self, steps: int, scope: trio.CancelScope) -> None:
        self._left = steps
        self._scope = scope
        self._task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self._left -= 1
            if self._left < 0:
                self._scope.cancel()


async def test_a_replica_that_went_on_meanwhile() -> None:
    """Our memory is of size 300, another process cosigned 350: the poll begins anew, and goes on from there."""
    async with scene(300) as found:
        await found.push(300, 350, await found.world.start())
        found.server.grow(400)
        assert await found.poll() == (Action.COSIGNED, 350, 400)
        assert found.server.asked.count("/checkpoint") == 2


async def test_a_replica_that_is_ahead_of_the_head() -> None:
    """The head lies between our memory and what another process cosigned: an older head after all."""
    async with scene(300) as found:
        await found.push(300, 500, await found.world.start())
        found.server.grow(400)
        assert await found.poll() == (Action.BEHIND, 500, 500)


async def test_a_log_that_also_pushes_is_not_older() -> None:
    """It pushes while its head is on the way to us: what we knew before we asked is what counts."""
    async with scene(300) as found, trio.open_nursery() as nursery:
        found.server.on_ask = lambda _path: nursery.start_soon(found.push, 300, 400)
        assert await found.poll() == (Action.UNCHANGED, 300, 300)


class Overtaken(Witness):
    """A witness whose state another process moves before each submission."""

    async def submit(self, request: AddCheckpoint) -> Answer:
        """Answer as if it had been."""
        assert request.old == 0
        await trio.lowlevel.checkpoint()
        return answer(Reason.STALE, "301")


async def test_a_poll_that_is_overtaken_each_time_gives_up() -> None:
    """A minute later there is another."""
    async with scene(kind=Overtaken) as found:
        found.server.grow(300)
        polled = await found.feeder.poll()
        assert (polled.action, found.server.asked) == (Action.REFUSED, ["/checkpoint"] * 3)
        assert "3 times" in polled.text
        assert repr(found.feeder).startswith("<Feeder of <LogClient 'conformance.example/")


async def test_two_feeders_of_one_log_agree() -> None:
    """Two processes find the same growth at once: both are done with it, and one tree is published."""
    async with scene(300) as found:
        found.server.grow(900)
        other = found.make_feeder(await found.world.start())
        actions: list[Action] = []

        async def poll(feeder: Feeder) -> None:
            actions.append((await feeder.poll()).action)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(poll, found.feeder)
            nursery.start_soon(poll, other)
        assert Action.COSIGNED in actions
        assert set(actions) <= {Action.COSIGNED, Action.REFRESHED, Action.UNCHANGED}
        assert found.published_size() == 900
