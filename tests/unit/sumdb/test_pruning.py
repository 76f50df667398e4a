"""Partial tiles that a killed sequencer left are removed by the next one, and nothing that a reader needs."""

from __future__ import annotations

import pytest

from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.paths import TILE_PREFIX, parse_tile_key, partial_prefix, tile_key
from mirrorwitness.sumdb.pruning import LOOKED_BACK, Partials
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import begin_log, make_proposals, reopen


async def partials(storage: MemoryStorage) -> list[str]:
    return [key for key in await list_keys(storage, TILE_PREFIX) if ".p/" in key]


@pytest.mark.parametrize("end", [512, 600])
async def test_what_a_killed_sequencer_left_is_removed_at_the_next_publication(end: int) -> None:
    """Whether it was killed before it published or in the middle of removing: only the edge of the tree stays."""
    storage = MemoryStorage()
    log = await begin_log(storage)
    for start in range(0, end, 40):
        await log.append(make_proposals(start, min(start + 40, end)))
    assert len(await partials(storage)) > 20
    storage.set_bytes(f"{TILE_PREFIX}0/nonsense.p/1", b"told by fsck")
    log = await reopen(storage)
    assert await log.publish(log.head)
    storage.remove(f"{TILE_PREFIX}0/nonsense.p/1")
    edge: list[Tile | EntriesTile] = [Tile(1, 0, 2)]
    edge += [Tile(0, 2, end % 256), EntriesTile(2, end % 256)] if end % 256 else []
    left = await partials(storage)
    assert {parse_tile_key(key).full() for key in left} == {tile.full() for tile in edge}
    assert {tile_key(tile) for tile in edge} <= set(left)
    assert (await fsck(storage, on_fault=lambda fault: pytest.fail(str(fault)))).faults == 0


@pytest.mark.parametrize(
    ("place", "size", "is_found"),
    [
        (Tile(0, 0, 256), 256, True),
        (Tile(0, 999, 256), 1_001 * 256, True),
        (EntriesTile(999, 256), 1_001 * 256, True),
        (Tile(0, 1_001, 256), 2_500 * 256 + 1, True),
        (EntriesTile(5, 256), 2_500 * 256, False),
        (Tile(1, 3, 256), 2_500 * 256, True),
        (Tile(0, 1_234_567, 256), 1_234_900 * 256, True),
        (Tile(0, 999_999, 256), 1_000_001 * 256, True),
    ],
)
async def test_how_far_back_is_looked(place: Tile | EntriesTile, size: int, is_found: bool) -> None:  # noqa: FBT001
    """The thousand of the edge and the one before it, of every level and of the records; not through a whole log."""
    storage = MemoryStorage()
    storage.set_bytes(f"{partial_prefix(place)}7", b"")
    storage.set_bytes(tile_key(place), b"")
    for index in range(3 * LOOKED_BACK):
        storage.set_bytes(f"{TILE_PREFIX}0/x777/{index:03}", b"")
    found = Partials(storage)
    await found.find(size)
    assert repr(found) == f"<Partials at {int(is_found)} places>"
    await found.prune(size)
    assert bool(await partials(storage)) is not is_found


async def test_a_log_without_records_has_nothing_to_look_for() -> None:
    """Nothing is listed."""
    found = Partials(MemoryStorage())
    await found.find(0)
    assert repr(found) == "<Partials at 0 places>"
