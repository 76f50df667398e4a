"""Times as records have them, ISO 8601 in UTC to the second (``2026-03-04T05:06:07Z``), and units of time. Pure.

Text of this form sorts as the times do, so records are compared without reading it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

__all__ = ["DAYS", "HOURS", "MINUTES", "SECONDS", "describe_time", "format_time", "parse_time"]

SECONDS: Final = 1.0
MINUTES: Final = 60 * SECONDS
HOURS: Final = 60 * MINUTES
DAYS: Final = 24 * HOURS

_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"


def format_time(at: datetime) -> str:
    """Return a time, given in UTC, as records have it."""
    return at.strftime(_FORMAT)


def parse_time(text: str) -> datetime | None:
    """Return the time that a record has, None where it does not say one in our way."""
    try:
        return datetime.strptime(text, _FORMAT).replace(tzinfo=UTC)
    except ValueError:
        return None


def describe_time(timestamp: int) -> str | None:
    """Return seconds since 1970 for people; None for 0, and the number where no calendar has it."""
    if not timestamp:
        return None
    try:
        return format_time(datetime.fromtimestamp(timestamp, UTC))
    except (ValueError, OverflowError, OSError):
        return str(timestamp)
