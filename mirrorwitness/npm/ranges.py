"""Versions in order (ranges follow)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["is_prerelease", "parse_version", "version_order"]

_MAX_LENGTH: Final = 256
_MAX_NUMBER: Final = 2**53 - 1
_LOOSE: Final = re.compile(
    r"\s*[v=\s]*([0-9]+)\.([0-9]+)\.([0-9]+)"
    r"(?:-?((?:[0-9]*[A-Za-z-][A-Za-z0-9-]*|[0-9]+)(?:\.(?:[0-9]*[A-Za-z-][A-Za-z0-9-]*|[0-9]+))*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?\s*"
)


class ParsedVersion(NamedTuple):
    major: int
    minor: int
    patch: int
    prerelease: tuple[int | str, ...]


def parse_version(text: str) -> ParsedVersion | None:
    if len(text) > _MAX_LENGTH:
        return None
    found = _LOOSE.fullmatch(text)
    if not found:
        return None
    major, minor, patch = (int(part) for part in found.group(1, 2, 3))
    if max(major, minor, patch) > _MAX_NUMBER:
        return None
    pre = found[4]
    return ParsedVersion(
        major, minor, patch, tuple(int(p) if p.isdigit() else p for p in pre.split(".")) if pre else ()
    )


def normalize_version(text: str) -> str | None:
    parsed = parse_version(text)
    if parsed is None:
        return None
    number = f"{parsed.major}.{parsed.minor}.{parsed.patch}"
    return f"{number}-{'.'.join(map(str, parsed.prerelease))}" if parsed.prerelease else number


def version_order(version: str) -> tuple[object, ...]:
    parsed = parse_version(version)
    if parsed is None:
        return (0, version)
    pre = tuple((0, p, "") if isinstance(p, int) else (1, 0, p) for p in parsed.prerelease)
    return (1, *parsed[:3], not pre, pre)


def is_prerelease(version: str) -> bool:
    parsed = parse_version(version)
    return parsed is None or bool(parsed.prerelease)
