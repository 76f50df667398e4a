"""Rows: what a feed knows: the newest visible row of each package, those that are late, and the live documents."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass, replace
from typing import Final

import trio

__all__ = ["Row", "Rows"]

FIRST_SEQ: Final = 1_000
"""The sequence before the first row: high enough for a head to fall."""

_MAX_GAP: Final = 9
"""The public feed has one row in five sequences (research/B 1.4.2)."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the feed."""

    seq: int
    name: str
    rev: str
    is_deleted: bool


@dataclass(slots=True)
class _Late:
    row: Row
    polls: int | None
    until: float | None


@dataclass(frozen=True, slots=True)
class _Delay:
    polls: int | None
    until: float | None


@dataclass(frozen=True, slots=True)
class _Loss:
    everywhere: bool


class Rows:
    """The rows of a feed.

    Attributes:
        head: the highest sequence given out so far, also to rows that are late or lost.
        docs: the revision of each live document, as ``_all_docs`` has it.
    """

    def __init__(self, *, seed: int = 0) -> None:
        self.head = FIRST_SEQ
        self.docs: dict[str, str] = {}
        self._random = random.Random(seed)  # noqa: S311 - the same gaps each time
        self._rows: dict[str, Row] = {}
        self._order: list[tuple[int, str]] = []
        self._late: list[_Late] = []
        self._planned: dict[str, list[_Delay | _Loss]] = {}
        self._names: list[str] | None = None

    def __repr__(self) -> str:
        return f"<Rows up to {self.head}, {len(self._rows)} packages, {len(self._late)} late>"

    def change(self, name: str, rev: str, *, is_deleted: bool) -> None:
        """Take in a change: at the head, or as it was planned for the package."""
        self.head += self._random.randint(1, _MAX_GAP)
        row = Row(self.head, name, rev, is_deleted)
        waiting = self._planned.get(name)
        plan = waiting.pop(0) if waiting else None
        if not (isinstance(plan, _Loss) and plan.everywhere):
            self._set_doc(row)
        match plan:
            case None:
                self._place(row)
            case _Delay(polls, until):
                self._late.append(_Late(row, polls, until))
            case _Loss():
                pass

    def delay(self, name: str, *, polls: int | None, until: float | None) -> None:
        """Plan that the next change of a package is late; `heal` brings it if neither polls nor time do."""
        self._planned.setdefault(name, []).append(_Delay(polls, until))

    def lose(self, name: str, *, everywhere: bool) -> None:
        """Plan that the next change of a package never appears."""
        self._planned.setdefault(name, []).append(_Loss(everywhere))

    def regress(self) -> None:
        """Number all rows anew from 1 on, without gaps, in the same order; no head was ever so low."""
        rows = sorted([*self._rows.values(), *(late.row for late in self._late)], key=lambda row: row.seq)
        new = {row: replace(row, seq=seq) for seq, row in enumerate(rows, 1)}
        self.head = len(rows)
        self._rows = {name: new[row] for name, row in self._rows.items()}
        self._order = sorted((row.seq, row.name) for row in self._rows.values())
        for late in self._late:
            late.row = new[late.row]

    def after(self, since: int, limit: int) -> list[Row]:
        """Return up to `limit` visible rows after a position, at least one (as CouchDB has it); counts as a poll."""
        for late in [late for late in self._late if late.polls == 0 or _is_over(late.until)]:
            self._late.remove(late)
            self._place(late.row)
        for late in self._late:
            if late.polls is not None:
                late.polls -= 1
        first = bisect.bisect_right(self._order, (since, "\U0010ffff"))
        return [self._rows[name] for _, name in self._order[first : first + max(limit, 1)]]

    def rows(self) -> list[Row]:
        """Return the visible rows, in no order; counts as no poll."""
        return list(self._rows.values())

    def show_late(self) -> None:
        """Let all late rows appear, and forget what was planned."""
        for late in self._late:
            self._place(late.row)
        self._late.clear()
        self._planned.clear()

    def names(self) -> list[str]:
        """Return the names of the live documents in order."""
        if self._names is None:
            self._names = sorted(self.docs)
        return self._names

    def _place(self, row: Row) -> None:
        """Let a row replace the package's older one; a late row that was overtaken is gone."""
        old = self._rows.get(row.name)
        if old is not None:
            if old.seq > row.seq:
                return
            del self._order[bisect.bisect_left(self._order, (old.seq, old.name))]
        self._rows[row.name] = row
        bisect.insort(self._order, (row.seq, row.name))

    def _set_doc(self, row: Row) -> None:
        self._names = None
        if row.is_deleted:
            self.docs.pop(row.name, None)
        else:
            self.docs[row.name] = row.rev


def _is_over(until: float | None) -> bool:
    return until is not None and trio.current_time() >= until
