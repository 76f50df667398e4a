"""Politeness: pure decisions about pauses, repetition and statuses (P9, rows 15 to 17)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import (
    IntegrityMismatchError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import (
    MAX_PAUSE,
    SickAnswerError,
    backoff,
    is_retried,
    make_status_error,
    parse_retry_after,
    pause_for,
)

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("Wed, 01 Jul 2026 12:00:30 GMT", 30.0),
        ("Wed, 01 Jul 2026 14:00:30 +0200", 30.0),
        ("Wed, 01 Jul 2026 12:00:30 -0000", 30.0),
        ("Wed, 01 Jul 2026 11:00:00 GMT", 0.0),
        ("9" * 5000, 1e9),
        ("-1", None),
        ("1.5", None),
        ("²", None),
        ("soon", None),
        ("", None),
        ("Wed, 99 Jul 2026 12:00:30 GMT", None),
    ],
)
def test_row_17_retry_after(text: str | None, seconds: float | None) -> None:
    """Retry-After is 0, seconds, or an HTTP date; anything else is no order."""
    assert parse_retry_after(text, now=NOW) == seconds


@pytest.mark.parametrize(
    ("text", "jitter", "failures", "pause"),
    [
        ("0", 0.0, 1, 1.0),
        ("0", 0.5, 1, 1.5),
        (None, 0.0, 1, 1.0),
        (None, 0.0, 4, 8.0),
        (None, 0.0, 10_000, MAX_PAUSE),
        ("120", 0.5, 9, 126.0),
        ("86400", 0.9, 1, MAX_PAUSE),
        ("Wed, 01 Jul 2026 12:01:00 GMT", 0.0, 1, 60.0),
    ],
)
def test_row_17_pause(text: str | None, jitter: float, failures: int, pause: float) -> None:
    """A pause is at least a second, at most the cap, spread by jitter, and grows where the host says nothing."""
    assert pause_for(text, now=NOW, jitter=jitter, failures=failures) == pause


@given(st.one_of(st.none(), st.text(max_size=40)), st.floats(0, 1, exclude_max=True), st.integers(0, 1 << 70))
def test_any_header_gives_a_sane_pause(text: str | None, jitter: float, failures: int) -> None:
    """Attack: whatever a host sends, the pause is between a second and the cap."""
    assert 1 <= pause_for(text, now=NOW, jitter=jitter, failures=failures) <= MAX_PAUSE


@given(st.integers(1, 1 << 70), st.floats(0, 1, exclude_max=True))
def test_backoff_is_bounded(attempt: int, jitter: float) -> None:
    """Delays grow, are jittered, never vanish and never exceed the cap."""
    delay = backoff(attempt, base=0.5, cap=30, jitter=jitter)
    assert min(30, 0.5 * 2 ** min(attempt - 1, 60)) / 2 <= delay <= 30


def test_backoff_doubles() -> None:
    """Without jitter the delays are half the doubled base."""
    assert [backoff(n, base=1, cap=6, jitter=0) for n in (1, 2, 3, 4, 5)] == [0.5, 1, 2, 3, 3]


@pytest.mark.parametrize(
    ("status", "kind", "retried"),
    [
        (400, UpstreamProtocolError, False),
        (401, UpstreamRefusedError, False),
        (403, UpstreamRefusedError, False),
        (404, UpstreamNotFoundError, False),
        (408, UpstreamUnreachableError, True),
        (410, UpstreamNotFoundError, False),
        (425, UpstreamUnreachableError, True),
        (429, UpstreamRefusedError, True),
        (451, UpstreamRefusedError, False),
        (500, UpstreamUnreachableError, True),
        (501, UpstreamProtocolError, False),
        (502, UpstreamUnreachableError, True),
        (503, UpstreamUnreachableError, True),
        (504, UpstreamUnreachableError, True),
        (505, UpstreamProtocolError, False),
        (599, UpstreamUnreachableError, True),
        (206, UpstreamProtocolError, False),
    ],
)
def test_status_table(status: int, kind: type[UpstreamError], *, retried: bool) -> None:
    """Each status has one error and one answer to "again?"."""
    error = make_status_error(status, "GET x")
    assert (type(error), is_retried(error), str(error)) == (kind, retried, "GET x")
    assert getattr(error, "status", status) == status


def test_row_15_sick_answers_are_tried_again_and_refusals_of_ours_are_not() -> None:
    """HTML for JSON may be one sick edge; a host that is not allowed stays so."""
    assert [is_retried(error) for error in (SickAnswerError("x"), UpstreamRefusedError("x"))] == [True, False]
    assert not issubclass(IntegrityMismatchError, UpstreamError)
