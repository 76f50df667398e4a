"""A storage in a directory: ``file:DIR``.

Rules:

- One operation is one hop to a worker thread; a stream takes one hop for each MiB.
- Threads come from a limiter of the storage's own, so that slow disks do not starve others of threads.
- A thread cannot be cancelled: a put that is cancelled in its body ends at the next MiB and leaves nothing; one that is
  past it finishes, and has taken effect.

The file names are those of the keys, so a static file server can serve the tree (escaped ones on disks that fold
letters: `mirrorwitness.storage.local_names`). Sharing a tree between hosts needs NFSv4 or another file system with
working locks; `mirrorwitness store-check` races it.
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.storage import Listing, check_key, check_prefix
from mirrorwitness.storage.checks import check_condition, check_limit, check_pair, check_range
from mirrorwitness.storage.local_files import (
    PIECE_BYTES,
    open_object,
    put_file,
    put_files,
    read_piece,
    remove_object,
    stat_object,
)
from mirrorwitness.storage.local_list import DirectoryLister
from mirrorwitness.storage.local_tree import close_tree, open_tree, storage_errors

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from mirrorwitness.storage import Body, ObjectInfo, ObjectReader, Put
    from mirrorwitness.storage.local_names import Names
    from mirrorwitness.storage.local_tree import Tree

__all__ = ["DEFAULT_THREADS", "LocalStorage", "open_local"]

DEFAULT_THREADS: Final = 32
"""Threads of one storage: enough to keep a disk's queue full of fsyncs; each costs some 100 KB while it works."""

_T = TypeVar("_T")


@asynccontextmanager
async def open_local(
    root: Path, *, fsync: bool = True, names: Names | None = None, threads: int = DEFAULT_THREADS
) -> AsyncGenerator[LocalStorage, None]:
    """Open a directory as a storage, making it where it is missing.

    Args:
        root: the directory; it must be empty or one of ours.
        fsync: whether `put` and `delete` wait for the disk. Without, a crash of the machine may lose or empty objects
            that were written in the last half minute; a crash of the process never does.
        names: the format of file names for a new directory; None lets the disk decide.
        threads: how many operations may be on the disk at a time.

    Raises:
        ConfigurationError: it is no directory, holds something else, or does not fit the disk.
        StorageError: the disk failed.
    """
    limiter = trio.CapacityLimiter(threads)
    tree = await trio.to_thread.run_sync(lambda: open_tree(root.absolute(), fsync=fsync, names=names), limiter=limiter)
    try:
        yield LocalStorage(tree, limiter)
    finally:
        close_tree(tree)  # removes an empty directory and one file: not worth a thread while shutting down


class LocalStorage:
    """A `mirrorwitness.storage.Storage` in a directory; made by `open_local`."""

    def __init__(self, tree: Tree, limiter: trio.CapacityLimiter) -> None:
        self._tree = tree
        self._limiter = limiter
        self._lister = DirectoryLister(str(tree.root), tree.names)

    def __repr__(self) -> str:
        return f"<LocalStorage {self._tree.root} {self._tree.names} {self._limiter.borrowed_tokens} busy>"

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object; see `mirrorwitness.storage.Storage.read`."""
        check_key(key)
        return await self._run(f"read {key}", lambda: _read(self._tree, key, limit))

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[ObjectReader, None]:
        """Open an object for streaming; see `mirrorwitness.storage.Storage.open`."""
        check_key(key)
        reader = await self._run(f"open {key}", lambda: _open(self, self._tree, key, start, length))
        try:
            yield reader
        finally:
            reader.close()

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info; see `mirrorwitness.storage.Storage.stat`."""
        check_key(key)
        return await self._run(f"stat {key}", lambda: stat_object(self._tree, key))

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",  # noqa: ARG002 - a directory keeps none
    ) -> ObjectInfo:
        """Write a whole object; see `mirrorwitness.storage.Storage.put`."""
        check_condition(if_absent=if_absent, if_match=if_match)
        check_key(key)
        return await self._run(
            f"write {key}", lambda: put_file(self._tree, key, body, if_absent=if_absent, if_match=if_match)
        )

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects in one hop; see `mirrorwitness.storage.Storage.put_pair`."""
        check_pair(first, then)
        return await self._run(f"write {first.key} and {then.key}", lambda: put_files(self._tree, first, then))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List objects; see `mirrorwitness.storage.Storage.list`."""
        check_prefix(prefix)
        return await self._run(f"list {prefix}", lambda: _list(self._lister, prefix, after, limit))

    async def delete(self, key: str) -> None:
        """Remove an object; see `mirrorwitness.storage.Storage.delete`."""
        check_key(key)
        await self._run(f"delete {key}", lambda: remove_object(self._tree, key))

    async def _run(self, what: str, work: Callable[[], _T]) -> _T:
        with storage_errors(f"{what} in {self._tree.root}"):
            return await trio.to_thread.run_sync(work, limiter=self._limiter)

    async def read_piece(self, descriptor: int, key: str, position: int, length: int) -> bytes:
        """Read a piece of an open file for its reader."""
        return await self._run(f"read {key}", lambda: read_piece(descriptor, position, length))


class _LocalReader:
    """An open file. Its first piece came with the hop that opened it, so a small object takes no second one."""

    def __init__(self, storage: LocalStorage, descriptor: int, info: ObjectInfo, position: int, end: int) -> None:
        self.info = info
        self._storage = storage
        self._descriptor = descriptor
        self._position = position
        self._end = end
        self._ahead = read_piece(descriptor, position, end - position)

    def close(self) -> None:
        os.close(self._descriptor)

    async def receive_some(self) -> bytes:
        missing = self._end - self._position
        if self._ahead or not missing:
            await trio.lowlevel.checkpoint()
            piece, self._ahead = self._ahead, b""
        else:
            piece = await self._storage.read_piece(self._descriptor, self.info.key, self._position, missing)
        self._position += len(piece)
        if missing and not piece:
            raise StorageUnavailableError(
                f"{self.info.key} was cut: {missing:,} of {self.info.size:,} bytes are missing"
            )
        return piece


class _CellReader:
    """An object that was read whole, as it was in a cell."""

    def __init__(self, info: ObjectInfo, piece: bytes) -> None:
        self.info = info
        self._piece = piece

    def close(self) -> None:
        """Do nothing: no file is open."""

    async def receive_some(self) -> bytes:
        await trio.lowlevel.checkpoint()
        piece, self._piece = self._piece[:PIECE_BYTES], self._piece[PIECE_BYTES:]
        return piece


def _open(storage: LocalStorage, tree: Tree, key: str, start: int, length: int | None) -> _LocalReader | _CellReader:
    source, info = open_object(tree, key)
    if isinstance(source, bytes):
        return _CellReader(info, source[start : check_range(info, start, length)])
    try:
        return _LocalReader(storage, source, info, start, check_range(info, start, length))
    except BaseException:
        os.close(source)
        raise


def _read(tree: Tree, key: str, limit: int) -> tuple[bytes, ObjectInfo]:
    source, info = open_object(tree, key)
    if isinstance(source, bytes):
        check_limit(info, limit)
        return source, info
    try:
        check_limit(info, limit)
        pieces: list[bytes] = []
        position = 0
        while position < info.size:
            piece = read_piece(source, position, info.size - position)
            if not piece:
                raise StorageUnavailableError(f"{key} was cut: {position:,} of {info.size:,} bytes are there")
            pieces.append(piece)
            position += len(piece)
        return b"".join(pieces), info
    finally:
        os.close(source)


def _list(lister: DirectoryLister, prefix: str, after: str, limit: int) -> Listing:
    objects = tuple(islice(lister.walk(prefix, after), limit + 1))
    if len(objects) <= limit:
        return Listing(objects, None)
    return Listing(objects[:limit], objects[limit - 1].key)
