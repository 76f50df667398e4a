"""Archives made by hand: every field of a header as a test wants it, also where no tar program would write it."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["END", "archive", "member", "packed", "pax"]

END = bytes(1024)
"""Two empty blocks."""


def member(
    name: bytes,
    content: bytes = b"",
    *,
    kind: bytes = b"0",
    size: int | bytes | None = None,
    prefix: bytes = b"",
    magic: bytes = b"ustar\x0000",
    checksum: int | None = None,
    target: bytes | None = None,
) -> bytes:
    """Return a header and its content.

    Args:
        name: the name field.
        content: what follows, filled up to whole blocks.
        kind: the type.
        size: the size to claim: a number, or the bytes of the field; None: the true one.
        prefix: the prefix field.
        magic: magic and version.
        checksum: what to add to the true checksum; None: nothing.
        target: what a link leads to; None: something where it is one.
    """
    claimed = len(content) if size is None else size
    field = claimed if isinstance(claimed, bytes) else b"%011o\0" % claimed
    header = bytearray(512)
    header[0:100] = name.ljust(100, b"\0")
    header[100:108] = b"0000644\0"
    header[124:136] = field.ljust(12, b"\0")
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[157:257] = ((b"x" if kind in b"12" else b"") if target is None else target).ljust(100, b"\0")
    header[257:265] = magic
    header[345:500] = prefix.ljust(155, b"\0")
    header[148:156] = b"%06o\0 " % (sum(header) + (checksum or 0))
    return bytes(header) + content + bytes(-len(content) % 512)


def pax(records: Mapping[str, str] | bytes, kind: bytes = b"x") -> bytes:
    """Return an extended header."""
    if isinstance(records, bytes):
        return member(b"PaxHeader", records, kind=kind)
    text = b""
    for key, value in records.items():
        record = f" {key}={value}\n".encode()
        length = len(record) + 1
        while len(str(length)) + len(record) != length:
            length = len(str(length)) + len(record)
        text += b"%d" % length + record
    return member(b"PaxHeader", text, kind=kind)


def archive(*members: bytes, end: bytes = END) -> bytes:
    """Return a packed archive."""
    return gzip.compress(b"".join(members) + end, compresslevel=1, mtime=0)


def packed(name: str = "left", **fields: object) -> bytes:
    """Return the member that npm writes first."""
    return member(b"package/package.json", json.dumps({"name": name, **fields}).encode())
