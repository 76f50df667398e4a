"""Puts a reference witness on loopback, over HTTP/1.1 with kept-alive connections."""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import h11
import trio

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from tests.unit.witness.reference import ReferenceWitness

__all__ = ["serve_reference"]


@asynccontextmanager
async def serve_reference(witness: ReferenceWitness) -> AsyncGenerator[str, None]:
    """Let a witness listen on loopback for the length of a block; gives its URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        await nursery.start(trio.serve_listeners, functools.partial(_serve, witness), listeners)
        try:
            yield url
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group round it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _serve(witness: ReferenceWitness, stream: trio.SocketStream) -> None:
    server = h11.Connection(h11.SERVER)
    try:
        while await _exchange(witness, server, stream):
            server.start_next_cycle()
    except (trio.BrokenResourceError, h11.RemoteProtocolError, h11.LocalProtocolError):
        pass  # the client hung up, or the answer said that the connection closes
    finally:
        stream.socket.close()


async def _exchange(witness: ReferenceWitness, server: h11.Connection, stream: trio.SocketStream) -> bool:
    """Answer one request; False where there was none."""
    request: h11.Request | None = None
    body = b""
    while True:
        event = server.next_event()
        if event is h11.NEED_DATA:
            server.receive_data(bytes(await stream.receive_some(65536)))
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.ConnectionClosed):
            return False
        else:
            break
    if request is None:
        return False
    fields = {name.decode(): value.decode() for name, value in request.headers}
    reply = await witness.answer(request.method.decode(), request.target.decode(), fields, body)
    headers = [("Content-Type", reply.content_type), ("Content-Length", str(len(reply.body)))]
    headers += [("Retry-After", reply.retry_after)] if reply.retry_after else []
    headers += [("Connection", "close")] if witness.has("keep-alive") else []
    events = [h11.Response(status_code=reply.status, headers=headers), h11.Data(data=reply.body), h11.EndOfMessage()]
    await stream.send_all(b"".join(server.send(each) or b"" for each in events))
    return True
