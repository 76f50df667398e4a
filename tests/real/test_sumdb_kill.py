"""Sequencers killed at random moments (issue 5), 200 into a directory, and some into a real S3 server.

The server goes on with requests whose sender is dead: a swap or a tile may arrive when the next sequencer is at work.
"""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.fault.sequencer_trials import kill_sequencers
from tests.real.conftest import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.real.servers import S3Server


@pytest.mark.parametrize("seed", range(100, 108))
def test_sequencers_into_a_directory_are_killed_anywhere(seed: int, tmp_path: Path) -> None:
    """200 kills over eight logs: no acknowledged record lost, no two heads inconsistent, fsck clean after each."""
    chance = random.Random(seed)  # noqa: S311
    assert kill_sequencers(f"file:{tmp_path / 'log'}", tmp_path / "told", chance, kills=25) > 0


def test_sequencers_into_seaweedfs_are_killed_anywhere(
    start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None], tmp_path: Path
) -> None:
    """20 kills against SeaweedFS, which takes a second to open a log where others are at work."""
    server = start_server("seaweedfs")
    use_credentials(server)
    address = server.address(BUCKET, secrets.token_hex(6))
    assert kill_sequencers(address, tmp_path / "told", random.Random(200), kills=20) > 0  # noqa: S311
