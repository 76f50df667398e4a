"""StackTransport as httpx's transport, httpx's transport for proxies, and the corners of both."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
import trio.testing

from mirrorwitness.errors import StorageError, UpstreamProtocolError, UpstreamUnreachableError
from mirrorwitness.fetch import FetchOptions, Patience, open_fetcher
from mirrorwitness.fetch.bodies import UploadStream
from mirrorwitness.fetch.failures import make_failure
from mirrorwitness.fetch.transport import MAX_ORIGINS, StackTransport
from mirrorwitness.fetch.urls import MAX_URL_SHOWN, parse_url, shorten_url
from tests.unit.fetch.scripted import answer_all, listening, read_request, reply

if TYPE_CHECKING:
    from pathlib import Path


async def test_works_under_httpx_own_client() -> None:
    """The transport keeps httpx's interface, for bodies in memory and streamed answers."""
    seen: list[bytes] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while request := await read_request(stream):
            seen.append(request.rpartition(b"\r\n\r\n")[2])
            await stream.send_all(reply(b"x" * 200_000))

    transport = StackTransport(max_connections=2, max_idle=10)
    async with listening(handler) as base, httpx.AsyncClient(transport=transport, trust_env=False) as client:
        assert (await client.post(base, content=b"hello")).content == b"x" * 200_000
        async with client.stream("GET", base) as response:
            assert response.status_code == 200  # and leaves without the body
        assert (transport.statistics().in_use, transport.statistics().opened) == (0, 1)
    assert seen == [b"hello", b""]


async def test_idle_connections_of_many_origins_are_bounded() -> None:
    """Origins that nobody uses any more are forgotten, their connections closed (P10)."""
    transport = StackTransport(max_connections=1, max_idle=10)
    async with listening(answer_all(reply(b"ok"))) as base:
        first = httpx.Request("GET", base, stream=UploadStream(None))
        assert await (await transport.handle_async_request(first)).aread() == b"ok"
        for number in range(MAX_ORIGINS):
            transport._origin(parse_url(f"http://h{number}.example"))
        now = transport.statistics()
        assert (now.origins, now.idle) == (MAX_ORIGINS, 0)
        pools = list(transport._origins.values())
        for pool in pools:
            pool.slots.acquire_nowait()
        transport._origin(parse_url("http://one-more.example"))
        assert transport.statistics().origins == MAX_ORIGINS + 1
    assert repr(pools[0]) == "<OriginPool http://h0.example:80, 0 idle, 1 in use, 0 waiting>"
    await transport.aclose()


async def test_transport_closed_while_a_request_waited_in_line() -> None:
    """A request that gets its turn after the end opens nothing; one that has begun is finished."""
    options = FetchOptions(max_connections=1)
    async with listening(answer_all(reply(b"x" * 3_000_000))) as base, open_fetcher(options) as fetcher:

        async def late() -> None:
            with pytest.raises(UpstreamProtocolError, match="closed"):
                async with fetcher.request("GET", base):
                    pass

        async with trio.open_nursery() as nursery, fetcher.request("GET", base) as response:
            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
            assert fetcher.statistics().waiting == 1
            await fetcher.aclose()
            assert len(await response.read(3_000_000)) == 3_000_000
        assert (fetcher.statistics().in_use, fetcher.statistics().idle) == (0, 0)


async def test_answer_before_a_broken_upload_is_heard() -> None:
    """A server that refuses a body and resets the connection is heard where its answer arrived."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await stream.receive_some(1000)
        await stream.send_all(reply(b"no", status="403 Forbidden"))
        await trio.sleep(0.05)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with listening(handler) as base, open_fetcher() as fetcher:
        async with fetcher.request("PUT", base, body=b"x" * 50_000_000) as response:
            assert (response.status, await response.read(10)) == (403, b"no")
        assert fetcher.statistics().idle == 0


@pytest.mark.parametrize("answer", [b"", b"rubbish\r\n\r\n", b"HTTP/1.1 403"])
async def test_broken_upload_without_an_answer(answer: bytes) -> None:
    """A reset in the middle of an upload is a network failure, whatever came before it."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await stream.receive_some(1000)
        await stream.send_all(answer)
        await trio.sleep(0.05)
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with listening(handler) as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamUnreachableError, match="hung up during the request"):
            async with fetcher.request("PUT", base, body=b"x" * 50_000_000):
                pass


async def test_broken_chunks() -> None:
    """Framing that breaks in the middle of the body is a protocol error."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await trio.testing.wait_all_tasks_blocked()
        await stream.send_all(b"xyz\r\n")

    async with listening(handler) as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamProtocolError, match="malformed"):
            async with fetcher.request("GET", base) as response:
                await response.read(100)


# ---- proxies: httpx's stock transport


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


@pytest.mark.parametrize("variable", ["http_proxy", "all_proxy"])
async def test_proxy_of_the_environment_is_used(proxied: pytest.MonkeyPatch, variable: str, tmp_path: Path) -> None:
    """Requests go through the proxy, with bodies from memory and from disk; exceptions go direct."""
    (tmp_path / "body").write_bytes(b"from disk")
    seen: list[bytes] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while request := await read_request(stream):
            head, _, body = request.partition(b"\r\n\r\n")
            seen.append(head.partition(b"\r\n")[0] + b" " + body)
            await stream.send_all(reply(b"proxied"))

    async with listening(handler) as proxy, listening(answer_all(reply(b"direct"))) as direct:
        proxied.setenv(variable, proxy)
        proxied.setenv("no_proxy", direct.removeprefix("http://"))
        async with open_fetcher() as fetcher:
            for method, url, body, answer in (
                ("GET", "http://registry.example/a", None, b"proxied"),
                ("PUT", "http://registry.example:81/b", b"hello", b"proxied"),
                ("PUT", "http://registry.example/c", tmp_path / "body", b"proxied"),
                ("GET", direct, None, b"direct"),
            ):
                async with fetcher.request(method, url, body=body) as response:
                    assert await response.read(100) == answer
        options = FetchOptions(trust_environment=False)
        async with open_fetcher(options) as fetcher, fetcher.request("GET", direct) as response:
            assert await response.read(100) == b"direct"
    assert seen == [
        b"GET http://registry.example/a HTTP/1.1 ",
        b"PUT http://registry.example:81/b HTTP/1.1 hello",
        b"PUT http://registry.example/c HTTP/1.1 from disk",
    ]


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200", reply(b"0123456789")[:-5]])
async def test_row_16_truncated_through_a_proxy(proxied: pytest.MonkeyPatch, sent: bytes) -> None:
    """A cut answer is a cut answer through a proxy too."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(sent)

    async with listening(handler) as proxy:
        proxied.setenv("http_proxy", proxy)
        async with open_fetcher() as fetcher:
            with pytest.raises(UpstreamUnreachableError):
                async with fetcher.request("GET", "http://registry.example/") as response:
                    await response.read(100)


async def test_row_16_slow_through_a_proxy(proxied: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock) -> None:
    """A dripping body is cut off through a proxy too."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(reply(b"x" * 100_000)[:-100_000])
        while True:
            await trio.sleep(1)
            await stream.send_all(b"x")

    patience = Patience(connect=5, head=10, grace=20, min_rate=100)
    async with listening(handler) as proxy:
        proxied.setenv("http_proxy", proxy)
        async with open_fetcher(FetchOptions(patience=patience)) as fetcher:
            with pytest.raises(UpstreamUnreachableError, match="below 100 bytes/s"):
                async with fetcher.request("GET", "http://registry.example/") as response:
                    await response.read(100_000)


async def test_missing_body_through_a_proxy_is_the_storage_s_fault(proxied: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A request body that is not there is never blamed on the upstream."""
    proxied.setenv("http_proxy", "http://127.0.0.1:1")
    async with open_fetcher() as fetcher:
        with pytest.raises(StorageError):
            async with fetcher.request("PUT", "http://registry.example/", body=tmp_path / "none"):
                pass


async def test_half_read_body_through_a_proxy_is_let_go(proxied: pytest.MonkeyPatch) -> None:
    """Leaving a proxied body early leaves nothing behind."""
    async with listening(answer_all(reply(b"x" * 3_000_000))) as proxy:
        proxied.setenv("http_proxy", proxy)
        async with open_fetcher() as fetcher:
            for _ in range(2):
                async with fetcher.request("GET", "http://registry.example/") as response:
                    assert await response.receive_some()


# ---- messages


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:secret@registry.example/a?token=secret", "https://registry.example/a"),
        ("https://registry.example", "https://registry.example"),
        ("/relative?x", "/relative"),
        ("http://registry.example/" + "x" * 999, "http://registry.example/" + "x" * (MAX_URL_SHOWN - 24) + "…"),
    ],
)
def test_urls_in_messages_hold_no_secrets(url: str, shown: str) -> None:
    """Neither passwords nor queries are shown, and no URL is endless (STYLE 23)."""
    assert shorten_url(url) == shown


def test_every_failure_has_an_error() -> None:
    """What the table does not name is a network failure; an empty message becomes the error's name."""
    failure = make_failure(ValueError(), method="GET", url="http://registry.example/")
    assert (type(failure), str(failure)) == (UpstreamUnreachableError, "GET http://registry.example/: ValueError")
    cut = make_failure(httpx.RemoteProtocolError("Server disconnected"), method="GET", url="x")
    assert type(cut) is UpstreamUnreachableError


async def test_a_refused_connection_is_named_as_such() -> None:
    """The message says why nobody answers, and not how many attempts were grouped."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        port = taken.getsockname()[1]
        async with open_fetcher() as fetcher:
            with pytest.raises(UpstreamUnreachableError) as caught:
                async with fetcher.request("GET", f"http://127.0.0.1:{port}/"):
                    pass  # pragma: no cover
    assert str(caught.value).endswith(f"cannot connect to 127.0.0.1:{port}: Connection refused")
