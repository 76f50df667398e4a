"""Heads that are older than what was cosigned: a cache that is slow for a while, and a log that goes back."""

from __future__ import annotations

import pytest

from mirrorwitness.witness.feeder import Action
from tests.unit.witness.feeding import LAB, OLDER_AFTER, Scene, scene


async def _poll_text(found: Scene) -> tuple[Action, str]:
    polled = await found.feeder.poll()
    assert polled.before == polled.after
    return polled.action, polled.text


async def test_rollback_of_the_log() -> None:
    """An older head is an alarm once it lasts, and is never submitted; the log may go on from where it was."""
    async with scene(300) as found:
        found.server.grow(299)
        shown = "the log shows an older head: size 299, and 300 was cosigned"
        for at, action, said in (
            (OLDER_AFTER - 1, Action.BEHIND, "599 s ago; a cache before it may be slow for 600 s"),
            (1, Action.OLDER_HEAD, "600 s ago; it, or a cache before it, was slowed down or rolled back"),
        ):
            found.world.clock.at += at
            assert await _poll_text(found) == (action, f"{shown} {said}")
        assert found.witness.counts == {"cosigned": 1}
        assert found.server.asked == ["/checkpoint"] * 2
        found.server.grow(301)
        assert await found.poll() == (Action.COSIGNED, 300, 301)


async def test_a_cache_before_a_log_that_also_pushes() -> None:
    """Always some minutes late, and moving: never an alarm, however long that goes on."""
    async with scene(300) as found:
        for size in range(300, 330):
            await found.push(size, size + 1)
            found.world.clock.at += OLDER_AFTER // 2
            found.server.grow(size)  # what it showed five minutes ago
            assert await found.poll() == (Action.BEHIND, size + 1, size + 1)
        found.server.grow(330)
        assert await found.poll() == (Action.UNCHANGED, 330, 330)


async def test_a_frozen_head_of_a_log_that_also_pushes() -> None:
    """Our newest cosignature is young all the time: how long one of a larger tree is known counts."""
    async with scene(300) as found:
        actions = []
        for size in range(300, 304):
            await found.push(size, size + 1)
            actions.append((await found.feeder.poll()).action)
            found.world.clock.at += OLDER_AFTER // 2
        assert actions == [Action.BEHIND, Action.BEHIND, Action.OLDER_HEAD, Action.OLDER_HEAD]


async def test_a_head_that_moves_and_is_ever_so_late() -> None:
    """Shown an hour late, a tree further each time: the first one that we could miss is missed."""
    async with scene(300) as found:
        late = [300] * 12
        actions = []
        for size in range(300, 340):
            await found.push(size, size + 1)
            late.append(size + 1)
            found.server.grow(late[-12])
            actions.append((await found.feeder.poll()).action)
            found.world.clock.at += OLDER_AFTER // 2
        assert set(actions[:2]) == {Action.BEHIND}
        assert Action.OLDER_HEAD in actions[2:6]
        assert actions.count(Action.OLDER_HEAD) > 20


@pytest.mark.parametrize(("shown", "action"), [(299, Action.OLDER_HEAD), (300, Action.BEHIND), (305, Action.BEHIND)])
async def test_a_job_knows_the_last_two_cosignatures(shown: int, action: Action) -> None:
    """A process that only begins: of a head behind the one before the last, the time of that one counts."""
    async with scene(300) as found:
        found.world.clock.at += OLDER_AFTER
        await found.push(300, 310)
        found.server.grow(shown)
        found.feeder = found.make_feeder(await found.world.start())
        assert await found.poll() == (action, 310, 310)


async def test_a_head_that_was_cosigned_again() -> None:
    """A newer time on the same tree does not make an older head young."""
    async with scene(300) as found:
        found.world.clock.at += OLDER_AFTER
        await found.push(300, 300)
        found.server.grow(200)
        assert await found.poll() == (Action.OLDER_HEAD, 300, 300)


async def test_a_fork_at_a_smaller_size() -> None:
    """An older head of another history cannot be told from one of the same: no tile would prove it."""
    async with scene(300) as found:
        found.server.grow(299, LAB.fork(7))
        assert await found.poll() == (Action.BEHIND, 300, 300)
        found.world.clock.at += OLDER_AFTER
        assert await found.poll() == (Action.OLDER_HEAD, 300, 300)
