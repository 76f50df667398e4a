"""The HTTP server over real sockets: answers, limits, broken clients, and stopping."""

from __future__ import annotations

import logging
import socket
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
import trio.testing

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run import connection
from mirrorwitness.run import serve as serve_module
from mirrorwitness.run.serve import parse_listen, serve
from mirrorwitness.server import ServeOptions, make_app
from tests.fakes.storage import MemoryStorage
from tests.unit.server.mirror_builder import store_package

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from mirrorwitness.run.connection import AsgiApp

BODY = b"tarball " * 100_000


@asynccontextmanager
async def _serving(app: AsgiApp, *, grace: float = 5.0) -> AsyncIterator[tuple[str, int]]:
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown, grace=grace))
        yield address
        shutdown.set()


def _mirror() -> AsgiApp:
    objects: dict[str, bytes] = {}
    store_package(objects, "@s/n", {"1.0.0": BODY})
    return make_app(storage=MemoryStorage(objects), options=ServeOptions())


async def _talk(address: tuple[str, int], request: bytes) -> bytes:
    """Send bytes, and return everything that comes until the server closes."""
    async with await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request)
        return b"".join([bytes(piece) async for piece in stream])


async def test_mirror_over_http() -> None:
    """A client finds a package's document, its tarball under the URL named there, parts of it, and the errors."""
    async with _serving(_mirror()) as (host, port), httpx.AsyncClient(base_url=f"http://{host}:{port}") as client:
        document = await client.get("/@s%2fn")
        assert document.json()["versions"]["1.0.0"]["dist"]["tarball"] == f"http://{host}:{port}/@s/n/-/n-1.0.0.tgz"
        again = await client.get("/@s%2fn", headers={"if-none-match": document.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert (await client.get("/@s%2fn/-/n-1.0.0.tgz")).content == BODY
        part = await client.get("/@s/n/-/n-1.0.0.tgz", headers={"range": "bytes=8-15"})
        assert (part.status_code, part.content) == (206, b"tarball ")
        head = await client.head("/@s/n/-/n-1.0.0.tgz")
        assert (head.headers["content-length"], head.content) == (str(len(BODY)), b"")
        assert (await client.get("/absent")).status_code == 404
        put = await client.put("/@s%2fn", content=b"x" * 200_000)
        assert (put.status_code, put.headers["allow"]) == (405, "GET, HEAD")
        assert "date" in put.headers


async def test_unread_body_does_not_end_the_connection() -> None:
    """A client that posts what nobody reads gets its answer, and can go on over the same connection."""
    body = (
        b"POST /-/npm/v1/security/advisories/bulk HTTP/1.1\r\nHost: m\r\nContent-Length: 300000\r\n\r\n"
        + b"x" * 300_000
    )
    answer = await _talk_twice(body)
    assert answer.count(b"HTTP/1.1 404") == 1
    assert answer.count(b"HTTP/1.1 200") == 1


async def test_attack_endless_body_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is longer than the limit is not read to its end."""
    monkeypatch.setattr(connection, "DRAIN_BYTES", 1000)
    body = b"POST /-/all HTTP/1.1\r\nHost: m\r\nContent-Length: 300000\r\n\r\n" + b"x" * 2000
    async with _serving(_mirror()) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(body)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 404")
        assert await _wait_closed(stream)


async def test_expect_continue_that_nobody_wants() -> None:
    """A client that waits to be asked for its body is answered without it."""
    request = b"PUT /n HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nContent-Length: 10\r\n\r\n"
    async with _serving(_mirror()) as address:
        answer = await _talk(address, request)
    assert answer.startswith(b"HTTP/1.1 405")


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /n HTTP/1.1\r\n\r\n", b"400"),
        (b"GET /n HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET /n HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", b"400"),
        (b"POST /n HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
        (b"GET /" + b"n" * 20_000, b"431"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400"),
    ],
)
async def test_attack_malformed_request_ends_the_connection(request_bytes: bytes, status: bytes) -> None:
    """What is not HTTP/1.1 gets an error and no second chance (request smuggling)."""
    async with _serving(_mirror()) as address:
        answer = await _talk(address, request_bytes)
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in answer.lower()


async def test_attack_malformed_body_ends_the_connection() -> None:
    """A body that breaks the grammar is not the head of another request."""
    head = b"POST /-/all HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
    request = head + b"zz\r\nGET /-/ping HTTP/1.1\r\nHost: m\r\n\r\n"
    async with _serving(_mirror()) as address:
        answer = await _talk(address, request)
    assert answer.count(b"HTTP/1.1 ") == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    """Two requests in one packet are two answers."""
    request = b"GET /-/ping HTTP/1.1\r\nHost: m\r\n\r\nGET /absent HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n"
    async with _serving(_mirror()) as address:
        answer = await _talk(address, request)
    assert answer.index(b"HTTP/1.1 200") < answer.index(b"HTTP/1.1 404")


async def test_http_1_0_client_is_served() -> None:
    """An old client, or a simple probe, gets its answer and the end of the connection."""
    async with _serving(_mirror()) as address:
        assert b"{}" in await _talk(address, b"GET /-/ping HTTP/1.0\r\n\r\n")


async def test_application_can_read_a_body() -> None:
    """The body comes in pieces, then its end, then word that nothing more comes."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while not seen or seen[-1]["type"] != "http.disconnect":
            seen.append(await receive())
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    request = b"POST /x HTTP/1.1\r\nHost: m\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 4\r\n\r\n"
    async with _serving(app) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(request)
        assert (await stream.receive_some()).startswith(b"HTTP/1.1 100")
        await stream.send_all(b"body")
        assert (await stream.receive_some()).endswith(b"ok")
    assert b"".join(message.get("body", b"") for message in seen) == b"body"
    assert [message["type"] for message in seen[-2:]] == ["http.request", "http.disconnect"]


async def test_attack_malformed_body_that_is_read_cuts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """A body that breaks off, or breaks the grammar, is the client's doing and no error of ours."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while True:
            await receive()

    head = b"POST / HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with _serving(app) as address:
        assert await _talk(address, head + b"zz\r\n") == b""
    assert caplog.records == []


async def test_stop_while_an_answer_is_under_way() -> None:
    """An answer that had begun before the stop is finished; then the connection is closed, without another request."""
    begun, go_on = trio.Event(), trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        begun.set()
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"done"})

    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        address = await nursery.start(partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown))
        async with await trio.open_tcp_stream(*address) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n" * 2)
            await begun.wait()
            shutdown.set()
            await trio.testing.wait_all_tasks_blocked(0.01)
            go_on.set()
            answer = b"".join([bytes(piece) async for piece in stream])
    assert answer.count(b"HTTP/1.1") == 1
    assert answer.endswith(b"halfdone")


@pytest.mark.parametrize("started", [False, True])
async def test_application_that_fails_cuts_the_connection(*, started: bool, caplog: pytest.LogCaptureFixture) -> None:
    """An answer that broke off never looks complete, and the log says why."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if started:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("a bug")

    with caplog.at_level(logging.ERROR):
        async with _serving(app) as address:
            answer = await _talk(address, b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
    assert answer.endswith(b"half" if started else b"")
    assert [record.message for record in caplog.records] == ["answer_broken"]


async def test_application_that_says_nothing_cuts_the_connection() -> None:
    """No answer is not an empty answer."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await trio.lowlevel.checkpoint()

    async with _serving(app) as address:
        assert await _talk(address, b"GET / HTTP/1.1\r\nHost: m\r\n\r\n") == b""


async def test_client_that_leaves_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """A connection that is reset while we send is closed without a word."""
    async with _serving(_mirror()) as address:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(b"GET /@s/n/-/n-1.0.0.tgz HTTP/1.1\r\nHost: m\r\n\r\n" * 30)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(stream)
        idle = await trio.open_tcp_stream(*address)
        await idle.send_all(b"GET /-/ping HTTP/1.1\r\nHost: m\r\n\r\n")
        await idle.receive_some()
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        await trio.aclose_forcefully(idle)
    assert caplog.records == []


async def test_attack_slow_reader_cannot_delay_the_stop() -> None:
    """A client that never reads is cut when the grace is over."""
    started = trio.current_time()
    async with _serving(_endless, grace=0.05) as address:
        stream = await trio.open_tcp_stream(*address)
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
        await stream.receive_some(1)
    await trio.aclose_forcefully(stream)
    assert trio.current_time() - started < 5


async def test_attack_slow_reader_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that stops reading is cut when the deadline of one piece is over."""
    monkeypatch.setattr(connection, "SEND_SECONDS", 0.05)
    async with _serving(_endless) as address, await trio.open_tcp_stream(*address) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
        await trio.sleep(0.1)
        assert await _wait_closed(stream)


async def test_attack_slow_head_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that never finishes its head is closed (slow loris)."""
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    async with _serving(_mirror()) as address:
        assert await _talk(address, b"GET /n HT") == b""


async def test_connections_over_the_limit_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """P10: open files do not grow with the number of clients; room that becomes free is used."""
    monkeypatch.setattr(serve_module, "MAX_CONNECTIONS", 1)
    async with _serving(_mirror()) as address, await trio.open_tcp_stream(*address) as first:
        await first.send_all(b"GET /-/ping HTTP/1.1\r\nHost: m\r\n\r\n")
        assert (await first.receive_some()).startswith(b"HTTP/1.1 200")
        async with await trio.open_tcp_stream(*address) as second:
            assert await _wait_closed(second)


async def test_stop_lets_work_finish_and_closes_the_idle() -> None:
    """A request in work is answered, with word that the connection closes; an idle one is closed at once."""
    arrived, go_on = trio.Event(), trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        arrived.set()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    shutdown = trio.Event()
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            address = await nursery.start(partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown, grace=5.0))
            async with await trio.open_tcp_stream(*address) as idle, await trio.open_tcp_stream(*address) as busy:
                await busy.send_all(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
                await arrived.wait()
                shutdown.set()
                assert await _wait_closed(idle)
                with pytest.raises(OSError, match=r"all attempts to connect|refused"):
                    await trio.open_tcp_stream(*address)
                go_on.set()
                answer = b"".join([bytes(piece) async for piece in busy])
    assert b"connection: close" in answer.lower()
    assert answer.endswith(b"done")


async def test_cancelling_cuts_everything() -> None:
    """Cancelled from outside, the server ends at once."""
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            start = partial(serve, _mirror(), host="127.0.0.1", port=0, shutdown=trio.Event())
            await nursery.start(start)
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("localhost:65535", ("localhost", 65535))],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    """Names, IPv4 and bracketed IPv6 with a port."""
    assert parse_listen(text) == address


@pytest.mark.parametrize(
    "text", ["", "8080", ":8080", "h:", "h:x", "h:65536", "::1:80", "[::1]", "[x]:1", "[1:2]:3", "a b:1"]
)
def test_bad_listen_addresses(text: str) -> None:
    """Anything else is the operator's mistake, and the message shows the form."""
    with pytest.raises(ConfigurationError, match="not of the form HOST:PORT"):
        parse_listen(text)


@pytest.mark.parametrize("host", ["::1", "localhost"])
async def test_other_hosts_can_be_listened_on(host: str) -> None:
    """IPv6 and names work, and the bound address is told."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        bound = await nursery.start(partial(serve, _mirror(), host=host, port=0, shutdown=shutdown))
        assert bound[0] in {"::1", "127.0.0.1"}
        assert bound[1] > 0
        shutdown.set()


async def test_address_in_use_is_a_configuration_error() -> None:
    """An address that cannot be had says so before anything starts."""
    async with _serving(_mirror()) as (host, port):
        with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:{port}"):
            await serve(_mirror(), host=host, port=port, shutdown=trio.Event())


async def _endless(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 1_000_000, "more_body": True})


async def _talk_twice(request: bytes) -> bytes:
    async with _serving(_mirror()) as address:
        return await _talk(address, request + b"GET /-/ping HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n")


async def _wait_closed(stream: trio.SocketStream) -> bool:
    try:
        with trio.fail_after(3):
            while await stream.receive_some():
                pass
    except trio.BrokenResourceError:
        pass
    return True
