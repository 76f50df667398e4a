"""Pool: the records of many tasks, logged together.

Rules:

- A batch begins with the first proposal that waits, and is logged after `interval`, or at once where it is full. While
  one is logged the next one gathers, so under load the interval does not count.
- `Pool.add` returns when all that it was given is logged, durable, and in the index.
- No more than `most` proposals wait for the next batch; whoever comes then waits for room.
- A storage that does not answer fails the tasks that wait for this batch, and the pool goes on: the log reads its state
  anew. Every other error fails all tasks, also those that come later, and ends `Pool.run` with it.

*Errors*: see `mirrorwitness.sumdb.log.Log.append`. *Cancellation*: a task that is cancelled while it waits may have its
records logged; one that is cancelled before is forgotten. When `Pool.run` is cancelled all that wait get an error.

What it does not do: judge, write (`mirrorwitness.sumdb.log`), or publish: `after_batch` is told that there is more.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import MirrorWitnessError, StorageUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.sumdb.fates import Proposal, Sequenced

__all__ = ["INTERVAL", "MOST", "Appender", "Pool"]

SECONDS: Final = 1.0

INTERVAL: Final = 0.2 * SECONDS
"""How long a batch gathers where nothing presses: each writes the last bundle and four tiles again."""

MOST: Final = 4096
"""Most proposals of a batch: at 700 bytes 3 MB, and some 100 ms for the hashes, the files and the swap."""

CHUNK: Final = 256
"""Proposals of one task that are queued as one."""


class Appender(Protocol):
    """What logs a batch: `mirrorwitness.sumdb.log.Log`."""

    async def append(self, proposals: Sequence[Proposal]) -> tuple[Sequenced, ...]:
        """Log what is new."""
        ...


class _Waiting:
    """Proposals that wait to be logged."""

    def __init__(self, proposals: Sequence[Proposal]) -> None:
        self.proposals = proposals
        self.since = trio.current_time()
        self.done = trio.Event()
        self.result: tuple[Sequenced, ...] = ()
        self.error: MirrorWitnessError | None = None

    def fail(self, error: MirrorWitnessError) -> None:
        self.error = error
        self.done.set()


class Pool:
    """Gathers proposals, and logs them in batches.

    Args:
        log: what logs them; nobody else may append to it.
        interval: seconds that a batch gathers.
        most: most proposals of a batch.
        after_batch: is called when a batch has been logged; must return at once.
    """

    def __init__(
        self,
        log: Appender,
        *,
        interval: float = INTERVAL,
        most: int = MOST,
        after_batch: Callable[[], None] = lambda: None,
    ) -> None:
        self._log = log
        self._interval = interval
        self._most = most
        self._after_batch = after_batch
        self._send, self._receive = trio.open_memory_channel[_Waiting](max(1, most // CHUNK))
        self._ended: MirrorWitnessError | None = None

    def __repr__(self) -> str:
        waiting = self._receive.statistics().current_buffer_used
        return f"<Pool of {self._log!r}, {waiting} waiting{', ended' if self._ended else ''}>"

    async def add(self, proposals: Sequence[Proposal]) -> tuple[Sequenced, ...]:
        """Log proposals, in their order, and return what became of each.

        Raises:
            LogLostError: another sequencer extended the log.
            StorageUnavailableError: the storage does not answer; they may be logged. Offer them again later.
            MirrorWitnessError: the pool has ended, by this error.
        """
        chunks = [_Waiting(proposals[start : start + CHUNK]) for start in range(0, len(proposals), CHUNK)]
        for chunk in chunks:
            self._check_alive()
            try:
                await self._send.send(chunk)
            except trio.BrokenResourceError:  # it ended while we waited for room
                self._check_alive()
        done: list[Sequenced] = []
        for chunk in chunks:
            await chunk.done.wait()
            if chunk.error is not None:
                # A new one for each task: two tasks that raise one error would share its traceback.
                raise type(chunk.error)(*chunk.error.args) from chunk.error
            done += chunk.result
        return tuple(done)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Log batches until an error or cancellation.

        Raises:
            MirrorWitnessError: why nothing more can be logged.
        """
        task_status.started()
        batch: list[_Waiting] = []
        try:
            while True:
                batch = []
                await self._gather(batch)
                await self._log_batch(batch)
        except MirrorWitnessError as error:
            self._ended = error
            raise
        finally:
            self._end(batch)

    async def _gather(self, batch: list[_Waiting]) -> None:
        batch.append(await self._receive.receive())
        count = len(batch[0].proposals)
        with trio.move_on_at(batch[0].since + self._interval):
            while count < self._most:
                batch.append(self._next() or await self._receive.receive())
                count += len(batch[-1].proposals)

    def _next(self) -> _Waiting | None:
        """Take what waits already, also where the interval is over."""
        try:
            return self._receive.receive_nowait()
        except trio.WouldBlock:
            return None

    async def _log_batch(self, batch: list[_Waiting]) -> None:
        proposals = [proposal for waiting in batch for proposal in waiting.proposals]
        try:
            results = await self._log.append(proposals)
        except StorageUnavailableError as error:
            for waiting in batch:
                waiting.fail(error)
            return
        at = 0
        for waiting in batch:
            waiting.result = results[at : at + len(waiting.proposals)]
            at += len(waiting.proposals)
            waiting.done.set()
        self._after_batch()

    def _check_alive(self) -> None:
        if self._ended is not None:
            raise type(self._ended)(*self._ended.args) from self._ended

    def _end(self, batch: list[_Waiting]) -> None:
        """Fail all that wait; nothing more is taken."""
        if self._ended is None:
            self._ended = StorageUnavailableError("the log is being closed; what was offered may be logged")
        with suppress(trio.WouldBlock):
            while True:
                batch.append(self._receive.receive_nowait())
        for waiting in batch:
            if not waiting.done.is_set():
                waiting.fail(self._ended)
        self._receive.close()
