"""LookupCache: answers that were verified once, kept so that the next run need not ask for them.

    trust/<hash of the origin>/lookups/<shard>.json     answers, oldest first, and the checkpoints that they are under

Rules:

- What is kept is what was received: the record, its proof, and the checkpoint that the proof leads to, signed and
  cosigned. It is verified again on every use, so a changed file makes a version be asked for again, never believed. A
  cache that others can write to (a CI system's, say) can withhold; to lie it needs a checkpoint that the log signed and
  the quorum cosigned.
- A proof under an older checkpoint needs no new one. Where the log had the record at index i of a tree of size S, and
  the tree of size N was shown to begin with that of S, then the tree of N has the same record at i: trees that belong
  together have the same leaves. The client compared each checkpoint that it believed with the one before, so all of
  them are on one line, the present head too; and a policy's witnesses vouch for the same of theirs.
- That the log *has* a record holds for ever. That no newer one of the version *followed* (a conflict, a withdrawal)
  does not: an answer that is older than the caller's `max_age` is asked for again, and conflicts are not kept at all.
- A shard is read and written whole, and the last of two writers at once wins: what the other found is asked again.
- Bounded: `SHARDS` files of at most `MAX_SHARD_BYTES`; the oldest answers go first. What cannot be read is dropped.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import UNREADABLE_JSON, StorageError
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.tlog.checkpoint import origin_hash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.storage import Storage

__all__ = ["MAX_SHARD_BYTES", "SHARDS", "LookupCache", "Remembered"]

SHARDS: Final = 16
"""Files: few enough to be read in a moment, and small enough to be written again for one new answer."""

MAX_SHARD_BYTES: Final = 4 * 1024 * 1024
"""Largest shard in bytes; some 1,800 answers of 2.2 kB, so 30,000 versions altogether."""

_FORMAT: Final = 1


class Remembered(msgspec.Struct, frozen=True, gc=False):
    """One answer as it was kept; nothing of it is trusted.

    Attributes:
        subject: ``name@version``.
        size: of the tree.
        seen: when it was asked for, in seconds since 1970.
        body: the answer.
    """

    subject: str
    size: int
    seen: int
    body: str


class _Shard(msgspec.Struct):
    format: int
    notes: dict[int, str]
    answers: list[Remembered]


class LookupCache:
    """The kept answers of one log. May be used by several tasks at once.

    Args:
        storage: where they are.
        origin: the log.
    """

    def __init__(self, storage: Storage, origin: str) -> None:
        self._storage = storage
        self._prefix = f"trust/{origin_hash(origin)}/lookups/"
        self._answers: dict[int, dict[str, Remembered]] = {}
        self._notes: dict[int, dict[int, str]] = {}
        self._changed: set[int] = set()
        self._loading = trio.Lock()

    def __repr__(self) -> str:
        return f"<LookupCache {sum(map(len, self._answers.values()))} answers, {len(self._changed)} shards to write>"

    async def find(self, name: PackageName, version: Version) -> tuple[Remembered, bytes] | None:
        """Return what was kept of a version, and the checkpoint that it is under; None where nothing was.

        Raises:
            StorageError: the storage failed.
        """
        subject = f"{name}@{version}"
        shard = await self._load(subject)
        found = self._answers[shard].get(subject)
        note = None if found is None else self._notes[shard].get(found.size)
        return None if found is None or note is None else (found, note.encode())

    async def remember(self, found: Remembered, note: bytes) -> None:
        """Keep a verified answer, in memory until `save`.

        Raises:
            StorageError: the storage failed.
        """
        shard = await self._load(found.subject)
        self._answers[shard].pop(found.subject, None)  # the newest stands last
        self._answers[shard][found.subject] = found
        self._notes[shard][found.size] = note.decode()
        self._changed.add(shard)

    async def forget(self, found: Remembered) -> None:
        """Drop an answer that did not verify.

        Raises:
            StorageError: the storage failed.
        """
        shard = await self._load(found.subject)
        if self._answers[shard].pop(found.subject, None) is not None:
            self._changed.add(shard)

    async def save(self) -> None:
        """Write what changed.

        Raises:
            StorageError: the storage failed.
        """
        await for_each(sorted(self._changed), self._save, at_once=SHARDS)
        self._changed.clear()

    async def _save(self, shard: int) -> None:
        kept, notes = _fit(self._answers[shard].values(), self._notes[shard])
        body = msgspec.json.encode(_Shard(_FORMAT, notes, kept))
        await self._storage.put(self._key(shard), body, content_type="application/json")

    async def _load(self, subject: str) -> int:
        """Return the number of a subject's shard, which is in memory then."""
        shard = zlib.crc32(subject.encode()) % SHARDS
        if shard not in self._answers:
            async with self._loading:
                if shard not in self._answers:
                    read = await self._read(shard)
                    self._notes[shard] = read.notes
                    self._answers[shard] = {answer.subject: answer for answer in read.answers}
        return shard

    async def _read(self, shard: int) -> _Shard:
        empty = _Shard(_FORMAT, {}, [])
        try:
            body, _ = await self._storage.read(self._key(shard), limit=2 * MAX_SHARD_BYTES)
            read = msgspec.json.decode(body, type=_Shard)
        except (StorageError, *UNREADABLE_JSON):
            return empty  # not there, damaged, or far too large: it is written anew
        return read if read.format == _FORMAT else empty

    def _key(self, shard: int) -> str:
        return f"{self._prefix}{shard:02}.json"


def _fit(answers: Iterable[Remembered], known: Mapping[int, str]) -> tuple[list[Remembered], dict[int, str]]:
    """Return the newest answers that fit into a shard, in their order, and the checkpoints that they are under."""
    kept: list[Remembered] = []
    notes: dict[int, str] = {}
    total = 0
    for answer in reversed(list(answers)):
        note = known.get(answer.size, "")
        total += len(answer.body) + len(answer.subject) + (0 if answer.size in notes else len(note))
        if total > MAX_SHARD_BYTES:
            break
        kept.append(answer)
        notes[answer.size] = note
    return kept[::-1], dict(sorted(notes.items()))
