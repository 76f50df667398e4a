"""A storage in memory that keeps the Protocol to the letter and fails on request.

Rules:

- Every method is a checkpoint *before* it acts; the act itself is one step that nothing can interrupt, so racing tasks
  see an atomic object or none.
- The etag is made of the bytes, as on S3: writing the same bytes again gives the same etag. Code that takes an equal
  etag for "nobody wrote" is wrong on a bucket, and is wrong here.
- A fault is planned with `MemoryStorage.fail_before` (nothing happened) or `MemoryStorage.fail_after` (it took effect,
  then the answer was lost), for an operation and a glob of keys, a number of times.
- What the second put of a pair wrote is lost with the power (`MemoryStorage.lose_power`) until another put of its key,
  or `MemoryStorage.settle`.
- Pieces of a stream are small (`PIECE_BYTES`), so that readers meet more than one.

It is checked by the same contract suite as the real ones (`tests/contract/test_storage.py`). It does no I/O but for
reading a body given as a path, and that without a thread: a thread would let ``autojump_clock`` run ahead.
"""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError
from mirrorwitness.storage import Listing, ObjectInfo, check_key, check_prefix
from mirrorwitness.storage.checks import check_condition, check_limit, check_range
from mirrorwitness.storage.pair import put_in_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mirrorwitness.storage import Body, ObjectReader, Put

__all__ = ["PIECE_BYTES", "MemoryStorage", "Operation", "StorageCall"]

PIECE_BYTES: Final = 4096
"""Largest piece that `ObjectReader.receive_some` of this fake returns, in bytes."""

Operation: TypeAlias = Literal["read", "open", "stat", "put", "list", "delete"]


@dataclass(frozen=True, slots=True)
class StorageCall:
    """One recorded call: which operation, and on which key (a prefix for ``list``)."""

    operation: Operation
    key: str


@dataclass(slots=True)
class _Fault:
    operation: Operation
    glob: str
    error: Exception
    times: int
    after: bool


class _MemoryReader:
    def __init__(self, info: ObjectInfo, body: bytes) -> None:
        self.info = info
        self._rest = body

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self._rest = self._rest[:PIECE_BYTES], self._rest[PIECE_BYTES:]
        return piece


class MemoryStorage:
    """A `mirrorwitness.storage.Storage` that lives and dies with the test.

    Attributes:
        operations: every call in the order in which it began to act, failed ones included.
        content_types: what each put said of its body, by key.
    """

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        self._objects: dict[str, bytes] = dict(objects or {})
        self._on_disk: dict[str, bytes | None] = {}  # what the disk has of those keys where it is behind
        self._faults: list[_Fault] = []
        self.operations: list[StorageCall] = []
        self.content_types: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<MemoryStorage {len(self._objects)} objects, {len(self._faults)} faults planned>"

    @property
    def objects(self) -> dict[str, bytes]:
        """A copy of everything that is stored, in order of the keys."""
        return dict(sorted(self._objects.items()))

    def keys_of(self, operation: Operation) -> list[str]:
        """Return the keys on which an operation was called, in order."""
        return [call.key for call in self.operations if call.operation == operation]

    def fail_before(self, op: Operation, key_glob: str, error: Exception, *, times: int = 1) -> None:
        """Let the next `times` calls of `op` on keys like `key_glob` raise `error` and do nothing."""
        self._faults.append(_Fault(op, key_glob, error, times, after=False))

    def fail_after(self, op: Operation, key_glob: str, error: Exception, *, times: int = 1) -> None:
        """Let the next `times` calls of `op` on keys like `key_glob` take effect, and then raise `error`."""
        self._faults.append(_Fault(op, key_glob, error, times, after=True))

    def heal(self) -> None:
        """Forget all planned faults."""
        self._faults.clear()

    def set_bytes(self, key: str, body: bytes) -> None:
        """Change an object behind everybody's back, as bit rot or an intruder would; not recorded."""
        self._objects[check_key(key)] = body
        self._on_disk.pop(key, None)

    def remove(self, key: str) -> None:
        """Remove an object behind everybody's back; not recorded."""
        del self._objects[key]
        self._on_disk.pop(key, None)

    def settle(self) -> None:
        """Let the disk catch up with everything."""
        self._on_disk.clear()

    def lose_power(self, *, cut: int | None = None) -> list[str]:
        """Put back what the disk has, or cut what it has not to so many bytes; return the keys that this is true of."""
        for key, body in self._on_disk.items():
            left = body if cut is None else self._objects[key][:cut]
            if left is None:
                del self._objects[key]
            else:
                self._objects[key] = left
        lost = sorted(self._on_disk)
        self._on_disk.clear()
        return lost

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object; see `mirrorwitness.storage.Storage.read`."""
        await self._begin("read", check_key(key))
        body, info = self._get(key)
        check_limit(info, limit)
        self._fail("read", key, after=True)
        return body, info

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[ObjectReader]:
        """Open an object for streaming; see `mirrorwitness.storage.Storage.open`."""
        await self._begin("open", check_key(key))
        body, info = self._get(key)
        end = check_range(info, start, length)
        self._fail("open", key, after=True)
        yield _MemoryReader(info, body[start:end])

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info; see `mirrorwitness.storage.Storage.stat`."""
        await self._begin("stat", check_key(key))
        self._fail("stat", key, after=True)
        return self._info(key)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object; see `mirrorwitness.storage.Storage.put`."""
        check_condition(if_absent=if_absent, if_match=if_match)
        await self._begin("put", check_key(key))
        found = self._info(key)
        if if_absent and found is not None:
            raise PreconditionFailedError(f"{key} exists already, with etag {found.etag}")
        if if_match is not None and (found is None or found.etag != if_match):
            raise PreconditionFailedError(f"{key} should have etag {if_match}, has {found and found.etag}")
        self._objects[key] = body if isinstance(body, bytes) else body.read_bytes()
        self._on_disk.pop(key, None)
        self.content_types[key] = content_type
        self._fail("put", key, after=True)
        return self._get(key)[1]

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects; see `mirrorwitness.storage.Storage.put_pair`."""
        before = self._on_disk.get(then.key, self._objects.get(then.key))
        infos = await put_in_turn(self, first, then)
        if infos[1] is not None:
            self._on_disk[then.key] = before
        return infos

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List objects; see `mirrorwitness.storage.Storage.list`."""
        await self._begin("list", check_prefix(prefix))
        # A str of whole code points sorts as its UTF-8 bytes do.
        found = sorted(key for key in self._objects if key.startswith(prefix) and key > after)
        objects = tuple(self._get(key)[1] for key in found[:limit])
        self._fail("list", prefix, after=True)
        return Listing(objects, more_after=objects[-1].key if len(found) > limit else None)

    async def delete(self, key: str) -> None:
        """Remove an object; see `mirrorwitness.storage.Storage.delete`."""
        await self._begin("delete", check_key(key))
        self._objects.pop(key, None)
        self._on_disk.pop(key, None)
        self._fail("delete", key, after=True)

    async def _begin(self, operation: Operation, key: str) -> None:
        await trio.lowlevel.checkpoint()
        self.operations.append(StorageCall(operation, key))
        self._fail(operation, key, after=False)

    def _fail(self, operation: Operation, key: str, *, after: bool) -> None:
        for fault in self._faults:
            if fault.operation == operation and fault.after == after and fnmatchcase(key, fault.glob):
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                raise fault.error

    def _info(self, key: str) -> ObjectInfo | None:
        body = self._objects.get(key)
        return None if body is None else ObjectInfo(key, len(body), hashlib.sha256(body).hexdigest()[:32])

    def _get(self, key: str) -> tuple[bytes, ObjectInfo]:
        info = self._info(key)
        if info is None:
            raise ObjectMissingError(f"there is no object under {key}")
        return self._objects[key], info
