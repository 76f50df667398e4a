"""add-entries: what is taken, what is kept, and what is answered."""

from __future__ import annotations

import pytest
import trio

from mirrorwitness.logmirror.protocol import UploadHead, format_head
from mirrorwitness.logmirror.receiving import IDLE_SECONDS, REQUEST_SECONDS
from mirrorwitness.logmirror.service import UPLOADS_AT_ONCE
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.unit.logmirror.world import (
    LAB,
    OTHER_LAB,
    OURS,
    OURS_PQ,
    MirrorWorld,
    add,
    body_of,
    check_copy,
    fill,
    info_of,
    lines_of,
    next_of,
    pending,
    post,
    published_lines,
)


async def test_a_log_comes_from_beginning_to_end() -> None:
    """All entries and tiles are there when the answer is; only log and mirror sign what is served."""
    world = MirrorWorld(keys=(OURS, OURS_PQ))
    mirror = await world.start()
    lines_of(await fill(mirror, 600), 600, OURS, OURS_PQ)
    check_copy(world, 600)
    lines_of(await fill(mirror, 1200, start=600), 1200, OURS, OURS_PQ)
    check_copy(world, 1200)
    assert published_lines(world) == [LAB.keys[0].name, OURS.name, OURS_PQ.name]
    assert mirror.entries == 1200


async def test_the_mirrors_key_signs_no_pending_checkpoint() -> None:
    """add-checkpoint answers 200 without a body, and nothing is published."""
    world = MirrorWorld()
    mirror = await world.start()
    given = await mirror.add_checkpoint(add(0, 600))
    assert (given.status, given.body) == (200, b"")
    assert world.published() is None
    assert OURS.name.encode() not in world.storage.objects[world.state_key]


@pytest.mark.slow
async def test_the_body_may_come_in_pieces_of_any_length() -> None:
    """One byte at a time is as good as all at once."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 300)
    body = body_of(0, 300)
    lines_of(await post(mirror, *[body[at : at + 1] for at in range(len(body))]), 300)
    check_copy(world, 300)


async def test_before_any_checkpoint_there_is_nothing_to_go_on_from() -> None:
    """404 for a log that is not known; 422 for one of which no checkpoint came."""
    mirror = await MirrorWorld().start()
    assert (await post(mirror, body_of(0, 0, origin="stranger.example"))).status == 404
    assert (await post(mirror, body_of(0, 300))).status == 422
    await pending(mirror, 300)
    info = info_of(await post(mirror, body_of(0, 0)))
    assert (info.size, info.next_entry) == (300, 0)


async def test_the_empty_log_is_mirrored_once_its_checkpoint_came() -> None:
    """[0, 0) commits the empty tree, and again, and it grows from there."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 0)
    lines_of(await post(mirror, body_of(0, 0)), 0)
    world.clock.at += 10
    assert lines_of(await post(mirror, body_of(0, 0)), 0)[0].timestamp == world.clock.at
    await fill(mirror, 5)
    check_copy(world, 5)


@pytest.mark.parametrize("cut", [1, 30, 200, 4000])
async def test_a_prefix_of_the_packages_is_kept(cut: int) -> None:
    """202 names where to go on; what is behind the last whole package is thrown away."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    first = body_of(0, 600, packages=1)
    rest = body_of(0, 600, packages=2).removeprefix(first)
    info = info_of(await post(mirror, first + rest[:cut]), 202)
    assert (info.size, info.next_entry) == (600, 256)
    assert world.has(EntriesTile(0, 256))
    assert not world.has(EntriesTile(1, 256))
    assert world.published() is None
    lines_of(await post(mirror, body_of(256, 600, ticket=info.ticket)), 600)
    check_copy(world, 600)


async def test_where_no_package_is_whole_it_is_a_400() -> None:
    """However much of the first one came; and 400 is also for a head that is none."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    whole = body_of(0, 600, packages=1)
    head = body_of(0, 600, packages=0)
    too_many = whole.removesuffix(b"".join(LAB.subtree_proof(0, 256, 600)))[:-1] + b"\x40" + bytes(64 * 32)
    for body in (b"", head[:-1], head[:10], head, whole[:-1], whole[: len(whole) // 2], too_many):
        assert (await post(mirror, body)).status == 400
    for start, end in ((2**63, 2**63), (0, 2**64 - 1), (7, 6)):
        numbers = start.to_bytes(8, "big") + end.to_bytes(8, "big")
        origin = LAB.origin.encode()
        bad = len(origin).to_bytes(2, "big") + origin + numbers + b"\0\0"
        assert (await post(mirror, bad)).status == 400
    assert not any(key.startswith("logmirror/") for key in world.storage.objects)
    lines_of(await post(mirror, body_of(0, 600)), 600)


async def test_attack_forged_entries_are_not_stored() -> None:
    """A changed entry, or a changed hash of a proof, is a 422, and packages before it stay."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    head = body_of(0, 600, packages=0)
    body = bytearray(body_of(0, 600, packages=1))
    body[len(head) + 2] ^= 1
    assert (await post(mirror, bytes(body))).status == 422
    assert not world.has(EntriesTile(0, 256))
    body = bytearray(body_of(0, 600, packages=2))
    body[-1] ^= 1
    assert (await post(mirror, bytes(body))).status == 422
    assert (world.has(EntriesTile(0, 256)), world.has(EntriesTile(1, 256))) == (True, False)
    assert next_of(world) == 256
    assert world.published() is None


async def test_attack_entries_of_a_fork_are_not_stored() -> None:
    """A log that forks proves its packages to the other tree: they do not fit the pending one."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    fork = LAB.fork(300)
    given = await post(mirror, body_of(0, 600, lab=fork))
    assert given.status == 422
    assert not any(key.startswith("logmirror/") for key in world.storage.objects)


@pytest.mark.slow
async def test_upload_start_within_a_window() -> None:
    """At most 8 x 256 entries that are here may be sent again; one more is a 409 that says where to go on."""
    world = MirrorWorld()
    mirror = await world.start()
    size = 35 * 256
    await pending(mirror, size)
    info = info_of(await post(mirror, body_of(0, size, packages=32)), 202)
    assert info.next_entry == 32 * 256
    for start in (0, 24 * 256 - 1):
        assert info_of(await post(mirror, body_of(start, size, packages=0))).next_entry == 32 * 256
    assert info_of(await post(mirror, body_of(32 * 256 + 1, size, packages=0))).next_entry == 32 * 256
    lines_of(await post(mirror, body_of(24 * 256, size)), size)
    check_copy(world, size)


async def test_a_fresh_cosignature_may_be_asked_for() -> None:
    """[S, S) at the mirror checkpoint gives one with the present time, also while more is pending and stored."""
    world = MirrorWorld()
    mirror = await world.start()
    before = lines_of(await fill(mirror, 600), 600)[0].timestamp
    await pending(mirror, 1200, old=600)
    info = info_of(await post(mirror, body_of(600, 1200, packages=1)), 202)
    assert info.next_entry == 768
    world.clock.at += 60
    again = await post(mirror, body_of(600, 600))
    assert lines_of(again, 600)[0].timestamp == before + 60
    assert world.size() == 600


async def test_slow_client_is_answered_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    """A client that stalls inside its first package gets a 400; inside a later one what it brought is kept, 202."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    first = body_of(0, 600, packages=1)

    async def stall(number: int) -> None:
        if number:
            await trio.sleep_forever()

    started = trio.current_time()
    assert (await post(mirror, first[:-1], b"x", before=stall)).status == 400
    assert trio.current_time() - started == pytest.approx(IDLE_SECONDS)
    assert info_of(await post(mirror, first, b"x", before=stall), 202).next_entry == 256

    async def drip(_number: int) -> None:
        await trio.sleep(IDLE_SECONDS - 1)

    started = trio.current_time()
    body = body_of(256, 600)
    given = await post(mirror, *[body[at : at + 100] for at in range(0, len(body), 100)], before=drip)
    assert given.status == 400
    assert trio.current_time() - started == pytest.approx(REQUEST_SECONDS)
    assert autojump_clock.autojump_threshold == 0


async def test_a_client_that_leaves_has_brought_what_was_whole() -> None:
    """The next one goes on there, also after a restart."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)

    async def leave(number: int) -> None:
        if number:
            raise ConnectionAbortedError("gone")

    with pytest.raises(ConnectionAbortedError):
        await post(mirror, body_of(0, 600, packages=1), b"x", before=leave)
    assert next_of(world) == 256
    again = await world.start()
    lines_of(await post(again, body_of(256, 600)), 600)


async def test_uploads_are_bounded() -> None:
    """One more than `UPLOADS_AT_ONCE` is told to wait; those that wait for their clients hold no lock."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 300)
    go = trio.Event()
    held: list[int] = []

    async def wait(_number: int) -> None:
        await go.wait()

    async def paused() -> None:
        held.append((await post(mirror, body_of(0, 300), before=wait)).status)

    async with trio.open_nursery() as nursery:
        for _ in range(UPLOADS_AT_ONCE):
            nursery.start_soon(paused)
        await trio.testing.wait_all_tasks_blocked()
        given = await post(mirror, body_of(0, 300))
        assert (given.status, given.retry_after) == (429, 5)
        go.set()
    assert held == [200] * UPLOADS_AT_ONCE
    check_copy(world, 300)


async def test_two_logs_do_not_meet() -> None:
    """Each has its copy; the entries of one are none of the other."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    await pending(mirror, 300, lab=OTHER_LAB)
    assert (await post(mirror, body_of(0, 300, origin=OTHER_LAB.origin))).status == 422
    lines_of(await post(mirror, body_of(0, 300, lab=OTHER_LAB)), 300, lab=OTHER_LAB)
    check_copy(world, 300)
    check_copy(world, 300, OTHER_LAB)


@pytest.mark.slow
async def test_a_large_log_has_tiles_of_three_levels() -> None:
    """Over 65,536 entries twice, in requests of 32 packages."""
    world = MirrorWorld()
    mirror = await world.start()
    size = 2 * 65_536 + 300
    await pending(mirror, size)
    at, ticket = 0, b""
    while True:
        given = await post(mirror, body_of(at, size, ticket=ticket, packages=32))
        if given.status == 200:
            break
        info = info_of(given, 202)
        assert info.next_entry == at + 8192
        at, ticket = info.next_entry, info.ticket
    lines_of(given, size)
    check_copy(world, size)
    assert world.has(Tile(2, 0, 2))


def test_heads_that_are_none_are_refused_when_written() -> None:
    """A client of ours cannot send them."""
    for head in (UploadHead(b"o", 2, 1), UploadHead(b"o", 0, 2**63), UploadHead(b"o" * 65_536, 0, 0)):
        with pytest.raises(Exception, match=r"expected|at most"):
            format_head(head)
