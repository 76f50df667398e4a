"""The trailing window reaches back far enough, whatever the clock does, and its checkpoints stay few (P10)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.window import STEPS, Checkpoint, note_checkpoint, start_of_window

HOUR = 3600.0


def note(known: tuple[Checkpoint, ...], now: float, seq: str) -> tuple[Checkpoint, ...]:
    return note_checkpoint(known, now, seq, keep=now - 3 * HOUR, window=3 * HOUR)


def test_the_window_begins_at_the_newest_checkpoint_that_is_old_enough() -> None:
    """Too much is read rather than too little."""
    known: tuple[Checkpoint, ...] = ()
    assert start_of_window(known, 0.0) is None
    for hour in range(6):
        known = note(known, hour * HOUR, str(hour))
    assert [point.seq for point in known] == ["2", "3", "4", "5"]
    assert start_of_window(known, 5 * HOUR - 3 * HOUR) == "2"
    assert start_of_window(known, 3.5 * HOUR) == "3"
    assert start_of_window(known, -HOUR) == "2"


def test_checkpoints_are_spaced() -> None:
    """Positions that follow closely, or the same one again, add none."""
    known = note((), 0.0, "1")
    assert note(known, 10.0, "2") == known
    assert note(known, HOUR, "1") == known


@given(st.lists(st.floats(-1e6, 1e6), max_size=300))
def test_p10_a_clock_that_jumps_makes_the_window_no_shorter_and_no_longer_list(times: list[float]) -> None:
    """The newest position is always behind the window's begin, and checkpoints are bounded."""
    known: tuple[Checkpoint, ...] = ()
    for number, now in enumerate(times):
        known = note(known, now, str(number))
        assert 0 < len(known) <= 2 * STEPS + 1
        assert start_of_window(known, now - 3 * HOUR) in {point.seq for point in known}
