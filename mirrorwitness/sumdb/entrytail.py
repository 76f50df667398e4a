"""EntryTail: read the entries that a log has gained, believed from the tree's root down.

    bundles ──> the hash of each entry ──> tiles of level 0 ──> with the tiles above them: the root that was signed

Rules:

- Every entry is hashed, so no tile of level 0 is read but that of the right edge: the entries are their own proof.
- Nothing is given out before the root vouches for it.

*Cancellation*: at any point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ProofError, SecurityError
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import Range, leaf_hash
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import TILE_WIDTH, Tile, entries_tiles, tiles_to_trust

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.tiles import EntriesTile

__all__ = ["BUNDLES_AT_ONCE", "EntryTail"]

BUNDLES_AT_ONCE: Final = 16
"""Bundles in memory at once: of records of 700 bytes 3 MB, at the worst 270 MB."""


class EntryTail:
    """Reads one log.

    Args:
        source: where its tiles and entries are.
    """

    def __init__(self, source: LogSource) -> None:
        self._source = source

    def __repr__(self) -> str:
        return f"<EntryTail of {self._source!r}>"

    def batches(self, start: int, tree: Checkpoint) -> Iterator[tuple[EntriesTile, ...]]:
        """Yield the bundles with the entries from `start` on, some at a time, for `read`."""
        batch: list[EntriesTile] = []
        for tile in entries_tiles(start, tree.size):
            batch.append(tile)
            if len(batch) == BUNDLES_AT_ONCE:
                yield tuple(batch)
                batch = []
        if batch:
            yield tuple(batch)

    async def read(self, batch: Sequence[EntriesTile], start: int, tree: Checkpoint) -> list[tuple[int, bytes]]:
        """Return the entries of some bundles from `start` on, with their indexes, once the tree vouches for them.

        Raises:
            ProofError: the log's tiles or entries are not those of its signed tree.
            UpstreamError: they cannot be read.
            StorageError: as before, of a storage.
        """
        bodies = await self._source.read_entries(batch)
        found: list[tuple[int, bytes]] = []
        tiles: dict[Tile, bytes] = {}
        for tile in batch:
            given = tile if tile in bodies else tile.full()
            entries = parse_entries(bodies[given], given)[: tile.width]
            tiles[Tile(0, tile.index, tile.width)] = b"".join(map(leaf_hash, entries))
            found += enumerate(entries, tile.index * TILE_WIDTH)
        first = [Range(tile.index * TILE_WIDTH, tile.index * TILE_WIDTH + 1) for tile in batch]
        others = [tile for tile in tiles_to_trust(first, tree.size) if tile not in tiles]
        try:
            TileHashes(tree.size, {**(await self._source.read_tiles(others)), **tiles}).check_root(tree.root)
        except SecurityError as error:
            raise ProofError(f"the log's entries do not match its checkpoint of size {tree.size}: {error}") from error
        return [(index, entry) for index, entry in found if index >= start]
