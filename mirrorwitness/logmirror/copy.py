"""The copy of one log: entries and tiles in the storage, from the first entry on, without a gap.

    entry bundles and full tiles -> the edge in memory -> (at a commit) the partial tiles

Rules:

- What is stored was proven before (`mirrorwitness.logmirror.decision.check_package`, or a tree whose root the log
  signed). The same entries may be stored by several tasks and replicas at once: what is full is only ever added, and
  one that is there already has to be the same.
- The edge of the tree (`mirrorwitness.sumdb.growth.Edge`) is kept in memory; after a restart it is computed from what
  is stored, at most 255 tiles of each level. It goes on only when everything that it stands on is stored.
- Partial tiles are written for the sizes that are committed, which need not be where an upload ended (`LogCopy.cut`),
  and removed once the tree that is served has the full ones (`LogCopy.prune`). SPEC: tlog-tiles, "Partial Tiles".
- Whatever happened, the last word has `cut`: the root of what is stored. No checkpoint with another one is signed.

*Concurrency*: any number of tasks; they store one after another. *Cancellation*: at any point; what was written is
right and is found again.

What it does not do: judge, or remember how far it goes (`mirrorwitness.logmirror.state`).

SPEC: C2SP tlog-tiles (July 2026); tlog-mirror, "Implementation Considerations".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    IntegrityMismatchError,
    ObjectMissingError,
    PreconditionFailedError,
    StorageRefusedError,
    StorageUnavailableError,
)
from mirrorwitness.logmirror.paths import partial_prefix, tile_key
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.growth import EMPTY_EDGE, Edge, edge_bundle, grow
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES, format_entries, parse_entries
from mirrorwitness.tlog.merkle import HASH_BYTES, Hash, leaf_hash, root_of
from mirrorwitness.tlog.partials import Partials
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import TILE_WIDTH, EntriesTile, Tile, edge_tiles

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.storage import Storage

__all__ = ["MAX_BUNDLE_BYTES", "LogCopy", "is_long"]

MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (2 + MAX_ENTRY_BYTES)
"""Largest bundle in bytes."""

PUT_TRIES: Final = 3
"""How often a partial tile is written again that somebody removed meanwhile."""

AT_ONCE: Final = 16
"""Objects read or written at once."""


class LogCopy:
    """The copy of one log.

    Args:
        storage: where it is.
        origin: the log.
        stored: how many entries are known to be stored, all from 0 on.

    Attributes:
        origin: the log.
    """

    def __init__(self, storage: Storage, origin: str, *, stored: int) -> None:
        self.origin = origin
        self._storage = storage
        self._stored = stored
        self._edge: Edge | None = None
        self._partials = Partials()
        self._partials.note(stored)
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<LogCopy of {self.origin!r}, {self.size} entries>"

    @property
    def size(self) -> int:
        """The next entry: how many are stored, all from 0 on."""
        return self._stored

    async def learn(self, stored: int) -> None:
        """Go on from where another replica is."""
        async with self._lock:
            if stored > self._stored:
                self._stored, self._edge = stored, None

    def note(self, size: int) -> None:
        """Know that there are partial tiles of the tree of a size."""
        self._partials.note(size)

    async def read_entries(self, start: int, end: int) -> tuple[bytes, ...]:
        """Return entries of one bundle that are stored.

        Raises:
            StorageError: they are not, or the storage failed.
        """
        if start == end:
            return ()
        index = start // TILE_WIDTH
        entries = await self._read_bundle(index, end - index * TILE_WIDTH)
        return entries[start % TILE_WIDTH :]

    async def store(self, index: int, entries: Sequence[bytes]) -> int:
        """Store entries that were proven, from the beginning of a bundle on, and return the next entry.

        Args:
            index: of the first entry, which begins a bundle.
            entries: this and the following ones, as many as there are.

        Raises:
            IntegrityMismatchError: what is stored already is something else.
            StorageError: the storage failed, or entries before these are missing.
        """
        async with self._lock:
            if index > self._stored:
                raise StorageRefusedError(f"{self.origin}: entry {index} was sent, the next one is {self._stored}")
            edge = await self._find_edge()
            known = edge.size - index
            if known < len(entries):
                self._check_overlap(edge, index, entries)
                await self._append(edge, entries[known:])
            return self._stored

    async def cut(self, size: int) -> Hash:
        """Write what a tree of a size has beside full tiles, and return its root.

        Raises:
            StorageError: so many entries are not stored, or the storage failed.
            IntegrityMismatchError: what is stored already is something else.
        """
        async with self._lock:
            if size > self._stored:
                raise StorageRefusedError(f"{self.origin}: a tree of {size} entries, and {self._stored} are stored")
            edge = await self._find_edge()
            if edge.size != size:
                edge = await self._read_edge(size)
            self._partials.note(size)
            bundle = edge_bundle(size)
            bundles = {} if bundle is None else {bundle: format_entries(edge.entries)}
            await self._write(edge.tiles, bundles)
            return edge.root

    async def prune(self, size: int) -> None:
        """Remove partial tiles that the tree of a size has in full; that tree, or a larger one, is served.

        Raises:
            StorageError: the storage failed; the same call again goes on.
        """
        async with self._lock:
            for place in self._partials.unneeded(size):
                for key in await list_keys(self._storage, partial_prefix(self.origin, place)):
                    await self._storage.delete(key)
                self._partials.forget(place)

    async def _append(self, edge: Edge, entries: Sequence[bytes]) -> None:
        grown = await trio.to_thread.run_sync(grow, edge, entries) if is_long(entries) else grow(edge, entries)
        # Partial tiles are written for committed sizes only (`cut`): there would be some for each package.
        tiles = {tile: body for tile, body in grown.tiles.items() if tile.is_full}
        self._partials.note(grown.edge.size)
        await self._write(tiles, grown.bundles)
        self._edge, self._stored = grown.edge, grown.edge.size

    def _check_overlap(self, edge: Edge, index: int, entries: Sequence[bytes]) -> None:
        """Check that what is sent again of a bundle is what it was."""
        known = edge.size - index
        if known % TILE_WIDTH and tuple(entries[known - known % TILE_WIDTH : known]) != edge.entries:
            raise IntegrityMismatchError(
                f"{self.origin}: the entries before {edge.size} are not those that are stored; the storage is damaged"
            )

    async def _find_edge(self) -> Edge:
        if self._edge is None:
            self._edge = await self._read_edge(self._stored)
        return self._edge

    async def _read_edge(self, size: int) -> Edge:
        """Compute the edge of a tree from full tiles and the entries of its last bundle."""
        if not size:
            return EMPTY_EDGE
        bundle = edge_bundle(size)
        entries = () if bundle is None else await self._read_bundle(bundle.index, bundle.width)
        tiles: dict[Tile, bytes] = {}
        for tile in edge_tiles(size):
            tiles[tile] = await self._read_row(tile) if tile.level else b"".join(map(leaf_hash, entries))
        return Edge(size, TileHashes(size, tiles).root(), tiles, entries)

    async def _read_row(self, tile: Tile) -> bytes:
        """Return the hashes of a partial tile: out of the full one, or from the full tiles below it."""
        found = await self._find(tile.full())
        if found is not None:
            return found[: tile.byte_size]
        below = [Tile(tile.level - 1, tile.index * TILE_WIDTH + at, TILE_WIDTH) for at in range(tile.width)]
        hashes: dict[Tile, Hash] = {}

        async def fold(child: Tile) -> None:
            body = await self._find(child)
            if body is None:
                raise self._missing(child)
            starts = range(0, len(body), HASH_BYTES)
            hashes[child] = root_of([Hash(body[at : at + HASH_BYTES]) for at in starts])

        await for_each(below, fold, at_once=AT_ONCE)
        return b"".join([hashes[child] for child in below])

    async def _read_bundle(self, index: int, width: int) -> tuple[bytes, ...]:
        """Return the first entries of a bundle, out of whichever form of it is stored."""
        last = self._stored - index * TILE_WIDTH
        for have in dict.fromkeys((TILE_WIDTH, min(last, TILE_WIDTH))):
            tile = EntriesTile(index, have)
            body = await self._find(tile)
            if body is not None:
                return tuple(parse_entries(body, tile)[:width])
        raise self._missing(EntriesTile(index, width))

    async def _find(self, tile: Tile | EntriesTile) -> bytes | None:
        limit = tile.byte_size if isinstance(tile, Tile) else MAX_BUNDLE_BYTES
        try:
            body, _ = await self._storage.read(tile_key(self.origin, tile), limit=limit)
        except ObjectMissingError:
            return None
        if isinstance(tile, Tile) and len(body) != tile.byte_size:
            raise StorageRefusedError(f"{tile_key(self.origin, tile)} has {len(body)} bytes, not {tile.byte_size}")
        return body

    async def _write(self, tiles: Mapping[Tile, bytes], bundles: Mapping[EntriesTile, bytes]) -> None:
        async def put(item: tuple[Tile | EntriesTile, bytes]) -> None:
            await self._put(*item)

        objects: list[tuple[Tile | EntriesTile, bytes]] = [*tiles.items(), *bundles.items()]
        await for_each(objects, put, at_once=min(AT_ONCE, len(objects)))

    async def _put(self, tile: Tile | EntriesTile, body: bytes) -> None:
        """Write an object where there is none; one that is there has to be the same."""
        key = tile_key(self.origin, tile)
        for _ in range(PUT_TRIES):
            try:
                await self._storage.put(key, body, if_absent=True)
            except PreconditionFailedError:
                found = await self._find(tile)
            else:
                return
            if found == body:
                return
            if found is not None:
                raise IntegrityMismatchError(f"{key} is stored already, and with other bytes than were proven")
        raise StorageUnavailableError(f"{key} was there and was not, {PUT_TRIES} times; try again")

    def _missing(self, tile: Tile | EntriesTile) -> StorageRefusedError:
        return StorageRefusedError(
            f"{tile_key(self.origin, tile)} is missing, though {self._stored} entries are said to be stored; restore "
            "it from a copy"
        )


def is_long(entries: Sequence[bytes]) -> bool:
    """Say whether hashing takes so long that other tasks should run meanwhile: more than some milliseconds."""
    return len(entries) > 4 * TILE_WIDTH or sum(map(len, entries)) > 1024 * 1024
