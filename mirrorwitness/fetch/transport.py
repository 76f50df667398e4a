"""StackTransport: httpx's transport interface over a stack of connections for each origin.

Why not httpx's own pool: its cost per request grows with the number of connections (1.7 ms at 32, 5.9 ms at 128;
research/F 1.1), because it looks at every connection for every request. Here an origin has a stack of idle
connections, the one used last on top, and a counter; both are O(1).

Rules:

- HTTP/1.1 only; one request at a time on a connection.
- At most `max_connections` per origin; who has to wait is served in order.
- A connection goes back on the stack only after the whole response was read and the peer keeps it open. Everything
  else (errors, cancellation, a body left half-read) closes it at once and without waiting.
- A request that a kept-alive connection swallowed without one byte of answer is sent once more, on a new connection,
  where repeating it is safe: GET, HEAD, OPTIONS, and PUT and DELETE without a condition.
- Errors are httpx's own, and `StackTransport.handle_async_request` takes and gives httpx's objects, so that the class
  can stand wherever httpx expects a transport. `Fetcher` goes by `StackTransport.send`: httpx's request, URL and
  response objects cost a fifth of a small GET.

It does not follow redirects, decode bodies, keep cookies, or speak to proxies.
"""

from __future__ import annotations

import re
import ssl
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import httpx
import trio

from mirrorwitness.errors import leaves_of
from mirrorwitness.fetch.addresses import is_public_address
from mirrorwitness.fetch.bodies import BodyStream, UploadStream
from mirrorwitness.fetch.connection import Connection, CutShortError, open_connection
from mirrorwitness.fetch.deadline import Deadline, Patience
from mirrorwitness.fetch.head import BadResponseError, ResponseParser
from mirrorwitness.fetch.pool import OriginPool
from mirrorwitness.fetch.urls import Url, convert_url

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from typing import TypeAlias

    from mirrorwitness.fetch.connection import RequestBody

    Connect: TypeAlias = Callable[[str, int, ssl.SSLContext | None], Awaitable[Connection]]

__all__ = ["PrivateAddressError", "StackTransport", "TransportStatistics", "make_context"]

MAX_ORIGINS: Final = 64
"""Origins whose idle connections are kept; a registry and its CDNs are fewer than ten."""

_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_IDEMPOTENT_METHODS: Final = frozenset({"PUT", "DELETE"})
_CONDITIONS: Final = frozenset({b"if-match", b"if-none-match", b"if-unmodified-since"})
_FORBIDDEN_IN_HEAD: Final = re.compile(rb"[\x00\r\n]")
_FORBIDDEN_IN_NAME: Final = re.compile(rb"[^!#$%&'*+.^_`|~0-9A-Za-z-]")


class PrivateAddressError(httpx.TransportError):
    """The host resolved to an address that is not on the public Internet, and the request allows only those."""


@dataclass(frozen=True, slots=True)
class Message:
    """One request as it is sent.

    Attributes:
        method: upper case.
        url: where to.
        fields: all header fields, Host among them.
        body: bytes, or a file.
        length: the body's length, as the fields say.
    """

    method: str
    url: Url
    fields: Sequence[tuple[bytes, bytes]]
    body: RequestBody = None
    length: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TransportStatistics:
    """A snapshot of a transport.

    Attributes:
        origins: origins with connections or waiting requests.
        idle: connections on the stacks.
        in_use: connections in an exchange, or being opened.
        waiting: requests that wait for a connection.
        opened: connections opened so far.
        reused: exchanges that ran on a kept-alive connection so far.
        repeated: requests sent a second time because a kept-alive connection was dead.
    """

    origins: int
    idle: int
    in_use: int
    waiting: int
    opened: int
    reused: int
    repeated: int


class StackTransport(httpx.AsyncBaseTransport):
    """A stack of connections for each origin. The module docstring says what it promises."""

    def __init__(
        self,
        *,
        max_connections: int,
        max_idle: float,
        context: ssl.SSLContext | None = None,
        connect: Connect = open_connection,
    ) -> None:
        self._max_connections = max_connections
        self._max_idle = max_idle
        self._context = context
        self._connect = connect
        self._origins: OrderedDict[tuple[str, str, int], OriginPool] = OrderedDict()
        self._closed = False
        self._opened = 0
        self._reused = 0
        self._repeated = 0

    def __repr__(self) -> str:
        now = self.statistics()
        return f"<StackTransport {now.origins} origins, {now.idle} idle, {now.in_use} in use, {now.waiting} waiting>"

    def statistics(self) -> TransportStatistics:
        """Return a snapshot."""
        origins = self._origins.values()
        return TransportStatistics(
            origins=len(origins),
            idle=sum(len(origin.idle) for origin in origins),
            in_use=sum(origin.in_use for origin in origins),
            waiting=sum(origin.waiting for origin in origins),
            opened=self._opened,
            reused=self._reused,
            repeated=self._repeated,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and return its response as soon as its head is here.

        The extension ``deadline`` (a `Deadline`) is moved along; ``public_only`` refuses other than public addresses.

        Raises:
            httpx.TransportError: one of its subclasses says what went wrong.
        """
        stream = request.stream
        if not isinstance(stream, UploadStream):
            # A request built by httpx itself: only bodies that it holds in memory.
            stream = UploadStream(request.content or None)
        length = int(request.headers.get("content-length", "0"))
        message = Message(request.method, convert_url(request.url), request.headers.raw, stream.body, length)
        deadline: Deadline = request.extensions.get("deadline") or Deadline(Patience())
        public_only = bool(request.extensions.get("public_only"))
        parser, body = await self.send(message, deadline, public_only=public_only)
        return httpx.Response(parser.status, headers=parser.headers, stream=body)

    async def send(
        self, message: Message, deadline: Deadline, *, public_only: bool = False
    ) -> tuple[ResponseParser, BodyStream]:
        """Send a request and return the response's head, in its parser, and its body as soon as the head is here.

        Args:
            message: what to send.
            deadline: moved along.
            public_only: refuse other than public addresses.

        Raises:
            httpx.TransportError: one of its subclasses says what went wrong.
        """
        if self._closed:
            raise httpx.LocalProtocolError("the transport is closed")
        head = _format_head(message)
        origin = self._origin(message.url)
        try:
            origin.slots.acquire_nowait()
        except trio.WouldBlock:
            await origin.slots.acquire()
        try:
            connection, parser = await self._exchange(origin, message, head, deadline, public_only=public_only)
        except BaseException:
            origin.slots.release()
            raise
        return parser, BodyStream(origin, connection, parser, deadline)

    async def aclose(self) -> None:
        """Close every idle connection; one in an exchange is closed when that ends. Never waits."""
        self._closed = True
        for origin in self._origins.values():
            origin.close()

    async def _exchange(
        self, origin: OriginPool, message: Message, head: bytes, deadline: Deadline, *, public_only: bool
    ) -> tuple[Connection, ResponseParser]:
        connection = origin.pop_idle(max_idle=self._max_idle)
        if connection is not None:
            self._reused += 1
            try:
                return connection, await _run(connection, message, head, deadline, public_only=public_only)
            except CutShortError as error:
                if not error.silent or not _is_repeatable(message):
                    raise httpx.ReadError(str(error)) from error
                self._repeated += 1
        connection = await self._open(origin, deadline)
        try:
            return connection, await _run(connection, message, head, deadline, public_only=public_only)
        except CutShortError as error:
            raise httpx.ReadError(str(error)) from error

    async def _open(self, origin: OriginPool, deadline: Deadline) -> Connection:
        if self._closed:
            raise httpx.LocalProtocolError("the transport is closed")
        deadline.start_connect()
        context = None
        if origin.scheme == "https":
            if self._context is None:
                self._context = make_context()
            context = self._context
        try:
            connection = await self._connect(origin.host, origin.port, context)
        except (OSError, trio.BrokenResourceError) as error:
            raise httpx.ConnectError(f"cannot connect to {origin.host}:{origin.port}: {_reason(error)}") from error
        self._opened += 1
        return connection

    def _origin(self, url: Url) -> OriginPool:
        key = (url.scheme, url.host, url.port)
        origin = self._origins.get(key)
        if origin is None:
            self._forget_origins()
            origin = self._origins[key] = OriginPool(*key, self._max_connections)
        return origin

    def _forget_origins(self) -> None:
        if len(self._origins) < MAX_ORIGINS:
            return
        for key, origin in list(self._origins.items()):
            if origin.in_use == 0 and origin.waiting == 0:
                origin.close()
                del self._origins[key]
                return


def _reason(error: Exception) -> str:
    """Say why, once: trio groups the errors of all addresses, and names the address in each."""
    leaves = leaves_of(error.__cause__ or error)
    reasons = ((isinstance(leaf, OSError) and leaf.strerror) or str(leaf) for leaf in leaves)
    return ", ".join(dict.fromkeys(reason.rpartition("): ")[2] for reason in reasons))


async def _run(
    connection: Connection, message: Message, head: bytes, deadline: Deadline, *, public_only: bool
) -> ResponseParser:
    try:
        if public_only:
            _check_public(connection.address)
        if message.length:
            deadline.start_send(message.length)
        else:
            deadline.start_head()
        parser = await connection.exchange(message.method, head, message.body, message.length)
        deadline.stop()
    except BadResponseError as error:
        connection.close()
        raise httpx.RemoteProtocolError(str(error)) from error
    except BaseException:
        connection.close()
        raise
    return parser


def _check_public(address: str | None) -> None:
    if not is_public_address(address):
        raise PrivateAddressError(f"the peer has the address {address}, expected a public one")


def _is_repeatable(message: Message) -> bool:
    if message.method in _SAFE_METHODS:
        return True
    return message.method in _IDEMPOTENT_METHODS and not any(name.lower() in _CONDITIONS for name, _ in message.fields)


def _format_head(message: Message) -> bytes:
    """Return the head as bytes.

    Raises:
        httpx.LocalProtocolError: a header field would change the framing (header injection).
    """
    lines = [b"%s %s HTTP/1.1" % (message.method.encode("ascii"), message.url.target)]
    for name, value in message.fields:
        if _FORBIDDEN_IN_NAME.search(name) or _FORBIDDEN_IN_HEAD.search(value):
            raise httpx.LocalProtocolError(f"header field {name[:100]!r} has a character that is not allowed")
        lines.append(b"%s: %s" % (name, value))
    lines.append(b"\r\n")
    return b"\r\n".join(lines)


def make_context() -> ssl.SSLContext:
    """Return the TLS settings: the system's certificates, or ``SSL_CERT_FILE``/``SSL_CERT_DIR`` where set."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context
