"""Follow a feed without ever losing a change, though the feed loses, delays and reorders them (P6).

    head ── below our position, twice? ──> alarm, position = head, sweep of all names
    changes since the position ──> workload ──> watermark ──> cursor (compare-and-swap)
    the last hours once more, by receipts ──> workload
    notes whose time has come ──> workload
    a page of the sweep, where one is under way ──> workload

Rules:

- A row is a hint: package, go and look. What is stored is decided by the packument and its revision, never by the row.
- The cursor moves only behind what is stored or noted as unfinished (`mirrorwitness.mirror.watermark`).
- A bootstrap takes the head first, then compares all names, then reads on from that head. So does a head that went
  back, and a feed with another address. A sweep under way is part of the cursor and outlives the worker.
- A feed that cannot be reached is an alarm and a reason to wait; one that answers 400 ends the follower. So does a
  budget of requests that is used up: the cursor is saved where it is, and the next worker goes on from there.
- Idle, the feed is asked every `idle_least` to `idle_most` seconds, with jitter, and at once only when the cursor moved
  over a full page.

Cancellation: at any point; what is stored stays consistent, and a restart goes on from the last saved cursor.
`stop` ends the intake; packages in work are finished and the cursor is saved.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    FeedDialectError,
    StorageUnavailableError,
    UpstreamError,
)
from mirrorwitness.mirror.announced import choose_rows
from mirrorwitness.mirror.bookmark import Bookmark
from mirrorwitness.mirror.cursor import CursorRecord, SweepRecord
from mirrorwitness.mirror.owed import LONGEST_WAIT, Announced
from mirrorwitness.mirror.sweeper import Sweeper
from mirrorwitness.mirror.watermark import Page
from mirrorwitness.npm.changes import Seq, seq_number
from mirrorwitness.npm.times import DAYS, HOURS, MINUTES, SECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from mirrorwitness.mirror.attempt import Attempts
    from mirrorwitness.mirror.cursor import CursorStore
    from mirrorwitness.mirror.receipts import Receipts
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.mirror.sweep import Sweep
    from mirrorwitness.mirror.workload import Workload
    from mirrorwitness.npm.changes import Change, Head
    from mirrorwitness.npm.feed import Feed

__all__ = ["FollowOptions", "Follower"]

MANY_ROWS: Final = 100
"""A page that moved the cursor and has so many rows is followed by the next one at once; a service may give fewer rows
than were asked for, so "full" cannot be told from the number alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowOptions:
    """How a follower behaves; times in seconds.

    Attributes:
        page_rows: rows of one request.
        pages_ahead: pages read while earlier ones are not finished.
        window: how far back rows are read again.
        reread_every: how often.
        idle_least: shortest wait when there is nothing new.
        idle_most: longest.
        sweep_every: how often all names are compared; 0 never.
        sweep_pace: wait between two pages of a periodic sweep, so that it is spread over time.
        confirm_regression: wait before a head that seems to have gone back is asked once more.
    """

    page_rows: int = 1000
    pages_ahead: int = 4
    window: float = 3 * HOURS
    reread_every: float = 15 * MINUTES
    idle_least: float = 5 * SECONDS
    idle_most: float = 30 * SECONDS
    sweep_every: float = 7 * DAYS
    sweep_pace: float = 3 * MINUTES
    confirm_regression: float = 5 * SECONDS


class Follower:
    """Follows a feed for one shard.

    Args:
        feed: the feed.
        store: the shard's cursor.
        shard: which packages are ours.
        wants: says which of them are wanted.
        workload: does the work; running.
        attempts: what the workload uses, for its notes and its summary.
        receipts: what is known to be stored.
        sweep: compares all names.
        options: how to behave.
        now: the clock.
        jitter: numbers from 0 up to 1.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        store: CursorStore,
        shard: Shard,
        wants: Callable[[str], bool],
        workload: Workload,
        attempts: Attempts,
        receipts: Receipts,
        sweep: Sweep,
        options: FollowOptions,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
    ) -> None:
        self._feed = feed
        self._store = store
        self._mark = Bookmark(store=store, attempts=attempts, window=options.window, now=now)
        self._shard = shard
        self._wants = wants
        self._workload = workload
        self._attempts = attempts
        self._receipts = receipts
        self._sweep = sweep
        self._options = options
        self._sweeper = Sweeper(
            sweep=sweep,
            mark=self._mark,
            workload=workload,
            summary=attempts.summary,
            every=options.sweep_every,
            pace=options.sweep_pace,
            is_ending=lambda: self._is_ending,
            now=now,
        )
        self._now = now
        self._jitter = jitter
        self._stopping = trio.Event()
        self._next_reread = 0.0
        self._inherited: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Follower of shard {self._shard}, {self._mark!r}>"

    def stop(self) -> None:
        """Read no further; packages in work are finished, the cursor is saved."""
        self._stopping.set()

    async def run(self, *, is_once: bool) -> None:
        """Follow until `stop`, or once: until everything that the feed shows now is done.

        Raises:
            FeedDialectError: the feed does not speak our protocol.
            UpstreamError: with `is_once`, the feed cannot be read.
            StorageUnavailableError: the cursor cannot be read, or not be saved at the end; with `is_once`, anything.
            CursorLostError: another worker has our shard.
            StorageRefusedError: the storage takes nothing any more.
        """
        try:
            await self._begin(is_once=is_once)
        except BudgetExhaustedError as error:
            self._attempts.summary.fatal = error
            return
        idle = self._options.idle_least
        while not self._is_ending:
            try:
                is_moved = await (self._cycle(is_once=True) if is_once else self._cycle_patiently())
            except BudgetExhaustedError as error:
                self._attempts.summary.fatal = self._attempts.summary.fatal or error
                break
            if is_once:
                break
            idle = self._options.idle_least if is_moved else min(self._options.idle_most, idle * 1.5)
            await self._settle_down(idle)
        await self._workload.wait_quiet()
        fatal = self._attempts.summary.fatal
        if isinstance(fatal, BudgetExhaustedError):
            self._attempts.summary.alarm(str(fatal), kind="budget")
        await self._mark.save(is_last=True)

    @property
    def _longest_wait(self) -> float:
        return max(LONGEST_WAIT, self._attempts.terms.confirm_after)

    @property
    def _is_ending(self) -> bool:
        return self._stopping.is_set() or self._workload.is_broken

    # ---- beginning

    async def _begin(self, *, is_once: bool) -> None:
        await self._attempts.load_notes(self._shard.owns)
        self._inherited = frozenset(self._attempts.notes)
        record = await self._store.load()
        wanted = self._sweep.fingerprint
        if record is None or record.feed != self._feed.base:
            reason = "bootstrap"
            if record is not None:
                self._attempts.summary.alarm(
                    f"the feed was {record.feed} and is {self._feed.base} now; all names are compared", kind="feed"
                )
            record = await self._seed(record, reason, is_once=is_once)
        elif record.selection != wanted:
            sweep = SweepRecord(reason="selection", started=self._time())
            record = msgspec.structs.replace(record, selection=wanted, sweep=sweep)
        self._mark.begin(record)
        await self._mark.save(is_last=True)

    async def _seed(self, before: CursorRecord | None, reason: str, *, is_once: bool) -> CursorRecord:
        """Return a cursor at the feed's head with all names to compare: the head first, then the names (B 1.4.7)."""
        head = await self._first_head(is_once=is_once)
        return CursorRecord(
            feed=self._feed.base,
            selection=self._sweep.fingerprint,
            position=head.seq,
            epoch=1 if before is None else before.epoch + 1,
            checkpoints=self._mark.first_checkpoint(head.seq),
            sweep=SweepRecord(reason=reason, started=self._time()),
            head=head.seq,
            alarms=() if before is None else before.alarms,
            history=() if before is None else before.history,
        )

    async def _first_head(self, *, is_once: bool) -> Head:
        while True:
            try:
                return await self._feed.head()
            except FeedDialectError:
                raise
            except UpstreamError:
                if is_once or self._stopping.is_set():
                    raise
            await self._settle_down(self._options.idle_most)

    # ---- one cycle

    async def _cycle_patiently(self) -> bool:
        """Do a cycle; a feed or a storage that does not answer is an alarm and a reason to wait."""
        try:
            return await self._cycle(is_once=False)
        except FeedDialectError:
            raise
        except UpstreamError as error:
            self._attempts.summary.alarm(f"the feed cannot be read: {error}", kind="feed")
        except StorageUnavailableError as error:
            self._attempts.summary.alarm(f"the storage did not answer, and is asked again: {error}", kind="storage")
        await self._mark.save()
        return False

    async def _cycle(self, *, is_once: bool) -> bool:
        """Do everything that is due; return whether the feed moved."""
        await self._check_head()
        await self._workload.try_again()
        await self._sweeper.run_needed()
        is_moved = await self._read_forward(is_once=is_once)
        if is_once:
            await self._workload.wait_quiet()
        if trio.current_time() >= self._next_reread:
            await self._reread()
        if is_once:
            await self._workload.wait_quiet()
        await self._retry(is_all=is_once)
        await self._sweeper.run_due(is_once=is_once)
        await self._mark.save()
        return is_moved

    async def _check_head(self) -> None:
        head = await self._feed.head()
        self._mark.change(head=head.seq)
        if not self._is_behind_us(head.seq):
            return
        await trio.sleep(self._options.confirm_regression)
        head = await self._feed.head()  # a root that was cached for a moment is no regression
        if not self._is_behind_us(head.seq):
            return
        self._attempts.summary.alarm(
            f"the feed's head went back to {head.seq}, below our position {self._mark.read}; all names are compared, "
            "and the feed is read on from its new head",
            kind="head-regression",
        )
        await self._workload.wait_quiet()
        self._mark.begin(
            msgspec.structs.replace(
                self._mark.cursor,
                position=head.seq,
                epoch=self._mark.cursor.epoch + 1,
                checkpoints=self._mark.first_checkpoint(head.seq),
                sweep=SweepRecord(reason="head-regression", started=self._time()),
                head=head.seq,
            )
        )
        await self._mark.save(is_last=True)

    def _is_behind_us(self, head: Seq) -> bool:
        return _is_before(head, self._mark.read)

    async def _read_forward(self, *, is_once: bool) -> bool:
        is_any = False
        while not self._is_ending and await self._wait_room():
            page = await self._feed.changes(self._mark.read, limit=self._options.page_rows)
            if self._is_behind_us(page.last):
                break  # the head went back since it was asked for; the next look at it says so
            is_moved = page.last != self._mark.read
            is_end = not is_moved or (not is_once and len(page.rows) < min(self._options.page_rows, MANY_ROWS))
            await self._take(page.rows, self._mark.watermark.open(page.last, seen=self._time() if is_end else 0.0))
            self._mark.move_on(page.last)
            is_any = is_any or is_moved
            await self._mark.save()
            if is_end:
                break
        return is_any

    async def _wait_room(self) -> bool:
        """Wait until not too many pages are open; False where no work will change that."""
        self._mark.watermark.advance()
        while self._mark.watermark.open_pages >= self._options.pages_ahead:
            if self._workload.is_quiet or self._is_ending:
                return False  # what could neither be stored nor noted is tried again first
            await self._workload.wait_progress()
            self._mark.watermark.advance()
            await self._mark.save()
        return True

    async def _take(self, rows: Iterable[Change], page: Page) -> None:
        for name, row in choose_rows(rows, wants=self._wants, shard=self._shard):
            rev = row.rev
            if rev is not None and self._receipts.has(name, rev):
                continue
            if self._is_ending:
                return  # the page stays open
            await self._workload.offer(name, Announced(rev, deleted=row.deleted), page)
        page.is_complete = not self._is_ending

    async def _reread(self) -> None:
        """Read the trailing window once more: rows appear behind positions that were passed (research/B 1.4.3)."""
        position = self._mark.window_start()
        if position is None:
            return
        now, pages = self._time(), list[Page]()
        while not self._is_ending:
            page = await self._feed.changes(position, limit=max(self._options.page_rows, 10_000))
            pages.append(Page(page.last))
            await self._take(page.rows, pages[-1])
            if page.last == position or not page.rows or _is_before(page.last, position):
                break
            position = page.last
        self._mark.note_reread(now, pages)
        self._next_reread = trio.current_time() + self._options.reread_every

    async def _retry(self, *, is_all: bool) -> None:
        """Try again what is noted and due; what earlier workers noted too, where this is the only chance."""
        now = self._now()
        soon, never = format_time(now), format_time(now + timedelta(seconds=self._longest_wait))
        aside = Page(self._mark.read)
        for name, note in list(self._attempts.notes.items()):
            if self._is_ending:
                return
            if not self._wants(name):
                await self._attempts.forget(name)
            elif (is_all and name in self._inherited) or not soon < note.next_try <= never:
                await self._workload.offer(name, Announced(note.expected, deleted=note.deleted), aside)
        if is_all:
            await self._workload.wait_quiet()

    def _time(self) -> float:
        return self._now().timestamp()

    async def _settle_down(self, idle: float) -> None:
        """Wait before the feed is asked again; `stop` ends it."""
        with trio.move_on_after(idle * (0.75 + self._jitter() / 2)):
            await self._stopping.wait()


def _is_before(one: Seq, other: Seq) -> bool:
    first, second = seq_number(one), seq_number(other)
    return first is not None and second is not None and first < second
