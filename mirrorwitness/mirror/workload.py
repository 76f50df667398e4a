"""The packages in work: one task for each name at most, a bounded number of tasks, pages told when work is done.

    offer(name, announced, page) ──channel──> workers ── `Attempts.run` ──> page.finish()

Rules:

- While a package waits to be taken, further announcements of it join it; while it is in work, they make it run once
  more behind that. So no two tasks ever work on one package, and the last announcement is always acted upon.
- A page's work counts as finished only when the package is stored or its note is written. A package whose note could
  not be written keeps its pages open until `try_again` had more luck: the cursor stays before it, and a restart reads
  it again.
- The first error that ends everything (a storage that refuses, a budget that is used up) stops the intake.

Concurrency: `offer` waits while all workers are busy; that is the back pressure on the feed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import BudgetExhaustedError, ForkError, StorageError
from mirrorwitness.mirror.owed import join

if TYPE_CHECKING:
    from mirrorwitness.mirror.attempt import Attempts
    from mirrorwitness.mirror.owed import Announced
    from mirrorwitness.mirror.receipts import Receipts
    from mirrorwitness.mirror.watermark import Page
    from mirrorwitness.npm.names import PackageName

__all__ = ["Workload"]


class _Job:
    __slots__ = ("announced", "is_taken", "name", "next", "pages")

    def __init__(self, name: PackageName, announced: Announced, page: Page) -> None:
        self.name = name
        self.announced = announced
        self.pages = [page]
        self.is_taken = False
        self.next: _Job | None = None

    def join(self, announced: Announced, page: Page) -> None:
        self.announced = join(self.announced, announced)
        self.pages.append(page)

    def take_over(self, earlier: _Job) -> None:
        self.announced = join(earlier.announced, self.announced)
        self.pages += earlier.pages


class Workload:
    """Hands packages to workers.

    Args:
        attempts: does the work.
        receipts: told what is stored.
        workers: packages in work at once.
    """

    def __init__(self, *, attempts: Attempts, receipts: Receipts, workers: int) -> None:
        self._attempts = attempts
        self._receipts = receipts
        self._workers = workers
        self._jobs: dict[PackageName, _Job] = {}
        self._undone: dict[PackageName, _Job] = {}
        self._send, self._receive = trio.open_memory_channel[_Job](0)
        self._quiet = trio.Event()
        self._quiet.set()
        self._progressed = trio.Event()

    def __repr__(self) -> str:
        return f"<Workload {len(self._jobs)} packages waiting or in work, {len(self._undone)} undone>"

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is waiting or in work; packages that wait for `try_again` are neither."""
        return not self._jobs

    @property
    def is_broken(self) -> bool:
        """Whether the storage refuses, the budget is used up, or the log forked: nothing further should be taken on."""
        return self._attempts.summary.fatal is not None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Work until `close` and until everything taken on is done. *Cancellation*: ends all work at once."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work)
            task_status.started()

    def close(self) -> None:
        """Take nothing on any more; what is in work is finished."""
        self._send.close()

    async def offer(self, name: PackageName, announced: Announced, page: Page) -> None:
        """Take a package on for a page; waits while all workers are busy."""
        page.add()
        job = self._jobs.get(name)
        if job is not None:
            if not job.is_taken:
                job.join(announced, page)
            elif job.next is None:
                job.next = _Job(name, announced, page)
            else:
                job.next.join(announced, page)
            await trio.lowlevel.checkpoint()
            return
        job = _Job(name, announced, page)
        undone = self._undone.pop(name, None)
        if undone is not None:
            job.take_over(undone)
        await self._hand_over(job)

    async def try_again(self) -> None:
        """Take on once more what could neither be stored nor noted."""
        for job in list(self._undone.values()):
            if self.is_broken:
                return
            if self._undone.pop(job.name, None) is not None:
                job.is_taken = False
                await self._hand_over(job)

    async def _hand_over(self, job: _Job) -> None:
        self._jobs[job.name] = job
        if self._quiet.is_set():
            self._quiet = trio.Event()
        await self._send.send(job)

    async def wait_quiet(self) -> None:
        """Wait until nothing is waiting or in work."""
        await self._quiet.wait()

    async def wait_progress(self) -> None:
        """Wait until one more package is done."""
        await self._progressed.wait()

    async def _work(self) -> None:
        async for job in self._receive:
            following: _Job | None = job
            while following is not None:
                following = await self._one(following)

    async def _one(self, job: _Job) -> _Job | None:
        job.is_taken = True
        is_done = not self.is_broken and await self._attempt(job)
        following = job.next
        if is_done:
            for page in job.pages:
                page.finish()
        elif following is not None:
            following.take_over(job)
        else:
            self._undone[job.name] = job
        if following is None:
            del self._jobs[job.name]
            if not self._jobs:
                self._quiet.set()
        else:
            self._jobs[job.name] = following
        self._progressed.set()
        self._progressed = trio.Event()
        return following

    async def _attempt(self, job: _Job) -> bool:
        """Do the work; return whether it is stored or noted."""
        try:
            record = await self._attempts.run(job.name, job.announced)
        except (StorageError, BudgetExhaustedError, ForkError):
            return False  # counted and kept by `Attempts`
        is_noted = job.name in self._attempts.notes
        self._receipts.add(job.name, job.announced.rev, record.rev if record and not is_noted else None)
        return True
