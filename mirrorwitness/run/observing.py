"""What a follower shows of itself while it runs: metrics, health and readiness over HTTP, where that is wanted."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import trio

from mirrorwitness.mirror.health import HealthTerms, ShardCursor, find_troubles
from mirrorwitness.mirror.layout import MIRROR_KEY
from mirrorwitness.mirror.samples import sample_budget, sample_cursor, sample_hosts, sample_run
from mirrorwitness.run.serve import format_address
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.server.ops import make_ops_app
from mirrorwitness.telemetry import Sample, metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from mirrorwitness.config import Config
    from mirrorwitness.fetch import HostGate
    from mirrorwitness.mirror.attempt import Attempts
    from mirrorwitness.mirror.cursor import CursorStore
    from mirrorwitness.mirror.lease import Lease
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.server.ops import Watch
    from mirrorwitness.storage import Storage

__all__ = ["FollowerWatch", "health_terms", "serve_watch"]


def health_terms(config: Config) -> HealthTerms:
    """Return when the operator calls the mirror stuck."""
    return HealthTerms(saved_within=config.observe.saved_within, lag_most=config.observe.lag_most)


class FollowerWatch:
    """Watches one follower from inside its process.

    Args:
        storage: the mirror.
        store: the shard's cursor, as it was saved last.
        shard: which shard.
        attempts: what was done so far, and what is noted.
        gate: what happened with hosts.
        lease: this process's part of the month's budget, or None.
        terms: when the follower is stuck.
        now: the time of day.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        store: CursorStore,
        shard: Shard,
        attempts: Attempts,
        gate: HostGate,
        lease: Lease | None,
        terms: HealthTerms,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._store = store
        self._shard = shard
        self._attempts = attempts
        self._gate = gate
        self._lease = lease
        self._terms = terms
        self._now = now

    def __repr__(self) -> str:
        return f"<FollowerWatch of shard {self._shard}>"

    async def troubles(self) -> tuple[str, ...]:
        """Say why the follower is stuck; empty where it is not.

        Raises:
            StorageError: the storage cannot be read.
        """
        await self._storage.stat(MIRROR_KEY)
        return find_troubles(self._cursors(), now=self._now(), terms=self._terms)

    async def samples(self) -> Iterable[Sample]:
        """Return all metrics of this process; the storage is not asked."""
        await trio.lowlevel.checkpoint()
        now, cursors = self._now(), self._cursors()
        found = [
            Sample(metrics.MIRROR_READY, not find_troubles(cursors, now=now, terms=self._terms)),
            *sample_run(self._attempts.summary),
            *sample_hosts(self._gate.statistics()),
        ]
        for cursor in cursors:
            found += sample_cursor(cursor, now)
        if self._lease is not None:
            statistics = self._lease.statistics()
            found += [*sample_budget(statistics.state), Sample(metrics.BUDGET_HELD, statistics.held)]
        return found

    def _cursors(self) -> list[ShardCursor]:
        record = self._store.record
        if record is None:
            return []
        notes, owed = len(self._attempts.notes), self._attempts.owed
        return [ShardCursor(self._shard, msgspec.structs.replace(record, unfinished=notes, owed=owed))]


async def serve_watch(
    watch: Watch,
    *,
    host: str,
    port: int,
    ready: Callable[[str], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer /metrics, /healthz and /readyz until cancelled.

    Args:
        watch: knows how the mirror is.
        host: where to listen.
        port: the port; 0 takes a free one.
        ready: told the address once requests are accepted.
        task_status: started then.

    *Resources*: a listening socket. *Cancellation*: cuts all connections.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """
    async with trio.open_nursery() as nursery:
        start = partial(serve_app, make_ops_app(watch), host=host, port=port, shutdown=trio.Event())
        ready(format_address(await nursery.start(start)))
        task_status.started()
