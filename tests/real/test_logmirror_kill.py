"""``logmirror serve``, killed at random moments while entries are uploaded: 100 times over four logs."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fault.logmirror_trials import Trial

if TYPE_CHECKING:
    from pathlib import Path

KILLS = 25


@pytest.mark.parametrize("seed", range(100, 104))
async def test_log_mirrors_are_killed_anywhere(seed: int, tmp_path: Path) -> None:
    """After each the copy is what the log has, nothing goes back, and the next process goes on."""
    trial = Trial(tmp_path, random.Random(seed))  # noqa: S311 - a test
    for _ in range(KILLS):
        await trial.kill_one()
    await trial.finish()
    assert trial.met >= KILLS / 4, "most were killed before they had stored anything"
