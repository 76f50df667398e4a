"""Where the histories of a witness are played: storages of every kind, which fail on request.

Everything here works through the `mirrorwitness.storage.Storage` Protocol, so that a history is the same in memory, in
a directory and in a bucket: what fails (`FailingStorage`), what a dead process left on its way (`LingeringStorage`),
what is copied and put back (`copy_objects`, `restore_objects`). What only one kind can do wrong is its `Place.trouble`.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local import open_local
from mirrorwitness.storage.pair import put_in_turn
from mirrorwitness.storage.walk import list_keys
from tests.fakes.hostile_s3 import Fault, HostileS3, serve_s3
from tests.fakes.storage import MemoryStorage
from tests.fault.dying import DyingStorage

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.storage import Body, Listing, ObjectInfo, ObjectReader, Put, Storage

__all__ = [
    "FailingStorage",
    "LingeringStorage",
    "Operation",
    "Place",
    "copy_objects",
    "open_buckets",
    "open_directories",
    "open_hostile_buckets",
    "open_memory",
    "restore_objects",
]

Operation: TypeAlias = Literal["read", "put", "list"]

OBJECT_BYTES = 1024 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True)
class Place:
    """Two storages for one history after the other.

    Attributes:
        storage: what replicas work on.
        anchor: the second place of those that have one.
        trouble: lets something go wrong below the Protocol, with the next requests; None where nothing can.
        lose_power: takes what did not wait for the disk, and says what that was; None where everything waits.
        settle: lets the disk catch up.
    """

    storage: Storage
    anchor: Storage
    trouble: Callable[[random.Random], None] | None = None
    lose_power: Callable[[random.Random], list[str]] | None = None
    settle: Callable[[], None] = lambda: None


@asynccontextmanager
async def open_memory() -> AsyncGenerator[Place, None]:
    """Open a place in memory, on a machine that may lose power."""
    storage = MemoryStorage()

    def lose_power(rng: random.Random) -> list[str]:
        return storage.lose_power(cut=rng.choice([None, None, 0, 30]))

    yield Place(storage, MemoryStorage(), lose_power=lose_power, settle=storage.settle)


@asynccontextmanager
async def open_directories(folder: Path) -> AsyncGenerator[Place, None]:
    """Open two directories; nothing waits for the disk, as no machine dies here."""
    async with open_local(folder / "storage", fsync=False) as one, open_local(folder / "anchor", fsync=False) as other:
        yield Place(one, other)


@asynccontextmanager
async def open_buckets(
    storage: str, anchor: str, trouble: Callable[[random.Random], None] | None = None
) -> AsyncGenerator[Place, None]:
    """Open two addresses, of whatever kind."""
    async with open_storage(storage) as one, open_storage(anchor) as other:
        yield Place(one, other, trouble)


@asynccontextmanager
async def open_hostile_buckets() -> AsyncGenerator[Place, None]:
    """Open two buckets of a service over HTTP that hangs up, before a request took effect or after, or is busy."""
    service = HostileS3()

    def trouble(rng: random.Random) -> None:
        fault = Fault(status=rng.choice([0, 500, 503]), after=rng.random() < 0.5)
        service.fail(rng.choice(["PUT", "GET"]), rng.choice(["*", "*/state/*"]), fault, times=rng.randint(1, 2))

    async with (
        serve_s3(service) as address,
        open_buckets(address.replace("/p?", "/storage?"), address.replace("/p?", "/anchor?"), trouble) as place,
    ):
        yield place


async def copy_objects(storage: Storage, *, limit: int = OBJECT_BYTES) -> dict[str, bytes]:
    """Return everything that is stored."""
    return {key: (await storage.read(key, limit=limit))[0] for key in await list_keys(storage, "")}


async def restore_objects(storage: Storage, copy: Mapping[str, bytes], prefix: str = "") -> None:
    """Put a copy back, in the place of everything below a prefix."""
    for key in await list_keys(storage, prefix):
        await storage.delete(key)
    for key, body in copy.items():
        if key.startswith(prefix):
            await storage.put(key, body)


@dataclass
class _Fault:
    operation: Operation
    glob: str
    error: MirrorWitnessError
    is_late: bool
    times: int


class FailingStorage:
    """Passes everything on; what is planned fails, before it took effect or after: then its answer was lost."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._faults: list[_Fault] = []

    def fail(
        self, operation: Operation, glob: str, error: MirrorWitnessError, *, is_late: bool, times: int = 1
    ) -> None:
        """Let the next `times` operations on keys like `glob` fail."""
        self._faults.append(_Fault(operation, glob, error, is_late, times))

    def heal(self) -> None:
        """Forget what is planned."""
        self._faults.clear()

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        return await self._act("read", key, partial(self._storage.read, key, limit=limit))

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        return self._storage.open(key, start=start, length=length)

    async def stat(self, key: str) -> ObjectInfo | None:
        return await self._storage.stat(key)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        work = partial(self._storage.put, if_absent=if_absent, if_match=if_match, content_type=content_type)
        return await self._act("put", key, partial(work, key, body))

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        if any(fault.operation == "put" for fault in self._faults):
            return await put_in_turn(self, first, then)
        return await self._storage.put_pair(first, then)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        return await self._act("list", prefix, partial(self._storage.list, prefix, after=after, limit=limit))

    async def delete(self, key: str) -> None:
        await self._storage.delete(key)

    async def _act(self, operation: Operation, key: str, work: Callable[[], Awaitable[_T]]) -> _T:
        self._fail(operation, key, is_late=False)
        found = await work()
        self._fail(operation, key, is_late=True)
        return found

    def _fail(self, operation: Operation, key: str, *, is_late: bool) -> None:
        for fault in self._faults:
            if fault.operation == operation and fault.is_late == is_late and fnmatchcase(key, fault.glob):
                fault.times -= 1
                if not fault.times:
                    self._faults.remove(fault)
                raise fault.error


class LingeringStorage(DyingStorage):
    """One whose user is killed while a put is on its way: it may arrive when others have gone on long since.

    Attributes:
        on_its_way: the last put; whether it arrived before the death, or arrives again, the storage's conditions say.
    """

    on_its_way: Callable[[], Awaitable[ObjectInfo]] | None = None

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        kept = partial(self._storage.put, if_absent=if_absent, if_match=if_match, content_type=content_type)
        self.on_its_way = partial(kept, key, body)
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
