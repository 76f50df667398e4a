"""Look-ups: how a client asks a checksum database for a package or a version, and the text that comes back.

    lookup/<name>@<version>            a tlog-proof: the record as its extra data, and the cosigned checkpoint
    lookup/<name>@<version>?size=N     the same in the tree of N records, up to its empty line: without a checkpoint
    lookup/<name>[?size=N]             all records of a package, in the log's order: each behind a line with its index,
                                       an empty line between two

Rules:

- A version is what stands behind the *last* ``@``; so no version with an ``@`` can be asked for, and none exists.
- A path is percent-decoded once, after it was split; the slash of a scope may be a slash or ``%2f``.
- The form without a checkpoint says nothing that changes, so caches may keep it for ever. Whoever asks for it has a
  verified checkpoint of that size already.
- Parsing is strict, and formatting what was parsed gives back the same bytes.

What it does not do: look into a record (`mirrorwitness.sumdb.records`), verify, or decide what is served.

SPEC: C2SP tlog-proof for the text of a version; the paths and the text of a package are ours, after Go's ``/lookup/``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import Version, decode_path, parse_name
from mirrorwitness.tlog.checkpoint import parse_size
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.proof import MAX_FILE_BYTES, TlogProof, format_proof, parse_proof

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.tlog.merkle import Hash

__all__ = [
    "LOOKUP",
    "MAX_LOOKUP_BYTES",
    "MAX_PACKAGE_BYTES",
    "IndexedRecord",
    "Lookup",
    "format_lookup",
    "format_package",
    "lookup_path",
    "parse_lookup",
    "parse_lookup_path",
    "parse_package",
    "parse_size_query",
]

LOOKUP: Final = "lookup/"
"""What the path of every look-up begins with."""

MAX_LOOKUP_BYTES: Final = MAX_FILE_BYTES
"""Largest answer for a version, in bytes."""

MAX_PACKAGE_BYTES: Final = 64 * 1024 * 1024
"""Largest answer for a package, in bytes: the most that one had were some 40,000 versions, at 700 bytes a record."""

_BREAK: Final = b"\n\n"
_NO_CHECKPOINT: Final = b"-"
"""Stands for the checkpoint where there is none, so that one parser reads both forms."""

_SIZE: Final = "size="
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Lookup:
    """The answer for one version; nothing of it is trusted.

    Attributes:
        index: where the record is said to be.
        record: its bytes: what the leaf is the hash of.
        proof: the inclusion proof.
        checkpoint: the signed and cosigned checkpoint; None where the answer is for a size that the client named.
    """

    index: int
    record: bytes
    proof: tuple[Hash, ...]
    checkpoint: bytes | None = None


@dataclass(frozen=True, slots=True)
class IndexedRecord:
    """One record of a package; nothing of it is trusted.

    Attributes:
        index: where it is said to be.
        record: its bytes.
    """

    index: int
    record: bytes


def lookup_path(name: PackageName, version: Version | None = None, *, size: int | None = None) -> str:
    """Return what is asked for below a database's URL.

    Args:
        name: the package.
        version: the version; None for all records of the package.
        size: the tree in which it is looked up; None for the newest that is published.

    Raises:
        ConfigurationError: no path can say this version: it is empty, or has an ``@``.
    """
    path = LOOKUP + quote(name, safe="@/~!()*'")
    if version is not None:
        if not version or "@" in version:
            raise ConfigurationError(f"version {version[:_SHOWN]!r} of {name}: expected text without an @")
        path += "@" + quote(version, safe="")
    return path if size is None else f"{path}?{_SIZE}{size}"


def parse_lookup_path(path: str) -> tuple[PackageName, Version | None]:
    """Read the path of a look-up, still percent-encoded, without its query.

    Returns:
        The package, and the version; None where all of its records are asked for.

    Raises:
        ConfigurationError: it is not the path of a look-up; the message says why.
    """
    if not path.startswith(LOOKUP):
        raise ConfigurationError(f"path {path[:_SHOWN]!a}: expected {LOOKUP}<name>@<version> or {LOOKUP}<name>")
    # `name@version` is not a name, so the decoding is borrowed from a path with a name in front.
    _, segments = decode_path(f"x/{path.removeprefix(LOOKUP)}")
    text = "/".join(segments)
    name, at, version = text[1:].rpartition("@")  # the first character may be a scope's own @
    if not at:
        return parse_name(text), None
    if not version:
        raise ConfigurationError(f"path {path[:_SHOWN]!a}: nothing stands behind the @")
    return parse_name(text[:1] + name), Version(version)


def parse_size_query(query: str) -> int | None:
    """Read the query of a look-up: ``size=N``, or nothing.

    Raises:
        ConfigurationError: it is another query.
    """
    if not query:
        return None
    try:
        if query.startswith(_SIZE):
            return parse_size(query.removeprefix(_SIZE), "size")
    except UpstreamProtocolError as error:
        raise ConfigurationError(str(error)) from error
    raise ConfigurationError(f"query {query[:_SHOWN]!a}: expected {_SIZE}<number>, or none")


def format_lookup(found: Lookup) -> bytes:
    """Write the answer for one version, with its checkpoint or, where it has none, up to the empty line.

    Raises:
        ConfigurationError: it could not be read again: a number, a length or the record is out of bounds.
    """
    checkpoint = _NO_CHECKPOINT if found.checkpoint is None else found.checkpoint
    _check_record(found.record)
    body = format_proof(TlogProof(found.index, found.proof, checkpoint, found.record))
    return body[: -len(_NO_CHECKPOINT)] if found.checkpoint is None else body


def parse_lookup(body: bytes, *, has_checkpoint: bool) -> Lookup:
    """Read the answer for one version; `format_lookup` gives back the same bytes.

    Args:
        body: the answer.
        has_checkpoint: whether it was asked for without a size.

    Raises:
        UpstreamProtocolError: it is no such answer; the message says what is wrong.
    """
    if not has_checkpoint:
        if body.partition(_BREAK)[1:] != (_BREAK, b""):
            raise UpstreamProtocolError("look-up: expected a tlog-proof that ends with its empty line")
        body += _NO_CHECKPOINT
    read = parse_proof(body)
    if read.extra is None:
        raise UpstreamProtocolError("look-up: the tlog-proof has no extra data, expected the record")
    fault = _fault_of(read.extra)
    if fault:
        raise UpstreamProtocolError(f"look-up: the record {fault}")
    return Lookup(read.index, read.extra, read.proof, read.checkpoint if has_checkpoint else None)


def format_package(records: Sequence[IndexedRecord]) -> bytes:
    """Write all records of a package.

    Raises:
        ConfigurationError: there are none, they are not in the log's order, or one could not be read again.
    """
    for item in records:
        _check_record(item.record)
    body = b"\n".join([b"%d\n%b" % (item.index, item.record) for item in records])
    try:
        parse_package(body)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"these records cannot be written: {error}") from error
    return body


def parse_package(body: bytes) -> tuple[IndexedRecord, ...]:
    """Read all records of a package; `format_package` gives back the same bytes.

    Raises:
        UpstreamProtocolError: these are no such records; the message says what is wrong.
    """
    if len(body) > MAX_PACKAGE_BYTES:
        raise UpstreamProtocolError(f"records of a package: {len(body)} bytes, more than {MAX_PACKAGE_BYTES}")
    if not body.endswith(b"\n"):
        raise UpstreamProtocolError("records of a package: expected each to end in a newline")
    found: list[IndexedRecord] = []
    for part in body[:-1].split(_BREAK):
        line, _, record = part.partition(b"\n")
        index = parse_size(line.decode("latin-1"), "records of a package: index")
        record += b"\n"
        fault = _fault_of(record)
        if fault:
            raise UpstreamProtocolError(f"records of a package: record {index} {fault}")
        if found and index <= found[-1].index:
            raise UpstreamProtocolError(f"records of a package: index {index} stands behind {found[-1].index}")
        found.append(IndexedRecord(index, record))
    return tuple(found)


def _check_record(record: bytes) -> None:
    fault = _fault_of(record)
    if fault:
        raise ConfigurationError(f"a record {fault}")


def _fault_of(record: bytes) -> str | None:
    """Return what keeps a record from standing in an answer; None where nothing does."""
    if not 1 < len(record) <= MAX_ENTRY_BYTES:
        return f"has {len(record)} bytes, expected 2 to {MAX_ENTRY_BYTES}"
    if not record.endswith(b"\n"):
        return "does not end in a newline"
    return "has an empty line" if record.startswith(b"\n") or _BREAK in record else None
