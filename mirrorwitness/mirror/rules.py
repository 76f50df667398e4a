"""Rules: one wish, or one refusal, over package names and versions.

    Rule       a pattern over names, and at most one way to say which versions
    DenyRule   a pattern over names, a range or every version, and the reason

Rules:

- A rule says *one* thing: every version, a range, the newest N (of a range or of all), a tag, or exact pins.
- "Newest" is by version order, never by date, so a security fix for an old line does not push out the newest line.
- A rule knows where it came from, and every message about it says so.

What this module does not do: put rules together (`mirrorwitness.mirror.select`), or apply them to a packument
(`mirrorwitness.mirror.choice`).
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, SelectionError
from mirrorwitness.mirror.patterns import is_glob, parse_pattern
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.ranges import Range, parse_range

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.mirror.locked import Lockfile

__all__ = ["DenyRule", "Rule", "make_deny_rule", "make_rule", "parse_rule", "rules_of_lockfile"]

_EXACT: Final = re.compile(r"[v=]*(\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)")
_TAG: Final = re.compile(r"[A-Za-z0-9_.~!()*'-]+")
_NO_PINS: Final[Mapping[Version, str | None]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Rule:
    """One wish. Make it with `make_rule`, which checks it.

    Attributes:
        pattern: an exact name or a glob.
        versions: a range; None for any version.
        range_text: the range as it was written.
        latest: at most this many versions, the newest; None for no limit.
        prereleases: count prereleases among the newest too.
        tag: the version under this dist-tag.
        pins: exact versions, each with the integrity that a lockfile gives for it.
        origin: where the rule came from, for messages.
    """

    pattern: str
    versions: Range | None = None
    range_text: str | None = None
    latest: int | None = None
    prereleases: bool = False
    tag: str | None = None
    pins: Mapping[Version, str | None] = field(default_factory=lambda: _NO_PINS)
    origin: str = "the selection"

    @property
    def is_exact(self) -> bool:
        """Whether the rule names one package, so that what it asks for has to exist."""
        return not is_glob(self.pattern)

    def __str__(self) -> str:
        return f"{self.meaning} of {self.pattern} ({self.origin})"

    @property
    def meaning(self) -> str:
        """Which versions the rule wants, for people."""
        if self.pins:
            return f"exactly {', '.join(self.pins)}"
        if self.tag is not None:
            return f"the tag {self.tag}"
        scope = "every version" if self.range_text is None else f"every version in {self.range_text}"
        if self.latest is None:
            return scope
        return f"the {self.latest} newest{'' if self.range_text is None else f' in {self.range_text}'}"


@dataclass(frozen=True, slots=True)
class DenyRule:
    """One thing that must not be in the mirror. Make it with `make_deny_rule`.

    Attributes:
        pattern: an exact name or a glob.
        versions: a range; None for every version.
        range_text: the range as it was written.
        reason: why, for those who miss it.
        origin: where the rule came from.
    """

    pattern: str
    versions: Range | None = None
    range_text: str | None = None
    reason: str = "denied"
    origin: str = "the selection"


def make_rule(
    pattern: str,
    *,
    versions: str | None = None,
    latest: int | None = None,
    prereleases: bool = False,
    tag: str | None = None,
    pins: Mapping[Version, str | None] | None = None,
    origin: str,
) -> Rule:
    """Build a rule and check that it says one thing.

    Args:
        pattern: a name, a glob, ``@scope/*`` or ``@scope/``.
        versions: a range in npm's syntax.
        latest: how many of the newest versions.
        prereleases: count prereleases among the newest.
        tag: a dist-tag.
        pins: exact versions with their integrity, where known.
        origin: where it came from, for messages.

    Returns:
        The rule.

    Raises:
        SelectionError: not a pattern, not a range, or two wishes that exclude each other.
    """
    pattern = parse_pattern(pattern, origin=origin)
    given = {"versions": versions, "latest": latest, "tag": tag, "pins": pins or None}
    named = [key for key, value in given.items() if value is not None]
    if len(named) > 1 and named != ["versions", "latest"]:
        raise SelectionError(f"{origin}: {pattern}: {' and '.join(named)} contradict each other: keep one of them")
    if latest is not None and latest < 1:
        raise SelectionError(
            f"{origin}: {pattern}: latest = {latest} selects nothing: use 1 or more, or a [[deny]] rule"
        )
    if prereleases and latest is None:
        raise SelectionError(f"{origin}: {pattern}: prereleases belongs to latest; without it every version is meant")
    if tag is not None and not _TAG.fullmatch(tag):
        raise SelectionError(f"{origin}: {pattern}: {tag[:100]!r} is neither a range nor a tag")
    if pins and is_glob(pattern):
        raise SelectionError(f"{origin}: {pattern}: an exact version belongs to one package, not to a glob")
    return Rule(
        pattern=pattern,
        versions=_range(versions, pattern, origin),
        range_text=versions,
        latest=latest,
        prereleases=prereleases,
        tag=tag,
        pins=MappingProxyType(dict(pins)) if pins else _NO_PINS,
        origin=origin,
    )


def make_deny_rule(pattern: str, *, versions: str | None = None, reason: str, origin: str) -> DenyRule:
    """Build a deny rule.

    Args:
        pattern: a name or glob.
        versions: a range; None for every version.
        reason: why.
        origin: where it came from.

    Returns:
        The rule.

    Raises:
        SelectionError: not a pattern, not a range, or no reason.
    """
    pattern = parse_pattern(pattern, origin=origin)
    if not reason.strip():
        raise SelectionError(f"{origin}: {pattern}: a deny rule needs a reason; whoever misses the package will ask")
    return DenyRule(pattern, _range(versions, pattern, origin), versions, reason.strip(), origin)


def parse_rule(text: str, *, origin: str) -> Rule:
    """Read a rule as people write it on a command line.

    Args:
        text: ``react``, ``react@^18``, ``react@18.2.0``, ``react@latest``, ``@babel/*``, ``babel-*@^7``.
        origin: where it came from.

    Returns:
        The rule: an exact version is a pin, another range a range, any other word a tag, nothing every version.

    Raises:
        SelectionError: it is none of these.
    """
    text = text.strip()
    name, at, wanted = text[1:].partition("@")
    pattern, wanted = text[:1] + name, wanted.strip()
    if at and not wanted:
        raise SelectionError(f"{origin}: {text[:100]!r} has nothing behind the @: leave it away, or name a version")
    if not wanted:
        return make_rule(pattern, origin=origin)
    exact = _EXACT.fullmatch(wanted)
    if exact and not is_glob(pattern):
        return make_rule(pattern, pins={Version(exact[1]): None}, origin=origin)
    if _is_range(wanted):
        return make_rule(pattern, versions=wanted, origin=origin)
    return make_rule(pattern, tag=wanted, origin=origin)


def rules_of_lockfile(lockfile: Lockfile) -> tuple[Rule, ...]:
    """Return one rule of pins for each package of a lockfile, in its order."""
    pins: dict[PackageName, dict[Version, str | None]] = defaultdict(dict)
    for entry in lockfile.entries:
        pins[entry.name][entry.version] = entry.integrity
    return tuple(make_rule(name, pins=versions, origin=lockfile.path) for name, versions in pins.items())


def _range(text: str | None, pattern: str, origin: str) -> Range | None:
    try:
        return None if text is None else parse_range(text)
    except ConfigurationError as error:
        raise SelectionError(f"{origin}: {pattern}: {error}") from error


def _is_range(text: str) -> bool:
    try:
        parse_range(text)
    except ConfigurationError:
        return False
    return True
