"""What a follower decides without asking anybody: rows, announcements, receipts, the trailing window (P6)."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.announced import choose_rows
from mirrorwitness.mirror.owed import Announced, join
from mirrorwitness.mirror.patterns import Globs
from mirrorwitness.mirror.receipts import Receipts
from mirrorwitness.mirror.shards import WHOLE, Shard
from mirrorwitness.mirror.window import STEPS, Checkpoint, note_checkpoint, start_of_window
from mirrorwitness.npm.changes import Change
from mirrorwitness.npm.names import PackageName

LEFT = PackageName("left")
HOUR = 3600.0


def test_rows_that_are_wanted_ours_and_names() -> None:
    """Order is kept, repetitions too; what is no package name is passed over whatever is wanted."""
    rows = [Change(name) for name in ("b", "_design/app", "a", "../x", "b", "@s/c", "")]
    assert [name for name, _ in choose_rows(rows, wants=lambda _: True, shard=WHOLE)] == ["b", "a", "b", "@s/c"]
    parts = [choose_rows(rows, wants=lambda _: True, shard=Shard(index, 2)) for index in (1, 2)]
    assert sorted(name for part in parts for name, _ in part) == ["@s/c", "a", "b", "b"]
    assert [name for name, _ in choose_rows(rows, wants=lambda name: name == "a", shard=WHOLE)] == ["a"]


GLOBS = ["*", "@s/*", "@s-x/*", "@*/*", "@s*", "a*", "a-?", "@s/a*", "[ab]*", "?s/*"]


@given(st.lists(st.sampled_from(GLOBS)), st.text(alphabet="@s/-axb", max_size=6))
def test_globs_match_as_one_by_one(globs: list[str], name: str) -> None:
    """Whole scopes and the whole registry are looked up, and the answer is that of the globs."""
    assert Globs(globs).matches(name) == any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        (Announced("2-a"), Announced("3-b"), Announced("3-b")),
        (Announced("3-b"), Announced("2-a"), Announced("3-b")),
        (Announced("3-a"), Announced("3-b"), Announced("3-b")),
        (
            Announced("3-b", deleted=True),
            Announced("2-a"),
            Announced("3-b", deleted=True),
        ),
        (Announced("2-a", deleted=True), Announced("3-b"), Announced("3-b")),
        (Announced("2-a"), Announced(), Announced("2-a")),
        (Announced("2-a", deleted=True), Announced(), Announced("2-a", deleted=True)),
        (Announced("2-a"), Announced(deleted=True), Announced("2-a", deleted=True)),
        (Announced(), Announced("2-a"), Announced("2-a")),
        (Announced(deleted=True), Announced("2-a"), Announced("2-a")),
        (Announced(deleted=True), Announced(), Announced(deleted=True)),
        (Announced("x"), Announced("y"), Announced("y")),
    ],
)
def test_of_two_announcements_the_higher_revision_counts(one: Announced, other: Announced, both: Announced) -> None:
    """In whatever order they came; who only asks says nothing, and revisions without numbers count as they come."""
    assert join(one, other) == both


def test_a_receipt_for_what_never_showed_covers_nothing_else() -> None:
    """The announcement itself is done with, lower revisions are not; what is stored covers all that is lower."""
    receipts = Receipts(most=2)
    receipts.add(LEFT, "999-f", None)
    assert receipts.has(LEFT, "999-f")
    assert not receipts.has(LEFT, "5-a")
    receipts.add(LEFT, None, "6-a")
    assert receipts.has(LEFT, "999-f")
    assert receipts.has(LEFT, "5-a")
    assert not receipts.has(LEFT, "7-a")
    for number in range(2):
        receipts.add(PackageName(f"p{number}"), "1-a", "1-a")
    assert not receipts.has(LEFT, "5-a")


@given(st.lists(st.floats(0, 20 * HOUR), min_size=1, max_size=200), st.floats(0, 20 * HOUR))
def test_a_window_never_begins_too_late(times: list[float], begin: float) -> None:
    """Whatever the clock did: nothing that was read after its begin lies before it, and checkpoints are bounded."""
    known: tuple[Checkpoint, ...] = ()
    for position, now in enumerate(times):
        known = note_checkpoint(known, now, str(position), keep=begin, window=3 * HOUR)
    assert len(known) <= 2 * STEPS
    start = start_of_window(known, begin)
    assert start is not None
    assert all(checkpoint.at <= begin for checkpoint in known if int(checkpoint.seq) < int(start))
    assert start_of_window((), begin) is None
