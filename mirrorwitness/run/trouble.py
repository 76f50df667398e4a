"""Trouble: what is wrong with a log as a whole, in the word that reports of `check` use.

A verdict (`mirrorwitness.sumdb.verdict`) is about one entry; trouble ends a check, and no entry is verified.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from mirrorwitness.errors import ForkError, MirrorWitnessError, SecurityError, SignatureError, UpstreamError

__all__ = ["Trouble", "trouble_of"]


class Trouble(StrEnum):
    """What ended a check."""

    FORK = "log-fork"
    """The log signed two histories that contradict each other."""
    BAD_CHECKPOINT = "log-signature"
    """Its checkpoint is not signed by its key, or not cosigned as the policy says."""
    BAD_TREE = "log-proof"
    """What it serves is not what its checkpoint promises."""
    UNREACHABLE = "log-unreachable"
    """It cannot be read."""
    OTHER = "check-failed"
    """The check could not be made: what was given, or what is kept on this machine, cannot be used."""


_OF: Final[tuple[tuple[type[MirrorWitnessError], Trouble], ...]] = (
    (ForkError, Trouble.FORK),
    (SignatureError, Trouble.BAD_CHECKPOINT),
    (SecurityError, Trouble.BAD_TREE),
    (UpstreamError, Trouble.UNREACHABLE),
)


def trouble_of(error: BaseException) -> Trouble:
    """Return the word for an error that ended a check."""
    return next((trouble for kind, trouble in _OF if isinstance(error, kind)), Trouble.OTHER)
