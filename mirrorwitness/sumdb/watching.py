"""Watching: what each new record of a checksum database means for somebody who watches names. Pure.

    a record, and what was known of its version ──> news, and what is known from now on

Rules:

- A version of a registry is published once with one integrity. Another one, in a record that is not a conflict, means
  that the log does not keep its own rules: an equivocation, whoever caused it.
- A conflict is the log's own word that a registry promised two things of one version. It is an alarm too.
- Records of names that are not watched are read as well: what is no record, and what a registry says of names that are
  not its own, is told of every name.
- A record that was judged before is judged by its index, and means nothing new.

Known limit: what is remembered is remembered of watched names only. Equivocations about other names are for those who
watch them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.npm.names import parse_name
from mirrorwitness.sumdb.records import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.records import Record

__all__ = ["Kind", "Known", "News", "Watch", "find_stranger", "judge_record", "make_watch"]

_ANY: Final = "*"


class Kind(StrEnum):
    """What a monitor tells."""

    PUBLISHED = "published"
    """A watched version is new, or was published again after it was away."""
    UNPUBLISHED = "unpublished"
    """A registry does not have a watched version any more."""
    SECURITY_HOLD = "security-hold"
    """A registry replaced a watched package by its placeholder."""
    CONFLICT = "conflict"
    """A registry promised two integrities of a watched version, and the log says so."""
    EQUIVOCATION = "equivocation"
    """The log has two records of a watched version that cannot both be true."""
    NO_AUTHORITY = "no-authority"
    """A registry published a name that is not its own."""
    UNREADABLE = "unreadable"
    """An entry of the log is no record."""
    FORK = "fork"
    """A witness saw a tree that does not belong to the one that the log shows here."""
    OLDER_HEAD = "older-head"
    """The log shows an older tree than it did."""
    WITNESS_AHEAD = "witness-ahead"
    """A witness saw a larger tree than the log shows here."""
    WITNESS_SILENT = "witness-silent"
    """A witness could not be asked."""

    @property
    def is_alarm(self) -> bool:
        """Whether something disagrees, and a person has to look at it (exit code 4)."""
        return self in _ALARMS

    @property
    def is_doubt(self) -> bool:
        """Whether it may be nothing, and is looked at again by the next run (exit code 3)."""
        return self in _DOUBTS


_ALARMS: Final = frozenset({Kind.CONFLICT, Kind.EQUIVOCATION, Kind.NO_AUTHORITY, Kind.UNREADABLE, Kind.FORK})
_DOUBTS: Final = frozenset({Kind.OLDER_HEAD, Kind.WITNESS_AHEAD, Kind.WITNESS_SILENT})
_WITHDRAWN: Final = {Event.UNPUBLISH: Kind.UNPUBLISHED, Event.SECURITY_HOLD: Kind.SECURITY_HOLD}


@dataclass(frozen=True, slots=True)
class News:
    """One thing that a monitor tells.

    Attributes:
        kind: what sort of thing.
        subject: ``name@version``, a witness, or the log.
        reason: one sentence.
        index: the entry that it is about; None where it is about none.
        registry: whose record; empty where there is none.
        integrity: what the record says the bytes are; empty where there is none.
        evidence: where the evidence is; empty where there is none.
        is_old: it has lasted for so long that it is an alarm.
    """

    kind: Kind
    subject: str
    reason: str
    index: int | None = None
    registry: str = ""
    integrity: str = ""
    evidence: str = ""
    is_old: bool = False

    @property
    def is_alarm(self) -> bool:
        """Whether a person has to look at it."""
        return self.kind.is_alarm or self.is_old

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "kind": str(self.kind),
            "is_alarm": self.is_alarm,
            "subject": self.subject,
            "reason": self.reason,
            "index": self.index,
            "registry": self.registry or None,
            "integrity": self.integrity or None,
            "evidence": self.evidence or None,
        }


class Known(msgspec.Struct, frozen=True):
    """What the newest record of a version said.

    Attributes:
        index: which entry it is.
        integrity: what the bytes are.
        event: what happened.
    """

    index: int
    integrity: str
    event: Event


@dataclass(frozen=True, slots=True)
class Watch:
    """The names that are watched. Make it with `make_watch`.

    Attributes:
        names: exact names.
        patterns: the others, compiled.
    """

    names: frozenset[str]
    patterns: tuple[re.Pattern[str], ...]

    def has(self, name: PackageName) -> bool:
        """Say whether a name is watched."""
        return name in self.names or any(pattern.fullmatch(name) for pattern in self.patterns)


def make_watch(texts: Iterable[str]) -> Watch:
    """Read names and patterns: in a pattern ``*`` stands for anything but a slash, and alone for every name.

    Raises:
        ConfigurationError: one can be no name, or there are none.
    """
    names: set[str] = set()
    patterns: list[re.Pattern[str]] = []
    for text in texts:
        if text == _ANY:
            patterns.append(re.compile(".*", re.DOTALL))
            continue
        try:
            parse_name(text.replace(_ANY, "x"))
        except ConfigurationError as error:
            raise ConfigurationError(f"--watch {text[:100]!r} is no name, and no pattern of names: {error}") from error
        if _ANY in text:
            patterns.append(re.compile("[^/]*".join(re.escape(part) for part in text.split(_ANY))))
        else:
            names.add(text)
    if not names and not patterns:
        raise ConfigurationError(
            "--watch: nothing is watched: give names, patterns such as @scope/*, or a file of them"
        )
    return Watch(frozenset(names), tuple(patterns))


def judge_record(record: Record, index: int, known: Known | None) -> tuple[News | None, Known | None]:
    """Say what a record of a watched name means.

    Args:
        record: the record.
        index: which entry it is.
        known: what the newest record of this version of this registry said; None where there was none.

    Returns:
        News, None where it means nothing new; and what is known from now on.
    """
    if known is not None and index <= known.index:
        return None, known
    now = Known(index, record.integrity, record.event)
    if record.event is Event.CONFLICT:
        other = record.other_integrity
        return _tell(Kind.CONFLICT, record, index, f"its registry promised {record.integrity} and {other}"), now
    fault = None if known is None else _find_contradiction(record, index, known)
    if fault is not None:
        return _tell(Kind.EQUIVOCATION, record, index, fault), known
    if record.event is not Event.PUBLISH:
        return _tell(_WITHDRAWN[record.event], record, index, f"its registry says {record.event}"), now
    if known is not None and known.event is Event.PUBLISH:
        return None, known
    again = "" if known is None else f", again, after it was away since entry {known.index}"
    return _tell(Kind.PUBLISHED, record, index, f"{record.integrity}{again}"), now


def find_stranger(record: Record, index: int, authority: Authority | None) -> News | None:
    """Say that a registry published a name that is not its own; None where it is, or where nobody said whose it is."""
    if authority is None:
        return None
    owner = authority.authority_of(record.name)
    if owner == record.registry:
        return None
    reason = f"published by {record.registry}, the name belongs to {owner or 'no registry that is known here'}"
    return _tell(Kind.NO_AUTHORITY, record, index, reason)


def _find_contradiction(record: Record, index: int, known: Known) -> str | None:
    """Say why two records of a version cannot both be true; None where they can."""
    if is_same_content(known.integrity, record.integrity) is not True:
        return f"entry {known.index} says {known.integrity}, entry {index} says {record.integrity}"
    if known.event is Event.CONFLICT:
        return f"entry {known.index} is a conflict, and entry {index} says {record.event} as if there were none"
    return None


def _tell(kind: Kind, record: Record, index: int, reason: str) -> News:
    subject = f"{record.name}@{record.version}"
    return News(kind, subject, reason, index=index, registry=record.registry, integrity=record.integrity)
