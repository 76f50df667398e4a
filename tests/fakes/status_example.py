"""An example mirror for the status page: a day of two shards, some trouble, and names that attack whoever shows them.

`fill` writes it into a storage; times are relative to the `now` that it is given, numbers are the same every time.
"""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.mirror import layout
from mirrorwitness.mirror.budget import BudgetRecord, month_of
from mirrorwitness.mirror.catalogue import RunRecord, Unfinished
from mirrorwitness.mirror.coverage import Coverage
from mirrorwitness.mirror.cursor import Alarm, CursorRecord, SweepRecord
from mirrorwitness.mirror.shards import Shard
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.signatures import KeyRing, format_keys, parse_keys
from mirrorwitness.npm.times import format_time

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage

__all__ = ["ATTACK", "fill", "make_cursor"]

ATTACK: Final = '</td></table><script>alert(1)</script><img src=x onerror=alert(2)>" style="x" \u202egnirts\x1b[31m'
"""A reason that an upstream could send: HTML, an attribute, text that is turned round, a terminal's escape."""

_KEYS: Final = (
    b'{"keys":[{"keyid":"SHA256:jl3bwswu80PjjokCgh0o2w5c2U4LhQAE57gj9cz1kzA","expires":"2025-01-29T00:00:00.000Z",'
    b'"keytype":"ecdsa-sha2-nistp256","scheme":"ecdsa-sha2-nistp256","key":"MFkw"},'
    b'{"keyid":"SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U","expires":null,"keytype":"ecdsa-sha2-nistp256",'
    b'"scheme":"ecdsa-sha2-nistp256","key":"MFkx"}]}'
)


async def fill(storage: Storage, *, now: datetime, is_hostile: bool = False) -> None:
    """Write the example.

    Args:
        storage: an empty one.
        now: the time of the example.
        is_hostile: put `ATTACK` wherever text from outside is shown.
    """
    for shard in (Shard(1, 2), Shard(2, 2)):
        await _put(storage, layout.cursor_key(shard.key), make_cursor(shard, now, is_hostile=is_hostile))
    for note in _notes(now, is_hostile=is_hostile):
        await _put(storage, layout.unfinished_key(PackageName(note.name)), note)
    month = month_of(now)
    await _put(storage, layout.budget_key(month), BudgetRecord(month=month, taken=1_204_870, saved=_at(now)))
    await _put(
        storage,
        layout.COVERAGE_KEY,
        Coverage(packages=48_210, versions=731_455, bytes=412_880_133_120, signatures={"verified": 702_000}),
    )
    run = RunRecord(
        started=_at(now, hours=31),
        finished=_at(now, hours=30),
        exit_code=0,
        last_complete=_at(now, hours=30),
        counts={},
    )
    await _put(storage, layout.LAST_RUN_KEY, run)
    await storage.put(layout.KEYS_KEY, format_keys(_keys(is_hostile=is_hostile)))


def make_cursor(shard: Shard, now: datetime, *, is_hostile: bool = False) -> CursorRecord:
    """Return a shard's cursor after a day with one long outage."""
    alarms: tuple[Alarm, ...] = (
        Alarm(_at(now, hours=11), "feed", "the feed cannot be read: GET https://replicate.example/registry/: 503"),
        Alarm(_at(now, hours=2), "owed", "left-pad: revision 12-5f was announced and never showed; given up"),
    )
    if is_hostile:
        alarms = (*alarms, Alarm(_at(now, hours=1), "feed", ATTACK))
    return CursorRecord(
        feed="https://replicate.example/registry",
        selection="f" * 32,
        position=str(140_233_410 + shard.index),
        head=str(140_233_410 + shard.index),
        sweep=SweepRecord(reason="periodic", started=now.timestamp() - 7200, after="m", listed=12_400, behind=3)
        if shard.index == shard.total
        else None,
        swept=now.timestamp() - 3.2 * 86_400,
        caught_up=now.timestamp() - 9 * shard.index,
        unfinished=2 if shard.index == 1 else 1,
        owed=1 if shard.index == 1 else 0,
        alarms=alarms if shard.index == 1 else alarms[:1],
        history=tuple(_history(shard, now.timestamp())),
        worker="mirror-0.41.9f2c",
        serial=8123,
        saved=_at(now, hours=shard.index / 900),
    )


def _history(shard: Shard, now: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for step in range(143, 0, -1):
        hours = step / 6
        lag = 11 + 7 * math.sin(step * 1.7) * math.cos(step * step * 0.13) + 9 * (step % 29 == 3) + shard.index
        if 9.5 < hours < 11:  # the feed was away, and lag grew with the time
            lag = (11 - hours) * 3600
        if shard.index == 1 and 17 < hours < 19.5:
            continue  # nobody followed: the worker was moved
        points.append((now - hours * 3600, round(max(1.0, lag), 1)))
    return points


def _notes(now: datetime, *, is_hostile: bool) -> list[Unfinished]:
    found = [
        ("@types/node", "the feed announced revision 8114-b2, the registry still shows 8113-c0", "owed", 4, 0.2),
        (
            "left-pad",
            "left-pad@1.3.1: the tarball was cut short: 10,240 of 44,102 bytes",
            "UpstreamUnreachableError",
            2,
            1,
        ),
        ("zod", "GET https://registry.example/zod: 403 Forbidden", "UpstreamRefusedError", 11, 26),
    ]
    if is_hostile:
        found.append(("aa-attack", ATTACK, "UpstreamProtocolError", 1, 2))
    return [
        Unfinished(
            name=name,
            reason=reason,
            kind=kind,
            attempts=attempts,
            first=_at(now, hours=age),
            last=_at(now, hours=age / 4),
            next_try=_at(now, hours=-0.1 * attempts),
        )
        for name, reason, kind, attempts, age in found
    ]


def _keys(*, is_hostile: bool) -> KeyRing:
    keys = parse_keys(_KEYS)
    if not is_hostile:
        return keys
    return KeyRing((*keys.keys, replace(keys.keys[0], keyid=ATTACK.replace("\x1b", "").replace("\u202e", ""))))


def _at(now: datetime, *, hours: float = 0) -> str:
    return format_time(now.astimezone(UTC) - timedelta(hours=hours))


async def _put(storage: Storage, key: str, record: msgspec.Struct) -> None:
    await storage.put(key, msgspec.json.encode(record), content_type="application/json")
