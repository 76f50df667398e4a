"""Sequencers killed at random moments (issue 5): no acknowledged record lost, no two heads inconsistent, fsck clean.

A few here; 200, and some against a real S3 server, are in `tests/real/test_sumdb_kill.py`.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fault.sequencer_trials import kill_sequencers

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.mark.parametrize("seed", range(2))
def test_sequencers_into_a_directory_are_killed_anywhere(seed: int, tmp_path: Path) -> None:
    """24 kills over two logs; what a sequencer was told is true for each one after it."""
    chance = random.Random(seed)  # noqa: S311
    size = kill_sequencers(f"file:{tmp_path / 'log'}?fsync=off", tmp_path / "told", chance, kills=12)
    assert size > 0
