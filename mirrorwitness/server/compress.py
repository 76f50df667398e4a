"""Compressing bodies: one level per coding, chosen so that it costs about as much as parsing the document does."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any, Final, cast

import brotli  # type: ignore[import-untyped]  # the project ships no annotations
import zstandard

from mirrorwitness.server.negotiate import Coding

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MIN_COMPRESSED_BYTES", "compress"]

MIN_COMPRESSED_BYTES: Final = 1024
"""Smaller bodies are sent as they are: they fit one packet either way."""

_GZIP_LEVEL: Final = 6
_BROTLI_QUALITY: Final = 4
_ZSTD_LEVEL: Final = 3
_compress_brotli: Final = cast("Callable[..., bytes]", cast("Any", brotli).compress)


def compress(body: bytes, coding: Coding) -> bytes:
    """Return the body in the coding; equal input gives equal output."""
    match coding:
        case Coding.GZIP:
            # A time stamp would make two renderings of one document differ.
            return gzip.compress(body, _GZIP_LEVEL, mtime=0)
        case Coding.BROTLI:
            return _compress_brotli(body, quality=_BROTLI_QUALITY)
        case Coding.ZSTD:
            return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(body)
        case _:
            return body
