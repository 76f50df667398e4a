"""The blocking half of a directory storage: read, replace and remove one file. Runs in worker threads.

Rules:

- Write = temporary file, fsync, compare and rename under the key's lock, fsync of the directory.
- Of a pair (`put_files`) the first object is kept in a cell (`mirrorwitness.storage.local_cells`). The second one is
  written when that is on the disk, as a file, and without either fsync: the kernel takes it to the disk within half a
  minute, whatever becomes of the process.
- An object is its file, and where there is none its cell. Where one takes the place of the other, the new one is on the
  disk before the old one goes.
- Every function raises `OSError` for the disk; `mirrorwitness.storage.local` maps it.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError, StorageError
from mirrorwitness.storage.cell import format_cell
from mirrorwitness.storage.local_cells import (
    can_be_cell,
    cell_path,
    first_version,
    overwrite_cell,
    read_cell,
    remove_cell,
)
from mirrorwitness.storage.local_etags import check_found, date_after, info_of
from mirrorwitness.storage.local_tree import fsync_directory, key_lock

if TYPE_CHECKING:
    from collections.abc import Generator

    from mirrorwitness.storage import Body, ObjectInfo, Put
    from mirrorwitness.storage.local_tree import Tree

__all__ = [
    "PIECE_BYTES",
    "open_object",
    "put_file",
    "put_files",
    "read_piece",
    "remove_object",
    "stat_at",
    "stat_object",
]

PIECE_BYTES: Final = 1024 * 1024
"""What one hop to a thread reads or writes: 1 MiB, the most that `ObjectReader.receive_some` may return."""

_RACES: Final = 10
"""How often a put makes its directory again after a concurrent delete has pruned it."""


def stat_object(tree: Tree, key: str) -> ObjectInfo | None:
    """Return an object's info, or None where there is none."""
    return stat_at(key, tree.path(key))


def stat_at(key: str, path: str) -> ObjectInfo | None:
    """Return the info of an object whose file would be a path, or None where there is none."""
    info = _stat_file(key, path)
    if info is not None:
        return info
    found = read_cell(key, path)
    # Looked for again: the file may have come, and its cell gone, in between.
    return found[1] if found is not None else _stat_file(key, path)


def open_object(tree: Tree, key: str) -> tuple[int | bytes, ObjectInfo]:
    """Open an object for reading.

    Returns:
        A descriptor, which keeps seeing this version of its file, or the whole object where it was in a cell.

    Raises:
        ObjectMissingError: there is none.
    """
    path = tree.path(key)
    found = _open_file(key, path) or read_cell(key, path) or _open_file(key, path)
    if found is None:
        raise ObjectMissingError(f"there is no object under {key}")
    return found


def read_piece(descriptor: int, position: int, length: int) -> bytes:
    """Read up to `length` bytes, at most one piece."""
    return os.pread(descriptor, min(length, PIECE_BYTES), position)


def put_files(tree: Tree, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
    """Write two objects, the second one without waiting for the disk; see `mirrorwitness.storage.Storage.put_pair`."""
    info = _put_cell(tree, first)
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
    path = tree.path(key)
    if not isinstance(body, bytes) and (if_absent or if_match is not None):
        # Before a large body is copied for nothing; what counts is the check under the lock.
        check_found(key, stat_object(tree, key), if_absent=if_absent, if_match=if_match)
    with _temporary(tree, key, body, waits=waits) as (temporary, descriptor), key_lock(tree, key):
        file = _stat_file(key, path)
        cell = None if file is not None else read_cell(key, path)
        found = cell[1] if cell is not None else file
        check_found(key, found, if_absent=if_absent, if_match=if_match)
        status = date_after(descriptor, found)
        _rename(tree, temporary, path)
        if cell is not None:
            tree.certain.pop(key, None)
            _settle(tree, path)
            remove_cell(path)
    if waits:
        _settle(tree, path)
    return info_of(key, status)


def _put_cell(tree: Tree, put: Put) -> ObjectInfo:
    """Write an object that is replaced often; durably where the tree is so."""
    path = tree.path(put.key)
    if can_be_cell(path):
        tree.check_writable(put.key)
        with key_lock(tree, put.key):
            info = overwrite_cell(tree, path, put) if _stat_file(put.key, path) is None else None
        try:
            return info or _make_cell(tree, path, put)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
    return put_file(tree, put.key, put.body, if_absent=put.if_absent, if_match=put.if_match)


def _make_cell(tree: Tree, path: str, put: Put) -> ObjectInfo:
    """Write an object as a new cell, in the place of its file or of the cell that it had."""
    version = first_version(put.body)
    body = format_cell(version)
    with _temporary(tree, put.key, body, waits=tree.fsync) as (temporary, descriptor), key_lock(tree, put.key):
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        file = _stat_file(put.key, path)
        found = file or stat_at(put.key, path)
        check_found(put.key, found, if_absent=put.if_absent, if_match=put.if_match)
        tree.certain.pop(put.key, None)
        status = date_after(descriptor, found)
        _rename(tree, temporary, cell_path(path))
        _settle(tree, path)
        if file is not None:
            os.unlink(path)
            _settle(tree, path)
        info = info_of(put.key, status, tag=version.tag, size=len(put.body))
        if tree.fsync:
            tree.certain[put.key] = info.etag
    return info


def remove_object(tree: Tree, key: str) -> None:
    """Remove an object and the directories that it leaves empty."""
    path = tree.path(key)
    tree.check_writable(key)
    if stat_object(tree, key) is None:
        return
    with key_lock(tree, key), suppress(FileNotFoundError):
        tree.certain.pop(key, None)
        if remove_cell(path):
            _settle(tree, path)  # before the file goes, which counts: nothing older may after it
        if not os.path.isdir(path):
            os.unlink(path)
            _settle(tree, path)
    _prune(_parent(path), str(tree.root))


def _stat_file(key: str, path: str) -> ObjectInfo | None:
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return info_of(key, status) if stat.S_ISREG(status.st_mode) else None


def _open_file(key: str, path: str) -> tuple[int, ObjectInfo] | None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        return None
    return descriptor, info_of(key, status)


@contextmanager
def _temporary(tree: Tree, key: str, body: Body, *, waits: bool) -> Generator[tuple[str, int], None, None]:
    """Write a temporary file, for the caller to move to its place; it is removed where that fails."""
    temporary = tree.temporary(key)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _write_body(descriptor, body)
        now = time.time_ns()
        os.utime(descriptor, ns=(now, now))
        if waits:
            os.fsync(descriptor)
        yield temporary, descriptor
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    finally:
        os.close(descriptor)


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


def _rename(tree: Tree, temporary: str, path: str) -> None:
    for _ in range(_RACES):
        try:
            os.rename(temporary, path)
        except FileNotFoundError:
            _make_directory(tree, _parent(path))
        else:
            return
    os.rename(temporary, path)


def _settle(tree: Tree, path: str) -> None:
    """Wait until a file's name is on the disk, or off it, where the tree does so."""
    if tree.fsync:
        fsync_directory(_parent(path))


def _make_directory(tree: Tree, path: str) -> None:
    """Make a directory and those above it, each durable before anything in it is."""
    missing = [path]
    while not os.path.isdir(parent := _parent(missing[-1])):
        missing.append(parent)
    for directory in reversed(missing):
        if os.path.lexists(cell_path(directory)):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
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
