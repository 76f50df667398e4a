"""Clients that hold places: whoever brings nothing makes way for the next one, and keeps what it brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.logmirror.cosigner import FRESH_SECONDS
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.logmirror.protocol import parse_info
from mirrorwitness.logmirror.service import SLOW_SECONDS, UPLOADS_AT_ONCE
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.tiles import EntriesTile
from mirrorwitness.witness.lab import LabLog
from tests.unit.logmirror.world import LAB, MirrorWorld, body_of, check_copy, fill, lines_of, pending, post, receiver

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.testing import MockClock

    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.witness.protocol import Answer


async def stall(number: int) -> None:
    """Send the first piece, and nothing more."""
    if number:
        await trio.sleep_forever()


async def fill_places(
    mirror: LogMirror, nursery: trio.Nursery, before: Callable[[int], Awaitable[None]], *, count: int, packages: int = 0
) -> list[Answer]:
    """Let uploads of so many packages begin; return where their answers will be."""
    answers: list[Answer] = []

    async def upload() -> None:
        answers.append(await mirror.add_entries(receiver(body_of(0, 600, packages=packages), b"x", before=before)))

    for _ in range(count):
        nursery.start_soon(upload)
    await trio.testing.wait_all_tasks_blocked()
    return answers


async def test_attack_slow_clients_hold_all_places(autojump_clock: MockClock) -> None:
    """SPEC: "avoids a denial-of-service attack": after some seconds an honest client gets the place of one of them."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    async with trio.open_nursery() as nursery:
        answers = await fill_places(mirror, nursery, stall, count=UPLOADS_AT_ONCE)
        assert (await post(mirror, body_of(0, 600))).status == 429
        await trio.sleep(SLOW_SECONDS)
        assert lines_of(await post(mirror, body_of(0, 600)), 600)
        (given,) = answers
        assert (given.status, given.body) == (
            400,
            b"no package was complete: the body takes too long, and others wait\n",
        )
        nursery.cancel_scope.cancel()
    check_copy(world, 600)


async def test_who_makes_way_keeps_what_it_brought(autojump_clock: MockClock) -> None:
    """It is told where to go on; whoever brings packages in time stays."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    begun: list[Answer] = []

    async def drip(number: int) -> None:
        await trio.sleep(SLOW_SECONDS - 1 if number in {1, 2} else 0)

    async def bring() -> None:
        body = [body_of(0, 600, packages=count) for count in (0, 1, 2, 3)]
        pieces = [body[0], body[1][len(body[0]) :], body[2][len(body[1]) :], body[3][len(body[2]) :]]
        begun.append(await mirror.add_entries(receiver(*pieces, before=drip)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bring)
        await trio.sleep(1)
        answers = await fill_places(mirror, nursery, stall, count=UPLOADS_AT_ONCE - 1, packages=1)
        await trio.sleep(SLOW_SECONDS)
        assert (await post(mirror, body_of(0, 256))).status == 409  # it is in; no checkpoint has that size
        await trio.testing.wait_all_tasks_blocked()
        (given,) = answers
        assert (given.status, parse_info(given.body).next_entry) == (202, 256)
        await trio.sleep(SLOW_SECONDS)
        assert [each.status for each in begun] == [200]
        nursery.cancel_scope.cancel()


async def test_uploads_that_wait_for_our_storage_make_no_way(autojump_clock: MockClock) -> None:
    """That is not their client's fault."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)

    async def hang() -> None:
        await trio.sleep_forever()

    world.storage.before("put", tile_key(LAB.origin, EntriesTile(0, 256)), hang)
    async with trio.open_nursery() as nursery:
        await fill_places(mirror, nursery, stall, count=UPLOADS_AT_ONCE, packages=1)
        await trio.sleep(2 * SLOW_SECONDS)
        assert (await post(mirror, body_of(0, 600))).status == 429
        nursery.cancel_scope.cancel()


async def test_attack_uploads_of_nothing_cost_no_signature() -> None:
    """Nobody has to have signed them: within some seconds they get the cosignature that is there, and write nothing."""
    world = MirrorWorld()
    mirror = await world.start()
    first = await fill(mirror, 300)
    world.storage.operations.clear()
    for _ in range(10):
        assert (await post(mirror, body_of(300, 300))).body == first.body
    assert world.storage.keys_of("put") == []
    world.clock.at += FRESH_SECONDS
    again = await post(mirror, body_of(300, 300))
    assert lines_of(again, 300)[0].timestamp == lines_of(first, 300)[0].timestamp + FRESH_SECONDS
    second = await world.start()  # another process cannot know that all places have what is recorded
    lines_of(await post(second, body_of(300, 300)), 300)
    assert world.storage.keys_of("put") != []


@pytest.mark.slow
async def test_packages_of_the_longest_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    """256 entries of 65,535 bytes are one package; it is hashed in a thread, so others have their turn."""

    def entry(log: LabLog, index: int) -> bytes:
        return b"%d/%d" % (index, len(log.origin)) + bytes(MAX_ENTRY_BYTES - 8)

    monkeypatch.setattr(LabLog, "entry", entry)
    lab = LabLog(LAB.origin, LAB.keys)
    world = MirrorWorld()
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        await fill(await world.start(), 256, lab=lab)
        nursery.cancel_scope.cancel()
    assert world.size() == 256
    assert turns > 100
