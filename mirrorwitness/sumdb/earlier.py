"""EarlierLog: the tiles of every earlier tree, out of those of a later one.

Rules:

- A partial tile is the beginning of every wider one of its place. So what a log wrote for its later tree serves all
  earlier sizes, also those for which it never signed a head.
- What is there as it was asked for is given as it is.

What it does not do: cut bundles: an entry is found in that of the later tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import ObjectMissingError
from mirrorwitness.tlog.tiles import Tile, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.tiles import EntriesTile

__all__ = ["EarlierLog"]


class EarlierLog:
    """Reads a log in a storage as it was; a `mirrorwitness.sumdb.source.LogSource`.

    Args:
        source: the log as it is.
        size: gives the size of its tree.
    """

    def __init__(self, source: LogSource, *, size: Callable[[], int]) -> None:
        self._source = source
        self._size = size

    def __repr__(self) -> str:
        return f"<EarlierLog of {self._source!r}, at most {self._size()}>"

    async def read_head(self) -> bytes:
        """Return the published checkpoint, as it is."""
        return await self._source.read_head()

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles; where one is not there, the beginning of a wider one.

        Raises:
            ObjectMissingError: there is none either.
            UpstreamProtocolError: one has another length than its name says.
            StorageError: one cannot be read.
        """
        try:
            return await self._source.read_tiles(tiles)
        except ObjectMissingError:
            if all(tile.is_full for tile in tiles):
                raise
        found: dict[Tile, bytes] = {}
        for tile in tiles:
            found |= await self._read(tile)
        return found

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles, as they are."""
        return await self._source.read_entries(tiles)

    async def _read(self, tile: Tile) -> dict[Tile, bytes]:
        try:
            return await self._source.read_tiles([tile])
        except ObjectMissingError:
            width = width_of(tile.level, tile.index, self._size())
            if width <= tile.width:
                raise
        ((_, body),) = (await self._source.read_tiles([Tile(tile.level, tile.index, width)])).items()
        return {tile: body[: tile.byte_size]}
