"""Lease: the requests that one worker may send of the month's budget; the only writer of ``state/budget/`` (P9).

    take() ── lease has some? ──> count down
                 └ no ──> read, size, compare-and-swap ──> a new lease
                              └ nothing left ──> BudgetExhaustedError

Rules:

- The object is swapped, never just written: two workers that take at once take different requests. Who loses a swap
  reads again and tries anew, after a jittered wait.
- A save whose outcome is unknown is read back; where that does not show it to be ours, another lease is taken. That may
  charge one lease twice: the safe direction.
- What a worker took in a month is spent in that month. At a month's end the rest is forgotten, not carried over.
- While the storage does not answer, `OVERDRAFT` requests are lent, once, and charged by the next swap: a short outage
  of the storage does not stop a follower that asks twice a minute.
- `give_back` returns the rest at a graceful end. Whoever is killed does not get there.

Known hole: on a storage without conditional writes, two workers that save at the same instant can charge one lease for
two. What is then sent and not counted is at most one lease for each such instant; `limits.requests_per_month` should
stay some percent below what the upstream allows, as its default does.

Concurrency: safe for any number of tasks; one of them at a time goes to the storage.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    BudgetExhaustedError,
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.budget import (
    BudgetRecord,
    BudgetState,
    describe_exhaustion,
    month_of,
    renewal_of,
    size_lease,
)
from mirrorwitness.npm.times import SECONDS, format_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.storage import Storage

__all__ = ["Lease", "LeaseStatistics", "read_budget"]

BUDGET_LIMIT: Final = 64 * 1024
"""Bytes of the largest record read; ours have some 150."""

TRIES: Final = 30
"""Swaps lost in a row before the storage is taken to be at fault; a hundred workers that begin at once lose fewer."""

RETRY_WITHIN: Final = 0.2 * SECONDS
"""Longest wait after a lost swap, doubled after each up to ten times that."""

ASK_AGAIN: Final = 30 * SECONDS
"""How long a budget that is used up is believed to be, before the storage is asked again: others may give back."""

OVERDRAFT: Final = 100
"""Requests lent while the storage does not answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseStatistics:
    """What a worker holds.

    Attributes:
        state: the month's budget as this worker last saw it.
        held: requests that it may send without asking the storage.
        sent: requests that it took from its leases so far.
    """

    state: BudgetState
    held: int
    sent: int


class Lease:
    """One worker's part of the month's budget.

    Args:
        storage: the mirror.
        allowed: requests of a month, for all workers together.
        worker: a name that no other process has.
        now: the time of day.
        jitter: numbers from 0 up to 1.

    Raises:
        ConfigurationError: nothing is allowed; without a budget there is no lease.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        allowed: int,
        worker: str,
        now: Callable[[], datetime],
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
    ) -> None:
        if allowed < 1:
            raise ConfigurationError(f"a budget of {allowed} requests a month: expected at least 1")
        self._storage = storage
        self._allowed = allowed
        self._worker = worker
        self._now = now
        self._jitter = jitter
        self._lock = trio.Lock()
        self._month: str = month_of(now())
        self._taken = 0
        self._held = 0
        self._size = 0
        self._since: float | None = None
        self._debt = 0
        self._sent = 0
        self._serial = 0
        self._empty_until = float("-inf")

    def __repr__(self) -> str:
        return f"<Lease of {self._worker}, {self._held} of {self._size} left for {self._month}, {self._sent} sent>"

    def statistics(self) -> LeaseStatistics:
        """Return a snapshot."""
        return LeaseStatistics(state=self._state(self._month, self._taken), held=self._held, sent=self._sent)

    async def take(self) -> None:
        """Take one request; waits while a new lease is fetched.

        Raises:
            BudgetExhaustedError: the month's requests are all taken.
            StorageError: the budget cannot be read or written.
        """
        while not self._spend():
            async with self._lock:
                if not self._can_spend():  # another task may have fetched a lease meanwhile
                    await self._renew(month_of(self._now()))

    def put_back(self) -> None:
        """Undo one `take`: the request was not sent after all."""
        self._held += 1
        self._sent -= 1

    async def give_back(self) -> None:
        """Return what is left of the lease; the next `take` fetches another.

        Raises:
            StorageError: it could not be returned, and counts as used.
        """
        async with self._lock:
            rest, self._held = self._held, 0
            if (rest or self._debt) and self._month == month_of(self._now()):
                self._taken = await self._charge(self._month, lambda _: -rest)

    # ---- the lease

    def _can_spend(self) -> bool:
        return self._held > 0 and self._month == month_of(self._now())

    def _spend(self) -> bool:
        if not self._can_spend():
            return False
        self._held -= 1
        self._sent += 1
        return True

    async def _renew(self, month: str) -> None:
        is_same = month == self._month
        if is_same and trio.current_time() < self._empty_until:
            raise self._exhausted(month)
        lasted = None if self._since is None else trio.current_time() - self._since
        size = 0

        def choose(record: BudgetRecord) -> int:
            nonlocal size
            left = self._allowed - record.taken - self._debt
            self._taken = record.taken
            size = size_lease(left=left, used=self._size, lasted=lasted)
            if not size:
                self._month, self._held = month, 0
                self._empty_until = trio.current_time() + ASK_AGAIN
                raise self._exhausted(month)
            return size

        try:
            self._taken = await self._charge(month, choose)
        except StorageUnavailableError:
            if self._debt:
                raise
            size = self._debt = OVERDRAFT
        self._month, self._held, self._size, self._since = month, size, size, trio.current_time()

    # ---- the object

    async def _charge(self, month: str, choose: Callable[[BudgetRecord], int]) -> int:
        """Add what `choose` says, and what is owed, to the month; return what is taken then."""
        for attempt in range(TRIES):
            record, etag = await _read(self._storage, month)
            self._serial += 1
            charged = msgspec.structs.replace(
                record,
                taken=max(0, record.taken + choose(record) + self._debt),
                worker=self._worker,
                serial=self._serial,
                saved=format_time(self._now()),
            )
            try:
                await self._swap(charged, etag)
            except PreconditionFailedError:
                await trio.sleep(RETRY_WITHIN * min(2**attempt, 10) * self._jitter())
                continue
            self._debt = 0
            return charged.taken
        raise StorageUnavailableError(f"{layout.budget_key(month)} was replaced by others {TRIES} times in a row")

    async def _swap(self, record: BudgetRecord, etag: str | None) -> None:
        key, body = layout.budget_key(record.month), msgspec.json.encode(record)
        unknown: StorageUnavailableError | None = None
        try:
            await self._storage.put(key, body, if_match=etag, if_absent=etag is None, content_type="application/json")
        except UnsupportedConditionError:
            pass
        except StorageUnavailableError as error:
            unknown = error
        else:
            return
        if unknown is None:
            await self._put_after_look(key, record, etag)
        elif not await self._is_ours(record):
            raise unknown

    async def _put_after_look(self, key: str, record: BudgetRecord, etag: str | None) -> None:
        """Do without conditional writes: look, write, read back."""
        found = await self._storage.stat(key)
        is_free = (found.etag if found else None) == etag
        if is_free:
            await self._storage.put(key, msgspec.json.encode(record), content_type="application/json")
        if not is_free or not await self._is_ours(record):
            raise PreconditionFailedError(f"{key} was replaced by another worker")

    async def _is_ours(self, record: BudgetRecord) -> bool:
        found, _ = await _read(self._storage, record.month)
        return (found.worker, found.serial) == (record.worker, record.serial)

    def _exhausted(self, month: str) -> BudgetExhaustedError:
        return BudgetExhaustedError(describe_exhaustion(self._state(month, self._taken)))

    def _state(self, month: str, taken: int) -> BudgetState:
        return BudgetState(month=month, allowed=self._allowed, taken=taken, renews=renewal_of(month))


async def read_budget(storage: Storage, *, allowed: int, now: datetime) -> BudgetState:
    """Return the present month's budget as the storage has it.

    Raises:
        StorageError: it cannot be read, or is damaged.
    """
    month = month_of(now)
    record, _ = await _read(storage, month)
    return BudgetState(month=month, allowed=allowed, taken=record.taken, renews=renewal_of(month))


async def _read(storage: Storage, month: str) -> tuple[BudgetRecord, str | None]:
    key = layout.budget_key(month)
    try:
        body, info = await storage.read(key, limit=BUDGET_LIMIT)
    except ObjectMissingError:
        return BudgetRecord(month=month), None
    try:
        return msgspec.json.decode(body, type=BudgetRecord), info.etag
    except UNREADABLE_JSON as error:
        raise StorageError(
            f"{key} is damaged: {error}; write how many requests were sent this month as"
            f' {{"month": "{month}", "taken": NUMBER}}, or remove it to count from nothing'
        ) from error
