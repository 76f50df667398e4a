"""Receipts spare a look at what was acted upon, and never hide what was not (P6)."""

from __future__ import annotations

import pytest

from mirrorwitness.mirror.receipts import Receipts, is_covered, is_shown
from mirrorwitness.npm.names import PackageName

LEFT = PackageName("left")


def test_p6_what_was_acted_upon_or_is_stored_is_known() -> None:
    """An announced revision that never shows stands for itself only."""
    receipts = Receipts()
    assert not receipts.has(LEFT, "1-a")
    receipts.add(LEFT, "9-never", "3-c")
    assert [receipts.has(LEFT, rev) for rev in ("2-b", "3-c", "4-d", "9-never")] == [True, True, False, True]
    receipts.add(LEFT, None, "4-d")
    assert receipts.has(LEFT, "4-d")


def test_p10_the_oldest_are_forgotten() -> None:
    """A row without a receipt costs a look, no more."""
    receipts = Receipts(most=2)
    for name in ("a", "b", "c"):
        receipts.add(PackageName(name), "1-x", None)
    assert [receipts.has(PackageName(name), "1-x") for name in ("a", "b", "c")] == [False, True, True]
    assert repr(receipts) == "<Receipts of 2 packages>"


@pytest.mark.parametrize(
    ("announced", "stored", "covered", "shown"),
    [
        ("2-b", "2-b", True, True),
        ("2-b", "10-a", True, True),
        ("2-b", "2-x", False, True),
        ("2-b", "1-a", False, False),
        ("2-b", None, False, True),
        ("odd", "odd", True, True),
        ("odd", "even", False, True),
    ],
)
def test_p6_revisions_compare_by_their_number(announced: str, stored: str | None, covered: bool, shown: bool) -> None:  # noqa: FBT001
    """To spare a look the text must agree too; a registry is held to the number only."""
    assert is_covered(announced, by=stored) is covered
    assert is_shown(announced, by=stored) is shown


def test_a_registry_that_announces_nothing_owes_nothing() -> None:
    assert is_shown(None, by="1-a")
