"""Sources: where tarballs come from, in which order, and which of them are left out for what they did.

    peers, in order  ─►  the authority  ─►  fallbacks, in order

Rules:

- Bytes are verified, so anybody may supply them; metadata comes from the authority alone. Names of scopes that are at
  home at the authority are told to nobody else (`mirrorwitness.run.scopes`).
- A source that sent wrong bytes, twice for one tarball, is dropped: for the rest of this run, and by a note in the
  storage for all later ones, until the time in it has passed or an operator releases the source. The authority is never
  dropped: without it there is no mirror.
- A source that has not got a file, or cannot be reached, is no error: the next one is asked. After `ABSENT_MOST`
  files in a row that it has not got, or `FAILED_MOST` failures, it is left alone for `PAUSE` seconds; then one more
  failure is enough for the next pause.

What this does not do: download, verify, or keep the wrong bytes' evidence (`mirrorwitness.mirror.tarballs`).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import UNREADABLE_JSON, ObjectMissingError, UpstreamNotFoundError
from mirrorwitness.mirror import layout
from mirrorwitness.npm.times import DAYS, MINUTES, format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mirrorwitness.errors import UpstreamError
    from mirrorwitness.mirror.supplier import Supplier
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage

__all__ = ["Dropped", "Role", "Source", "Sources", "read_dropped", "restore_source"]

FAILED_MOST: Final = 3
"""Failures in a row: each took its own retries and time-outs, which every further tarball would wait for as well."""

ABSENT_MOST: Final = 100
"""Files in a row that a source has not got: a partial mirror of other packages costs no more requests than that."""

PAUSE: Final = 5 * MINUTES

NOTE_LIMIT: Final = 64 * 1024
"""Bytes of a note about a dropped source."""


class Role(StrEnum):
    """When a source is asked for bytes."""

    PEER = "peer"
    AUTHORITY = "authority"
    FALLBACK = "fallback"


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """Why a source is not asked.

    Attributes:
        url: its base.
        since: when it was dropped (ISO 8601, UTC).
        until: when it is asked again; empty where only a person can decide that.
        reason: what it sent.
        evidence: the key of the evidence.
    """

    url: str
    since: str
    until: str
    reason: str
    evidence: str


@dataclass(slots=True, eq=False)
class Source:
    """One source, and how it behaved in this run.

    Attributes:
        registry: its client, or a bundle of it.
        role: when it is asked.
        failed: failures in a row.
        absent: files in a row that it has not got.
        paused_until: by trio's clock.
        dropped: why it is not asked any more, or None.
    """

    registry: Supplier
    role: Role
    failed: int = 0
    absent: int = 0
    paused_until: float = 0.0
    dropped: Dropped | None = None

    def url_of(self, name: PackageName, file: str, *, upstream: str) -> str:
        """Return where this source has a tarball; `upstream` is what the authority's document says."""
        if self.role is Role.AUTHORITY:
            return upstream
        return layout.tarball_url(self.registry.base, name, file)

    @property
    def is_usable(self) -> bool:
        """Whether it may be asked now."""
        return self.dropped is None and trio.current_time() >= self.paused_until


class Sources:
    """The sources of one run; shared by all its tarballs.

    Args:
        authority: the registry that metadata comes from.
        peers: asked before it.
        fallbacks: asked after it.
        storage: keeps the notes about dropped ones.
        now: the clock.
        dropped_for: seconds that a source stays dropped; 0 until a person releases it.
    """

    def __init__(
        self,
        *,
        authority: Supplier,
        peers: Sequence[Supplier] = (),
        fallbacks: Sequence[Supplier] = (),
        storage: Storage,
        now: Callable[[], datetime],
        dropped_for: float = 7 * DAYS,
    ) -> None:
        self.authority = Source(authority, Role.AUTHORITY)
        self._sources = (
            *(Source(registry, Role.PEER) for registry in peers),
            self.authority,
            *(Source(registry, Role.FALLBACK) for registry in fallbacks),
        )
        self._storage = storage
        self._now = now
        self._dropped_for = dropped_for
        self._lock = trio.Lock()
        self._is_loaded = len(self._sources) == 1
        self._notices: list[str] = []

    def __repr__(self) -> str:
        out = sum(source.dropped is not None for source in self._sources)
        return f"<Sources {len(self._sources)}, {out} dropped, authority {self.authority.registry.base}>"

    async def load(self) -> None:
        """Read, once, which sources earlier runs dropped.

        Raises:
            StorageError: that cannot be read.
        """
        async with self._lock:
            if self._is_loaded:
                return
            for source in self._sources:
                note = await read_dropped(self._storage, source.registry.base)
                if note is None or source.role is Role.AUTHORITY or _is_over(note, self._now()):
                    continue
                source.dropped = note
                self._notices.append(f"{_tell(note)}; dropped by an earlier run")
            self._is_loaded = True

    def take_notices(self) -> list[str]:
        """Return sentences for the operator that were not taken yet."""
        taken, self._notices = self._notices, []
        return taken

    def usable(self, *, is_private: bool) -> Iterator[Source]:
        """Yield the sources to ask for one tarball, each judged at the moment when its turn has come.

        Args:
            is_private: whether only the authority may hear of the name.
        """
        for source in self._sources:
            if source is self.authority or (not is_private and source.is_usable):
                yield source

    def note_success(self, source: Source) -> None:
        """Note that a source sent a tarball."""
        source.failed = source.absent = 0

    def note_failure(self, source: Source, error: UpstreamError) -> None:
        """Note that a source did not; after too many in a row it is left alone for a while."""
        if isinstance(error, UpstreamNotFoundError):
            source.absent += 1
        else:
            source.failed += 1
        if source is self.authority or (source.failed < FAILED_MOST and source.absent < ABSENT_MOST):
            return
        is_first = source.paused_until == 0
        source.paused_until = trio.current_time() + PAUSE
        if is_first:
            why = f"{source.failed} failures" if source.failed >= FAILED_MOST else f"{source.absent} absent files"
            self._notices.append(
                f"{source.registry.base}: left alone for {PAUSE:.0f} s at a time, after {why} in a row: {error}"
            )

    async def drop(self, source: Source, *, reason: str, evidence: str) -> None:
        """Ask a source that sent wrong bytes no more, and write that down; the authority is only told about.

        Raises:
            StorageError: the note could not be written; this run drops it all the same.
        """
        if source is self.authority or source.dropped is not None:
            return
        now = self._now()
        until = format_time(now + timedelta(seconds=self._dropped_for)) if self._dropped_for else ""
        note = Dropped(url=source.registry.base, since=format_time(now), until=until, reason=reason, evidence=evidence)
        source.dropped = note
        self._notices.append(_tell(note))
        await self._storage.put(_key(note.url), msgspec.json.encode(note), content_type="application/json")


async def read_dropped(storage: Storage, base: str) -> Dropped | None:
    """Return the note about a dropped source, None where there is none or it is damaged."""
    try:
        body, _ = await storage.read(_key(base), limit=NOTE_LIMIT)
        return msgspec.json.decode(body, type=Dropped)
    except (ObjectMissingError, *UNREADABLE_JSON):
        return None


async def restore_source(storage: Storage, base: str) -> Dropped | None:
    """Let a source be asked again; return why it was not, None where it was not dropped."""
    note = await read_dropped(storage, base)
    if note is not None:
        await storage.delete(_key(base))
    return note


def _key(base: str) -> str:
    return layout.source_key(hashlib.sha256(base.encode()).hexdigest())


def _is_over(note: Dropped, now: datetime) -> bool:
    return bool(note.until) and note.until <= format_time(now)


def _tell(note: Dropped) -> str:
    until = f"until {note.until}" if note.until else "until it is released"
    return (
        f"{note.url} sent wrong bytes on {note.since} and is not asked {until} ({note.reason}; {note.evidence});"
        f" to ask it before: mirrorwitness release {note.url} --reason TEXT"
    )
