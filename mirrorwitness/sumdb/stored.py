"""StoredLog: read a log in a storage, its own or one that was copied there.

Rules:

- It is a `mirrorwitness.sumdb.source.LogSource`: what it returns are a storage's bytes; the lengths are checked.
- A partial tile or bundle that is gone is replaced by the full one. SPEC: tlog-tiles, "Partial Tiles".

*Concurrency*: all methods may be called by many tasks at once; each reads `AT_ONCE` objects at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from mirrorwitness.errors import ObjectMissingError, UpstreamProtocolError
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.paths import LOG_PREFIX
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.merkle import HASH_BYTES
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import TILE_WIDTH, Dialect, EntriesTile, Tile, checkpoint_path, entries_path, tile_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Storage

__all__ = ["AT_ONCE", "MAX_BUNDLE_BYTES", "StoredLog"]

AT_ONCE: Final = 8
"""Objects that one call reads at once: a proof of 35 million entries needs at most 7 tiles."""

MAX_BUNDLE_BYTES: Final = TILE_WIDTH * (MAX_ENTRY_BYTES + 2)
"""Largest bundle of entries in bytes: 16.8 MB; each entry is behind its length."""

_Kind = TypeVar("_Kind", Tile, EntriesTile)


class StoredLog:
    """Reads one log below a prefix of a storage.

    Args:
        storage: where.
        prefix: what the keys begin with, with a slash at the end.
    """

    def __init__(self, storage: Storage, prefix: str = LOG_PREFIX) -> None:
        self._storage = storage
        self._prefix = prefix

    def __repr__(self) -> str:
        return f"<StoredLog {self._prefix} in {self._storage!r}>"

    async def read_head(self) -> bytes:
        """Return the published checkpoint.

        Raises:
            ObjectMissingError: none is published.
            StorageError: the storage failed.
        """
        body, _ = await self._storage.read(self._prefix + checkpoint_path(Dialect.TILES), limit=MAX_NOTE_BYTES)
        return body

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles; a full one in the place of a partial one that is gone.

        Raises:
            ObjectMissingError: one is not there.
            UpstreamProtocolError: one has another length.
            StorageError: the storage failed.
        """
        found = await self._read(tiles)
        for tile, body in found.items():
            if len(body) != tile.byte_size:
                key = self._prefix + tile_path(tile, Dialect.TILES)
                raise UpstreamProtocolError(f"{key}: {len(body)} bytes, expected {tile.byte_size}")
        return found

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles of entries; a full one in the place of a partial one that is gone.

        Raises:
            ObjectMissingError: one is not there.
            StorageError: one is larger than `MAX_BUNDLE_BYTES`, or the storage failed.
        """
        return await self._read(tiles)

    async def _read(self, tiles: Sequence[_Kind]) -> dict[_Kind, bytes]:
        found: dict[_Kind, bytes] = {}

        async def read(tile: _Kind) -> None:
            given, body = await self._read_one(tile)
            found[given] = body

        if len(tiles) == 1:  # most calls of a look-up: not worth tasks
            await read(tiles[0])
        else:
            await for_each(tiles, read, at_once=min(AT_ONCE, len(tiles)))
        return found

    async def _read_one(self, tile: _Kind) -> tuple[_Kind, bytes]:
        try:
            return tile, await self._get(tile)
        except ObjectMissingError as error:
            if tile.is_full:
                raise
            missing = error
        full = tile.full()
        try:
            return full, await self._get(full)
        except ObjectMissingError as error:
            raise ObjectMissingError(f"{missing}, and in its place {error}") from error

    async def _get(self, tile: Tile | EntriesTile) -> bytes:
        if isinstance(tile, Tile):
            key, limit = tile_path(tile, Dialect.TILES), TILE_WIDTH * HASH_BYTES
        else:
            key, limit = entries_path(tile, Dialect.TILES), MAX_BUNDLE_BYTES
        return (await self._storage.read(self._prefix + key, limit=limit))[0]
