"""Read the files of log lists that an operator names, and say what is wrong with them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.files import read_file
from mirrorwitness.witness.loglist import MAX_LIST_BYTES, parse_log_list

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.witness.loglist import ListedLog

__all__ = ["complain", "read_lists", "read_readable"]

_log = logging.getLogger("mirrorwitness.witness")


def read_lists(names: Sequence[str]) -> list[ListedLog]:
    """Read lists, one behind the other.

    Raises:
        ConfigurationError: one of them cannot be read.
    """
    return [item for name in names for item in _read_list(name)]


def read_readable(names: Sequence[str]) -> tuple[list[ListedLog], list[str]]:
    """Read the lists that can be read, and say what is wrong with the others."""
    listed: list[ListedLog] = []
    failed: list[str] = []
    for name in names:
        try:
            listed += _read_list(name)
        except ConfigurationError as error:
            failed.append(str(error))
    return listed, failed


def complain(sentences: Sequence[str], told: Callable[[str], None]) -> None:
    """Log sentences about logs of lists, and tell them."""
    for sentence in sentences:
        _log.warning("log_list", extra={"reason": sentence})
        told(sentence)


def _read_list(name: str) -> tuple[ListedLog, ...]:
    return parse_log_list(read_file(Path(name), limit=MAX_LIST_BYTES), name=name)
