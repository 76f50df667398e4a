"""The etags of a directory storage: made of a file's status, and compared before it is replaced. Blocking.

Rules:

- An etag is made of modification time, size and inode. Because inodes are used again and clocks are coarse, the time is
  written by us: now, and always later than that of the file it replaces. So no etag comes back while an object is
  replaced again and again, and compare-and-swap has no ABA hole.
- Where an object is kept in a cell (`mirrorwitness.storage.local_cells`), which stays one file from version to version,
  it has the version's tag besides. The file's time is the kernel's then, and moved only where it would go backwards: to
  set it makes the next wait for the disk half as long again.

Known hole: on a disk whose clock ticks in seconds (FAT), an object that is *removed* and written again within one tick
and gets the same inode and size may have its old etag.
"""

from __future__ import annotations

import os
from typing import Final

from mirrorwitness.errors import PreconditionFailedError
from mirrorwitness.storage import ObjectInfo

__all__ = ["check_found", "date_after", "date_from", "info_of"]

_TICKS_NS: Final = (1, 1_000, 1_000_000, 2_000_000_000)
"""Steps by which a modification time is moved past an older one, up to the coarsest clock in use (FAT: 2 s)."""


def info_of(key: str, status: os.stat_result, *, tag: str | None = None, size: int | None = None) -> ObjectInfo:
    """Return what a file's status says of its object.

    Args:
        key: the object's key.
        status: of its file.
        tag: of the version, where the file is a cell.
        size: the object's length in bytes, where it is not the file's.
    """
    etag = f"{status.st_mtime_ns:x}-{status.st_size:x}-{status.st_ino:x}"
    if tag is not None:
        etag = f"{etag}-{tag}"
    return ObjectInfo(key, status.st_size if size is None else size, etag)


def check_found(key: str, found: ObjectInfo | None, *, if_absent: bool, if_match: str | None) -> None:
    """Check the condition of a put against what is there.

    Raises:
        PreconditionFailedError: it does not hold.
    """
    if if_absent and found is not None:
        raise PreconditionFailedError(f"{key} exists already, with etag {found.etag}")
    if if_match is not None and (found is None or found.etag != if_match):
        raise PreconditionFailedError(f"{key} should have etag {if_match}, has {found.etag if found else 'no object'}")


def date_after(descriptor: int, found: ObjectInfo | None) -> os.stat_result:
    """Move a file's time past that of what it replaces, by the smallest step that its disk holds; return its status."""
    older_ns = _time_of(found)
    for tick in _TICKS_NS:
        status = os.fstat(descriptor)
        if status.st_mtime_ns > older_ns:
            return status
        os.utime(descriptor, ns=(older_ns + tick, older_ns + tick))
    return os.fstat(descriptor)


def date_from(descriptor: int, found: ObjectInfo) -> os.stat_result:
    """Move a file's time up to that of what it had before, where it lies before that; return its status."""
    older_ns = _time_of(found)
    status = os.fstat(descriptor)
    if status.st_mtime_ns >= older_ns:
        return status
    os.utime(descriptor, ns=(older_ns, older_ns))
    return os.fstat(descriptor)


def _time_of(found: ObjectInfo | None) -> int:
    return int(found.etag.partition("-")[0], 16) if found else 0
