"""The trailing window of a feed: where to begin when the last hours are read again. Pure.

Rows appear behind positions that were returned already, up to hours later (research/B 1.4.3), so a follower that only
reads forward loses packages. Positions have no time; so checkpoints pair the two while the feed is read.

Rules:

- A window reaches back its length from when it was *last* read, not from now: a worker that was away for a day reads
  again what was late when it left. It begins at the last checkpoint before that time, or else at the oldest one there
  is: too much is read rather than too little.
- Checkpoints are bounded: one for each `STEPS`-th part of the window, and one that is older than it.
- A clock that went back never makes the window shorter: checkpoints from the future are kept as they are and count as
  young, and so do all behind one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Checkpoint", "note_checkpoint", "start_of_window"]

STEPS: Final = 36
"""Checkpoints of one window: every five minutes of the default three hours."""


class Checkpoint(msgspec.Struct, frozen=True, array_like=True):
    """A position and when it was the newest one seen.

    Attributes:
        at: seconds since 1970.
        seq: the position.
    """

    at: float
    seq: str


def note_checkpoint(
    known: Sequence[Checkpoint], now: float, seq: str, *, keep: float, window: float
) -> tuple[Checkpoint, ...]:
    """Return the checkpoints after the newest position was seen.

    Args:
        known: the checkpoints so far.
        now: seconds since 1970.
        seq: the position.
        keep: one checkpoint at least as old as this is kept, for the window that is read next.
        window: the window's length in seconds.
    """
    if known and (known[-1].seq == seq or 0 <= now - known[-1].at < window / STEPS):
        return tuple(known)
    noted = [*known, Checkpoint(now, seq)]
    while len(noted) > 1 and (noted[1].at <= keep or len(noted) > 2 * STEPS):
        del noted[0]
    return tuple(noted)


def start_of_window(known: Sequence[Checkpoint], begin: float) -> str | None:
    """Return the position at which a window begins that is to reach back to `begin`, seconds since 1970.

    None where no position was ever noted.
    """
    young = next((number for number, checkpoint in enumerate(known) if checkpoint.at > begin), len(known))
    return known[max(young - 1, 0)].seq if known else None
