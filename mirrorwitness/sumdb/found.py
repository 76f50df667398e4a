"""Found: a record that a verified tree has, with all that shows it. Pure.

    the answer -> its proof leads to the root -> the record -> it is about what was asked

Rules:

- The record's bytes are proven before they are read: what is no leaf of the tree is not looked into.
- A record that is a leaf and is about another package or version proves nothing of the one that was asked.
- What was found can be written as a tlog-proof: whoever has that file, the log's key and a policy needs nobody else.

What it does not do: verify checkpoints (`mirrorwitness.sumdb.terms`), or say what the record means for somebody's
bytes (`mirrorwitness.sumdb.verdict`). It cannot say that no newer record of the version exists: a log has no proof of
what it does not have.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.errors import ProofError
from mirrorwitness.sumdb.lookups import Lookup, format_lookup
from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.tlog.merkle import check_inclusion, leaf_hash

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.tlog.checkpoint import Checkpoint

__all__ = ["Found", "check_lookup"]


@dataclass(frozen=True, slots=True)
class Found:
    """A record that is in a tree.

    Attributes:
        record: the record.
        lookup: its bytes, its index and its proof; without a checkpoint.
        tree: the tree that has it; of a checkpoint that was verified.
        note: that checkpoint, with its signatures and cosignatures.
    """

    record: Record
    lookup: Lookup
    tree: Checkpoint
    note: bytes = field(repr=False)

    @property
    def index(self) -> int:
        """Where the record stands in the log."""
        return self.lookup.index

    def format_proof(self) -> bytes:
        """Write it as a self-contained tlog-proof, with the record as extra data."""
        return format_lookup(Lookup(self.lookup.index, self.lookup.record, self.lookup.proof, self.note))


def check_lookup(lookup: Lookup, tree: Checkpoint, *, name: PackageName, version: Version) -> Record:
    """Check that a tree has the record of an answer, and that it is about what was asked.

    Args:
        lookup: the answer, as it was read.
        tree: out of a checkpoint that was verified.
        name: the package that was asked for.
        version: the version that was asked for.

    Raises:
        ProofError: the tree does not have this record at this index, or it is about something else.
        UpstreamProtocolError: the log has a leaf there that is no record.
    """
    what = f"{name}@{version}"
    if not 0 <= lookup.index < tree.size:
        raise ProofError(f"{what}: the answer's index is {lookup.index}, expected one below the tree size {tree.size}")
    leaf = leaf_hash(lookup.record)
    try:
        check_inclusion(lookup.proof, index=lookup.index, size=tree.size, leaf=leaf, root=tree.root)
    except ProofError as error:
        raise ProofError(f"{what}: the answer is not in the log: {error}") from error
    record = parse_record(lookup.record)
    if (record.name, record.version) != (name, version):
        raise ProofError(f"{what}: the answer is a record of {record.name}@{record.version}")
    return record
