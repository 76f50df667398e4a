"""The log mirror's HTTP interface, as an ASGI application.

    POST /add-checkpoint    POST /add-entries            the submission prefix
    GET /<hex SHA-256 of the origin>/checkpoint          the monitoring prefix: a tiled log for each log
    GET /<hex SHA-256 of the origin>/tile/…
    GET /artifacts/<hex SHA-256 of the origin>/checkpoint    what was attested, where this storage has any
    GET /healthz   GET /readyz   GET /metrics

Rules:

- The body of an ``add-entries`` is taken as it comes and answered as soon as the answer is known. What of it is not
  read then is thrown away up to a limit, and the connection ended behind that (`mirrorwitness.run.connection`).
- gzip is unpacked in pieces, other codings are a 415 that names it. SPEC: "Mirrors MUST support receiving
  Content-Encoding: gzip".
- A checkpoint that a machine without power left cut is no answer, but a 503 until it is published again (ADR 0023).
- Tiles and bundles never change and may be kept for ever, a checkpoint for some seconds. What is not stored is a 404,
  also a partial tile of a size that was never committed.
- A client that leaves is no error of ours, and gets no answer: `OSError` goes up to the server.

SPEC: C2SP tlog-mirror (July 2026); tlog-tiles for what is read.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, StorageError, UpstreamProtocolError
from mirrorwitness.logmirror.copy import MAX_BUNDLE_BYTES
from mirrorwitness.logmirror.inflate import Inflater
from mirrorwitness.logmirror.paths import checkpoint_key, tile_key
from mirrorwitness.logmirror.protocol import ENTRIES_TYPE
from mirrorwitness.logmirror.roles import ARTIFACTS
from mirrorwitness.server.answers import (
    BODY_SECONDS,
    CHECKPOINT_MAX_AGE,
    nothing,
    respond,
    route,
    say_healthy,
    say_ready,
)
from mirrorwitness.telemetry import CONTENT_TYPE, Sample, format_metrics, metrics
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, parse_tile_path
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, Answer, Reason, answer
from mirrorwitness.witness.service import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.server.answers import Given
    from mirrorwitness.server.asgi import Receive, Scope, Send
    from mirrorwitness.storage import Storage

__all__ = ["LogMirrorApp"]

_MONITORING: Final = re.compile(r"(/artifacts)?/([0-9a-f]{64})/(checkpoint|tile/.+)")
_IMMUTABLE: Final = "public, max-age=31536000, immutable"
_ENCODINGS: Final = {"accept-encoding": "gzip"}
_log = logging.getLogger("mirrorwitness.logmirror")


class LogMirrorApp:
    """Answers logs, and those who read their copies.

    Args:
        mirror: takes and signs.
        storage: what is served.
    """

    def __init__(self, *, mirror: LogMirror, storage: Storage) -> None:
        self._mirror = mirror
        self._storage = storage
        self._posts = {"/add-checkpoint": self._add_checkpoint, "/add-entries": self._add_entries}

    def __repr__(self) -> str:
        return f"<LogMirrorApp {self._mirror!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(scope, receive, send, find=self._answer, note_bug=_note_bug)

    async def _answer(self, scope: Scope, receive: Receive) -> Given:
        return await route(scope, receive, posts=self._posts, gets=self._gets)

    async def _add_checkpoint(self, _scope: Scope, receive: Receive) -> Given:
        body = _Body(receive)
        pieces: list[bytes] = []
        left = MAX_BODY_BYTES
        with trio.fail_after(BODY_SECONDS):
            # One that is too large is read only as far as shows it.
            while left >= 0 and (piece := await body.receive()):
                left -= len(piece)
                pieces.append(piece)
        return await self._mirror.add_checkpoint(b"".join(pieces)), {}

    async def _add_entries(self, scope: Scope, receive: Receive) -> Given:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        coding = headers.get("content-encoding", "identity").strip().lower()
        if kind != ENTRIES_TYPE:
            return Answer(415, f"expected Content-Type {ENTRIES_TYPE}\n".encode()), _ENCODINGS
        if coding not in {"gzip", "identity"}:
            return Answer(415, b"expected Content-Encoding gzip, or none\n"), _ENCODINGS
        body = _Body(receive, Inflater() if coding == "gzip" else None)
        return await self._mirror.add_entries(body.receive), _ENCODINGS

    def _gets(self, path: str) -> Callable[[], Awaitable[Given]] | None:
        found = _MONITORING.fullmatch(path)
        if found and not found[1]:
            return lambda: self._show(found[2], found[3])
        if found and found[3] == "checkpoint":
            return lambda: self._read(f"{ARTIFACTS.public}{found[2]}/checkpoint", MAX_NOTE_BYTES)
        return {"/healthz": say_healthy, "/readyz": self._readyz, "/metrics": self._metrics}.get(path)

    async def _show(self, digest: str, path: str) -> Given:
        log = self._mirror.logs.by_hash(digest)
        if log is None:
            return Answer(404, b"this log mirror knows no log of that origin\n"), {}
        if path == "checkpoint":
            return await self._read(checkpoint_key(log.origin), MAX_NOTE_BYTES)
        try:
            tile = parse_tile_path(path, Dialect.TILES)
        except UpstreamProtocolError:
            return nothing()
        limit = MAX_BUNDLE_BYTES if isinstance(tile, EntriesTile) else tile.byte_size
        return await self._read(tile_key(log.origin, tile), limit, is_tile=True)

    async def _read(self, key: str, limit: int, *, is_tile: bool = False) -> Given:
        try:
            body, _ = await self._storage.read(key, limit=limit)
        except ObjectMissingError:
            return nothing()
        except StorageError as error:
            _log.error("logmirror_failed", extra={"key": key, "error": str(error)})
            return answer(Reason.STORAGE, "the log mirror's storage does not answer", retry_after=RETRY_SECONDS), {}
        if is_tile:
            return Answer(200, body, "application/octet-stream"), {"cache-control": _IMMUTABLE}
        if not body.endswith(b"\n"):
            return answer(Reason.STORAGE, "the published checkpoint is cut", retry_after=RETRY_SECONDS), {}
        return Answer(200, body), {"cache-control": f"public, max-age={CHECKPOINT_MAX_AGE}"}

    async def _readyz(self) -> Given:
        return await say_ready(self._storage, "state/logmirror/identity.json")

    async def _metrics(self) -> Given:
        await trio.lowlevel.checkpoint()
        samples = [
            Sample(metrics.LOGMIRROR_REQUESTS, count, (request, str(status)))
            for (request, status), count in sorted(self._mirror.counts.items())
        ]
        samples.append(Sample(metrics.LOGMIRROR_ENTRIES, self._mirror.entries))
        samples.append(Sample(metrics.LOGMIRROR_LOGS, len(self._mirror.logs)))
        samples.append(Sample(metrics.LOGMIRROR_FORKS, self._mirror.forks))
        return Answer(200, format_metrics(samples), CONTENT_TYPE), {}


class _Body:
    """The body of a request, unpacked where it is packed, in pieces that are not empty; at its end an empty one."""

    def __init__(self, receive: Receive, inflater: Inflater | None = None) -> None:
        self._receive = receive
        self._inflater = inflater
        self._unpacked: Iterator[bytes] = iter(())
        self._is_over = False

    async def receive(self) -> bytes:
        """Return the next piece.

        Raises:
            UpstreamProtocolError: it cannot be unpacked.
            ConnectionAbortedError: the client left.
        """
        while True:
            piece = next(self._unpacked, b"")
            if piece or self._is_over:
                # A few KB may unpack to some MB: others have their turn between the pieces.
                await trio.lowlevel.checkpoint()
                return piece
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionAbortedError("the client left before its body was here")
            self._is_over = not message.get("more_body", False)
            given: bytes = message.get("body", b"")
            self._unpacked = iter([given] if given else []) if self._inflater is None else self._inflater.unpack(given)


def _note_bug(path: str) -> bytes:
    _log.exception("logmirror_bug", extra={"path": path})
    return b"internal error, the log mirror's log says more\n"
