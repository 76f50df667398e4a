"""What a log mirror remembers of a log beside what it cosigned: pending checkpoints, and how far its copy goes. Pure.

Rules:

- Pending checkpoints are in the order in which they came, so of growing sizes. Each was proven consistent with the one
  before it; the newest is what the next one has to be proven from.
- At most `KEPT_PENDINGS` are kept, so that an upload towards an older one can be finished; a ticket reaches back
  further.
- ``next`` counts entries that are stored, all of them from 0 on, with every full tile of their tree. It is never ahead
  of the objects that it speaks of, and may be behind.
- A record that cannot be read is an error and not an empty one: nobody but the operator can say what it was.
"""

from __future__ import annotations

from typing import Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, StorageRefusedError, UpstreamProtocolError
from mirrorwitness.logmirror.decision import Known, Pending
from mirrorwitness.logmirror.ticket import SECRET_BYTES
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.note import parse_note

__all__ = ["KEPT_PENDINGS", "PendingRecord", "add_pending", "parse_pending_record", "pending_of", "raise_next"]

KEPT_PENDINGS: Final = 8
"""Pending checkpoints kept; a log that publishes one each second gives an upload some seconds, then tickets help."""

FORMAT: Final = 1


class PendingRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is pending for one log.

    Attributes:
        origin: the log.
        secret: hex of what its tickets are authenticated with.
        pendings: checkpoints with the log's lines that verified, oldest first.
        next: how many entries are stored.
        written: drawn anew for each write, so that no two records are the same.
    """

    origin: str
    secret: str
    pendings: tuple[str, ...] = ()
    next: int = 0
    written: str = ""
    format: int = FORMAT

    @property
    def ticket_secret(self) -> bytes:
        """What tickets are authenticated with."""
        return bytes.fromhex(self.secret)

    def known(self, mirror: Pending | None) -> Known:
        """Return what a decision needs to know; `mirror` is the checkpoint that was cosigned last."""
        return Known(tuple([pending_of(note.encode()) for note in self.pendings]), mirror, self.next)


def pending_of(note: bytes) -> Pending:
    """Return a checkpoint of ours, which was checked when it came.

    Raises:
        UpstreamProtocolError: it is no checkpoint.
    """
    checkpoint = parse_checkpoint(parse_note(note).text)
    return Pending(checkpoint.size, checkpoint.root, note)


def parse_pending_record(body: bytes, *, origin: str, key: str) -> PendingRecord:
    """Read a record.

    Raises:
        StorageRefusedError: it is damaged, or of another log.
    """
    try:
        record = msgspec.json.decode(body, type=PendingRecord)
        sizes = [pending.size for pending in record.known(None).pendings]
        is_good = len(record.ticket_secret) == SECRET_BYTES and record.next >= 0 and sizes == sorted(sizes)
    except (*UNREADABLE_JSON, UpstreamProtocolError, ValueError) as error:
        raise StorageRefusedError(f"{key} is damaged: {error}; {_WAY_OUT}") from error
    if not is_good or record.origin != origin or record.format != FORMAT:
        raise StorageRefusedError(f"{key} is not what is pending for {origin!r}; {_WAY_OUT}")
    return record


def add_pending(record: PendingRecord, pending: Pending, *, above: int) -> PendingRecord:
    """Return the record with one more pending checkpoint; those smaller than `above` are of no more use."""
    kept = [note for note in record.pendings if above <= pending_of(note.encode()).size < pending.size]
    kept = kept[-(KEPT_PENDINGS - 1) :]
    return msgspec.structs.replace(record, pendings=(*kept, pending.note.decode()))


def raise_next(record: PendingRecord, stored: int) -> PendingRecord:
    """Return the record that knows of more entries, or the same where it knows of as many."""
    return record if stored <= record.next else msgspec.structs.replace(record, next=stored)


_WAY_OUT: Final = (
    "restore it, or delete it: the log mirror then goes on from what it cosigned, and takes the entries anew"
)
