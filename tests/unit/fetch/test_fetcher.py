"""Fetcher over loopback: reuse, bounds, cut responses, uploads, and the errors that come out."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NoReturn

import pytest
import trio
import trio.testing

from mirrorwitness.errors import (
    ConfigurationError,
    StorageError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import Fetcher, FetchOptions, Response, make_user_agent, open_fetcher
from mirrorwitness.fetch.connection import Connection
from tests.unit.fetch.scripted import Handler, answer_all, listening, read_request, reply

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = 1 << 20


class NoNames(trio.abc.HostnameResolver):
    """A resolver that knows nobody: no test asks the network."""

    async def getaddrinfo(self, *_args: object, **_options: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def getnameinfo(self, *_args: object) -> NoReturn:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def get(fetcher: Fetcher, url: str, method: str = "GET") -> tuple[int, bytes]:
    async with fetcher.request(method, url) as response:
        return response.status, await response.read(LIMIT)


async def test_request_carries_what_it_should_and_nothing_else() -> None:
    """Host, User-Agent with the contact (P9) and the caller's fields are sent, the path undecoded."""
    seen: list[bytes] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        seen.append(await read_request(stream))
        await stream.send_all(reply(b"ok"))

    options = FetchOptions(user_agent=make_user_agent("https://ops.example"))
    fields = {"accept": "application/json"}
    async with (
        listening(handler) as base,
        open_fetcher(options) as fetcher,
        fetcher.request("GET", f"{base}/@s%2fn?a=b", headers=fields) as response,
    ):
        assert (response.status, response.headers, await response.read(2)) == (200, {"content-length": "2"}, b"ok")
        assert repr(response) == f"<Response 200 of GET {base}/@s%2fn>"
    assert seen == [
        f"GET /@s%2fn?a=b HTTP/1.1\r\nHost: {base[7:]}\r\naccept: application/json\r\n"
        f"User-Agent: {make_user_agent('https://ops.example')}\r\n\r\n".encode()
    ]
    assert make_user_agent("https://ops.example").endswith(" (+https://ops.example)")


async def test_connections_are_reused_last_in_first_out() -> None:
    """Sequential requests share one connection; the repr and statistics say so."""
    async with listening(answer_all(reply(b"x" * 100_000))) as base, open_fetcher() as fetcher:
        for _ in range(3):
            assert await get(fetcher, base) == (200, b"x" * 100_000)
        now = fetcher.statistics()
        assert (now.opened, now.reused, now.idle, now.in_use) == (1, 2, 1, 0)
        assert repr(fetcher) == "<Fetcher 3 requests, <StackTransport 1 origins, 1 idle, 0 in use, 0 waiting>>"


async def test_connections_per_origin_are_bounded_and_waiting_is_fair() -> None:
    """At most max_connections are open; the first in line is served first (P10)."""
    open_now = most = 0
    order: list[int] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        nonlocal open_now, most
        open_now += 1
        most = max(most, open_now)
        while await read_request(stream):
            await trio.lowlevel.checkpoint()
            await stream.send_all(reply(b"ok"))
        open_now -= 1

    async with listening(handler) as base, open_fetcher(FetchOptions(max_connections=2)) as fetcher:

        async def one(number: int) -> None:
            await get(fetcher, base)
            order.append(number)

        async with trio.open_nursery() as nursery:
            for number in range(10):
                nursery.start_soon(one, number)
                await trio.testing.wait_all_tasks_blocked()
        assert fetcher.statistics().opened <= 2
    assert (most <= 2, sorted(order)) == (True, list(range(10)))


async def test_stale_connection_is_replaced_without_the_caller_noticing() -> None:
    """A kept-alive connection that the server closed meanwhile is found at check-out."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(reply(b"ok"))  # and hangs up, without having said so

    async with listening(handler) as base, open_fetcher() as fetcher:
        for _ in range(3):
            assert await get(fetcher, base) == (200, b"ok")
            await trio.testing.wait_all_tasks_blocked()
        assert fetcher.statistics().reused == 0


def dying_after_first(requests: list[bytes]) -> Handler:
    async def handler(stream: trio.SocketStream, number: int) -> None:
        requests.append(await read_request(stream))
        await stream.send_all(reply(b"ok"))
        if number == 1:
            requests.append(await read_request(stream))  # swallowed: the race that no check at check-out sees
            return
        while request := await read_request(stream):
            requests.append(request)
            await stream.send_all(reply(b"ok"))

    return handler


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE"])
async def test_swallowed_request_is_sent_once_more(method: str) -> None:
    """A request that a kept-alive connection swallowed without a byte of answer is repeated on a new one."""
    requests: list[bytes] = []
    async with listening(dying_after_first(requests)) as base, open_fetcher() as fetcher:
        await get(fetcher, base)
        async with fetcher.request(method, base, body=b"x" if method == "PUT" else None) as response:
            assert response.status == 200
        assert fetcher.statistics().repeated == 1


@pytest.mark.parametrize(("method", "headers"), [("POST", {}), ("PUT", {"if-none-match": "*"})])
async def test_swallowed_request_that_is_not_safe_to_repeat_fails(method: str, headers: dict[str, str]) -> None:
    """A POST or conditional PUT may have taken effect: it is never repeated behind the caller's back."""
    requests: list[bytes] = []
    async with listening(dying_after_first(requests)) as base, open_fetcher() as fetcher:
        await get(fetcher, base)
        with pytest.raises(UpstreamUnreachableError, match=r"^(POST|PUT) http://127"):
            async with fetcher.request(method, base, headers=headers, body=b"x"):
                pass
        assert fetcher.statistics().in_use == 0


FIRST_HALF = reply(b"0123456789")[:-5]
CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "sent",
    [b"", b"HTTP/1.1 200 OK\r\nContent", FIRST_HALF, CHUNKS + b"5\r\nhello\r\n", CHUNKS + b"5\r\nhe", CHUNKS],
)
async def test_row_16_truncated_response_raises(sent: bytes) -> None:
    """A response cut anywhere raises, is never a short success, and its connection is closed."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(sent)

    async with listening(handler) as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamUnreachableError, match="closed the connection before"):
            await get(fetcher, base)
        assert (fetcher.statistics().in_use, fetcher.statistics().idle) == (0, 0)


async def test_chunked_body_and_reuse() -> None:
    """Chunks are unwrapped, and the connection goes on."""
    chunked = CHUNKS + b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    async with listening(answer_all(chunked)) as base, open_fetcher() as fetcher:
        assert await get(fetcher, base) == (200, b"hello world")
        assert await get(fetcher, base) == (200, b"hello world")
        assert fetcher.statistics().opened == 1


async def test_body_that_ends_with_the_connection() -> None:
    """An answer of the old kind is read to its end."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\nhello")

    async with listening(handler) as base, open_fetcher() as fetcher:
        assert await get(fetcher, base) == (200, b"hello")


async def test_half_read_body_costs_the_connection() -> None:
    """A body that the caller leaves is never met by the next request."""
    async with listening(answer_all(reply(b"x" * 3_000_000))) as base, open_fetcher() as fetcher:
        async with fetcher.request("GET", base) as response:
            assert await response.receive_some()
        async with fetcher.request("GET", base) as response:
            assert await response.read(3_000_000) == b"x" * 3_000_000
        assert fetcher.statistics().opened == 2


async def test_head_of_something_large_is_no_large_body() -> None:
    """What an answer to HEAD announces is the length of the answer to GET; a limit on bodies is not about it."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")

    async with listening(handler) as base, open_fetcher() as fetcher, fetcher.request("HEAD", base) as answer:
        assert (await answer.read(10), answer.headers["content-length"]) == (b"", "1000000")


async def test_oversized_body_is_refused() -> None:
    """read(limit) never holds more than the limit, whether announced or not (P10)."""
    for response in (reply(b"x" * 11), CHUNKS + b"b\r\nhello world\r\n0\r\n\r\n"):
        async with (
            listening(answer_all(response)) as base,
            open_fetcher() as fetcher,
            fetcher.request("GET", base) as answer,
        ):
            with pytest.raises(UpstreamProtocolError, match="body of at most 10 bytes expected"):
                await answer.read(10)


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_500_000])
@pytest.mark.parametrize("kind", ["bytes", "path"])
async def test_upload_arrives_whole(size: int, kind: str, tmp_path: Path) -> None:
    """A body of bytes or from a file arrives whole, with its Content-Length and without Expect."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    (tmp_path / "body").write_bytes(body)
    seen: list[bytes] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while request := await read_request(stream):
            seen.append(request)
            await stream.send_all(reply(status="201 Created"))

    async with listening(handler) as base, open_fetcher() as fetcher:
        for _ in range(2):
            async with fetcher.request("PUT", base, body=body if kind == "bytes" else tmp_path / "body") as response:
                assert response.status == 201
        assert fetcher.statistics().opened == 1
    head, _, received = seen[1].partition(b"\r\n\r\n")
    assert (received, f"\r\nContent-Length: {size}".encode() in head, b"xpect" in head) == (body, True, False)


async def test_refused_upload_gives_the_answer_and_not_a_broken_pipe() -> None:
    """A server that answers 413 early and hangs up is heard."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await stream.receive_some(1000)
        await stream.send_all(reply(b"too big", status="413 Content Too Large"))
        await stream.send_eof()
        while await stream.receive_some(65536):
            pass

    async with (
        listening(handler) as base,
        open_fetcher() as fetcher,
        fetcher.request("PUT", base, body=b"x" * 20_000_000) as response,
    ):
        assert (response.status, await response.read(100)) == (413, b"too big")


async def test_upload_of_a_missing_or_changing_file_is_the_storage_s_fault(tmp_path: Path) -> None:
    """An unreadable body is a StorageError, and the half-sent request costs the connection."""
    path = tmp_path / "body"
    async with listening(answer_all(reply())) as base, open_fetcher() as fetcher:
        with pytest.raises(StorageError, match="cannot read the request body"):
            async with fetcher.request("PUT", base, body=path):
                pass
        assert (fetcher.statistics().in_use, fetcher.statistics().opened) == (0, 0)


@pytest.mark.parametrize("length", [4, 6])
async def test_file_that_changes_while_it_is_sent_is_noticed(length: int, tmp_path: Path) -> None:
    """A body that is not as long as its Content-Length says never becomes a request."""
    (tmp_path / "body").write_bytes(b"12345")
    ours, theirs = socket.socketpair()
    with theirs:
        connection = Connection(trio.SocketStream(trio.socket.from_stdlib_socket(ours)))
        with pytest.raises(StorageError, match=f"is not {length} bytes long"):
            await connection.exchange("PUT", b"PUT / HTTP/1.1\r\n\r\n", tmp_path / "body", length)
        connection.close()
    assert repr(connection) == "<Connection to None, plain, closed, 1 exchanges>"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("ftp://registry.example/", UpstreamProtocolError),
        ("/relative", UpstreamProtocolError),
        ("http://[::1", UpstreamProtocolError),
        ("http://registry.example:99999/", UpstreamProtocolError),
        ("http://127.0.0.1:1/", UpstreamUnreachableError),
        ("http://no-such-host.example/", UpstreamUnreachableError),
    ],
)
async def test_bad_targets(url: str, expected: type[Exception]) -> None:
    """Nothing of httpx or trio gets out, and the cause is kept (STYLE 20)."""
    trio.socket.set_custom_hostname_resolver(NoNames())
    async with open_fetcher() as fetcher:
        with pytest.raises(expected) as caught:
            await get(fetcher, url)
    assert caught.value.__cause__ is not None


async def test_response_that_is_no_http() -> None:
    """Rubbish is a protocol error, not a hang."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await stream.send_all(b"220 mail.registry.example ESMTP\r\n")
        await trio.sleep_forever()

    async with listening(handler) as base, open_fetcher() as fetcher:
        with pytest.raises(UpstreamProtocolError, match="malformed response"):
            await get(fetcher, base)
        assert fetcher.statistics().in_use == 0


async def test_attack_header_injection_is_refused() -> None:
    """A header value with a line break never reaches the wire."""
    async with listening(answer_all(reply())) as base, open_fetcher() as fetcher:
        for headers in ({"accept": "x\r\nhost: evil"}, {"a\r\nb": "c"}, {"a b": "c"}):
            with pytest.raises(UpstreamProtocolError, match="not allowed"):
                async with fetcher.request("GET", base, headers=headers):
                    pass
        assert fetcher.statistics().opened == 0


async def test_row_18_private_address_is_refused_at_the_connection() -> None:
    """public_only looks at the address connected to, also on a connection that is kept alive."""
    async with listening(answer_all(reply(b"secret"))) as base, open_fetcher() as fetcher:
        for _ in range(2):
            with pytest.raises(UpstreamRefusedError, match=r"127\.0\.0\.1, expected a public one"):
                async with fetcher.request("GET", base, public_only=True):
                    pass
            await get(fetcher, base)
        assert fetcher.statistics().in_use == 0


async def test_repeated_header_fields_are_joined() -> None:
    """Header names are lower case; repeated fields are joined by a comma."""
    async with (
        listening(answer_all(reply(b"", "X-A: 1", "x-a: 2"))) as base,
        open_fetcher() as fetcher,
        fetcher.request("GET", base) as response,
    ):
        assert response.headers == {"x-a": "1, 2", "content-length": "0"}


async def test_closed_fetcher_refuses_and_keeps_nothing_open() -> None:
    """After the block nothing is open; a response that outlives it is closed at its end."""
    async with listening(answer_all(reply(b"x" * 1000))) as base:
        async with open_fetcher() as fetcher:
            held = fetcher.request("GET", base)
            response: Response = await held.__aenter__()
        assert await response.read(1000) == b"x" * 1000
        await held.__aexit__(None, None, None)
        assert fetcher.statistics().idle == 0
        with pytest.raises(UpstreamProtocolError, match="closed"):
            await get(fetcher, base)


@pytest.mark.parametrize("contact", ["a\r\nb", "with (brackets)", "é", "back\\slash"])
def test_contact_that_cannot_be_sent(contact: str) -> None:
    """A contact that would break the header is a configuration error."""
    with pytest.raises(ConfigurationError, match="contact"):
        make_user_agent(contact)


async def test_options_are_checked() -> None:
    """Impossible options are refused at the start."""
    with pytest.raises(ConfigurationError):
        async with open_fetcher(FetchOptions(max_connections=0)):
            pass
