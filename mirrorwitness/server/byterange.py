"""The ``Range`` header: which bytes of an object a client asks for.

Rules:

- One range in bytes: ``first-last``, ``first-`` or ``-suffix``. Several ranges are answered with the whole object: no
  npm client asks for them, and multipart answers are how a small request makes a server send much.
- A header that breaks the grammar, or names another unit, is ignored, as the specification asks.
- Numbers of any length are read without ever making a number larger than `MAX_POSITION`.

This module is pure. What it does not do: conditions (``If-Range``), which `mirrorwitness.server.negotiate` decides.

SPEC: RFC 9110, section 14.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

__all__ = ["MAX_POSITION", "ByteRange", "WithoutRange", "parse_range"]

MAX_POSITION: Final = 10**18
"""Largest position told apart; no storage holds an object of an exabyte."""

_RANGE: Final = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A range that lies inside an object.

    Attributes:
        start: the first byte, counted from 0.
        length: how many bytes, at least 1.
    """

    start: int
    length: int

    def format_content_range(self, size: int) -> str:
        """Return the value of ``Content-Range`` for this part of an object of `size` bytes."""
        return f"bytes {self.start}-{self.start + self.length - 1}/{size}"


class WithoutRange(Enum):
    """Why there is no single range to send."""

    WHOLE = auto()
    """Send the whole object: no usable range was asked for."""
    UNSATISFIABLE = auto()
    """Send 416: the range lies outside the object."""


def parse_range(header: str, size: int) -> ByteRange | WithoutRange:
    """Read a ``Range`` header against an object's size.

    Args:
        header: the header's value.
        size: the object's length in bytes.

    Returns:
        The part to send, or why there is none.
    """
    found = _RANGE.fullmatch(header)
    if not found or size == 0:
        return WithoutRange.WHOLE
    first, last = found.groups()
    if first:
        return _from_first(_position(first), _position(last) if last else None, size)
    return _suffix(_position(last), size) if last else WithoutRange.WHOLE


def _from_first(start: int, last: int | None, size: int) -> ByteRange | WithoutRange:
    if last is not None and last < start:
        return WithoutRange.WHOLE
    if start >= size:
        return WithoutRange.UNSATISFIABLE
    end = size - 1 if last is None else min(last, size - 1)
    return ByteRange(start, end - start + 1)


def _suffix(length: int, size: int) -> ByteRange | WithoutRange:
    if length == 0:
        return WithoutRange.UNSATISFIABLE
    length = min(length, size)
    return ByteRange(size - length, length)


def _position(digits: str) -> int:
    # int() refuses more than 4,300 digits, and a header can hold more.
    significant = digits.lstrip("0")
    return int(significant or "0") if len(significant) < len(str(MAX_POSITION)) else MAX_POSITION
