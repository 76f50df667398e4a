"""The files of a bundle: a directory, or one uncompressed tar.

Rules:

- A bundle has the names of `mirrorwitness.mirror.bundle` and no others. Nothing is ever unpacked to a path that a
  bundle names, so there is no path to escape through.
- A tar is taken only as `TarWriter` writes it: plain files, each header with the one spelling that its name and size
  have, zeros between, two blocks of zeros at the end and nothing behind them. So no bit of it can change unnoticed,
  and a file that was cut is one without its end.
- The manifest is written last: where a writer died there is no bundle yet, and what there is has another name.
- Sizes are those of headers and files; what is read of an object is never more.

What it does not do: verify a digest (`mirrorwitness.mirror.bundlecheck`).

SPEC: POSIX ustar, regular files alone, at most 8 GiB each.
"""

from __future__ import annotations

import os
import re
import shutil
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    StorageRefusedError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror.bundle import MANIFEST, NOTE, SUM

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from mirrorwitness.storage import Body

__all__ = ["BundleFile", "BundleWriter", "open_bundle_file", "open_writer"]

MAX_ENTRIES: Final = 2_000_000
"""Most files of a bundle: three for each of the versions that a manifest can have, and room; 200 MB of names."""

_MAX_SIZE: Final = 8**11 - 1

_BLOCK: Final = 512
_END: Final = 2 * _BLOCK
_PIECE: Final = 1024 * 1024
_NAME: Final = re.compile(rf"{MANIFEST}(?:\.sha256|\.note)?|objects/[0-9a-f]{{64}}")
_SIZE: Final = re.compile(rb"[0-7]{11}")
_TAR: Final = ".tar"
_PARTIAL: Final = ".partial"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the bytes of an entry are."""

    path: Path
    start: int
    size: int


class BundleFile:
    """A bundle that can be read; made by `open_bundle_file`. May be used by several tasks at once.

    Attributes:
        path: where it is.
        sizes: the size of each of its files, by name.
    """

    def __init__(self, path: Path, places: dict[str, _Place]) -> None:
        self.path = path
        self.sizes = {name: place.size for name, place in places.items()}
        self._places = places

    def __repr__(self) -> str:
        return f"<BundleFile {self.path}, {len(self._places)} files>"

    async def read(self, name: str, *, limit: int) -> bytes:
        """Return a file of at most `limit` bytes.

        Raises:
            UpstreamNotFoundError: it is not there.
            UpstreamProtocolError: it is larger.
            UpstreamUnreachableError: it cannot be read.
        """
        size = self.sizes.get(name, 0)
        if size > limit:
            raise UpstreamProtocolError(f"{self.path}: {name} has {size:,} bytes, expected at most {limit:,}")
        pieces: list[bytes] = []
        async with self.open(name) as reader:
            while piece := await reader.receive_some():
                pieces.append(piece)
        return b"".join(pieces)

    @asynccontextmanager
    async def open(self, name: str) -> AsyncGenerator[_Reader]:
        """Open a file for streaming.

        Raises:
            UpstreamNotFoundError: it is not there.
            UpstreamUnreachableError: it cannot be opened.
        """
        place = self._places.get(name)
        if place is None:
            raise UpstreamNotFoundError(f"{self.path}: {name} is not there")
        with _reading(self.path):
            file = await trio.to_thread.run_sync(_open, place.path)
        try:
            yield _Reader(file, place, name)
        finally:
            file.close()


class _Reader:
    """The bytes of one file, in order."""

    def __init__(self, file: BinaryIO, place: _Place, name: str) -> None:
        self._file = file
        self._name = name
        self._path = place.path
        self._left = place.size
        self._at = place.start

    async def receive_some(self) -> bytes:
        """Return the next piece, or ``b""`` at the end.

        Raises:
            UpstreamUnreachableError: it cannot be read, or has become shorter.
        """
        wanted = min(_PIECE, self._left)
        with _reading(self._path):
            piece = await trio.to_thread.run_sync(os.pread, self._file.fileno(), wanted, self._at)
        if len(piece) < wanted:
            raise UpstreamUnreachableError(f"{self._path}: {self._name} is cut off; it was longer when it was opened")
        self._at += wanted
        self._left -= wanted
        return piece


async def open_bundle_file(path: Path) -> BundleFile:
    """Find the files of a bundle.

    Raises:
        ConfigurationError: there is nothing.
        UpstreamProtocolError: it is no bundle, or a damaged one; the message says where.
        UpstreamUnreachableError: it cannot be read, or is cut off.
    """
    with _reading(path):
        places = await trio.to_thread.run_sync(_scan, path)
    if MANIFEST not in places or SUM not in places:
        raise UpstreamProtocolError(f"{path}: no bundle: {MANIFEST} or {SUM} is missing; an export writes them last")
    return BundleFile(path, places)


class BundleWriter(Protocol):
    """Writes a bundle."""

    async def put(self, name: str, body: Body) -> None:
        """Write one file; one that is there already is left as it is.

        Raises:
            ConfigurationError: it is too large for a bundle.
            StorageRefusedError: the disk is full, or not writable.
        """
        ...


@asynccontextmanager
async def open_writer(path: Path) -> AsyncGenerator[BundleWriter]:
    """Open a bundle for writing; it is there when the block ends well, and never before.

    Args:
        path: a name that ends in ``.tar`` is a tar, any other a directory.

    Raises:
        ConfigurationError: something is there already.
        StorageRefusedError: the disk is full, or not writable.
    """
    partial = path.with_name(path.name + _PARTIAL)
    with _writing(path):
        writer = await trio.to_thread.run_sync(_begin, path, partial)
    try:
        yield writer
        with _writing(path):
            await trio.to_thread.run_sync(_finish, writer, partial, path)
    finally:
        writer.close()
        _remove(partial)


class _TarWriter:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("wb")
        self._names: set[str] = set()

    async def put(self, name: str, body: Body) -> None:
        if name in self._names:
            return
        self._names.add(name)
        with _writing(self._path):
            await trio.to_thread.run_sync(self._append, name, body)

    def finish(self) -> None:
        self._file.write(bytes(_END))
        _sync(self._file)

    def close(self) -> None:
        self._file.close()

    def _append(self, name: str, body: Body) -> None:
        size = len(body) if isinstance(body, bytes) else body.stat().st_size
        self._file.write(_format_header(name, size))
        _copy(body, self._file)
        self._file.write(bytes(-size % _BLOCK))


class _DirectoryWriter:
    def __init__(self, path: Path) -> None:
        self._root = path
        (path / "objects").mkdir(parents=True)

    async def put(self, name: str, body: Body) -> None:
        with _writing(self._root):
            await trio.to_thread.run_sync(self._write, self._root / name, body)

    def finish(self) -> None:
        for path in (self._root / "objects", self._root):
            _sync_directory(path)

    def close(self) -> None:
        """Have nothing open."""

    def _write(self, path: Path, body: Body) -> None:
        if path.exists():
            return
        with path.open("wb") as file:
            _copy(body, file)
            _sync(file)


def _begin(path: Path, partial: Path) -> _TarWriter | _DirectoryWriter:
    if path.exists():
        raise ConfigurationError(f"{path}: is there already; bundles are never replaced")
    _remove(partial)
    return _TarWriter(partial) if path.name.endswith(_TAR) else _DirectoryWriter(partial)


def _finish(writer: _TarWriter | _DirectoryWriter, partial: Path, path: Path) -> None:
    writer.finish()
    partial.rename(path)
    _sync_directory(path.absolute().parent)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _copy(body: Body, file: BinaryIO) -> None:
    if isinstance(body, bytes):
        file.write(body)
        return
    with body.open("rb") as source:
        shutil.copyfileobj(source, file, _PIECE)


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _scan(path: Path) -> dict[str, _Place]:
    if not path.exists():
        raise ConfigurationError(f"{path}: no such file or directory")
    return _scan_directory(path) if path.is_dir() else _scan_tar(path)


def _scan_directory(root: Path) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    for folder in (root, root / "objects"):
        if not folder.is_dir():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name if folder == root else f"objects/{entry.name}"
                if name == "objects" and entry.is_dir(follow_symlinks=False):
                    continue
                _check_entry(root, name, places, is_file=entry.is_file(follow_symlinks=False))
                places[name] = _Place(Path(entry.path), 0, entry.stat(follow_symlinks=False).st_size)
    return places


def _scan_tar(path: Path) -> dict[str, _Place]:
    places: dict[str, _Place] = {}
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        at = 0
        while (header := os.pread(file.fileno(), _BLOCK, at)) != bytes(_BLOCK):
            name, size = _parse_header(path, header, at)
            _check_entry(path, name, places, is_file=True)
            start, at = at + _BLOCK, at + _BLOCK + size + -size % _BLOCK
            if at > total:
                raise UpstreamUnreachableError(f"{path}: cut off at byte {total:,}, within {name} of {size:,} bytes")
            if os.pread(file.fileno(), -size % _BLOCK, start + size) != bytes(-size % _BLOCK):
                raise UpstreamProtocolError(f"{path}: something stands behind {name}, before byte {at:,}")
            places[name] = _Place(path, start, size)
        if os.pread(file.fileno(), _END + 1, at) != bytes(_END):
            raise UpstreamProtocolError(f"{path}: expected its end at byte {at:,}: two blocks of zeros, nothing more")
    return places


def _check_entry(path: Path, name: str, places: dict[str, _Place], *, is_file: bool) -> None:
    if not is_file or not _NAME.fullmatch(name):
        raise UpstreamProtocolError(
            f"{path}: {ascii(name)[:100]} has no place in a bundle: expected {MANIFEST}, {SUM}, {NOTE} and "
            "objects/<sha256>, all of them plain files"
        )
    if name in places:
        raise UpstreamProtocolError(f"{path}: {name} is there twice")
    if len(places) >= MAX_ENTRIES:
        raise UpstreamProtocolError(f"{path}: more than {MAX_ENTRIES:,} files")


def _parse_header(path: Path, header: bytes, at: int) -> tuple[str, int]:
    if len(header) < _BLOCK:
        raise UpstreamUnreachableError(f"{path}: cut off at byte {at + len(header):,}: its end is missing")
    name = header[:100].partition(b"\0")[0].decode("ascii", "replace")
    digits = header[124:135]
    size = int(digits, 8) if _SIZE.fullmatch(digits) else -1
    if size < 0 or header != _format_header(name, size):
        raise UpstreamProtocolError(
            f"{path}: at byte {at:,} stands no header as an export writes it, but {header[:40]!r}…; a tar that another "
            "program made of a bundle's directory is not taken: import the directory"
        )
    return name, size


def _format_header(name: str, size: int) -> bytes:
    """Return the one header that a file of this name and size has."""
    if size > _MAX_SIZE:
        raise ConfigurationError(f"{name} has {size:,} bytes, more than the {_MAX_SIZE:,} that fit into a tar")
    fields = (
        name.encode("ascii", "replace").ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        b"%011o\0" % size,
        b"00000000000\0",
        b" " * 8,
        b"0".ljust(101, b"\0"),
        b"ustar\x0000".ljust(72, b"\0"),
        b"0000000\0" * 2,
    )
    header = b"".join(fields).ljust(_BLOCK, b"\0")
    return header[:148] + b"%06o\0 " % sum(header) + header[156:]


@contextmanager
def _reading(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise UpstreamUnreachableError(f"{path}: cannot be read: {error.strerror}") from error


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StorageRefusedError(f"{path}: cannot be written: {error.strerror}") from error
