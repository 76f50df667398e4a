"""Every row of the table of edge cases that is not about the change feed has a test named after it."""

from __future__ import annotations

import re
from pathlib import Path

ROWS = {1, 2, *range(4, 28), 34, 35, 36}
"""Rows of research/B 7; 3 and 28 to 33 are about the feed, which is not built yet."""

_NAME = re.compile(r"def test_row_(\d\d)(?:_and_(\d\d))?_")


def test_every_row_has_a_test_of_its_name() -> None:
    """``test_row_NN_...`` stands somewhere below tests/."""
    found: set[int] = set()
    for path in Path(__file__).resolve().parent.parent.rglob("test_*.py"):
        for groups in _NAME.findall(path.read_text()):
            found.update(int(number) for number in groups if number)
    assert ROWS - found == set()
