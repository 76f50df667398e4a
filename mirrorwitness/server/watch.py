"""Watch: how a mirror is, as its storage says, read at most every few seconds however many ask.

Rules:

- A snapshot is at most `SNAPSHOT_SECONDS` old, and read once for all who ask meanwhile: whoever reloads the status page
  in a loop costs the storage a few reads in that time.
- Readiness reads the cursors only, and is at most `TROUBLES_SECONDS` old.
- An error is nobody's snapshot: the next one who asks reads again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.mirror.health import find_troubles
from mirrorwitness.mirror.layout import MIRROR_KEY
from mirrorwitness.mirror.samples import sample_snapshot
from mirrorwitness.mirror.snapshot import read_cursors, read_snapshot
from mirrorwitness.server.cache import Flights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from mirrorwitness.mirror.health import HealthTerms
    from mirrorwitness.mirror.snapshot import MirrorSnapshot
    from mirrorwitness.server.traffic import Traffic
    from mirrorwitness.storage import Storage
    from mirrorwitness.telemetry import Sample

__all__ = ["NOTES_SHOWN", "SNAPSHOT_SECONDS", "TROUBLES_SECONDS", "StorageWatch"]

SNAPSHOT_SECONDS: Final = 5.0
"""How old a snapshot may be; Prometheus asks every 15 s to 60 s, and a person notices nothing."""

TROUBLES_SECONDS: Final = 1.0
"""How old an answer about readiness may be."""

NOTES_SHOWN: Final = 20
"""Unfinished packages that the status page lists."""


class StorageWatch:
    """Watches the mirror behind a server.

    Args:
        storage: the mirror; only read.
        allowed: the month's budget of requests, 0 where none is kept.
        terms: when the mirror is stuck.
        traffic: what the server counts.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        allowed: int,
        terms: HealthTerms,
        traffic: Traffic,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._allowed = allowed
        self._terms = terms
        self._traffic = traffic
        self._now = now
        self._snapshots: Flights[None, MirrorSnapshot] = Flights()
        self._troubles: Flights[None, tuple[str, ...]] = Flights()
        self._known: tuple[float, MirrorSnapshot] | None = None
        self._judged: tuple[float, tuple[str, ...]] | None = None

    def __repr__(self) -> str:
        return f"<StorageWatch of {self._storage!r}>"

    async def snapshot(self) -> MirrorSnapshot:
        """Return how the mirror is, at most `SNAPSHOT_SECONDS` ago.

        Raises:
            StorageError: something cannot be read.
        """
        if self._known is not None and trio.current_time() < self._known[0] + SNAPSHOT_SECONDS:
            return self._known[1]
        return await self._snapshots.run(None, self._read)

    async def troubles(self) -> tuple[str, ...]:
        """Say why the mirror is stuck; empty where it is not.

        Raises:
            StorageError: the storage cannot be read.
        """
        if self._judged is not None and trio.current_time() < self._judged[0] + TROUBLES_SECONDS:
            return self._judged[1]
        return await self._troubles.run(None, self._judge)

    async def samples(self) -> Iterable[Sample]:
        """Return all metrics of this server.

        Raises:
            StorageError: something cannot be read.
        """
        return [*sample_snapshot(await self.snapshot()), *self._traffic.samples()]

    async def _read(self) -> MirrorSnapshot:
        begun = trio.current_time()
        snapshot = await read_snapshot(
            self._storage, at=self._now(), allowed=self._allowed, terms=self._terms, notes=NOTES_SHOWN
        )
        self._known = (begun, snapshot)
        return snapshot

    async def _judge(self) -> tuple[str, ...]:
        begun = trio.current_time()
        await self._storage.stat(MIRROR_KEY)
        cursors, damaged = await read_cursors(self._storage)
        troubles = (*damaged, *find_troubles(cursors, now=self._now(), terms=self._terms))
        self._judged = (begun, troubles)
        return troubles
