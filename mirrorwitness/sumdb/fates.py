"""Fates: what becomes of a record that is offered to the log, given the newest one of the same version. Pure.

    nothing known              -> logged
    same bytes, same event     -> known
    same bytes, another event  -> logged: unpublished, held, published again
    other bytes                -> a conflict is logged instead: what was first stands, beside what was offered
    a conflict                 -> nothing more is ever logged of the version

Rules:

- The first integrity stays: no record of a version has another than the record before it.
- A conflict repeats the newest record, and names the other integrity and the document that shows it. Where that is too
  long for a record its signatures are left out: the record that it repeats has them.

What it does not do: find the newest record (`mirrorwitness.sumdb.batch`), or write.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.sumdb.records import Event, Record, format_record

if TYPE_CHECKING:
    from mirrorwitness.sumdb.index import IndexLine

__all__ = ["Fate", "Proposal", "Sequenced", "evidence_of", "fate_of", "make_conflict"]


class Fate(StrEnum):
    """What became of a proposal."""

    LOGGED = "logged"
    """It is a leaf of its own."""
    KNOWN = "known"
    """The log said so before."""
    CONFLICT = "conflict"
    """Other bytes were logged under this version; that they differ is what was logged now."""
    KNOWN_CONFLICT = "known-conflict"
    """The version is in conflict since before; nothing was logged."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A record that is offered to the log.

    Attributes:
        record: what was seen. Whoever offers it has checked it; another integrity than the known one is not its
            business: it becomes a conflict here.
        evidence: the document to keep where it becomes a conflict; without one the two records are written down.
        body: the record's bytes.

    Raises:
        ConfigurationError: the record cannot be written, or is a conflict without the document that it names. So every
            proposal that exists can be logged.
    """

    record: Record
    evidence: bytes | None = field(default=None, repr=False)
    body: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Write the record."""
        if self.record.event is Event.CONFLICT:
            digest = hashlib.sha256(self.evidence or b"").digest()
            if self.evidence is None or digest != self.record.evidence:
                raise ConfigurationError(f"the {self.record!s:.300} comes without the document that it names")
        object.__setattr__(self, "body", format_record(self.record))


@dataclass(frozen=True, slots=True)
class Sequenced:
    """Where a proposal went.

    Attributes:
        index: the leaf that says it: the new one, or the one that said it before.
        fate: what became of it.
    """

    index: int
    fate: Fate


def fate_of(latest: IndexLine | None, record: Record, *, is_same: bool) -> Fate:
    """Say what becomes of a record.

    Args:
        latest: the newest record of the same version of the same registry; None where there is none.
        record: what is offered.
        is_same: whether both are of the same bytes; of no meaning where there is none.
    """
    if latest is None:
        return Fate.CONFLICT if record.event is Event.CONFLICT else Fate.LOGGED
    if latest.event is Event.CONFLICT:
        return Fate.KNOWN_CONFLICT
    if record.event is Event.CONFLICT or not is_same:
        return Fate.CONFLICT
    return Fate.KNOWN if latest.event is record.event else Fate.LOGGED


def evidence_of(known: bytes, proposal: Proposal) -> bytes:
    """Return the document to keep of a conflict with the record that is known."""
    if proposal.evidence is not None:
        return proposal.evidence
    return msgspec.json.encode({"known": known.decode(), "offered": proposal.body.decode()}, order="sorted")


def make_conflict(known: Record, other_integrity: str, evidence: bytes) -> Proposal:
    """Return the conflict to log in the place of a record with another integrity.

    Args:
        known: the newest record of the version.
        other_integrity: what is said now.
        evidence: the document that shows it.
    """
    conflict = replace(
        known, event=Event.CONFLICT, other_integrity=other_integrity, evidence=hashlib.sha256(evidence).digest()
    )
    try:
        return Proposal(conflict, evidence)
    except ConfigurationError:  # a registry with very long signatures must not escape by them
        return Proposal(replace(conflict, signatures=()), evidence)
