"""ResponseParser: bytes of an HTTP/1.1 response in, its head and body pieces out, over httptools (llhttp).

Rules:

- One parser per response. What it says does not depend on where the bytes were split.
- llhttp runs with its strict defaults; what it lets through and we do not want is refused here: a head that is too
  large, a Transfer-Encoding other than ``chunked``, an upgrade nobody asked for, endless 1xx answers.
- A response to HEAD and one with status 204 or 304 has no body, whatever its head announces (RFC 9112 6.3).
- Bytes after the end of the message never change the message; they make the connection unfit for reuse.

Bodies with a Content-Length pass through the parser only as far as they came together with the head; `remaining` says
how many bytes are still on the wire, and those need no parsing.
This module is pure: it never waits and never sees a socket. It follows RFC 9112.
"""

from __future__ import annotations

from typing import Final

import httptools

__all__ = ["KIB", "MAX_HEADERS", "MAX_HEAD_BYTES", "MAX_INFORMATIONAL", "BadResponseError", "ResponseParser"]

KIB: Final = 1024

MAX_HEAD_BYTES: Final = 64 * KIB
"""Longest response head. Registries and CDNs send 1 to 2 KiB; common servers refuse request heads above 8 to 64 KiB."""

MAX_HEADERS: Final = 200
"""Most header fields in one response; seen in the field: under 40."""

MAX_INFORMATIONAL: Final = 8
"""Most 1xx answers before the real one; we send no ``Expect``, so even one is unusual."""

_BODILESS: Final = frozenset({204, 304})
_LINE_OVERHEAD: Final = 4  # ": " and CR LF


class BadResponseError(Exception):
    """The bytes are not an HTTP/1.1 response that we accept."""


class ResponseParser:
    """The state of one response.

    Attributes:
        status: the status code, once `head_complete`.
        headers: the header fields as received, names in lower case.
        head_complete: whether the final head (not a 1xx) is here.
        complete: whether the message is complete. A body that only the end of the connection ends never is.
        chunked: whether the body comes in chunks and must go on through `feed`.
        length: the announced length of the body; None where chunked or ended by the end of the connection.
        remaining: for a body with a length, how many bytes of it have not been fed.
        keep_alive: whether the peer would take another request on the connection.
    """

    __slots__ = (
        "_fed",
        "_head_bytes",
        "_informational",
        "_is_head",
        "_parser",
        "_pieces",
        "_problem",
        "_skip",
        "chunked",
        "complete",
        "head_complete",
        "headers",
        "keep_alive",
        "length",
        "remaining",
        "status",
    )

    def __init__(self, *, method: str) -> None:
        self._is_head = method == "HEAD"
        self._parser = httptools.HttpResponseParser(self)
        self._pieces: list[bytes] = []
        self._problem: str | None = None
        self._skip = False
        self._fed = 0
        self._head_bytes = 0
        self._informational = 0
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.head_complete = False
        self.complete = False
        self.chunked = False
        self.length: int | None = None
        self.remaining = 0
        self.keep_alive = False

    def __repr__(self) -> str:
        state = "complete" if self.complete else "body" if self.head_complete else "head"
        return f"<ResponseParser {state}, status {self.status}, {len(self._pieces)} pieces>"

    @property
    def anything_received(self) -> bool:
        """Whether the peer has sent even one byte of an answer."""
        return self._fed > 0

    def feed(self, data: bytes) -> bool:
        """Take the next bytes from the wire, and return whether the message is complete.

        Raises:
            BadResponseError: they cannot be a response, or exceed a limit.
        """
        self._fed += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as error:
            raise BadResponseError("the server switched protocols, which nobody asked for") from error
        except httptools.HttpParserError as error:
            if self.complete:  # bytes after the message: not part of the answer
                self.keep_alive = False
                return True
            raise BadResponseError(self._problem or f"malformed response: {error}") from error
        # Half-received lines and skipped white space are not in _head_bytes; twice the limit holds for those.
        if not self.head_complete and self._fed > 2 * MAX_HEAD_BYTES:
            raise BadResponseError(f"response head of more than {MAX_HEAD_BYTES} bytes")
        return self.complete

    def take(self) -> bytes:
        """Return, and forget, the body bytes fed so far."""
        if not self._pieces:
            return b""
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        self._pieces = []
        return data

    def detach(self) -> None:
        """Let go of llhttp; nothing can be fed any more.

        It refers back to us, and a cycle for each request keeps the garbage collector busy: some 10 % of the processor
        time of a download at 256 in flight.
        """
        del self._parser

    # Callbacks of httptools. An exception in one stops the parser, so `_fail` keeps its text for `feed`.

    def on_message_begin(self) -> None:
        """Start a message; one after the answer is no part of it."""
        if self.complete:
            self.keep_alive = False
            self._skip = True

    def on_status(self, reason: bytes) -> None:
        """Count the reason phrase, which nothing else uses."""
        self._count(len(reason))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header field."""
        if self._skip or self.head_complete:  # trailers are dropped: nothing may depend on them
            return
        self._count(len(name) + len(value) + _LINE_OVERHEAD)
        if len(self.headers) >= MAX_HEADERS:
            self._fail(f"response head of more than {MAX_HEADERS} fields")
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Decide the framing."""
        if self._skip:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200:  # noqa: PLR2004 - RFC 9110 15.2
            self._informational += 1
            if self._informational > MAX_INFORMATIONAL:
                self._fail(f"more than {MAX_INFORMATIONAL} informational responses")
            return
        self.status = status
        self._frame()
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body."""
        if self._skip or self.complete:
            self.keep_alive = False  # a body where none may be (HEAD)
            return
        self._pieces.append(body)
        self.remaining -= len(body)

    def on_message_complete(self) -> None:
        """End the message, or throw away a 1xx."""
        if self._skip:
            return
        if not self.head_complete:
            self.headers = []
            return
        self.complete = True

    def _frame(self) -> None:
        encodings = [value for name, value in self.headers if name == b"transfer-encoding"]
        lengths = [value for name, value in self.headers if name == b"content-length"]
        self.keep_alive = self._parser.should_keep_alive()
        if self._is_head or self.status in _BODILESS:
            # llhttp does not know the method: it would wait for the body that was announced.
            self.complete = True
            self.length = 0
            return
        if encodings:
            if len(encodings) > 1 or encodings[0].strip().lower() != b"chunked":
                self._fail(f"Transfer-Encoding {b', '.join(encodings)[:100]!r}, expected 'chunked'")
            self.chunked = True
        elif lengths:
            self.length = self.remaining = _parse_length(lengths[0])
        else:
            self.keep_alive = False

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            self._fail(f"response head of more than {MAX_HEAD_BYTES} bytes")

    def _fail(self, problem: str) -> None:
        self._problem = problem
        raise BadResponseError(problem)


def _parse_length(value: bytes) -> int:
    # llhttp has refused everything but digits, and numbers above 64 bits.
    return int(value.strip())
