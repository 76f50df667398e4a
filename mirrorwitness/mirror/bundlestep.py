"""Prove, for a bundle, that the log has grown from the checkpoint that the bundle before had.

Rules:

- The older checkpoint comes out of a file, so the log's signature on it is checked before anything is concluded.
- Tiles are believed from the newer tree's root down. Where the root at the older size is another, the log has signed
  two histories; both checkpoints and the hashes are kept as evidence, and no bundle is written.

SPEC: RFC 9162 consistency proofs.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.bundle import LogStep
from mirrorwitness.sumdb.forks import make_fork_error
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.merkle import Range, complete_ranges, make_proof, nodes_needed, plan_consistency, subtree_hash
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import tiles_to_trust

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import TrustStore
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["prove_step"]


async def prove_step(
    older: bytes, newer: bytes, *, terms: Terms, source: LogSource, trust: TrustStore, now: Callable[[], datetime]
) -> LogStep:
    """Prove that the log has grown from one checkpoint to another.

    Args:
        older: the one that the bundle before had.
        newer: the one that was verified now.
        terms: whose log it is.
        source: where the newer tree's tiles are.
        trust: where evidence goes.
        now: the clock, for evidence.

    Raises:
        ForkError: it has not: the log signed two histories; the message says where the evidence is.
        ConfigurationError: the newer tree is the smaller one: the mirror is older than the bundle before.
        SecurityError: one is not signed by the log, or the tiles are not those of the newer tree.
        UpstreamError: one is no checkpoint of the log, or the tiles cannot be read.
    """
    old, new = [open_checkpoint(note, terms.keys, origin=terms.origin).checkpoint for note in (older, newer)]
    if new.size < old.size:
        raise ConfigurationError(f"the bundle before has {old}, the mirror knows {new} only, which is smaller")
    before, proof = await _read_step(old, new, source)
    if before != old.root:
        shown = () if old.size == new.size else (before, *proof)
        raise await make_fork_error(trust, terms, (older, old), (newer, new), proof=shown, now=now())
    return LogStep(size=old.size, root=_encode(before), hashes=tuple(map(_encode, proof)))


async def _read_step(old: Checkpoint, new: Checkpoint, source: LogSource) -> tuple[Hash, tuple[Hash, ...]]:
    """Return the root that the newer tree has at the older size, and the proof from there."""
    if old.size == new.size:
        return new.root, ()
    if not old.size:
        return old.root, ()
    plan = plan_consistency(old.size, new.size)
    nodes = [*complete_ranges(0, old.size), *nodes_needed(plan)]
    hashes = TileHashes(new.size, await source.read_tiles(tiles_to_trust(nodes, new.size)))
    hashes.check_root(new.root)
    return subtree_hash(Range(0, old.size), hashes.hash_of), tuple(make_proof(plan, hashes.hash_of))


def _encode(value: bytes) -> str:
    return base64.b64encode(value).decode()
