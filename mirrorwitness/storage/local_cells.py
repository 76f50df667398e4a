"""The cells of a directory storage: objects that are replaced durably with one short wait. Blocking.

The first object of a pair (`mirrorwitness.storage.Storage.put_pair`) is kept in a cell (`mirrorwitness.storage.cell`):
of a key ``a/b`` in the file ``a/.b.cell``. Who reads, lists or replaces objects need not know.

Rules:

- A plain file beside a cell counts, and the cell does not: a put writes the one, then removes the other. So a reader
  looks for the file, for the cell, and for the file again (`mirrorwitness.storage.local_files`).
- A version is compared and written under the key's lock, which is held until it is on the disk: what it goes over is
  older than a version that is there for certain.
- A cell is written over where the new version fits, and nobody else has the file (a copy made of hard links would
  change with it). It is made anew otherwise, as plain files are.
- A version that the disk refused is made unreadable, so that the one before it counts on.
- A reader takes no lock. It reads until it has read the same twice: that was there at one time.

*Cost*: one wait of about a tenth of a millisecond, where replacing a file takes two of three times as long (ADR 0032).
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.storage import MAX_COMPONENT_BYTES
from mirrorwitness.storage.cell import Version, format_version, parse_cell
from mirrorwitness.storage.local_etags import check_found, info_of

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo, Put
    from mirrorwitness.storage.cell import Cell
    from mirrorwitness.storage.local_tree import Tree

__all__ = ["can_be_cell", "cell_path", "name_of_cell", "overwrite_cell", "read_cell", "remove_cell"]

_READ_BYTES: Final = 65_536
"""Read at once, as every system call lets other threads have the interpreter: more than a usual cell has."""

_SUFFIX: Final = ".cell"
"""Behind the name, as a dot is before it: no key has a component that begins with one."""


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
    found = name[1 : -len(_SUFFIX)]
    return found if found and name == f".{found}{_SUFFIX}" else None


def read_cell(key: str, path: str) -> tuple[bytes, ObjectInfo] | None:
    """Return the object in the cell of a file, or None where there is no cell.

    Where no version in it counts, the object is the file as it is: whoever knows what it should be sees the damage.
    """
    descriptor = _open(path, os.O_RDONLY)
    if descriptor is None:
        return None
    try:
        found = _read(key, descriptor, is_locked=False)
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
        found = _read(put.key, descriptor, is_locked=True)
        if found.cell is None or not found.cell.fits(put.body) or found.links != 1:
            return None
        check_found(put.key, found.info, if_absent=put.if_absent, if_match=put.if_match)
        version = Version(found.cell.newest.serial + 1, tree.writer, put.body)
        _write(descriptor, found.cell, version, waits=tree.fsync)
        # Its time is the kernel's: to set it would make the next wait half as long again.
        return info_of(put.key, os.fstat(descriptor), serial=version.serial, size=len(put.body))
    finally:
        os.close(descriptor)


def _open(path: str, flags: int) -> int | None:
    if not can_be_cell(path):
        return None
    try:
        return os.open(cell_path(path), flags)
    except (FileNotFoundError, NotADirectoryError):
        return None


def remove_cell(path: str) -> bool:
    """Remove the cell of a file, and return whether there was one."""
    if not can_be_cell(path):
        return False
    try:
        os.unlink(cell_path(path))
    except FileNotFoundError:
        return False
    return True


def _write(descriptor: int, cell: Cell, version: Version, *, waits: bool) -> None:
    if waits and cell.newest.writer != version.writer:
        os.fdatasync(descriptor)  # nobody says that what stays is on the disk
    _write_at(descriptor, format_version(version), cell.spare)
    if not waits:
        return
    try:
        os.fdatasync(descriptor)
    except OSError:
        with suppress(OSError):
            _write_at(descriptor, bytes(len(format_version(version))), cell.spare)
        raise


def _write_at(descriptor: int, data: bytes, position: int) -> None:
    rest = memoryview(data)
    while rest:
        written = os.pwrite(descriptor, rest, position)
        rest, position = rest[written:], position + written


def _read(key: str, descriptor: int, *, is_locked: bool) -> _Found:
    data = _read_all(descriptor)
    status = os.fstat(descriptor)
    while not is_locked:
        again = _read_all(descriptor)
        if again == data:
            break
        data, status = again, os.fstat(descriptor)
    cell = parse_cell(data)
    if cell is None:
        return _Found(data, info_of(key, status), None, status.st_nlink)
    newest = cell.newest
    info = info_of(key, status, serial=newest.serial, size=len(newest.body))
    return _Found(newest.body, info, cell, status.st_nlink)


def _read_all(descriptor: int) -> bytes:
    data = os.pread(descriptor, _READ_BYTES, 0)
    if len(data) < _READ_BYTES:
        return data
    pieces = [data]
    while data := os.pread(descriptor, _READ_BYTES, sum(map(len, pieces))):
        pieces.append(data)
    return b"".join(pieces)
