"""The HTTP half of the registry simulator: replies, the faults that can be done to them, and the loop that sends them.

A `Fault` changes one reply: what it says, or how it arrives. It is written against httptools and trio streams, so that
a separate process answers some thousand small requests a second.
"""

from __future__ import annotations

import functools
import gzip
import json
import socket
import struct
import zlib
from dataclasses import dataclass, field, replace
from enum import StrEnum, auto
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol

import httptools
import trio

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Answerer", "Fault", "FaultPlan", "RecordedRequest", "Reply", "json_reply", "serve_connection"]

_RECEIVE: Final = 64 * 1024
_BOMB_PIECE: Final = 1 << 20
_DRIP_BYTES: Final = 1


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """What a client asked: the target as sent (undecoded), and the header fields, names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send: a message, and how to spoil its arrival."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    claimed: int | None = None
    """Content-Length to claim instead of the true one."""
    cut: int | None = None
    """Close in good order after this many bytes of the body."""
    reset: int | None = None
    """Reset the connection after this many bytes of head and body."""
    drip: float | None = None
    """Seconds between single bytes of the body."""
    hang: bool = False
    """Never send anything."""
    chunked: bool = False
    """Send the body in chunks, without a length."""

    def render(self, *, head_only: bool) -> bytes:
        """Return the bytes of the message."""
        return self.render_head() + (b"" if head_only else self.body)

    def render_head(self) -> bytes:
        """Return the bytes of the head."""
        lines = [f"HTTP/1.1 {self.status} {_phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        if self.chunked:
            lines.append("transfer-encoding: chunked")
        elif self.status != HTTPStatus.NOT_MODIFIED:
            lines.append(f"content-length: {len(self.body) if self.claimed is None else self.claimed}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


class _Kind(StrEnum):
    STATUS = auto()
    HTML = auto()
    GZIP = auto()
    BOMB = auto()
    TYPE = auto()
    TRUNCATED = auto()
    HALF = auto()
    SHORT = auto()
    RESET = auto()
    DRIP = auto()
    HANG = auto()
    CHUNKED = auto()
    REDIRECT = auto()
    STALE = auto()
    WRONG = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """One way in which an upstream misbehaves; made by the class methods below."""

    kind: _Kind
    number: int = 0
    text: str | None = None
    seconds: float = 0.0

    @classmethod
    def status(cls, status: int, *, retry_after: str | None = None) -> Fault:
        """Answer with an error status; `retry_after` is the header's text (``"0"``, seconds, or an HTTP date)."""
        return cls(_Kind.STATUS, number=status, text=retry_after)

    @classmethod
    def html(cls) -> Fault:
        """Answer 200 with an HTML page, as captive portals and CDN block pages do."""
        return cls(_Kind.HTML)

    @classmethod
    def gzip_unasked(cls) -> Fault:
        """Compress although the client did not ask for it."""
        return cls(_Kind.GZIP)

    @classmethod
    def gzip_bomb(cls, size: int = 1 << 28) -> Fault:
        """Answer with gzip that unpacks to `size` bytes of spaces."""
        return cls(_Kind.BOMB, number=size)

    @classmethod
    def content_type(cls, text: str) -> Fault:
        """Send the right body under the wrong type."""
        return cls(_Kind.TYPE, text=text)

    @classmethod
    def truncated(cls, keep: int | None = None) -> Fault:
        """Close after `keep` bytes of the body (half of it where None), with the true Content-Length."""
        return cls(_Kind.TRUNCATED, number=-1 if keep is None else keep)

    @classmethod
    def half(cls) -> Fault:
        """Send the first half of the body as if it were the whole: in good order, with its own Content-Length."""
        return cls(_Kind.HALF)

    @classmethod
    def short_length(cls, by: int = 1) -> Fault:
        """Claim a Content-Length that is `by` bytes too small, and send the whole body."""
        return cls(_Kind.SHORT, number=by)

    @classmethod
    def reset(cls, after: int = 0) -> Fault:
        """Reset the connection after `after` bytes of head and body."""
        return cls(_Kind.RESET, number=after)

    @classmethod
    def drip(cls, seconds: float = 1.0) -> Fault:
        """Send the body a byte at a time."""
        return cls(_Kind.DRIP, seconds=seconds)

    @classmethod
    def hang(cls) -> Fault:
        """Accept the request and never answer."""
        return cls(_Kind.HANG)

    @classmethod
    def chunked(cls) -> Fault:
        """Send the right body in chunks."""
        return cls(_Kind.CHUNKED)

    @classmethod
    def redirect(cls, location: str, *, status: int = 302) -> Fault:
        """Send the client elsewhere: another host, http, a private address, or back to the same path (a loop)."""
        return cls(_Kind.REDIRECT, number=status, text=location)

    @classmethod
    def stale(cls, revisions: int = 1) -> Fault:
        """Answer with the packument as it was that many changes ago (a lagging edge)."""
        return cls(_Kind.STALE, number=revisions)

    @classmethod
    def wrong_bytes(cls) -> Fault:
        """Change one byte in the middle of the body."""
        return cls(_Kind.WRONG)

    @property
    def revisions_back(self) -> int:
        """How old the packument is that this fault serves."""
        return self.number if self.kind is _Kind.STALE else 0

    def spoil(self, reply: Reply) -> Reply:
        """Return the reply as this fault leaves it."""
        if self.kind in _REPLACEMENTS:
            return self._replace(reply)
        return self._damage(reply)

    def _replace(self, reply: Reply) -> Reply:
        match self.kind:
            case _Kind.STATUS:
                extra = (("retry-after", self.text),) if self.text is not None else ()
                page = b"<html><body>blocked: " + b"secret " * 200 + b"</body></html>"
                return Reply(self.number, (("content-type", "text/html"), *extra), page)
            case _Kind.HTML:
                return Reply(200, (("content-type", "text/html"),), b"<!doctype html><title>hello</title>")
            case _Kind.REDIRECT:
                return Reply(self.number, (("location", self.text or "/"),), b"moved")
            case _Kind.HALF:
                return replace(reply, body=reply.body[: len(reply.body) // 2])
            case _:
                headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
                return replace(reply, status=200, headers=headers, body=make_bomb(self.number))

    def _damage(self, reply: Reply) -> Reply:  # noqa: PLR0911 - one line for each kind
        size = len(reply.body)
        match self.kind:
            case _Kind.GZIP if not _has(reply, "content-encoding"):
                headers = (*reply.headers, ("content-encoding", "gzip"))
                return replace(reply, headers=headers, body=gzip.compress(reply.body, mtime=0))
            case _Kind.TYPE:
                kept = tuple(pair for pair in reply.headers if pair[0] != "content-type")
                return replace(reply, headers=(*kept, ("content-type", self.text or "")))
            case _Kind.TRUNCATED:
                return replace(reply, cut=size // 2 if self.number < 0 else self.number)
            case _Kind.SHORT:
                return replace(reply, claimed=max(size - self.number, 0))
            case _Kind.RESET:
                return replace(reply, reset=self.number)
            case _Kind.DRIP:
                return replace(reply, drip=self.seconds)
            case _Kind.HANG:
                return replace(reply, hang=True)
            case _Kind.CHUNKED:
                return replace(reply, chunked=True)
            case _Kind.WRONG:
                middle = size // 2
                changed = bytes([reply.body[middle] ^ 1]) if size else b""
                return replace(reply, body=reply.body[:middle] + changed + reply.body[middle + 1 :])
            case _:
                return reply


_REPLACEMENTS: Final = frozenset({_Kind.STATUS, _Kind.HTML, _Kind.REDIRECT, _Kind.HALF, _Kind.BOMB})


@functools.lru_cache(maxsize=2)
def make_bomb(size: int) -> bytes:
    """Return gzip of `size` spaces, made without holding them."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    piece = b" " * _BOMB_PIECE
    out = [packer.compress(piece) for _ in range(size // _BOMB_PIECE)]
    out.append(packer.compress(piece[: size % _BOMB_PIECE]))
    out.append(packer.flush())
    return b"".join(out)


class FaultPlan:
    """Which faults wait at which path; those for the same path happen one after another, in the order planned."""

    def __init__(self) -> None:
        self._planned: dict[str, list[tuple[Fault, int | None]]] = {}

    def __bool__(self) -> bool:
        return bool(self._planned)

    def add(self, path: str, fault: Fault, times: int | None) -> None:
        """Plan a fault, for that many answers (None: always)."""
        self._planned.setdefault(path, []).append((fault, times))

    def next(self, path: str) -> Fault | None:
        """Return the fault of the next answer at a path, if any."""
        planned = self._planned.get(path)
        if not planned:
            return None
        fault, times = planned[0]
        if times is not None:
            planned[0] = (fault, times - 1)
            if times <= 1:
                del planned[0]
        if not planned:
            del self._planned[path]
        return fault

    def clear(self) -> None:
        """Forget all of them."""
        self._planned.clear()


class Answerer(Protocol):
    """What a connection asks for each request."""

    def answer(self, request: RecordedRequest) -> bytes | Reply:
        """Return the reply: ready bytes, or one that has to be sent with care."""
        ...

    @property
    def latency(self) -> float:
        """Seconds to wait before each answer."""
        ...


class _Request:
    """Collects one request from httptools' callbacks."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: dict[str, str] = {}
        self.body = b""
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete = True


async def serve_connection(answerer: Answerer, stream: trio.SocketStream) -> None:
    """Answer the requests of one connection, one after another, until either side closes it."""
    try:
        while (request := await _receive(stream)) is not None:
            if answerer.latency:
                await trio.sleep(answerer.latency)
            reply = answerer.answer(request)
            if isinstance(reply, bytes):
                await stream.send_all(reply)
            elif not await _send(stream, reply, head_only=request.method == "HEAD"):
                return
    except (trio.BrokenResourceError, trio.ClosedResourceError, httptools.HttpParserError):
        pass  # the client went away, or talks something else
    finally:
        stream.socket.close()


async def _receive(stream: trio.SocketStream) -> RecordedRequest | None:
    request = _Request()
    parser = httptools.HttpRequestParser(request)
    while not request.complete:
        data = await stream.receive_some(_RECEIVE)
        if not data:
            return None
        parser.feed_data(bytes(data))
    return RecordedRequest(
        parser.get_method().decode("latin-1"), request.target.decode("latin-1"), request.headers, request.body
    )


async def _send(stream: trio.SocketStream, reply: Reply, *, head_only: bool) -> bool:
    """Send a reply; return whether the connection can go on."""
    if reply.hang:
        await trio.sleep_forever()
    if reply.reset is not None:
        await stream.send_all(reply.render(head_only=head_only)[: reply.reset])
        # SO_LINGER 0: close sends RST instead of FIN.
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return False
    if head_only:
        await stream.send_all(reply.render_head())
        return True
    if reply.drip is not None:
        await stream.send_all(reply.render_head())
        for offset in range(0, len(reply.body), _DRIP_BYTES):
            await trio.sleep(reply.drip)
            await stream.send_all(reply.body[offset : offset + _DRIP_BYTES])
        return True
    if reply.chunked:
        await _send_chunks(stream, reply)
        return reply.cut is None
    await stream.send_all(reply.render_head() + reply.body[: reply.cut])
    return reply.cut is None


async def _send_chunks(stream: trio.SocketStream, reply: Reply) -> None:
    await stream.send_all(reply.render_head())
    body = reply.body[: reply.cut]
    for offset in range(0, len(body), _RECEIVE):
        piece = body[offset : offset + _RECEIVE]
        await stream.send_all(b"%x\r\n%b\r\n" % (len(piece), piece))
    if reply.cut is None:
        await stream.send_all(b"0\r\n\r\n")


def json_reply(status: int, value: object) -> Reply:
    """Return a reply with a JSON body."""
    return Reply(status, (("content-type", "application/json"),), json.dumps(value).encode())


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def _has(reply: Reply, name: str) -> bool:
    return any(key == name for key, _ in reply.headers)
