"""The directory of a `file:` storage while one process has it open: marker, session, locks, errors. Blocking.

    <root>/.mirrorwitness             the marker: format of the names
    <root>/.lock/00 … 3f              locked while an object is replaced; a key's stripe is a hash of it
    <root>/.tmp/lock                  locked while a session begins or is swept
    <root>/.tmp/<host>.<pid>.<token>  temporary files of one session, on the file system of the objects
    <root>/.tmp/<…>.lock              locked by that session as long as it lives
    <root>/npm/…                      objects

Rules:

- A name that begins with a dot is never an object: `check_key` allows none.
- Locks are ``flock``: the kernel releases them when their holder dies, however it dies, and they hold between all
  processes of one machine, whatever their process-id namespace. Over NFS they hold where the server does locks (v4).
- A session's leftovers are swept when its lock can be taken. One of another host has to be a day old as well, because
  an NFS mount with ``nolock`` would show every foreign session as dead.
- A directory that cannot be written is opened for reading.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import platform
import re
import secrets
import shutil
import time
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, StorageRefusedError, StorageUnavailableError
from mirrorwitness.storage.local_names import MARKER_NAME, Names, encode_component, format_marker, parse_marker

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

__all__ = ["Tree", "close_tree", "fsync_directory", "key_lock", "open_tree", "storage_errors"]

LOCK_STRIPES: Final = 64
"""Lock files for replacing objects: enough that 32 threads seldom meet, few enough to keep them for ever."""

FOREIGN_SESSION_SECONDS: Final = 24 * 3600.0
"""Age at which another host's unlocked session counts as dead; no upload of one object takes a day."""

_IGNORED_AT_ROOT: Final = frozenset({"lost+found"})
"""What a fresh file system has at its root; such a directory still counts as empty."""

_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})

_REFUSED: Final = {
    errno.ENOSPC: "the disk is full; free some space, what is stored is intact",
    errno.EDQUOT: "the quota is used up; raise it or free some space, what is stored is intact",
    errno.EROFS: "the file system is read-only; mount it writable",
    errno.EACCES: "permission denied; run as the directory's owner or change its mode",
    errno.EPERM: "permission denied; run as the directory's owner or change its flags",
    errno.EFBIG: "the file system or `ulimit -f` allows no file of this size",
    errno.ENAMETOOLONG: "this disk allows no name of this length",
    errno.EISDIR: "a directory stands where the object belongs; no key may be the directory of another",
    errno.ENOTDIR: "a file stands where a directory belongs; no key may be the directory of another",
    errno.EEXIST: "a file stands where a directory belongs; no key may be the directory of another",
    errno.ENOLCK: "this file system does no locks; mount it with locking, or use another",
    errno.EOPNOTSUPP: "this file system lacks an operation that the storage needs (locks); use another",
}
"""What the operator can do about an error number; all others are `StorageUnavailableError`."""


@dataclass(frozen=True, slots=True)
class Tree:
    """One open directory.

    Attributes:
        root: the directory.
        names: how its components are written.
        fsync: whether writes wait for the disk.
        session: where this process's temporary files go; None where the directory is open for reading only.
        session_lock: the descriptor that holds the session's lock.
        certain: key → etag of what this session wrote into a cell, and knows to be on the disk, with the name of the
            file; one entry for each such object. Changed under the key's lock (`mirrorwitness.storage.local_cells`).

    Files are named by plain text here: of a small put, `pathlib` was a third of the processor time.
    """

    root: Path
    names: Names
    fsync: bool
    session: Path | None
    session_lock: int | None
    certain: dict[str, str] = field(default_factory=dict[str, str], repr=False)
    _serial: Iterator[int] = field(default_factory=itertools.count, repr=False)

    def path(self, key: str) -> str:
        """Return the file of a key that `check_key` has seen."""
        if self.names is Names.PLAIN:
            return f"{self.root}/{key}"
        return f"{self.root}/{'/'.join(encode_component(part, self.names) for part in key.split('/'))}"

    def temporary(self, key: str) -> str:
        """Return a path for a temporary file that this session, whose directory nobody shares, has not used.

        Raises:
            StorageRefusedError: the directory is open for reading only.
        """
        self.check_writable(key)
        return f"{self.session}/{next(self._serial)}"

    def check_writable(self, key: str) -> None:
        """Check that this session may write.

        Raises:
            StorageRefusedError: the directory is open for reading only.
        """
        if self.session is None:
            raise StorageRefusedError(f"cannot write {key} in {self.root}: the directory is read-only for us")


@contextmanager
def storage_errors(what: str) -> Generator[None, None, None]:
    """Let only storage errors out: the one table from error numbers to them is `_REFUSED`."""
    try:
        yield
    except OSError as error:
        advice = _REFUSED.get(error.errno or 0)
        if advice:
            raise StorageRefusedError(f"cannot {what}: {advice}") from error
        raise StorageUnavailableError(f"cannot {what}: {error.strerror or error}") from error


def fsync_directory(path: str) -> None:
    """Wait until a directory's entries are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def key_lock(tree: Tree, key: str) -> Generator[None, None, None]:
    """Hold the lock under which a key's object is compared and replaced, between threads and processes."""
    stripe = zlib.crc32(key.encode()) % LOCK_STRIPES
    with _locked(f"{tree.root}/.lock/{stripe:02x}"):
        yield


def open_tree(root: Path, *, fsync: bool, names: Names | None) -> Tree:
    """Open a directory, making it where it is missing, and sweep what dead sessions left.

    Args:
        root: the directory.
        fsync: whether writes wait for the disk.
        names: the format to use for a new directory; None finds out what the disk can tell apart.

    Raises:
        ConfigurationError: it is no directory, holds something else, or its format does not fit the disk or `names`.
        StorageError: the disk failed.
    """
    with storage_errors(f"open the storage directory {root}"):
        try:
            (root / ".tmp").mkdir(parents=True, exist_ok=True)
            (root / ".lock").mkdir(exist_ok=True)
            lock = os.open(root / ".tmp/lock", os.O_RDWR | os.O_CREAT, 0o666)
        except (FileExistsError, NotADirectoryError) as error:
            raise ConfigurationError(f"the storage {root} is not a directory") from error
        except OSError as error:
            if error.errno not in _READ_ONLY:
                raise
            return Tree(root, _read_marker(root, names), fsync, None, None)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            return _begin_session(root, fsync=fsync, names=names)
        finally:
            os.close(lock)


def close_tree(tree: Tree) -> None:
    """End the session: remove its temporary files and its lock."""
    if tree.session is not None and tree.session_lock is not None:
        shutil.rmtree(tree.session, ignore_errors=True)
        tree.session.with_name(f"{tree.session.name}.lock").unlink(missing_ok=True)
        os.close(tree.session_lock)


def _begin_session(root: Path, *, fsync: bool, names: Names | None) -> Tree:
    host = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:64]
    _sweep(root / ".tmp", host)
    session = root / ".tmp" / f"{host}.{os.getpid()}.{secrets.token_hex(4)}"
    descriptor = os.open(f"{session}.lock", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        session.mkdir()
        if not (root / MARKER_NAME).exists():
            _write_marker(root, session, names or _probe_names(session))
        return Tree(root, _read_marker(root, names), fsync, session, descriptor)
    except BaseException:
        shutil.rmtree(session, ignore_errors=True)
        session.with_name(f"{session.name}.lock").unlink()
        os.close(descriptor)
        raise


def _sweep(directory: Path, host: str) -> None:
    """Remove the sessions whose owners are dead. The caller holds ``.tmp/lock``, so none is just beginning."""
    for lock in directory.glob("*.*.*.lock"):
        session = lock.with_suffix("")
        is_ours = lock.name.startswith(f"{host}.")
        if is_ours or time.time() - lock.stat().st_mtime > FOREIGN_SESSION_SECONDS:
            descriptor = os.open(lock, os.O_RDWR)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(session, ignore_errors=True)
                lock.unlink()
            except BlockingIOError:
                pass  # its owner lives
            finally:
                os.close(descriptor)


def _probe_names(session: Path) -> Names:
    """Find out whether the disk tells all names apart: letters of either case, and two spellings of one accent."""
    for written, asked in (("case", "CASE"), ("caf\u00e9", "cafe\u0301")):
        (session / written).touch()
        if (session / asked).exists():
            return Names.ESCAPED
    return Names.PLAIN


def _write_marker(root: Path, session: Path, names: Names) -> None:
    with os.scandir(root) as entries:
        found = next((each.name for each in entries if _is_foreign(each.name)), None)
    if found is not None:
        raise ConfigurationError(
            f"the storage directory {root} holds {found!r} and has no {MARKER_NAME} file, so it is not one of ours; "
            f"name an empty directory, or, where it is a copy of a storage, copy {MARKER_NAME} too"
        )
    temporary = session / "marker"
    with temporary.open("wb") as file:
        file.write(format_marker(names))
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(root / MARKER_NAME)
    fsync_directory(str(root))


def _is_foreign(name: str) -> bool:
    return not name.startswith(".") and name not in _IGNORED_AT_ROOT


def _read_marker(root: Path, names: Names | None) -> Names:
    path = root / MARKER_NAME
    try:
        found = parse_marker(path.read_bytes(), path=str(path))
    except FileNotFoundError as error:
        raise ConfigurationError(
            f"{root} is not a mirrorwitness storage (no {path.name}) and cannot be written"
        ) from error
    if names not in {None, found}:
        raise ConfigurationError(f"the storage {root} has {found} names, not {names}; a tree keeps its format for life")
    if found is Names.PLAIN and (root / MARKER_NAME.upper()).exists():
        raise ConfigurationError(
            f"the storage {root} was written on a disk that tells upper from lower case, and this one does not: names "
            "such as Buffer and buffer would mix; copy it with `mirrorwitness sync` into a new directory here"
        )
    return found


@contextmanager
def _locked(path: str) -> Generator[None, None, None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
