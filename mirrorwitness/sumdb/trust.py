"""TrustStore: what a client remembers of logs between runs: the newest tree that it verified, and pieces of it.

    trust/<hash of the origin>/checkpoint          the newest verified checkpoint, as it was signed and cosigned
    trust/<hash of the origin>/tiles/<L>/<N>…      tiles that a verified root vouched for
    evidence/<hash of the origin>/<digest>.json    two checkpoints that contradict each other

Rules:

- A ratchet: the checkpoint is replaced by compare-and-swap, and only by one of a larger tree that was compared with it.
  Of two processes at once one has to read the other's and compare anew.
- A damaged checkpoint is an error that says what to do. To go on without would forget what the log once showed.
- Tiles are a cache: one that is damaged is dropped and read again. Only verified ones are kept, at most `MAX_TILES`.
- Whoever can write here can make a client forget; nothing kept here is believed without the log's signature or a root
  that has it.

What it does not do: verify, compare or fetch (`mirrorwitness.sumdb.client`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    SecurityError,
    StorageError,
    UpstreamProtocolError,
)
from mirrorwitness.storage.swap import swap
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.evidence import evidence_key
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import Dialect, tile_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.tiles import Tile

__all__ = ["MAX_TILES", "TrustStore", "Trusted"]

MAX_TILES: Final = 512
"""Most tiles that are kept of one log: 4 MB. A comparison of 40 million entries needs some ten of them."""

MAX_EVIDENCE: Final = 16
"""Most pieces of evidence of one log that are looked at; one that holds is enough."""

MAX_EVIDENCE_BYTES: Final = 16 * MAX_NOTE_BYTES
"""Largest piece of evidence in bytes: two notes, escaped, and the hashes between them."""

_TEXT: Final = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Trusted:
    """The newest verified checkpoint.

    Attributes:
        note: as it was signed and cosigned.
        tree: the tree.
        etag: what came with it, for the swap.
    """

    note: bytes
    tree: Checkpoint
    etag: str


class TrustStore:
    """What is remembered of logs, in one storage. May be used by several tasks and processes at once.

    Args:
        storage: where.
        place: what people call it, for messages.
    """

    def __init__(self, storage: Storage, *, place: str) -> None:
        self._storage = storage
        self._place = place

    def __repr__(self) -> str:
        return f"<TrustStore in {self._place}>"

    @property
    def storage(self) -> Storage:
        """Where it keeps everything."""
        return self._storage

    async def read_head(self, terms: Terms) -> Trusted | None:
        """Return the newest verified checkpoint of a log; None where it was never met.

        Raises:
            ConfigurationError: it is damaged, or no key that is trusted now signed it.
            StorageError: the storage failed.
        """
        key = _head_key(terms.origin)
        try:
            body, info = await self._storage.read(key, limit=MAX_NOTE_BYTES)
        except ObjectMissingError:
            return None
        try:
            opened = open_checkpoint(body, terms.keys, origin=terms.origin)
        except (UpstreamProtocolError, SecurityError) as error:
            raise ConfigurationError(
                f"{self._place}/{key}, the newest checkpoint that was verified, cannot be used: {error}. If the log "
                "changed its key, name the old key as well. If the file was damaged, remove it: then a fork of the log "
                "from what was verified before goes unnoticed here"
            ) from error
        return Trusted(body, opened.checkpoint, info.etag)

    async def write_head(self, origin: str, note: bytes, *, replaces: Trusted | None) -> None:
        """Remember a checkpoint, if the newest one is still the one that it was compared with.

        Raises:
            PreconditionFailedError: another process was first.
            StorageError: the storage failed.
        """
        etag = None if replaces is None else replaces.etag
        await swap(self._storage, _head_key(origin), note, etag=etag, kind=_TEXT)

    async def read_tiles(self, origin: str, tiles: Iterable[Tile]) -> dict[Tile, bytes]:
        """Return those of the tiles that are kept, or full ones in their place."""
        found: dict[Tile, bytes] = {}
        for tile in tiles:
            for form in dict.fromkeys((tile, tile.full())):
                body = await self._read_tile(origin, form)
                if body is not None:
                    found[form] = body
                    break
        return found

    async def keep_tiles(self, origin: str, tiles: Mapping[Tile, bytes]) -> None:
        """Keep tiles that a verified root vouched for.

        Raises:
            StorageError: the storage failed.
        """
        for tile, body in tiles.items():
            await self._storage.put(_tile_key(origin, tile), body)
        if tiles:
            await self._trim(origin)

    async def drop_tiles(self, origin: str, tiles: Iterable[Tile]) -> None:
        """Forget tiles that turned out to be damaged.

        Raises:
            StorageError: the storage failed.
        """
        for tile in tiles:
            await self._storage.delete(_tile_key(origin, tile))

    async def keep_evidence(self, origin: str, body: bytes) -> str:
        """Keep a piece of evidence, once for two trees; return where it is, for people.

        Raises:
            StorageError: the storage failed.
        """
        key = f"{_evidence_prefix(origin)}{evidence_key(origin, body).rpartition('/')[2]}"
        await self._storage.put(key, body, content_type="application/json")
        return f"{self._place}/{key}"

    async def read_evidence(self, origin: str) -> list[tuple[str, bytes]]:
        """Return what is kept as evidence against a log, each with where it is, for people.

        Raises:
            StorageError: the storage failed.
        """
        page = await self._storage.list(_evidence_prefix(origin), limit=MAX_EVIDENCE)
        found: list[tuple[str, bytes]] = []
        for info in page.objects:
            if info.size <= MAX_EVIDENCE_BYTES:
                body, _ = await self._storage.read(info.key, limit=MAX_EVIDENCE_BYTES)
                found.append((f"{self._place}/{info.key}", body))
        return found

    async def _read_tile(self, origin: str, tile: Tile) -> bytes | None:
        try:
            body, _ = await self._storage.read(_tile_key(origin, tile), limit=tile.byte_size)
        except StorageError:
            return None  # not there, or longer than a tile
        return body if len(body) == tile.byte_size else None

    async def _trim(self, origin: str) -> None:
        prefix = _tiles_prefix(origin)
        kept: list[str] = []
        after: str | None = ""
        while after is not None:
            page = await self._storage.list(prefix, after=after)
            kept += [info.key for info in page.objects]
            after = page.more_after
        # Low levels stand first, and there the oldest: a comparison with a newer tree asks for none of them again.
        for key in sorted(kept)[: max(0, len(kept) - MAX_TILES)]:
            await self._storage.delete(key)


def _head_key(origin: str) -> str:
    return f"trust/{origin_hash(origin)}/checkpoint"


def _evidence_prefix(origin: str) -> str:
    return f"evidence/{origin_hash(origin)}/"


def _tiles_prefix(origin: str) -> str:
    return f"trust/{origin_hash(origin)}/tiles/"


def _tile_key(origin: str, tile: Tile) -> str:
    return _tiles_prefix(origin) + tile_path(tile, Dialect.TILES).removeprefix("tile/")
