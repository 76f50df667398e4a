"""Health: which cursors count, how far each lags, and whether the mirror is stuck. Pure.

Rules:

- A cursor that newer ones cover is of an earlier division into shards: it is left alone and counts for nothing.
- A mirror that follows no feed has no cursor, and cannot be stuck in this sense.
- Lag is the time since everything that the feed had shown was handled. A shard that is at its first comparison of all
  names has none yet; that it works is what the saving of its cursor shows.
- A feed whose head went back is a trouble until all names were compared again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.times import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.mirror.cursor import CursorRecord
    from mirrorwitness.mirror.shards import Shard

__all__ = [
    "ALARMS_SHOWN",
    "HealthTerms",
    "ShardCursor",
    "current_cursors",
    "find_troubles",
    "format_span",
    "lag_of",
    "last_alarms",
    "saved_at",
    "stamp_of",
]

HEAD_REGRESSION: Final = "head-regression"

MOST_PARTS: Final = 65_536
"""Parts that divisions are compared in; divisions without a common one below that are all taken to count."""

ALARMS_SHOWN: Final = 10
"""Alarms that people are shown, the newest of all shards; the log has all."""

_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400


@dataclass(frozen=True, slots=True)
class ShardCursor:
    """A stored cursor, and whose it is."""

    shard: Shard
    record: CursorRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthTerms:
    """When a mirror is stuck; seconds, 0: not asked.

    Attributes:
        saved_within: a cursor that was not saved for longer has no follower.
        lag_most: a shard that lags further is not keeping up.
    """

    saved_within: float = 0.0
    lag_most: float = 0.0


def current_cursors(cursors: Iterable[ShardCursor]) -> tuple[ShardCursor, ...]:
    """Return the cursors that count, in order of their shards: those that no newer ones cover together."""
    newest_first = sorted(cursors, key=lambda cursor: (cursor.record.saved, cursor.shard.total), reverse=True)
    parts = math.lcm(*(cursor.shard.total for cursor in newest_first)) if newest_first else 1
    covered: set[int] = set()
    kept: list[ShardCursor] = []
    for cursor in newest_first:
        if parts > MOST_PARTS:
            kept.append(cursor)
            continue
        own = set(range(cursor.shard.index - 1, parts, cursor.shard.total))
        if not own <= covered:
            kept.append(cursor)
            covered |= own
    return tuple(sorted(kept, key=lambda cursor: (cursor.shard.total, cursor.shard.index)))


def lag_of(record: CursorRecord, now: datetime) -> float | None:
    """Return by how many seconds a shard is behind its feed; None where it has not caught up once."""
    return max(0.0, now.timestamp() - record.caught_up) if record.caught_up else None


def saved_at(record: CursorRecord) -> datetime | None:
    """Return when a cursor was saved; None where it does not say so in our way."""
    return parse_time(record.saved)


def last_alarms(cursors: Iterable[ShardCursor]) -> tuple[tuple[str, str, str, str], ...]:
    """Return the newest `ALARMS_SHOWN` alarms of all shards, newest first: when, kind, text, shard."""
    alarms = [
        (alarm.at, alarm.kind, alarm.text, str(cursor.shard)) for cursor in cursors for alarm in cursor.record.alarms
    ]
    return tuple(sorted(alarms, key=lambda alarm: alarm[0], reverse=True)[:ALARMS_SHOWN])


def stamp_of(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601, UTC."""
    return format_time(datetime.fromtimestamp(seconds, UTC))


def find_troubles(cursors: Iterable[ShardCursor], *, now: datetime, terms: HealthTerms) -> tuple[str, ...]:
    """Say why the mirror is stuck: one sentence for each reason, none where it is not."""
    return tuple(sentence for cursor in current_cursors(cursors) for sentence in _judge(cursor, now, terms))


def _judge(cursor: ShardCursor, now: datetime, terms: HealthTerms) -> Iterable[str]:
    shard, record = cursor.shard, cursor.record
    saved = saved_at(record)
    age = math.inf if saved is None else (now - saved).total_seconds()
    if terms.saved_within and age > terms.saved_within:
        yield (
            f"shard {shard}: its cursor was last saved at {record.saved or 'an unknown time'}, more than "
            f"{format_span(terms.saved_within)} ago; nobody follows"
        )
    lag = lag_of(record, now)
    if terms.lag_most and lag is not None and lag > terms.lag_most:
        yield f"shard {shard}: lags {format_span(lag)} behind its feed, more than {format_span(terms.lag_most)}"
    if record.sweep is not None and record.sweep.reason == HEAD_REGRESSION:
        yield (
            f"shard {shard}: the feed's head went back, and all names are being compared again "
            f"({record.sweep.listed} so far)"
        )


def format_span(seconds: float) -> str:
    """Return a length of time for people: ``42 s``, ``7 min``, ``3.5 h``, ``2.1 d``."""
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    if seconds < 2 * _HOUR:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 2 * _DAY:
        return f"{seconds / _HOUR:.1f} h".replace(".0 h", " h")
    return f"{seconds / _DAY:.1f} d".replace(".0 d", " d")
