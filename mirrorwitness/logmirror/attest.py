"""Attester: cosign the largest tree of a checksum database whose tarballs are all held, and name the first gap.

    the log's head -> its records, proven -> each one's tarball -> what is held -> the largest signed head that fits

Rules:

- Records are believed under the head that the log signed, and read once: how far, and which gaps are open, is
  remembered by compare-and-swap, with the heads that were seen (`mirrorwitness.logmirror.holdings`).
- What is signed is a checkpoint that the log signed; so the heads are kept, and behind a gap the one before it is
  signed.
- Every head has to go on from the newest one before it, and from what was signed; else the log forked, nothing is
  signed, and the proof is kept.
- The catalogue's statement is about now: what is lost later is found by `mirrorwitness audit`, or with `begins_anew`.

*Concurrency*: one run for a log at a time; of two, one loses the swap and stops. *Cancellation*: at any point; what was
looked at up to the last swap is not looked at again.

What it does not do: bring tarballs (`mirrorwitness sync`), or wait.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import ObjectMissingError, ProofError, UpstreamProtocolError, UpstreamStaleError
from mirrorwitness.logmirror.cosigner import Overtaken
from mirrorwitness.logmirror.decision import Pending
from mirrorwitness.logmirror.holdings import (
    MAX_GAPS,
    Holdings,
    Taken,
    add_head,
    close_gaps,
    find_signable,
    newest_head,
    parse_holdings,
    take_records,
)
from mirrorwitness.logmirror.protocol import bundle_start
from mirrorwitness.logmirror.reading import BUNDLES_AT_ONCE, TreeReader
from mirrorwitness.logmirror.record import pending_of
from mirrorwitness.logmirror.roles import ARTIFACTS
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.merkle import Range, complete_ranges, make_proof, nodes_needed, plan_consistency, subtree_hash
from mirrorwitness.tlog.tiles import TILE_WIDTH
from mirrorwitness.witness.records import format_cosigned
from mirrorwitness.witness.service import Fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.logmirror.cosigner import Cosigner
    from mirrorwitness.logmirror.holdings import Gap
    from mirrorwitness.logmirror.shelf import Shelf
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.witness.logs import WitnessedLog

__all__ = ["Attested", "Attester", "holdings_key"]

TARBALLS_AT_ONCE: Final = 8
"""Tarballs read at once."""

HOLDINGS_LIMIT: Final = 128 * 1024 * 1024
"""Bytes of the largest state that is read: 1,000 gaps with records of 65,535 bytes, and 64 heads."""


@dataclass(frozen=True, slots=True)
class Attested:
    """What came of a run.

    Attributes:
        origin: the log.
        head: the size of its head.
        looked: how many of its records were looked at, now and before.
        signed: the size of the largest tree that is signed; None where none is.
        is_new: whether it was signed now.
        gaps: what is missing, the first one first.
    """

    origin: str
    head: int
    looked: int
    signed: int | None
    is_new: bool
    gaps: tuple[Gap, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether the log's head is signed."""
        return self.signed == self.head


def holdings_key(origin: str) -> str:
    """Return the key of what is known of a log's tarballs."""
    return f"{ARTIFACTS.state}{origin_hash(origin)}.json"


class Attester:
    """Attests one log.

    Args:
        log: the log.
        source: reads it.
        storage: where the state is.
        shelf: looks for tarballs.
        cosigner: signs, with a key that has no other role.
        on_fork: told of a proof that the log forked; must not fail.
        on_progress: told how many records of how many were looked at.
    """

    def __init__(
        self,
        *,
        log: WitnessedLog,
        source: LogSource,
        storage: Storage,
        shelf: Shelf,
        cosigner: Cosigner,
        on_fork: Callable[[Fork], Awaitable[None]],
        on_progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        self.log = log
        self._source = source
        self._storage = storage
        self._shelf = shelf
        self._cosigner = cosigner
        self._on_fork = on_fork
        self._on_progress = on_progress
        self._etag: str | None = None

    def __repr__(self) -> str:
        return f"<Attester of {self.log.origin!r}, {self._shelf!r}>"

    async def run(self, *, begins_anew: bool = False) -> Attested:
        """Look at what is new, and sign what may be signed.

        Args:
            begins_anew: whether all tarballs are looked at again.

        Raises:
            ProofError: the log forked, or serves what is not its head's tree.
            RolledBackError: the state is behind what was signed.
            UpstreamError: the log cannot be read, shows an older head than before, or has entries that are no records.
            PreconditionFailedError: another run was faster.
            StorageError: the storage failed.
        """
        holdings = await self._load(begins_anew=begins_anew)
        held = await self._cosigner.find(self.log.origin)
        head = open_checkpoint(await self._source.read_head(), self.log.keys, origin=self.log.origin)
        reader = TreeReader(self._source, head.checkpoint)
        signed = None if held.record is None else pending_of(held.record.checkpoint.encode())
        for known in filter(None, (newest_head(holdings), signed)):
            await self._check_goes_on(known, head, reader)
        tree = head.checkpoint
        newest = Pending(tree.size, tree.root, format_cosigned(head, ()))
        holdings = add_head(holdings, newest, signed=held.latest.size)
        holdings = await self._look_again(holdings)
        holdings = await self._look(holdings, reader, tree.size)
        return await self._sign(holdings, tree.size, None if signed is None else signed.size)

    async def _look_again(self, holdings: Holdings) -> Holdings:
        looked: dict[int, Gap | None] = {}

        async def look(gap: Gap) -> None:
            looked[gap.index] = await self._shelf.look(gap.index, gap.parsed, gap.record.encode())

        await for_each(holdings.gaps, look, at_once=TARBALLS_AT_ONCE)
        return await self._keep(close_gaps(holdings, looked))

    async def _look(self, holdings: Holdings, reader: TreeReader, size: int) -> Holdings:
        while holdings.position < size and len(holdings.gaps) < MAX_GAPS:
            first = bundle_start(holdings.position)
            end = min(size, first + BUNDLES_AT_ONCE * TILE_WIDTH)
            entries = (await reader.read_bundles(first, end))[holdings.position - first :]
            holdings = await self._keep(await self._take(holdings, entries))
            self._on_progress(holdings.position, size)
        return holdings

    async def _take(self, holdings: Holdings, entries: Sequence[bytes]) -> Holdings:
        """Look for the tarballs of some records, side by side, and take the records in their order."""
        start = holdings.position
        records = [_parse(start + at, entry) for at, entry in enumerate(entries)]
        looked: dict[int, Gap | None] = {}

        async def look(at: int) -> None:
            looked[at] = await self._shelf.look(start + at, records[at], entries[at])

        published = [at for at, record in enumerate(records) if record.event is Event.PUBLISH]
        await for_each(published, look, at_once=TARBALLS_AT_ONCE)
        return take_records(holdings, [Taken(record, looked.get(at)) for at, record in enumerate(records)])

    async def _sign(self, holdings: Holdings, size: int, signed: int | None) -> Attested:
        target = find_signable(holdings)
        is_new = target is not None and target.size >= (signed or 0)
        if target is not None and is_new:
            opened = open_checkpoint(target.note, self.log.keys, origin=self.log.origin)
            done = await self._cosigner.cosign(opened)
            is_new = not isinstance(done, Overtaken)
            signed = done.latest.size if isinstance(done, Overtaken) else target.size
        return Attested(self.log.origin, size, holdings.position, signed, is_new, holdings.gaps)

    async def _check_goes_on(self, known: Pending, head: OpenedCheckpoint, reader: TreeReader) -> None:
        tree = head.checkpoint
        if tree.size < known.size:
            raise UpstreamStaleError(f"{tree.origin} shows size {tree.size}, and {known.size} was seen before")
        if tree.size == known.size:
            before, proof = tree.root, []
        else:
            plan = plan_consistency(known.size, tree.size)
            hashes = await reader.hashes([*nodes_needed(plan), *complete_ranges(0, known.size)])
            before, proof = subtree_hash(Range(0, known.size), hashes.hash_of), make_proof(plan, hashes.hash_of)
        if before == known.root:
            return
        proven = (before, *proof) if tree.size > known.size else ()
        await self._on_fork(Fork(tree.origin, known.note, head.format(), proven))
        raise ProofError(
            f"{tree.origin} forked: its tree of {known.size} entries had the root {known.root.hex()}, and has "
            f"{before.hex()} now; the evidence is kept, and nothing is signed"
        )

    async def _load(self, *, begins_anew: bool) -> Holdings:
        key = holdings_key(self.log.origin)
        try:
            body, info = await self._storage.read(key, limit=HOLDINGS_LIMIT)
        except ObjectMissingError:
            self._etag = None
            return Holdings(origin=self.log.origin)
        self._etag = info.etag
        found = parse_holdings(body, origin=self.log.origin, key=key)
        return Holdings(origin=self.log.origin, heads=found.heads) if begins_anew else found

    async def _keep(self, holdings: Holdings) -> Holdings:
        holdings = msgspec.structs.replace(holdings, written=secrets.token_hex(8))
        info = await self._storage.put(
            holdings_key(self.log.origin),
            msgspec.json.encode(holdings),
            if_match=self._etag,
            if_absent=self._etag is None,
            content_type="application/json",
        )
        self._etag = info.etag
        return holdings


def _parse(index: int, entry: bytes) -> Record:
    try:
        return parse_record(entry)
    except UpstreamProtocolError as error:
        raise UpstreamProtocolError(
            f"leaf {index} is no record of a checksum database, so nothing can be said of its tarball: {error}"
        ) from error
