"""The wire: one exchange as a test decides it, and everything a server can do to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError, UpstreamUnreachableError
from mirrorwitness.witness.wire import MAX_ANSWER_BYTES, Answer, Line, parse_prefix, send_at_once
from tests.unit.fetch.scripted import answer_all, listening, read_request, reply
from tests.unit.fetch.test_tls import listening_tls, make_certificate

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.fetch.scripted import Handler


def replies(*pieces: bytes) -> Handler:
    """Return a handler that answers one request with these bytes, and hangs up."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        for piece in pieces:
            await stream.send_all(piece)

    return handler


async def ask(url: str, *, patience: float = 5.0) -> Answer:
    """Make one exchange."""
    with Line(parse_prefix(url), patience=patience) as line:
        return await line.ask("POST", "/x", b"body")


async def test_what_is_sent_is_what_was_given() -> None:
    """Three fields and the body, in one piece; a body that frames itself gets no length."""
    seen: list[bytes] = []

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while request := await read_request(stream):
            seen.append(request)
            await stream.send_all(reply(b"yes"))

    async with listening(handler) as url:
        host = url.removeprefix("http://")
        with Line(parse_prefix(f"{url}/prefix/"), patience=5) as line:
            await line.ask("POST", "/add-checkpoint", b"\x00body", fields=[("X-More", "1")])
            await line.ask("GET", "/a")
            await line.ask("POST", "/b", b"0\r\n\r\n", fields=[("transfer-encoding", "chunked")])
            assert (line.opened, repr(line)) == (1, f"<Line to {url}/prefix, 1 connections opened>")
    lines = seen[0].split(b"\r\n")
    assert lines[:2] == [b"POST /prefix/add-checkpoint HTTP/1.1", f"Host: {host}".encode()]
    assert lines[3:] == [b"X-More: 1", b"Content-Length: 5", b"", b"\x00body"]
    assert seen[1].startswith(b"GET /prefix/a HTTP/1.1\r\n")
    assert b"ontent-" not in seen[1] + seen[2]


async def test_what_came_back_is_kept_as_it_came() -> None:
    """Status, fields with their values' spelling, repeated ones joined when asked for, and the body."""
    async with listening(answer_all(reply(b"3\n", "Content-Type: Text/X", "A: 1", "A: 2", status="409 No"))) as url:
        answer = await ask(url)
    assert (answer.status, answer.body, answer.field("content-type")) == (409, b"3\n", "Text/X")
    assert (answer.field("a"), answer.field("b")) == ("1, 2", None)


@pytest.mark.parametrize(
    "pieces",
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n", b"2\r\ndy\r\n0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nbo", b"dy"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n", b"body"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",),
    ],
)
async def test_every_framing_is_read(pieces: tuple[bytes, ...]) -> None:
    """By length, by chunks, by the end of the connection."""
    async with listening(replies(*pieces)) as url:
        answer = await ask(url)
    assert (answer.status, answer.body) == (200, b"body")


@pytest.mark.parametrize(
    ("sent", "error", "message"),
    [
        (b"", UpstreamUnreachableError, "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo", UpstreamUnreachableError, "closed the connection"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", UpstreamProtocolError, "malformed"),
        (b"220 smtp.example ESMTP\r\n", UpstreamProtocolError, "malformed"),
        (reply(bytes(MAX_ANSWER_BYTES + 1)), UpstreamProtocolError, "at most 1000000 bytes"),
    ],
)
async def test_an_answer_that_is_none(sent: bytes, error: type[Exception], message: str) -> None:
    """The error says which request it was."""
    async with listening(replies(sent)) as url:
        with pytest.raises(error, match=message) as caught:
            await ask(url)
    assert f"POST {url}/x: " in str(caught.value)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"])
async def test_attack_a_slow_server_is_cut_off(sent: bytes) -> None:
    """Attack: an answer without an end; the deadline is that of the whole exchange."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        if sent:
            await stream.send_all(sent)
        await trio.sleep_forever()

    async with listening(handler) as url:
        with pytest.raises(UpstreamUnreachableError, match=r"no answer within 0\.2 s"):
            await ask(url, patience=0.2)


async def test_nobody_listens() -> None:
    """A connection that is refused says so."""
    async with listening(replies()) as url:
        pass
    with pytest.raises(UpstreamUnreachableError, match="POST"):
        await ask(url)
    with pytest.raises(UpstreamUnreachableError, match="connecting to 127"):
        await Line(parse_prefix(url), patience=5).open()


async def test_a_request_that_a_kept_alive_connection_swallowed_is_sent_again() -> None:
    """Once, over a new connection; a server may close an idle one at any time."""

    async def once(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(reply(b"yes"))
        await read_request(stream)  # and hang up without an answer

    async with listening(once) as url:
        with Line(parse_prefix(url), patience=5) as line:
            answers = [await line.ask("POST", "/x", b"body") for _ in range(3)]
            assert (line.opened, [each.body for each in answers]) == (3, [b"yes"] * 3)


async def test_a_request_that_was_answered_in_part_is_not_sent_again() -> None:
    """It may have counted."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        await read_request(stream)
        await stream.send_all(reply(b"yes"))
        await read_request(stream)
        await stream.send_all(b"HTTP/1.1 20")

    async with listening(handler) as url:
        with Line(parse_prefix(url), patience=5) as line:
            await line.ask("POST", "/x", b"body")
            with pytest.raises(UpstreamUnreachableError, match="closed the connection"):
                await line.ask("POST", "/x", b"body")
            assert line.opened == 1


async def test_a_connection_that_the_server_closes_is_opened_again() -> None:
    """Where it says so, and where it does so."""
    async with listening(answer_all(reply(b"yes", "Connection: close"))) as url:
        with Line(parse_prefix(url), patience=5) as line:
            assert [(await line.ask("GET", "/x")).body for _ in range(2)] == [b"yes"] * 2
            assert line.opened == 2


async def test_cancellation_closes_the_connection() -> None:
    """At once, and the line can be used again."""

    async def silent(stream: trio.SocketStream, number: int) -> None:
        await read_request(stream)
        if number == 1:
            await read_request(stream)  # returns when the client hung up
        await stream.send_all(reply(b"yes"))

    async with listening(silent) as url:
        with Line(parse_prefix(url), patience=5) as line:
            with trio.move_on_after(0.2):
                await line.ask("GET", "/x")
            assert (await line.ask("GET", "/x")).body == b"yes"
            assert line.opened == 2


async def test_a_race_has_a_connection_for_each() -> None:
    """All are open before the first byte is sent; answers come back in the order of the bodies."""
    waiting: list[int] = []
    full = trio.Event()

    async def handler(stream: trio.SocketStream, number: int) -> None:
        request = await read_request(stream)
        waiting.append(number)
        if len(waiting) == 5:
            full.set()
        await full.wait()
        await stream.send_all(reply(request.rpartition(b"\r\n")[2]))

    async with listening(handler) as url:
        bodies = [b"%d" % number for number in range(5)]
        answers = await send_at_once(parse_prefix(url), "/x", bodies, patience=5)
    assert [each.body for each in answers] == bodies


async def test_a_race_with_nobody_is_an_error() -> None:
    """Before anything is sent."""
    async with listening(replies()) as url:
        pass
    with pytest.raises(UpstreamUnreachableError):
        await send_at_once(parse_prefix(url), "/x", [b"", b""], patience=5)


async def test_tls_is_checked_against_the_system_s_authorities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SSL_CERT_FILE names them; the connection is kept alive as any other."""
    certificate = make_certificate(tmp_path, "127.0.0.1")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with listening_tls(certificate, b"yes") as url:
        with Line(parse_prefix(url), patience=5) as line:
            assert [(await line.ask("POST", "/x", b"body")).body for _ in range(2)] == [b"yes"] * 2
            assert line.opened == 1


async def test_attack_untrusted_certificate(tmp_path: Path) -> None:
    """Attack: a certificate that nobody vouches for ends it before anything is sent."""
    async with listening_tls(make_certificate(tmp_path, "127.0.0.1"), b"yes") as url:
        with pytest.raises(UpstreamUnreachableError, match="CERTIFICATE_VERIFY_FAILED"):
            await ask(url)


@pytest.mark.parametrize(
    ("url", "shown", "port"),
    [
        ("http://witness.example", "http://witness.example", 80),
        ("http://witness.example/", "http://witness.example", 80),
        ("https://witness.example:444/a/b/", "https://witness.example:444/a/b", 444),
        ("https://WITNESS.example/A", "https://witness.example/A", 443),
        ("http://[::1]:8080/w", "http://[::1]:8080/w", 8080),
    ],
)
def test_prefixes(url: str, shown: str, port: int) -> None:
    """A slash at the end says nothing; only https has a TLS context."""
    prefix = parse_prefix(url)
    assert (str(prefix), prefix.port) == (shown, port)
    assert (prefix.context is None) == (prefix.scheme == "http")
    assert prefix.host in {"witness.example", "::1"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        "witness.example",
        "ftp://witness.example",
        "http://",
        "http://user:secret@witness.example",
        "http://witness.example?a",
        "http://witness.example#a",
        "http://witness.example:port",
        "http://witness.example:99999",
        "http://witness.example/a b",
        "http://witness.example/\r\nX: 1",
        "http://wïtness.example",
        "http://[::1",
    ],
)
def test_what_is_no_prefix(url: str) -> None:
    """Nothing that would be sent in another form than it was written."""
    with pytest.raises(ConfigurationError):
        parse_prefix(url)
