"""Run over all selected packages once: bounded workers, honest counts, an exit code that means what it says (P3).

    names ─(bounded channel)→ N workers ─ one package each (`mirrorwitness.mirror.attempt`)
                                        ─ tarballs share one limit over all packages

Rules:

- A package that fails never stops another; it leaves a note and is tried by the next run.
- A storage that refuses, or has gone, stops the run, and so does a budget that is used up, or a log that forked
  (`mirrorwitness.mirror.attempt`).
- Memory does not grow with the number of packages (P10).

Cancellation: `stop` ends the intake; packages in work are finished. Cancelling the surrounding scope ends everything at
once; what is stored stays consistent at every instant (see `mirrorwitness.mirror.package`).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import BudgetExhaustedError, ForkError, StorageError
from mirrorwitness.mirror.owed import Announced
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.mirror.attempt import Attempts
    from mirrorwitness.mirror.outcome import RunSummary

__all__ = ["SyncRun"]


class SyncRun:
    """One pass over a list of names.

    Args:
        attempts: brings single packages up to date, and keeps their notes.
        workers: packages in work at once.
    """

    def __init__(self, *, attempts: Attempts, workers: int) -> None:
        self._attempts = attempts
        self._workers = workers
        self._is_stopping = False

    @property
    def summary(self) -> RunSummary:
        """What was done so far."""
        return self._attempts.summary

    def __repr__(self) -> str:
        return f"<SyncRun {dict(self.summary.counts)}{' stopping' if self._is_stopping else ''}>"

    def stop(self) -> None:
        """Take no further packages; those in work are finished."""
        self._is_stopping = True

    async def run(self, names: Iterable[PackageName]) -> RunSummary:
        """Bring every named package up to date.

        Raises:
            StorageError: the notes of unfinished work cannot be listed.
        """
        await self._attempts.load_notes(lambda _: True)
        # A rendezvous (size 0): names are cheap to make and a queue would only delay a stop.
        send, receive = trio.open_memory_channel[PackageName](0)
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                for name in names:
                    if self._is_stopping or self.summary.fatal is not None:
                        self.summary.is_interrupted = self._is_stopping
                        break
                    try:
                        await send.send(name)
                    except trio.BrokenResourceError:  # every worker stopped over a storage that refuses
                        break
        return self.summary

    async def _work(self, receive: trio.MemoryReceiveChannel[PackageName]) -> None:
        async with receive:
            async for name in receive:
                with suppress(StorageError, BudgetExhaustedError, ForkError):  # counted and kept by `Attempts`
                    await self._attempts.run(name, Announced())
                if self.summary.fatal is not None:
                    return
