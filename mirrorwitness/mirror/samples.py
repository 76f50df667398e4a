"""Samples: the values of metrics, read from what a mirror counts anyway.

Rules:

- Nothing is counted for metrics alone; each function here turns one snapshot into samples.
- Words that are known beforehand (outcomes, reasons) have a sample from the beginning, 0 where nothing happened: a rate
  over a series that appears with its first event misses that event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.mirror.gate import BlockKind
from mirrorwitness.mirror.health import lag_of, saved_at
from mirrorwitness.mirror.result import Status
from mirrorwitness.telemetry import Sample, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from mirrorwitness.fetch import HostStatistics, Origin
    from mirrorwitness.mirror.budget import BudgetState
    from mirrorwitness.mirror.cursor import CursorRecord
    from mirrorwitness.mirror.health import ShardCursor
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.snapshot import MirrorSnapshot

__all__ = ["sample_budget", "sample_cursor", "sample_hosts", "sample_run", "sample_snapshot"]


def sample_cursor(cursor: ShardCursor, now: datetime) -> Iterator[Sample]:
    """Yield what a shard's cursor says."""
    shard, record = (str(cursor.shard),), cursor.record
    lag, saved = lag_of(record, now), saved_at(record)
    if lag is not None:
        yield Sample(metrics.FEED_LAG, lag, shard)
    if saved is not None:
        yield Sample(metrics.FEED_SAVED, saved.timestamp(), shard)
    yield Sample(metrics.FEED_OWED, record.owed, shard)
    yield Sample(metrics.FEED_UNFINISHED, record.unfinished, shard)
    yield from _sample_sweep(record, shard)


def _sample_sweep(record: CursorRecord, shard: tuple[str]) -> Iterator[Sample]:
    if record.sweep is not None:
        yield Sample(metrics.SWEEP_LISTED, record.sweep.listed, shard)
        yield Sample(metrics.SWEEP_BEHIND, record.sweep.behind, shard)
    if record.swept:
        yield Sample(metrics.SWEEP_ENDED, record.swept, shard)


def sample_budget(state: BudgetState) -> Iterator[Sample]:
    """Yield what is left of the month's requests."""
    yield Sample(metrics.BUDGET_ALLOWED, state.allowed)
    yield Sample(metrics.BUDGET_TAKEN, state.taken)
    yield Sample(metrics.BUDGET_LEFT, state.left)


def sample_hosts(hosts: Mapping[Origin, HostStatistics]) -> Iterator[Sample]:
    """Yield what happened with each host."""
    for origin, host in hosts.items():
        for status, count in host.answers.items():
            yield Sample(metrics.UPSTREAM_REQUESTS, count, (origin, status))
        yield Sample(metrics.UPSTREAM_PAUSES, host.pauses, (origin,))
        yield Sample(metrics.UPSTREAM_PAUSE, host.paused_for, (origin,))
        yield Sample(metrics.UPSTREAM_FLIGHT, host.in_flight, (origin,))


def sample_run(summary: RunSummary) -> Iterator[Sample]:
    """Yield what a run did so far."""
    counts = summary.counts
    for outcome in Status:
        yield Sample(metrics.SYNC_PACKAGES, counts[f"packages_{outcome}"], (str(outcome),))
    for reason in BlockKind:
        yield Sample(metrics.SYNC_REFUSALS, counts[f"blocked_{reason}"], (str(reason),))
    for kind, count in summary.alarm_kinds.items():
        yield Sample(metrics.SYNC_ALARMS, count, (kind,))
    yield Sample(metrics.SYNC_TARBALLS, counts["tarballs_downloaded"])
    yield Sample(metrics.SYNC_BYTES, counts["bytes_downloaded"])
    yield Sample(metrics.SYNC_SWEEPS, counts["sweeps"])


def sample_snapshot(snapshot: MirrorSnapshot) -> Iterator[Sample]:
    """Yield what a mirror's storage says."""
    yield Sample(metrics.MIRROR_READY, not snapshot.troubles)
    yield Sample(metrics.MIRROR_UNFINISHED, snapshot.unfinished_total)
    if snapshot.coverage is not None:
        yield Sample(metrics.MIRROR_PACKAGES, snapshot.coverage.packages)
        yield Sample(metrics.MIRROR_VERSIONS, snapshot.coverage.versions)
        yield Sample(metrics.MIRROR_BYTES, snapshot.coverage.bytes)
    if snapshot.budget is not None:
        yield from sample_budget(snapshot.budget)
    for cursor in snapshot.cursors:
        yield from sample_cursor(cursor, snapshot.at)
