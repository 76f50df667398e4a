"""Several clients and several replicas at once: nothing is lost, nothing goes back, nothing contradicts itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import PreconditionFailedError, StorageUnavailableError
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.unit.logmirror.world import (
    LAB,
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
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def packages(start: int, end: int) -> list[bytes]:
    """Return a request in pieces: the head, then one for each package."""
    pieces = [body_of(start, end, packages=0)]
    for count in range(1, (end + 255) // 256 - start // 256 + 1):
        pieces.append(body_of(start, end, packages=count).removeprefix(b"".join(pieces)))
    return pieces


def once(at: int, work: Callable[[], Awaitable[object]]) -> Callable[[int], Awaitable[None]]:
    """Return what does some work before a piece of that number."""

    async def before(number: int) -> None:
        if number == at:
            await work()

    return before


async def test_interleaved_uploads() -> None:
    """Each meets packages that the other one stored already, and both go on."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)

    async def other() -> None:
        assert info_of(await post(mirror, body_of(0, 600, packages=2)), 202).next_entry == 512

    lines_of(await post(mirror, *packages(0, 600), before=once(2, other)), 600)
    check_copy(world, 600)
    assert mirror.entries == 600


async def test_an_upload_that_was_overtaken_as_a_whole() -> None:
    """Somebody else brought and committed all of it while the first package was on its way: 200 all the same."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    await pending(mirror, 600, old=300)

    async def other() -> None:
        lines_of(await post(mirror, body_of(300, 600)), 600)

    lines_of(await post(mirror, *packages(300, 600), before=once(1, other)), 600)
    check_copy(world, 600)


async def test_an_upload_that_was_interrupted_is_told_how_far_others_are() -> None:
    """The next entry of a 202 is the mirror's, not the end of what this client sent."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)

    async def other() -> None:
        assert info_of(await post(mirror, body_of(0, 600, packages=2)), 202).next_entry == 512

    given = await post(mirror, *packages(0, 600)[:2], b"x", before=once(2, other))
    assert info_of(given, 202).next_entry == 512
    lines_of(await post(mirror, body_of(512, 600)), 600)


async def test_commit_race_does_not_rewind() -> None:
    """A larger tree was committed between the packages and the commit: 409, and the mirror checkpoint stays."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 600)
    await pending(mirror, 900, old=600)
    assert info_of(await post(mirror, body_of(600, 900, packages=1)), 202).next_entry == 768

    async def other() -> None:
        await pending(mirror, 1200, old=900)
        lines_of(await post(mirror, body_of(768, 1200)), 1200)

    info = info_of(await post(mirror, *packages(768, 900), before=once(1, other)))
    assert (info.size, info.next_entry) == (1200, 1200)
    assert world.size() == 1200
    check_copy(world, 1200)


async def test_commit_race_behind_upload_end_goes_on() -> None:
    """A smaller tree was committed meanwhile: this one is still larger."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 600)
    await pending(mirror, 900, 1200, old=600)

    async def other() -> None:
        lines_of(await post(mirror, body_of(600, 900)), 900)
        assert world.size() == 900

    lines_of(await post(mirror, *packages(600, 1200), before=once(1, other)), 1200)
    check_copy(world, 1200)


async def test_a_pending_checkpoint_that_moves_meanwhile_changes_nothing() -> None:
    """The upload is towards the one that it began with."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)

    async def other() -> None:
        await pending(mirror, 1200, old=600)

    lines_of(await post(mirror, *packages(0, 600), before=once(3, other)), 600)
    check_copy(world, 600)
    await fill(mirror, 1200, start=600, old=1200)
    check_copy(world, 1200)


async def test_late_commit_behind_the_next_entry() -> None:
    """An older pending checkpoint is committed although the next entry is past it, from full bundles that are cut."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 600)
    await pending(mirror, 900, 1200, old=600)
    assert info_of(await post(mirror, body_of(600, 1200, packages=2)), 202).next_entry == 1024
    lines_of(await post(mirror, body_of(900, 900)), 900)
    check_copy(world, 900)
    lines_of(await post(mirror, body_of(600, 900)), 900)  # sent again, and skipped
    lines_of(await post(mirror, body_of(1024, 1200)), 1200)
    check_copy(world, 1200)


async def test_late_commit_far_behind_the_next_entry() -> None:
    """Nothing is sent, so nothing is too much, however far the next entry is."""
    world = MirrorWorld()
    mirror = await world.start()
    size = 35 * 256
    await pending(mirror, 300, size)
    assert info_of(await post(mirror, body_of(0, size, packages=34)), 202).next_entry == 34 * 256
    lines_of(await post(mirror, body_of(300, 300)), 300)
    check_copy(world, 300)


async def test_two_replicas_fill_one_copy() -> None:
    """One goes on where the other one is, with what lies in the storage."""
    world = MirrorWorld()
    first, second = await world.start(), await world.start()
    await pending(first, 600)
    assert info_of(await post(first, body_of(0, 600, packages=1)), 202).next_entry == 256
    assert info_of(await post(second, body_of(256, 600, packages=1)), 202).next_entry == 512
    lines_of(await post(first, body_of(512, 600)), 600)
    await pending(second, 1200, old=600)
    lines_of(await post(second, body_of(600, 1200)), 1200)
    lines_of(await post(first, body_of(1200, 1200)), 1200)
    check_copy(world, 1200)


async def test_two_replicas_with_one_checkpoint_at_once() -> None:
    """Of two that move the pending checkpoint from one size, one is told the size of the other."""
    world = MirrorWorld()
    first, second = await world.start(), await world.start()
    await pending(first, 600)
    assert (await second.add_checkpoint(add(600, 700))).status == 200
    given = await first.add_checkpoint(add(600, 800))
    assert (given.status, given.body) == (409, b"700\n")


async def test_a_replica_loses_the_swap_of_the_pending_checkpoint() -> None:
    """It reads anew, and finds that the client has to begin at another size."""
    world = MirrorWorld()
    first, second = await world.start(), await world.start()
    await pending(first, 600)

    async def other() -> None:
        await pending(second, 700, old=600)

    world.storage.before("put", world.state_key, other)
    given = await first.add_checkpoint(add(600, 800))
    assert (given.status, given.body) == (409, b"700\n")


async def test_a_replica_loses_every_swap() -> None:
    """Then it is a 503 that may be tried again, and nothing is half done."""
    world = MirrorWorld()
    mirror = await world.start()
    world.storage.fail_before("put", world.state_key, PreconditionFailedError("lost"), times=100)
    given = await mirror.add_checkpoint(add(0, 600))
    assert given.status == 503
    assert world.state_key not in world.storage.objects


async def test_a_replica_that_loses_the_commit_finds_the_larger_tree() -> None:
    """The swap of what was cosigned decides; whoever is smaller gets a 409."""
    world = MirrorWorld()
    first, second = await world.start(), await world.start()
    await fill(first, 600)
    await pending(first, 900, old=600)
    await pending(second, 1200, old=900)
    assert info_of(await post(first, body_of(600, 900, packages=1)), 202).next_entry == 768

    async def other() -> None:
        lines_of(await post(second, body_of(768, 1200)), 1200)

    world.storage.before("put", tile_key(LAB.origin, EntriesTile(3, 132)), other)
    info = info_of(await post(first, body_of(768, 900)))
    assert (info.size, info.next_entry) == (1200, 1200)
    assert world.size() == 1200


async def test_attack_stored_bytes_that_differ_from_proven_ones() -> None:
    """Somebody changed the storage: nothing is signed over it, and what is there is not overwritten."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    key = tile_key(LAB.origin, EntriesTile(0, 256))
    world.storage.set_bytes(key, b"something else")
    assert (await post(mirror, body_of(0, 600))).status == 503
    assert world.storage.objects[key] == b"something else"
    assert world.published() is None


@pytest.mark.parametrize("tile", [Tile(0, 1, 256), EntriesTile(2, 256), Tile(0, 2, 256)])
async def test_attack_stored_tiles_that_were_changed_after_they_were_proven(tile: Tile | EntriesTile) -> None:
    """What is committed is computed from what is stored: a tree with another root is signed by nobody."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 700, 968)
    assert info_of(await post(mirror, body_of(0, 968, packages=3)), 202).next_entry == 768
    key = tile_key(LAB.origin, tile)
    damaged = bytearray(world.storage.objects[key])
    damaged[40] ^= 1
    world.storage.set_bytes(key, bytes(damaged))
    again = await world.start()
    given = await post(again, body_of(700, 700))
    is_used = tile != Tile(0, 2, 256)  # at size 700 the third bundle is hashed from its entries
    assert (given.status, world.size()) == ((503, None) if is_used else (200, 700))


async def test_kept_progress_is_never_ahead_of_the_objects() -> None:
    """A storage that fails while a package is stored leaves the next entry where it was."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    world.storage.fail_before("put", tile_key(LAB.origin, Tile(0, 1, 256)), StorageUnavailableError("down"), times=1)
    given = await post(mirror, body_of(0, 600))
    assert (given.status, given.retry_after) == (503, 5)
    assert mirror.copy_of(mirror.logs.get(LAB.origin)).size == 256  # type: ignore[arg-type]
    again = await world.start()
    lines_of(await post(again, body_of(0, 600)), 600)
    assert next_of(world) == 600
    check_copy(world, 600)
