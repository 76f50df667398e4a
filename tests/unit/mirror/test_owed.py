"""How announcements add up, and when what is owed is asked for again."""

from __future__ import annotations

import pytest

from mirrorwitness.mirror.owed import (
    FIRST_LOOK,
    FIRST_RETRY,
    LONGEST_LOOK,
    LONGEST_RETRY,
    LONGEST_WAIT,
    Announced,
    delay_after,
    join,
)


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        (Announced("1-a"), Announced("2-b"), Announced("2-b")),
        (Announced("2-b"), Announced("1-a"), Announced("2-b")),
        (Announced("2-b"), Announced("3-c", deleted=True), Announced("3-c", deleted=True)),
        (Announced("3-c", deleted=True), Announced("2-b"), Announced("3-c", deleted=True)),
        (Announced("3-c", deleted=True), Announced("4-d"), Announced("4-d")),
        (Announced("2-b"), Announced(), Announced("2-b")),
        (Announced(deleted=True), Announced(), Announced(deleted=True)),
        (Announced(), Announced("1-a"), Announced("1-a")),
        (Announced("odd"), Announced("2-b"), Announced("2-b")),
    ],
)
def test_p6_the_newest_revision_counts_whatever_came_last(
    one: Announced, other: Announced, together: Announced
) -> None:
    """Rows come late and out of order."""
    assert join(one, other) == together


def test_waits_grow_up_to_a_bound() -> None:
    """Quickly at first where a revision is only late; never longer than the longest wait."""
    assert delay_after(1, is_owed=True, jitter=0.5) == FIRST_LOOK
    assert delay_after(3, is_owed=True, jitter=0.5) == 4 * FIRST_LOOK
    assert delay_after(1, is_owed=False, jitter=0.5) == FIRST_RETRY
    assert delay_after(10**6, is_owed=True, jitter=0.5) == LONGEST_LOOK
    assert delay_after(10**6, is_owed=False, jitter=0.5) == LONGEST_RETRY
    assert delay_after(10**6, is_owed=False, jitter=0.999) < LONGEST_WAIT
