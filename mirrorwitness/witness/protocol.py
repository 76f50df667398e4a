"""What logs send to a witness, and what it answers: bytes in, values out.

    add-checkpoint     old <N> / hash lines / an empty line / a checkpoint
    sign-subtree       subtree <start> <end> / the subtree's hash / hash lines / an empty line / a checkpoint

Rules:

- Parsing is strict: canonical decimals and base64, each line ended by a newline, at most `MAX_PROOF_HASHES` hash lines.
  What is left after the empty line is the note, byte for byte.
- `ANSWERS` is the one table from reason to status (STYLE 22).

What it does not do: judge (`mirrorwitness.witness.decision`), or HTTP (`mirrorwitness.server.witness`). What a log
needs of it too is in `mirrorwitness.tlog.witnessing`.

SPEC: C2SP tlog-witness, main as of July 2026 ("add-checkpoint", "sign-subtree").
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, TypeVar

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint, parse_checkpoint, parse_hash, parse_size
from mirrorwitness.tlog.merkle import MAX_PROOF_HASHES, Hash, is_subtree
from mirrorwitness.tlog.note import Note, parse_note
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_add_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "ANSWERS",
    "COSIGNED",
    "MAX_BODY_BYTES",
    "OUTCOMES",
    "SIZE_TYPE",
    "AddCheckpoint",
    "Answer",
    "Reason",
    "SignSubtree",
    "answer",
    "format_add_checkpoint",
    "format_sign_subtree",
    "parse_add_checkpoint",
    "parse_sign_subtree",
    "read_request",
]

_Request = TypeVar("_Request", "AddCheckpoint", "SignSubtree")

MAX_BODY_BYTES: Final = 256 * 1024
"""Largest request in bytes: 63 hashes, and a checkpoint with 64 signatures of post-quantum size."""

TEXT_TYPE: Final = "text/plain; charset=utf-8"


class Reason(Enum):
    """Why a request is not answered with a cosignature."""

    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    UNKNOWN_LOG = "unknown-log"
    DISABLED_LOG = "disabled-log"
    NOT_SIGNED = "not-signed"
    EXTENSION_LINES = "extension-lines"
    OLD_ABOVE_SIZE = "old-above-size"
    STALE = "stale"
    EMPTY_ROOT = "empty-root"
    OTHER_ROOT = "other-root"
    PROOF = "proof"
    RATE = "rate"
    CLOCK = "clock"
    ROLLED_BACK = "rolled-back"
    STOPPED = "stopped"
    STORAGE = "storage"


ANSWERS: Final = {
    Reason.MALFORMED: 400,
    Reason.TOO_LARGE: 413,
    Reason.UNKNOWN_LOG: 404,
    Reason.DISABLED_LOG: 404,
    Reason.NOT_SIGNED: 403,
    Reason.EXTENSION_LINES: 400,
    Reason.OLD_ABOVE_SIZE: 400,
    Reason.STALE: 409,
    Reason.EMPTY_ROOT: 422,
    Reason.OTHER_ROOT: 422,
    Reason.PROOF: 422,
    Reason.RATE: 429,
    Reason.CLOCK: 503,
    Reason.ROLLED_BACK: 503,
    Reason.STOPPED: 503,
    Reason.STORAGE: 503,
}
"""Reason → status. 413, 429 and 503 are ours: the specification says nothing of these."""

COSIGNED: Final = "cosigned"
"""What came of a request that is answered with a cosignature."""

OUTCOMES: Final = (COSIGNED, *(str(reason.value) for reason in Reason))
"""What may come of a request, as it is counted."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What goes back.

    Attributes:
        status: of HTTP.
        body: the whole body.
        content_type: of the body.
        reason: why it is no cosignature; None where it is one.
        retry_after: seconds, where it may be tried again.
    """

    status: int
    body: bytes
    content_type: str = TEXT_TYPE
    reason: Reason | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """A request to cosign a checkpoint; nothing of it is trusted.

    Attributes:
        old: the size that the proof begins at.
        proof: the consistency proof.
        note: the checkpoint as it came.
        checkpoint: what its text says.
    """

    old: int
    proof: tuple[Hash, ...]
    note: Note
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class SignSubtree:
    """A request to cosign a subtree of a checkpoint that this witness cosigned; nothing of it is trusted.

    Attributes:
        start: the first entry.
        end: one past the last.
        subtree: the subtree's hash.
        proof: the subtree consistency proof.
        note: the checkpoint as it came.
        checkpoint: what its text says.
    """

    start: int
    end: int
    subtree: Hash
    proof: tuple[Hash, ...]
    note: Note
    checkpoint: Checkpoint


def answer(reason: Reason, text: str, *, retry_after: int | None = None) -> Answer:
    """Return the answer that says no, with one sentence for a person."""
    return Answer(ANSWERS[reason], f"{text}\n".encode(), reason=reason, retry_after=retry_after)


def read_request(body: bytes, parse: Callable[[bytes], _Request]) -> _Request | Answer:
    """Return what a body says, or the answer where it is too large or says nothing."""
    if len(body) > MAX_BODY_BYTES:
        return answer(Reason.TOO_LARGE, f"the request has more than {MAX_BODY_BYTES} bytes")
    try:
        return parse(body)
    except UpstreamProtocolError as error:
        return answer(Reason.MALFORMED, str(error))


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Read the body of an ``add-checkpoint``; `format_add_checkpoint` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not one; the message says what is wrong.
    """
    first, lines, rest = _split(body)
    old = parse_size(_field(first, "old "), "old size")
    proof = _parse_proof(lines)
    note = parse_note(rest)
    return AddCheckpoint(old, proof, note, parse_checkpoint(note.text))


def parse_sign_subtree(body: bytes) -> SignSubtree:
    """Read the body of a ``sign-subtree``; `format_sign_subtree` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not one, or the range is no valid subtree of the checkpoint.
    """
    first, lines, rest = _split(body)
    bounds = _field(first, "subtree ").split(" ")
    if len(bounds) != 2 or not lines:  # noqa: PLR2004 - start and end
        raise UpstreamProtocolError("expected a line `subtree <start> <end>`, and then the subtree's hash")
    start, end = (parse_size(text, "subtree bound") for text in bounds)
    subtree = parse_hash(lines[0], "subtree hash")
    proof = _parse_proof(lines[1:])
    note = parse_note(rest)
    checkpoint = parse_checkpoint(note.text)
    if not is_subtree(start, end) or end > checkpoint.size:
        raise UpstreamProtocolError(f"[{start}, {end}) is not a valid subtree of a tree of {checkpoint.size} entries")
    return SignSubtree(start, end, subtree, proof, note, checkpoint)


def format_sign_subtree(start: int, end: int, subtree: Hash, proof: Iterable[Hash], checkpoint: bytes) -> bytes:
    """Write the body of a ``sign-subtree``; `checkpoint` is the whole note."""
    return _join([f"subtree {start} {end}", _encode(subtree), *map(_encode, proof)], checkpoint)


def _split(body: bytes) -> tuple[str, list[str], bytes]:
    """Return the first line, the lines up to the empty one, and what is behind that."""
    head, separator, rest = body.partition(b"\n\n")
    if not separator:
        raise UpstreamProtocolError("expected lines, an empty line, and a checkpoint")
    if not head.isascii():
        raise UpstreamProtocolError("the lines before the checkpoint are not ASCII")
    first, *lines = head.decode().split("\n")
    return first, lines, rest


def _field(line: str, prefix: str) -> str:
    if not line.startswith(prefix):
        raise UpstreamProtocolError(f"the first line is {line[:100]!r}, expected `{prefix}…`")
    return line.removeprefix(prefix)


def _parse_proof(lines: list[str]) -> tuple[Hash, ...]:
    if len(lines) > MAX_PROOF_HASHES:
        raise UpstreamProtocolError(f"the proof has {len(lines)} hashes, more than {MAX_PROOF_HASHES}")
    return tuple([parse_hash(line, "proof hash") for line in lines])


def _join(lines: Iterable[str], checkpoint: bytes) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint


def _encode(value: Hash) -> str:
    return base64.b64encode(value).decode()
