"""Quantities as people write them: ``128 MiB``, ``30 s``, ``16 KiB/s``; or a plain number in the base unit.

Rules:

- A number without a unit is bytes, seconds, or a count: what the option's documentation says.
- Binary and decimal units differ, as they should: ``1 MiB`` is 1,048,576 bytes, ``1 MB`` is 1,000,000.
- No negative numbers, no exponents, no true and false: a limit is never guessed.
- `str` of a quantity reads back as the same quantity.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ByteCount", "ByteRate", "Count", "Quantity", "Seconds", "parse_quantity"]

_BYTES: Final = {
    "": 1,
    "b": 1,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
    "tib": 1024**4,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "tb": 1000**4,
}
_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER: Final = re.compile(r"([0-9]{1,16}(?:\.[0-9]{1,9})?)\s*([A-Za-z]*)")
_LARGEST: Final = 2**53
"""Larger numbers are typing errors: eight pebibytes, or 285 million years."""


class ByteCount(int):
    """A number of bytes."""

    expected = 'a size such as "8 MiB", or a number of bytes'

    def __str__(self) -> str:
        for unit, factor in (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024)):
            if self and not self % factor:
                return f"{int(self) // factor} {unit}"
        return f"{int(self)} B"


class ByteRate(ByteCount):
    """Bytes per second."""

    expected = 'a rate such as "16 KiB/s", or a number of bytes per second'

    def __str__(self) -> str:
        return f"{super().__str__()}/s"


class Seconds(float):
    """A length of time in seconds."""

    expected = 'a time such as "30 s" or "5 min", or a number of seconds'

    def __str__(self) -> str:
        for unit in ("d", "h", "min"):
            if self and not self % _SECONDS[unit]:
                return f"{int(self / _SECONDS[unit])} {unit}"
        return f"{float(self):.9f}".rstrip("0").rstrip(".") + " s"


class Count(int):
    """How many of something."""

    expected = "a whole number"

    def __str__(self) -> str:
        return str(int(self))


Quantity: TypeAlias = type[ByteCount] | type[ByteRate] | type[Seconds] | type[Count]


_UNITS: Final[Mapping[type, Mapping[str, float]]] = {Count: {"": 1}, Seconds: _SECONDS}


def parse_quantity(kind: Quantity, value: object) -> ByteCount | ByteRate | Seconds | Count:
    """Read a quantity.

    Args:
        kind: which.
        value: a number, or text with or without a unit.

    Returns:
        The quantity in its base unit.

    Raises:
        ValueError: it is none; the message says what was found and what is expected.
    """
    number = _scale(kind, value)
    if number is None or number > _LARGEST or (kind is not Seconds and number != int(number)):
        raise ValueError(f"found {value!r}, expected {kind.expected}")
    return kind(number)


def _scale(kind: Quantity, value: object) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return value if 0 <= value <= _LARGEST else None  # also refuses nan
    match = _NUMBER.fullmatch(_strip(kind, value)) if isinstance(value, str) else None
    if match is None:
        return None
    units: Mapping[str, float] = _UNITS.get(kind, _BYTES)
    factor = units.get(match[2].lower())
    if factor is None:
        return None
    return (float(match[1]) if "." in match[1] else int(match[1])) * factor


def _strip(kind: Quantity, value: str) -> str:
    text = value.strip()
    return text.removesuffix("/s").rstrip() if kind is ByteRate else text
