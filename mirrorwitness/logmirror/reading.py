"""Reading a log so that it can be believed: its entries and hashes, from the root that it signed down.

Rules:

- Tiles are checked against the root before anything of them is used (`TileHashes.check_root`); entries against the
  tiles. What does not fit is a fault of whoever serves it, and evidence of nothing: a log does not sign tiles.
- Only what is needed is read: for entries the tiles of level 1 and above, where each full bundle has one hash, and the
  right edge. Those read for the bundles before are kept, so a tile of level 1 is read once for 256 bundles.

What it does not do: decide what to read, or keep anything but those tiles.

*Concurrency*: one task at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ProofError, SecurityError
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import Range, leaf_hash, root_of
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, tiles_to_trust

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.checkpoint import Checkpoint

__all__ = ["BUNDLES_AT_ONCE", "TreeReader"]

BUNDLES_AT_ONCE: Final = 16
"""Bundles that `TreeReader.read_bundles` reads at once: 4,096 entries, some 4 MB of usual size and 268 MB at worst."""


class TreeReader:
    """Reads one tree of a log.

    Args:
        source: where it is.
        tree: its head, which the log signed.
    """

    def __init__(self, source: LogSource, tree: Checkpoint) -> None:
        self._source = source
        self._tree = tree
        self._tiles: dict[Tile, bytes] = {}

    def __repr__(self) -> str:
        return f"<TreeReader of {self._tree}, {len(self._tiles)} tiles kept>"

    async def hashes(self, nodes: Iterable[Range]) -> TileHashes:
        """Return hashes that `hash_of` gives for these nodes, and that are those of the tree.

        Raises:
            ProofError: what is served has another root.
            UpstreamError: it cannot be read.
            StorageError: as before, of a storage.
        """
        size = self._tree.size
        needed = tiles_to_trust(nodes, size)
        kept = {each: self._tiles[each] for tile in needed for each in (tile, tile.full()) if each in self._tiles}
        missing = [tile for tile in needed if tile not in kept and tile.full() not in kept]
        if missing:
            kept |= await self._source.read_tiles(missing)
        hashes = TileHashes(size, kept)
        try:
            hashes.check_root(self._tree.root)
        except SecurityError as error:
            self._tiles = {}
            raise ProofError(f"the tiles that are served do not match the head {self._tree}: {error}") from error
        self._tiles = kept
        return hashes

    async def read_bundles(self, start: int, end: int) -> list[bytes]:
        """Return entries of the tree, from the beginning of a bundle on.

        Args:
            start: index of the first, a multiple of 256.
            end: one past the last: a multiple of 256, or the tree's size.

        Raises:
            ProofError: what is served is not what the tree has.
            UpstreamError: it cannot be read, or is no bundle.
            StorageError: as before, of a storage.
        """
        firsts = range(start, end, TILE_WIDTH)
        spans = [Range(first, min(first + TILE_WIDTH, end)) for first in firsts]
        tiles = [EntriesTile(span.start // TILE_WIDTH, span.end - span.start) for span in spans]
        hashes = await self.hashes([span for span in spans if span.end - span.start == TILE_WIDTH])
        found = await self._source.read_entries(tiles)
        entries: list[bytes] = []
        for tile, span in zip(tiles, spans, strict=True):
            given = tile if tile in found else tile.full()
            bundle = parse_entries(found[given], given)[: tile.width]
            _check_bundle(tile, span, bundle, hashes)
            entries += bundle
        return entries


def _check_bundle(tile: EntriesTile, span: Range, entries: Sequence[bytes], hashes: TileHashes) -> None:
    leaves = [leaf_hash(entry) for entry in entries]
    if tile.is_full:
        is_right = root_of(leaves) == hashes.hash_of(span)
    else:
        is_right = b"".join(leaves) == hashes.bytes_of(Tile(0, tile.index, tile.width))
    if not is_right:
        raise ProofError(f"{tile}: the entries that are served are not those of the tree of {hashes.size} entries")
