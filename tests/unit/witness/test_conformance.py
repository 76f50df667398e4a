"""The conformance suite: a witness that follows the specification passes, and one that breaks a rule fails its case."""

from __future__ import annotations

import re

import pytest

from mirrorwitness.tlog.keys import KeyType, parse_verifier_key
from mirrorwitness.tlog.note import format_lines
from mirrorwitness.witness.conformance import CASES, Level, Outcome, Result, conforms, lab_vkeys
from mirrorwitness.witness.lab import make_log, stranger_lines
from tests.unit.witness.reference import OFFERS, ReferenceWitness, Reply
from tests.unit.witness.reference_server import serve_reference
from tests.unit.witness.suite import IDS, SEED, VKEYS, OddWitness, results, run

NEED_FRESH = ["first-checkpoint", "growth-from-empty-tree", "race-of-forks"]
"""What cannot be asked of a log twice."""

LEFT_OPEN = {
    "body-of-128-kib",
    "chunked-body",
    "duplicate-line",
    "extension-line",
    "ml-dsa-log",
    "monitor-strangers",
    "monitor-upper-case",
    "request-content-type",
    "root-other-spelling",
    "second-key",
}
"""Cases whose fault is a choice that the specification leaves, or a key that nobody configured."""

RESEARCHED = {
    "never-seen + old 5": "never-seen-old-size",
    "size 0 wrong root": "empty-tree-wrong-root",
    "size 0 empty root": "empty-tree",
    "0 to 0": "empty-tree-refresh",
    "0 to 10": "growth-from-empty-tree",
    "proof with old 0": "proof-from-size-0",
    "refresh": "refresh",
    "same size other root": "same-size-other-root",
    "same size with proof line": "same-size-with-proof",
    "stale": "stale",
    "old > size": "old-above-size",
    "wrong proof": "wrong-proof",
    "empty proof": "no-proof",
    "64-line proof": "proof-of-64-hashes",
    "split-view tree": "split-view",
    "bad signature": "bad-signature",
    "unknown key only": "stranger-alone",
    "unknown origin": "unknown-origin",
    "old with leading zero": "old-leading-zero",
    "old with sign": "old-sign",
    "old with trailing text": "old-trailing-text",
    "old with CRLF": "old-crlf",
    "old missing": "old-missing",
    "old negative": "old-negative",
    "no final LF": "no-final-newline",
    "no blank line": "no-empty-line",
    "short hash": "short-hash",
    "bad base64": "bad-base64",
    "checkpoint size with leading zero": "size-leading-zero",
    "31-byte root": "short-root",
    "empty body": "empty-body",
    "no signatures": "no-signatures",
    "control character": "control-character",
    "16 Ed25519 lines": "sixteen-lines",
    "+2 ML-DSA-sized lines": "ml-dsa-lines-2",
    "+4": "ml-dsa-lines-4",
    "+15": "ml-dsa-lines-15",
    "extension line": "extension-line",
    "duplicate line": "duplicate-line",
    "bad-then-good": "bad-then-good",
    "good-then-bad": "good-then-bad",
    "size 2^63": "size-2-63",
    "origin with trailing space": "origin-trailing-space",
    "GET → 405": "get-add-checkpoint",
    "16-way race": "race-of-sizes",
}
"""The matrix of research/A 4.2, whose “0→0” stands for two cases here."""


@pytest.mark.slow
async def test_every_case_passes_and_may_run_again() -> None:
    """Under the reference witness; the second run goes on from the sizes of the first."""
    witness, told = ReferenceWitness(VKEYS), list[Outcome]()
    async with serve_reference(witness) as url:
        first = await run(url, told=told.append)
        again = await run(url)
    assert [(each.case.id, each.result, each.found) for each in first if each.result is not Result.PASSED] == []
    assert told == first
    assert [each.case.id for each in first] == IDS
    assert results(again, Result.SKIPPED) == NEED_FRESH
    assert results(again, Result.PASSED) == [name for name in IDS if name not in NEED_FRESH]
    assert all("another --seed" in each.found for each in again if each.result is Result.SKIPPED)
    assert conforms(first)


@pytest.mark.parametrize("name", IDS)
async def test_a_witness_that_breaks_the_rule_fails_the_case(name: str) -> None:
    """One mutant of the reference for each case: a case that cannot fail would be worth nothing."""
    (outcome,) = await run(ReferenceWitness(VKEYS, fault=name), name)
    expected = Result.DIFFERS if name in LEFT_OPEN else Result.FAILED
    assert (outcome.result, outcome.case.id) == (expected, name), outcome.found
    assert outcome.expected != outcome.found


def test_the_cases_are_named_and_sourced() -> None:
    """Ids are unique and in kebab case; every case says what has to hold and where that stands."""
    assert len(set(IDS)) == len(IDS) >= 44 + 15
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) for name in IDS)
    assert all(case.title and len(case.source) > 20 for case in CASES)
    assert {case.level for case in CASES} == set(Level)


def test_all_cases_of_the_research_are_there() -> None:
    """The 44 rows of the matrix that peers were compared with, one of them in two halves."""
    assert len(RESEARCHED) == 45
    assert set(RESEARCHED.values()) <= set(IDS)


def test_the_logs_of_a_seed() -> None:
    """Every case's log is among the keys to configure; one log has two keys, one has ML-DSA-44."""
    keys = [parse_verifier_key(vkey, KeyType.ED25519, KeyType.ML_DSA_44) for vkey in VKEYS]
    names = [key.name for key in keys]
    assert {make_log(SEED, case.log_name).origin for case in CASES} == set(names)
    assert [key.name.rpartition("/")[2] for key in keys if key.kind is KeyType.ML_DSA_44] == ["ml-dsa-log"]
    assert {name.rpartition("/")[2] for name in names if names.count(name) > 1} == {"rotated"}
    assert len({key.public for key in keys}) == len(keys)
    assert not set(VKEYS) & set(lab_vkeys(bytes(32)))


@pytest.mark.parametrize(
    ("fault", "name", "found"),
    [
        ("first-checkpoint", "race-of-forks", "422"),
        ("monitor-log-line", "monitor-checkpoint", "no trusted key signed"),
        ("answer-ed25519", "refresh", "does not verify"),
        ("answer-lines", "growth", "each end in a newline"),
        ("answer-lines", "answer-ml-dsa", "each end in a newline"),
        ("answer-offers-ml-dsa", "answer-ml-dsa", "of 0"),
        ("race-of-sizes", "race-of-forks", "16 of 200"),
    ],
)
async def test_a_fault_is_found_by_other_cases_too(fault: str, name: str, found: str) -> None:
    """Where a rule is broken that a case needs it fails, and says why."""
    (outcome,) = await run(ReferenceWitness(VKEYS, fault=fault), name)
    assert (outcome.result, found in outcome.found) == (Result.FAILED, True), outcome.found


@pytest.mark.parametrize(
    ("fault", "name", "found"),
    [
        ("growth", "stale", "cannot begin, growth from 1 to 5 was answered with 422"),
        ("growth", "monitor-log-line", "growth was answered with 422"),
        ("answer-ed25519", "timestamp-not-zero", "does not verify"),
        ("refresh", "subtree", "a refresh was answered with 409"),
    ],
)
async def test_a_case_that_cannot_begin_is_an_error(fault: str, name: str, found: str) -> None:
    """The witness fails something that the case builds on: another case says what."""
    (outcome,) = await run(ReferenceWitness(VKEYS, fault=fault), name)
    assert (outcome.result, found in outcome.found) == (Result.ERROR, True), outcome.found


async def test_an_answer_of_strangers_alone_is_none() -> None:
    """200 is worth what its lines are."""
    lines = format_lines(stranger_lines(2, 64))
    witness = OddWitness(VKEYS, lambda path, _: Reply(200, lines) if path == "/add-checkpoint" else None)
    outcomes = await run(witness, "refresh", "timestamp-not-zero", "answer-own-lines")
    found = {each.case.id: (each.result, each.found) for each in outcomes}
    assert found["refresh"] == (Result.FAILED, "200, cosigned by none of the keys of this witness")
    assert found["answer-own-lines"] == (Result.FAILED, "of 2 lines, stranger-0.example, stranger-1.example")
    assert found["timestamp-not-zero"][0] is Result.ERROR


async def test_a_subtree_that_is_refused_fails() -> None:
    """403 to a right request is no way of not offering it."""
    witness = OddWitness(VKEYS, lambda path, _: Reply(403) if path == "/sign-subtree" else None)
    (outcome,) = await run(witness, "subtree")
    assert (outcome.result, outcome.found) == (Result.FAILED, "403")


@pytest.mark.parametrize("body", [b"0\n", b"one\n", b"", b"01\n", b"9000000\n", b"\xff\n"])
async def test_a_size_that_is_none_ends_the_case(body: bytes) -> None:
    """A witness that answers 409 to a first checkpoint has to say a size that can be gone on from."""
    witness = OddWitness(VKEYS, lambda _path, _body: Reply(409, body))
    (outcome,) = await run(witness, "refresh")
    assert (outcome.result, "to learn the witness's size" in outcome.found) == (Result.ERROR, True)


async def test_a_witness_with_another_tree_is_not_at_fault() -> None:
    """Somebody raced forks with this seed before: the case is skipped, whatever the witness would do."""
    witness = ReferenceWitness(VKEYS)
    fork = make_log(SEED, "shared").fork(0)
    await witness.answer("POST", "/add-checkpoint", {}, b"old 0\n\n" + fork.checkpoint(3))
    outcomes = await run(witness, "refresh", "wrong-proof", "monitor-checkpoint")
    assert results(outcomes, Result.SKIPPED) == ["refresh", "wrong-proof"]
    assert "answered 422 to our tree of that size" in outcomes[0].found


@pytest.mark.slow
async def test_what_a_witness_does_not_offer_is_skipped() -> None:
    """No subtrees, no monitoring, no extension lines: each is one reason, and no failure of what MUST be."""
    outcomes = await run(ReferenceWitness(VKEYS, offers=frozenset({"ml-dsa"})), is_monitored=False)
    skipped = results(outcomes, Result.SKIPPED)
    assert [name for name in IDS if name.startswith(("monitor", "subtree"))] == [
        name for name in skipped if name != "extension-cosigned"
    ]
    assert results(outcomes, Result.DIFFERS) == ["extension-line"]
    assert conforms(outcomes)


async def test_a_monitoring_prefix_of_the_operator_s_has_to_show_something() -> None:
    """Where one was given a 404 fails the first case; the others have nothing to look at."""
    names = [name for name in IDS if name.startswith("monitor")]
    outcomes = await run(ReferenceWitness(VKEYS, offers=OFFERS - {"monitoring"}), *names)
    assert results(outcomes, Result.FAILED) == ["monitor-checkpoint"]
    assert conforms(outcomes)


async def test_a_monitoring_prefix_may_lag() -> None:
    """An earlier checkpoint differs, and is no ground for the cases that compare; one of another tree fails."""
    witness = ReferenceWitness(VKEYS)
    log = make_log(SEED, "monitored")
    async with serve_reference(witness) as url:
        await run(url, "monitor-checkpoint")
        early = witness.states[log.origin].shown
        lagging = OddWitness(VKEYS, lambda path, _: Reply(200, early) if path.endswith("/checkpoint") else None)
        lagging.states = witness.states
        first, second = await run(lagging, "monitor-checkpoint", "monitor-cosignatures")
    assert (first.result, second.result) == (Result.DIFFERS, Result.SKIPPED)
    forked = log.fork(0).checkpoint(9)
    (other,) = await run(
        OddWitness(VKEYS, lambda path, _: Reply(200, forked) if path.endswith("/checkpoint") else None),
        "monitor-checkpoint",
    )
    assert (other.result, other.found) == (Result.FAILED, "that of size 9 with another root than ours")


@pytest.mark.parametrize(
    ("kind", "skipped"),
    [
        (KeyType.COSIGNATURE, ["answer-ml-dsa", *[name for name in IDS if name.startswith("subtree")]]),
        (KeyType.ML_DSA_44, ["answer-ed25519", "extension-cosigned"]),
    ],
)
async def test_a_key_that_was_not_given_is_not_asked_for(kind: KeyType, skipped: list[str]) -> None:
    """Its lines are those of a stranger then, which the suite says."""
    names = [name for name in IDS if name.startswith(("answer", "extension", "subtree"))]
    outcomes = await run(ReferenceWitness(VKEYS), *names, keys=[kind])
    assert results(outcomes, Result.SKIPPED) == skipped
    assert "answer-own-lines" in results(outcomes, Result.FAILED)


async def test_a_second_key_that_nobody_configured_is_skipped() -> None:
    """Its case differs, and the case of its bad line cannot be asked."""
    vkeys = [vkey for vkey in VKEYS if vkey != str(make_log(SEED, "rotated", *[KeyType.ED25519] * 2).keys[1].verifier)]
    outcomes = await run(ReferenceWitness(vkeys), "second-key", "both-keys", "second-key-bad")
    assert [each.result for each in outcomes] == [Result.DIFFERS, Result.PASSED, Result.SKIPPED]
