"""Files of private keys: written once, readable by their owner only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_key"]


def write_key(path: Path, text: str) -> None:
    """Write a new file that nobody else can read; not even a half-written one is left behind.

    Raises:
        ConfigurationError: it is there already, or cannot be written.
    """
    try:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} exists already: a key is never replaced; write another file") from error
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
    try:
        with os.fdopen(file, "w", encoding="utf-8") as opened:
            opened.write(f"{text}\n")
            opened.flush()
            os.fsync(opened.fileno())
    except OSError as error:
        path.unlink(missing_ok=True)
        raise ConfigurationError(f"{path}: cannot be written: {error.strerror}") from error
