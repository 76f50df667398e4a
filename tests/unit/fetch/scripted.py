"""A server on loopback whose every byte the test decides."""

from __future__ import annotations

import functools
import itertools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

Handler: TypeAlias = "Callable[[trio.SocketStream, int], Awaitable[None]]"

__all__ = ["Handler", "answer_all", "listening", "read_request", "reply"]


def reply(body: bytes = b"", *fields: str, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length."""
    head = [f"HTTP/1.1 {status}", *fields, f"Content-Length: {len(body)}"]
    return ("\r\n".join(head) + "\r\n\r\n").encode("latin-1") + body


async def read_request(stream: trio.abc.ReceiveStream) -> bytes:
    """Return one request, head and body; ``b""`` where the client hung up."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = bytes(await stream.receive_some(65536))
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            length = int(line.partition(b":")[2])
    while len(body) < length:
        body += bytes(await stream.receive_some(65536))
    return head + b"\r\n\r\n" + body


def answer_all(response: bytes) -> Handler:
    """Return a handler that gives every request the same answer."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while await read_request(stream):
            await stream.send_all(response)

    return handler


@asynccontextmanager
async def listening(handler: Handler) -> AsyncGenerator[str, None]:
    """Run `handler` for each connection (numbered from 1); give the base URL. A handler that returns hangs up."""
    numbers = itertools.count(1)

    async def serve(stream: trio.SocketStream) -> None:
        try:
            await handler(stream, next(numbers))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            stream.socket.close()

    failure: Exception | None = None
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        await nursery.start(functools.partial(trio.serve_listeners, serve, listeners))
        try:
            yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group round it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
