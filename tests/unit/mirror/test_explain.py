"""Explanations from facts alone: each state, each exit code, and bounds on what is told."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord, ReleaseNote, Tombstone, Unfinished
from mirrorwitness.mirror.explain import SHOWN, Facts, State, explain
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.mirror.withdrawal import Event, Place
from mirrorwitness.npm.names import PackageName, Version

PAD = PackageName("left-pad")
ONE = Version("1.0.0")
SELECTION = make_selection([parse_rule("left-pad@^1", origin="a test")])


def held(**known: object) -> HeldVersion:
    return HeldVersion(file="left-pad-1.0.0.tgz", size=3, sri="sha512-x", **known)  # type: ignore[arg-type]


def record(item: HeldVersion | None = None, **known: object) -> PackageRecord:
    versions = {} if item is None else {ONE: item}
    return PackageRecord(name=PAD, versions=versions, checked="2026-01-01T00:00:00Z", **known)  # type: ignore[arg-type]


def test_the_leaf_of_a_version_is_told() -> None:
    """What the log vouched for says so, with the log's name."""
    facts = Facts(name=PAD, version=ONE, record=record(held(leaf=41, tree=50), log="sumdb.example 1f2e"))
    assert any("leaf 41 of the log sumdb.example, signature" in told for told in explain(facts).sentences)
    blocked = record(held(served=False), blocked={"1.0.0": "unvouched: the log does not have it yet: x"})
    assert explain(Facts(name=PAD, version=ONE, record=blocked)).code is ExitCode.PARTIAL


NOTE = Unfinished(name=PAD, reason="no answer", kind="UpstreamUnreachableError", last="2026-01-02T00:00:00Z")


@pytest.mark.parametrize(
    ("facts", "state", "code"),
    [
        (Facts(name=PAD), State.UNKNOWN, ExitCode.PARTIAL),
        (Facts(name=PAD, note=NOTE), State.WITHHELD, ExitCode.PARTIAL),
        (Facts(name=PAD, record=record(), note=NOTE), State.WITHHELD, ExitCode.PARTIAL),
        (Facts(name=PAD, record=record()), State.UNSELECTED, ExitCode.COMPLETE),
        (Facts(name=PAD, record=record(blocked={"1.0.0": "policy: denied"})), State.BLOCKED, ExitCode.COMPLETE),
        (Facts(name=PAD, record=record(blocked={"9.9.9": "missing: pinned"})), State.BLOCKED, ExitCode.PARTIAL),
        (Facts(name=PAD, record=record(held())), State.SERVED, ExitCode.COMPLETE),
        (Facts(name=PAD, record=record(held(withdrawn="unpublished-01"))), State.HELD, ExitCode.COMPLETE),
        (Facts(name=PAD, record=record(held(served=False))), State.UNSELECTED, ExitCode.COMPLETE),
        (
            Facts(name=PAD, record=record(held(served=False, withdrawn="deleted-01"), deleted="x")),
            State.HIDDEN,
            ExitCode.COMPLETE,
        ),
        (
            Facts(name=PAD, record=record(held(served=False, withdrawn="deleted-01", place=Place.PURGED))),
            State.PURGED,
            ExitCode.COMPLETE,
        ),
        (
            Facts(name=PAD, record=record(held(served=False, withdrawn="security-holder-01", place=Place.QUARANTINE))),
            State.QUARANTINED,
            ExitCode.COMPLETE,
        ),
        (
            Facts(name=PAD, version=ONE, record=record(held(served=False, damaged=True))),
            State.DAMAGED,
            ExitCode.PARTIAL,
        ),
        (Facts(name=PAD, version=ONE, record=record(held(served=False))), State.UNSELECTED, ExitCode.COMPLETE),
        (
            Facts(name=PAD, version=ONE, record=record(blocked={"1.0.0": "equivocation: other bytes"})),
            State.BLOCKED,
            ExitCode.DIVERGENCE,
        ),
        (
            Facts(name=PAD, record=record(held()), note=Unfinished(name=PAD, reason="evidence", kind="diverged")),
            State.SERVED,
            ExitCode.DIVERGENCE,
        ),
    ],
)
def test_each_state_has_its_word_its_code_and_sentences(facts: Facts, state: State, code: ExitCode) -> None:
    """One word, what the command exits with, at least one sentence, and advice wherever somebody has to act."""
    explanation = explain(facts)
    assert (explanation.state, explanation.code) == (state, code)
    assert all(sentence.endswith(".") for sentence in explanation.sentences)
    assert bool(explanation.advice) == (
        state not in {State.SERVED, State.HELD, State.BLOCKED} or code is ExitCode.DIVERGENCE
    )


def test_rules_are_told_also_where_nothing_is_stored() -> None:
    """The selection alone says whether a version that nobody has would be wanted."""
    wanted = explain(Facts(name=PAD, version=ONE, selection=SELECTION))
    assert wanted.rules == ("every version in ^1 of left-pad (a test)",)
    assert wanted.sentences[0] == "It is selected by every version in ^1 of left-pad (a test)."
    unwanted = explain(Facts(name=PAD, version=Version("2.0.0"), selection=SELECTION))
    assert unwanted.rules == ()
    assert "No rule of the selection wants it." in unwanted.sentences


def test_what_is_owed_is_told_with_its_next_try() -> None:
    """An announced revision, what is stored instead, and when it is looked for again."""
    note = Unfinished(
        name=PAD, reason="owed", kind="owed", first="a", last="b", attempts=2, expected="5-x", next_try="c"
    )
    told = explain(Facts(name=PAD, record=record(held(), rev="4-x"), note=note)).sentences
    assert "The package is unfinished since a, after 2 tries, the last on b: owed." in told
    assert "The feed announced revision 5-x; revision 4-x is stored." in told
    assert "A follower tries again at c, a scheduled run whenever it runs." in told
    nothing = explain(Facts(name=PAD, note=note)).sentences
    assert "The feed announced revision 5-x; revision None is stored." in nothing


def test_p10_what_is_told_is_bounded() -> None:
    """A thousand events, blocks and pieces of evidence: the newest or first few, and how many there are."""
    stones = [
        (f"key-{number}", Tombstone(name=PAD, version=ONE, event=Event.UNPUBLISHED, seen=f"2026-{number:04}"))
        for number in range(1000)
    ]
    release = ReleaseNote(name=PAD, version=ONE, stone="unpublished-01", seen="2026-9999", reason="mine")
    blocked = {f"1.0.{number}": "policy: denied" for number in range(1000)}
    explanation = explain(
        Facts(
            name=PAD,
            record=record(blocked=blocked),
            tombstones=stones,
            releases=[release],
            evidence=[f"evidence-{number}" for number in range(1000)],
        )
    )
    told = explanation.sentences
    assert len(told) < 2 * SHOWN
    assert sum(map(len, told)) < 5000
    assert f"… and {1001 - SHOWN} older events under state/tombstones/." in told
    assert "2026-9999: 1.0.0: the operator let it in again, lifting unpublished-01: mine." in told
    assert any(sentence.startswith("1000 were not taken (policy)") for sentence in told)
    assert told[-1].endswith(f"and {1000 - SHOWN} more.")


def test_a_release_of_another_version_is_not_told() -> None:
    """Asked about one version, only what happened to that one."""
    release = ReleaseNote(name=PAD, version=Version("2.0.0"), stone="unpublished-01", seen="a", reason="mine")
    told = explain(Facts(name=PAD, version=ONE, record=record(held()), releases=[release])).sentences
    assert not any("mine" in sentence for sentence in told)
