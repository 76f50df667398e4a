"""Filling a copy from what a log serves, and bringing a log to a mirror."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import UpstreamUnreachableError
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.logmirror.puller import Puller
from mirrorwitness.logmirror.reading import BUNDLES_AT_ONCE
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from mirrorwitness.witness.feeder import Action
from tests.unit.logmirror.sources import LabSource
from tests.unit.logmirror.world import (
    LAB,
    OURS,
    MirrorWorld,
    body_of,
    check_copy,
    fill,
    info_of,
    lines_of,
    next_of,
    pending,
    post,
)

if TYPE_CHECKING:
    from mirrorwitness.logmirror.service import LogMirror


def make_puller(world: MirrorWorld, mirror: LogMirror, source: LabSource, refresh: float = 3600) -> Puller:
    """Return a puller of the first log."""
    log = mirror.logs.get(LAB.origin)
    assert log is not None
    return Puller(mirror=mirror, log=log, source=source, refresh=refresh, now=world.clock, on_fork=world.keep)


async def start(size: int) -> tuple[MirrorWorld, LogMirror, LabSource, Puller]:
    """Return a mirror that has nothing, and what fills it."""
    world, source = MirrorWorld(), LabSource(LAB, size)
    mirror = await world.start()
    return world, mirror, source, make_puller(world, mirror, source)


@pytest.mark.slow
@pytest.mark.parametrize("full_only", [False, True])
async def test_a_log_is_pulled_and_grows(full_only: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """Each poll brings what is new; also where only full tiles are served in the place of partial ones."""
    world, _, source, puller = await start(0)
    source.full_only = full_only
    for before, size in ((0, 300), (300, 301), (301, 1024), (1024, 70_000)):
        source.size = size
        polled = await puller.poll()
        assert (polled.action, polled.before, polled.after) == (Action.COSIGNED, before, size), polled
        check_copy(world, size)
        assert next_of(world) == size
    assert (await puller.poll()).action is Action.UNCHANGED
    world.clock.at += 3600
    assert (await puller.poll()).action is Action.REFRESHED


async def test_the_empty_log_is_pulled() -> None:
    """Its head is cosigned."""
    world, _, _, puller = await start(0)
    assert (await puller.poll()).action is Action.COSIGNED
    assert (await puller.poll()).action is Action.UNCHANGED
    check_copy(world, 0)


async def test_what_was_pushed_is_not_pulled_again() -> None:
    """A log may be pushed and pulled: the copy goes on from where it is, in the middle of a bundle."""
    world, mirror, source, puller = await start(1200)
    await fill(mirror, 600)
    assert (await puller.poll()).action is Action.COSIGNED
    check_copy(world, 1200)
    assert EntriesTile(0, 256) not in source.asked
    assert EntriesTile(2, 256) in source.asked
    await pending(mirror, 1300, old=1200)
    lines_of(await post(mirror, body_of(1200, 1300)), 1300)
    check_copy(world, 1300)


async def test_attack_entries_that_are_not_the_tree_s() -> None:
    """A wrong bundle, full or partial, and a wrong tile: nothing of it is stored or signed, exit code 4."""
    for wrong in (EntriesTile(0, 256), EntriesTile(1, 44), Tile(0, 1, 44), Tile(1, 0, 1)):
        world, _, source, puller = await start(300)
        good = source.bundle(wrong) if isinstance(wrong, EntriesTile) else source.tile(wrong)
        source.bodies[wrong] = good[:-1] + bytes([good[-1] ^ 1])
        polled = await puller.poll()
        assert (polled.action, world.published()) == (Action.UNVERIFIED, None)
        assert not any(key.startswith("logmirror/") for key in world.storage.objects)
        source.bodies.clear()
        assert (await puller.poll()).action is Action.COSIGNED
        check_copy(world, 300)


async def test_attack_fork_that_is_pulled() -> None:
    """A head that does not go on from what was cosigned is a fork, proven by its own tiles; told once."""
    world, mirror, source, puller = await start(600)
    await puller.poll()
    fork = LAB.fork(100)
    source.lab, source.size = fork, 900
    polled = await puller.poll()
    assert polled.action is Action.FORKED
    assert (await puller.poll()).action is Action.FORKED
    (told,) = world.forks
    body = make_evidence(
        log_keys=[LAB.keys[0].verifier],
        witness_keys=[OURS.verifier],
        origin=told.origin,
        ours=told.ours,
        theirs=told.theirs,
        proof=told.proof,
        seen="2026-11-26T00:00:00Z",
    )
    found = check_evidence(parse_evidence(body))
    assert (found.ours.size, found.theirs.size) == (600, 900)
    source.size = 600
    assert (await puller.poll()).action is Action.FORKED
    assert world.size() == 600
    source.lab, source.size = LAB, 900
    assert (await make_puller(world, mirror, source).poll()).action is Action.COSIGNED


async def test_attack_older_head() -> None:
    """Less than was cosigned is an alarm; less than is pending is waited for."""
    _, mirror, source, puller = await start(600)
    await puller.poll()
    await pending(mirror, 900, old=600)
    source.size = 700
    assert (await puller.poll()).action is Action.BEHIND
    source.size = 599
    assert (await puller.poll()).action is Action.OLDER_HEAD


async def test_a_head_that_nobody_signed_and_a_log_that_is_down() -> None:
    """Unverified, and unread; the copy stays."""
    world, _, source, puller = await start(600)
    source.head = LAB.sign(LAB.text(600), OURS)
    assert (await puller.poll()).action is Action.UNVERIFIED
    source.error = UpstreamUnreachableError("down")
    assert (await puller.poll()).action is Action.UNREAD
    assert world.published() is None
    assert "Puller" in repr(puller)


async def test_a_pull_that_ends_early_is_gone_on_with() -> None:
    """What was stored is not read again, by the next process either."""
    world, _, source, puller = await start(BUNDLES_AT_ONCE * 256 * 2 + 5)
    late = EntriesTile(BUNDLES_AT_ONCE, 256)
    source.bodies[late] = b"\0"
    assert (await puller.poll()).action is Action.UNREAD
    source.bodies.clear()
    source.asked.clear()
    assert (await puller.poll()).action is Action.COSIGNED
    assert EntriesTile(0, 256) not in source.asked
    check_copy(world, source.size)


async def test_a_pull_that_a_push_overtakes() -> None:
    """The larger tree stays."""
    world, mirror, _, puller = await start(600)
    second = await world.start()
    await pending(mirror, 600)

    async def other() -> None:
        await pending(second, 900, old=600)
        lines_of(await post(second, body_of(512, 900)), 900)

    world.storage.before("put", f"state/logmirror/logs/{world.state_key.rpartition('/')[2]}", other)
    polled = await puller.poll()
    assert polled.action is Action.REFUSED
    assert world.size() == 900
    assert info_of(await post(mirror, body_of(600, 600))).size == 900


async def test_attack_a_damaged_copy_that_is_pulled_on() -> None:
    """It says what is wrong, with exit code 4: the next poll would not get further either."""
    world, mirror, source, puller = await start(600)
    assert (await puller.poll()).action is Action.COSIGNED
    world.storage.set_bytes(tile_key(LAB.origin, Tile(0, 0, 256)), bytes(256 * 32))
    source.size = 700
    again = make_puller(world, await world.start(), source)
    polled = await again.poll()
    assert (polled.action, polled.after) == (Action.UNVERIFIED, 600)
    assert "tile/1/000.p/2 is stored already, and with other bytes than were proven" in polled.text
    assert world.size() == 600
    assert mirror.stopped is None
