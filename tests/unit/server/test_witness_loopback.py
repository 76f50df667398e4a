"""The witness behind our server over loopback: connections that are kept, and clients that leave."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import h11
import trio
import trio.testing

from mirrorwitness.run.serve import serve
from tests.unit.server.witness_client import MONITORED, Reply, make_client
from tests.unit.witness.world import LOG

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import pytest

    from mirrorwitness.server.witness import WitnessApp

FORK = LOG.fork(6)


@asynccontextmanager
async def listening(app: WitnessApp) -> AsyncGenerator[trio.SocketStream, None]:
    """Serve over loopback, and open one connection."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        start = partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown)
        host, port = await nursery.start(start)
        async with await trio.open_tcp_stream(host, port) as stream:
            yield stream
        shutdown.set()


async def exchange(stream: trio.SocketStream, http: h11.Connection, method: str, path: str, body: bytes) -> Reply:
    """Send one request on a connection that is kept, and read its answer."""
    headers = [("host", "witness.example"), ("content-length", str(len(body)))]
    head = http.send(h11.Request(method=method, target=path, headers=headers)) or b""
    await stream.send_all(head + (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b""))
    response: h11.Response | None = None
    received = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            received += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
    assert response is not None
    http.start_next_cycle()
    return Reply(response.status_code, {k.decode(): v.decode() for k, v in response.headers.raw_items()}, received)


async def test_requests_over_loopback_on_one_connection() -> None:
    """Keep-alive: a log that grows, is refused, told its size, and read by a monitor, without a new connection."""
    _, client = await make_client()
    http = h11.Connection(h11.CLIENT)
    with trio.fail_after(10):
        async with listening(client.app) as stream:
            posts = [LOG.request(0, 10), LOG.request(10, 20), LOG.request(0, 30), FORK.request(20, 20), b"nonsense"]
            replies = [await exchange(stream, http, "POST", "/add-checkpoint", body) for body in posts]
            shown = await exchange(stream, http, "GET", MONITORED, b"")
    assert [reply.status for reply in replies] == [200, 200, 409, 422, 400]
    assert {name.lower(): value for name, value in replies[2].headers.items()}["content-type"] == "text/x.tlog.size"
    assert replies[2].body == b"20\n"
    assert shown.body == LOG.note(20) + replies[1].body


async def test_a_client_that_leaves_in_its_body_over_loopback(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged as an error of ours, and the next one is answered."""
    _, client = await make_client()
    with trio.fail_after(10):
        async with listening(client.app) as stream:
            await stream.send_all(b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nold 0\n")
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with listening(client.app) as stream:
            reply = await exchange(stream, h11.Connection(h11.CLIENT), "POST", "/add-checkpoint", LOG.request(0, 10))
    assert reply.status == 200
    assert [record.message for record in caplog.records if record.name == "mirrorwitness.witness"] == []
