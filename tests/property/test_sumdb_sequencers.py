"""No acknowledged record is lost and no two heads contradict each other, whatever happens to a log's sequencers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest

from tests.property.sumdb_world import play

if TYPE_CHECKING:
    from trio.testing import MockClock

HISTORIES: Final = int(os.environ.get("FUZZ_EXAMPLES") or 160)
"""How many are played; `make fuzz` asks for thousands."""

PARTS: Final = 4

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.mark.parametrize("part", range(PARTS))
async def test_no_history_loses_an_acknowledged_record_or_forks_the_log(
    part: int,
    autojump_clock: MockClock,
) -> None:
    """Kills, faults, lost answers, late writes and duels: heads consistent, indexes complete, fsck clean."""
    records = kills = losses = 0
    for number in range(HISTORIES // PARTS):
        seed = part * 1_000_000 + number
        try:
            world = await play(seed)
        except BaseException as error:
            error.add_note(f"history {seed}")
            raise
        records += len(world.acknowledged)
        kills += world.kills
        losses += world.losses
    assert records > 10 * HISTORIES, "histories in which nothing is logged prove nothing"
    assert kills > HISTORIES // 20, "histories in which nobody is killed prove little"
    assert losses > HISTORIES // 40, "histories without duels prove little"
