"""Index: which leaves of the log are about a package, one object for each.

    npm-sumdb-index/1 <name>
    <leaf index> <event> <version> <registry> <content>

Rules:

- One line for each record of the package, in the order of the leaves, none twice. ``content`` stands for the record's
  integrity: the first `CONTENT_LENGTH` characters of the URL-safe base64 of its SHA-256.
- It is a hint: what it leads to is proven by the tree, and what it leaves out is found by whoever reads all records
  (`mirrorwitness.sumdb.fsck`).
- It only grows. Two indexes of one package are merged by keeping all lines of both, so two writers that each add what
  they know, in any order and any number of times, end with the same.
- Parsing is strict; `format_index` of what was parsed gives back the same bytes.

What it does not do: read or write (`mirrorwitness.sumdb.indexes`), or say what may follow on what
(`mirrorwitness.sumdb.fates`).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import Version, parse_name
from mirrorwitness.sumdb.records import Event, is_recorded_version, is_registry
from mirrorwitness.tlog.checkpoint import parse_size

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.sumdb.records import Record

__all__ = [
    "CONTENT_LENGTH",
    "MAX_INDEX_BYTES",
    "IndexLine",
    "PackageIndex",
    "content_of",
    "format_index",
    "make_line",
    "merge",
    "parse_index",
]

MAX_INDEX_BYTES: Final = 64 * 1024 * 1024
"""Largest index in bytes. A line has some 80; the most versions that a package had were some 40,000."""

CONTENT_LENGTH: Final = 22
"""Characters that stand for an integrity: 132 bits. Who makes two that agree has made his own bytes look known; what
the record says of them is still the first."""

_WORD: Final = "npm-sumdb-index/1 "
_CONTENT: Final = re.compile(rf"[A-Za-z0-9_-]{{{CONTENT_LENGTH}}}")
_FIELDS: Final = 5
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One record of a package.

    Attributes:
        index: its leaf.
        event: what happened.
        version: to which version.
        registry: of which registry.
        content: stands for its integrity, see `content_of`.
    """

    index: int
    event: Event
    version: Version
    registry: str
    content: str

    def __str__(self) -> str:
        """Return the line as it stands in an index."""
        return f"{self.index} {self.event} {self.version} {self.registry} {self.content}"


@dataclass(frozen=True, slots=True)
class PackageIndex:
    """What the log has of one package.

    Attributes:
        name: the package.
        lines: its records in the log's order.
    """

    name: PackageName
    lines: tuple[IndexLine, ...] = ()

    def latest(self, version: Version, *, below: int | None = None, registry: str | None = None) -> IndexLine | None:
        """Return the newest record of a version, None where there is none.

        Args:
            version: the version.
            below: the size of the tree that is looked at; None for all that is there.
            registry: of which registry; None for any.
        """
        for line in reversed(self.lines):
            if line.version != version or (registry is not None and line.registry != registry):
                continue
            if below is None or line.index < below:
                return line
        return None


def content_of(integrity: str) -> str:
    """Return what stands for an integrity."""
    digest = hashlib.sha256(integrity.encode()).digest()
    return base64.urlsafe_b64encode(digest)[:CONTENT_LENGTH].decode()


def make_line(index: int, record: Record) -> IndexLine:
    """Return the line of a record."""
    return IndexLine(index, record.event, record.version, record.registry, content_of(record.integrity))


def merge(index: PackageIndex, lines: Iterable[IndexLine]) -> PackageIndex:
    """Add lines, those that are there already among them.

    Raises:
        ConfigurationError: one leaf would have two lines: one of them is not of this log.
    """
    found = {line.index: line for line in index.lines}
    for line in lines:
        known = found.setdefault(line.index, line)
        if known != line:
            raise ConfigurationError(f"index of {index.name}: leaf {line.index} is {known}, and cannot be {line}")
    return PackageIndex(index.name, tuple([found[at] for at in sorted(found)]))


def format_index(index: PackageIndex) -> bytes:
    """Write an index."""
    return "".join([f"{_WORD}{index.name}\n", *[f"{line}\n" for line in index.lines]]).encode()


def parse_index(body: bytes) -> PackageIndex:
    """Read an index; `format_index` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not an index; the message says what is wrong.
    """
    if len(body) > MAX_INDEX_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_INDEX_BYTES}")
    if not body.isascii() or not body.endswith(b"\n"):
        raise _malformed("expected ASCII that ends in a newline")
    first, *rest = body.decode("ascii")[:-1].split("\n")
    name = first.removeprefix(_WORD)
    if name == first:
        raise _malformed(f"the first line is {first[:_SHOWN]!r}, expected {_WORD}<name>")
    try:
        index = PackageIndex(parse_name(name), tuple([_parse_line(line) for line in rest]))
    except ConfigurationError as error:
        raise _malformed(str(error)) from error
    for earlier, later in pairwise(index.lines):
        if earlier.index >= later.index:
            raise _malformed(f"leaf {later.index} stands behind leaf {earlier.index}")
    return index


def _parse_line(line: str) -> IndexLine:
    fields = line.split(" ")
    if len(fields) != _FIELDS:
        raise _malformed(f"line {line[:_SHOWN]!r}: expected a leaf, an event, a version, a registry and a content")
    leaf, event, version, registry, content = fields
    if event not in _EVENTS or not is_recorded_version(version):
        raise _malformed(f"line {line[:_SHOWN]!r}: expected an event and a version, as records have them")
    if not is_registry(registry) or not _CONTENT.fullmatch(content):
        raise _malformed(f"line {line[:_SHOWN]!r}: expected a registry, and {CONTENT_LENGTH} characters of base64")
    return IndexLine(parse_size(leaf, "index: leaf"), _EVENTS[event], Version(version), registry, content)


_EVENTS: Final = {str(event): event for event in Event}


def _malformed(reason: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"sumdb index: {reason}")
