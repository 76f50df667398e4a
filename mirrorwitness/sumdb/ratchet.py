"""Ratchet: the published checkpoint of a log, believed only where it goes on from the newest that was verified before.

    the published checkpoint -> signed and cosigned -> on one line with what is remembered -> remembered

Rules:

- A checkpoint counts under the `Terms`: the log's signature, and the quorum where a policy asks for one.
- What was verified is never forgotten (`mirrorwitness.sumdb.trust`). Every other checkpoint has to belong to the same
  history, whichever of the two is larger. Where it does not, the log has signed two histories: both checkpoints and the
  hashes between them are kept as evidence, and nothing more is believed.
- A fork is not forgotten: while its evidence is kept, no checkpoint is believed (`mirrorwitness.sumdb.forks`).
- An older checkpoint of the same history is no fork. It is told (`Head.shown`), because a log that shows some people an
  old tree hides what it logged since; the newest that was verified stays the head.
- Where the older one cannot be compared, because the log does not serve the tiles, the newest that was verified stays
  the head as well, and that is told (`Head.is_compared`): a fork could hide there. It never steps back.
- What was verified under other terms (without witnesses, say) still has to be on the same line, and is no head itself
  unless the present terms accept it.

*Cancellation*: at any point; what is kept stays consistent. *Deadlines* are the caller's.

What it does not do: look anything up in the tree (`mirrorwitness.sumdb.client`).

SPEC: C2SP tlog-checkpoint, tlog-cosignature, tlog-policy, tlog-tiles; the client of golang.org/x/mod ``sumdb``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    PreconditionFailedError,
    ProofError,
    SignatureError,
    StorageUnavailableError,
    UpstreamError,
)
from mirrorwitness.sumdb.comparison import plan_comparison
from mirrorwitness.sumdb.forks import check_known_forks, make_fork_error
from mirrorwitness.tlog.tiles import Tile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from mirrorwitness.errors import ForkError
    from mirrorwitness.sumdb.forks import Signed
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import Trusted, TrustStore
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.tlog.policy import PolicyVerdict

__all__ = ["Head", "Ratchet"]

TRIES: Final = 5
"""How often a checkpoint is compared anew because another process remembered a newer one meanwhile."""


@dataclass(frozen=True, slots=True)
class Head:
    """The tree that is believed.

    Attributes:
        tree: the tree.
        verdict: who signed and cosigned its checkpoint.
        note: that checkpoint, as it was published.
        is_first: nothing of this log was verified before, so nothing was compared.
        shown: the checkpoint that the log shows, where it is older than what was verified before.
        is_compared: whether `shown` was compared with it: the log may have withheld the tiles.
    """

    tree: Checkpoint
    verdict: PolicyVerdict = field(repr=False)
    note: bytes = field(repr=False)
    is_first: bool = False
    shown: Checkpoint | None = None
    is_compared: bool = True


class Ratchet:
    """Moves forward with one log.

    Args:
        terms: whom to believe.
        source: reads the log.
        trust: what was verified before.
        now: gives the time of day, for evidence.
    """

    def __init__(self, *, terms: Terms, source: LogSource, trust: TrustStore, now: Callable[[], datetime]) -> None:
        self._terms = terms
        self._source = source
        self._trust = trust
        self._now = now
        self._is_clear = False  # whether no evidence of a fork was there when this began

    def __repr__(self) -> str:
        return f"<Ratchet of {self._terms.origin!r} over {self._trust!r}>"

    async def advance(self) -> Head:
        """Read the published checkpoint, verify it, and compare it with the newest that was verified before.

        Raises:
            ForkError: the log signed two histories; the message says where the evidence is.
            SignatureError: the log's signature is missing or wrong, or the quorum is not met.
            ProofError: its tiles are not those of its checkpoint.
            UpstreamError: the log cannot be read, or serves no checkpoint.
            ConfigurationError: what was verified before is damaged.
            StorageError: the storage failed.
        """
        if not self._is_clear:
            await check_known_forks(self._trust, self._terms)
            self._is_clear = True
        note = await self._source.read_head()
        verdict = self._terms.check(note)
        for _ in range(TRIES):
            known = await self._trust.read_head(self._terms)
            try:
                return await self._merge(known, note, verdict)
            except PreconditionFailedError:
                continue  # another process was first: what it remembered is compared with, too
        raise StorageUnavailableError(
            f"{self._trust!r}: other processes replaced the newest checkpoint {TRIES} times meanwhile; try again"
        )

    async def _merge(self, known: Trusted | None, note: bytes, verdict: PolicyVerdict) -> Head:
        tree = verdict.opened.checkpoint
        if known is None:
            await self._trust.write_head(self._terms.origin, note, replaces=None)
            return Head(tree, verdict, note, is_first=True)
        if tree.size < known.tree.size:
            return await self._stay(known, note, verdict)
        await self._compare((known.note, known.tree), (note, tree))
        if tree.size > known.tree.size:
            await self._trust.write_head(self._terms.origin, note, replaces=known)
        return Head(tree, verdict, note)

    async def _stay(self, known: Trusted, note: bytes, verdict: PolicyVerdict) -> Head:
        """Compare an older checkpoint with what is known; return the newest that the present terms accept."""
        tree = verdict.opened.checkpoint
        accepted = self._accept(known.note)
        is_compared = True
        try:
            await self._compare((note, tree), (known.note, known.tree))
        except UpstreamError:
            if accepted is None:
                raise  # the only head that counts now was compared with nothing
            is_compared = False
        if accepted is None:
            return Head(tree, verdict, note, shown=tree)
        return Head(known.tree, accepted, known.note, shown=tree, is_compared=is_compared)

    def _accept(self, note: bytes) -> PolicyVerdict | None:
        """Return the verdict on a checkpoint that was verified, perhaps under other terms; None where it is refused."""
        try:
            return self._terms.check(note)
        except SignatureError:
            return None

    async def tell_fork(self, older: Signed, newer: Signed, proof: Sequence[Hash] = ()) -> ForkError:
        """Keep the evidence that two checkpoints contradict each other; return the error to raise."""
        self._is_clear = False
        return await make_fork_error(self._trust, self._terms, older, newer, proof=proof, now=self._now())

    async def _compare(self, older: Signed, newer: Signed) -> None:
        """Check that two checkpoints are on one line.

        Raises:
            ForkError: they are not; the evidence is kept.
        """
        comparison = plan_comparison(older[1], newer[1])
        kept = await self._trust.read_tiles(self._terms.origin, comparison.tiles)
        tiles = await self._complete(comparison.tiles, kept)
        try:
            proof = comparison.find_fork(tiles)
        except ProofError:
            if not kept:
                raise
            await self._trust.drop_tiles(self._terms.origin, kept)
            kept = dict[Tile, bytes]()
            tiles = await self._complete(comparison.tiles, kept)
            proof = comparison.find_fork(tiles)
        if proof is not None:
            raise await self.tell_fork(older, newer, proof)
        new = [tile for tile in comparison.tiles if not {tile, tile.full()} & kept.keys()]
        await self._trust.keep_tiles(self._terms.origin, {tile: _cut(tile, tiles) for tile in new})

    async def _complete(self, wanted: Sequence[Tile], kept: Mapping[Tile, bytes]) -> dict[Tile, bytes]:
        missing = [tile for tile in wanted if not {tile, tile.full()} & kept.keys()]
        return {**kept, **(await self._source.read_tiles(missing) if missing else {})}


def _cut(tile: Tile, tiles: Mapping[Tile, bytes]) -> bytes:
    """Return a tile as the tree has it: of a full one that stands in, no root vouches for what is beyond."""
    body = tiles.get(tile)
    return tiles[tile.full()][: tile.byte_size] if body is None else body
