"""Pauses that hosts asked for, shared with the other workers of a mirror and with those that come later (P9).

    state/pause/<hash of the origin>.json     until when nobody should ask that host

Rules:

- A worker that was asked to leave a host alone for `LEAST_SHARED` or more writes it down before its next request; every
  worker reads what is written before its first request, and every `LOOK_EVERY` while it asks.
- A pause of another worker only ever adds to our own, and never more than `most`: clocks differ, and an object that
  somebody wrote wrongly must not stop a mirror.
- A storage that fails here stops nothing: the host says so itself, at the price of one request.

What this does not do: decide how long (`mirrorwitness.fetch.politeness`), or wait (`mirrorwitness.fetch.gate`).
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import UNREADABLE_JSON, StorageError
from mirrorwitness.fetch import Origin  # noqa: TC001 - msgspec reads the annotation
from mirrorwitness.mirror import layout
from mirrorwitness.npm.times import SECONDS, format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.fetch import HostGate
    from mirrorwitness.storage import Storage

__all__ = ["PauseRecord", "SharedPauses"]

LEAST_SHARED: Final = 5 * SECONDS
"""Shorter pauses are over before anybody has read of them."""

LOOK_EVERY: Final = 15 * SECONDS

RECORD_LIMIT: Final = 16 * 1024
"""Bytes of the largest record read; ours have some 150."""


class PauseRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One host that is to be left alone.

    Attributes:
        origin: scheme, host and port.
        until: ISO 8601, UTC.
        worker: who was told so.
    """

    origin: Origin
    until: str
    worker: str


class SharedPauses:
    """What the workers of one mirror tell each other of pauses.

    Args:
        storage: the mirror.
        worker: a name that no other process has.
        now: the time of day.
        most: the longest pause that is believed, in seconds.
    """

    def __init__(self, *, storage: Storage, worker: str, now: Callable[[], datetime], most: float) -> None:
        self._storage = storage
        self._worker = worker
        self._now = now
        self._most = most
        self._lock = trio.Lock()
        self._next_look = float("-inf")
        self._told: dict[Origin, float] = {}
        """Until when each host is paused, by our clock, as far as the others know."""

    def __repr__(self) -> str:
        return f"<SharedPauses of {self._worker}, {len(self._told)} hosts>"

    async def exchange(self, gate: HostGate) -> None:
        """Tell others of the gate's pauses and take theirs over, where it is time; never fails."""
        if not self._is_due(gate):
            return
        async with self._lock:
            if self._is_due(gate):  # another task may have done it meanwhile
                self._next_look = trio.current_time() + LOOK_EVERY
                try:
                    await self._tell(gate)
                    await self._listen(gate)
                except StorageError:
                    pass  # said by the host itself, to whoever asks it

    def _is_due(self, gate: HostGate) -> bool:
        return trio.current_time() >= self._next_look or bool(self._news(gate))

    def _news(self, gate: HostGate) -> dict[Origin, float]:
        """Return the hosts that are paused for longer than others know, with the seconds that are left."""
        now = trio.current_time()
        return {
            origin: left
            for origin, left in gate.pauses().items()
            if left >= LEAST_SHARED and now + left > self._told.get(origin, 0.0) + 1 * SECONDS
        }

    async def _tell(self, gate: HostGate) -> None:
        for origin, left in self._news(gate).items():
            self._told[origin] = trio.current_time() + left
            until = format_time(self._now() + timedelta(seconds=left))
            record = PauseRecord(origin=origin, until=until, worker=self._worker)
            await self._storage.put(
                layout.pause_key(origin), msgspec.json.encode(record), content_type="application/json"
            )

    async def _listen(self, gate: HostGate) -> None:
        page = await self._storage.list(layout.PAUSE_PREFIX)
        for info in page.objects:
            body, _ = await self._storage.read(info.key, limit=RECORD_LIMIT)
            try:
                record = msgspec.json.decode(body, type=PauseRecord)
            except UNREADABLE_JSON:
                continue  # nobody's pause
            until = parse_time(record.until)
            left = 0.0 if until is None else min(self._most, (until - self._now()).total_seconds())
            if left > 0 and layout.pause_key(record.origin) == info.key:
                gate.hold(record.origin, left)
                told = trio.current_time() + left
                self._told[record.origin] = max(told, self._told.get(record.origin, 0.0))
