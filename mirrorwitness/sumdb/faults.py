"""Faults: what `mirrorwitness sumdb fsck` finds wrong, and what it saw. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["Fault", "OnFault", "OnProgress", "Report", "show"]

_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it has to be.

    Attributes:
        key: of which object.
        found: what is there.
        expected: what should be there.
    """

    key: str
    found: str
    expected: str

    def __str__(self) -> str:
        """Return the fault in one line, for people."""
        return f"{self.key}: {self.found}, expected {self.expected}"


@dataclass(frozen=True, slots=True)
class Report:
    """What was looked at.

    Attributes:
        origin: which log.
        size: how many records its tree has.
        root: the tree's hash as recomputed from the records; None where a bundle was missing.
        tiles: how many tiles were compared, partial ones among them.
        packages: how many indexes were read.
        faults: how many faults were told.
        staged: records of the last batch that are not in the tree yet; whoever opens the log completes it.
    """

    origin: str
    size: int
    root: Hash | None
    tiles: int
    packages: int
    faults: int
    staged: int


OnFault: TypeAlias = Callable[[Fault], None]
"""Is told each fault as it is found."""

OnProgress: TypeAlias = Callable[[int, int], None]
"""Is told how many records are checked, and of how many."""


def show(value: object) -> str:
    """Return a value, or what an error says, short enough for a message."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
