"""A storage whose user is killed: from some operation on nothing of it takes effect, and nobody is there to notice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from mirrorwitness.storage.pair import put_in_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from mirrorwitness.storage import Body, Listing, ObjectInfo, ObjectReader, Put, Storage

__all__ = ["DyingStorage", "run_until_death"]


class DyingStorage:
    """Passes everything on, up to its death in the n-th operation; after that every operation waits for ever.

    Attributes:
        died: set at the moment of death.
    """

    def __init__(self, storage: Storage, *, operations: int, is_late: bool) -> None:
        """Die in operation number `operations`: before it takes effect, or (`is_late`) after."""
        self._storage = storage
        self._left = operations
        self._is_late = is_late
        self.died = trio.Event()

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        await self._before()
        found = await self._storage.read(key, limit=limit)
        await self._after()
        return found

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[ObjectReader, None]:
        await self._before()
        async with self._storage.open(key, start=start, length=length) as reader:
            yield reader

    async def stat(self, key: str) -> ObjectInfo | None:
        await self._before()
        found = await self._storage.stat(key)
        await self._after()
        return found

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        await self._before()
        info = await self._storage.put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        await self._after()
        return info

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        return await put_in_turn(self, first, then)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        await self._before()
        page = await self._storage.list(prefix, after=after, limit=limit)
        await self._after()
        return page

    async def delete(self, key: str) -> None:
        await self._before()
        await self._storage.delete(key)
        await self._after()

    async def _before(self) -> None:
        self._left -= 1
        if self._left < 0 or (self._left == 0 and not self._is_late):
            await self._die()

    async def _after(self) -> None:
        if self._left <= 0:
            await self._die()

    async def _die(self) -> None:
        self.died.set()
        await trio.sleep_forever()


async def run_until_death(storage: DyingStorage, work: Callable[[], Awaitable[object]]) -> bool:
    """Do the work until the storage dies under it; return whether it did. What the work's clean-up writes is lost."""
    async with trio.open_nursery() as nursery:

        async def live() -> None:
            await work()
            nursery.cancel_scope.cancel()

        nursery.start_soon(live)
        await storage.died.wait()
        nursery.cancel_scope.cancel()
    return storage.died.is_set()
