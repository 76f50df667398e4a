"""Holdings: for which trees of a checksum database all tarballs are held. Pure.

The statement about a tree of size N: of each version whose newest record below N is ``publish``, the tarball is held
here and has the integrity of the record. Of a version that was withdrawn (``unpublish``, ``security-hold``) or is in
conflict nothing is said: its bytes may be held or not.

Rules:

- Records are taken in the order of the log. A publish record whose tarball is not held opens a *gap*; it is closed when
  the tarball is found to be held, or by a later record that withdraws the version.
- A tree may be signed where it ends before every open gap, and behind every gap that a withdrawal closed: between such
  a gap and its withdrawal the statement was false, and stays so.
- What was found to be held is not looked at again: the statement is about the time when it was read.

What it does not do: look for tarballs (`mirrorwitness.logmirror.shelf`), or sign (`mirrorwitness.logmirror.attest`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, StorageRefusedError, UpstreamProtocolError
from mirrorwitness.logmirror.record import pending_of
from mirrorwitness.sumdb.records import Event, parse_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mirrorwitness.logmirror.decision import Pending
    from mirrorwitness.sumdb.records import Record

__all__ = [
    "KEPT_HEADS",
    "MAX_GAPS",
    "Gap",
    "Holdings",
    "Taken",
    "add_head",
    "close_gaps",
    "find_signable",
    "newest_head",
    "parse_holdings",
    "take_records",
]

MAX_GAPS: Final = 1000
"""Open gaps after which no further record is looked at: a mirror with more of them mirrors something else."""

KEPT_HEADS: Final = 64
"""Signed heads kept, so that the largest tree before a gap can be signed: some KB each, spread over what is open."""

FORMAT: Final = 1


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A publish record whose tarball is not held.

    Attributes:
        index: of the leaf.
        record: the record's text.
        why: what is missing, or wrong.
        differs: whether bytes are held that are not those of the record.
    """

    index: int
    record: str
    why: str
    differs: bool = False

    @property
    def parsed(self) -> Record:
        """The record."""
        return parse_record(self.record.encode())

    def __str__(self) -> str:
        """Return the gap in one line, for people."""
        record = self.parsed
        return f"leaf {self.index}, {record.name}@{record.version} of {record.registry}: {self.why}"


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that comes next, and what was found of its tarball.

    Attributes:
        record: the record.
        gap: what is missing; None where its tarball is held. Of a withdrawal it is not looked at.
    """

    record: Record
    gap: Gap | None


class Holdings(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of a log's tarballs.

    Attributes:
        origin: the log.
        position: how many records were taken.
        floor: size below which no tree may be signed.
        gaps: open gaps, in the order of their leaves.
        heads: checkpoints that the log signed, smallest first.
        written: drawn anew for each write.
    """

    origin: str
    position: int = 0
    floor: int = 0
    gaps: tuple[Gap, ...] = ()
    heads: tuple[str, ...] = ()
    written: str = ""
    format: int = FORMAT

    @property
    def end(self) -> int:
        """The size of the largest tree about which the statement may be true."""
        return min([gap.index for gap in self.gaps], default=self.position)


def parse_holdings(body: bytes, *, origin: str, key: str) -> Holdings:
    """Read what was known.

    Raises:
        StorageRefusedError: it is damaged, or of another log.
    """
    try:
        found = msgspec.json.decode(body, type=Holdings)
        sizes = [pending_of(note.encode()).size for note in found.heads]
        leaves = [gap.index for gap in found.gaps if gap.parsed.event is Event.PUBLISH]
    except (*UNREADABLE_JSON, UpstreamProtocolError) as error:
        raise StorageRefusedError(f"{key} is damaged: {error}; {_WAY_OUT}") from error
    is_good = sizes == sorted(set(sizes)) and leaves == sorted(set(leaves)) and len(leaves) == len(found.gaps)
    if not is_good or found.origin != origin or found.format != FORMAT or min(found.position, found.floor) < 0:
        raise StorageRefusedError(f"{key} is not what is known of the tarballs of {origin!r}; {_WAY_OUT}")
    return found


def take_records(holdings: Holdings, taken: Sequence[Taken]) -> Holdings:
    """Return what is known after the next records, or after the first of them that leave `MAX_GAPS` open.

    Args:
        holdings: what was known.
        taken: the records that come next, in the order of the log.
    """
    gaps = {gap.parsed.identity: gap for gap in holdings.gaps}
    position, floor = holdings.position, holdings.floor
    for item in taken:
        if len(gaps) >= MAX_GAPS:
            break
        before = gaps.pop(item.record.identity, None)
        if item.record.event is not Event.PUBLISH:
            floor = floor if before is None else position + 1
        elif item.gap is not None:
            index = position if before is None else before.index
            gaps[item.record.identity] = msgspec.structs.replace(item.gap, index=index)
        position += 1
    in_order = tuple(sorted(gaps.values(), key=lambda gap: gap.index))
    return msgspec.structs.replace(holdings, position=position, floor=floor, gaps=in_order)


def close_gaps(holdings: Holdings, looked: Mapping[int, Gap | None]) -> Holdings:
    """Return what is known after open gaps were looked at again: by leaf, what is still missing, None where nothing."""
    gaps = [looked.get(gap.index, gap) for gap in holdings.gaps]
    return msgspec.structs.replace(holdings, gaps=tuple([gap for gap in gaps if gap is not None]))


def add_head(holdings: Holdings, head: Pending, *, signed: int) -> Holdings:
    """Return what is known with one more signed head, and without those that are of no more use.

    Args:
        holdings: what is known.
        head: a checkpoint of the log.
        signed: size of the largest tree that was signed.
    """
    heads = {each.size: each for each in map(_pending, holdings.heads)}
    heads[head.size] = head
    kept = [heads[size] for size in sorted(heads) if size >= signed or size == head.size]
    while len(kept) > KEPT_HEADS:
        del kept[_closest(kept)]
    return msgspec.structs.replace(holdings, heads=tuple([each.note.decode() for each in kept]))


def find_signable(holdings: Holdings) -> Pending | None:
    """Return the largest head whose tree may be signed, None where none may."""
    fitting = [each for each in map(_pending, holdings.heads) if holdings.floor <= each.size <= holdings.end]
    return max(fitting, key=lambda each: each.size, default=None)


def newest_head(holdings: Holdings) -> Pending | None:
    """Return the largest head that is known."""
    return _pending(holdings.heads[-1]) if holdings.heads else None


def _closest(heads: Sequence[Pending]) -> int:
    """Return which head is missed least: neither the first nor the last, and close to its neighbours."""
    inner: Iterable[int] = range(1, len(heads) - 1)
    return min(inner, key=lambda at: heads[at + 1].size - heads[at - 1].size)


def _pending(note: str) -> Pending:
    return pending_of(note.encode())


_WAY_OUT: Final = "restore it, or delete it: then all tarballs are read anew"
