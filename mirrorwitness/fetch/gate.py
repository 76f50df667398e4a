"""HostGate: the shared manners towards each host: pauses, bounded concurrency, pace, budget, and counts.

Rules:

- `slot` waits until one of the host's places is free, the budget has another request, the host is not paused, and its
  pace allows another start; waiting is in order of arrival.
- Whatever is sent goes through a slot: each try, and each hop of a redirect, takes one and costs the budget one
  request. Hosts that the operator calls free (peers) cost it nothing.
- A pause is shared by everybody who wants the host, in other processes too, and never shortened by a later one.
- Nothing here decides; `mirrorwitness.fetch.politeness` does.
"""

from __future__ import annotations

from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import trio

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.fetch.redirects import Origin

__all__ = ["HostGate", "HostStatistics", "PauseBoard", "RequestBudget", "Slot"]

NO_ANSWER = "none"
"""What stands for the status where none came."""


class PauseBoard(Protocol):
    """Where workers tell each other of pauses (`mirrorwitness.mirror.pauses`)."""

    async def exchange(self, gate: HostGate) -> None:
        """Tell others of the gate's pauses and let it `hold` for theirs, where it is time. Never fails."""
        ...


class RequestBudget(Protocol):
    """Gives out requests one by one, and remembers for others how many (`mirrorwitness.mirror.lease`)."""

    async def take(self) -> None:
        """Take one request.

        Raises:
            BudgetExhaustedError: there is none left.
            StorageError: nobody can say.
        """
        ...

    def put_back(self) -> None:
        """Undo one `take`: the request was not sent."""
        ...


@dataclass(slots=True)
class Slot:
    """One request's place.

    Attributes:
        status: the answer's status, to be set by whoever sent the request; None where no answer came.
    """

    status: int | None = None

    @property
    def status_class(self) -> str:
        """``2xx`` and so on, or ``none``."""
        return NO_ANSWER if self.status is None else f"{self.status // 100}xx"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostStatistics:
    """What happened with one host.

    Attributes:
        requests: requests started so far.
        in_flight: requests now.
        waiting: tasks in line.
        pauses: how often it asked to be left alone.
        paused_for: seconds of pause that are left.
        answers: requests that ended, by class of status (``2xx`` and so on); ``none`` where no answer came.
    """

    requests: int
    in_flight: int
    waiting: int
    pauses: int
    paused_for: float
    answers: Mapping[str, int] = field(default_factory=dict[str, int])


class _Host:
    __slots__ = (
        "answers",
        "failures",
        "next_start",
        "paused_until",
        "pauses",
        "places",
        "requests",
        "total",
        "waiting",
    )

    def __init__(self, total: int) -> None:
        self.answers: Counter[str] = Counter()
        self.total = total
        self.places = trio.Semaphore(total, max_value=total)
        self.requests = 0
        self.waiting = 0
        self.pauses = 0
        self.failures = 0
        self.paused_until = 0.0
        self.next_start = 0.0


class HostGate:
    """Shared by all clients of a process.

    Args:
        max_in_flight: requests at once to one host.
        max_rate: starts of requests per second to one host; None: no limit but the host's own.
        budget: what every request is taken from; None: requests are counted only.
        free: origins whose requests cost the budget nothing.
        board: where pauses are shared with other workers; None: with nobody.
    """

    def __init__(
        self,
        *,
        max_in_flight: int = 64,
        max_rate: float | None = None,
        budget: RequestBudget | None = None,
        free: frozenset[Origin] = frozenset(),
        board: PauseBoard | None = None,
    ) -> None:
        if max_in_flight < 1 or (max_rate is not None and max_rate <= 0):
            raise ConfigurationError(f"max_in_flight {max_in_flight} and max_rate {max_rate}: expected more than 0")
        self._max_in_flight = max_in_flight
        self._interval = 0.0 if max_rate is None else 1 / max_rate
        self._budget = budget
        self._free = free
        self._board = board
        self._hosts: dict[Origin, _Host] = {}

    def __repr__(self) -> str:
        return f"<HostGate {len(self._hosts)} hosts, {self.requests} requests>"

    @property
    def requests(self) -> int:
        """Requests started so far, to all hosts."""
        return sum(host.requests for host in self._hosts.values())

    def statistics(self) -> dict[Origin, HostStatistics]:
        """Return a snapshot for each host."""
        now = trio.current_time()
        return {
            origin: HostStatistics(
                requests=host.requests,
                in_flight=host.total - host.places.value,
                waiting=host.waiting,
                pauses=host.pauses,
                paused_for=max(0.0, host.paused_until - now),
                answers=dict(host.answers),
            )
            for origin, host in self._hosts.items()
        }

    @asynccontextmanager
    async def slot(self, origin: Origin) -> AsyncGenerator[Slot, None]:
        """Hold one of the host's places for the length of a request. Cancelling a waiter costs nobody anything.

        Raises:
            BudgetExhaustedError: the budget has no further request.
            StorageError: nobody can say whether it has.
        """
        host = self._host(origin)
        host.waiting += 1
        try:
            try:
                host.places.acquire_nowait()
            except trio.WouldBlock:
                await host.places.acquire()
        finally:
            host.waiting -= 1
        try:
            await self._start(origin, host)
            slot = Slot()
            try:
                yield slot
            finally:
                host.answers[slot.status_class] += 1
        finally:
            host.places.release()

    def pause(self, origin: Origin, seconds: float) -> None:
        """Leave a host alone for some time; requests in flight go on."""
        host = self._host(origin)
        host.pauses += 1
        host.failures += 1
        host.paused_until = max(host.paused_until, trio.current_time() + seconds)

    def hold(self, origin: Origin, seconds: float) -> None:
        """Leave a host alone because another worker was asked to; counts as no answer of the host to us."""
        host = self._host(origin)
        host.paused_until = max(host.paused_until, trio.current_time() + seconds)

    def pauses(self) -> dict[Origin, float]:
        """Return the hosts that are paused now, with the seconds that are left."""
        now = trio.current_time()
        return {origin: host.paused_until - now for origin, host in self._hosts.items() if host.paused_until > now}

    def record_success(self, origin: Origin) -> None:
        """Note that a host answers again."""
        self._host(origin).failures = 0

    def failures(self, origin: Origin) -> int:
        """How often in a row a host asked to be left alone."""
        return self._host(origin).failures

    async def _start(self, origin: Origin, host: _Host) -> None:
        if self._board is not None:
            await self._board.exchange(self)
        budget = None if origin in self._free else self._budget
        if budget is not None:
            await budget.take()
        try:
            await self._wait_turn(host)
        except BaseException:
            if budget is not None:
                budget.put_back()
            raise
        host.requests += 1

    async def _wait_turn(self, host: _Host) -> None:
        # Whoever waits may find, when the time has come, that a pause was added or that another was first.
        while trio.current_time() < (start := max(host.paused_until, host.next_start)):  # noqa: ASYNC110
            await trio.sleep_until(start)
        if self._interval:
            host.next_start = max(host.next_start, trio.current_time()) + self._interval

    def _host(self, origin: Origin) -> _Host:
        host = self._hosts.get(origin)
        if host is None:
            host = self._hosts[origin] = _Host(self._max_in_flight)
        return host
