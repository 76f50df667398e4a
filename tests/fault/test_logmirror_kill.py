"""``logmirror serve``, killed while entries are uploaded: each cosignature is of a tree that is whole, for ever."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fault.logmirror_trials import Trial

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

KILLS = 8


async def test_log_mirrors_are_killed_anywhere(tmp_path: Path) -> None:
    """8 kills; after each the copy is what the log has, nothing goes back, and the next process goes on."""
    trial = Trial(tmp_path, random.Random(1))  # noqa: S311 - a test
    for _ in range(KILLS):
        await trial.kill_one()
    await trial.finish()
    assert trial.met >= KILLS / 4, "most were killed before they had stored anything"
