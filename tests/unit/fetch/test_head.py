"""ResponseParser: what it says, what it refuses, and that splitting the bytes changes nothing."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.fetch.head import (
    MAX_HEAD_BYTES,
    MAX_HEADERS,
    MAX_INFORMATIONAL,
    BadResponseError,
    ResponseParser,
)


class Outcome(NamedTuple):
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    length: int | None
    state: str


def parse(pieces: list[bytes], *, method: str = "GET") -> Outcome | str:
    parser = ResponseParser(method=method)
    body = b""
    try:
        for piece in pieces:
            if parser.complete:
                break
            parser.feed(piece)
            body += parser.take()
    except BadResponseError as error:
        return str(error)
    state = ("chunked " if parser.chunked else "") + ("complete" if parser.complete else "open")
    return Outcome(parser.status, tuple(parser.headers), body, parser.length, state)


LENGTH = b'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 5\r\n\r\nhello'
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: t\r\n\r\n"
UNTIL_END = b"HTTP/1.0 200 OK\r\nServer: old\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\nX: 1\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n" + LENGTH
NOT_MODIFIED = b"HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n"
NO_CONTENT = b"HTTP/1.1 204 No Content\r\n\r\n"

ACCEPTED = {
    LENGTH: Outcome(200, ((b"etag", b'"a"'), (b"content-length", b"5")), b"hello", 5, "complete"),
    CHUNKED: Outcome(200, ((b"transfer-encoding", b"chunked"),), b"hello", None, "chunked complete"),
    UNTIL_END: Outcome(200, ((b"server", b"old"),), b"hello", None, "open"),
    CONTINUED: Outcome(200, ((b"etag", b'"a"'), (b"content-length", b"5")), b"hello", 5, "complete"),
    NOT_MODIFIED: Outcome(304, ((b"etag", b"x"), (b"content-length", b"5")), b"", 0, "complete"),
    NO_CONTENT: Outcome(204, (), b"", 0, "complete"),
}

REFUSED = {
    "no HTTP": b"<html>hello</html>\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "list of lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
    "signed length": b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "compressed framing": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "bad chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n\r\n",
    "bare LF": b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    "NUL in a value": b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nfoo",
    "large head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "large reason": b"HTTP/1.1 200 " + b"x" * (MAX_HEAD_BYTES + 1) + b"\r\n\r\n",
    "many fields": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (MAX_HEADERS + 1) + b"\r\n",
    "many informational": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INFORMATIONAL + 1),
    "endless head": b"HTTP/1.1 200 OK\r\nX: " + b"x" * (3 * MAX_HEAD_BYTES),
}


@pytest.mark.parametrize("raw", ACCEPTED)
def test_every_split_gives_the_same_response(raw: bytes) -> None:
    """Split at every byte boundary, and byte by byte, a response says the same (row 16)."""
    expected = ACCEPTED[raw]
    assert parse([raw]) == expected
    assert parse([raw[i : i + 1] for i in range(len(raw))]) == expected
    for cut in range(len(raw)):
        assert parse([raw[:cut], raw[cut:]]) == expected


@given(st.sampled_from(sorted(ACCEPTED)), st.lists(st.integers(0, 200)))
def test_many_cuts_give_the_same_response(raw: bytes, cuts: list[int]) -> None:
    """However a response is cut, it says the same."""
    places = sorted({0, len(raw), *(cut for cut in cuts if cut < len(raw))})
    assert parse([raw[a:b] for a, b in itertools.pairwise(places)]) == ACCEPTED[raw]


@given(st.binary(max_size=300), st.integers(0, 300))
def test_rubbish_never_escapes_as_another_error(raw: bytes, cut: int) -> None:
    """Any bytes are a response, half of one, or a BadResponseError."""
    parse([b"HTTP/1.1 200 OK\r\n" + raw[:cut], raw[cut:]])
    parse([raw])


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    """Attack: responses that mean different things to different readers, or never end, are refused, split or not."""
    raw = REFUSED[name]
    assert isinstance(parse([raw]), str)
    step = max(1, len(raw) // 500)
    assert isinstance(parse([raw[i : i + step] for i in range(0, len(raw), step)]), str)


def test_head_request_has_no_body() -> None:
    """The answer to HEAD is complete at its head, whatever length it announces."""
    parser = ResponseParser(method="HEAD")
    parser.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
    assert (parser.complete, parser.keep_alive, parser.take()) == (True, True, b"")


def test_body_after_head_request_spoils_the_connection() -> None:
    """A body where none may be is dropped, and the connection is not used again."""
    parser = ResponseParser(method="HEAD")
    parser.feed(LENGTH)
    assert (parser.complete, parser.keep_alive, parser.take()) == (True, False, b"")


@pytest.mark.parametrize("extra", [b"rubbish", LENGTH, b"\x00"])
def test_bytes_after_the_message_spoil_the_connection(extra: bytes) -> None:
    """Attack: a response smuggled behind another one is no part of it and never the answer to the next request."""
    parser = ResponseParser(method="GET")
    parser.feed(LENGTH + extra)
    assert (parser.complete, parser.keep_alive, parser.take()) == (True, False, b"hello")
    assert parser.headers == [(b"etag", b'"a"'), (b"content-length", b"5")]


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n", True),
        (UNTIL_END, False),
    ],
)
def test_keep_alive(head: bytes, *, kept: bool) -> None:
    """A connection is kept only where the peer says so and the framing allows it."""
    parser = ResponseParser(method="GET")
    parser.feed(head)
    assert parser.keep_alive is kept


def test_repr_shows_the_state() -> None:
    """The repr says how far the response is."""
    parser = ResponseParser(method="GET")
    shown = [repr(parser)]
    parser.feed(LENGTH[:-1])
    shown.append(repr(parser))
    parser.feed(LENGTH[-1:])
    shown.append(repr(parser))
    assert shown == [
        "<ResponseParser head, status 0, 0 pieces>",
        "<ResponseParser body, status 200, 1 pieces>",
        "<ResponseParser complete, status 200, 2 pieces>",
    ]
