"""Restarts: an upload goes on in the middle of a bundle, whatever became of the process before it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.unit.logmirror.world import (
    LAB,
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


async def test_resume_in_the_middle_of_a_tile() -> None:
    """The mirror checkpoint ends in a bundle that is stored whole: the next upload begins there after a restart."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 900, 1200)
    assert info_of(await post(mirror, body_of(0, 1200, packages=4)), 202).next_entry == 1024
    lines_of(await post(mirror, body_of(900, 900)), 900)
    again = await world.start()
    lines_of(await post(again, body_of(900, 1200)), 1200)
    check_copy(world, 1200)


async def test_resume_where_only_a_wider_partial_bundle_is_stored() -> None:
    """Packages up to 1000 were stored, and the commit failed: 900 is cut out of them, and the rest goes on."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 900, 1000)
    world.storage.fail_before("put", tile_key(LAB.origin, Tile(1, 0, 3)), StorageUnavailableError("down"))
    assert (await post(mirror, body_of(0, 1000))).status == 503
    assert world.has(EntriesTile(3, 232))
    assert not world.has(EntriesTile(3, 132))
    lines_of(await post(mirror, body_of(900, 900)), 900)
    assert world.has(EntriesTile(3, 132))
    again = await world.start()
    await pending(again, 1100, old=1000)
    lines_of(await post(again, body_of(900, 1100)), 1100)
    check_copy(world, 1100)


async def test_progress_that_was_not_remembered_is_brought_again() -> None:
    """A process that dies between a package and the record of it has lost nothing but time."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    world.storage.fail_before("put", world.state_key, StorageUnavailableError("down"))
    assert (await post(mirror, body_of(0, 600, packages=2))).status == 503
    assert world.has(EntriesTile(1, 256))
    again = await world.start()
    assert info_of(await post(again, body_of(512, 600))).next_entry == 0
    lines_of(await post(again, body_of(0, 600)), 600)
    check_copy(world, 600)


@pytest.mark.slow
async def test_restart_over_tiles_of_higher_levels() -> None:
    """The edge is computed from the full tiles that are there, at each level, and the tree goes on from it."""
    world = MirrorWorld()
    mirror = await world.start()
    size = 65_536 + 3 * 256 + 7
    await pending(mirror, size, 2 * size)
    at = 0
    while at < 65_536 + 256:
        at = info_of(await post(mirror, body_of(at, 2 * size, packages=32)), 202).next_entry
        mirror = await world.start()
    lines_of(await post(mirror, body_of(size, size)), size)
    check_copy(world, size)
    assert world.has(Tile(1, 0, 256))


async def test_a_lost_record_is_begun_anew_from_what_was_cosigned() -> None:
    """What is pending can be deleted: the mirror checkpoint is what the next one has to be consistent with."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 600)
    world.storage.remove(world.state_key)
    again = await world.start()
    await pending(again, 700, old=600)
    assert info_of(await post(again, body_of(600, 700))).next_entry == 0
    lines_of(await post(again, body_of(0, 700)), 700)
    check_copy(world, 700)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"origin":"x","secret":"00"}', b"\xff", b'{"origin":"%s","secret":"zz"}', b"[" * 9999]
)
async def test_a_damaged_record_is_refused(body: bytes) -> None:
    """Nobody can say what it was, so nothing is taken until somebody says so by deleting it."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    world.storage.set_bytes(world.state_key, body.replace(b"%s", LAB.origin.encode()))
    again = await world.start()
    assert (await post(again, body_of(300, 300))).status == 503
    assert world.size() == 300


SIZES = st.lists(st.integers(1, 1500), min_size=1, max_size=5, unique=True).map(sorted)


@pytest.mark.slow
@settings(max_examples=30)
@given(sizes=SIZES, cuts=st.lists(st.integers(1, 3), max_size=8), restarts=st.sets(st.integers(0, 8)))
async def test_any_way_to_bring_a_log_ends_with_the_same_copy(
    sizes: list[int], cuts: list[int], restarts: set[int]
) -> None:
    """Any checkpoints, in requests of any number of packages, with restarts between any two."""
    world = MirrorWorld()
    mirror = await world.start()
    at, old, asked = 0, 0, 0
    for size in sizes:
        await pending(mirror, size, old=old)
        old = size
        while True:
            if asked in restarts:
                mirror = await world.start()
            count = cuts[asked] if asked < len(cuts) else None
            asked += 1
            answer = await post(mirror, body_of(at, size, packages=count))
            if answer.status == 200:
                at = size
                break
            at = info_of(answer, 202).next_entry
        check_copy(world, size)
        assert next_of(world) == size
