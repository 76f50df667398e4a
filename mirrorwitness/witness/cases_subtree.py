"""Conformance cases about ``sign-subtree``, which a witness may leave out: then all of them are skipped.

The reference checkpoint is the latest of a log of their own, under the lines that the witness answered for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.cosignature import Statement
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import parse_lines, parse_note
from mirrorwitness.witness.finding import (
    MUST,
    OK,
    Finding,
    cosignatures_of,
    failed,
    judge,
    judge_status,
)
from mirrorwitness.witness.protocol import format_sign_subtree
from mirrorwitness.witness.trial import Case, CaseSkippedError

if TYPE_CHECKING:
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.witness.lab import LabLog
    from mirrorwitness.witness.trial import Trial
    from mirrorwitness.witness.wire import Answer

__all__ = ["SUBTREE"]

_LOG: Final = "subtree"
_PATH: Final = "/sign-subtree"

_START, _END, _SIZE = 8, 13, 14
"""The subtree of the specification's example, in a tree that is at least as large as there."""

_NOT_OFFERED: Final = frozenset({404, 405, 501})

_WHERE: Final = "tlog-witness, sign-subtree: "
_VALID: Final = (
    f"{_WHERE}“the witness MUST respond with a 200 … a sequence of one or more note signature lines for the subtree”"
)
_TIME: Final = f"{_WHERE}“If the cosignature format supports timestamps, the timestamp MUST be zero”"
_RANGE: Final = (
    f"{_WHERE}“[start, end) MUST be a valid subtree … If the request is invalid according to the rules above, the "
    "witness MUST respond with a 400”"
)
_BEYOND: Final = f"{_WHERE}“and end MUST be less than or equal to the checkpoint size”; else 400"
_PROOF: Final = f"{_WHERE}“If the Merkle Consistency Proof doesn't verify, the witness MUST respond with a 422”"
_COSIGNED: Final = f"{_WHERE}“If the witness can't verify the checkpoint, it MUST respond with a 403”"
_UNKNOWN: Final = f"{_WHERE}“If the checkpoint origin is unknown, the witness MUST respond with a 404”"


@dataclass(frozen=True, slots=True)
class _Reference:
    """A checkpoint that the witness cosigned."""

    log: LabLog
    size: int
    note: bytes

    def body(self, start: int = _START, end: int = _END) -> bytes:
        """Ask for a subtree with its right hash and proof."""
        proof = self.log.subtree_proof(start, end, self.size)
        return format_sign_subtree(start, end, self.log.subtree(start, end), proof, self.note)


async def _refer(trial: Trial) -> tuple[_Reference, Answer]:
    """Have a checkpoint cosigned, and ask for a subtree of it with everything right.

    Raises:
        CaseSkippedError: the witness does not sign subtrees.
    """
    if not trial.session.keys_of(KeyType.ML_DSA_44):
        raise CaseSkippedError("needs a key of the witness of type ML-DSA-44: no other cosigns subtrees")
    note, answer = await trial.refresh(_SIZE)
    if answer.status != OK:
        raise UpstreamProtocolError(f"{trial.log.origin}: a refresh was answered with {answer.status}")
    reference = _Reference(trial.log, await trial.size(), parse_note(note).text + b"\n" + answer.body)
    answer = await trial.post(reference.body(), _PATH)
    if answer.status in _NOT_OFFERED:
        raise CaseSkippedError(f"sign-subtree is not offered: {answer.status}")
    return reference, answer


def _lines_of(trial: Trial, reference: _Reference, answer: Answer) -> tuple[Cosignature, ...]:
    statement = Statement(reference.log.origin, _START, _END, reference.log.subtree(_START, _END))
    return cosignatures_of(answer, statement, trial.session.keys_of(KeyType.ML_DSA_44))


async def _valid(trial: Trial) -> Finding:
    reference, answer = await _refer(trial)
    expected = "200 with a cosignature of the subtree"
    if answer.status != OK:
        return judge_status(answer, OK)
    try:
        found = _lines_of(trial, reference, answer)
    except (UpstreamProtocolError, SignatureError) as error:
        return failed(expected, f"200, but {error}", answer)
    return judge(bool(found), expected, f"200 with {len(found)}", answer)


async def _timestamp(trial: Trial) -> Finding:
    _, answer = await _refer(trial)
    keys = trial.session.keys_of(KeyType.ML_DSA_44)
    lines = [line for line in parse_lines(answer.body) if any(line.is_of(key) for key in keys)]
    times = [int.from_bytes(line.value[:8]) for line in lines]
    return judge(bool(times) and not any(times), "timestamps of 0", f"timestamps {times}", answer)


async def _invalid_range(trial: Trial) -> Finding:
    reference, _ = await _refer(trial)
    body = reference.body(8, 12).replace(b"subtree 8 12\n", b"subtree 7 12\n", 1)
    return judge_status(await trial.post(body, _PATH), 400)


async def _beyond(trial: Trial) -> Finding:
    reference, _ = await _refer(trial)
    body = format_sign_subtree(0, reference.size + 1, trial.log.root(reference.size + 1), [], reference.note)
    return judge_status(await trial.post(body, _PATH), 400)


async def _wrong_proof(trial: Trial) -> Finding:
    reference, _ = await _refer(trial)
    first, *rest = trial.log.subtree_proof(_START, _END, reference.size)
    wrong = Hash(bytes([first[0] ^ 1]) + first[1:])
    body = format_sign_subtree(_START, _END, trial.log.subtree(_START, _END), [wrong, *rest], reference.note)
    return judge_status(await trial.post(body, _PATH), 422)


async def _other_hash(trial: Trial) -> Finding:
    reference, _ = await _refer(trial)
    proof = trial.log.subtree_proof(_START, _END, reference.size)
    body = format_sign_subtree(_START, _END, trial.log.fork(_START).subtree(_START, _END), proof, reference.note)
    return judge_status(await trial.post(body, _PATH), 422)


async def _not_cosigned(trial: Trial) -> Finding:
    reference, _ = await _refer(trial)
    bare = _Reference(trial.log, reference.size, trial.log.checkpoint(reference.size))
    return judge_status(await trial.post(bare.body(), _PATH), 403)


async def _unknown(trial: Trial) -> Finding:
    await _refer(trial)
    log = trial.session.log("unknown")
    return judge_status(await trial.post(_Reference(log, _SIZE, log.checkpoint(_SIZE)).body(), _PATH), 404)


SUBTREE: Final = (
    Case("subtree", "a subtree of a cosigned checkpoint is cosigned", MUST, _VALID, _valid, _LOG),
    Case("subtree-timestamp", "without a time", MUST, _TIME, _timestamp, _LOG),
    Case("subtree-invalid-range", "[7, 12) is no subtree", MUST, _RANGE, _invalid_range, _LOG),
    Case("subtree-beyond-size", "a subtree ends within the tree", MUST, _BEYOND, _beyond, _LOG),
    Case("subtree-wrong-proof", "a proof with one changed bit is refused", MUST, _PROOF, _wrong_proof, _LOG),
    Case("subtree-other-hash", "the hash of another subtree is refused", MUST, _PROOF, _other_hash, _LOG),
    Case(
        "subtree-not-cosigned", "the checkpoint is one that the witness cosigned", MUST, _COSIGNED, _not_cosigned, _LOG
    ),
    Case("subtree-unknown-origin", "a log that was not configured is unknown", MUST, _UNKNOWN, _unknown, _LOG),
)
