"""Health: which cursors count, how far each lags, and what makes a mirror stuck."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.cursor import Alarm, CursorRecord, SweepRecord
from mirrorwitness.mirror.health import (
    ALARMS_SHOWN,
    HealthTerms,
    ShardCursor,
    current_cursors,
    find_troubles,
    format_span,
    lag_of,
    last_alarms,
    saved_at,
    stamp_of,
)
from mirrorwitness.mirror.shards import Shard, parse_shard
from mirrorwitness.npm.times import format_time

NOW = datetime(2026, 9, 17, 12, 0, 0, tzinfo=UTC)
TERMS = HealthTerms(saved_within=3600, lag_most=600)


def cursor(
    shard: str = "1/1", *, age: float = 5, lag: float | None = 5, sweep: SweepRecord | None = None
) -> ShardCursor:
    return ShardCursor(
        parse_shard(shard),
        CursorRecord(
            feed="f",
            selection="s",
            position="1",
            caught_up=0.0 if lag is None else NOW.timestamp() - lag,
            saved=format_time(NOW - timedelta(seconds=age)),
            sweep=sweep,
        ),
    )


def shards(found: tuple[ShardCursor, ...]) -> list[str]:
    return [str(item.shard) for item in found]


def test_a_mirror_that_keeps_up_has_no_troubles() -> None:
    """Nor has one that follows nothing, nor one at its first comparison of all names."""
    bootstrap = SweepRecord(reason="bootstrap", started=0)
    for cursors in ([], [cursor()], [cursor(lag=None, sweep=bootstrap)]):
        assert find_troubles(cursors, now=NOW, terms=TERMS) == ()


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (cursor(age=3601), "shard 1/1: its cursor was last saved at 2026-09-17T10:59:59Z, more than 60 min ago"),
        (cursor(lag=601), "shard 1/1: lags 10 min behind its feed, more than 10 min"),
        (
            cursor("2/3", sweep=SweepRecord(reason="head-regression", started=0, listed=17)),
            "shard 2/3: the feed's head went back, and all names are being compared again (17 so far)",
        ),
    ],
)
def test_troubles(found: ShardCursor, said: str) -> None:
    """Not saved, behind, or resynchronising: each says what, how much, and what is expected."""
    (trouble,) = find_troubles([found], now=NOW, terms=TERMS)
    assert trouble.startswith(said)


def test_what_is_not_asked_is_no_trouble() -> None:
    """0 in the options: an old cursor and a long lag are not looked at."""
    assert find_troubles([cursor(age=1e6, lag=1e6)], now=NOW, terms=HealthTerms()) == ()


def test_a_cursor_without_a_time_is_old() -> None:
    """Nobody knows when it was saved; that is no reason to trust it."""
    broken = ShardCursor(Shard(1, 1), CursorRecord(feed="f", selection="s", position="1", saved="yesterday"))
    (trouble,) = find_troubles([broken], now=NOW, terms=TERMS)
    assert "yesterday" in trouble
    assert saved_at(broken.record) is None


def test_a_clock_that_went_back_is_no_trouble() -> None:
    """A cursor from the future is young, and lags nothing."""
    assert find_troubles([cursor(age=-500, lag=-500)], now=NOW, terms=TERMS) == ()
    assert lag_of(cursor(lag=-500).record, NOW) == 0.0


@pytest.mark.parametrize(
    ("cursors", "kept"),
    [
        ({"1/1": 900, "1/2": 5, "2/2": 5}, ["1/2", "2/2"]),  # one became two
        ({"1/1": 5, "1/2": 900, "2/2": 900}, ["1/1"]),  # and one again
        ({"1/1": 900, "1/2": 5}, ["1/2", "1/1"]),  # half of it is followed by nobody else
        ({"1/4": 5, "3/4": 5, "2/2": 5}, ["2/2", "1/4", "3/4"]),  # one machine with two processes, one with one
        ({"1/1": 900, "1/4": 5, "3/4": 5, "2/2": 5}, ["2/2", "1/4", "3/4"]),
        ({"1/3": 1, "2/3": 2, "3/3": 3, "1/2": 90, "2/2": 90}, ["1/3", "2/3", "3/3"]),
        ({"1/4095": 5, "1/4096": 900}, ["1/4095", "1/4096"]),  # no common division that we look at
    ],
)
def test_cursors_of_earlier_divisions_do_not_count(cursors: dict[str, float], kept: list[str]) -> None:
    """Those that newer ones cover together are left over, and never make a mirror stuck."""
    found = current_cursors([cursor(shard, age=age) for shard, age in cursors.items()])
    assert sorted(shards(found)) == sorted(kept)


@given(st.integers(1, 12), st.integers(1, 12))
def test_a_whole_newer_division_replaces_any_older_one(newer: int, older: int) -> None:
    """Whatever the numbers are."""
    cursors = [cursor(f"{i}/{newer}", age=5) for i in range(1, newer + 1)]
    if newer != older:
        cursors += [cursor(f"{i}/{older}", age=500) for i in range(1, older + 1)]
    assert shards(current_cursors(cursors)) == [f"{i}/{newer}" for i in range(1, newer + 1)]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (119, "119 s"),
        (120, "2 min"),
        (7199, "120 min"),
        (7200, "2 h"),
        (9000, "2.5 h"),
        (172_800, "2 d"),
        (200_000, "2.3 d"),
    ],
)
def test_spans_for_people(seconds: float, text: str) -> None:
    """Two digits that matter and the unit that fits."""
    assert format_span(seconds) == text


def test_last_alarms_of_all_shards() -> None:
    """The newest ones, newest first, and not more than are shown."""
    records = [
        ShardCursor(
            Shard(index, 2),
            CursorRecord(
                feed="f",
                selection="s",
                position="1",
                alarms=tuple(Alarm(f"2026-09-17T0{hour}:0{index}:00Z", "feed", "x") for hour in range(9)),
            ),
        )
        for index in (1, 2)
    ]
    found = last_alarms(records)
    assert len(found) == ALARMS_SHOWN
    assert found[:2] == (("2026-09-17T08:02:00Z", "feed", "x", "2/2"), ("2026-09-17T08:01:00Z", "feed", "x", "1/2"))
    assert stamp_of(NOW.timestamp()) == "2026-09-17T12:00:00Z"
