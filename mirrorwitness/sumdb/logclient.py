"""LogClient: read one log over HTTP, in either dialect.

    <url>/checkpoint   <url>/tile/<level>/<index>[.p/<width>]     <url>/tile/entries/<index>[.p/<width>]     C2SP's
    <url>/latest       <url>/tile/8/<level>/<index>[.p/<width>]   <url>/tile/8/data/<index>[.p/<width>]      Go's

Rules:

- A head is believed under the log's keys and origin only. Tiles are somebody's bytes until a root vouches for them
  (`mirrorwitness.tlog.tile_hashes.TileHashes.check_root`), entries until their hashes are in such tiles; here only the
  length of tiles is checked.
- A partial tile or bundle that is gone is replaced by the full one. SPEC: tlog-tiles, "Partial Tiles".
- Nothing larger than a note, a tile or a bundle is read.

What it does not do: choose tiles, judge, cosign (`mirrorwitness.witness.feeder`), or manners and limits of HTTP
(`mirrorwitness.sumdb.served`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from mirrorwitness.errors import (
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
)
from mirrorwitness.fetch import MAX_PAUSE
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.served import TRIES, Served, check_base
from mirrorwitness.tlog.checkpoint import GO_ORIGIN, open_checkpoint
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, checkpoint_path, entries_path, tile_path

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.fetch import Backoff, Fetcher, HostGate
    from mirrorwitness.sumdb.served import Traffic
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["TILES_AT_ONCE", "TRIES", "KnownLog", "LogClient", "check_base", "dialect_of"]

TILES_AT_ONCE: Final = 8
"""Requests to one log at once. A proof of 35 million entries needs at most 7 tiles, so this is one round trip."""

_FORBIDDEN: Final = 403
_LENGTH_BYTES: Final = 2
"""What stands before each entry of a bundle, and at most between two in Go's dialect."""

_Part = TypeVar("_Part", Tile, EntriesTile)


class KnownLog(Protocol):
    """A log that is known: whose word its checkpoints are."""

    @property
    def origin(self) -> str:
        """The first line of its checkpoints."""
        ...

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Its keys."""
        ...


class LogClient:
    """Reads one log. May be used by several tasks at once.

    Args:
        log: the log.
        url: where it serves, with or without a slash at the end.
        dialect: how it names what it serves; Go's own log always speaks its own.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition.
        max_pause: longest pause in seconds that it can ask for with 429 or 503.

    Raises:
        ConfigurationError: the URL is none that a log can be read at.
    """

    def __init__(
        self,
        *,
        log: KnownLog,
        url: str,
        dialect: Dialect,
        fetcher: Fetcher,
        gate: HostGate,
        tries: Backoff = TRIES,
        max_pause: float = MAX_PAUSE,
    ) -> None:
        self.log = log
        owner = f"log {log.origin!r}"
        self._served = Served(url=url, owner=owner, fetcher=fetcher, gate=gate, tries=tries, max_pause=max_pause)
        self._dialect = dialect_of(log.origin, dialect)

    def __repr__(self) -> str:
        return f"<LogClient {self.log.origin!r} at {self._served.base}, {self._dialect}>"

    @property
    def traffic(self) -> Traffic:
        """What was read so far."""
        return self._served.traffic

    async def open_head(self) -> OpenedCheckpoint:
        """Read the latest checkpoint, and check that the log signed it.

        Raises:
            SignatureError: the log did not sign it.
            UpstreamProtocolError: it is no checkpoint of the log.
            UpstreamError: the log cannot be reached.
        """
        return open_checkpoint(await self.read_head(), self.log.keys, origin=self.log.origin)

    async def read_head(self) -> bytes:
        """Read the latest checkpoint as it is served; nobody has checked it.

        Raises:
            UpstreamError: the log cannot be reached, or it is larger than a note.
        """
        return await self._served.get(checkpoint_path(self._dialect), MAX_NOTE_BYTES)

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Read tiles, `TILES_AT_ONCE` at a time; a full one in the place of a partial one that is gone.

        Raises:
            UpstreamProtocolError: one has the wrong length.
            UpstreamError: one cannot be had; nothing more is asked then.
        """
        return await _read_all(tiles, self._get_tile)

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Read bundles of entries, as `read_tiles` reads tiles.

        Raises:
            UpstreamProtocolError: one is larger than its entries can be.
            UpstreamError: one cannot be had; nothing more is asked then.
        """
        return await _read_all(tiles, self._get_entries)

    async def _get_tile(self, tile: Tile) -> bytes:
        path = tile_path(tile, self._dialect)
        body = await self._served.get(path, tile.byte_size)
        if len(body) != tile.byte_size:
            raise UpstreamProtocolError(f"{self._served.base}/{path}: {len(body)} bytes, expected {tile.byte_size}")
        return body

    async def _get_entries(self, tile: EntriesTile) -> bytes:
        limit = tile.width * (MAX_ENTRY_BYTES + _LENGTH_BYTES)
        return await self._served.get(entries_path(tile, self._dialect), limit)


def dialect_of(origin: str, wanted: Dialect) -> Dialect:
    """Return how a log names what it serves: Go's own log as it always did, others as the operator says."""
    return Dialect.SUMDB if origin == GO_ORIGIN else wanted


async def _read_all(parts: Sequence[_Part], get: Callable[[_Part], Awaitable[bytes]]) -> dict[_Part, bytes]:
    found: dict[_Part, bytes] = {}

    async def read(part: _Part) -> None:
        given, body = await _read_one(part, get)
        found[given] = body

    await for_each(parts, read, at_once=min(TILES_AT_ONCE, len(parts)))
    return found


async def _read_one(part: _Part, get: Callable[[_Part], Awaitable[bytes]]) -> tuple[_Part, bytes]:
    try:
        return part, await get(part)
    except UpstreamError as error:
        if part.is_full or not _is_absent(error):
            raise
        missing = error
    full = part.full()
    try:
        return full, await get(full)
    except UpstreamError as error:
        raise type(error)(f"{missing}, and in its place {error}") from error


def _is_absent(error: UpstreamError) -> bool:
    """Say whether there is no such object: a bucket that must not be listed answers 403 for what it does not have."""
    if isinstance(error, UpstreamRefusedError):
        return error.status == _FORBIDDEN
    return isinstance(error, UpstreamNotFoundError)
