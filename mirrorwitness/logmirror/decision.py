"""Which upload is taken, towards which checkpoint, and what a client is told otherwise. Pure.

Order, which is the specification's; the first that applies answers:

1. no checkpoint of the log was ever taken: `NeverPending`, 422;
2. ``upload_end`` is the size of no pending checkpoint, nor of the mirror checkpoint, nor of the ticket's, or of none
   that a key of the log signed that it still has: 409;
3. ``upload_end`` is below the mirror checkpoint's size: 409;
4. ``upload_start`` is above the next entry: 409;
5. more than `MAX_EXCESS` entries would be sent that are here already: 409.

Of one size there may be several checkpoints, all of one tree: with other extension lines, which an Ed25519 cosignature
covers, or signed by other keys of the log. The newest one that came is cosigned: its client waits for that.

A package is believed once its bundle, of what was sent and what is here already, is proven to be part of the tree at
``upload_end`` (`check_package`): one package at a time, and before any of it is stored.

What it does not do: remember (`mirrorwitness.logmirror.state`), or store (`mirrorwitness.logmirror.copy`). What may
become a pending checkpoint is `mirrorwitness.witness.decision`, the same as for a witness.

SPEC: C2SP tlog-mirror, "add-entries", "Processing".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.logmirror.protocol import bundle_start
from mirrorwitness.tlog.merkle import check_subtree, leaf_hash, root_of
from mirrorwitness.tlog.tiles import TILE_WIDTH
from mirrorwitness.witness.decision import NEVER, Latest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.logmirror.protocol import Package, UploadHead
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["MAX_EXCESS", "Admitted", "Conflict", "Known", "NeverPending", "Pending", "admit", "check_package", "offer"]

MAX_EXCESS: Final = 8 * TILE_WIDTH
"""Most entries that a client may send although they are here: what was under way when somebody else was faster."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A checkpoint that the log signed and that is consistent with all others that we know.

    Attributes:
        size: how many entries.
        root: the tree's hash.
        note: the checkpoint, with the log's lines.
    """

    size: int
    root: Hash
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a log.

    Attributes:
        pendings: the pending checkpoints that are remembered, oldest first.
        mirror: the checkpoint that was cosigned last; None where none was.
        next_entry: the first entry that is not stored.
    """

    pendings: tuple[Pending, ...]
    mirror: Pending | None
    next_entry: int

    @property
    def current(self) -> Pending | None:
        """The largest tree that is known: the current pending checkpoint."""
        trees = [*self.pendings[-1:], *([] if self.mirror is None else [self.mirror])]
        return max(trees, key=lambda tree: tree.size, default=None)

    @property
    def latest(self) -> Latest:
        """The tree that the next pending checkpoint has to be consistent with."""
        current = self.current
        return NEVER if current is None else Latest(current.size, current.root)


@dataclass(frozen=True, slots=True)
class Admitted:
    """The upload is taken.

    Attributes:
        pending: what its packages are proven against, and what is cosigned at its end.
    """

    pending: Pending


@dataclass(frozen=True, slots=True)
class Conflict:
    """The upload is not taken: 409.

    Attributes:
        pending: the checkpoint that the client is told of.
        text: why, for the log.
    """

    pending: Pending
    text: str


@dataclass(frozen=True, slots=True)
class NeverPending:
    """No checkpoint of the log was ever taken: 422."""


def admit(
    head: UploadHead, known: Known, ticketed: Pending | None, *, is_signed: Callable[[Pending], bool]
) -> Admitted | Conflict | NeverPending:
    """Judge the head of an upload.

    Args:
        head: what was sent.
        known: what is known of the log.
        ticketed: the checkpoint of the ticket that was sent, None where it is no good one.
        is_signed: says whether a key that the log has now signed a checkpoint: no other is cosigned.
    """
    current = known.current
    if current is None:
        return NeverPending()
    wanted = next(filter(is_signed, _resolve(head.end, known, ticketed)), None)
    if wanted is None:
        return Conflict(current, f"no pending checkpoint that the log's keys signed has the size {head.end}")
    if known.mirror is not None and head.end < known.mirror.size:
        return Conflict(current, f"size {head.end} is below that of the mirror checkpoint, {known.mirror.size}")
    if head.start > known.next_entry:
        return Conflict(offer(wanted, known), f"the next entry is {known.next_entry}, not {head.start}")
    excess = min(head.end, known.next_entry) - head.start
    if excess > MAX_EXCESS:
        return Conflict(offer(wanted, known), f"{excess} entries are here already, more than {MAX_EXCESS}")
    return Admitted(wanted)


def offer(wanted: Pending, known: Known) -> Pending:
    """Return the checkpoint that a client is told to go on towards: its own, as long as entries of that are missing.

    Behind the next entry it would be told to begin above its end.
    """
    current = known.current
    return wanted if current is None or known.next_entry <= wanted.size else current


def check_package(package: Package, kept: Sequence[bytes], pending: Pending) -> list[bytes]:
    """Check that a package is part of the tree, and return all entries of its bundle up to its end.

    Args:
        package: what was sent.
        kept: the entries of its bundle before it, which are here already.
        pending: the tree.

    Raises:
        ProofError: it is not.
        ConfigurationError: the tree does not reach so far.
    """
    start, entries = bundle_start(package.span.start), [*kept, *package.entries]
    check_subtree(
        package.proof,
        start=start,
        end=package.span.end,
        subtree=root_of([leaf_hash(entry) for entry in entries]),
        size=pending.size,
        root=pending.root,
    )
    return entries


def _resolve(size: int, known: Known, ticketed: Pending | None) -> list[Pending]:
    """Return the checkpoints of a size, the newest one that came first."""
    trees = (*reversed(known.pendings), known.mirror, ticketed)
    return [tree for tree in trees if tree is not None and tree.size == size]
