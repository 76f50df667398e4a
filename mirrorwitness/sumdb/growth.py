"""Growth: what a log writes when it appends records, from the right edge of its tree alone. Pure.

Rules:

- The edge is the partial tiles of the tree and the entries of its last bundle, where that is not full: at most 8 tiles
  and 255 entries, however large the log is.
- What is written is decided by the edge and the entries. In how many steps they came decides only which partial tiles
  there are on the way.
- Staged entries are written as bundles are, one behind the other (`mirrorwitness.tlog.entries`).

What it does not do: read or write, or sign (`mirrorwitness.sumdb.log`).

SPEC: C2SP tlog-tiles (July 2026).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.merkle import EMPTY_ROOT, HASH_BYTES, leaf_hash
from mirrorwitness.tlog.tile_hashes import TileHashes, make_tiles
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.tlog.merkle import Hash

__all__ = ["EMPTY_EDGE", "Edge", "Growth", "edge_bundle", "format_staged", "grow", "make_edge", "parse_staged"]

_LENGTH_BYTES: Final = 2


@dataclass(frozen=True, slots=True)
class Edge:
    """The right edge of a tree: all that has to be known of it to go on.

    Attributes:
        size: the tree's size.
        root: its hash.
        tiles: its partial tiles.
        entries: the entries of the bundle that is not full; none where all are.
    """

    size: int
    root: Hash
    tiles: Mapping[Tile, bytes] = field(repr=False)
    entries: tuple[bytes, ...] = field(repr=False)


EMPTY_EDGE: Final = Edge(0, EMPTY_ROOT, {}, ())
"""The edge of a log without entries."""


@dataclass(frozen=True, slots=True)
class Growth:
    """What has to be written so that a log has grown.

    Attributes:
        edge: the new edge, with the new size and root.
        tiles: the tiles that are new.
        bundles: the bundles of entries that are new.
    """

    edge: Edge
    tiles: Mapping[Tile, bytes] = field(repr=False)
    bundles: Mapping[EntriesTile, bytes] = field(repr=False)


def edge_bundle(size: int) -> EntriesTile | None:
    """Return the bundle of a tree that is not full, None where all are."""
    full, width = divmod(size, TILE_WIDTH)
    return EntriesTile(full, width) if width else None


def make_edge(size: int, root: Hash, tiles: Mapping[Tile, bytes], entries: Sequence[bytes]) -> Edge:
    """Return the edge of a tree, after checking that it is the one of this root.

    Args:
        size: the tree's size.
        root: its hash.
        tiles: its `edge_tiles`, or full ones in their place.
        entries: the entries of its `edge_bundle`.

    Raises:
        ProofError: a tile is missing, tiles or entries have another root, or there are too few entries or too many.
        UpstreamProtocolError: a tile has the wrong number of bytes.
    """
    hashes = TileHashes(size, tiles)
    hashes.check_root(root)
    edge = {tile: hashes.bytes_of(tile) for tile in edge_tiles(size)}
    bundle = edge_bundle(size)
    expected = b"" if bundle is None else edge[Tile(0, bundle.index, bundle.width)]
    if b"".join([leaf_hash(entry) for entry in entries]) != expected:
        title = f"{bundle} of a tree of size {size}"
        raise ProofError(f"{title}: its {len(entries)} entries do not have the {len(expected) // HASH_BYTES} hashes")
    return Edge(size, root, edge, tuple(entries))


def grow(edge: Edge, entries: Sequence[bytes]) -> Growth:
    """Append entries.

    Raises:
        ConfigurationError: an entry is too long, or the tree would be too large.
    """
    size = edge.size + len(entries)
    tiles = make_tiles(TileHashes(edge.size, edge.tiles), [leaf_hash(entry) for entry in entries])
    kept = {tile: tiles[tile] if tile in tiles else edge.tiles[tile] for tile in edge_tiles(size)}
    rest = [*edge.entries, *entries]
    parts = [rest[start : start + TILE_WIDTH] for start in range(0, len(rest), TILE_WIDTH)] if entries else []
    first = edge.size // TILE_WIDTH
    bundles = {EntriesTile(first + at, len(part)): format_entries(part) for at, part in enumerate(parts)}
    root = TileHashes(size, kept).root()
    last = tuple(rest[len(rest) - size % TILE_WIDTH :])
    return Growth(Edge(size, root, kept, last), tiles, bundles)


def format_staged(entries: Sequence[bytes]) -> bytes:
    """Write entries that are to be appended.

    Raises:
        ConfigurationError: there are none, or one is too long.
    """
    if not entries:
        raise ConfigurationError("there are no entries to stage")
    parts = [entries[start : start + TILE_WIDTH] for start in range(0, len(entries), TILE_WIDTH)]
    return b"".join([format_entries(part) for part in parts])


def parse_staged(body: bytes, count: int) -> list[bytes]:
    """Read staged entries; `format_staged` gives back the same bytes.

    Args:
        body: what was staged.
        count: how many entries the head says there are.

    Raises:
        UpstreamProtocolError: there are not exactly as many.
    """
    entries: list[bytes] = []
    at = 0
    while at + _LENGTH_BYTES <= len(body):
        start = at + _LENGTH_BYTES
        at = start + int.from_bytes(body[at:start], "big")
        entries.append(body[start:at])
    if at != len(body) or len(entries) != count:
        raise UpstreamProtocolError(f"staged: {len(entries)} entries in {at} of {len(body)} bytes, expected {count}")
    return entries
