"""One HTTP/1.1 connection: h11 on a Trio stream on one side, an ASGI application on the other.

Why our own: the ASGI server we began with spends 0.4 to 0.5 ms of CPU on each request in its task and stream machinery,
three times what this takes; it never gives up on a client that stops reading, and cannot be stopped while one does.

Rules:

- h11 judges every byte that comes in: what breaks the grammar, or a head over `HEAD_BYTES`, gets 400 or 431 and the end
  of the connection.
- Requests of one connection are answered in order, each in this one task: no task, queue or channel per request.
- Every wait has a deadline: for the head of a request (idle time included), for the client to take a piece of the
  answer, and for the rest of a body that nobody read.
- A body that the application leaves unread is thrown away up to `DRAIN_BYTES`, because closing a socket that holds
  unread bytes resets it, and the client would lose the answer. What is longer ends the connection.
- An answer that the application breaks off is cut, so that it never looks complete.
- HTTP/1.1 and 1.0 only; no TLS, no upgrade, no trailers. ``http.disconnect`` is what `receive` says behind the body: an
  application cannot wait for its client to leave.

SPEC: RFC 9112; ASGI 3.0.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any, Final, TypeAlias
from urllib.parse import unquote

import h11
import trio

__all__ = [
    "DRAIN_BYTES",
    "HEAD_BYTES",
    "HEAD_SECONDS",
    "SEND_SECONDS",
    "AsgiApp",
    "ClientGoneError",
    "Connections",
    "answer_connection",
]

_Message: TypeAlias = MutableMapping[str, Any]
AsgiApp: TypeAlias = Callable[
    [_Message, Callable[[], Awaitable[_Message]], Callable[[_Message], Awaitable[None]]], Awaitable[None]
]

HEAD_BYTES: Final = 16_384
"""Largest head of a request in bytes; real ones have under 2,000."""

HEAD_SECONDS: Final = 60.0
"""How long an idle connection is kept, and a client may take to send the head of its next request."""

SEND_SECONDS: Final = 60.0
"""How long a client may take to accept one piece of an answer, at most 1 MiB: 17 KB/s is the slowest client served."""

DRAIN_BYTES: Final = 1_048_576
"""Most bytes of an unread body that are thrown away; an audit request of a large project has some 200 KB."""

_DRAIN_SECONDS: Final = 5.0
_RECEIVE_BYTES: Final = 65_536
_JOIN_BYTES: Final = 65_536
"""Up to here, head and body go out as one piece: a copy costs less than a second system call."""

_log = logging.getLogger(__name__)


class ClientGoneError(OSError):
    """The client left, or stopped reading. An `OSError`, as ASGI asks of `send` to a client that is not there."""


@dataclass(slots=True, eq=False)
class Connections:
    """What the connections of one server share.

    Attributes:
        open: how many there are.
        is_draining: the server stops: answer what is in work and close.
        idle: the waits for a next request, to be cancelled when the server stops.
    """

    open: int = 0
    is_draining: bool = False
    idle: set[trio.CancelScope] = field(default_factory=set[trio.CancelScope])

    def drain(self) -> None:
        """Close every idle connection now, and every other one after its answer."""
        self.is_draining = True
        for scope in self.idle:
            scope.cancel()


async def answer_connection(app: AsgiApp, stream: trio.SocketStream, connections: Connections) -> None:
    """Answer the requests of one connection until either side ends it, and close it.

    *Resources*: the stream. *Errors*: none go up; the application's are logged. *Cancellation*: cuts the connection.
    """
    connection = _Connection(app, stream, connections)
    connections.open += 1
    try:
        while await connection.answer_one():
            pass
    except ClientGoneError:
        pass  # Nobody is there to be told.
    finally:
        connections.open -= 1
        await trio.aclose_forcefully(stream)


class _Connection:
    def __init__(self, app: AsgiApp, stream: trio.SocketStream, connections: Connections) -> None:
        self._app = app
        self._stream = stream
        self._connections = connections
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES)
        self._head: h11.Response | None = None
        # h11 forgets this with the first byte of an answer.
        self._is_waiting_for_100 = False
        # Asked once per connection: each of these is a system call.
        self._client: tuple[str, int] = stream.socket.getpeername()[:2]
        self._server: tuple[str, int] = stream.socket.getsockname()[:2]

    async def answer_one(self) -> bool:
        """Answer one request; return whether the connection can take another."""
        try:
            event = await self._wait_request()
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
            return False
        if not isinstance(event, h11.Request):
            return False
        self._is_waiting_for_100 = self._http.they_are_waiting_for_100_continue
        try:
            await self._app(self._make_scope(event), self.receive, self.send)
        except ClientGoneError:
            raise
        except Exception:  # noqa: BLE001 - whatever the application's bug is, it must not end the server
            # An error that the application could not answer itself, mostly because it had begun to.
            _log.exception("answer_broken", extra={"client": self._client[0]})
            return False
        return await self._finish()

    async def receive(self) -> _Message:
        """Give the application the next piece of the request's body."""
        if self._http.their_state is not h11.SEND_BODY:
            # An application may call this in a loop.
            await trio.lowlevel.checkpoint()
            return {"type": "http.disconnect"}
        if self._is_waiting_for_100:
            self._is_waiting_for_100 = False
            reply = h11.InformationalResponse(status_code=100, headers=[])
            await self._send_all(self._http.send(reply) or b"")
        try:
            event = await self._next_event()
        except h11.RemoteProtocolError as error:
            raise ClientGoneError(f"the body is not HTTP/1.1: {error}") from error
        if isinstance(event, h11.Data):
            return {"type": "http.request", "body": bytes(event.data), "more_body": True}
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(self, message: _Message) -> None:
        """Take a piece of the answer from the application; returns when it is on its way."""
        if message["type"] == "http.response.start":
            headers = [*message["headers"], (b"date", _format_date())]
            if self._connections.is_draining:
                headers.append((b"connection", b"close"))
            self._head = h11.Response(status_code=message["status"], headers=headers)
            return
        pieces: list[bytes] = []
        if self._head is not None:
            pieces.append(self._http.send(self._head) or b"")
            self._head = None
        body: bytes = message.get("body", b"")
        if body:
            # h11 only counts it; what is sent is the application's own bytes object.
            pieces.extend(self._http.send_with_data_passthrough(h11.Data(data=body)) or ())
        if not message.get("more_body", False):
            pieces.append(self._http.send(h11.EndOfMessage()) or b"")
        if sum(map(len, pieces)) <= _JOIN_BYTES:
            pieces = [b"".join(pieces)]
        for piece in filter(None, pieces):
            await self._send_all(piece)

    async def _wait_request(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        if self._connections.is_draining:
            return h11.NEED_DATA
        with trio.move_on_after(HEAD_SECONDS) as scope:
            self._connections.idle.add(scope)
            try:
                return await self._next_event()
            finally:
                self._connections.idle.discard(scope)
        return h11.NEED_DATA

    async def _next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            try:
                data = await self._stream.receive_some(_RECEIVE_BYTES)
            except trio.BrokenResourceError as error:
                raise ClientGoneError("the client left") from error
            self._http.receive_data(data)
        return event

    async def _finish(self) -> bool:
        if self._http.our_state is not h11.DONE:
            return False
        if self._http.their_state is h11.SEND_BODY and not self._is_waiting_for_100:
            await self._drain_body()
        if self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _drain_body(self) -> None:
        left = DRAIN_BYTES
        with trio.move_on_after(_DRAIN_SECONDS):
            while left > 0:
                try:
                    event = await self._next_event()
                except h11.RemoteProtocolError:
                    return
                if not isinstance(event, h11.Data):
                    return
                left -= len(event.data)

    async def _refuse(self, status: int) -> None:
        body = b'{"error": "the request is not HTTP/1.1, or its head is too large"}'
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        self._head = h11.Response(status_code=status, headers=[*headers, (b"connection", b"close")])
        await self.send({"type": "http.response.body", "body": body})

    async def _send_all(self, data: bytes) -> None:
        try:
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.TooSlowError) as error:
            raise ClientGoneError("the client left or does not read") from error

    def _make_scope(self, request: h11.Request) -> _Message:
        path, _, query = request.target.partition(b"?")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": request.http_version.decode("ascii"),
            "method": request.method.decode("ascii"),
            "scheme": "http",
            "path": unquote(path.decode("ascii", "replace")),
            "raw_path": path,
            "query_string": query,
            "root_path": "",
            "headers": list(request.headers),
            "client": self._client,
            "server": self._server,
        }


_date = (0, b"")


def _format_date() -> bytes:
    # Formatting is not free, and the value changes once a second.
    global _date  # noqa: PLW0603 - a pure cache
    now = int(time.time())
    if _date[0] != now:
        _date = (now, formatdate(now, usegmt=True).encode())
    return _date[1]
