"""Verdict: what a record of the log means for one version that somebody wants to use. Pure.

    what is wanted (name, version, integrity, registry) + the record -> a word, and a sentence

Rules:

- Only the same content is right: the strongest algorithm that both sides have decides, as everywhere
  (`mirrorwitness.npm.integrity.is_same_content`). Another integrity is a divergence, whoever is wrong.
- A version in conflict is a divergence also where one of its integrities is the wanted one: the registry showed two.
- What cannot be compared is not verified: no integrity, or SHA-1 alone, which can be forged.
- That a registry withdrew a version changes nothing about its bytes, and is told.
- A registry is compared only where one is expected: mirrors repeat other registries' names, and that is their task.

What it does not do: fetch or verify records, or say that a package is safe. It proves authenticity, never safety.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ExitCode
from mirrorwitness.npm.integrity import is_same_content, parse_integrity
from mirrorwitness.sumdb.records import Event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.records import Record

__all__ = ["Judgement", "Verdict", "Wanted", "exit_code_of", "judge"]

_STRONG: Final = ("sha512", "sha384", "sha256")


class Verdict(StrEnum):
    """What became of one entry."""

    VERIFIED = "verified"
    """The log has it, with the same integrity."""
    WITHDRAWN = "withdrawn"
    """Verified; the registry does not have it any more."""
    SECURITY_HOLD = "security-hold"
    """Verified; the registry replaced the package by a placeholder, as it does with malware."""
    NOT_FROM_REGISTRY = "not-from-registry"
    """From git, a file, a link or the project itself: no log can have it."""
    NO_INTEGRITY = "no-integrity"
    """The log has it, and nothing says which bytes are meant."""
    WEAK_INTEGRITY = "weak-integrity"
    """The log has it, and SHA-1 alone, which can be forged, says which bytes are meant."""
    NOT_LOGGED = "not-logged"
    """There is no record of it."""
    UNREACHABLE = "unreachable"
    """Nobody could say: the log did not answer, or not as it should."""
    OTHER_INTEGRITY = "other-integrity"
    """The log has other bytes under this name and version."""
    OTHER_REGISTRY = "other-registry"
    """The log has it from another registry than the expected one."""
    CONFLICT = "conflict"
    """The registry showed two integrities for this version."""
    OTHER_NAME = "other-name"
    """The log has these bytes, and of another version than the file's name says: somebody renamed it."""
    OTHER_ADDRESS = "other-address"
    """The lockfile takes it from the address of another package: that is how lockfiles are poisoned."""
    UNPROVEN = "unproven"
    """The answer is not in the log, or about something else: somebody made it up."""

    @property
    def is_divergence(self) -> bool:
        """Whether something disagrees."""
        return self in _DIVERGED

    @property
    def is_confirmed(self) -> bool:
        """Whether the log has these bytes."""
        return self is Verdict.VERIFIED or self.is_withdrawn

    @property
    def is_withdrawn(self) -> bool:
        """Whether the registry took it away."""
        return self in {Verdict.WITHDRAWN, Verdict.SECURITY_HOLD}

    @property
    def is_unfinished(self) -> bool:
        """Whether nothing is known to be wrong, and it is not verified either."""
        return self in _UNFINISHED


_DIVERGED: Final = frozenset({
    Verdict.OTHER_INTEGRITY,
    Verdict.OTHER_REGISTRY,
    Verdict.CONFLICT,
    Verdict.OTHER_NAME,
    Verdict.OTHER_ADDRESS,
    Verdict.UNPROVEN,
})
_UNFINISHED: Final = frozenset({
    Verdict.NO_INTEGRITY,
    Verdict.WEAK_INTEGRITY,
    Verdict.NOT_LOGGED,
    Verdict.UNREACHABLE,
})


@dataclass(frozen=True, slots=True)
class Wanted:
    """One version that somebody wants to use.

    Attributes:
        name: the package.
        version: the version.
        integrity: what its bytes should be, or are; None where nobody says.
        is_pinned: whether somebody should say: a lockfile, a tarball. A name on the command line need not.
        registry: whose name it is, as records write it; None where any will do.
    """

    name: PackageName
    version: Version
    integrity: str | None = None
    is_pinned: bool = True
    registry: str | None = None

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a record means for what is wanted.

    Attributes:
        verdict: the word.
        reason: a sentence for people; empty where there is nothing to say.
    """

    verdict: Verdict
    reason: str = ""


def judge(wanted: Wanted, record: Record) -> Judgement:
    """Say what a record means.

    Args:
        wanted: what somebody wants to use.
        record: of the same name and version, and proven to be in the log.
    """
    if record.event is Event.CONFLICT:
        return Judgement(
            Verdict.CONFLICT,
            f"{record.registry} showed two integrities: {record.integrity} first, and {record.other_integrity}",
        )
    if wanted.registry is not None and wanted.registry != record.registry:
        return Judgement(
            Verdict.OTHER_REGISTRY, f"the log's record is of {record.registry}, expected one of {wanted.registry}"
        )
    return _compare(wanted, record) or _withdrawal(record)


def exit_code_of(verdicts: Iterable[Verdict], *, refuses_withdrawn: bool) -> ExitCode:
    """Return what a command exits with that found these (P3).

    Args:
        verdicts: one for each entry.
        refuses_withdrawn: whether what the registry took away counts as not verified.
    """
    found = set(verdicts)
    if found & _DIVERGED:
        return ExitCode.DIVERGENCE
    checked = found - {Verdict.NOT_FROM_REGISTRY}
    if checked == {Verdict.UNREACHABLE}:
        return ExitCode.UPSTREAM
    is_refused = refuses_withdrawn and any(verdict.is_withdrawn for verdict in found)
    return ExitCode.PARTIAL if checked & _UNFINISHED or is_refused else ExitCode.COMPLETE


def _compare(wanted: Wanted, record: Record) -> Judgement | None:
    """Return what is wrong with the bytes that are wanted; None where they are the record's."""
    if wanted.integrity is None and not wanted.is_pinned:
        return None
    given = parse_integrity(wanted.integrity or "")
    known = parse_integrity(record.integrity)
    if any(given.digests(algorithm) and known.digests(algorithm) for algorithm in _STRONG):
        if is_same_content(wanted.integrity, record.integrity):
            return None
        return _other(wanted, record)
    digests = given.digests("sha1")
    ours = known.digests("sha1") or ({bytes.fromhex(record.shasum)} if record.shasum else set[bytes]())
    if not digests or not ours:
        return Judgement(Verdict.NO_INTEGRITY, f"nothing to compare with the log's {record.integrity}")
    if digests != ours:
        return _other(wanted, record)
    return Judgement(Verdict.WEAK_INTEGRITY, f"only SHA-1 says which bytes are meant; the log has {record.integrity}")


def _other(wanted: Wanted, record: Record) -> Judgement:
    return Judgement(Verdict.OTHER_INTEGRITY, f"{wanted.integrity} here, {record.integrity} in the log")


def _withdrawal(record: Record) -> Judgement:
    if record.event is Event.UNPUBLISH:
        return Judgement(Verdict.WITHDRAWN, f"{record.registry} does not have it any more")
    if record.event is Event.SECURITY_HOLD:
        return Judgement(
            Verdict.SECURITY_HOLD,
            f"{record.registry} replaced the package by a placeholder: look into it before using it",
        )
    return Judgement(Verdict.VERIFIED)
