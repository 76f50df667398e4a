"""What a follower owes: packages that were announced and are not stored, and when to try them again. Pure.

Rules:

- A revision that was announced and that the registry does not show yet stays owed until it is seen or is `owed_for`
  old. Commonly it shows after seconds, sometimes after hours (research/B 1.4.4), so the first tries come quickly.
- A package that fails for another reason is tried again less and less often, and never given up.
- A package that the feed calls deleted is looked at again after `confirm_after`: one 404 never deletes anything.
- Delays are a function of the attempt and of a jitter, so that a thousand owed packages do not come at once.
- Of two announcements of one package the one with the higher revision counts, in whatever order they came: rows are
  late, and lists of names are old when their end is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mirrorwitness.npm.packument import rev_number
from mirrorwitness.npm.times import DAYS, HOURS, SECONDS

__all__ = ["LONGEST_WAIT", "Announced", "OwedTerms", "delay_after", "join"]

FIRST_LOOK: Final = 10 * SECONDS
"""Delay before the first look for a revision that is not shown yet; mostly enough (research/B 1.4.4)."""

FIRST_RETRY: Final = 60 * SECONDS
"""Delay before a package that failed is tried again; the requests themselves were repeated before."""

LONGEST_LOOK: Final = 1 * HOURS
LONGEST_RETRY: Final = 6 * HOURS

LONGEST_WAIT: Final = 1.25 * LONGEST_RETRY
"""No note waits longer, so one that says so was written while the clock was wrong."""


@dataclass(frozen=True, slots=True)
class Announced:
    """What was said of a package.

    Attributes:
        rev: the revision that it has now; None where nothing was said of it.
        deleted: whether the feed says that it is gone.
    """

    rev: str | None = None
    deleted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OwedTerms:
    """How long things are owed.

    Attributes:
        owed_for: seconds after which an announced revision that never showed is given up, with an alarm.
        confirm_after: seconds between the first 404 of a package that the feed calls deleted and the one that counts.
    """

    owed_for: float = 7 * DAYS
    confirm_after: float = 1 * HOURS


def join(one: Announced, other: Announced) -> Announced:
    """Return what two announcements of one package say together; `other` was said later."""
    if other.rev is None and (one.rev is not None or one.deleted):
        return Announced(one.rev, deleted=one.deleted or other.deleted)
    return other if one.rev is None or _is_newer(other.rev, than=one.rev) else one


def _is_newer(rev: str | None, *, than: str) -> bool:
    found, known = rev_number(rev), rev_number(than)
    return found is None or known is None or found >= known


def delay_after(attempts: int, *, is_owed: bool, jitter: float) -> float:
    """Return the seconds until the next try.

    Args:
        attempts: tries so far, from 1.
        is_owed: whether a revision is waited for; otherwise something failed.
        jitter: from 0 up to 1.
    """
    first, longest = (FIRST_LOOK, LONGEST_LOOK) if is_owed else (FIRST_RETRY, LONGEST_RETRY)
    full = min(longest, first * float(2 ** min(attempts - 1, 30)))
    return full * (0.75 + jitter / 2)
