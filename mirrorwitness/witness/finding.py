"""What a conformance case finds, and how answers are judged. Pure.

Rules:

- A case *passed* where the answer is the one that the specification gives or, where it gives none, the one that we
  expect. It *differs* where the specification leaves another choice and the witness took it, and *failed* otherwise.
- An answer of 200 is worth what its lines are: it passes only with a cosignature of one of the witness's keys on
  exactly the checkpoint that was sent, and without a line of these keys that does not verify.
- Levels are those of the sentence that a case quotes: `Level.MUST` also where that sentence binds the request and
  leaves the status open. `Level.POLICY` is what no sentence decides.

What it does not do: ask (`mirrorwitness.witness.trial`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.cosignature import check_cosignatures
from mirrorwitness.tlog.note import parse_lines

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from mirrorwitness.tlog.cosignature import Cosignature, Statement
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.wire import Answer

__all__ = [
    "ADD",
    "MAY",
    "MUST",
    "OK",
    "POLICY",
    "REFUSALS",
    "SHOULD",
    "Finding",
    "Level",
    "Result",
    "cosignatures_of",
    "failed",
    "first_problem",
    "judge",
    "judge_cosigned",
    "judge_equal",
    "judge_status",
    "passed",
]

REFUSALS: Final = range(400, 500)
"""Statuses that blame the request: all of them where the specification says no more than that it is wrong."""

OK: Final = 200

ADD: Final = "tlog-witness, add-checkpoint: "
"""Where most of the sentences stand that cases quote."""


class Level(StrEnum):
    """How binding the sentence is."""

    MUST = "MUST"
    SHOULD = "SHOULD"
    MAY = "MAY"
    POLICY = "POLICY"
    """No sentence decides it; implementations differ, and whoever chooses a witness may want to know."""


MUST, SHOULD, MAY, POLICY = Level
"""So that a line of a table is short."""


class Result(StrEnum):
    """How a case ended."""

    PASSED = "passed"
    FAILED = "failed"
    DIFFERS = "differs"
    """Another choice than ours, which the specification leaves."""
    SKIPPED = "skipped"
    """It could not be asked of this witness, or of this log again; `Finding.found` says why."""
    ERROR = "error"
    """It could not be carried through: no answer, or no answer that a case can begin with."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one case ended.

    Attributes:
        result: in one word.
        expected: what would have passed.
        found: what came, for people.
        answer: the answer that was judged.
    """

    result: Result
    expected: str
    found: str
    answer: Answer | None = None


def judge(holds: bool, expected: str, found: str, answer: Answer | None = None) -> Finding:  # noqa: FBT001 - a verdict
    """Return a finding that passed where something holds, else one that failed."""
    return Finding(Result.PASSED if holds else Result.FAILED, expected, found, answer)


def failed(expected: str, found: str, answer: Answer | None = None) -> Finding:
    """Return a finding that failed."""
    return Finding(Result.FAILED, expected, found, answer)


def passed(expected: str, found: str, answer: Answer | None = None) -> Finding:
    """Return a finding that passed."""
    return Finding(Result.PASSED, expected, found, answer)


def judge_equal(what: str, found: object, expected: object, answer: Answer | None = None) -> Finding:
    """Return a finding that passed where two values are equal."""
    return judge(found == expected, f"{what} {expected!r}", f"{what} {found!r}", answer)


def judge_status(answer: Answer, *wanted: int, choice: Container[int] = ()) -> Finding:
    """Judge a status.

    Args:
        answer: what came.
        wanted: any of these passes.
        choice: what differs; all else failed.
    """
    result = Result.FAILED
    if answer.status in wanted:
        result = Result.PASSED
    elif answer.status in choice:
        result = Result.DIFFERS
    return Finding(result, _join(wanted), f"{answer.status}", answer)


def judge_cosigned(
    answer: Answer, statement: Statement, keys: Sequence[VerifierKey], *, choice: Container[int] = ()
) -> Finding:
    """Judge an answer that has to be 200 with a cosignature of the witness.

    Args:
        answer: what came.
        statement: what was sent.
        keys: the witness's.
        choice: statuses that differ; all others failed.
    """
    if answer.status != OK:
        return judge_status(answer, OK, choice=choice)
    expected = "200 with a cosignature that verifies"
    try:
        found = cosignatures_of(answer, statement, keys)
    except (UpstreamProtocolError, SignatureError) as error:
        return Finding(Result.FAILED, expected, f"200, but {error}", answer)
    names = ", ".join(f"{each.key.name} ({each.key.kind.title})" for each in found)
    return judge(bool(found), expected, f"200, cosigned by {names or 'none of the keys of this witness'}", answer)


def cosignatures_of(answer: Answer, statement: Statement, keys: Sequence[VerifierKey]) -> tuple[Cosignature, ...]:
    """Return the witness's cosignatures in an answer; lines of other keys are passed over.

    Raises:
        UpstreamProtocolError: the body is not signature lines.
        SignatureError: a line of one of the keys does not verify.
    """
    return check_cosignatures(parse_lines(answer.body), keys, statement)


def first_problem(*findings: Finding) -> Finding:
    """Return the first finding that did not pass, or else the last."""
    return next((each for each in findings if each.result is not Result.PASSED), findings[-1])


def _join(statuses: Sequence[int]) -> str:
    return " or ".join(map(str, statuses))
