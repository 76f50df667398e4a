"""Run a command of ours and write down what it does to its storages, one JSON line an operation.

    python -m tests.deploy.recorder FILE COMMAND...

Each line is ``[storage, operation, key]``; the storage is the name of its folder. Operations are those of
`mirrorwitness.storage.Storage`, with ``put`` told apart: ``create`` (if absent), ``swap`` (if it matches), ``put``
(whatever is there).

It sits between the command and a directory, where a bucket's permissions would be asked for; nothing else is changed.
"""

from __future__ import annotations

import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mirrorwitness.storage.local as local_module
from mirrorwitness.cli import main
from mirrorwitness.storage.pair import put_in_turn

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager

    from mirrorwitness.storage import Body, Listing, ObjectInfo, ObjectReader, Put, Storage

_open_local = local_module.open_local


class RecordingStorage:
    """A storage that tells what is asked of it.

    Args:
        storage: does the work.
        tell: is given the operation and the key.
    """

    def __init__(self, storage: Storage, tell: Callable[[str, str], None]) -> None:
        self._storage = storage
        self._tell = tell

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object."""
        self._tell("read", key)
        return await self._storage.read(key, limit=limit)

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object for streaming."""
        self._tell("open", key)
        return self._storage.open(key, start=start, length=length)

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info."""
        self._tell("stat", key)
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
        """Write a whole object."""
        self._tell("create" if if_absent else "put" if if_match is None else "swap", key)
        return await self._storage.put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects, as a bucket does it: one after the other."""
        return await put_in_turn(self, first, then)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List objects."""
        self._tell("list", prefix)
        return await self._storage.list(prefix, after=after, limit=limit)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        self._tell("delete", key)
        await self._storage.delete(key)


def record(file: Path) -> None:
    """Let every storage that is opened from now on tell a file."""

    @asynccontextmanager
    async def open_recorded(root: Path, **options: Any) -> AsyncGenerator[RecordingStorage, None]:
        def tell(operation: str, key: str) -> None:
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps([root.name, operation, key]) + "\n")

        async with _open_local(root, **options) as storage:
            yield RecordingStorage(storage, tell)

    local_module.open_local = open_recorded  # type: ignore[assignment]


if __name__ == "__main__":
    record(Path(sys.argv[1]))
    main(sys.argv[2:])
