"""Politeness: how we behave towards a host that we do not own (P9). Decisions only; `mirrorwitness.fetch.gate` waits.

Rules:

- 429 and 503 pause *every* request to that host, for as long as ``Retry-After`` says (0, seconds, or an HTTP date):
  at least `MIN_PAUSE`, at most the cap, plus jitter, so that not all come back at the same instant.
- A failed request is repeated with growing, jittered, capped delays, and only where `is_retried` says so. An answer
  that means no (401, 403, 404) is final at once; a `SecurityError` never comes this way.

Randomness and the time of day are arguments: `jitter` is a number from 0 up to 1, `now` an aware datetime.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from mirrorwitness.errors import (
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)

__all__ = [
    "MAX_PAUSE",
    "MIN_PAUSE",
    "PAUSING",
    "Backoff",
    "SickAnswerError",
    "backoff",
    "is_retried",
    "make_status_error",
    "parse_retry_after",
    "pause_for",
]

SECONDS: Final = 1.0

MIN_PAUSE: Final = 1 * SECONDS
"""Shortest pause after 429 or 503. Registries send ``Retry-After: 0`` together with 429; at once is not an answer."""

MAX_PAUSE: Final = 300 * SECONDS
"""Longest pause that a header may order; an upstream that asks for a day should not look like a hang."""

PAUSING: Final = frozenset({429, 503})
"""Answers after which the whole host is left alone for a while."""

_MAX_DIGITS: Final = 9
_REFUSED: Final = frozenset({401, 402, 403, 407, 451})
_MISSING: Final = frozenset({404, 410})
_TRANSIENT: Final = frozenset({408, 425, 429})
_SERVER_ERROR: Final = 500
_FINAL_SERVER_ERRORS: Final = frozenset({501, 505, 511})


class SickAnswerError(UpstreamProtocolError):
    """An answer that breaks the protocol in a way that another try may not: HTML for JSON, broken gzip, half a head."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How often, and after which delays, a request is repeated.

    Attributes:
        attempts: tries altogether, the first one included.
        base: seconds before the second try, doubled before each further one.
        cap: most seconds before any try.
    """

    attempts: int = 4
    base: float = 0.5 * SECONDS
    cap: float = 30 * SECONDS


def backoff(attempt: int, *, base: float, cap: float, jitter: float) -> float:
    """Return the seconds to wait after failed try number `attempt` (1, 2, …).

    Half of the delay is fixed and half is jitter, so that it neither vanishes nor synchronises.
    """
    # 2**60 outgrows any cap; the limit only keeps the float from overflowing.
    full = min(cap, base * float(2 ** min(attempt - 1, 60)))
    return full * (0.5 + jitter / 2)


def parse_retry_after(text: str | None, *, now: datetime) -> float | None:
    """Return the seconds that a ``Retry-After`` field asks for, or None where there is none that can be read."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text) if len(text) <= _MAX_DIGITS else float(10**_MAX_DIGITS)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())


def pause_for(
    retry_after: str | None, *, now: datetime, jitter: float, failures: int = 1, cap: float = MAX_PAUSE
) -> float:
    """Return for how many seconds a host is left alone after 429 or 503.

    Args:
        retry_after: the header field, if any.
        now: the time of day, for HTTP dates.
        jitter: from 0 up to 1; adds up to a tenth, and at least some of a second.
        failures: how many such answers in a row; without a header the pause doubles with each.
        cap: the longest pause.
    """
    asked = parse_retry_after(retry_after, now=now)
    if asked is None:
        asked = MIN_PAUSE * float(2 ** min(max(failures - 1, 0), 60))
    wanted = max(MIN_PAUSE, asked)
    return min(cap, wanted + jitter * max(MIN_PAUSE, wanted / 10))


def make_status_error(status: int, message: str) -> UpstreamError:
    """Return the error for an answer that is not the one we want: the one table from status to error."""
    if status in _MISSING:
        return UpstreamNotFoundError(message)
    if status in _REFUSED or status == 429:  # noqa: PLR2004 - RFC 6585
        return UpstreamRefusedError(message, status=status)
    if status in _TRANSIENT or (status >= _SERVER_ERROR and status not in _FINAL_SERVER_ERRORS):
        return UpstreamUnreachableError(message)
    return UpstreamProtocolError(message)


def is_retried(error: UpstreamError) -> bool:
    """Whether a failed request is worth another try: no usable answer, a sick one, or 429."""
    if isinstance(error, UpstreamRefusedError):
        return error.status in _TRANSIENT
    return isinstance(error, UpstreamUnreachableError | SickAnswerError)
