"""Snapshot: everything that a mirror's storage says of its state, read once, for people, probes and metrics.

Rules:

- It is read from the storage alone, so whoever can read the mirror can tell how it is, also while no worker runs.
- Its cost is bounded: a few small objects, one cursor for each shard, and of the notes of unfinished work the first
  ones and a count that stops at `COUNTED`.
- A cursor, or a set of keys, that is damaged is a trouble, never a reason to show nothing.

What this does not do: judge (`mirrorwitness.mirror.health`) or format.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    ConfigurationError,
    ObjectMissingError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.coverage import CoverageStore
from mirrorwitness.mirror.cursor import CursorRecord
from mirrorwitness.mirror.health import ShardCursor, current_cursors, find_troubles
from mirrorwitness.mirror.lease import read_budget
from mirrorwitness.mirror.shards import parse_shard
from mirrorwitness.npm.signatures import KeyRing

if TYPE_CHECKING:
    from datetime import datetime

    from mirrorwitness.mirror.budget import BudgetState
    from mirrorwitness.mirror.catalogue import RunRecord, Unfinished
    from mirrorwitness.mirror.coverage import Coverage
    from mirrorwitness.mirror.health import HealthTerms
    from mirrorwitness.storage import Storage

__all__ = ["COUNTED", "MirrorSnapshot", "read_cursors", "read_snapshot"]

COUNTED: Final = 10_000
"""Unfinished packages that are counted; more are told as so many at least."""

_PAGE: Final = 1000
_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class MirrorSnapshot:
    """How a mirror was at one moment.

    Attributes:
        at: when it was read.
        cursors: those that count, in order of their shards.
        troubles: why it is stuck, one sentence for each reason; empty where it is not.
        budget: the month's requests; None where no budget is kept.
        run: the last finished run, or None.
        coverage: what is served; None where nothing was ever counted.
        unfinished: the first notes of unfinished work.
        unfinished_total: how many there are, at least.
        is_total_exact: whether there are no more.
        keys: the registry's signing keys.
    """

    at: datetime
    cursors: tuple[ShardCursor, ...] = ()
    troubles: tuple[str, ...] = ()
    budget: BudgetState | None = None
    run: RunRecord | None = None
    coverage: Coverage | None = None
    unfinished: tuple[Unfinished, ...] = ()
    unfinished_total: int = 0
    is_total_exact: bool = True
    keys: KeyRing = field(default_factory=KeyRing)


async def read_snapshot(
    storage: Storage, *, at: datetime, allowed: int, terms: HealthTerms, notes: int, counted: int = COUNTED
) -> MirrorSnapshot:
    """Read how a mirror is.

    Args:
        storage: the mirror.
        at: the time.
        allowed: the month's budget of requests, 0 where none is kept.
        terms: when it is stuck.
        notes: how many notes of unfinished work are read.
        counted: how many are counted.

    Raises:
        StorageError: something cannot be read.
    """
    catalogue = Catalogue(storage)
    cursors, damaged = await read_cursors(storage)
    shown, _ = await catalogue.unfinished_page(limit=notes)
    total, is_exact = await _count(storage, layout.UNFINISHED_PREFIX, counted)
    keys, unusable = await _read_keys(catalogue)
    return MirrorSnapshot(
        at=at,
        cursors=current_cursors(cursors),
        troubles=(*damaged, *unusable, *find_troubles(cursors, now=at, terms=terms)),
        budget=await read_budget(storage, allowed=allowed, now=at) if allowed else None,
        run=await catalogue.read_run(),
        coverage=await CoverageStore(storage).read(),
        unfinished=tuple(shown),
        unfinished_total=total,
        is_total_exact=is_exact,
        keys=keys,
    )


async def read_cursors(storage: Storage) -> tuple[tuple[ShardCursor, ...], tuple[str, ...]]:
    """Return all cursors, also those of earlier divisions, and a sentence for each that is damaged.

    Raises:
        StorageError: they cannot be read.
    """
    cursors: list[ShardCursor] = []
    damaged: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await storage.list(layout.CURSOR_PREFIX, after=after, limit=_PAGE)
        for info in page.objects:
            name = info.key.removeprefix(layout.CURSOR_PREFIX).removesuffix(".json")
            try:
                body, _ = await storage.read(info.key, limit=_LIMIT)
                record = msgspec.json.decode(body, type=CursorRecord)
                cursors.append(ShardCursor(parse_shard(name.replace("-of-", "/")), record))
            except ObjectMissingError:
                continue
            except (*UNREADABLE_JSON, ConfigurationError) as error:
                damaged.append(f"{info.key} is damaged: {error}")
        after = page.more_after
    return tuple(cursors), tuple(damaged)


async def _count(storage: Storage, prefix: str, most: int) -> tuple[int, bool]:
    total, after = 0, ""
    while total < most:
        page = await storage.list(prefix, after=after, limit=_PAGE)
        total += len(page.objects)
        if page.more_after is None:
            return total, True
        after = page.more_after
    return total, False


async def _read_keys(catalogue: Catalogue) -> tuple[KeyRing, tuple[str, ...]]:
    try:
        return await catalogue.read_keys(), ()
    except (UpstreamProtocolError, SignatureError) as error:
        return KeyRing(), (f"{layout.KEYS_KEY} cannot be used: {error}",)
