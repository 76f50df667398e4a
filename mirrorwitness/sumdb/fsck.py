"""Fsck: recompute a whole log from its records, and compare it with everything that is stored of it.

    records -> their hashes -> every tile -> the root -> the head, and what is published
    records -> lines of the indexes, documents of conflicts; indexes and partial tiles -> nothing that no record has

Rules:

- Every fault is told with the key, what was found and what was expected, and the check goes on: where a bundle is lost
  with the hashes that the tile has of it, so that one fault is not told a thousand times.
- Memory does not grow with the log: records come `AT_A_TIME` bundles at a time, and of the tree only the right edge is
  held.
- Nothing is changed. A log that grows meanwhile is checked up to where it was. Its last batch counts where it is
  complete; where it is only staged, that is said, and what is staged has to lead to the head.

What it does not do: ask registries or witnesses, or mend. What is derived (tiles, indexes) can be made anew from the
records; a record that is lost cannot.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    MirrorWitnessError,
    ObjectMissingError,
    RolledBackError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.faults import Fault, OnFault, OnProgress, Report, show
from mirrorwitness.sumdb.fsck_keys import KeyCheck
from mirrorwitness.sumdb.growth import parse_staged
from mirrorwitness.sumdb.index import make_line
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY, evidence_key, tile_key
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.sumdb.state import read_head, read_identity, read_published
from mirrorwitness.sumdb.stored import MAX_BUNDLE_BYTES, StoredLog
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES, parse_entries
from mirrorwitness.tlog.merkle import HASH_BYTES, Hash, leaf_hash
from mirrorwitness.tlog.tile_hashes import TileHashes, make_tiles
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles, entries_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.head import Head
    from mirrorwitness.sumdb.index import IndexLine
    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.tlog.checkpoint import Checkpoint

__all__ = ["fsck"]

AT_A_TIME: Final = 16
"""Bundles that are held at once: 4,096 records, 3 MB where they have 700 bytes, 270 MB at the very most."""

AT_ONCE: Final = 16
"""Objects that are read at once."""

MAX_EVIDENCE_BYTES: Final = 256 * 1024 * 1024
"""Largest document of a conflict that is read: it holds a packument's version object twice, and those are small."""


async def fsck(storage: Storage, *, on_fault: OnFault, on_progress: OnProgress = lambda _done, _all: None) -> Report:
    """Check a whole log.

    Args:
        storage: where it is.
        on_fault: is told each fault.
        on_progress: is told how far it has come.

    Returns:
        What was looked at, and how many faults were told.

    Raises:
        ConfigurationError: there is no log.
        StorageError: the storage failed: nothing is known of what was not read.
    """
    check = _Fsck(storage, on_fault, on_progress)
    return await check.run()


class _Fsck:
    """One check.

    Attributes:
        faults: how many were told.
    """

    def __init__(self, storage: Storage, on_fault: OnFault, on_progress: OnProgress) -> None:
        self._storage = storage
        self._log = StoredLog(storage)
        self._on_fault = on_fault
        self._on_progress = on_progress
        self._keys = KeyCheck(storage, self._tell)
        self._tiles = 0
        self._edge: dict[Tile, bytes] = {}
        self.faults = 0

    async def run(self) -> Report:
        identity = await read_identity(self._storage)
        published = await self._read_published()
        head: Head | None = None
        try:
            head, _ = await read_head(self._storage, identity)
        except (UpstreamProtocolError, SignatureError, RolledBackError) as error:
            self._tell(HEAD_KEY, show(error), "a head that the log signed")
        staged = None if head is None else await self._read_staged(head)
        size = self._size_of(head, published, is_staged=staged is not None)
        root = await self._check_records(size)
        if root is not None and head is not None:
            self._check_head(head, size, root, staged)
        if published is not None and size >= published.size:
            await self._check_published(published)
        elif published is not None:
            self._tell(HEAD_KEY, f"{size} entries", f"at least {published.size}, which are published")
        await self._keys.check(size)
        return Report(
            origin=identity.origin,
            size=size,
            root=root,
            tiles=self._tiles + self._keys.tiles,
            packages=self._keys.packages,
            faults=self.faults,
            staged=len(staged or ()),
        )

    def _tell(self, key: str, found: str, expected: str) -> None:
        self.faults += 1
        self._on_fault(Fault(key, found.removeprefix(f"{key}: "), expected))

    async def _read_published(self) -> Checkpoint | None:
        identity = await read_identity(self._storage)
        try:
            published = await read_published(self._storage, identity)
        except (UpstreamProtocolError, SignatureError) as error:
            self._tell(CHECKPOINT_KEY, show(error), f"a checkpoint that {identity.origin!r} signed")
            return None
        return None if published is None else published[0].checkpoint

    async def _read_staged(self, head: Head) -> list[bytes] | None:
        """Return the records that are not in the tree yet; None where the head's last batch is complete."""
        if head.staged is None:
            return None
        count = head.size - head.before
        try:
            body, _ = await self._storage.read(head.staged, limit=count * (MAX_ENTRY_BYTES + 2))
            return parse_staged(body, count)
        except ObjectMissingError:
            return None
        except UpstreamProtocolError as error:
            self._tell(head.staged, show(error), f"the {count} records that the head added")
            return []

    def _size_of(self, head: Head | None, published: Checkpoint | None, *, is_staged: bool) -> int:
        if head is None:
            return 0 if published is None else published.size
        return head.before if is_staged else head.size

    async def _check_records(self, size: int) -> Hash | None:
        """Go through all records, and return the root that they lead to; None where some are lost without a trace."""
        bundles = entries_tiles(0, size)
        done = 0
        self._on_progress(0, size)
        while part := list(islice(bundles, AT_A_TIME)):
            entries = await self._read_bundles(part)
            leaves = await self._hash(part, entries)
            await self._check_entries(part, entries)
            if leaves is None:
                return None
            await self._check_tiles(done, leaves, size)
            done += len(leaves)
            self._on_progress(done, size)
        return TileHashes(size, self._edge).root()

    async def _read_bundles(self, part: Sequence[EntriesTile]) -> dict[EntriesTile, list[bytes]]:
        found: dict[EntriesTile, list[bytes]] = {}

        async def read(bundle: EntriesTile) -> None:
            key = tile_key(bundle)
            try:
                body, _ = await self._storage.read(key, limit=MAX_BUNDLE_BYTES)
                found[bundle] = parse_entries(body, bundle)
            except (ObjectMissingError, UpstreamProtocolError) as error:
                self._tell(key, show(error), f"{bundle.width} records")

        await for_each(part, read, at_once=AT_ONCE)
        return found

    async def _hash(self, part: Sequence[EntriesTile], entries: Mapping[EntriesTile, list[bytes]]) -> list[Hash] | None:
        """Return the hashes of records, for a bundle that is lost those that its tile has."""
        leaves: list[Hash] = []
        for bundle in part:
            if bundle in entries:
                leaves += [leaf_hash(entry) for entry in entries[bundle]]
                continue
            tile = Tile(0, bundle.index, bundle.width)
            try:
                body = (await self._log.read_tiles([tile])).popitem()[1][: tile.byte_size]
            except (ObjectMissingError, UpstreamProtocolError) as error:
                self._tell(tile_key(tile), show(error), "the hashes of the records; nothing behind can be recomputed")
                return None
            leaves += [Hash(body[start : start + HASH_BYTES]) for start in range(0, len(body), HASH_BYTES)]
        return leaves

    async def _check_tiles(self, done: int, leaves: Sequence[Hash], size: int) -> None:
        """Compare the tiles that are full now, and at the end those of the edge."""
        made = make_tiles(TileHashes(done, self._edge), leaves)
        total = done + len(leaves)
        self._edge = {tile: made[tile] if tile in made else self._edge[tile] for tile in edge_tiles(total)}
        lasting = [(tile, body) for tile, body in made.items() if tile.is_full]
        if total == size:
            lasting += self._edge.items()
        await for_each(lasting, self._compare, at_once=AT_ONCE)

    async def _compare(self, item: tuple[Tile, bytes]) -> None:
        tile, expected = item
        key = tile_key(tile)
        self._tiles += 1
        wanted = f"{tile.width} hashes of the records below"
        try:
            body, _ = await self._storage.read(key, limit=TILE_WIDTH * HASH_BYTES)
        except ObjectMissingError:
            self._tell(key, "nothing", wanted)
            return
        if len(body) != len(expected):
            self._tell(key, f"{len(body)} bytes", wanted)
        elif body != expected:
            at = next(at for at in range(tile.width) if _nth(body, at) != _nth(expected, at))
            self._tell(key, f"hash {at} is {_nth(body, at).hex()}", _nth(expected, at).hex())

    async def _check_entries(self, part: Sequence[EntriesTile], entries: Mapping[EntriesTile, list[bytes]]) -> None:
        lines: dict[PackageName, list[IndexLine]] = {}
        conflicts: list[Record] = []
        for bundle in part:
            for at, entry in enumerate(entries.get(bundle, ())):
                index = bundle.index * TILE_WIDTH + at
                try:
                    record = parse_record(entry)
                except UpstreamProtocolError as error:
                    self._tell(tile_key(bundle), f"entry {index}: {show(error)}", "a record")
                    continue
                lines.setdefault(record.name, []).append(make_line(index, record))
                if record.event is Event.CONFLICT:
                    conflicts.append(record)
        await for_each(lines.items(), self._keys.check_lines, at_once=AT_ONCE)
        await for_each(conflicts, self._check_evidence, at_once=AT_ONCE)

    async def _check_evidence(self, record: Record) -> None:
        digest = (record.evidence or b"").hex()
        key = evidence_key(record.name, record.version, digest)
        try:
            body, _ = await self._storage.read(key, limit=MAX_EVIDENCE_BYTES)
        except ObjectMissingError:
            self._tell(key, "nothing", f"the document of the {record}")
            return
        found = hashlib.sha256(body).hexdigest()
        if found != digest:
            self._tell(key, f"a document with SHA-256 {found}", digest)

    def _check_head(self, head: Head, size: int, root: Hash, staged: list[bytes] | None) -> None:
        if staged:
            edge = TileHashes(size, self._edge)
            made = make_tiles(edge, [leaf_hash(entry) for entry in staged])
            kept = {tile: made[tile] if tile in made else self._edge[tile] for tile in edge_tiles(head.size)}
            root = TileHashes(head.size, kept).root()
        if (size == head.size or staged) and root != head.checkpoint.root:
            where = f"the records lead to the root {root.hex()} at {head.size}"
            self._tell(HEAD_KEY, f"root {head.checkpoint.root.hex()}", where)

    async def _check_published(self, published: Checkpoint) -> None:
        """Check that there are all tiles of what is published, and that they are those of its root."""
        try:
            root = await Prover(self._log).root(published.size)
        except MirrorWitnessError as error:
            self._tell(CHECKPOINT_KEY, show(error), f"all tiles of the tree of {published.size} records")
            return
        if root != published.root:
            self._tell(CHECKPOINT_KEY, f"root {published.root.hex()} at {published.size}", root.hex())


def _nth(hashes: bytes, at: int) -> bytes:
    return hashes[at * HASH_BYTES : (at + 1) * HASH_BYTES]
