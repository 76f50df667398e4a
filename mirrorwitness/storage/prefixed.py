"""PrefixedStorage: a part of a storage as a storage of its own: every key below one prefix.

Components that each keep their state under the same keys (two followers, say) share one directory or bucket by it,
without knowing. It promises what the storage below it promises; keys in messages are those of the storage below.

*Limits*: the prefix counts for the longest key.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mirrorwitness.storage import Listing, check_key, check_prefix

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.storage import Body, ObjectInfo, ObjectReader, Put, Storage

__all__ = ["PrefixedStorage"]


class PrefixedStorage:
    """A part of a storage.

    Args:
        storage: the whole.
        prefix: what all keys begin with, with a slash at the end.

    Raises:
        ConfigurationError: no key can begin so.
    """

    def __init__(self, storage: Storage, prefix: str) -> None:
        check_prefix(prefix)
        self._storage = storage
        self._prefix = f"{prefix.removesuffix('/')}/"

    def __repr__(self) -> str:
        return f"<{self._prefix} of {self._storage!r}>"

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object; as `Storage.read`."""
        body, info = await self._storage.read(self._outer(key), limit=limit)
        return body, self._inner(info)

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[ObjectReader, None]:
        """Open an object for streaming; as `Storage.open`."""
        async with self._storage.open(self._outer(key), start=start, length=length) as reader:
            yield _Reader(reader, self._inner(reader.info))

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info; as `Storage.stat`."""
        info = await self._storage.stat(self._outer(key))
        return None if info is None else self._inner(info)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object; as `Storage.put`."""
        outer = self._outer(key)
        return self._inner(
            await self._storage.put(outer, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        )

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects; as `Storage.put_pair`."""
        outer = [replace(put, key=self._outer(put.key)) for put in (first, then)]
        one, two = await self._storage.put_pair(*outer)
        return self._inner(one), None if two is None else self._inner(two)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List objects; as `Storage.list`."""
        check_prefix(prefix)
        behind = self._prefix + after if after else ""
        found = await self._storage.list(self._prefix + prefix, after=behind, limit=limit)
        more = None if found.more_after is None else found.more_after.removeprefix(self._prefix)
        return Listing(tuple([self._inner(info) for info in found.objects]), more)

    async def delete(self, key: str) -> None:
        """Remove an object; as `Storage.delete`."""
        await self._storage.delete(self._outer(key))

    def _outer(self, key: str) -> str:
        return self._prefix + check_key(key)

    def _inner(self, info: ObjectInfo) -> ObjectInfo:
        return replace(info, key=info.key.removeprefix(self._prefix))


class _Reader:
    """An open object under its inner key."""

    def __init__(self, reader: ObjectReader, info: ObjectInfo) -> None:
        self._reader = reader
        self._info = info

    @property
    def info(self) -> ObjectInfo:
        """The whole object's info."""
        return self._info

    async def receive_some(self) -> bytes:
        """Return the next piece, or nothing at the end."""
        return await self._reader.receive_some()
