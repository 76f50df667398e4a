"""Logs of the laboratory as something reads them: in memory, and over loopback."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from mirrorwitness.errors import MirrorWitnessError, UpstreamProtocolError
from mirrorwitness.fetch import FetchOptions, HostGate, Patience, open_fetcher
from mirrorwitness.run.serve import format_address, serve
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.merkle import Range
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, parse_tile_path
from tests.fakes.registry_server import RecordedRequest, Reply
from tests.unit.logmirror.world import LAB

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.run.connection import AsgiApp
    from mirrorwitness.witness.lab import LabLog

__all__ = ["LabServer", "LabSource", "fetching", "listening"]

_Kind = TypeVar("_Kind", Tile, EntriesTile)


class LabSource:
    """A `mirrorwitness.sumdb.source.LogSource` over a log of the laboratory.

    Attributes:
        lab: the log.
        size: of its head.
        bodies: tile → what is served instead.
        full_only: whether partial bundles and tiles are gone, so that full ones come in their place.
        asked: what was asked for.
        error: raised by every read.
    """

    def __init__(self, lab: LabLog = LAB, size: int = 0) -> None:
        self.lab = lab
        self.size = size
        self.bodies: dict[Tile | EntriesTile, bytes] = {}
        self.full_only = False
        self.asked: list[Tile | EntriesTile] = []
        self.error: MirrorWitnessError | None = None
        self.head: bytes | None = None

    async def read_head(self) -> bytes:
        """Return the head."""
        await self._pass()
        return self.lab.checkpoint(self.size) if self.head is None else self.head

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles."""
        await self._pass()
        self.asked += tiles
        return {tile: self.bodies.get(tile, self.tile(tile)) for tile in map(self._form, tiles)}

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles."""
        await self._pass()
        self.asked += tiles
        return {tile: self.bodies.get(tile, self.bundle(tile)) for tile in map(self._form, tiles)}

    def tile(self, tile: Tile) -> bytes:
        """Return a tile."""
        width = 256**tile.level
        first = tile.index * 256
        nodes = [Range(at * width, (at + 1) * width) for at in range(first, first + tile.width)]
        return b"".join(map(self.lab.node, nodes))

    def bundle(self, tile: EntriesTile) -> bytes:
        """Return a bundle."""
        first = tile.index * 256
        return format_entries([self.lab.entry(at) for at in range(first, first + tile.width)])

    async def _pass(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error

    def _form(self, tile: _Kind) -> _Kind:
        level = getattr(tile, "level", 0)  # full tiles of high levels take the laboratory too long
        return tile.full() if self.full_only and not level else tile


class LabServer:
    """Serves a log of the laboratory with its entries; see `tests.fakes.serving`."""

    def __init__(self, source: LabSource, *, prefix: str = "/log") -> None:
        self.source = source
        self.prefix = prefix
        self.base = ""
        self.latency = 0.0

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        path = request.target.removeprefix(f"{self.prefix}/")
        if path == "checkpoint":
            text = (("content-type", "text/plain; charset=utf-8"),)
            return Reply(200, text, self.source.lab.checkpoint(self.source.size))
        try:
            tile = parse_tile_path(path, Dialect.TILES)
        except UpstreamProtocolError:
            return Reply(404)
        body = self.source.tile(tile) if isinstance(tile, Tile) else self.source.bundle(tile)
        return Reply(200, (("content-type", "application/octet-stream"),), body)


@asynccontextmanager
async def listening(app: AsgiApp) -> AsyncGenerator[str, None]:
    """Serve an application over loopback, and give its URL."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown))
        yield format_address(bound)
        shutdown.set()


@asynccontextmanager
async def fetching() -> AsyncGenerator[tuple[Fetcher, HostGate], None]:
    """Open a door to HTTP."""
    async with open_fetcher(FetchOptions(patience=Patience(connect=5, head=5, grace=5))) as fetcher:
        yield fetcher, HostGate()
