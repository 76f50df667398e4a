"""LogClient: read one log over HTTP, in either dialect.

    <url>/checkpoint      <url>/tile/<level>/<index>[.p/<width>]        C2SP tlog-tiles
    <url>/latest          <url>/tile/8/<level>/<index>[.p/<width>]      Go's checksum database

Rules:

- A head is believed under the log's keys and origin only. Tiles are somebody's bytes until a root vouches for them
  (`mirrorwitness.tlog.tile_hashes.TileHashes.check_root`); here only their length is checked.
- A partial tile that is gone is replaced by the full one. SPEC: tlog-tiles, "Partial Tiles".
- A log is read at its own origin (scheme, host, port), redirects included: a log cannot send us elsewhere.
- Nothing larger than a note or a tile is read, and nothing is unpacked.

What it does not do: choose tiles, judge, cosign (`mirrorwitness.witness.feeder`), or wait for longer than the fetcher's
own deadlines: an overall one is the caller's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
)
from mirrorwitness.fetch import Backoff, Session, SickAnswerError, make_policy, make_status_error, origin_of
from mirrorwitness.tlog.checkpoint import GO_ORIGIN, open_checkpoint
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import Dialect, checkpoint_path, tile_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.tiles import Tile

__all__ = ["TILES_AT_ONCE", "TRIES", "KnownLog", "LogClient", "check_base", "dialect_of"]

SECONDS: Final = 1.0

TILES_AT_ONCE: Final = 8
"""Requests to one log at once. A proof of 35 million entries needs at most 7 tiles, so this is one round trip."""

TRIES: Final = Backoff(attempts=3, base=0.5 * SECONDS, cap=5 * SECONDS)
"""Three tries fit into a minute; the next poll is a try too."""

_OK: Final = 200
_FORBIDDEN: Final = 403
_SHOWN: Final = 300


class KnownLog(Protocol):
    """A log that is known: whose word its checkpoints are."""

    @property
    def origin(self) -> str:
        """The first line of its checkpoints."""

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """Its keys."""


class LogClient:
    """Reads one log. May be used by several tasks at once.

    Args:
        log: the log.
        url: where it serves, with or without a slash at the end.
        dialect: how it names what it serves; Go's own log always speaks its own.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition.

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
    ) -> None:
        self.log = log
        self._base = check_base(url, f"log {log.origin!r}")
        self._dialect = dialect_of(log.origin, dialect)
        self._session = Session(
            fetcher=fetcher, gate=gate, policy=make_policy(self._base), home=self._base, tries=tries
        )

    def __repr__(self) -> str:
        return f"<LogClient {self.log.origin!r} at {self._base}, {self._dialect}>"

    async def read_head(self) -> OpenedCheckpoint:
        """Read the latest checkpoint.

        Raises:
            SignatureError: the log did not sign it.
            UpstreamProtocolError: it is no checkpoint of the log.
            UpstreamError: the log cannot be reached.
        """
        body = await self._get(checkpoint_path(self._dialect), MAX_NOTE_BYTES)
        return open_checkpoint(body, self.log.keys, origin=self.log.origin)

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Read tiles, `TILES_AT_ONCE` at a time; a full one in the place of a partial one that is gone.

        Raises:
            UpstreamProtocolError: one has the wrong length.
            UpstreamError: one cannot be had; nothing more is asked then.
        """
        waiting = iter(tiles)
        found: dict[Tile, bytes] = {}
        failed: list[MirrorWitnessError] = []

        async def work() -> None:
            for tile in waiting:
                try:
                    given, body = await self._read_tile(tile)
                except MirrorWitnessError as error:
                    failed.append(error)
                    nursery.cancel_scope.cancel()
                    return
                found[given] = body

        async with trio.open_nursery() as nursery:
            for _ in range(min(TILES_AT_ONCE, len(tiles))):
                nursery.start_soon(work)
        if failed:
            raise failed[0]
        return found

    async def _read_tile(self, tile: Tile) -> tuple[Tile, bytes]:
        try:
            return tile, await self._get_tile(tile)
        except UpstreamError as error:
            if tile.is_full or not _is_absent(error):
                raise
            missing = error
        try:
            return tile.full(), await self._get_tile(tile.full())
        except UpstreamError as error:
            raise type(error)(f"{missing}, and in its place {error}") from error

    async def _get_tile(self, tile: Tile) -> bytes:
        path = tile_path(tile, self._dialect)
        body = await self._get(path, tile.byte_size)
        if len(body) != tile.byte_size:
            raise UpstreamProtocolError(f"{self._base}/{path}: {len(body)} bytes, expected {tile.byte_size}")
        return body

    async def _get(self, path: str, limit: int) -> bytes:
        url = f"{self._base}/{path}"

        async def once() -> bytes:
            async with self._session.request("GET", url, headers={"accept-encoding": "identity"}) as response:
                if response.status != _OK:
                    raise make_status_error(response.status, f"{url[:_SHOWN]}: status {response.status}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise SickAnswerError(f"{url[:_SHOWN]}: Content-Encoding that was not asked for")
                return await response.read(limit)

        return await self._session.repeat(once)


def dialect_of(origin: str, wanted: Dialect) -> Dialect:
    """Return how a log names what it serves: Go's own log as it always did, others as the operator says."""
    return Dialect.SUMDB if origin == GO_ORIGIN else wanted


def check_base(url: str, owner: str) -> str:
    """Return a URL to which a path can be added."""
    base = url.rstrip("/")
    try:
        origin_of(base)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"{owner}: {error}") from error
    if "?" in base or "#" in base:
        raise ConfigurationError(f"{owner}: URL {base[:_SHOWN]!r}: expected no query and no fragment")
    return base


def _is_absent(error: UpstreamError) -> bool:
    """Say whether there is no such object: a bucket that must not be listed answers 403 for what it does not have."""
    if isinstance(error, UpstreamRefusedError):
        return error.status == _FORBIDDEN
    return isinstance(error, UpstreamNotFoundError)
