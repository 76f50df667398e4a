"""The cursor of one shard: where its follower stands, in one small object that is swapped, never just written.

    state/cursor/<I>-of-<N>.json

Rules:

- Each save names the object that it replaces (compare-and-swap). Who finds another one there has been replaced by a
  second worker on the same shard, and stops: `CursorLostError`.
- A save whose outcome is unknown is read back: every record names its worker and counts its saves, so ours can be told
  from another's.
- The object is looked at before it is replaced, too: some storages know no conditional writes, and some ignore them
  (research/E 1). That notices a second worker as well, only not at once.
- The record's size does not depend on the registry or on what was done since the last save (P10).

Known hole: without conditional writes two workers may both believe for one save that the cursor is theirs. Each then
moved it only behind work that it finished itself, and the next save of either ends in `CursorLostError`; what the other
one had finished in between is read again, which costs work and no truth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    CursorLostError,
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    StorageUnavailableError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.window import Checkpoint  # noqa: TC001 - msgspec reads the annotation
from mirrorwitness.storage.swap import swap

if TYPE_CHECKING:
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = ["Alarm", "CursorRecord", "CursorStore", "SweepRecord"]

CURSOR_LIMIT: Final = 1024 * 1024
"""Bytes of the largest record read; ours have under 16 KiB."""

ALARMS_KEPT: Final = 20
"""Alarms in a record; older ones are in the logs."""

FORMAT: Final = 1


class Alarm(msgspec.Struct, frozen=True):
    """Something that an operator should look at although the follower goes on.

    Attributes:
        at: ISO 8601, UTC.
        kind: one word.
        text: one sentence.
    """

    at: str
    kind: str
    text: str


class SweepRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A comparison of all names with what is stored, under way.

    Attributes:
        reason: ``bootstrap``, ``selection``, ``head-regression`` or ``periodic``.
        started: seconds since 1970.
        after: where the list goes on; None at its beginning.
        listed: selected packages of this shard that were compared.
        behind: how many of them were not up to date.
    """

    reason: str
    started: float
    after: str | None = None
    listed: int = 0
    behind: int = 0


class CursorRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a follower stands.

    Attributes:
        feed: the feed's address; another one has other positions.
        selection: fingerprint of what is selected; another one needs a sweep.
        position: up to here everything is finished or noted as unfinished.
        epoch: how often the position was set anew from the head: 1 after the bootstrap.
        checkpoints: times and positions for the trailing window.
        sweep: a sweep under way, or None.
        swept: when the last sweep ended, seconds since 1970; 0 where none did.
        reread: when the trailing window was last read to its end, and all of it done; 0 where never.
        caught_up: when everything that the feed had shown was last handled, seconds since 1970; 0 where never.
        head: the feed's head when it was last asked.
        unfinished: how many packages of the shard have a note of unfinished work.
        owed: in how many of these the feed announced a revision that the registry does not show yet.
        alarms: the newest ones, oldest first.
        history: pairs of time and lag, in seconds, for the status page.
        worker: who saved it.
        serial: which of its saves.
        saved: ISO 8601, UTC.
    """

    feed: str
    selection: str
    position: str
    format: int = FORMAT
    epoch: int = 1
    checkpoints: tuple[Checkpoint, ...] = ()
    sweep: SweepRecord | None = None
    swept: float = 0.0
    reread: float = 0.0
    caught_up: float = 0.0
    head: str = ""
    unfinished: int = 0
    owed: int = 0
    alarms: tuple[Alarm, ...] = ()
    history: tuple[tuple[float, float], ...] = ()
    worker: str = ""
    serial: int = 0
    saved: str = ""


class CursorStore:
    """The one way to a shard's cursor.

    Args:
        storage: the mirror.
        shard: whose cursor.
        worker: a name that no other process has, for records and messages.
    """

    def __init__(self, *, storage: Storage, shard: Shard, worker: str) -> None:
        self._storage = storage
        self._shard = shard
        self._key = layout.cursor_key(shard.key)
        self._worker = worker
        self._etag: str | None = None
        self._serial = 0
        self._record: CursorRecord | None = None

    def __repr__(self) -> str:
        return f"<CursorStore {self._key} of {self._worker}, {self._serial} saves>"

    @property
    def record(self) -> CursorRecord | None:
        """The cursor as it was loaded or saved last; None before that, and where there is none."""
        return self._record

    async def load(self) -> CursorRecord | None:
        """Read the cursor, and remember what the next save replaces; None where there is none.

        Raises:
            StorageError: it cannot be read, or is damaged.
        """
        try:
            record, info = await self._read()
        except ObjectMissingError:
            self._etag = None
            return None
        self._etag = info.etag
        self._record = record
        return record

    async def save(self, record: CursorRecord, *, saved: str) -> None:
        """Replace the cursor.

        Args:
            record: where we stand.
            saved: the time, ISO 8601.

        Raises:
            CursorLostError: somebody else replaced it first.
            StorageError: it could not be written; the next save may succeed.
        """
        self._serial += 1
        record = msgspec.structs.replace(record, worker=self._worker, serial=self._serial, saved=saved)
        await self._check_ours()
        self._etag = (await self._swap(msgspec.json.encode(record))).etag
        self._record = record

    async def _swap(self, body: bytes) -> ObjectInfo:
        try:
            return await swap(self._storage, self._key, body, etag=self._etag)
        except PreconditionFailedError as error:
            raise await self._lost() from error
        except StorageUnavailableError as error:
            unknown = error
        found = await self._look()
        if found is None or (found[0].worker, found[0].serial) != (self._worker, self._serial):
            raise unknown
        return found[1]

    async def _check_ours(self) -> None:
        """Look whether the cursor is still the one that we replace; some storages ignore what a write demands.

        One that we wrote ourselves, in a save whose outcome was never known, is ours too.
        """
        there = await self._storage.stat(self._key)
        if (there.etag if there else None) == self._etag:
            return
        found = await self._look()
        if found is None or found[0].worker != self._worker:
            raise await self._lost()
        self._etag = found[1].etag

    async def _lost(self) -> CursorLostError:
        found = await self._look()
        other = "nobody: the object is gone" if found is None else f"{found[0].worker} at {found[0].saved}"
        return CursorLostError(
            f"the cursor {self._key} was replaced by {other}; this is {self._worker}. Two workers follow shard "
            f"{self._shard}: stop one of them, or give each a shard of its own (--shard I/N)"
        )

    async def _look(self) -> tuple[CursorRecord, ObjectInfo] | None:
        try:
            return await self._read()
        except ObjectMissingError:
            return None

    async def _read(self) -> tuple[CursorRecord, ObjectInfo]:
        body, info = await self._storage.read(self._key, limit=CURSOR_LIMIT)
        try:
            return msgspec.json.decode(body, type=CursorRecord), info
        except UNREADABLE_JSON as error:
            raise StorageError(
                f"{self._key} is damaged: {error}; remove it, and the next run compares all names and begins anew"
            ) from error
