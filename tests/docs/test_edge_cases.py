"""Every row of the table of edge cases that is not about the change feed, and every fault, has a test of its name."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {1, 2, *range(4, 28), 34, 35, 36}
"""Rows of research/B 7; 3 and 28 to 33 are about the feed, which is not built yet."""

FAULTS = {
    "unreadable_lockfile",
    "unknown_lockfile_version",
    "contradictory_selection",
    "full_disk",
    "read_only_storage",
    "s3_credentials_wrong",
    "s3_credentials_expired_in_mid_run",
    "s3_returning_503",
    "s3_accepting_and_then_losing_the_answer",
}
"""What an operator meets; each has a test through the public command."""

_NAME = re.compile(r"def test_row_(\d\d)(?:_and_(\d\d))?_")


def test_every_row_has_a_test_of_its_name() -> None:
    """``test_row_NN_...`` stands somewhere below tests/."""
    found: set[int] = set()
    for path in Path(__file__).resolve().parent.parent.rglob("test_*.py"):
        for groups in _NAME.findall(path.read_text()):
            found.update(int(number) for number in groups if number)
    assert ROWS - found == set()


def test_every_fault_has_a_test_of_its_name() -> None:
    """``test_FAULT`` stands in tests/fault/, which runs the commands."""
    text = (Path(__file__).resolve().parent.parent / "fault" / "test_named_faults.py").read_text()
    assert [fault for fault in sorted(FAULTS) if f"def test_{fault}" not in text] == []
