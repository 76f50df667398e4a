"""Pruning: remove partial tiles and bundles that the published tree has in full.

A log that grows by a few records at a time writes its last bundle again each time: kept for ever, these would be a
hundred times what the records are. SPEC: tlog-tiles: partial tiles may be deleted once the full one is there; a client
that looks for one takes the full one.

What it does not do: remove what a reader of the published tree needs, or promise to be complete: a sequencer remembers
where it wrote partial ones; what one leaves that was killed stays, and does no harm.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.paths import partial_prefix
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles, width_of

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage

__all__ = ["Partials"]


class Partials:
    """Where partial tiles and bundles may lie.

    Args:
        storage: where the log is.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._places: set[Tile | EntriesTile] = set()

    def __repr__(self) -> str:
        return f"<Partials at {len(self._places)} places>"

    def note(self, size: int) -> None:
        """Remember where the tree of a size has partial ones."""
        for tile in edge_tiles(size):
            self._places.add(tile.full())
            if tile.level == 0:
                self._places.add(EntriesTile(tile.index, TILE_WIDTH))

    async def prune(self, size: int) -> None:
        """Remove those that the tree of a size has in full.

        Raises:
            StorageError: the storage failed; the same call again goes on.
        """
        for place in [place for place in self._places if _is_full(place, size)]:
            for key in await list_keys(self._storage, partial_prefix(place)):
                await self._storage.delete(key)
            self._places.discard(place)


def _is_full(place: Tile | EntriesTile, size: int) -> bool:
    level = place.level if isinstance(place, Tile) else 0
    return width_of(level, place.index, size) == TILE_WIDTH
