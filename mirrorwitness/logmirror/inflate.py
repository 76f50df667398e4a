"""Inflater: gzip in, piece by piece, and never more out at once than was asked for. Pure.

Rules:

- A body that unpacks to a thousand times its length costs the same memory as any other: what comes out is given in
  pieces of `PIECE_BYTES`, and how many there are is bounded by who parses them.
- Several gzip members behind one another are one body (RFC 1952). What is behind one and is none is an error, and so is
  a member whose checksum is wrong. A body that ends inside a member is short, which its reader notices.

What it does not do: other codings than gzip, or say how much is too much.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PIECE_BYTES", "Inflater"]

PIECE_BYTES: Final = 64 * 1024
"""Most bytes that come out at once."""

_GZIP: Final = 16 + zlib.MAX_WBITS


class Inflater:
    """Unpacks one body."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(_GZIP)
        self._members = 0

    def __repr__(self) -> str:
        return f"<Inflater, {self._members} members done>"

    def unpack(self, piece: bytes) -> Iterator[bytes]:
        """Yield what a piece unpacks to; nothing further is unpacked before it is asked for.

        Raises:
            UpstreamProtocolError: it is not gzip, or damaged.
        """
        while piece:
            try:
                found = self._member.decompress(piece, PIECE_BYTES)
            except zlib.error as error:
                raise UpstreamProtocolError(f"the body is not gzip: {error}") from error
            if found:
                yield found
            piece = self._member.unconsumed_tail
            if self._member.eof:
                piece = self._member.unused_data
                self._member = zlib.decompressobj(_GZIP)
                self._members += 1
