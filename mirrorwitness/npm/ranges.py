"""Versions in npm's order, and npm's version ranges.

Rules:

- npm's *loose* reading throughout, as its installer uses it: ``=v1.2.3`` and ``1.2.3beta`` are versions, comparators
  that cannot be read are passed over as long as one can be.
- A prerelease matches only where a comparator of the same alternative names a prerelease of the same
  major.minor.patch.
- What npm does not accept as a version (longer than 256 characters, a number above 2^53-1, ``1.2``) never raises: it
  matches no range and sorts before all versions, by its text.
- Build metadata decides nothing.

The desugaring of ``^ ~ x - ||`` into comparators is the ``node-semver`` library's; comparing is done here, because
37,000 versions against one range must take well under a second and the library's comparison takes two. Measured against
npm's own semver 7.8.5 by `tests/property/test_npm_ranges.py`.

Known difference: parts behind a wildcard (``x.2``, ``1.*.3``) count as wildcards, as in all npm versions until semver
7.8; that release began to pass over such comparators.

What this module does not do: know tags, aliases or what a package has.

SPEC: node-semver's README, "Ranges" and "Prerelease Tags".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias, cast

import nodesemver  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs] # it has no annotations

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_RANGE_LENGTH",
    "Order",
    "Range",
    "is_prerelease",
    "normalize_version",
    "parse_range",
    "version_order",
]

MAX_RANGE_LENGTH: Final = 1024
"""Longest range in characters; real ones have at most a few hundred. The library's regular expressions take quadratic
time on hostile text: 0.1 s at this length, 1.6 s at four times it."""

_MAX_VERSION_LENGTH: Final = 256
"""Longest version in characters that npm reads."""

_MAX_NUMBER: Final = 2**53 - 1
"""Largest part of a version: JavaScript's largest exact integer. Larger ones have been published."""

_IDENTIFIER: Final = r"(?:[0-9]*[A-Za-z-][A-Za-z0-9-]*|[0-9]+)"
_LOOSE_VERSION: Final = re.compile(
    r"[v=\s]*([0-9]+)\.([0-9]+)\.([0-9]+)"
    rf"(?:-?({_IDENTIFIER}(?:\.{_IDENTIFIER})*))?"
    r"(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?",
    re.ASCII,
)
_SPACE: Final = " \t\n\r\v\f\u00a0\u2028\u2029\ufeff"
"""What JavaScript's trim removes."""

Order: TypeAlias = tuple[int, int, int, int, tuple[tuple[int, int, str], ...], str]
"""A sort key: (1 for a version, major, minor, patch, prerelease identifiers, text of what is no version)."""

_RELEASE: Final = ((2, 0, ""),)
"""Stands for no prerelease, and sorts after every prerelease."""


class _Parsed(NamedTuple):
    core: tuple[int, int, int]
    prerelease: tuple[tuple[int, int, str], ...]


@dataclass(frozen=True, slots=True)
class _Comparator:
    operator: str
    bound: _Parsed


_ANYTHING: Final = _Comparator(">=", _Parsed((0, 0, 0), _RELEASE))


@dataclass(frozen=True, slots=True)
class Range:
    """A range as npm understands it.

    Attributes:
        text: the range as it was written.
        alternatives: what stands between ``||``; a version must satisfy all comparators of one of them.
    """

    text: str
    alternatives: tuple[tuple[_Comparator, ...], ...]

    def includes(self, version: str) -> bool:
        """Return whether a version satisfies the range; False for what is no version."""
        parsed = _parse(version)
        return parsed is not None and any(_satisfies(parsed, comparators) for comparators in self.alternatives)


def parse_range(text: str) -> Range:
    """Read a range: ``^18.2``, ``>=1 <3 || 5.x``, ``*``, an exact version.

    Args:
        text: the range; empty means any release.

    Returns:
        The range.

    Raises:
        ConfigurationError: npm would not take it as a range (it may be a tag, an alias or a URL).
    """
    if len(text) > MAX_RANGE_LENGTH:
        raise ConfigurationError(f"version range has {len(text)} characters, more than {MAX_RANGE_LENGTH}")
    try:
        library = cast("_LibraryRange", nodesemver.Range(" ".join(text.split()), loose=True))
        alternatives = tuple([_read_alternative(found) for found in library.set])
    except ValueError as error:
        raise ConfigurationError(f"version range {ascii(text)[:100]} is not a range that npm reads") from error
    # As in npm, "*" swallows the alternatives beside it, also one that would allow a prerelease.
    return Range(text=text, alternatives=((),) if () in alternatives else alternatives)


def version_order(version: str) -> Order:
    """Return a sort key: npm's precedence, what is no version before all versions."""
    parsed = _parse(version)
    if parsed is None:
        return 0, 0, 0, 0, (), version
    return 1, *parsed.core, parsed.prerelease, ""


def is_prerelease(version: str) -> bool:
    """Return whether a version is a prerelease; False for what is no version."""
    parsed = _parse(version)
    return parsed is not None and parsed.prerelease != _RELEASE


def normalize_version(text: str) -> str | None:
    """Return npm's canonical spelling (``1.0.0beta`` is ``1.0.0-beta``) without build metadata, None for no version."""
    parsed = _parse(text)
    if parsed is None:
        return None
    number = ".".join(map(str, parsed.core))
    if parsed.prerelease == _RELEASE:
        return number
    return f"{number}-{'.'.join(word or str(digits) for _, digits, word in parsed.prerelease)}"


class _LibraryVersion(Protocol):
    version: str


class _LibraryComparator(Protocol):
    operator: str
    semver: _LibraryVersion | object


class _LibraryRange(Protocol):
    set: Sequence[Sequence[_LibraryComparator]]


def _read_alternative(found: Sequence[_LibraryComparator]) -> tuple[_Comparator, ...]:
    comparators = [_read_comparator(comparator) for comparator in found if comparator.semver is not nodesemver.ANY]
    # As in npm, ">=0.0.0" says nothing at all; it would otherwise exclude the prereleases of 0.0.0.
    return tuple([comparator for comparator in comparators if comparator != _ANYTHING])


def _read_comparator(comparator: _LibraryComparator) -> _Comparator:
    text = cast("_LibraryVersion", comparator.semver).version
    parsed = _parse(text)
    if parsed is None:  # a number too large for JavaScript
        raise ValueError(text)
    return _Comparator(comparator.operator, parsed)


def _parse(text: str) -> _Parsed | None:
    if len(text) > _MAX_VERSION_LENGTH:
        return None
    found = _LOOSE_VERSION.fullmatch(text.strip(_SPACE))
    if found is None:
        return None
    core = int(found[1]), int(found[2]), int(found[3])
    if max(core) > _MAX_NUMBER:
        return None
    return _Parsed(core, tuple([_order_identifier(word) for word in found[4].split(".")]) if found[4] else _RELEASE)


def _order_identifier(word: str) -> tuple[int, int, str]:
    return (0, int(word), "") if word.isdigit() else (1, 0, word)


def _satisfies(version: _Parsed, comparators: tuple[_Comparator, ...]) -> bool:
    if not all(_compares(version, comparator) for comparator in comparators):
        return False
    return version.prerelease == _RELEASE or any(
        comparator.bound.prerelease != _RELEASE and comparator.bound.core == version.core for comparator in comparators
    )


def _compares(version: _Parsed, comparator: _Comparator) -> bool:
    match comparator.operator:
        case ">":
            return version > comparator.bound
        case ">=":
            return version >= comparator.bound
        case "<":
            return version < comparator.bound
        case "<=":
            return version <= comparator.bound
        case _:
            return version == comparator.bound
