"""The checksum database's HTTP interface, as an ASGI application: reads only, nobody can post anything.

    GET /checkpoint   /tile/…   /tile/entries/…      as stored, C2SP tlog-tiles
    GET /lookup/<name>@<version>[?size=N]            the newest record of a version, with its proof
    GET /lookup/<name>[?size=N]                      all records of a package
    GET /index/<name>                                which leaves are about a package
    GET /-/at/<size>/…                               the same, as it stood at that size
    GET /healthz   /readyz   /metrics

Rules:

- What never changes says so to caches: tiles, bundles, and look-ups in a tree of a named size. Everything else may be
  kept for `MAX_AGE` seconds, and what is not there not at all.
- A version in conflict is answered with 409 and the record that says so: its body is proven like any other.
- Answers that say no are one line of text for people.
- Of a tree of a named size only what that tree has is shown: no later tile, record or line of an index. Its checkpoint
  is there only while it is the published one: others are not kept.

What it does not do: find and prove records (`mirrorwitness.server.lookups`), or verify what is stored: clients do.

SPEC: C2SP tlog-tiles, "HTTP endpoints"; the rest is ours.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    ObjectMissingError,
    SecurityError,
    StorageError,
    UpstreamError,
)
from mirrorwitness.server.asgi import App
from mirrorwitness.server.faults import DamagedObjectError, RequestError
from mirrorwitness.server.lookups import RETRY_SECONDS, Found
from mirrorwitness.server.sumdb_routes import (
    CheckpointRoute,
    IndexRoute,
    LookupRoute,
    NoRoute,
    PackageRoute,
    Placed,
    State,
    StateRoute,
    TileRoute,
    kind_of,
    parse_request,
)
from mirrorwitness.sumdb.index import format_index
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, tile_key
from mirrorwitness.telemetry import CONTENT_TYPE, format_metrics
from mirrorwitness.tlog.tiles import Tile, width_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirrorwitness.server.asgi import Exchange, Request
    from mirrorwitness.server.lookups import Lookups
    from mirrorwitness.server.traffic import Traffic
    from mirrorwitness.storage import Storage
    from mirrorwitness.telemetry import Sample

__all__ = ["MAX_AGE", "READY_SECONDS", "make_sumdb_app"]

MAX_AGE: Final = 5
"""Seconds that caches may keep what changes; a checkpoint is published a few times in a minute."""

READY_SECONDS: Final = 5
"""How long readiness waits for the storage; Kubernetes' own probes give up after 1 to 10 s."""

_TEXT: Final = "text/plain; charset=utf-8"
_OCTETS: Final = "application/octet-stream"
_FIXED: Final = "public, max-age=31536000, immutable"
_SHORT: Final = f"public, max-age={MAX_AGE}"
_NEVER: Final = "no-store"
_METHODS: Final = ("GET", "HEAD")
_NOTHING: Final = (
    "this checksum database answers /checkpoint, /tile/…, /lookup/<name>@<version>, /lookup/<name>, /index/<name> and "
    "/-/at/<size>/…"
)
_log = logging.getLogger("mirrorwitness.sumdb")


def make_sumdb_app(
    *,
    storage: Storage,
    lookups: Lookups,
    samples: Callable[[], Iterable[Sample]] = tuple,
    at: int | None = None,
    traffic: Traffic | None = None,
) -> App:
    """Make the ASGI application.

    Args:
        storage: where the log is.
        lookups: answers look-ups.
        samples: gives the metrics of what else runs in the process.
        at: the size of the tree that is shown; None for the published one.
        traffic: counts what was answered; None: nobody counts.
    """
    shown = _Shown(storage, lookups, at)

    async def answer(request: Request, exchange: Exchange) -> None:
        try:
            route = _route(request)
            exchange.route = kind_of(route)
            if isinstance(route, StateRoute):
                await _answer_state(route.state, exchange)
            elif isinstance(route, Placed):
                await shown.answer(route, exchange)
            else:
                raise RequestError(404, _NOTHING)
        except MirrorWitnessError as error:
            if exchange.is_started:
                raise
            await _refuse(error, exchange)

    async def _answer_state(state: State, exchange: Exchange) -> None:
        if state is State.METRICS:
            counted = () if traffic is None else traffic.samples()
            await _send(exchange, format_metrics([*samples(), *counted]), CONTENT_TYPE, _NEVER)
            return
        if state is State.READY:
            await _check_ready(storage)
        await _send(exchange, b"ok\n", _TEXT, _NEVER)

    return App(answer, traffic=traffic)


class _Shown:
    """One log, as far as it is shown."""

    def __init__(self, storage: Storage, lookups: Lookups, at: int | None) -> None:
        self._storage = storage
        self._lookups = lookups
        self._at = at

    async def answer(self, placed: Placed, exchange: Exchange) -> None:
        """Answer what is asked of the log."""
        at = self._place(placed.at)
        match placed.route:
            case CheckpointRoute():
                await self._checkpoint(at, exchange)
            case TileRoute():
                await self._tile(placed.route, at, exchange)
            case LookupRoute(name, version, size):
                await _send_found(exchange, await self._lookups.version(name, version, size=size, at=at))
            case PackageRoute(name, size):
                await _send_found(exchange, await self._lookups.package(name, size=size, at=at))
            case IndexRoute(name):
                body = format_index(await self._lookups.index(name, at=at))
                await _send(exchange, body, _TEXT, _SHORT if at is None else _FIXED)

    def _place(self, at: int | None) -> int | None:
        """Return the size of the tree that is shown: a server that shows an old one shows no later one in it."""
        if at is not None and self._at is not None and at > self._at:
            raise RequestError(404, f"no tree of {at} records is here; this server shows that of {self._at}")
        return self._at if at is None else at

    async def _checkpoint(self, at: int | None, exchange: Exchange) -> None:
        published = await self._lookups.published()
        if at is not None and at != published.tree.size:
            raise RequestError(404, f"the checkpoint of the tree of {at} records is not kept")
        await _send(exchange, published.note, _TEXT, _SHORT)

    async def _tile(self, route: TileRoute, at: int | None, exchange: Exchange) -> None:
        tile = route.tile
        if at is not None and width_of(tile.level if isinstance(tile, Tile) else 0, tile.index, at) < tile.width:
            raise RequestError(404, f"the tree of {at} records has no tile {tile}")
        try:
            async with self._storage.open(tile_key(tile)) as reader:
                headers = {"content-type": _OCTETS, "cache-control": _FIXED}
                await exchange.respond_stream(200, headers, reader, length=reader.info.size)
        except ObjectMissingError as error:
            raise RequestError(
                404, f"the log has no tile {tile}, or not any more; the full one may be there"
            ) from error


def _route(request: Request) -> Placed | StateRoute | NoRoute:
    if request.method not in _METHODS:
        message = f"{request.method[:20]} is not possible: a checksum database is read, it grows by itself"
        raise RequestError(405, message, headers={"allow": ", ".join(_METHODS)})
    try:
        return parse_request(request.path, request.query)
    except ConfigurationError as error:
        raise RequestError(400, str(error)) from error


async def _check_ready(storage: Storage) -> None:
    try:
        with trio.fail_after(READY_SECONDS):
            found = await storage.stat(CHECKPOINT_KEY)
    except trio.TooSlowError as error:
        raise RequestError(503, f"the storage gave no answer within {READY_SECONDS} s") from error
    if found is None:
        raise RequestError(503, "nothing is published yet")


async def _send_found(exchange: Exchange, found: Found) -> None:
    cache = _FIXED if found.is_fixed else _SHORT
    await _send(exchange, found.body, _TEXT, cache, status=409 if found.is_conflict else 200)


async def _send(exchange: Exchange, body: bytes, kind: str, cache: str, *, status: int = 200) -> None:
    await exchange.respond(status, {"content-type": kind, "cache-control": cache}, body)


async def _refuse(error: MirrorWitnessError, exchange: Exchange) -> None:
    """Answer with what is wrong; what is not the client's business goes to the log only."""
    headers = {"content-type": _TEXT, "cache-control": _NEVER}
    if isinstance(error, RequestError):
        await exchange.respond(error.status, headers | error.headers, _line(str(error)))
        return
    _log.error("request_failed", extra={"route": exchange.route}, exc_info=error)
    if isinstance(error, DamagedObjectError | UpstreamError | SecurityError | ConfigurationError):
        await exchange.respond(500, headers, b"what is stored is damaged, the server's log says more\n")
        return
    what = b"the storage does not answer" if isinstance(error, StorageError) else b"the log stands still"
    headers["retry-after"] = str(RETRY_SECONDS)
    await exchange.respond(503, headers, what + b", try again later\n")


def _line(text: str) -> bytes:
    """Return a message as one line: it may repeat what a registry said."""
    return " ".join(text.split()).encode() + b"\n"
