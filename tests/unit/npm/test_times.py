"""Times of records read back as they were written, and sort as text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.npm.times import DAYS, format_time, parse_time

TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given there


@given(TIMES, TIMES)
def test_times_read_back_to_the_second_and_sort_as_text(one: datetime, other: datetime) -> None:
    """So records are compared without reading them."""
    read = parse_time(format_time(one))
    assert read == one.replace(microsecond=0)
    assert (format_time(one) < format_time(other)) == (one.replace(microsecond=0) < other.replace(microsecond=0))


@pytest.mark.parametrize("text", ["", "yesterday", "2026-03-04T05:06:07+01:00", "2026-13-04T05:06:07Z"])
def test_what_is_no_time_is_none(text: str) -> None:
    """Who reads a record decides what that means."""
    assert parse_time(text) is None


def test_a_day_is_a_day() -> None:
    assert timedelta(seconds=DAYS) == timedelta(days=1)
