"""Whether a checkpoint may be cosigned: the one decision, for what is pushed and for what is pulled. Pure.

Order, which is the specification's; the first that applies answers:

1. no line by a trusted key of the log, or one that does not verify: `Reason.NOT_SIGNED`;
2. extension lines, where the operator refuses them;
3. a cosignature of our own on a tree, or of a time, that our state does not know: `Reason.ROLLED_BACK` (P7);
4. old size above the checkpoint's: `Reason.OLD_ABOVE_SIZE`; not ours: `Reason.STALE`;
5. size 0 with a root, or a proof for nothing, or the same size with another root, or a proof that does not verify.

A checkpoint of the size that we cosigned with another root is a fork, wherever in this order it is refused: the log
signed both. A proof that does not verify is none: anybody can send a wrong one.

What it does not do: know the time, or remember anything (`mirrorwitness.witness.state`).

SPEC: C2SP tlog-witness, "add-checkpoint"; research/A 6 (rollback).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ProofError, SignatureError
from mirrorwitness.tlog.checkpoint import check_checkpoint
from mirrorwitness.tlog.cosignature import Cosignature, Statement, fits_cosignature, timestamp_of
from mirrorwitness.tlog.merkle import EMPTY_ROOT, Hash, check_consistency
from mirrorwitness.witness.protocol import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.checkpoint import Checkpoint, OpenedCheckpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Note
    from mirrorwitness.witness.logs import WitnessedLog
    from mirrorwitness.witness.protocol import AddCheckpoint

__all__ = ["NEVER", "Accepted", "Latest", "Refused", "decide", "is_ahead", "is_news"]


@dataclass(frozen=True, slots=True)
class Latest:
    """The latest tree of a log that this witness cosigned.

    Attributes:
        size: how many entries; 0 where none was.
        root: the tree's hash.
    """

    size: int
    root: Hash


NEVER: Final = Latest(0, EMPTY_ROOT)
"""What a witness knows of a log that it never cosigned."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """It may be cosigned.

    Attributes:
        opened: the checkpoint, with the log's lines that verified.
    """

    opened: OpenedCheckpoint


@dataclass(frozen=True, slots=True)
class Refused:
    """It may not be cosigned.

    Attributes:
        reason: why.
        text: one sentence for a person.
        fork: the checkpoint, where it and the latest one prove that the log forked.
        ours: the checkpoint with our own lines, where they show that our state is behind.
    """

    reason: Reason
    text: str
    fork: OpenedCheckpoint | None = None
    ours: tuple[OpenedCheckpoint, tuple[Cosignature, ...]] | None = None


def decide(
    request: AddCheckpoint, log: WitnessedLog, latest: Latest, own: Sequence[VerifierKey], *, timestamp: int
) -> Accepted | Refused:
    """Judge a request.

    Args:
        request: what was sent.
        log: the log of its origin.
        latest: the latest tree of it that we cosigned.
        own: our keys, retired ones included.
        timestamp: of our newest cosignature of the log, as far as the state knows; 0 where there is none.
    """
    opened = _check_trust(request, log, latest, own, timestamp)
    if isinstance(opened, Refused):
        return opened
    return _check_size(request, latest, opened) or _check_proof(request, latest) or Accepted(opened)


def is_ahead(checkpoint: Checkpoint, latest: Latest) -> bool:
    """Say whether a tree is larger than the latest one, or as large with another root."""
    return checkpoint.size > latest.size or (checkpoint.size == latest.size and checkpoint.root != latest.root)


def is_news(checkpoint: Checkpoint, ours: Sequence[Cosignature], latest: Latest, *, timestamp: int) -> bool:
    """Say whether cosignatures of our own show that the state is behind: by their tree, or by their time."""
    return bool(ours) and (is_ahead(checkpoint, latest) or max(item.timestamp for item in ours) > timestamp)


def _check_trust(
    request: AddCheckpoint, log: WitnessedLog, latest: Latest, own: Sequence[VerifierKey], timestamp: int
) -> OpenedCheckpoint | Refused:
    checkpoint = request.checkpoint
    try:
        opened = check_checkpoint(request.note, checkpoint, log.keys)
    except SignatureError as error:
        return Refused(Reason.NOT_SIGNED, str(error))
    if checkpoint.extension and log.refuses_extensions:
        return Refused(Reason.EXTENSION_LINES, "the checkpoint has extension lines, which this witness does not take")
    ours = _find_ours(request.note, checkpoint, own)
    if is_news(checkpoint, ours, latest, timestamp=timestamp):
        newest = max(item.timestamp for item in ours)
        return Refused(
            Reason.ROLLED_BACK,
            f"a checkpoint of size {checkpoint.size} carries a cosignature of this witness of the time {newest}, and "
            f"the state knows of size {latest.size} and the time {timestamp}: it is older than what was signed, and "
            "nothing more is signed for this log",
            ours=(opened, ours),
        )
    return opened


def _check_size(request: AddCheckpoint, latest: Latest, opened: OpenedCheckpoint) -> Refused | None:
    checkpoint = request.checkpoint
    is_fork = bool(latest.size) and checkpoint.size == latest.size and checkpoint.root != latest.root
    fork = opened if is_fork else None
    if request.old > checkpoint.size:
        return Refused(Reason.OLD_ABOVE_SIZE, f"old size {request.old} is above the size {checkpoint.size}", fork)
    if request.old != latest.size:
        return Refused(Reason.STALE, f"{latest.size}", fork)
    if fork is not None:
        return Refused(Reason.OTHER_ROOT, f"another tree of size {latest.size} was cosigned before", fork)
    return None


def _check_proof(request: AddCheckpoint, latest: Latest) -> Refused | None:
    checkpoint = request.checkpoint
    if not checkpoint.size and checkpoint.root != EMPTY_ROOT:
        return Refused(Reason.EMPTY_ROOT, "a tree of size 0 has the root of the empty tree")
    try:
        check_consistency(
            request.proof,
            old_size=latest.size,
            old_root=latest.root,
            new_size=checkpoint.size,
            new_root=checkpoint.root,
        )
    except ProofError as error:
        return Refused(Reason.PROOF, str(error))
    return None


def _find_ours(note: Note, checkpoint: Checkpoint, own: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return our own cosignatures of this; a forged line of ours is somebody else's noise."""
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, note.text)
    return tuple([
        Cosignature(key, timestamp_of(line), line)
        for line in note.signatures
        for key in own
        if line.is_of(key) and fits_cosignature(key, line, statement)
    ])
