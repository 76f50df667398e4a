"""Archive: the members of a tarball, one after another, read as npm reads them, without unpacking to a disk.

Rules:

- Gzip, of one or more members, or a plain archive. ustar, PAX and GNU names.
- What readers disagree on is refused rather than read in one of the ways: a header with a wrong checksum (npm goes on
  behind it, others stop), two sizes, links with content or without a target, other members with a target, sparse files,
  global headers that name a file. One empty block is passed over, two are the end.
- Bounded, piece by piece: unpacked bytes, their ratio to the packed ones, members, the size of names. What is beyond is
  refused; memory is that of one piece, and of the content that the caller takes.
- Whatever the bytes are, there is one error: `UpstreamProtocolError`.

What it does not do: verify the bytes (`mirrorwitness.npm.spool`). It blocks: use it in a thread.

SPEC: POSIX pax interchange format; npm's ``tar`` (7.5), against which random archives were compared.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.storage import Body

__all__ = ["Archive", "Header", "refuse"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MAX_UNPACKED_BYTES: Final = 8 * GIB
"""Most bytes that are unpacked: four times the largest tarball that is taken by default, half a minute's work."""

MAX_RATIO: Final = 250
"""Most unpacked bytes for one packed. Text packs to a tenth; deflate itself ends at 1,032."""

FREE_BYTES: Final = 16 * MIB
"""Unpacked bytes of which no ratio is asked: small archives of many almost empty files pack extremely well."""

MAX_MEMBERS: Final = 500_000
"""Most members; real packages have some ten thousand, a few some hundred thousand."""

MAX_META_BYTES: Final = 1 * MIB
"""Largest extended header or long name: npm's own limit."""

_READ_BYTES: Final = 256 * KIB
_UNPACK_BYTES: Final = 1 * MIB
_BLOCK: Final = 512
_EMPTY: Final = bytes(_BLOCK)
_GZIP: Final = 31  # zlib's window bits for gzip framing
_GZIP_MAGIC: Final = b"\x1f\x8b"
_LINK_TYPES: Final = frozenset({b"1", b"2"})
_ODD_TYPES: Final = frozenset({b"S", b"M", b"D"})
"""Sparse files, files of several volumes, and lists of directories (GNU): some readers unpack them, npm does not."""

_DIRECTORY: Final = b"5"
_OCTAL: Final = re.compile(rb"[0-7]*")
_LENGTH: Final = re.compile(rb"([1-9][0-9]{0,6}) ")
_SHOWN: Final = 100
_FILE_TYPES: Final = frozenset({b"0", b"\0", b"7"})


@dataclass(frozen=True, slots=True)
class Header:
    """One member's header, with what extended headers before it say.

    Attributes:
        name: its name, as it stands there.
        size: bytes of its content.
        kind: its type, one byte.
        target: what a link leads to.
    """

    name: bytes
    size: int
    kind: bytes
    target: bytes = b""

    @property
    def is_directory(self) -> bool:
        """Whether it is a directory: also a file of old programs whose name ends in a slash."""
        return self.kind == _DIRECTORY or self.name.endswith(b"/")

    @property
    def is_file(self) -> bool:
        """Whether it is a file, and no link, device or directory."""
        return self.kind in _FILE_TYPES and not self.is_directory


class Archive:
    """The members of an archive.

    Args:
        body: the tarball, or the path of one.

    Attributes:
        members: how many headers were given so far.
    """

    def __init__(self, body: Body) -> None:
        self._unpacked = _Unpacked(_read_packed(body))
        self._left = 0
        self.members = 0

    def headers(self) -> Iterator[Header]:
        """Give the header of each member; its content may be taken before the next one is asked for.

        Raises:
            UpstreamProtocolError: it is no archive that every reader reads in the same way, or it is beyond a limit.
        """
        extended: dict[bytes, bytes] = {}
        while (block := self._next_block()) is not None:
            header = _parse_header(block)
            if header.kind in b"xXgLNK":
                self._take_extended(header, extended)
                continue
            header = _extend(header, extended)
            extended = {}
            self.members += 1
            if self.members > MAX_MEMBERS:
                raise refuse(f"more than {MAX_MEMBERS} members")
            self._left = _find_content(header)
            yield header
            self._pass(self._left)

    def take_content(self, header: Header) -> bytes:
        """Return the content of the member whose header came last.

        Raises:
            UpstreamProtocolError: it ends too early.
        """
        content = self._unpacked.take(header.size)
        if len(content) < header.size:
            raise refuse(f"it ends in the middle of {header.name[:_SHOWN]!r}")
        self._left -= header.size
        return content

    def _next_block(self) -> bytes | None:
        """Return the next header; None at the end, which is two empty blocks or nothing more."""
        block = self._unpacked.take(_BLOCK)
        if block == _EMPTY:
            block = self._unpacked.take(_BLOCK)
        if not block:
            return None
        if block == _EMPTY:
            self._drain()
            return None
        if len(block) < _BLOCK:
            raise refuse("it ends in the middle of a header")
        return block

    def _drain(self) -> None:
        """Read to the end: broken gzip behind the archive is what clients stumble over too."""
        while self._unpacked.skip(_UNPACK_BYTES):
            pass

    def _pass(self, size: int) -> None:
        if self._unpacked.skip(size) < size:
            raise refuse("it ends in the middle of a member")

    def _take_extended(self, header: Header, extended: dict[bytes, bytes]) -> None:
        if header.size > MAX_META_BYTES:
            raise refuse(f"an extended header of {header.size} bytes, more than {MAX_META_BYTES}")
        content = self._unpacked.take(header.size)
        if len(content) < header.size:
            raise refuse("it ends in the middle of an extended header")
        self._pass(_round_up(header.size) - header.size)
        if header.kind in b"LNK":
            extended[b"linkpath" if header.kind == b"K" else b"path"] = _text(content)
        elif header.kind == b"g":
            records = _parse_pax(content)
            if records.keys() & {b"path", b"size"}:
                raise refuse("a global header names a file or a size, which npm passes over and others do not")
        else:
            extended |= _parse_pax(content)


class _Unpacked:
    """The archive's bytes, unpacked as they are asked for."""

    def __init__(self, packed: Iterator[bytes]) -> None:
        self._packed = packed
        self._packed_size = 0
        self._size = 0
        self._pieces = self._unpack()
        self._rest = memoryview(b"")

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes; fewer at the end."""
        if len(self._rest) >= size:  # the usual case: a header within one piece
            found, self._rest = self._rest[:size], self._rest[size:]
            return bytes(found)
        taken = bytearray()
        for piece in self._up_to(size):
            taken += piece
        return bytes(taken)

    def skip(self, size: int) -> int:
        """Pass over `size` bytes; return how many there were."""
        return sum(len(piece) for piece in self._up_to(size))

    def _up_to(self, size: int) -> Iterator[memoryview]:
        while size:
            if not self._rest:
                self._rest = memoryview(next(self._pieces, b""))
                if not self._rest:
                    return
            piece, self._rest = self._rest[:size], self._rest[size:]
            size -= len(piece)
            yield piece

    def _unpack(self) -> Iterator[bytes]:
        packed = self._next()
        if not packed.startswith(_GZIP_MAGIC):
            while packed:
                yield self._count(packed)
                packed = self._next()
            return
        unpacker = zlib.decompressobj(_GZIP)
        while packed:
            if unpacker.eof:
                if not packed.startswith(_GZIP_MAGIC[:1]):
                    return  # what lies behind the last member is nobody's
                unpacker = zlib.decompressobj(_GZIP)
            try:
                piece = unpacker.decompress(packed, _UNPACK_BYTES)
            except zlib.error as error:
                raise refuse(f"broken gzip: {error}") from error
            if piece:
                yield self._count(piece)
            packed = (unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail) or self._next()
        if not unpacker.eof:
            raise refuse("the gzip ends in the middle")

    def _next(self) -> bytes:
        packed = next(self._packed, b"")
        self._packed_size += len(packed)
        return packed

    def _count(self, piece: bytes) -> bytes:
        self._size += len(piece)
        if self._size > min(MAX_UNPACKED_BYTES, FREE_BYTES + MAX_RATIO * self._packed_size):
            raise refuse(
                f"{self._packed_size} bytes unpack to more than {self._size}: expected at most {MAX_RATIO} times as"
                f" many and {MAX_UNPACKED_BYTES} in all"
            )
        return piece


def _read_packed(body: Body) -> Iterator[bytes]:
    if isinstance(body, Path):
        with body.open("rb") as file:
            while piece := file.read(_READ_BYTES):
                yield piece
    else:
        for start in range(0, len(body), _READ_BYTES):
            yield body[start : start + _READ_BYTES]


def _parse_header(block: bytes) -> Header:
    expected = _parse_number(block[148:156], "checksum")
    if sum(block) - sum(block[148:156]) + 8 * 0x20 != expected:
        raise refuse(f"the checksum of the header of {_text(block[:100])!r} is wrong")
    name = _text(block[:100])
    if block[257:265] == b"ustar\x0000":
        prefix = _text(block[345 : 500 if block[475] else 475])
        name = prefix + b"/" + name if prefix else name
    return Header(name, _parse_number(block[124:136], "size"), block[156:157], _text(block[157:257]))


def _parse_number(field: bytes, what: str) -> int:
    if field[0] == 0x80:  # noqa: PLR2004 - GNU's mark of a binary number that is not negative
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not _OCTAL.fullmatch(digits):
        raise refuse(f"the {what} {field!r} is no octal number")
    return int(digits or b"0", 8)


def _parse_pax(content: bytes) -> dict[bytes, bytes]:
    """Read the records of an extended header.

    npm's reader splits them at newlines, whatever their length says: what could be two things there is refused.
    """
    records: dict[bytes, bytes] = {}
    while content:
        found = _LENGTH.match(content)
        length = int(found[1]) if found else 0
        record, content = content[:length], content[length:]
        key, equals, value = record[found.end() : -1].partition(b"=") if found else (b"", b"", b"")
        if not equals or len(record) < length or not record.endswith(b"\n"):
            raise refuse(f"an extended header has the record {record[:_SHOWN]!r}")
        is_double = b"\n" in value and (key in {b"path", b"size"} or b"path=" in value or b"size=" in value)
        if is_double or key.startswith(b"GNU.sparse"):
            raise refuse(f"an extended header has {key[:_SHOWN]!r}, which readers do not agree on")
        records[key] = value
    return records


def _extend(header: Header, extended: dict[bytes, bytes]) -> Header:
    name = extended.get(b"path", header.name)
    if not name or b"\0" in name:
        raise refuse(f"a member is called {name[:_SHOWN]!r}")
    size = extended.get(b"size", b"%d" % header.size)
    if size != b"%d" % header.size:
        raise refuse(f"{name[:_SHOWN]!r} has two sizes, {size[:_SHOWN]!r} and {header.size}")
    is_link = header.kind in _LINK_TYPES
    if bool(header.target) != is_link or (extended.get(b"linkpath") and not is_link):
        raise refuse(f"{name[:_SHOWN]!r} is of type {header.kind!r}, with the target {header.target[:_SHOWN]!r}")
    return Header(name, header.size, header.kind)


def _find_content(header: Header) -> int:
    """Return how many bytes follow a header, with what fills the last block."""
    if header.kind in _ODD_TYPES or (header.kind in _LINK_TYPES and header.size):
        raise refuse(f"{header.name[:_SHOWN]!r} is of type {header.kind!r} with {header.size} bytes")
    return 0 if header.kind == _DIRECTORY else _round_up(header.size)


def _round_up(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def refuse(reason: str) -> UpstreamProtocolError:
    """Return the error for a tarball that is not read any further."""
    return UpstreamProtocolError(f"tarball: {reason}")
