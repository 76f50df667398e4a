"""The thin ASGI layer under our handlers: requests, answers, and errors made into status codes.

Rules:

- A request is checked before anybody sees it: method, length of the path, size of the head, and `Host`.
- A body that a client sends is never read. The server closes such a connection after the answer.
- An answer always has the length it says. Where a stream breaks after the head was sent, the error goes up to the
  server, which cuts the connection: a client sees a short body, never a wrong one that looks complete.
- `HEAD` gets the head that `GET` would get, with its ``Content-Length``, and no body.
- `ERROR_STATUS` is the one table from error to status (STYLE 22). Errors are JSON, ``{"error": "…"}``, which npm shows
  to its user; what is not ours to tell (a path, a traceback) goes to the log only.

*Cancellation*: a client that leaves cancels its handler; nothing is left half done, because nothing is written.

What it does not do: routing (`mirrorwitness.server.routes`), or anything about npm.

SPEC: ASGI 3.0; RFC 9110.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias
from urllib.parse import quote

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    StorageUnavailableError,
)
from mirrorwitness.server.faults import DamagedObjectError, RequestError
from mirrorwitness.server.origin import parse_host
from mirrorwitness.server.routes import MAX_PATH_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.server.traffic import Traffic
    from mirrorwitness.storage import ObjectReader

__all__ = [
    "ERROR_STATUS",
    "MAX_HEADERS",
    "MAX_HEADER_BYTES",
    "PIECE_BYTES",
    "RETRY_AFTER_SECONDS",
    "SECURITY_HEADERS",
    "App",
    "Exchange",
    "Handler",
    "Message",
    "Receive",
    "Request",
    "Scope",
    "Send",
    "check_method",
    "format_error",
]

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

MAX_HEADERS: Final = 100
"""Most header lines of a request; clients send about ten, a chain of proxies adds a dozen."""

MAX_HEADER_BYTES: Final = 16_384
"""Most bytes of all header names and values together; the ASGI server's own limit for a head is the same."""

PIECE_BYTES: Final = 1_048_576
"""Largest piece of a body that is handed to the server at once, so that a slow client does not make it copy 100 MB."""

RETRY_AFTER_SECONDS: Final = 5
"""What clients are told to wait when the storage does not answer; npm's own first pause is 10 s."""

SECURITY_HEADERS: Final = (
    # Packages hold anybody's HTML and scripts: no browser may run what it gets from here.
    (b"x-content-type-options", b"nosniff"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'; sandbox"),
)

_METHODS: Final = ("GET", "HEAD")
_log = logging.getLogger("mirrorwitness.server")


_RETRY: Final = {"retry-after": str(RETRY_AFTER_SECONDS)}

ERROR_STATUS: Final[tuple[tuple[type[Exception], int, str | None], ...]] = (
    (ConfigurationError, 400, None),
    (ObjectMissingError, 404, "no such object"),
    (StorageUnavailableError, 503, "the mirror's storage does not answer, try again later"),
    (DamagedObjectError, 500, None),
    (Exception, 500, "internal error, the mirror's log says more"),
)
"""Error, status, and the message for the client; None where the error's own message is made for everybody."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, checked but not yet understood.

    Attributes:
        method: ``GET`` or ``HEAD``, or another method where a handler wants to say what is wrong with it.
        path: percent-encoded, without the query, as it came over the wire.
        headers: by lower-case name; lines of one name are joined with a comma.
        scheme: the connection's own.
        query: percent-encoded, without the question mark; empty where there is none.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    scheme: str
    query: str = ""


Handler: TypeAlias = Callable[[Request, "Exchange"], Awaitable[None]]


class Exchange:
    """The answer to one request; exactly one of its methods is called, once.

    Attributes:
        route: the kind of route, for metrics; set by the handler.
        status: the status that was sent; 0 before.
        sent: bytes of the body that were sent.
    """

    def __init__(self, *, send: Send, is_head: bool) -> None:
        self._send = send
        self._is_head = is_head
        self.route = "none"
        self.status = 0
        self.sent = 0

    @property
    def is_started(self) -> bool:
        """Whether the head was sent."""
        return self.status != 0

    async def respond(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        """Send a whole answer whose body is in memory; 304 gets no length, as the specification asks."""
        await self._start(status, headers, None if status == 304 else len(body))  # noqa: PLR2004 - a status
        if self._is_head:
            body = b""
        for start in range(0, len(body) - PIECE_BYTES, PIECE_BYTES):
            await self._body(body[start : start + PIECE_BYTES], more=True)
        await self._body(body[-(len(body) % PIECE_BYTES or PIECE_BYTES) :], more=False)

    async def respond_stream(
        self, status: int, headers: Mapping[str, str], reader: ObjectReader | None, *, length: int
    ) -> None:
        """Send an answer whose body comes from a storage; each piece is read when the one before is on its way.

        Args:
            status: the status.
            headers: all headers but ``Content-Length``.
            reader: open at the right place; may be None for `HEAD`.
            length: how many bytes the body has.

        Raises:
            StorageUnavailableError: the reader ended early or broke; the head has been sent.
        """
        await self._start(status, headers, length)
        if self._is_head or reader is None or length == 0:
            await self._body(b"", more=False)
            return
        left = length
        while left > 0:
            piece = await reader.receive_some()
            if not piece or len(piece) > left:
                raise StorageUnavailableError(
                    f"object {reader.info.key!r} gave {length - left + len(piece)} bytes, expected {length}"
                )
            left -= len(piece)
            await self._body(piece, more=left > 0)

    async def _start(self, status: int, headers: Mapping[str, str], length: int | None) -> None:
        lines = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        if length is not None:
            lines.append((b"content-length", b"%d" % length))
        # A handler may say what a page of our own needs; nobody else's HTML ever gets more than the default.
        lines.extend((name, value) for name, value in SECURITY_HEADERS if name.decode() not in headers)
        self.status = status
        await self._send({"type": "http.response.start", "status": status, "headers": lines})

    async def _body(self, body: bytes, *, more: bool) -> None:
        self.sent += len(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})


class App:
    """An ASGI application around one handler.

    *Resources*: none of its own. *Errors*: see the module docstring; only an answer that broke half-way goes up.

    Args:
        handler: answers requests.
        traffic: counts what was answered; None: nobody counts.
    """

    def __init__(self, handler: Handler, *, traffic: Traffic | None = None) -> None:
        self._handler = handler
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection of ASGI: an HTTP request, the lifespan protocol, or a refused WebSocket."""
        if scope["type"] == "http":
            await self._answer(scope, send)
        elif scope["type"] == "lifespan":
            await _follow_lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _answer(self, scope: Scope, send: Send) -> None:
        exchange = Exchange(send=send, is_head=scope["method"] == "HEAD")
        try:
            await self._handler(_make_request(scope), exchange)
        except Exception as error:
            if exchange.is_started:
                # The server cuts the connection, and tells a client that left from an error of ours.
                raise
            status, headers, message = _judge(error)
            if status >= 500:  # noqa: PLR2004 - a class of statuses
                _log.error("request_failed", extra={"status": status, "path": _shown(scope)}, exc_info=error)
            await exchange.respond(status, headers, format_error(message))
        finally:
            if self._traffic is not None:
                self._traffic.note(exchange.route, exchange.status, exchange.sent)


def format_error(message: str) -> bytes:
    """Return the JSON body of an error."""
    return json.dumps({"error": message}).encode()


def _judge(error: Exception) -> tuple[int, dict[str, str], str]:
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if isinstance(error, RequestError):
        return error.status, headers | error.headers, str(error)
    kinds = type(error).__mro__
    status, message = next((status, text) for kind, status, text in ERROR_STATUS if kind in kinds)
    if status == 503:  # noqa: PLR2004 - a status
        headers |= _RETRY
    return status, headers, message or str(error)


def _make_request(scope: Scope) -> Request:
    raw = scope.get("raw_path") or quote(scope["path"]).encode()
    if len(raw) > MAX_PATH_BYTES:
        raise RequestError(414, f"the path has {len(raw)} bytes, more than {MAX_PATH_BYTES}")
    request = Request(
        method=scope["method"],
        path=raw.decode("latin-1"),
        headers=_join_headers(scope["headers"]),
        scheme=scope.get("scheme", "http"),
        query=scope.get("query_string", b"").decode("latin-1"),
    )
    if "host" in request.headers and parse_host(request.headers["host"]) is None:
        raise RequestError(400, "the Host header is not one host with an optional port")
    return request


def check_method(request: Request) -> None:
    """Raise the 405 of a read-only mirror unless the method reads."""
    if request.method not in _METHODS:
        raise RequestError(
            405,
            f"{request.method[:20]} is not possible: this is a read-only mirror; publish and change packages at the "
            "registry itself",
            headers={"allow": ", ".join(_METHODS)},
        )


def _join_headers(lines: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    size = 0
    for count, (name, value) in enumerate(lines):
        size += len(name) + len(value)
        if count >= MAX_HEADERS or size > MAX_HEADER_BYTES:
            raise RequestError(431, f"the head has more than {MAX_HEADERS} lines or {MAX_HEADER_BYTES} bytes")
        key, text = name.decode("latin-1"), value.decode("latin-1")
        joined[key] = f"{joined[key]},{text}" if key in joined else text
    return joined


def _shown(scope: Scope) -> str:
    return ascii(scope["path"][:200])


async def _follow_lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
