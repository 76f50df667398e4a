"""Receipts: which announced revisions of which packages were handled, so that reading a row again costs nothing. Pure.

Bounded (P10): the oldest receipts are forgotten, and a row without one only costs a look at the package's record.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.packument import rev_number

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName

__all__ = ["MOST_RECEIPTS", "Receipts", "is_covered", "is_shown"]

MOST_RECEIPTS: Final = 200_000
"""Packages remembered, about 30 MB: five days of the public feed's changes, where the window has three hours."""


class Receipts:
    """For each package the revision that was announced last and acted upon, and the one that is stored.

    They differ where a revision was announced that the registry does not show. That one is in a note; what it says
    must not stand for the lower revisions that the registry does show.
    """

    def __init__(self, most: int = MOST_RECEIPTS) -> None:
        self._most = most
        self._revs: OrderedDict[PackageName, tuple[str | None, str | None]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Receipts of {len(self._revs)} packages>"

    def add(self, name: PackageName, announced: str | None, stored: str | None) -> None:
        """Note that an announcement was acted upon: what it said is stored, or noted as unfinished."""
        known = self._revs.pop(name, (None, None))
        self._revs[name] = (announced or known[0], stored or known[1])
        if len(self._revs) > self._most:
            self._revs.popitem(last=False)

    def has(self, name: PackageName, rev: str) -> bool:
        """Say whether a revision was acted upon, or it or a later one is known to be stored."""
        known = self._revs.get(name)
        return known is not None and (rev == known[0] or is_covered(rev, by=known[1]))


def is_covered(announced: str, *, by: str | None) -> bool:
    """Say whether a stored revision is the announced one or a later one (by its number; the rest is random)."""
    if by is None:
        return False
    wanted, found = rev_number(announced), rev_number(by)
    if wanted is None or found is None:
        return announced == by
    return found > wanted or announced == by


def is_shown(announced: str | None, *, by: str | None) -> bool:
    """Say whether a registry whose document has revision `by` shows what was announced.

    Less strict than `is_covered`: of two revisions with one number the registry has the one that won, and a registry
    without revisions (a copy) cannot be held to any.
    """
    wanted, found = rev_number(announced), rev_number(by)
    return wanted is None or found is None or found >= wanted
