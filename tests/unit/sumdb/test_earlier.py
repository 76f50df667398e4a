"""Tiles of earlier trees: cut from those of the later one, and nothing else is made up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ObjectMissingError
from mirrorwitness.sumdb.earlier import EarlierLog
from mirrorwitness.tlog.tiles import EntriesTile, Tile

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZE = 300


@dataclass
class OneHead:
    """A log that signed one head, of `SIZE`, and has the tiles of that alone."""

    asked: list[Tile] = field(default_factory=list)

    async def read_head(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return b"head"

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        await trio.lowlevel.checkpoint()
        self.asked += tiles
        for tile in tiles:
            if tile not in {Tile(0, 0, 256), Tile(0, 1, 44), Tile(1, 0, 1)}:
                raise ObjectMissingError(f"{tile}")
        return {tile: body_of(tile) for tile in tiles}

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        await trio.lowlevel.checkpoint()
        return dict.fromkeys(tiles, b"entries")


def body_of(tile: Tile) -> bytes:
    return b"".join(bytes([tile.level, tile.index, at]) + bytes(29) for at in range(tile.width))


def make_log() -> tuple[OneHead, EarlierLog]:
    source = OneHead()
    return source, EarlierLog(source, size=lambda: SIZE)


async def test_a_narrower_tile_is_the_beginning_of_a_wider_one() -> None:
    """Those that are there are given as they are."""
    _, log = make_log()
    tiles = [Tile(0, 0, 256), Tile(0, 1, 43), Tile(1, 0, 1)]
    assert await log.read_tiles(tiles) == {tile: body_of(tile) for tile in tiles}


async def test_what_is_there_is_read_at_once() -> None:
    """Nothing is asked for twice."""
    source, log = make_log()
    tiles = [Tile(0, 0, 256), Tile(0, 1, 44)]
    assert set(await log.read_tiles(tiles)) == set(tiles)
    assert source.asked == tiles


@pytest.mark.parametrize("tile", [Tile(0, 1, 45), Tile(0, 1, 256), Tile(0, 2, 1), Tile(2, 0, 1)])
async def test_what_no_tree_has_is_missing(tile: Tile) -> None:
    """A wider tile than the newest, one behind the end, a level that is not there."""
    _, log = make_log()
    with pytest.raises(ObjectMissingError):
        await log.read_tiles([tile])
    with pytest.raises(ObjectMissingError):
        await log.read_tiles([Tile(0, 1, 43), tile])


async def test_head_and_entries_are_as_they_are() -> None:
    """Only hashes are cut."""
    _, log = make_log()
    assert await log.read_head() == b"head"
    assert await log.read_entries([EntriesTile(1, 3)]) == {EntriesTile(1, 3): b"entries"}
    assert "at most 300" in repr(log)
