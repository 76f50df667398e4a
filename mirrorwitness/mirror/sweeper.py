"""When all names are compared with what is stored, and how far that is.

Rules:

- A sweep under way is part of the cursor and outlives the worker; it moves on a page at a time, when all packages of
  the page are stored or noted.
- A sweep that is needed (bootstrap, another selection, a head that went back) is gone through at once; a periodic one
  is spread over time, and a run that is made once does all of it.

What this does not do: say what a page has to compare (`mirrorwitness.mirror.sweep`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import trio

from mirrorwitness.mirror.cursor import SweepRecord
from mirrorwitness.mirror.watermark import Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.mirror.bookmark import Bookmark
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.sweep import Sweep
    from mirrorwitness.mirror.workload import Workload

__all__ = ["Sweeper"]


class Sweeper:
    """Goes through the pages of a sweep.

    Args:
        sweep: reads what there is to compare.
        mark: the cursor, which a sweep under way is part of.
        workload: does the work.
        summary: counts sweeps, and how many packages were updated.
        every: seconds from one periodic sweep to the next; 0 never.
        pace: seconds between two pages of a periodic sweep.
        is_ending: says whether nothing further should be taken on.
        now: the clock.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        mark: Bookmark,
        workload: Workload,
        summary: RunSummary,
        every: float,
        pace: float,
        is_ending: Callable[[], bool],
        now: Callable[[], datetime],
    ) -> None:
        self._sweep = sweep
        self._mark = mark
        self._workload = workload
        self._summary = summary
        self._every = every
        self._pace = pace
        self._is_ending = is_ending
        self._now = now
        self._next_page = 0.0

    def __repr__(self) -> str:
        return f"<Sweeper of {self._sweep!r}, under way: {self._mark.cursor.sweep}>"

    async def run_needed(self) -> None:
        """Go through a sweep that is needed, if there is one.

        Raises:
            StorageError: what is stored cannot be read, or the cursor not be saved.
            UpstreamError: the list of names cannot be read.
        """
        sweep = self._mark.cursor.sweep
        if sweep is not None and sweep.reason != "periodic":
            await self._run_all()

    async def run_due(self, *, is_once: bool) -> None:
        """Begin a periodic sweep where it is due, and do the next page where it is time; all of it with `is_once`.

        Raises:
            StorageError: what is stored cannot be read, or the cursor not be saved.
            UpstreamError: the list of names cannot be read.
        """
        now = self._now().timestamp()
        # A sweep that ended in the future ended before the clock went back.
        is_due = bool(self._every) and abs(now - self._mark.cursor.swept) >= self._every
        if self._mark.cursor.sweep is None and is_due:
            self._mark.change(sweep=SweepRecord(reason="periodic", started=now))
        if is_once:
            await self._run_all()
        elif self._mark.cursor.sweep is not None and trio.current_time() >= self._next_page:
            await self._run_page(self._mark.cursor.sweep)
            self._next_page = trio.current_time() + self._pace

    async def _run_all(self) -> None:
        while (sweep := self._mark.cursor.sweep) is not None and not self._is_ending() and await self._run_page(sweep):
            pass

    async def _run_page(self, sweep: SweepRecord) -> bool:
        """Compare a page of names; return whether the sweep moved on."""
        page = Page(self._mark.read)
        behind = self._summary.counts["packages_updated"]
        step = await self._sweep.read(sweep.after)
        for name, announced in step.packages:
            if self._is_ending():
                return False
            await self._workload.offer(name, announced, page)
        page.is_complete = True
        await self._workload.wait_quiet()
        if not page.is_done:
            return False  # the storage failed; the page is compared again, and not at once
        behind = self._summary.counts["packages_updated"] - behind
        if step.after is None:
            self._summary.counts["sweeps"] += 1
            self._mark.change(sweep=None, swept=self._now().timestamp())
        else:
            listed = sweep.listed + len(step.packages)
            self._mark.change(
                sweep=msgspec.structs.replace(sweep, after=step.after, listed=listed, behind=sweep.behind + behind)
            )
        await self._mark.save()
        return True
