"""Hashes out of tiles: believed once they lead to a root, and the tiles that a log writes when it grows.

Rules:

- Tiles are believed from the root down: the right edge against the root, each full tile against its parent's hash
  (`TileHashes.check_root`). Before that they are somebody's bytes.
- A full tile stands in for a partial one that is gone. What it has beyond the tree is cut off: no root vouches for it.

What it does not do: fetch, store or cache, name tiles (`mirrorwitness.tlog.tiles`), or verify checkpoints.

SPEC: C2SP tlog-tiles (July 2026).
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.tlog.merkle import HASH_BYTES, Hash, Range, subtree_hash
from mirrorwitness.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, Tile, check_sizes, tile_of, tiles_of_size, width_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["TileHashes", "make_tiles"]


class TileHashes:
    """The hashes of a tree that are in some of its tiles.

    `hash_of` answers from what was given, whoever gave it. Once `check_root` has returned, every hash that it answers
    is one of the tree with that root; a caller who fetched the tiles calls it first.

    Args:
        size: size of the tree.
        tiles: the tiles by what they are; a full one may stand in where the tree has a partial one.
    """

    __slots__ = ("_given", "_size")

    def __init__(self, size: int, tiles: Mapping[Tile, bytes]) -> None:
        self._size: Final = check_sizes(0, size)
        self._given: Final = dict(tiles)

    @property
    def size(self) -> int:
        """The size of the tree."""
        return self._size

    def bytes_of(self, tile: Tile) -> bytes:
        """Return a tile's bytes as it is in this tree, so without what a stand-in has beyond: fit to be kept.

        Raises:
            ProofError: it was not given.
            UpstreamProtocolError: it has the wrong number of bytes.
            ConfigurationError: this tree does not have it so, and no check would cover it.
        """
        if tile.width != width_of(tile.level, tile.index, self._size):
            raise ConfigurationError(f"{tile} is no tile of a tree of size {self._size}")
        given = tile if tile in self._given else tile.full()
        body = self._given.get(given)
        if body is None:
            raise ProofError(f"{tile} of a tree of size {self._size} is missing")
        return _check_length(given, body)[: tile.byte_size]

    def hash_of(self, node: Range) -> Hash:
        """Return the hash of a complete node.

        Raises:
            ProofError: its tile was not given; the message names it.
            UpstreamProtocolError: its tile has the wrong number of bytes.
            ConfigurationError: as `tile_of`.
        """
        tile = tile_of(node, self._size)
        height = TILE_HEIGHT * tile.level
        first = (node.start >> height) % TILE_WIDTH * HASH_BYTES
        return _fold(self.bytes_of(tile)[first : first + ((node.end - node.start) >> height) * HASH_BYTES])

    def root(self) -> Hash:
        """Compute the root from the right edge, of which every byte takes part.

        Raises:
            ProofError: a tile of the edge was not given; the message names it.
            UpstreamProtocolError: one has the wrong number of bytes.
        """
        return subtree_hash(Range(0, self._size), self.hash_of)

    def check_root(self, root: Hash) -> None:
        """Check that the tiles are those of the tree with this root: the right edge, and all others by their parents.

        Raises:
            ProofError: another root, a tile that is not what its parent says, one without its parent, one that is no
                tile of this tree, or two of one place that differ.
            UpstreamProtocolError: a tile has the wrong number of bytes.
        """
        for given, body in self._given.items():
            self._check_stand_in(given, body)
        found = self.root()
        if found != root:
            raise ProofError(
                f"the tiles of a tree of size {self._size} have the root {found.hex()}, expected {root.hex()}"
            )
        for tile in sorted(self._given, key=lambda given: -given.level):  # parents first: the first to differ is wrong
            covered = tile.covered()
            if covered.end > self._size:
                continue  # partial in this tree: of the right edge, which the root vouches for
            found, expected = _fold(self.bytes_of(tile)), self.hash_of(covered)
            if found != expected:
                raise ProofError(f"{tile} has the hash {found.hex()}, its parent says {expected.hex()}")

    def _check_stand_in(self, given: Tile, body: bytes) -> None:
        """Check that what was given is of this tree, and where both forms of a partial tile were, that they agree."""
        width = width_of(given.level, given.index, self._size)
        if width < 1 or given.width not in {width, TILE_WIDTH}:
            raise ProofError(f"{given} is no tile of a tree of size {self._size}")
        tile = Tile(given.level, given.index, width)
        if _check_length(given, body)[: tile.byte_size] != self.bytes_of(tile):
            raise ProofError(f"{given} does not begin with the hashes of {tile}")


def make_tiles(edge: TileHashes, leaves: Sequence[Hash]) -> dict[Tile, bytes]:
    """Append entries to a tree and return the tiles to write: those that `all_tiles` names, in its order.

    A log goes on from the result: the new right edge (`edge_tiles` of the new size) is in it, or, where a level got no
    new hash, among the old one; `TileHashes.root` of that is the new root. Nothing else of the old tree is looked at.

    Args:
        edge: the old tree, with at least its `edge_tiles`, checked against the root that the log signed.
        leaves: the hashes of the new entries.

    Raises:
        ProofError: a tile of the old edge is missing; the message names it.
        UpstreamProtocolError: one has the wrong number of bytes.
        ConfigurationError: the tree would be too large.
    """
    check_sizes(edge.size, edge.size + len(leaves))
    if any(len(leaf) != HASH_BYTES for leaf in leaves):
        raise ConfigurationError(f"the hash of an entry has {HASH_BYTES} bytes, one of those to append has not")
    made: dict[Tile, bytes] = {}
    row, level = list(leaves), 0
    while row:
        first, width = tiles_of_size(edge.size, level)
        body = (edge.bytes_of(Tile(level, first, width)) if width else b"") + b"".join(row)
        starts = [*range(0, len(body), TILE_WIDTH * HASH_BYTES), len(body)]
        parts = [body[start:end] for start, end in pairwise(starts)]
        made |= {Tile(level, first + at, len(part) // HASH_BYTES): part for at, part in enumerate(parts)}
        row = [_fold(part) for part in parts if len(part) == TILE_WIDTH * HASH_BYTES]
        level += 1
    return made


def _check_length(tile: Tile, body: bytes) -> bytes:
    if len(body) != tile.byte_size:
        raise UpstreamProtocolError(f"{tile} has {len(body)} bytes, expected {tile.byte_size}")
    return body


def _fold(hashes: bytes) -> Hash:
    """Return the hash above a power of two of hashes.

    As `root_of`, twice as fast: all trees are built here, and of 256 hashes the calls cost as much as the hashing.
    """
    while len(hashes) > HASH_BYTES:
        pairs = [hashes[start : start + 2 * HASH_BYTES] for start in range(0, len(hashes), 2 * HASH_BYTES)]
        hashes = b"".join([sha256(b"\x01" + pair).digest() for pair in pairs])
    return Hash(hashes)
