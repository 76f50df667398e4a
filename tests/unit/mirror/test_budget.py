"""The month's budget of requests: what a lease is, and that no worker sends what it has not taken (P9)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.budget import (
    FIRST_LEASE,
    LEAST_LEASE,
    MOST_LEASE,
    SHARE,
    BudgetState,
    describe_exhaustion,
    month_of,
    renewal_of,
    size_lease,
)


@pytest.mark.parametrize(
    ("now", "month", "renews"),
    [
        (datetime(2026, 9, 30, 23, 59, 59, tzinfo=UTC), "2026-09", "2026-10-01T00:00:00Z"),
        (datetime(2026, 12, 1, tzinfo=UTC), "2026-12", "2027-01-01T00:00:00Z"),
        (datetime(2026, 10, 1, 1, tzinfo=timezone(timedelta(hours=2))), "2026-09", "2026-10-01T00:00:00Z"),
    ],
)
def test_months_are_those_of_utc(now: datetime, month: str, renews: str) -> None:
    """A request is charged to the month that it is in Greenwich, wherever the machine stands."""
    assert (month_of(now), renewal_of(month)) == (month, renews)


@given(
    left=st.integers(-10, 10_000_000),
    used=st.integers(0, 20_000),
    lasted=st.none() | st.floats(0, 1e7),
)
def test_p9_a_lease_is_bounded(left: int, used: int, lasted: float | None) -> None:
    """Never more than is left, nor than an eighth of it but for the last few; something wherever anything is left."""
    size = size_lease(left=left, used=used, lasted=lasted)
    assert (size > 0) == (left > 0)
    assert size <= max(0, min(left, MOST_LEASE))
    assert size <= max(left // SHARE, LEAST_LEASE)


@pytest.mark.parametrize(
    ("left", "used", "lasted", "size"),
    [
        (4_500_000, 0, None, FIRST_LEASE),  # nothing is known of the worker yet
        (4_500_000, 50, 1.0, 200),  # it sent 50 in a second: a minute needs 3,000, and a burst is no minute
        (4_500_000, 800, 16.0, 3000),
        (4_500_000, 10_000, 10.0, MOST_LEASE),
        (4_500_000, 3000, 3600.0, FIRST_LEASE),  # it has become quiet
        (400, 50, 1.0, 50),  # an eighth of what is left
        (12, 50, 1.0, 10),
        (3, 50, 1.0, 3),
        (0, 50, 1.0, 0),
    ],
)
def test_a_lease_is_about_a_minutes_need(left: int, used: int, lasted: float | None, size: int) -> None:
    """Busy workers take more at once and quiet ones little, so that a kill costs a minute, whoever is killed."""
    assert size_lease(left=left, used=used, lasted=lasted) == size


def test_exhaustion_says_what_when_and_what_to_do() -> None:
    """The message names the budget, what is used, when it renews, and both ways on."""
    state = BudgetState(month="2026-09", allowed=4_500_000, taken=4_500_000, renews="2026-10-01T00:00:00Z")
    text = describe_exhaustion(state)
    for part in ("4,500,000", "2026-09", "2026-10-01T00:00:00Z", "limits.requests_per_month", "[[registry]]"):
        assert part in text
    assert state.left == 0
