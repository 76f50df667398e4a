"""Files that a person names on the command line, read whole and within a limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_FILE_BYTES", "read_file"]

MAX_FILE_BYTES: Final = 16 * 1024 * 1024
"""Largest file that is read into memory; notes, policies and proofs have a few kilobytes."""


def read_file(path: Path, *, limit: int = MAX_FILE_BYTES) -> bytes:
    """Return a file's content.

    Raises:
        ConfigurationError: it cannot be read, or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            body = file.read(limit + 1)
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}") from error
    if len(body) > limit:
        raise ConfigurationError(f"{path}: more than {limit} bytes")
    return body
