"""The month's budget of requests to upstream: what is allowed, what is taken, how much a worker may take at once. Pure.

    state/budget/2026-09.json     requests that workers of this mirror have taken in one month

Rules:

- Months are those of UTC, each with an object of its own: nothing is ever reset, and a clock that steps over a month's
  end, forth or back, only changes which object is charged.
- A worker takes requests in blocks (leases) before it sends any, so what is taken is never less than what was sent. A
  worker that is killed loses what is left of its lease: the mirror asks for less than it may, never for more.
- A lease is about what a worker needs in `LEASE_SECONDS`, and never more than an eighth of what is left, so that the
  last of a month is shared by all workers and a kill costs little.

What this does not do: read or write (`mirrorwitness.mirror.lease`), or count (`mirrorwitness.fetch.gate`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import msgspec

from mirrorwitness.npm.times import SECONDS

__all__ = ["BudgetRecord", "BudgetState", "describe_exhaustion", "month_of", "renewal_of", "size_lease"]

LEASE_SECONDS: Final = 60 * SECONDS
"""How long a lease should last: a busy worker writes to the storage once a minute, and its death costs a minute."""

FIRST_LEASE: Final = 50
"""Requests of a worker's first lease: a scheduled run that finds nothing new needs three or four."""

MOST_LEASE: Final = 10_000
"""Requests of the largest lease: a hundred seconds at the default rate."""

GROWTH: Final = 4
"""How many times the last lease the next one may be: fifty requests in a second are no reason to take 3,000."""

LEAST_LEASE: Final = 10
"""Requests of a lease near the end of a budget, where as many are left: sharing single ones costs a write each."""

SHARE: Final = 8
"""The part of what is left that one lease may be; so eight workers can go on to the end together."""

FORMAT: Final = 1


class BudgetRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was taken in one month.

    Attributes:
        month: which, as ``2026-09``.
        taken: requests taken by all workers and not given back.
        worker: who saved it last.
        serial: which of its saves.
        saved: ISO 8601, UTC.
    """

    month: str
    taken: int = 0
    format: int = FORMAT
    worker: str = ""
    serial: int = 0
    saved: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetState:
    """A month's budget, for people and metrics.

    Attributes:
        month: which, as ``2026-09``.
        allowed: requests allowed; 0: no budget is kept.
        taken: requests taken: those sent, and those that workers hold and have not sent.
        renews: when the next month begins, ISO 8601.
    """

    month: str
    allowed: int
    taken: int
    renews: str

    @property
    def left(self) -> int:
        """Requests that nobody has taken; 0 where all are, or where no budget is kept."""
        return max(0, self.allowed - self.taken)


def month_of(now: datetime) -> str:
    """Return the month that a request is charged to, as ``2026-09``."""
    return now.astimezone(UTC).strftime("%Y-%m")


def renewal_of(month: str) -> str:
    """Return when the month after this one begins, ISO 8601."""
    year, number = int(month[:4]), int(month[5:])
    year, number = (year + 1, 1) if number == 12 else (year, number + 1)  # noqa: PLR2004 - December
    return f"{year:04}-{number:02}-01T00:00:00Z"


def size_lease(*, left: int, used: int, lasted: float | None) -> int:
    """Return how many requests a worker takes next.

    Args:
        left: requests of the month that nobody has taken.
        used: how many of its last lease it used.
        lasted: for how many seconds that lasted; None where there was no lease before.

    Returns:
        At least 1 where anything is left, and never more than is left; 0 where nothing is.
    """
    if left <= 0:
        return 0
    wanted = FIRST_LEASE if lasted is None else round(used * LEASE_SECONDS / max(lasted, 1.0))
    wanted = min(max(wanted, FIRST_LEASE), MOST_LEASE, max(GROWTH * used, FIRST_LEASE))
    return min(left, wanted, max(left // SHARE, LEAST_LEASE))


def describe_exhaustion(state: BudgetState) -> str:
    """Say that a month's budget is used up, when it renews, and what to do."""
    return (
        f"the budget of {state.allowed:,} requests for {state.month} is used up: {state.taken:,} are taken. Nothing is"
        f" lost: the cursor stays where it is, and a run after {state.renews} goes on from there. To go on earlier,"
        " raise limits.requests_per_month, where the upstream's terms allow that, or add a peer mirror as a second"
        " [[registry]], whose bytes cost the budget nothing"
    )
