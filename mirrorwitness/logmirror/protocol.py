"""What logs send to a log mirror, and what it answers: bytes in, values out.

    add-entries   u16 length, origin / u64 upload_start / u64 upload_end / u16 length, ticket / packages
    a package     entries, each behind its length (u16) / u8 number of hashes / the hashes
    mirror-info   <size of a pending checkpoint> / <next entry> / <base64 of a ticket>, each on a line

Rules:

- All numbers are big-endian. Where packages begin and end follows from the head alone (`package_spans`): each lies in
  one bundle of 256 entries, and the request has them in order, all of them or the first ones.
- A body is parsed as it comes: `UploadParser` holds the bytes of one package at most (`MAX_PACKAGE_BYTES`), and what is
  behind the last one is never looked at.
- `format_head` and `format_package` give back the bytes that were parsed, and so does `format_info`.

What it does not do: judge (`mirrorwitness.logmirror.decision`), unpack (`mirrorwitness.logmirror.inflate`), or HTTP
(`mirrorwitness.server.logmirror`).

SPEC: C2SP tlog-mirror, main as of July 2026 ("add-entries").
"""

from __future__ import annotations

import base64
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import parse_size
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.keys import decode_base64
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_PROOF_HASHES, MAX_SIZE, Hash, Range
from mirrorwitness.tlog.tiles import TILE_WIDTH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

__all__ = [
    "ENTRIES_TYPE",
    "INFO_TYPE",
    "MAX_INFO_BYTES",
    "MAX_PACKAGE_BYTES",
    "MAX_TICKET_BYTES",
    "PACKAGES_PER_REQUEST",
    "MirrorInfo",
    "Package",
    "UploadHead",
    "UploadParser",
    "bundle_start",
    "format_head",
    "format_info",
    "format_package",
    "package_spans",
    "parse_info",
]

ENTRIES_TYPE: Final = "application/octet-stream"
"""Content-Type of a request."""

INFO_TYPE: Final = "text/x.tlog.mirror-info"
"""Content-Type of a 202 and a 409. Exactly this: clients compare it for equality."""

PACKAGES_PER_REQUEST: Final = 32
"""SPEC: "clients SHOULD limit each add-entries request to at most 32 entry packages (8192 entries)"."""

MAX_TICKET_BYTES: Final = 2**16 - 1
"""Longest ticket: its length is two bytes."""

MAX_PACKAGE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES) + 1 + MAX_PROOF_HASHES * HASH_BYTES
"""Largest package in bytes: 16.8 MB, of which most logs need some hundred KB."""

MAX_INFO_BYTES: Final = 128 * 1024
"""Largest mirror-info that is read: two numbers and the base64 of the longest ticket."""

_U16: Final = struct.Struct(">H")
_U64: Final = struct.Struct(">Q")
_SHOWN: Final = 100

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class UploadHead:
    """What comes before the packages; nothing of it is trusted.

    Attributes:
        origin: which log, as it came.
        start: index of the first entry.
        end: size of the pending checkpoint that the packages are proven against.
        ticket: what the mirror gave earlier, or nothing.
    """

    origin: bytes
    start: int
    end: int
    ticket: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Package:
    """Entries of one bundle, and the proof that the bundle is part of the tree; nothing of it is trusted.

    Attributes:
        span: which entries.
        entries: the entries.
        proof: the subtree consistency proof of the bundle up to `span.end`.
    """

    span: Range
    entries: tuple[bytes, ...] = field(repr=False)
    proof: tuple[Hash, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class MirrorInfo:
    """What a mirror says of itself, so that the client can go on.

    Attributes:
        size: of a valid pending checkpoint.
        next_entry: the first entry that the mirror does not have.
        ticket: to be sent back with the next request.
    """

    size: int
    next_entry: int
    ticket: bytes = field(default=b"", repr=False)


def bundle_start(index: int) -> int:
    """Return the index of the first entry of the bundle that an entry lies in."""
    return index - index % TILE_WIDTH


def package_spans(start: int, end: int) -> Iterator[Range]:
    """Yield the entries of each package of a canonical sequence, in order."""
    while start < end:
        after = min(end, bundle_start(start) + TILE_WIDTH)
        yield Range(start, after)
        start = after


def format_head(head: UploadHead) -> bytes:
    """Write what comes before the packages.

    Raises:
        ConfigurationError: origin or ticket are too long, or the numbers are no range of entries.
    """
    if not 0 <= head.start <= head.end <= MAX_SIZE:
        raise ConfigurationError(f"an upload of [{head.start}, {head.end}): expected 0 <= start <= end < 2^63")
    if max(len(head.origin), len(head.ticket)) > MAX_TICKET_BYTES:
        raise ConfigurationError(f"an origin and a ticket have at most {MAX_TICKET_BYTES} bytes")
    numbers = _U64.pack(head.start) + _U64.pack(head.end)
    return _U16.pack(len(head.origin)) + head.origin + numbers + _U16.pack(len(head.ticket)) + head.ticket


def format_package(package: Package) -> bytes:
    """Write a package.

    Raises:
        ConfigurationError: it has not the entries that it says, one is too long, or there are too many hashes.
    """
    span = package.span
    if len(package.entries) != span.end - span.start or len(package.proof) > MAX_PROOF_HASHES:
        raise ConfigurationError(
            f"package {span}: {len(package.entries)} entries and {len(package.proof)} hashes, expected "
            f"{span.end - span.start} and at most {MAX_PROOF_HASHES}"
        )
    if any(len(entry) > MAX_ENTRY_BYTES for entry in package.entries):
        raise ConfigurationError(f"package {span}: an entry has more than {MAX_ENTRY_BYTES} bytes")
    entries = b"".join([_U16.pack(len(entry)) + entry for entry in package.entries])
    return entries + bytes([len(package.proof)]) + b"".join(package.proof)


def format_info(info: MirrorInfo) -> bytes:
    """Write a mirror-info."""
    return b"%d\n%d\n%b\n" % (info.size, info.next_entry, base64.b64encode(info.ticket))


def parse_info(body: bytes) -> MirrorInfo:
    """Read a mirror-info.

    Raises:
        UpstreamProtocolError: it is none; the message says what is wrong.
    """
    lines = body.decode("ascii", "replace").split("\n")
    if len(lines) != 4 or lines.pop():  # noqa: PLR2004 - three lines, and nothing behind the last newline
        raise UpstreamProtocolError("mirror-info: expected a size, a next entry and a ticket, each on a line")
    size, next_entry = parse_size(lines[0], "pending size"), parse_size(lines[1], "next entry")
    ticket = decode_base64(lines[2])
    if ticket is None or len(ticket) > MAX_TICKET_BYTES:
        raise UpstreamProtocolError(f"mirror-info: ticket {lines[2][:_SHOWN]!r}: expected base64")
    return MirrorInfo(size, next_entry, ticket)


class UploadParser:
    """Parses one request as its bytes come: what is given, in pieces of any length, is taken out as values.

    A caller gives pieces until `head` is there, then until `package` is, once for each of `package_spans`.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._at = 0
        self._work: Generator[None, None, object] | None = None
        self._head: UploadHead | None = None

    def __repr__(self) -> str:
        return f"<UploadParser {self._head}, {len(self._buffer)} bytes that are not parsed>"

    def receive(self, piece: bytes) -> None:
        """Take in the next bytes of the body."""
        self._buffer += piece

    def head(self) -> UploadHead | None:
        """Return the head, None where bytes are missing.

        Raises:
            UpstreamProtocolError: it is none: the body has to be given up.
        """
        if self._head is None:
            self._head = self._run(self._parse_head)
        return self._head

    def package(self, span: Range) -> Package | None:
        """Return the package of these entries, None where bytes are missing.

        Raises:
            UpstreamProtocolError: it is none: the body has to be given up.
        """
        return self._run(lambda: self._parse_package(span))

    def _run(self, start: Callable[[], Generator[None, None, _T]]) -> _T | None:
        """Go on with what is being parsed; what was looked at is not looked at again when more bytes are here."""
        if self._work is None:
            self._work = start()
        try:
            next(self._work)
        except StopIteration as done:
            self._work = None
            del self._buffer[: self._at]
            self._at = 0
            found: _T = done.value
            return found
        return None

    def _take(self, count: int) -> Generator[None, None, bytes]:
        while len(self._buffer) - self._at < count:
            yield
        self._at += count
        return bytes(self._buffer[self._at - count : self._at])

    def _take_text(self) -> Generator[None, None, bytes]:
        (length,) = _U16.unpack((yield from self._take(_U16.size)))
        return (yield from self._take(length))

    def _take_size(self, what: str) -> Generator[None, None, int]:
        (value,) = _U64.unpack((yield from self._take(_U64.size)))
        if value > MAX_SIZE:
            raise UpstreamProtocolError(f"{what} {value}: expected at most 2^63-1")
        found: int = value
        return found

    def _parse_head(self) -> Generator[None, None, UploadHead]:
        origin = yield from self._take_text()
        start = yield from self._take_size("upload_start")
        end = yield from self._take_size("upload_end")
        if start > end:
            raise UpstreamProtocolError(f"upload_start {start} is above upload_end {end}")
        return UploadHead(origin, start, end, (yield from self._take_text()))

    def _parse_package(self, span: Range) -> Generator[None, None, Package]:
        entries: list[bytes] = []
        while len(entries) < span.end - span.start:
            entries.append((yield from self._take_text()))
        count = (yield from self._take(1))[0]
        if count > MAX_PROOF_HASHES:
            raise UpstreamProtocolError(f"package {span}: {count} hashes, expected at most {MAX_PROOF_HASHES}")
        body = yield from self._take(count * HASH_BYTES)
        starts = range(0, len(body), HASH_BYTES)
        proof: Sequence[Hash] = [Hash(body[at : at + HASH_BYTES]) for at in starts]
        return Package(span, tuple(entries), tuple(proof))
