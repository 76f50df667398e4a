"""The cells of a directory storage: objects that are replaced durably with one short wait. Blocking.

The first object of a pair (`mirrorwitness.storage.Storage.put_pair`) is kept in a cell (`mirrorwitness.storage.cell`):
of a key ``a/b`` in the file ``a/.b.mwcell``. Who reads, lists or replaces objects need not know.

Rules:

- A plain file beside a cell counts, and the cell does not: a put writes the one, then removes the other. So a reader
  looks for the file, for the cell, and for the file again (`mirrorwitness.storage.local_files`).
- A version is compared and written under the key's lock, which is held until it is on the disk.
- What stays while a version is written over the other one is on the disk for *certain*: bytes and name. A session knows
  that of what it was itself told (`Tree.certain`). Of anything else it writes the same bytes once more, and waits for
  them and for the name: whoever wrote it may have been killed before, or told that the disk refused it; and a disk that
  refused bytes once says of the same ones later that they are there.
- A version whose wait failed may count or not: its writer was told that nobody knows.
- A cell is written over where the new version fits, and nobody else has the file (a copy made of hard links would
  change with it). It is made anew otherwise, as plain files are.
- A reader takes no lock. Where it sees two versions that follow each other, the newer one was there when it looked;
  else it reads until it has read the same twice.

*Cost*: one wait of about a tenth of a millisecond, where replacing a file takes two of three times as long (ADR 0032).
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.storage import MAX_COMPONENT_BYTES
from mirrorwitness.storage.cell import Version, format_version, parse_cell
from mirrorwitness.storage.local_etags import check_found, date_from, info_of
from mirrorwitness.storage.local_tree import fsync_directory

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo, Put
    from mirrorwitness.storage.cell import Cell
    from mirrorwitness.storage.local_tree import Tree

__all__ = [
    "can_be_cell",
    "cell_path",
    "first_version",
    "name_of_cell",
    "overwrite_cell",
    "read_cell",
    "remove_cell",
]

_SERIAL_BITS: Final = 48
"""Of the first serial: two cells with the same are as good as impossible, and 2**63 versions may follow."""

_READ_BYTES: Final = 65_536
"""Read at once, as every system call lets other threads have the interpreter: more than a usual cell has."""

_SUFFIX: Final = ".mwcell"
"""Behind the name, as a dot is before it: no key has a component that begins with one."""

_NO_CELL: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG})
"""What a system says where no cell can be: some allow shorter names than `MAX_COMPONENT_BYTES`."""


@dataclass(frozen=True, slots=True)
class _Found:
    """A cell as it was at one time; `cell` is None where no version in it counts."""

    body: bytes
    info: ObjectInfo
    cell: Cell | None
    links: int


def cell_path(path: str) -> str:
    """Return the cell of a file."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/.{name}{_SUFFIX}"


def can_be_cell(path: str) -> bool:
    """Tell whether the cell of a file has a name that disks allow."""
    return len(cell_path(path).rpartition("/")[2].encode()) <= MAX_COMPONENT_BYTES


def name_of_cell(name: str) -> str | None:
    """Return the name of the file that a cell stands for, or None where a name is not that of a cell."""
    if not name.startswith("."):
        return None
    found = name[1 : -len(_SUFFIX)]
    return found if found and name == f".{found}{_SUFFIX}" else None


def first_version(body: bytes) -> Version:
    """Return the first version of a new cell. Its serial is drawn: no other cell of the key had the same ones."""
    return Version(secrets.randbits(_SERIAL_BITS), body)


def read_cell(key: str, path: str) -> tuple[bytes, ObjectInfo] | None:
    """Return the object in the cell of a file, or None where there is no cell.

    Where no version in it counts, the object is the file as it is: whoever knows what it should be sees the damage.
    """
    descriptor = _open(path, os.O_RDONLY)
    if descriptor is None:
        return None
    try:
        found = _read(key, descriptor)
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)
    return found.body, found.info


def overwrite_cell(tree: Tree, path: str, put: Put) -> ObjectInfo | None:
    """Write a version over the older one of two; the caller holds the key's lock, and has seen that there is no file.

    Returns:
        Its info, or None where there is no cell, or none that can be written over.

    Raises:
        PreconditionFailedError: the put's condition does not hold.
    """
    descriptor = _open(path, os.O_RDWR)
    if descriptor is None:
        return None
    try:
        # The key's lock keeps others away. At this one a client of a network file system forgets what it remembered.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        found = _read(put.key, descriptor)
        if found.cell is None or not found.cell.fits(put.body) or found.links != 1:
            return None
        check_found(put.key, found.info, if_absent=put.if_absent, if_match=put.if_match)
        if tree.fsync and tree.certain.pop(put.key, None) != found.info.etag:
            _make_certain(descriptor, path, found.cell)
        version = Version(found.cell.newest.serial + 1, put.body)
        _write(descriptor, format_version(version), found.cell.spare)
        if tree.fsync:
            _wait(descriptor)
        info = info_of(put.key, date_from(descriptor, found.info), tag=version.tag, size=len(put.body))
        if tree.fsync:
            tree.certain[put.key] = info.etag
        return info
    finally:
        os.close(descriptor)


def remove_cell(path: str) -> bool:
    """Remove the cell of a file, and return whether there was one."""
    if not can_be_cell(path):
        return False
    try:
        os.unlink(cell_path(path))
    except OSError as error:
        if error.errno in _NO_CELL:
            return False
        raise
    return True


def _open(path: str, flags: int) -> int | None:
    """Open the cell of a file, or return None where there is none, or none that may be opened so."""
    if not can_be_cell(path):
        return None
    try:
        return os.open(cell_path(path), flags)
    except OSError as error:
        if error.errno in _NO_CELL or (flags == os.O_RDWR and isinstance(error, PermissionError)):
            return None
        raise


def _make_certain(descriptor: int, path: str, cell: Cell) -> None:
    _write(descriptor, format_version(cell.newest), cell.at)
    _wait(descriptor)
    fsync_directory(path[: path.rindex("/")])


def _wait(descriptor: int) -> None:
    """Wait until the bytes of a file are on the disk; its times need not be. Not every system can tell these apart."""
    (os.fdatasync if hasattr(os, "fdatasync") else os.fsync)(descriptor)


def _write(descriptor: int, data: bytes, position: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written


def _read(key: str, descriptor: int) -> _Found:
    data = _read_all(descriptor)
    while True:
        status = os.fstat(descriptor)
        cell = parse_cell(data)
        if cell is not None and cell.has_both:
            break
        again = _read_all(descriptor)
        if again == data:
            break
        data = again
    if cell is None:
        return _Found(data, info_of(key, status), None, status.st_nlink)
    newest = cell.newest
    info = info_of(key, status, tag=newest.tag, size=len(newest.body))
    return _Found(newest.body, info, cell, status.st_nlink)


def _read_all(descriptor: int) -> bytes:
    data = os.pread(descriptor, _READ_BYTES, 0)
    if len(data) < _READ_BYTES:
        return data
    pieces = [data]
    while data := os.pread(descriptor, _READ_BYTES, sum(map(len, pieces))):
        pieces.append(data)
    return b"".join(pieces)
