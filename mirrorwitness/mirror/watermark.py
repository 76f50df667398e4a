"""Watermark: how far a cursor may move while pages of work finish in any order. Pure.

    position ──[page: 2 left]──[page: done]──[page: 1 left]──> read so far
       └ stays here until the first page is done, then jumps behind the second

Rules:

- The position is one up to which *everything* that was read is finished or durably recorded as unfinished (P2, P8).
- Pages finish in any order; the position moves over them in the order in which they were read.
- A re-seed begins a new watermark; pages of the old one are finished without moving anything.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirrorwitness.npm.changes import Seq

__all__ = ["Page", "Watermark"]


class Page:
    """Work that was read together and ends at one position.

    Attributes:
        until: the position behind it.
        left: pieces of work that are not finished.
        is_complete: whether all its work has been added; set by whoever adds it.
        seen: when it was all that the feed had, seconds since 1970; 0 where more followed at once.
    """

    __slots__ = ("is_complete", "left", "seen", "until")

    def __init__(self, until: Seq, *, seen: float = 0.0) -> None:
        self.until = until
        self.left = 0
        self.is_complete = False
        self.seen = seen

    def __repr__(self) -> str:
        return f"<Page until {self.until}, {self.left} left>"

    @property
    def is_done(self) -> bool:
        """Whether everything in it is finished."""
        return self.is_complete and not self.left

    def add(self) -> None:
        """Count one more piece of work."""
        self.left += 1

    def finish(self) -> None:
        """Count one piece of work as finished."""
        self.left -= 1


class Watermark:
    """The pages between the position and what was read.

    Attributes:
        position: up to here everything is finished.
        seen: when everything that the feed had was last finished, by the time at which it was read.
    """

    def __init__(self, position: Seq) -> None:
        self.position = position
        self.seen = 0.0
        self._pages: deque[Page] = deque()

    def __repr__(self) -> str:
        return f"<Watermark at {self.position}, {len(self._pages)} pages open>"

    def open(self, until: Seq, *, seen: float = 0.0) -> Page:
        """Begin a page that was read up to `until`; the caller adds its work and sets `Page.is_complete`."""
        page = Page(until, seen=seen)
        self._pages.append(page)
        return page

    def advance(self) -> bool:
        """Move over the pages that are done; say whether the position moved."""
        before = self.position
        while self._pages and self._pages[0].is_done:
            page = self._pages.popleft()
            self.position = page.until
            self.seen = max(self.seen, page.seen)
        return self.position != before

    @property
    def open_pages(self) -> int:
        """Pages that are not moved over."""
        return len(self._pages)
