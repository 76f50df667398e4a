"""Pruning: remove partial tiles and bundles that the published tree has in full.

A log that grows by a few records at a time writes its last bundle again each time: kept for ever, these would be a
hundred times what the records are. SPEC: tlog-tiles: partial tiles may be deleted once the full one is there; a client
that looks for one takes the full one.

A sequencer remembers where it wrote partial ones. What one left that was killed is found by the next one, as far back
as `LOOKED_BACK` full tiles of each level; what is older stays, and does no harm.

What it does not do: remove what a reader of the published tree needs.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.paths import parse_tile_key, partial_prefix, tile_key
from mirrorwitness.tlog import partials
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.storage import Storage

__all__ = ["Partials"]

LOOKED_BACK: Final = 1000
"""Full tiles before the edge's own thousand, of each level: they have a folder of their own, so one listing finds what
is partial. A quarter of a million records: a sequencer that was killed had published less than that ago."""

_PARTIAL: Final = ".p/"


class Partials(partials.Partials):
    """Where partial tiles and bundles may lie, in a storage.

    Args:
        storage: where the log is.
    """

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage

    async def find(self, size: int) -> None:
        """Find what another sequencer left near the edge of the tree of a size.

        Raises:
            StorageError: the storage failed.
        """
        for place in _last_places(size):
            await self._look(place)
            if place.index >= LOOKED_BACK:
                await self._look(replace(place, index=place.index - LOOKED_BACK))

    async def _look(self, place: Tile | EntriesTile) -> None:
        """Look at the folder of a place, without those inside of it."""
        folder = tile_key(place)[:-3]
        after: str | None = ""
        while after is not None and not after.startswith(f"{folder}x"):
            page = await self._storage.list(folder, after=after)
            for key in [info.key for info in page.objects if _PARTIAL in info.key]:
                with suppress(UpstreamProtocolError):  # `sumdb fsck` tells of it
                    self.add(parse_tile_key(key).full())
            after = page.more_after

    async def prune(self, size: int) -> None:
        """Remove those that the tree of a size has in full.

        Raises:
            StorageError: the storage failed; the same call again goes on.
        """
        for place in self.unneeded(size):
            for key in await list_keys(self._storage, partial_prefix(place)):
                await self._storage.delete(key)
            self.forget(place)


def _last_places(size: int) -> Iterator[Tile | EntriesTile]:
    """Yield the last place of each level that the tree of a size has hashes at, and that of its records."""
    level, hashes = 0, size
    while hashes:
        yield Tile(level, (hashes - 1) // TILE_WIDTH, TILE_WIDTH)
        level, hashes = level + 1, hashes // TILE_WIDTH
    if size:
        yield EntriesTile((size - 1) // TILE_WIDTH, TILE_WIDTH)
