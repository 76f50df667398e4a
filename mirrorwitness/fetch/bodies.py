"""UploadStream and BodyStream: the bodies of a request and of a response, in httpx's terms.

Rules:

- A response's body is complete or it raises: Content-Length and the last chunk are insisted on. Only a body that has
  neither ends with the connection, and the caller's digest has to judge it.
- The connection goes back as soon as the last byte is here, before the caller asks again. Left early, or broken, it is
  closed. Both at once and without waiting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import trio

from mirrorwitness.fetch.connection import BODY_BYTES, RECEIVE_BYTES, CutShortError
from mirrorwitness.fetch.head import BadResponseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from mirrorwitness.fetch.connection import Connection, RequestBody
    from mirrorwitness.fetch.deadline import Deadline
    from mirrorwitness.fetch.head import ResponseParser
    from mirrorwitness.fetch.pool import OriginPool

__all__ = ["BodyStream", "UploadStream"]


class UploadStream(httpx.AsyncByteStream):
    """A request body: bytes, or the path of a file that is read while it is sent."""

    __slots__ = ("body",)

    def __init__(self, body: RequestBody) -> None:
        self.body = body

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces, for transports other than ours (a proxy)."""
        return _Pieces(self.body)


class _Pieces:
    """Iterates a request body; a file is open only while a piece is read, so that nothing is left to close."""

    __slots__ = ("_body", "_offset")

    def __init__(self, body: RequestBody) -> None:
        self._body = body
        self._offset = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if isinstance(self._body, bytes):
            piece, self._body = self._body, None
        elif self._body is None:
            piece = b""
        else:
            piece = await trio.to_thread.run_sync(_read_at, self._body, self._offset)
        self._offset += len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece


class BodyStream(httpx.AsyncByteStream):
    """The body of one response; gives its connection back as soon as the last byte is here."""

    __slots__ = ("_connection", "_deadline", "_parser", "_pool")

    def __init__(self, pool: OriginPool, connection: Connection, parser: ResponseParser, deadline: Deadline) -> None:
        self._pool = pool
        self._connection: Connection | None = connection
        self._parser = parser
        self._deadline = deadline
        deadline.expect_body(parser.length)
        if not parser.chunked:
            parser.detach()  # the rest of the body is counted, not parsed
        if parser.complete:
            self._finish(reusable=parser.keep_alive)

    async def receive_some(self) -> bytes:
        """Return the next piece of the body, ``b""`` at its end.

        Raises:
            httpx.ReadError: the body was cut short.
            httpx.RemoteProtocolError: the chunked framing is broken.
        """
        data = self._parser.take()
        if data or self._connection is None:
            return data
        self._deadline.start_read()
        try:
            data = await self._receive(self._connection)
        except BadResponseError as error:
            self._finish(reusable=False)
            raise httpx.RemoteProtocolError(str(error)) from error
        except CutShortError as error:
            self._finish(reusable=False)
            raise httpx.ReadError(str(error)) from error
        except BaseException:
            self._finish(reusable=False)
            raise
        self._deadline.stop_read(len(data))
        return data

    async def _receive(self, connection: Connection) -> bytes:
        parser = self._parser
        if parser.chunked:
            return await self._receive_chunks(connection)
        if parser.length is None:
            data = await connection.receive_or_end(BODY_BYTES)
            if not data:
                self._finish(reusable=False)
            return data
        # Never ask for more than the body has: what follows it would belong to nobody.
        data = await connection.receive(min(BODY_BYTES, parser.remaining))
        parser.remaining -= len(data)
        if parser.remaining == 0:
            self._finish(reusable=parser.keep_alive)
        return data

    async def _receive_chunks(self, connection: Connection) -> bytes:
        parser = self._parser
        while not parser.complete:
            if parser.feed(await connection.receive(RECEIVE_BYTES)):
                self._finish(reusable=parser.keep_alive)
            if data := parser.take():
                return data
        return b""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the pieces."""
        return self

    async def __anext__(self) -> bytes:
        data = await self.receive_some()
        if not data:
            raise StopAsyncIteration
        return data

    def close(self) -> None:
        """End the exchange; a body that was not read to its end costs the connection."""
        self._finish(reusable=False)

    async def aclose(self) -> None:
        """Do what `close` does; never waits."""
        self.close()

    def _finish(self, *, reusable: bool) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if self._parser.chunked:
                self._parser.detach()
            self._pool.give_back(connection, reusable=reusable)


def _read_at(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(BODY_BYTES)
