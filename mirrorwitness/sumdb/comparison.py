"""Comparison: whether two trees that a log signed belong together, out of the tiles of the larger one. Pure.

    two checkpoints -> the tiles to read -> their root is the larger one's -> the root at the smaller size

Rules:

- Tiles are believed from the larger tree's signed root down. Tiles of another root are a fault of whoever serves them,
  and evidence of nothing: a log does not sign tiles.
- Of a tree whose tiles have the signed root, the root at every smaller size is known. Where that is not the smaller
  checkpoint's, the log has signed two histories; the hashes that show it go into the evidence.
- Two trees of one size need no tiles: their roots are equal, or it is a fork.

What it does not do: read tiles, verify signatures, or say which of the two is right. After a fork neither is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirrorwitness.errors import ProofError, SecurityError
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    Range,
    complete_ranges,
    make_proof,
    nodes_needed,
    plan_consistency,
    subtree_hash,
)
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import tiles_to_trust

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.tlog.tiles import Tile

__all__ = ["Comparison", "plan_comparison"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two trees of one log, and what has to be read to compare them.

    Attributes:
        older: the smaller one.
        newer: the larger one, or one of the same size.
        tiles: tiles of the larger one; none where the trees can be compared without.
    """

    older: Checkpoint
    newer: Checkpoint
    tiles: tuple[Tile, ...]

    def find_fork(self, tiles: Mapping[Tile, bytes]) -> tuple[Hash, ...] | None:
        """Return the hashes that show a fork, as `mirrorwitness.tlog.evidence` keeps them; None where there is none.

        Args:
            tiles: those of `tiles`, or full ones in the place of partial ones.

        Raises:
            ProofError: these are not the tiles of the larger tree, or an empty tree has a root that none has.
        """
        older, newer = self.older, self.newer
        if newer.size == older.size:
            return None if newer.root == older.root else ()
        if not older.size:
            if older.root != EMPTY_ROOT:
                raise ProofError(f"{older}: an empty tree has another root")
            return None
        hashes = TileHashes(newer.size, tiles)
        try:
            hashes.check_root(newer.root)
        except SecurityError as error:
            raise ProofError(f"the log's tiles do not match its checkpoint of size {newer.size}: {error}") from error
        before = subtree_hash(Range(0, older.size), hashes.hash_of)
        if before == older.root:
            return None
        return before, *make_proof(plan_consistency(older.size, newer.size), hashes.hash_of)


def plan_comparison(one: Checkpoint, other: Checkpoint) -> Comparison:
    """Say how two checkpoints of one log are compared, whichever is larger."""
    older, newer = sorted((one, other), key=lambda tree: tree.size)
    if not older.size or older.size == newer.size:
        return Comparison(older, newer, ())
    nodes = [*complete_ranges(0, older.size), *nodes_needed(plan_consistency(older.size, newer.size))]
    return Comparison(older, newer, tuple(tiles_to_trust(nodes, newer.size)))
