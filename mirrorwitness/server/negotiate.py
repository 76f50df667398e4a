"""What a client accepts, and what it has already: ``Accept``, ``Accept-Encoding`` and the conditional headers.

Rules:

- The abbreviated packument goes to clients that *name* its media type (any q but 0; like upstream, q values are not
  compared). ``*/*`` alone, no ``Accept`` at all, and browsers get the full document: it holds everything the other
  one holds, every client installs from it, and it is what a static server over the same bucket would answer.
- Content codings: the highest q wins, and at equal q the one that costs least bytes and time (`CODINGS` is in order).
  ``identity`` is only chosen over an acceptable coding where its q is higher, and it is always the last resort.
- Entity tags: ``If-None-Match`` compares weakly, ``If-Match`` and ``If-Range`` strongly (a tag of ours is never weak).
- We have no date that changes whenever a document does, so nothing is decided by dates: ``If-Modified-Since`` is
  ignored, and ``If-Range`` with a date does not hold.

This module is pure.

SPEC: RFC 9110, sections 12.5 and 13.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "ABBREVIATED_TYPE",
    "CODINGS",
    "MAX_ITEMS",
    "Coding",
    "choose_coding",
    "is_match",
    "is_none_match",
    "is_range_valid",
    "wants_abbreviated",
]

ABBREVIATED_TYPE: Final = "application/vnd.npm.install-v1+json"

MAX_ITEMS: Final = 64
"""Most items of one list header that are looked at; real clients send at most eight."""


class Coding(StrEnum):
    """A content coding we can send."""

    ZSTD = "zstd"
    BROTLI = "br"
    GZIP = "gzip"
    IDENTITY = "identity"


CODINGS: Final = (Coding.ZSTD, Coding.BROTLI, Coding.GZIP)
"""The compressing codings, best first."""

_QUALITY: Final = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)", re.ASCII)
_TAG: Final = re.compile(r'(W/)?("[^"]*")')


def wants_abbreviated(accept: str | None) -> bool:
    """Say whether a client asks for the abbreviated packument."""
    return any(name == ABBREVIATED_TYPE and quality > 0 for name, quality in _items(accept or ""))


def choose_coding(accept_encoding: str | None) -> Coding:
    """Choose the content coding of a body that may be compressed.

    Args:
        accept_encoding: the header's value, None where there is none.

    Returns:
        The coding; `Coding.IDENTITY` where the client names none that we have.
    """
    named = dict(_items(accept_encoding or ""))
    if "x-gzip" in named:
        named.setdefault("gzip", named["x-gzip"])
    others = named.get("*", 0.0)
    best = max(CODINGS, key=lambda coding: named.get(coding, others))
    quality = named.get(best, others)
    return best if quality > 0 and quality >= named.get(Coding.IDENTITY, 0.0) else Coding.IDENTITY


def is_none_match(header: str, etag: str) -> bool:
    """Say whether ``If-None-Match`` lists the tag, so that the client's copy is still good (weak comparison)."""
    return header.strip() == "*" or any(tag == etag for _, tag in _tags(header))


def is_match(header: str, etag: str) -> bool:
    """Say whether ``If-Match`` holds for the tag (strong comparison)."""
    return header.strip() == "*" or any(tag == etag and not weak for weak, tag in _tags(header))


def is_range_valid(if_range: str | None, etag: str) -> bool:
    """Say whether a ``Range`` may be honoured: there is no ``If-Range``, or it is exactly our tag."""
    return if_range is None or if_range.strip() == etag


def _tags(header: str) -> Iterator[tuple[str, str]]:
    for number, found in enumerate(_TAG.finditer(header)):
        if number == MAX_ITEMS:
            return
        yield found.group(1) or "", found.group(2)


def _items(header: str) -> Iterator[tuple[str, float]]:
    for item in header.split(",", MAX_ITEMS)[:MAX_ITEMS]:
        name, *parameters = item.split(";")
        quality = _quality(parameters)
        if name.strip() and quality is not None:
            yield name.strip().lower(), quality


def _quality(parameters: list[str]) -> float | None:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            value = value.strip()
            return float(value) if _QUALITY.fullmatch(value) else None
    return 1.0
