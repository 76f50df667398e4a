"""Batch: the entries that one step appends to the log, and their lines in the indexes. Pure.

Rules:

- A proposal is judged by the index and by what the same batch has of its version already, in the order in which they
  came. So two tasks that bring one version at one time log it once.
- What is known is compared by what the index says of its integrity, and where that differs by the record itself: one
  registry may add a weaker digest to an integrity, and it is the same content.

What it does not do: read records (`Batch.question` names the one that is needed), or write.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.sumdb.fates import Fate, Proposal, Sequenced, evidence_of, fate_of, make_conflict
from mirrorwitness.sumdb.index import PackageIndex, content_of, make_line
from mirrorwitness.sumdb.records import Event, parse_record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.sumdb.index import IndexLine
    from mirrorwitness.sumdb.records import Record

__all__ = ["Batch"]


class Batch:
    """What one step appends.

    Args:
        size: the size of the tree before it.
        indexes: what the log has of every package that will be offered.

    Attributes:
        entries: the new records, in order.
        lines: their lines, by package.
        evidence: documents to keep before anything is logged, each with its conflict.
    """

    def __init__(self, size: int, indexes: Mapping[PackageName, PackageIndex]) -> None:
        self._size = size
        # The newest line of each version: a batch may hold all versions of a package, and must not read it for each.
        self._latest = {
            (line.registry, name, line.version): line for name, index in indexes.items() for line in index.lines
        }
        self.entries: list[bytes] = []
        self.lines: dict[PackageName, list[IndexLine]] = {}
        self.evidence: list[tuple[Record, bytes]] = []

    def __repr__(self) -> str:
        return f"<Batch of {len(self.entries)} entries behind {self._size}, {len(self.lines)} packages>"

    def question(self, proposal: Proposal) -> int | None:
        """Return the leaf whose record has to be known before the proposal can be judged; None where none has."""
        latest = self._latest.get(proposal.record.identity)
        if latest is None or latest.event is Event.CONFLICT or proposal.record.event is Event.CONFLICT:
            return None
        return None if latest.content == content_of(proposal.record.integrity) else latest.index

    def entry(self, index: int) -> bytes | None:
        """Return an entry of this batch, None where the leaf is one of the tree before it."""
        return self.entries[index - self._size] if index >= self._size else None

    def add(self, proposal: Proposal, known: bytes | None = None) -> Sequenced:
        """Judge a proposal, and append what follows.

        Args:
            proposal: what is offered.
            known: the record that `question` asked for.

        Raises:
            UpstreamProtocolError: the known record is that of another version, or none: the index led astray.
        """
        latest = self._latest.get(proposal.record.identity)
        first = None if known is None else _parse_known(known, proposal.record)
        is_same = first is None or is_same_content(first.integrity, proposal.record.integrity) is True
        fate = fate_of(latest, proposal.record, is_same=is_same)
        if latest is not None and fate in {Fate.KNOWN, Fate.KNOWN_CONFLICT}:
            return Sequenced(latest.index, fate)
        if fate is Fate.CONFLICT and first is not None and known is not None:
            evidence = evidence_of(known, proposal)
            proposal = make_conflict(first, proposal.record.integrity, evidence)
        if fate is Fate.CONFLICT and proposal.evidence is not None:
            self.evidence.append((proposal.record, proposal.evidence))
        return Sequenced(self._append(proposal), fate)

    def _append(self, proposal: Proposal) -> int:
        record = proposal.record
        line = make_line(self._size + len(self.entries), record)
        self.entries.append(proposal.body)
        self.lines.setdefault(record.name, []).append(line)
        self._latest[record.identity] = line
        return line.index


def _parse_known(known: bytes, offered: Record) -> Record:
    record = parse_record(known)
    if record.identity != offered.identity:
        raise UpstreamProtocolError(f"index of {offered.name}: leads to the {record}, expected {offered.version}")
    return record
