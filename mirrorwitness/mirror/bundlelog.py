"""Check the log's checkpoint in a bundle against the newest that a mirror verified: a ratchet without a network.

    cosigned as the policy says ──> of the size that is known: the same root
                                ──> larger: the bundle proves the step, from a root that is ours

Rules:

- The proof is the bundle's, the tree that it starts from is ours. Where the proof holds and starts from another root of
  that size, the log has signed two histories: both checkpoints and the hashes are kept as evidence.
- Checkpoints that come with proofs are compared with these, and with each other, where they have one size.
- A smaller tree is an older bundle. It could not be compared without tiles, so nothing is taken from it, and nobody is
  accused.
- Nothing is written but evidence; while there is some, nothing of this log is taken (`mirrorwitness.sumdb.forks`).

SPEC: RFC 9162 consistency proofs; C2SP tlog-checkpoint, tlog-policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError, UpstreamStaleError
from mirrorwitness.mirror.bundle import MANIFEST
from mirrorwitness.sumdb.forks import check_known_forks, find_fork_of_one_size, make_fork_error
from mirrorwitness.tlog.checkpoint import parse_checkpoint, parse_hash
from mirrorwitness.tlog.merkle import check_consistency
from mirrorwitness.tlog.note import parse_note

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.errors import ForkError
    from mirrorwitness.mirror.bundle import BundledLog, LogStep
    from mirrorwitness.sumdb.forks import Signed
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import Trusted, TrustStore
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["BundleLogCheck"]


class BundleLogCheck:
    """Checks the checkpoint of one bundle.

    Args:
        terms: whom to believe about the log.
        trust: what was verified before.
        now: the clock, for evidence.
        what: the bundle, for messages.
    """

    def __init__(self, *, terms: Terms, trust: TrustStore, now: Callable[[], datetime], what: str) -> None:
        self._terms = terms
        self._trust = trust
        self._now = now
        self._what = what
        self._first: dict[int, Signed] = {}  # size → the first checkpoint of that size

    def __repr__(self) -> str:
        return f"<BundleLogCheck of {self._what} under {self._terms.origin!r}>"

    async def run(self, log: BundledLog | None) -> tuple[Checkpoint, Trusted | None]:
        """Return the bundle's tree, and the newest checkpoint that was verified here before.

        Raises:
            UpstreamProtocolError: the bundle has no checkpoint of this log.
            SignatureError: it is not signed or cosigned as it has to be.
            UpstreamStaleError: it is older than what was verified here.
            ConfigurationError: the bundle proves no step from what was verified here.
            ProofError: the step that it proves is none.
            ForkError: the log signed two histories; the message says where the evidence is.
        """
        if log is None:
            raise UpstreamProtocolError(
                f"{self._what}: it has no checkpoint of {self._terms.origin!r}: its mirror asks no checksum database"
            )
        await check_known_forks(self._trust, self._terms)
        note = log.checkpoint.encode("utf-8", "surrogatepass")
        tree = self._terms.check(note).opened.checkpoint
        known = await self._trust.read_head(self._terms)
        self._first = {tree.size: (note, tree)}
        if known is None:
            return tree, None
        if tree.size < known.tree.size:
            raise UpstreamStaleError(
                f"{self._what}: its checkpoint is {tree}, and {known.tree} was verified here before: it is older, and "
                "nothing is taken from it"
            )
        self._first = {known.tree.size: (known.note, known.tree), tree.size: (note, tree)}
        if tree.size > known.tree.size:
            await self._check_step(known, note, tree, log.since)
        elif tree.root != known.tree.root:
            raise await self._tell_fork(known, note, tree, ())
        return tree, known

    async def check_beside(self, note: bytes) -> None:
        """Check that a checkpoint which came with a proof, and was verified, contradicts none that was seen before.

        Those of other sizes are not compared: a bundle has no tiles for that.

        Raises:
            ForkError: one of its size has another root; the message says where the evidence is.
        """
        signed = note, parse_checkpoint(parse_note(note).text)
        first = self._first.setdefault(signed[1].size, signed)
        if find_fork_of_one_size((first, signed)) is not None:
            raise await make_fork_error(self._trust, self._terms, first, signed, proof=(), now=self._now())

    async def _check_step(self, known: Trusted, note: bytes, tree: Checkpoint, step: LogStep | None) -> None:
        if step is None or step.size != known.tree.size:
            proven = "proves no step" if step is None else f"proves a step from {step.size}"
            raise ConfigurationError(
                f"{self._what}: the newest tree that was verified here has size {known.tree.size}, and the bundle "
                f"{proven} to {tree.size}: export with --since the newest bundle that was imported here"
            )
        before = parse_hash(step.root, f"{MANIFEST}: root")
        proof = [parse_hash(text, f"{MANIFEST}: hash") for text in step.hashes]
        check_consistency(proof, old_size=step.size, old_root=before, new_size=tree.size, new_root=tree.root)
        if before != known.tree.root:
            raise await self._tell_fork(known, note, tree, (before, *proof))

    async def _tell_fork(self, known: Trusted, note: bytes, tree: Checkpoint, proof: tuple[Hash, ...]) -> ForkError:
        ours, theirs = (known.note, known.tree), (note, tree)
        return await make_fork_error(self._trust, self._terms, ours, theirs, proof=proof, now=self._now())
