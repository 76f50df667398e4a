"""The state of a log mirror: what is pending for each log, by compare-and-swap, beside what it cosigned.

Rules:

- A change is made to what was read, and written only where that is still there; whoever loses reads anew and decides
  anew (`MirrorState.change`). So of two replicas none forgets what the other one took.
- What was read is kept until a swap fails or somebody asks for it anew: acting on what is a little old is allowed,
  since everything only grows. SPEC: "it MAY act on stale data without impacting correctness of the protocol".
- Unknown outcomes of the storage are read anew, not guessed. Nothing is ever written without a condition.

*Concurrency*: any number of tasks; changes of one log wait for each other.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError
from mirrorwitness.logmirror.paths import pending_key
from mirrorwitness.logmirror.record import KEPT_PENDINGS, PendingRecord, parse_pending_record, pending_of
from mirrorwitness.logmirror.ticket import SECRET_BYTES
from mirrorwitness.tlog.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.logmirror.cosigner import Cosigner
    from mirrorwitness.logmirror.decision import Known
    from mirrorwitness.storage import Storage

__all__ = ["MirrorState"]

RECORD_LIMIT: Final = (KEPT_PENDINGS + 1) * MAX_NOTE_BYTES
"""Bytes of the largest record read."""

SWAP_TRIES: Final = 10
"""How often a change is made anew; each lost swap is another replica's success."""


class MirrorState:
    """The only writer of what is pending.

    Args:
        storage: where it is.
        cosigner: knows what was cosigned.
    """

    def __init__(self, *, storage: Storage, cosigner: Cosigner) -> None:
        self._storage = storage
        self._cosigner = cosigner
        self._read: dict[str, tuple[PendingRecord, str | None]] = {}
        self._locks: dict[str, trio.Lock] = {}

    def __repr__(self) -> str:
        return f"<MirrorState of {len(self._read)} logs>"

    async def find(self, origin: str, *, anew: bool = False) -> tuple[PendingRecord, Known]:
        """Return what is known of a log.

        Raises:
            RolledBackError: what was cosigned is not what the state says.
            StorageError: the storage failed, or the record is damaged.
        """
        async with self._lock(origin):
            if anew:
                self._read.pop(origin, None)
            record, _ = await self._find(origin)
        return record, await self.know(record, anew=anew)

    async def know(self, record: PendingRecord, *, anew: bool = False) -> Known:
        """Return what is known, of a record that was read."""
        held = await self._cosigner.find(record.origin, anew=anew)
        return record.known(None if held.record is None else pending_of(held.record.checkpoint.encode()))

    async def change(self, origin: str, work: Callable[[PendingRecord], PendingRecord]) -> PendingRecord:
        """Change what is pending.

        Args:
            origin: the log.
            work: returns the record as it should be; may be called again with a newer one.

        Raises:
            PreconditionFailedError: other replicas were faster each time.
            StorageError: the storage failed; it may have been written.
        """
        async with self._lock(origin):
            for _ in range(SWAP_TRIES):
                before, etag = await self._find(origin)
                after = work(before)
                if after == before:
                    return before
                after = msgspec.structs.replace(after, written=secrets.token_hex(8))
                del self._read[origin]  # whatever happens in between, what is known must be read anew
                try:
                    etag = await self._put(origin, after, etag)
                except PreconditionFailedError:
                    continue
                self._read[origin] = after, etag
                return after
        raise PreconditionFailedError(f"{pending_key(origin)}: other replicas were faster {SWAP_TRIES} times")

    def _lock(self, origin: str) -> trio.Lock:
        return self._locks.setdefault(origin, trio.Lock())

    async def _find(self, origin: str) -> tuple[PendingRecord, str | None]:
        found = self._read.get(origin)
        if found is None:
            found = self._read[origin] = await self._load(origin)
        return found

    async def _load(self, origin: str) -> tuple[PendingRecord, str | None]:
        key = pending_key(origin)
        try:
            body, info = await self._storage.read(key, limit=RECORD_LIMIT)
        except ObjectMissingError:
            return PendingRecord(origin=origin, secret=secrets.token_hex(SECRET_BYTES)), None
        return parse_pending_record(body, origin=origin, key=key), info.etag

    async def _put(self, origin: str, record: PendingRecord, etag: str | None) -> str:
        """Replace the object of a token, or none where it is None; never without a condition."""
        body = msgspec.json.encode(record)
        put = self._storage.put
        info = await put(
            pending_key(origin), body, if_match=etag, if_absent=etag is None, content_type="application/json"
        )
        return info.etag
