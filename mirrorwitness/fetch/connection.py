"""Connection: one stream to one origin, used for one exchange at a time.

Rules:

- A connection is idle, in one exchange, or closed. `close` is synchronous, immediate and idempotent, so no cleanup
  ever waits, also under cancellation.
- Whoever does not bring an exchange to its clean end (an error, a cancellation, a body left half-read) must close it.
- Liveness is tested once, at check-out: an idle connection whose socket is readable was closed by the peer, or holds
  bytes nobody asked for; both end it.

It does not pool, retry, or know deadlines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias, cast

import trio

from mirrorwitness.errors import StorageError
from mirrorwitness.fetch.head import BadResponseError, ResponseParser

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

__all__ = ["KIB", "MIB", "Connection", "CutShortError", "RequestBody", "open_connection"]

KIB: Final = 1024
MIB: Final = 1024 * KIB

RECEIVE_BYTES: Final = 64 * KIB
"""Most bytes of one read while a head may still come; most npm tarballs fit together with their head."""

BODY_BYTES: Final = 256 * KIB
"""Most bytes of one read of a large body: fewer trips through the scheduler, still bounded memory."""

FILE_BYTES: Final = 512 * KIB
"""Piece in which a request body is read from its file, in a thread."""

JOIN_BYTES: Final = 64 * KIB
"""A request body up to this size is sent together with the head in one write."""

_FILE_READS: Final = 16
"""Threads that read request bodies at once; they only ever wait for the local disk."""

RequestBody: TypeAlias = "bytes | Path | None"

_file_limiter: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("mirrorwitness.fetch.files")


class CutShortError(Exception):
    """The peer closed or reset the connection before the message was complete.

    Attributes:
        silent: whether not one byte of an answer had come, so that the request may never have been seen.
    """

    def __init__(self, message: str, *, silent: bool = False) -> None:
        super().__init__(message)
        self.silent = silent


class Connection:
    """One open stream; `address` is the IP address of the peer, None where the stream has none."""

    __slots__ = ("_raw", "_stream", "address", "closed", "exchanges", "idle_since")

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream
        self._raw = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
        self.address = _address(self._raw)
        self.closed = False
        self.exchanges = 0
        self.idle_since = 0.0

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        tls = "TLS" if isinstance(self._stream, trio.SSLStream) else "plain"
        return f"<Connection to {self.address}, {tls}, {state}, {self.exchanges} exchanges>"

    def is_usable(self, *, now: float, max_idle: float) -> bool:
        """Whether an idle connection may carry another request."""
        return not self.closed and now - self.idle_since < max_idle and not self._raw.socket.is_readable()

    def close(self) -> None:
        """Close at once, without a TLS farewell."""
        if not self.closed:
            self.closed = True
            self._raw.socket.close()

    async def exchange(self, method: str, head: bytes, body: RequestBody, length: int) -> ResponseParser:
        """Send one request and return the parser once the response's head is complete.

        Args:
            method: the request's method.
            head: its head, with the empty line.
            body: its body.
            length: the body's length, as the head says.

        Raises:
            CutShortError: the peer hung up first.
            BadResponseError: it sent something that is no response.
            StorageError: the file of the body cannot be read, or changed its size.
        """
        self.exchanges += 1
        parser = ResponseParser(method=method)
        try:
            await self._send(head, body, length)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            # A server may refuse a body early and hang up; its answer is then already here (RFC 9112 9.5).
            await self._salvage(parser, error)
            return parser
        while not parser.head_complete:
            parser.feed(await self.receive(RECEIVE_BYTES, silent=not parser.anything_received))
        return parser

    async def receive(self, most: int, *, silent: bool = False) -> bytes:
        """Return the next bytes from the peer, never none.

        Raises:
            CutShortError: there are no more.
        """
        data = await self.receive_or_end(most, silent=silent)
        if not data:
            raise CutShortError("the peer closed the connection before the response was complete", silent=silent)
        return data

    async def receive_or_end(self, most: int, *, silent: bool = False) -> bytes:
        """Return the next bytes from the peer, ``b""`` where it closed in good order.

        Raises:
            CutShortError: the connection broke.
        """
        try:
            return bytes(await self._stream.receive_some(most))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise CutShortError(f"the connection broke: {_reason(error)}", silent=silent) from error

    async def _send(self, head: bytes, body: RequestBody, length: int) -> None:
        if body is None:
            await self._stream.send_all(head)
        elif isinstance(body, bytes):
            if length <= JOIN_BYTES:
                await self._stream.send_all(head + body)
            else:
                await self._stream.send_all(head)
                await self._stream.send_all(body)
        else:
            await self._send_file(head, body, length)

    async def _send_file(self, head: bytes, path: Path, length: int) -> None:
        limiter = _limiter()
        left = length
        try:
            file = await trio.to_thread.run_sync(path.open, "rb", limiter=limiter)
        except OSError as error:
            raise StorageError(f"cannot read the request body from {path}: {error.strerror}") from error
        with file:
            first = True
            while first or left:
                # One byte more than announced shows a file that grew.
                piece = await trio.to_thread.run_sync(file.read, min(FILE_BYTES, left + 1), limiter=limiter)
                left -= len(piece)
                if left < 0 or (left and not piece):
                    raise StorageError(f"the request body {path} is not {length} bytes long, as it was announced")
                await self._stream.send_all(head + piece if first else piece)
                first = False

    async def _salvage(self, parser: ResponseParser, error: BaseException) -> None:
        try:
            while not parser.head_complete:
                parser.feed(await self.receive(RECEIVE_BYTES, silent=not parser.anything_received))
        except (CutShortError, BadResponseError):
            silent = not parser.anything_received
            raise CutShortError(f"the peer hung up during the request: {_reason(error)}", silent=silent) from error
        parser.keep_alive = False


async def open_connection(host: str, port: int, context: ssl.SSLContext | None) -> Connection:
    """Connect to an origin, with TLS where there is a context.

    Raises:
        OSError: no address of the host answered.
        trio.BrokenResourceError: the TLS handshake failed.
    """
    stream = await trio.open_tcp_stream(host, port)  # TCP_NODELAY is set by trio
    if context is None:
        return Connection(stream)
    secured = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
    try:
        await secured.do_handshake()
    except BaseException:
        stream.socket.close()
        raise
    return Connection(secured)


def _limiter() -> trio.CapacityLimiter:
    try:
        return _file_limiter.get()
    except LookupError:
        limiter = trio.CapacityLimiter(_FILE_READS)
        _file_limiter.set(limiter)
        return limiter


def _address(stream: trio.SocketStream) -> str | None:
    try:
        name: object = stream.socket.getpeername()
    except OSError:  # reset already; the exchange will say so
        return None
    return str(cast("tuple[object, ...]", name)[0]) if isinstance(name, tuple) else None


def _reason(error: BaseException) -> str:
    cause = error.__cause__
    return str(cause or error) or type(error).__name__
