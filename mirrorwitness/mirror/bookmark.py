"""Where a follower stands, while it runs, and when that is saved.

Rules:

- What is saved never says more than what is finished: the position is the watermark's, and the trailing window counts
  as read when all of its pages are done.
- A busy follower saves at most every `SAVE_EVERY`, an idle one every `HEARTBEAT`, so that others can tell it from a
  dead one.
- The mirror's counters are adjusted before the cursor is swapped: a crash between the two costs a count that the next
  full audit sets right, never a change.

What this does not do: read the feed, or decide where to go on (`mirrorwitness.mirror.follower`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.mirror.cursor import ALARMS_KEPT, Alarm
from mirrorwitness.mirror.watermark import Watermark
from mirrorwitness.mirror.window import note_checkpoint, start_of_window
from mirrorwitness.npm.changes import Seq
from mirrorwitness.npm.times import MINUTES, SECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mirrorwitness.mirror.attempt import Attempts
    from mirrorwitness.mirror.cursor import CursorRecord, CursorStore
    from mirrorwitness.mirror.watermark import Page
    from mirrorwitness.mirror.window import Checkpoint

__all__ = ["Bookmark"]

HISTORY_KEPT: Final = 144
"""Points of the lag's history: one day at one point every ten minutes."""

HISTORY_EVERY: Final = 10 * MINUTES

HEARTBEAT: Final = 5 * MINUTES
"""A follower that has nothing new to save saves all the same this often, so that others can tell it from a dead one."""

SAVE_EVERY: Final = 5 * SECONDS
"""A busy follower saves its cursor at most this often; what a crash costs is work that is found done."""


class Bookmark:
    """The cursor of a running follower, and what of it is not saved yet.

    Args:
        store: the shard's cursor.
        attempts: its notes, alarms and changed counters are saved with the cursor.
        window: how far back rows are read again, in seconds.
        now: the clock.

    Attributes:
        read: up to here rows were read.
        watermark: up to where everything is finished.
    """

    def __init__(self, *, store: CursorStore, attempts: Attempts, window: float, now: Callable[[], datetime]) -> None:
        self._store = store
        self._attempts = attempts
        self._window = window
        self._now = now
        self.read = Seq("")
        self.watermark = Watermark(self.read)
        self._cursor: CursorRecord | None = None
        self._saved: CursorRecord | None = None
        self._next_save = 0.0
        self._next_heartbeat = 0.0
        self._rereading: tuple[float, Sequence[Page]] | None = None

    def __repr__(self) -> str:
        return f"<Bookmark at {self.watermark.position}, read to {self.read}>"

    @property
    def cursor(self) -> CursorRecord:
        """Where we stand; only while running."""
        if self._cursor is None:
            raise RuntimeError("the follower has not begun")
        return self._cursor

    def begin(self, cursor: CursorRecord) -> None:
        """Go on from the position of `cursor`; pages that were open before are forgotten."""
        self._cursor = cursor
        self.read = Seq(cursor.position)
        self.watermark = Watermark(self.read)

    def change(self, **changes: object) -> None:
        """Set attributes of the cursor."""
        self._cursor = msgspec.structs.replace(self.cursor, **changes)

    # ---- the trailing window

    def first_checkpoint(self, seq: Seq) -> tuple[Checkpoint, ...]:
        """Return the checkpoints of a follower that begins at `seq`."""
        return note_checkpoint((), self._time(), seq, keep=0.0, window=self._window)

    def move_on(self, seq: Seq) -> None:
        """Note that rows were read up to `seq`."""
        self.read = seq
        known, keep = self.cursor.checkpoints, self._window_begin()
        self.change(checkpoints=note_checkpoint(known, self._time(), seq, keep=keep, window=self._window))

    def window_start(self) -> Seq | None:
        """Return the position from which the trailing window is to be read; None where none was ever noted."""
        start = start_of_window(self.cursor.checkpoints, self._window_begin())
        return None if start is None else Seq(start)

    def note_reread(self, at: float, pages: Sequence[Page]) -> None:
        """Note that the window was read at `at`, seconds since 1970; it counts when all of `pages` are done."""
        self._rereading = (at, pages)

    def _window_begin(self) -> float:
        """Return the time at which the trailing window begins: its length before it was read for the last time.

        Not before now: a scheduled job that runs once a day, or a clock that was put forward, would leave a gap.
        """
        read = self.cursor.reread or self._time()
        return min(self._time(), read) - self._window

    # ---- saving

    async def save(self, *, is_last: bool = False) -> None:
        """Save the cursor where it moved, or `HEARTBEAT` after the last time.

        Args:
            is_last: now, however short ago the last time was, and a storage that does not answer is an error; a later
                save repairs all others.

        Raises:
            CursorLostError: another worker has our shard.
            StorageRefusedError: the storage takes nothing any more.
            StorageUnavailableError: with `is_last`, it could not be saved.
        """
        if not is_last and trio.current_time() < self._next_save:
            return
        record = self._cursor = self._collect()
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
        else:
            self._saved = record
        self._next_save = trio.current_time() + SAVE_EVERY
        self._next_heartbeat = trio.current_time() + HEARTBEAT

    def _collect(self) -> CursorRecord:
        """Return the cursor with all that happened since the last time."""
        self.watermark.advance()
        if self._rereading is not None and all(page.is_done for page in self._rereading[1]):
            self.change(reread=self._rereading[0])
            self._rereading = None
        record = msgspec.structs.replace(
            self.cursor,
            position=self.watermark.position,
            caught_up=max(self.cursor.caught_up, self.watermark.seen),
            unfinished=len(self._attempts.notes),
            owed=self._attempts.owed,
            alarms=self._collect_alarms(),
        )
        now = self._time()
        if record.caught_up and (not record.history or now - record.history[-1][0] >= HISTORY_EVERY):
            point = (round(now), round(max(0.0, now - record.caught_up), 1))
            record = msgspec.structs.replace(record, history=(*record.history, point)[-HISTORY_KEPT:])
        return record

    def _collect_alarms(self) -> tuple[Alarm, ...]:
        """Return the newest alarms, those of packages too; what repeats the one before is told once."""
        alarms = list(self.cursor.alarms)
        for kind, text in self._attempts.summary.take_alarms():
            if not alarms or (alarms[-1].kind, alarms[-1].text) != (kind, text):
                alarms.append(Alarm(format_time(self._now()), kind, text))
        return tuple(alarms[-ALARMS_KEPT:])

    def _time(self) -> float:
        return self._now().timestamp()
