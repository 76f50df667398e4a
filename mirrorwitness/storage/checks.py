"""What every storage checks of a call's arguments, in the same words. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import StorageError
from mirrorwitness.storage import check_key

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo, Put

__all__ = ["check_condition", "check_limit", "check_pair", "check_range"]


def check_condition(*, if_absent: bool, if_match: str | None) -> None:
    """Raise where a put has two conditions: a mistake of the program, not of the operator.

    Raises:
        ValueError: both are given.
    """
    if if_absent and if_match is not None:
        raise ValueError("if_absent and if_match exclude each other")


def check_pair(first: Put, then: Put) -> None:
    """Check the keys and conditions of two objects before either of them is written.

    Raises:
        ConfigurationError: a key breaks a rule.
        ValueError: two conditions for one object.
    """
    for put in (first, then):
        check_condition(if_absent=put.if_absent, if_match=put.if_match)
        check_key(put.key)


def check_limit(info: ObjectInfo, limit: int) -> None:
    """Raise where an object is larger than the caller wants in memory.

    Raises:
        StorageError: it is.
    """
    if info.size > limit:
        raise StorageError(f"{info.key} has {info.size:,} bytes, more than the limit of {limit:,}")


def check_range(info: ObjectInfo, start: int, length: int | None) -> int:
    """Return where a range ends; an empty object has the empty range from byte 0.

    Raises:
        StorageError: `start` is not inside the object.
    """
    if start and start >= info.size:
        raise StorageError(f"{info.key} has {info.size:,} bytes, so nothing starts at byte {start:,}")
    return info.size if length is None else min(info.size, start + length)
