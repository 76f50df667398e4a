"""The blocking half of a directory storage: read, replace and remove one file. Runs in worker threads.

Rules:

- Write = temporary file, fsync, compare and rename under the key's lock, fsync of the directory. Of a pair
  (`put_files`) the second file is written after all that, and without either fsync: the kernel takes it to the disk
  within half a minute, whatever becomes of the process.
- An etag is made of modification time, size and inode. Because inodes are used again and clocks are coarse, the time
  is written by us: now, and always later than that of the file it replaces. So no etag comes back while an object is
  replaced again and again, and compare-and-swap has no ABA hole.
- Every function raises `OSError` for the disk; `mirrorwitness.storage.local` maps it.

Known hole: on a disk whose clock ticks in seconds (FAT), an object that is *removed* and written again within one tick
and gets the same inode and size may have its old etag.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError, StorageError
from mirrorwitness.storage import ObjectInfo
from mirrorwitness.storage.local_tree import fsync_directory, key_lock

if TYPE_CHECKING:
    from mirrorwitness.storage import Body, Put
    from mirrorwitness.storage.local_tree import Tree

__all__ = ["PIECE_BYTES", "info_of", "open_file", "put_file", "put_files", "read_piece", "remove_file", "stat_file"]

PIECE_BYTES: Final = 1024 * 1024
"""What one hop to a thread reads or writes: 1 MiB, the most that `ObjectReader.receive_some` may return."""

_TICKS_NS: Final = (1, 1_000, 1_000_000, 2_000_000_000)
"""Steps by which a modification time is moved past an older one, up to the coarsest clock in use (FAT: 2 s)."""

_RACES: Final = 10
"""How often a put makes its directory again after a concurrent delete has pruned it."""


def info_of(key: str, status: os.stat_result) -> ObjectInfo:
    """Return what a file's status says of its object."""
    return ObjectInfo(key, status.st_size, f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}")


def stat_file(tree: Tree, key: str) -> ObjectInfo | None:
    """Return a file's info, or None where there is no regular file."""
    try:
        status = os.stat(tree.path(key))
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info_of(key, status) if stat.S_ISREG(status.st_mode) else None


def open_file(tree: Tree, key: str) -> tuple[int, ObjectInfo]:
    """Open a file for reading; the descriptor keeps seeing this version of it.

    Raises:
        ObjectMissingError: there is no regular file.
    """
    try:
        descriptor = os.open(tree.path(key), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ObjectMissingError(f"there is no object under {key}") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise ObjectMissingError(f"there is no object under {key}, only keys below it")
    return descriptor, info_of(key, status)


def read_piece(descriptor: int, position: int, length: int) -> bytes:
    """Read up to `length` bytes, at most one piece."""
    return os.pread(descriptor, min(length, PIECE_BYTES), position)


def put_files(tree: Tree, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
    """Write two files, the second one without waiting for the disk; see `mirrorwitness.storage.Storage.put_pair`."""
    info = put_file(tree, first.key, first.body, if_absent=first.if_absent, if_match=first.if_match)
    try:
        shown = put_file(tree, then.key, then.body, if_absent=then.if_absent, if_match=then.if_match, is_durable=False)
    except PreconditionFailedError:
        return info, None
    return info, shown


def put_file(
    tree: Tree, key: str, body: Body, *, if_absent: bool, if_match: str | None, is_durable: bool = True
) -> ObjectInfo:
    """Write a whole file, atomically, and durably where the tree is so; see `mirrorwitness.storage.Storage.put`."""
    waits = tree.fsync and is_durable
    path, temporary = tree.path(key), tree.temporary(key)
    if not isinstance(body, bytes) and (if_absent or if_match is not None):
        # Before a large body is copied for nothing; what counts is the check under the lock.
        _check_condition(key, stat_file(tree, key), if_absent=if_absent, if_match=if_match)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_body(descriptor, body)
        now = time.time_ns()
        os.utime(descriptor, ns=(now, now))
        if waits:
            os.fsync(descriptor)
        with key_lock(tree, key):
            found = stat_file(tree, key)
            _check_condition(key, found, if_absent=if_absent, if_match=if_match)
            status = _date_after(descriptor, int(found.etag.partition("-")[0], 16) if found else 0)
            _rename(tree, temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)
    if waits:
        fsync_directory(_parent(path))
    return info_of(key, status)


def remove_file(tree: Tree, key: str) -> None:
    """Remove a file and the directories that it leaves empty."""
    path = tree.path(key)
    tree.temporary(key)  # refuses where the tree is open for reading only
    if stat_file(tree, key) is None:
        return
    with key_lock(tree, key):
        try:
            os.unlink(path)
        except FileNotFoundError:
            return
    if tree.fsync:
        fsync_directory(_parent(path))
    _prune(_parent(path), str(tree.root))


def _check_condition(key: str, found: ObjectInfo | None, *, if_absent: bool, if_match: str | None) -> None:
    if if_absent and found is not None:
        raise PreconditionFailedError(f"{key} exists already, with etag {found.etag}")
    if if_match is not None and (found is None or found.etag != if_match):
        raise PreconditionFailedError(f"{key} should have etag {if_match}, has {found.etag if found else 'no object'}")


def _write_body(descriptor: int, body: Body) -> None:
    if isinstance(body, bytes):
        _write_all(descriptor, body)
        return
    try:
        source = body.open("rb", buffering=0)
    except OSError as error:
        raise StorageError(f"cannot read the body {body}: {error.strerror}") from error
    with source:
        while piece := source.read(PIECE_BYTES):
            _write_all(descriptor, piece)
            trio.from_thread.check_cancelled()


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _date_after(descriptor: int, older_ns: int) -> os.stat_result:
    """Move a file's time past an older file's, by the smallest step that its disk can hold; return its status."""
    for tick in _TICKS_NS:
        status = os.fstat(descriptor)
        if status.st_mtime_ns > older_ns:
            return status
        os.utime(descriptor, ns=(older_ns + tick, older_ns + tick))
    return os.fstat(descriptor)


def _rename(tree: Tree, temporary: str, path: str) -> None:
    for _ in range(_RACES):
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            _make_directory(tree, _parent(path))
        else:
            return
    os.rename(temporary, path)


def _make_directory(tree: Tree, path: str) -> None:
    """Make a directory and those above it, each durable before anything in it is."""
    missing = [path]
    while not os.path.isdir(parent := _parent(missing[-1])):
        missing.append(parent)
    for directory in reversed(missing):
        try:
            os.mkdir(directory)
        except FileExistsError:
            if not os.path.isdir(directory):
                raise
        except FileNotFoundError:
            return  # pruned under our hands; the caller tries again
        if tree.fsync:
            fsync_directory(_parent(directory))


def _prune(directory: str, root: str) -> None:
    while directory != root:
        try:
            os.rmdir(directory)
        except OSError:
            return  # not empty, or already gone: nothing depends on it
        directory = _parent(directory)


def _parent(path: str) -> str:
    return path[: path.rindex("/")]
