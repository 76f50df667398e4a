"""What a witness remembers of a log: one small object, and the checkpoint that everybody may read.

    state/witness/logs/<hash of the origin>.json    the record; swapped, never just written
    witness/<hash of the origin>/checkpoint         what we cosigned last, for monitors (the specification's path)
    state/witness/identity.json                     whose witness this storage is

The published checkpoint is the second anchor of the record: it is written later, so it is never ahead of the record
unless the record was rolled back. Where a machine lost power it may be behind, or cut (ADR 0023). Reading both is pure;
`mirrorwitness.witness.state` does the rest.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, MirrorWitnessError, RolledBackError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint, origin_hash, parse_checkpoint, parse_hash
from mirrorwitness.tlog.cosignature import Statement, fits_cosignature, timestamp_of
from mirrorwitness.tlog.note import Note, format_note, parse_note
from mirrorwitness.witness.decision import NEVER, Latest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Signature

__all__ = [
    "IDENTITY_KEY",
    "PUBLIC_PREFIX",
    "RECORD_PREFIX",
    "WAY_OUT",
    "Identity",
    "LogRecord",
    "Published",
    "check_not_behind",
    "check_not_older",
    "format_cosigned",
    "is_cut",
    "is_older",
    "lags_behind",
    "make_newest",
    "make_record",
    "open_published",
    "parse_record",
    "public_key",
    "record_key",
    "remember",
]

PUBLIC_PREFIX: Final = "witness/"
RECORD_PREFIX: Final = "state/witness/logs/"
IDENTITY_KEY: Final = "state/witness/identity.json"

FORMAT: Final = 1


class LogRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The latest tree of one log that we cosigned.

    Attributes:
        origin: the log.
        size: of the tree.
        root: base64 of its root.
        timestamp: of the cosignatures, seconds since 1970.
        checkpoint: the note with the log's lines that verified and ours.
        before: size and timestamp of the record that this one replaced. What is published is either this record's
            checkpoint or no newer than these: else something was signed that the state does not know.
        halted: why nothing more is signed for this log; empty where it is.
        written: drawn anew for each write, so that no two records are the same.
    """

    origin: str
    size: int
    root: str
    timestamp: int
    checkpoint: str = ""
    before: tuple[int, int] = (0, 0)
    halted: str = ""
    written: str = ""
    format: int = FORMAT

    @property
    def latest(self) -> Latest:
        """What a decision needs to know.

        Raises:
            UpstreamProtocolError: the record's root is no hash.
        """
        return Latest(self.size, parse_hash(self.root, "recorded root"))


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Whose witness a storage is.

    Attributes:
        keys: vkeys that ever signed from here.
        retired: vkeys that never sign again.
    """

    keys: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class Published:
    """A checkpoint that we cosigned, as it was found somewhere.

    Attributes:
        where: for messages.
        checkpoint: the tree.
        timestamp: the latest of our cosignatures on it.
        body: the note.
    """

    where: str
    checkpoint: Checkpoint
    timestamp: int
    body: bytes


def record_key(origin: str) -> str:
    """Return the key of a log's record."""
    return f"{RECORD_PREFIX}{origin_hash(origin)}.json"


def public_key(origin: str) -> str:
    """Return the key of a log's published checkpoint."""
    return f"{PUBLIC_PREFIX}{origin_hash(origin)}/checkpoint"


def format_cosigned(opened: OpenedCheckpoint, lines: Iterable[Signature]) -> bytes:
    """Write the note that is kept and published: our lines, and of each key of the log the first one that verified.

    A log can sign one checkpoint in many ways; with 64 lines of its own and ours the note could not be read any more.
    """
    firsts = dict(reversed(opened.signed))
    kept = [line for key, line in opened.signed if firsts[key] is line]
    return format_note(Note(opened.note.text, (*kept, *lines)))


def make_record(checkpoint: Checkpoint, *, timestamp: int, note: bytes, before: tuple[int, int]) -> LogRecord:
    """Return the record of a checkpoint that is about to be cosigned; `before`: size and time of the latest one."""
    root = base64.b64encode(checkpoint.root).decode()
    return LogRecord(
        origin=checkpoint.origin,
        size=checkpoint.size,
        root=root,
        timestamp=timestamp,
        checkpoint=note.decode(),
        before=before,
    )


def parse_record(body: bytes, *, origin: str) -> LogRecord:
    """Read a record.

    Raises:
        RolledBackError: it is damaged, or of another log: what was signed cannot be told from it.
    """
    try:
        record = msgspec.json.decode(body, type=LogRecord)
        _ = record.latest
    except (*UNREADABLE_JSON, UpstreamProtocolError) as error:
        raise RolledBackError(f"the record of {origin!r} is damaged: {error}; {WAY_OUT}") from error
    if record.origin != origin:
        raise RolledBackError(f"the record of {origin!r} is that of {record.origin!r}; {WAY_OUT}")
    return record


def open_published(body: bytes, *, origin: str, where: str, own: Sequence[VerifierKey]) -> Published:
    """Read a checkpoint that has to be one that we cosigned.

    Raises:
        RolledBackError: it is not, so nobody can say what we signed.
    """
    try:
        note = parse_note(body)
        checkpoint = parse_checkpoint(note.text)
    except MirrorWitnessError as error:
        raise RolledBackError(f"{where}: what is published for {origin!r} is damaged: {error}; {WAY_OUT}") from error
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, note.text)
    times = [
        timestamp_of(line)
        for line in note.signatures
        for key in own
        if line.is_of(key) and fits_cosignature(key, line, statement)
    ]
    if checkpoint.origin != origin or not times:
        names = ", ".join(key.name for key in own)
        raise RolledBackError(
            f"{where}: what is published for {origin!r} carries no cosignature of {names} on that origin: this is the "
            "storage of another witness, or it is damaged and has to be removed by hand (was a key taken in beside "
            f"them since this process began? then start it again); {WAY_OUT}"
        )
    return Published(where, checkpoint, max(times), body)


def check_not_behind(record: LogRecord | None, published: Published | None, *, origin: str) -> Latest:
    """Return the latest tree that we cosigned, as all that there is agrees on it (P7).

    Args:
        record: the state.
        published: what was found elsewhere: in our monitoring part, or in the anchor.
        origin: the log.

    Raises:
        RolledBackError: the state is behind what we published, contradicts it, or was halted.
    """
    latest = NEVER if record is None else record.latest
    if record is not None and record.halted:
        raise RolledBackError(f"{origin!r} is halted: {record.halted}; {WAY_OUT}")
    if published is None:
        return latest
    there = published.checkpoint
    is_same = (there.size, there.root) == (latest.size, latest.root)
    size, timestamp = (0, 0) if record is None else record.before
    newest = 0 if record is None else record.timestamp
    is_ahead = not is_same and (there.size >= latest.size or there.size > size or published.timestamp > timestamp)
    if is_ahead or published.timestamp > newest:
        known = "nothing" if record is None else f"size {latest.size} and the time {newest}"
        raise RolledBackError(
            f"the state knows of {known} for {origin!r}, and {published.where} has our cosignature on {there} of "
            f"the time {published.timestamp}: the state was lost or restored from an older copy; {WAY_OUT}"
        )
    return latest


def check_not_older(record: LogRecord, found: LogRecord) -> None:
    """Check that a record that is adopted is newer than the one that is there, or the same where that was not halted.

    Raises:
        RolledBackError: it is older, contradicts it, or is what was halted.
    """
    is_same = (found.size, found.root) == (record.size, record.root)
    if found.size > record.size or (found.size == record.size and not is_same):
        raise RolledBackError(
            f"the state of {found.origin!r} knows of size {found.size} already; adopt nothing older than that, and "
            "nothing that contradicts it"
        )
    if is_same and found.halted:
        raise RolledBackError(
            f"the state of {found.origin!r} has this very checkpoint, of size {found.size}, and was halted all the "
            f"same: {found.halted}; adopt the checkpoint that halted it, or give up the key "
            "(`mirrorwitness witness retire`)"
        )


def is_older(found: Published, record: LogRecord) -> bool:
    """Say whether a checkpoint may be replaced by that of a record."""
    there, latest = found.checkpoint, record.latest
    if there.size == latest.size:
        return there.root == latest.root and found.timestamp <= record.timestamp
    return there.size < latest.size


def is_cut(body: bytes, record: LogRecord) -> bool:
    """Say whether this is a beginning of a record's checkpoint, perhaps with zeros behind it, or nothing at all.

    So a machine that loses power leaves a file that was not on its disk yet. Anything else is damage of another kind.
    """
    whole = record.checkpoint.encode()
    return body != whole and whole.startswith(body.rstrip(b"\0"))


def lags_behind(published: Published | None, record: LogRecord) -> bool:
    """Say whether what is published is older than a record that has a checkpoint to show; nothing is."""
    if published is None or not record.checkpoint:
        return bool(record.checkpoint)
    is_before = (published.checkpoint.size, published.timestamp) < (record.size, record.timestamp)
    return is_before and published.body != record.checkpoint.encode()


def make_newest(opened: OpenedCheckpoint, ours: Sequence[Cosignature]) -> LogRecord:
    """Return the record of a checkpoint that we cosigned, whatever was before it."""
    timestamp = max(item.timestamp for item in ours)
    note = format_cosigned(opened, [item.line for item in ours])
    tree = opened.checkpoint
    return make_record(tree, timestamp=timestamp, note=note, before=(tree.size, timestamp))


def remember(record: LogRecord) -> Published:
    """Return what a record says as a checkpoint that we cosigned, found in this process."""
    tree = Checkpoint(record.origin, record.size, record.latest.root)
    return Published("the memory of this process", tree, record.timestamp, b"")


WAY_OUT: Final = (
    "nothing is signed for this log until you name the newest checkpoint that this witness cosigned"
    " (`mirrorwitness witness adopt`), or give up the key (`mirrorwitness witness retire`)"
)
