"""Prover: inclusion and consistency proofs, and entries, out of a log's tiles.

Rules:

- Tiles and bundles never change, so the ones used last are kept. A full one answers for the partial ones of its place.
- Of a source that is believed the hashes of large nodes are kept as well: to fold the 256 hashes of a tile again for
  every proof would be half of what a proof costs.
- Where the caller names the root of the tree, the tiles are believed from there down before anything is answered, and
  what does not fit is forgotten. Without, an answer is as good as the source.

What it does not do: read heads, or check an entry against the tree: `mirrorwitness.tlog.merkle.check_inclusion` of the
entry and a proof does.

*Concurrency*: all methods may be called by many tasks at once; two that need one tile at one time may both read it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    complete_ranges,
    make_proof,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
)
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, tiles_needed, tiles_to_trust

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.merkle import Hash, Range

__all__ = ["BUNDLES_KEPT", "TILES_KEPT", "Prover"]

TILES_KEPT: Final = 4096
"""Tiles that are kept, of 8,192 bytes each: 32 MiB. All tiles above the lowest level of 100 million entries are 1,600;
the rest are those of packages that are asked for now."""

BUNDLES_KEPT: Final = 64
"""Bundles of entries that are kept, of some 180,000 bytes each with records of 700: 12 MB."""

NODES_KEPT: Final = 16_384
"""Hashes of nodes that are kept, of some 300 bytes each: 5 MB. Of ten million entries there are 20,000 that count."""

NODE_ENTRIES: Final = 4 * TILE_WIDTH
"""Entries below a node whose hash is kept: at least four hashes of a tile above the lowest level."""

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Prover:
    """Makes proofs for one log.

    Args:
        source: where its tiles and entries are.
        tiles_kept: how many tiles are kept.
        bundles_kept: how many bundles of entries are kept.
    """

    def __init__(self, source: LogSource, *, tiles_kept: int = TILES_KEPT, bundles_kept: int = BUNDLES_KEPT) -> None:
        self._source = source
        self._tiles: _Recent[Tile, bytes] = _Recent(tiles_kept)
        self._bundles: _Recent[EntriesTile, list[bytes]] = _Recent(bundles_kept)
        self._nodes: _Recent[Range, Hash] = _Recent(NODES_KEPT)

    def __repr__(self) -> str:
        return f"<Prover of {self._source!r}, {len(self._tiles)} tiles and {len(self._bundles)} bundles kept>"

    async def inclusion(self, index: int, size: int, *, root: Hash | None = None) -> list[Hash]:
        """Return the proof that the tree of a size has its entry at an index.

        Args:
            index: which entry.
            size: the tree's size.
            root: its hash, where the source is not to be believed.

        Raises:
            ConfigurationError: that tree has no such entry.
            ProofError: the tiles have another root.
            UpstreamError: the source cannot be read, or has no such tiles.
            StorageError: as before, of a storage.
        """
        return await self._prove(plan_inclusion(index, size), size, root)

    async def consistency(self, old: int, new: int, *, root: Hash | None = None) -> list[Hash]:
        """Return the proof that the tree of one size has grown from that of another; `root` is that of the new one.

        Raises:
            ConfigurationError: the old size is larger than the new, or one is no size.
            ProofError: the tiles have another root.
            UpstreamError: the source cannot be read, or has no such tiles.
            StorageError: as before, of a storage.
        """
        return await self._prove(plan_consistency(old, new), new, root)

    async def root(self, size: int) -> Hash:
        """Return the root of the tree of a size, as the tiles have it.

        Raises:
            UpstreamError: the source cannot be read, or has no such tiles.
            StorageError: as before, of a storage.
        """
        if not size:
            return EMPTY_ROOT
        needed = tiles_needed(complete_ranges(0, size), size)
        return TileHashes(size, await self._read_tiles(needed)).root()

    async def entry(self, index: int, size: int) -> bytes:
        """Return an entry of the tree of a size; it is not checked against the tree.

        Raises:
            ConfigurationError: that tree has no such entry.
            UpstreamProtocolError: its bundle is none.
            UpstreamError: the source cannot be read, or has no such bundle.
            StorageError: as before, of a storage.
        """
        if not 0 <= index < size:
            raise ConfigurationError(f"entry {index} of a tree of size {size}: expected 0 <= index < size")
        place, at = divmod(index, TILE_WIDTH)
        tile = EntriesTile(place, min(TILE_WIDTH, size - place * TILE_WIDTH))
        return (await self._read_bundle(tile))[at]

    async def _prove(self, plan: Sequence[Range], size: int, root: Hash | None) -> list[Hash]:
        nodes = nodes_needed(plan)
        if root is None:
            known = {node: kept for node in nodes if (kept := self._nodes.get(node)) is not None}
            missing = [node for node in nodes if node not in known]
            hashes = TileHashes(size, await self._read_tiles(tiles_needed(missing, size)))
            for node in missing:
                known[node] = hashes.hash_of(node)
                if node.end - node.start >= NODE_ENTRIES:
                    self._nodes.put(node, known[node])
            return make_proof(plan, known.__getitem__)
        found = await self._read_tiles(tiles_to_trust(nodes, size))
        hashes = TileHashes(size, found)
        try:
            hashes.check_root(root)
        except (ProofError, UpstreamProtocolError):
            for tile in found:
                self._tiles.forget(tile)
            raise
        return make_proof(plan, hashes.hash_of)

    async def _read_tiles(self, tiles: Sequence[Tile]) -> Mapping[Tile, bytes]:
        found: dict[Tile, bytes] = {}
        missing: list[Tile] = []
        for tile in tiles:
            given = tile if (body := self._tiles.get(tile)) is not None else tile.full()
            body = body if body is not None else self._tiles.get(given)
            if body is None:
                missing.append(tile)
            else:
                found[given] = body
        if missing:
            read = await self._source.read_tiles(missing)
            for tile, body in read.items():
                self._tiles.put(tile, body)
            found |= read
        return found

    async def _read_bundle(self, tile: EntriesTile) -> list[bytes]:
        entries = self._bundles.get(tile) or self._bundles.get(tile.full())
        if entries is None:
            ((given, body),) = (await self._source.read_entries([tile])).items()
            entries = parse_entries(body, given)
            self._bundles.put(given, entries)
        return entries


class _Recent(Generic[_Key, _Value]):
    """The values that were used last."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[_Key, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: _Key) -> _Value | None:
        value = self._held.get(key)
        if value is not None:
            self._held.move_to_end(key)
        return value

    def put(self, key: _Key, value: _Value) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        if len(self._held) > self._most:
            self._held.popitem(last=False)

    def forget(self, key: _Key) -> None:
        self._held.pop(key, None)
