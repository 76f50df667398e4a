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
    CursorLostError,
    FeedDialectError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamError,
)
from mirrorwitness.mirror.announced import choose_rows
from mirrorwitness.mirror.cursor import ALARMS_KEPT, Alarm, CursorRecord, SweepRecord
from mirrorwitness.mirror.owed import LONGEST_WAIT, Announced
from mirrorwitness.mirror.times import DAYS, HOURS, MINUTES, SECONDS, format_time
from mirrorwitness.mirror.watermark import Page, Watermark
from mirrorwitness.mirror.window import note_checkpoint, start_of_window
from mirrorwitness.npm.changes import Seq, seq_number

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

HISTORY_KEPT: Final = 144
"""Points of the lag's history: one day at one point every ten minutes."""

HISTORY_EVERY: Final = 10 * MINUTES

MANY_ROWS: Final = 100
"""A page that moved the cursor and has so many rows is followed by the next one at once; a service may give fewer rows
than were asked for, so "full" cannot be told from the number alone."""

HEARTBEAT: Final = 5 * MINUTES
"""A follower that has nothing new to save saves all the same this often, so that others can tell it from a dead one."""

SAVE_EVERY: Final = 5 * SECONDS
"""A busy follower saves its cursor at most this often; what a crash costs is work that is found done."""


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
        self._shard = shard
        self._wants = wants
        self._workload = workload
        self._attempts = attempts
        self._receipts = receipts
        self._sweep = sweep
        self._options = options
        self._now = now
        self._jitter = jitter
        self._stopping = trio.Event()
        self._read = Seq("")
        self._watermark = Watermark(self._read)
        self._cursor: CursorRecord | None = None
        self._saved: CursorRecord | None = None
        self._next_save = 0.0
        self._next_heartbeat = 0.0
        self._next_reread = 0.0
        self._next_sweep_page = 0.0
        self._inherited: frozenset[str] = frozenset()
        self._rereading: tuple[float, tuple[Page, ...]] | None = None

    def __repr__(self) -> str:
        return f"<Follower of shard {self._shard} at {self._watermark.position}, read to {self._read}>"

    @property
    def cursor(self) -> CursorRecord:
        """Where we stand; only while running."""
        if self._cursor is None:
            raise RuntimeError("the follower has not begun")
        return self._cursor

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
            self._alarm("budget", str(fatal))
        await self._save(is_last=True)

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
        self._cursor = record
        self._read = Seq(record.position)
        self._watermark = Watermark(self._read)
        await self._save(is_last=True)

    async def _seed(self, before: CursorRecord | None, reason: str, *, is_once: bool) -> CursorRecord:
        """Return a cursor at the feed's head with all names to compare: the head first, then the names (B 1.4.7)."""
        head = await self._first_head(is_once=is_once)
        return CursorRecord(
            feed=self._feed.base,
            selection=self._sweep.fingerprint,
            position=head.seq,
            epoch=1 if before is None else before.epoch + 1,
            checkpoints=note_checkpoint((), self._time(), head.seq, keep=0.0, window=self._options.window),
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
            self._alarm("feed", f"the feed cannot be read: {error}")
        except StorageUnavailableError as error:
            self._alarm("storage", f"the storage did not answer, and is asked again: {error}")
        await self._save()
        return False

    async def _cycle(self, *, is_once: bool) -> bool:
        """Do everything that is due; return whether the feed moved."""
        await self._check_head()
        await self._workload.try_again()
        sweep = self.cursor.sweep
        if sweep is not None and sweep.reason != "periodic":
            await self._sweep_all()
        is_moved = await self._read_forward(is_once=is_once)
        if is_once:
            await self._workload.wait_quiet()
        if trio.current_time() >= self._next_reread:
            await self._reread()
        if is_once:
            await self._workload.wait_quiet()
        await self._retry(is_all=is_once)
        await self._sweep_some(is_once=is_once)
        await self._save()
        return is_moved

    async def _check_head(self) -> None:
        head = await self._feed.head()
        self._cursor = msgspec.structs.replace(self.cursor, head=head.seq)
        if not self._is_behind_us(head.seq):
            return
        await trio.sleep(self._options.confirm_regression)
        head = await self._feed.head()  # a root that was cached for a moment is no regression
        if not self._is_behind_us(head.seq):
            return
        self._alarm(
            "head-regression",
            f"the feed's head went back to {head.seq}, below our position {self._read}; all names are compared, and "
            "the feed is read on from its new head",
        )
        await self._workload.wait_quiet()
        self._cursor = msgspec.structs.replace(
            self.cursor,
            position=head.seq,
            epoch=self.cursor.epoch + 1,
            checkpoints=note_checkpoint((), self._time(), head.seq, keep=0.0, window=self._options.window),
            sweep=SweepRecord(reason="head-regression", started=self._time()),
            head=head.seq,
        )
        self._read = head.seq
        self._watermark = Watermark(head.seq)
        await self._save(is_last=True)

    def _is_behind_us(self, head: Seq) -> bool:
        return _is_before(head, self._read)

    async def _read_forward(self, *, is_once: bool) -> bool:
        is_any = False
        while not self._is_ending and await self._wait_room():
            page = await self._feed.changes(self._read, limit=self._options.page_rows)
            if self._is_behind_us(page.last):
                break  # the head went back since it was asked for; the next look at it says so
            is_moved = page.last != self._read
            is_end = not is_moved or (not is_once and len(page.rows) < min(self._options.page_rows, MANY_ROWS))
            await self._take(page.rows, self._watermark.open(page.last, seen=self._time() if is_end else 0.0))
            self._read = page.last
            noted = note_checkpoint(
                self.cursor.checkpoints,
                self._time(),
                page.last,
                keep=self._window_start(),
                window=self._options.window,
            )
            self._cursor = msgspec.structs.replace(self.cursor, checkpoints=noted)
            is_any = is_any or is_moved
            await self._save()
            if is_end:
                break
        return is_any

    async def _wait_room(self) -> bool:
        """Wait until not too many pages are open; False where no work will change that."""
        self._watermark.advance()
        while self._watermark.open_pages >= self._options.pages_ahead:
            if self._workload.is_quiet or self._is_ending:
                return False  # what could neither be stored nor noted is tried again first
            await self._workload.wait_progress()
            self._watermark.advance()
            await self._save()
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
        start = start_of_window(self.cursor.checkpoints, self._window_start())
        if start is None:
            return
        now, pages, position = self._time(), list[Page](), Seq(start)
        while not self._is_ending:
            page = await self._feed.changes(position, limit=max(self._options.page_rows, 10_000))
            pages.append(Page(page.last))
            await self._take(page.rows, pages[-1])
            if page.last == position or not page.rows or _is_before(page.last, position):
                break
            position = page.last
        self._rereading = (now, tuple(pages))
        self._next_reread = trio.current_time() + self._options.reread_every

    def _window_start(self) -> float:
        """Return the time at which the trailing window begins: its length before it was read for the last time.

        Not before now: a scheduled job that runs once a day, or a clock that was put forward, would leave a gap.
        """
        read = self.cursor.reread or self._time()
        return min(self._time(), read) - self._options.window

    async def _retry(self, *, is_all: bool) -> None:
        """Try again what is noted and due; what earlier workers noted too, where this is the only chance."""
        now = self._now()
        soon, never = format_time(now), format_time(now + timedelta(seconds=self._longest_wait))
        aside = Page(self._read)
        for name, note in list(self._attempts.notes.items()):
            if self._is_ending:
                return
            if not self._wants(name):
                await self._attempts.forget(name)
            elif (is_all and name in self._inherited) or not soon < note.next_try <= never:
                await self._workload.offer(name, Announced(note.expected, deleted=note.deleted), aside)
        if is_all:
            await self._workload.wait_quiet()

    # ---- sweeps

    async def _sweep_all(self) -> None:
        while self.cursor.sweep is not None and not self._is_ending and await self._sweep_page(self.cursor.sweep):
            pass

    async def _sweep_some(self, *, is_once: bool) -> None:
        options = self._options
        # A sweep that ended in the future ended before the clock went back.
        is_due = bool(options.sweep_every) and abs(self._time() - self.cursor.swept) >= options.sweep_every
        if self.cursor.sweep is None and is_due:
            sweep = SweepRecord(reason="periodic", started=self._time())
            self._cursor = msgspec.structs.replace(self.cursor, sweep=sweep)
        if is_once:
            await self._sweep_all()
        elif self.cursor.sweep is not None and trio.current_time() >= self._next_sweep_page:
            await self._sweep_page(self.cursor.sweep)
            self._next_sweep_page = trio.current_time() + options.sweep_pace

    async def _sweep_page(self, sweep: SweepRecord) -> bool:
        """Compare a page of names; return whether the sweep moved on."""
        page = Page(self._read)
        behind = self._attempts.summary.counts["packages_updated"]
        step = await self._sweep.read(sweep.after)
        for name, announced in step.packages:
            if self._is_ending:
                return False
            await self._workload.offer(name, announced, page)
        page.is_complete = True
        await self._workload.wait_quiet()
        if not page.is_done:
            return False  # the storage failed; the page is compared again, and not at once
        behind = self._attempts.summary.counts["packages_updated"] - behind
        done = msgspec.structs.replace(
            sweep, after=step.after, listed=sweep.listed + len(step.packages), behind=sweep.behind + behind
        )
        if step.after is None:
            self._attempts.summary.counts["sweeps"] += 1
            self._cursor = msgspec.structs.replace(self.cursor, sweep=None, swept=self._time())
        else:
            self._cursor = msgspec.structs.replace(self.cursor, sweep=done)
        await self._save()
        return True

    # ---- the cursor

    async def _save(self, *, is_last: bool = False) -> None:
        """Save the cursor where it moved, or `HEARTBEAT` after the last time.

        Not more often than `SAVE_EVERY` unless it is the last time.
        """
        if not is_last and trio.current_time() < self._next_save:
            return
        self._watermark.advance()
        if self._rereading is not None and all(page.is_done for page in self._rereading[1]):
            self._cursor = msgspec.structs.replace(self.cursor, reread=self._rereading[0])
            self._rereading = None
        caught_up = max(self.cursor.caught_up, self._watermark.seen)
        record = msgspec.structs.replace(
            self.cursor,
            position=self._watermark.position,
            caught_up=caught_up,
            unfinished=len(self._attempts.notes),
            owed=self._attempts.owed,
            alarms=self._collect_alarms(),
        )
        now = self._time()
        if record.caught_up and (not record.history or now - record.history[-1][0] >= HISTORY_EVERY):
            point = (round(now), round(max(0.0, now - record.caught_up), 1))
            record = msgspec.structs.replace(record, history=(*record.history, point)[-HISTORY_KEPT:])
        self._cursor = record
        if trio.current_time() >= self._next_heartbeat:
            self._saved = None
        if record == self._saved and self._attempts.change.is_nothing:
            return
        try:
            await self._attempts.save_change()
            await self._store.save(record, saved=format_time(self._now()))
        except StorageUnavailableError as error:
            if is_last:
                raise
            self._attempts.summary.alarm(f"the cursor could not be saved, and will be: {error}", kind="cursor")
        except (CursorLostError, StorageRefusedError):
            self.stop()
            raise
        else:
            self._saved = record
        self._next_save = trio.current_time() + SAVE_EVERY
        self._next_heartbeat = trio.current_time() + HEARTBEAT

    def _alarm(self, kind: str, text: str) -> None:
        self._attempts.summary.alarm(text, kind=kind)

    def _collect_alarms(self) -> tuple[Alarm, ...]:
        """Return the newest alarms, those of packages too; what repeats the one before is told once."""
        alarms = list(self.cursor.alarms)
        for kind, text in self._attempts.summary.take_alarms():
            if not alarms or (alarms[-1].kind, alarms[-1].text) != (kind, text):
                alarms.append(Alarm(format_time(self._now()), kind, text))
        return tuple(alarms[-ALARMS_KEPT:])

    def _time(self) -> float:
        return self._now().timestamp()

    async def _settle_down(self, idle: float) -> None:
        """Wait before the feed is asked again; `stop` ends it."""
        with trio.move_on_after(idle * (0.75 + self._jitter() / 2)):
            await self._stopping.wait()


def _is_before(one: Seq, other: Seq) -> bool:
    first, second = seq_number(one), seq_number(other)
    return first is not None and second is not None and first < second
