"""Whether somebody's witness does what C2SP tlog-witness says: the engine behind `mirrorwitness witness conformance`.

It knows the witness by its URL and its keys alone, and asks what any log may ask. The witness has to know the keys of
the suite's logs before (`lab_vkeys`). Nothing else is needed, and nothing is remembered: a seed can be used again
and again, against one witness or many. What cannot be asked of a log twice is skipped then, and says so.

- Cases run one after another, each over connections of its own, and none ends the suite: a case that gets no answer, or
  none that it can begin with, is an *error*. Where the very first request gets no answer, all are.
- Each case grows at most a log that belongs to the suite. Nothing that a witness does for other logs is touched; a run
  makes some 220 requests, a fifth of them in three races. The suite's logs fork on purpose: a witness that keeps
  evidence of forks has some afterwards, and alarms.

What it does not do: print, or decide which case matters to whom.

*Errors*: only wrong options, and a witness that does not know the logs, are errors (`ConfigurationError`).
*Cancellation*: at any point; connections are closed at once, and what was told before stands.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError, MirrorWitnessError, UpstreamError, leaves_of
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.witness.cases import CASES, lab_vkeys
from mirrorwitness.witness.finding import MUST, Finding, Level, Result
from mirrorwitness.witness.trial import SHARED, Case, CaseSkippedError, Session, Trial
from mirrorwitness.witness.wire import Line, parse_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.wire import Answer

__all__ = [
    "CASES",
    "Case",
    "ConformanceOptions",
    "Level",
    "Outcome",
    "Result",
    "conforms",
    "lab_vkeys",
    "run_conformance",
    "summarize",
    "to_json",
]

SECONDS: Final = 1.0

CASE_SECONDS: Final = 120 * SECONDS
"""Longest time for one case; a witness that answers 429 to everything takes that long."""

_SHOWN_BYTES: Final = 200
"""Bytes of a body that an outcome keeps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceOptions:
    """What is tested, and how.

    Attributes:
        url: the submission prefix of the witness.
        witness_keys: all of its keys, of types that cosign.
        seed: 32 bytes that the keys of the suite's logs are made of.
        monitoring_url: its monitoring prefix; None: the submission prefix is tried, and may show nothing.
        only: ids of the cases to run; none: all.
        patience: seconds that one exchange may take.
        clock: the time of day, in seconds since 1970.
    """

    url: str
    witness_keys: Sequence[VerifierKey]
    seed: bytes = field(repr=False)
    monitoring_url: str | None = None
    only: Collection[str] = ()
    patience: float = 10 * SECONDS
    clock: Callable[[], float] = time.time


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one case ended.

    Attributes:
        case: which.
        result: in one word.
        expected: what would have passed; empty where nothing was judged.
        found: what came, or why nothing could.
        status: of the answer that was judged; None where none was.
        content_type: of that answer.
        body: its first bytes, as text.
    """

    case: Case
    result: Result
    expected: str
    found: str
    status: int | None = None
    content_type: str | None = None
    body: str | None = None


async def run_conformance(options: ConformanceOptions, *, told: Callable[[Outcome], None]) -> list[Outcome]:
    """Run the cases against a witness.

    Args:
        options: what is tested, and how.
        told: is called with each outcome as soon as it is there.

    Returns:
        The outcomes, in the order of `CASES`.

    Raises:
        ConfigurationError: an option is wrong, or the witness does not know the logs of this seed.
    """
    cases = _select(options.only)
    session = _make_session(options)
    unreachable = await _begin(session)
    outcomes: list[Outcome] = []
    for case in cases:
        if unreachable is None:
            outcome = await _run(case, session)
        else:
            outcome = Outcome(case, Result.ERROR, "", unreachable)
        outcomes.append(outcome)
        told(outcome)
    return outcomes


def summarize(outcomes: Iterable[Outcome]) -> dict[str, dict[str, int]]:
    """Return how many cases of each level ended how, and of all levels together under ``total``; none is left out."""
    counts = Counter((name, each.result) for each in outcomes for name in (each.case.level, "total"))
    names = (*Level, "total")
    return {str(name): {str(result): counts[name, result] for result in Result} for name in names}


def conforms(outcomes: Iterable[Outcome]) -> bool:
    """Say whether nothing that MUST be was found to be otherwise, and every case could be carried through."""
    return not any(
        each.result is Result.ERROR or (each.result is Result.FAILED and each.case.level is MUST) for each in outcomes
    )


def to_json(outcomes: Iterable[Outcome]) -> list[dict[str, str | int | None]]:
    """Return the outcomes as plain data; the names are a stable contract."""
    return [
        {
            "id": each.case.id,
            "title": each.case.title,
            "level": str(each.case.level),
            "source": each.case.source,
            "result": str(each.result),
            "expected": each.expected,
            "found": each.found,
            "status": each.status,
            "content_type": each.content_type,
            "body": each.body,
        }
        for each in outcomes
    ]


def _select(only: Collection[str]) -> list[Case]:
    unknown = sorted(set(only) - {case.id for case in CASES})
    if unknown:
        raise ConfigurationError(f"there is no conformance case {unknown[0]!r}")
    return [case for case in CASES if not only or case.id in only]


def _make_session(options: ConformanceOptions) -> Session:
    keys = options.witness_keys
    if not keys or any(key.kind not in COSIGNER_KEYS for key in keys):
        raise ConfigurationError("expected the keys of the witness, each of type Ed25519 cosignature or ML-DSA-44")
    return Session(
        seed=options.seed,
        keys=keys,
        submission=parse_prefix(options.url),
        monitoring=None if options.monitoring_url is None else parse_prefix(options.monitoring_url),
        patience=options.patience,
        clock=options.clock,
    )


async def _begin(session: Session) -> str | None:
    """Ask once with the shared log; return why the witness does not answer, None where it does.

    Raises:
        ConfigurationError: it does not know the log.
    """
    log = session.log(SHARED)
    with Line(session.submission, patience=session.patience) as line:
        try:
            answer = await Trial(session, log, line).submit(log.checkpoint(1), old=0)
        except UpstreamError as error:
            return f"the witness does not answer: {error}"
    if answer.status == 404:  # noqa: PLR2004 - of HTTP
        raise ConfigurationError(
            f"the witness at {session.submission} does not know the log {log.origin}: let it know all keys of the "
            "suite's logs first (--print-logs), or use the seed that it was given"
        )
    return None


async def _run(case: Case, session: Session) -> Outcome:
    """Run one case; whatever it raises is its outcome."""
    log = session.log(case.log_name, case.kinds)
    problem: Exception
    with trio.move_on_after(CASE_SECONDS), Line(session.submission, patience=session.patience) as line:
        try:
            return _make_outcome(case, await case.run(Trial(session, log, line)))
        except CaseSkippedError as skipped:
            return Outcome(case, Result.SKIPPED, "", str(skipped))
        except Exception as error:  # noqa: BLE001 - a case, and a mistake in one, never ends the suite
            problem = error
        session.sizes.pop(log.origin, None)  # what was sent may have counted
        return Outcome(case, Result.ERROR, "", _describe(problem))
    session.sizes.pop(log.origin, None)
    return Outcome(case, Result.ERROR, "", f"not finished within {CASE_SECONDS:g} s")


def _make_outcome(case: Case, finding: Finding) -> Outcome:
    answer = finding.answer
    if answer is None:
        return Outcome(case, finding.result, finding.expected, finding.found)
    return Outcome(
        case,
        finding.result,
        finding.expected,
        finding.found,
        answer.status,
        answer.field("content-type"),
        _show(answer),
    )


def _show(answer: Answer) -> str:
    return answer.body[:_SHOWN_BYTES].decode("utf-8", "replace")


def _describe(problem: Exception) -> str:
    error = leaves_of(problem)[0]
    return str(error) if isinstance(error, MirrorWitnessError) else repr(error)
