"""Runs of the conformance suite: witnesses that do not answer, cancellation, wrong options, and the report."""

from __future__ import annotations

import functools
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, SignatureError
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.witness import conformance
from mirrorwitness.witness.conformance import (
    CASES,
    Case,
    ConformanceOptions,
    Level,
    Outcome,
    Result,
    conforms,
    lab_vkeys,
    run_conformance,
    summarize,
    to_json,
)
from mirrorwitness.witness.finding import passed
from mirrorwitness.witness.trial import Session, Trial, pause_of
from mirrorwitness.witness.wire import Answer, Line, parse_prefix
from tests.unit.fetch.scripted import answer_all, listening, reply
from tests.unit.witness.reference import WITNESS_KEYS, ReferenceWitness, Reply
from tests.unit.witness.reference_server import serve_reference
from tests.unit.witness.suite import IDS, SEED, VKEYS, results, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.witness.finding import Finding


async def test_a_witness_that_does_not_know_the_logs_is_told_so() -> None:
    """Nothing else would be found but 404 a hundred times."""
    with pytest.raises(ConfigurationError, match=r"does not know the log .*/shared: .*--print-logs"):
        await run(ReferenceWitness(lab_vkeys(bytes(32))))


async def test_a_witness_that_is_not_there_is_an_error_of_every_case() -> None:
    """Asked once; all outcomes are told."""
    told: list[Outcome] = []
    async with serve_reference(ReferenceWitness(VKEYS)) as url:
        pass
    outcomes = await run(url, told=told.append)
    assert results(outcomes, Result.ERROR) == IDS
    assert outcomes == told
    assert "refused" in outcomes[0].found or "connect" in outcomes[0].found
    assert not conforms(outcomes)


@pytest.mark.parametrize(
    ("answer", "found"), [(b"SSH-2.0-OpenSSH\r\n", "malformed"), (reply(b"", status="429 Too Many"), "429 8 times")]
)
async def test_what_is_no_witness_is_an_error_of_every_case(
    answer: bytes, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It speaks something else, or is always too busy."""

    def at_once(answer: Answer) -> float:
        return 0.0

    monkeypatch.setattr("mirrorwitness.witness.trial.pause_of", at_once)
    async with listening(answer_all(answer)) as url:
        outcomes = await run(url)
    assert results(outcomes, Result.ERROR) == IDS
    assert found in outcomes[0].found


async def test_a_case_without_an_answer_does_not_end_the_suite() -> None:
    """The deadline of one exchange is an error of that case alone, and nothing is kept of its connection."""

    class Hanging(ReferenceWitness):
        async def answer(self, method: str, path: str, fields: dict[str, str], body: bytes) -> Reply:
            if not body:
                await trio.sleep_forever()
            return await super().answer(method, path, fields, body)

    outcomes = await run(Hanging(VKEYS), "refresh", "empty-body", "no-signatures", patience=0.2)
    assert [each.result for each in outcomes] == [Result.PASSED, Result.ERROR, Result.PASSED]
    assert "no answer within 0.2 s" in outcomes[1].found


async def test_a_busy_witness_is_asked_again() -> None:
    """429 says nothing about conformance."""
    outcomes = await run(ReferenceWitness(VKEYS, busy=3), "refresh")
    assert results(outcomes, Result.PASSED) == ["refresh"]


@pytest.mark.parametrize(
    ("asked", "pause"),
    [("0", 0.0), ("3", 3.0), ("86400", 10.0), ("9" * 99, 10.0), ("soon", 1.0), (None, 1.0), ("²", 1.0)],
)
def test_how_long_a_busy_witness_is_left_alone(asked: str | None, pause: float) -> None:
    """As long as it asks for, up to a bound; a second where it does not say."""
    fields = () if asked is None else (("retry-after", asked),)
    assert pause_of(Answer(429, fields, b"")) == pause


async def test_a_run_can_be_cancelled_at_any_point() -> None:
    """Ctrl-C: what was told stands, and no case swallows it."""
    told: list[Outcome] = []
    with trio.CancelScope() as scope:

        def tell(outcome: Outcome) -> None:
            told.append(outcome)
            if len(told) == 3:
                scope.cancel()

        await run(ReferenceWitness(VKEYS), told=tell)
    assert scope.cancelled_caught
    assert [each.case.id for each in told] == IDS[:3]


async def test_a_run_in_a_hanging_case_can_be_cancelled() -> None:
    """The exchange ends at once, without waiting for its deadline."""
    started = time.monotonic()
    with trio.move_on_after(0.1) as scope:
        await _run_against_silence()
    assert scope.cancelled_caught
    assert time.monotonic() - started < 5


async def _run_against_silence() -> None:
    async def silent(stream: trio.SocketStream, _number: int) -> None:
        await trio.sleep_forever()

    async with listening(silent) as url:
        await run(url, "refresh")


async def test_an_error_of_who_is_told_is_not_swallowed() -> None:
    """It is the caller's, and ends the run."""

    def tell(outcome: Outcome) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await run(ReferenceWitness(VKEYS), told=tell)


async def _mistaken(trial: Trial) -> Finding:
    raise KeyError("a mistake of ours")


async def _grouped(trial: Trial) -> Finding:
    raise ExceptionGroup("several", [SignatureError("the first"), OSError("the second")])


async def _endless(trial: Trial) -> Finding:
    await trio.sleep_forever()
    raise AssertionError


async def _without_answer(trial: Trial) -> Finding:
    return passed("nothing", "nothing")


@pytest.mark.parametrize(
    ("runs", "result", "found"),
    [
        (_mistaken, Result.ERROR, "KeyError('a mistake of ours')"),
        (_grouped, Result.ERROR, "the first"),
        (_endless, Result.ERROR, "not finished within 1 s"),
        (_without_answer, Result.PASSED, "nothing"),
    ],
)
async def test_whatever_a_case_does_is_an_outcome(
    runs: Callable[[Trial], Any], result: Result, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in a case, several errors at once, no end: the suite goes on."""
    case = Case("odd", "odd", Level.MUST, "nowhere", runs)
    monkeypatch.setattr(conformance, "CASES", (case, *CASES[:1]))
    monkeypatch.setattr(conformance, "CASE_SECONDS", 1.0)
    first, second = await run(ReferenceWitness(VKEYS), "odd", IDS[0])
    assert (first.result, first.found, first.status) == (result, found, None)
    assert second.result is Result.PASSED


async def test_outcomes_as_plain_data() -> None:
    """JSON takes them; answers are shown with the first bytes of their bodies."""
    outcomes = await run(ReferenceWitness(VKEYS), "refresh", "stale-body", "timestamps-in-order")
    rows = json.loads(json.dumps(to_json(outcomes)))
    assert [row["id"] for row in rows] == ["refresh", "stale-body", "timestamps-in-order"]
    assert rows[1] == {
        "id": "stale-body",
        "title": "a conflict's body is the size and a newline",
        "level": "MUST",
        "source": next(case.source for case in CASES if case.id == "stale-body"),
        "result": "passed",
        "expected": "409 with the body b'1\\n'",
        "found": "409 with the body b'1\\n'",
        "status": 409,
        "content_type": "text/x.tlog.size",
        "body": "1\n",
    }
    assert 100 < len(rows[0]["body"]) <= 200
    assert (rows[2]["status"], rows[2]["content_type"], rows[2]["body"]) == (None, None, None)


def outcome(name: str, result: Result) -> Outcome:
    """Make an outcome of a case."""
    return Outcome(next(case for case in CASES if case.id == name), result, "", "")


def test_a_summary_counts_by_level() -> None:
    """With zeros, so that a reader needs no defaults."""
    counts = summarize([
        outcome("refresh", Result.PASSED),
        outcome("growth", Result.FAILED),
        outcome("keep-alive", Result.PASSED),
        outcome("duplicate-line", Result.DIFFERS),
    ])
    none = dict.fromkeys(["passed", "failed", "differs", "skipped", "error"], 0)
    assert counts == {
        "MUST": {**none, "passed": 1, "failed": 1},
        "SHOULD": {**none, "passed": 1},
        "MAY": none,
        "POLICY": {**none, "differs": 1},
        "total": {**none, "passed": 2, "failed": 1, "differs": 1},
    }


@pytest.mark.parametrize(
    ("name", "result", "expected"),
    [
        ("refresh", Result.PASSED, True),
        ("refresh", Result.FAILED, False),
        ("refresh", Result.DIFFERS, True),
        ("refresh", Result.SKIPPED, True),
        ("refresh", Result.ERROR, False),
        ("keep-alive", Result.FAILED, True),
        ("keep-alive", Result.ERROR, False),
        ("size-2-63", Result.FAILED, True),
    ],
)
def test_what_conforms(name: str, result: Result, expected: bool) -> None:  # noqa: FBT001 - a row
    """A failed MUST and a case that could not be carried through do not."""
    assert conforms([outcome("growth", Result.PASSED), outcome(name, result)]) is expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"url": "witness.example"}, "expected http"),
        ({"monitoring_url": "ftp://witness.example"}, "expected http"),
        ({"seed": bytes(31)}, "32 bytes, not 31"),
        ({"only": ["growth", "grow-up"]}, "no conformance case 'grow-up'"),
        ({"witness_keys": []}, "expected the keys of the witness"),
        ({"witness_keys": [make_signer_key("a", bytes(32)).verifier]}, "expected the keys of the witness"),
    ],
)
async def test_wrong_options_are_refused(wrong: dict[str, Any], message: str) -> None:
    """Before anything is asked."""
    right: dict[str, Any] = {"url": "http://127.0.0.1:9", "witness_keys": WITNESS_KEYS, "seed": SEED}
    with pytest.raises(ConfigurationError, match=message):
        await run_conformance(ConformanceOptions(**{**right, **wrong}), told=lambda _: None)


def test_reprs_say_what_is_going_on() -> None:
    """One line each; the seed is not in them."""
    prefix = parse_prefix("http://witness.example/w1/")
    session = Session(
        seed=SEED, keys=WITNESS_KEYS, submission=prefix, monitoring=None, patience=1, clock=functools.partial(float, 0)
    )
    trial = Trial(session, session.log("shared"), Line(prefix, patience=1))
    assert repr(session) == "<Session with http://witness.example/w1, 0 logs in use>"
    assert repr(trial) == ("<Trial of http://witness.example/w1 with <LabLog conformance.example/630dcd29/shared>>")
    options = ConformanceOptions(url="http://witness.example", witness_keys=WITNESS_KEYS, seed=SEED)
    assert "seed" not in repr(options)
