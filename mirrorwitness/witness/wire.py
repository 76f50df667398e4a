"""One HTTP/1.1 exchange with somebody's server, byte for byte as a test decides it.

Rules:

- What is sent is what the caller gave: no field but Host, User-Agent and, unless the caller frames the body,
  Content-Length. What came back is kept as it came: status, fields, body. Nothing is retried but a request that a
  kept-alive connection swallowed, nothing is redirected, no proxy of the environment is used.
- A `Line` is one connection at a time, kept alive where the server keeps it; it is opened again where it was closed.
- Every exchange has a deadline, and no answer more than `MAX_ANSWER_BYTES`.
- Failures are `UpstreamUnreachableError` (no answer) or `UpstreamProtocolError` (no HTTP), raised ``from`` their cause.

The parser and the stream are those of `mirrorwitness.fetch`; its pool and its manners are left out, because which
connection carries a request, and how often, is a part of what is tested.
"""

from __future__ import annotations

import urllib.parse
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import trio

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError, UpstreamUnreachableError
from mirrorwitness.fetch import make_user_agent
from mirrorwitness.fetch.connection import Connection, CutShortError, open_connection
from mirrorwitness.fetch.head import BadResponseError
from mirrorwitness.fetch.transport import make_context
from mirrorwitness.tlog.note import MAX_NOTE_BYTES

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.fetch.head import ResponseParser

__all__ = ["MAX_ANSWER_BYTES", "Answer", "Line", "Prefix", "parse_prefix", "send_at_once"]

MAX_ANSWER_BYTES: Final = MAX_NOTE_BYTES
"""Longest body of an answer: the longest note."""

_MAX_IDLE: Final = 5.0
"""Seconds after which a kept-alive connection is not used again; servers that close early wait at least as long."""

_RECEIVE_BYTES: Final = 64 * 1024
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Prefix:
    """What the paths of a witness are put behind.

    Attributes:
        scheme: ``http`` or ``https``.
        host: the name or address that is connected to.
        port: the port.
        authority: what the Host field says.
        path: the path without a slash at its end; may be empty.
        context: of TLS; made once, because it reads all certificates of the system.
    """

    scheme: str
    host: str
    port: int
    authority: str
    path: str
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        """Return the URL."""
        return f"{self.scheme}://{self.authority}{self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back.

    Attributes:
        status: of HTTP.
        fields: the header fields in order; names in lower case, values as they came.
        body: the whole body.
    """

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def field(self, name: str) -> str | None:
        """Return the value of a header field, of several joined by a comma; None where there is none."""
        values = [value for each, value in self.fields if each == name]
        return ", ".join(values) if values else None


def parse_prefix(url: str) -> Prefix:
    """Read the URL of a submission or monitoring prefix.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{url[:300]!r} is not a URL: {error}") from error
    host = parts.hostname
    is_plain = url.isascii() and url.isprintable() and " " not in url
    if (
        not is_plain
        or parts.scheme not in _DEFAULT_PORTS
        or not host
        or parts.username
        or parts.query
        or parts.fragment
    ):
        raise ConfigurationError(f"{url[:300]!r}: expected http(s)://HOST[:PORT][/PATH] without query or password")
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port is None else f"{shown}:{port}"
    context = make_context() if parts.scheme == "https" else None
    return Prefix(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], authority, parts.path.rstrip("/"), context)


class Line:
    """One connection to a witness at a time; a context manager that closes it.

    Args:
        prefix: where to.
        patience: seconds that one exchange may take.
    """

    def __init__(self, prefix: Prefix, *, patience: float) -> None:
        self._prefix = prefix
        self._patience = patience
        self._connection: Connection | None = None
        self.opened = 0

    def __repr__(self) -> str:
        return f"<Line to {self._prefix}, {self.opened} connections opened>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection at once."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    async def open(self) -> None:
        """Connect, so that the next exchange begins at once.

        Raises:
            UpstreamUnreachableError: there is no connection.
        """
        await self._bounded(f"connecting to {self._prefix.authority}", self._connect)

    async def ask(
        self, method: str, path: str, body: bytes | None = None, *, fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Make one exchange.

        Args:
            method: of HTTP.
            path: is put behind the prefix; begins with a slash.
            body: of the request, as it goes over the wire.
            fields: more header fields; with a Transfer-Encoding no Content-Length is added.

        Raises:
            UpstreamUnreachableError: no answer, or not in time.
            UpstreamProtocolError: no HTTP/1.1, or too long.
        """
        lines = [f"{method} {self._prefix.path}{path} HTTP/1.1", f"Host: {self._prefix.authority}"]
        lines += [f"User-Agent: {make_user_agent(None)}", *(f"{name}: {value}" for name, value in fields)]
        if body is not None and not any(name.lower() == "transfer-encoding" for name, _ in fields):
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join([*lines, "", ""]).encode()
        return await self._bounded(f"{method} {self._prefix}{path}", partial(self._exchange, method, head, body))

    async def _bounded(self, title: str, work: Callable[[], Awaitable[_T]]) -> _T:
        try:
            with trio.move_on_after(self._patience):
                return await work()
        except BadResponseError as error:
            self.close()
            raise UpstreamProtocolError(f"{title}: {error}") from error
        except trio.BrokenResourceError as error:  # of TLS; the cause says what is wrong
            self.close()
            raise UpstreamUnreachableError(f"{title}: {error.__cause__ or error!r}") from error
        except (OSError, CutShortError) as error:
            self.close()
            raise UpstreamUnreachableError(f"{title}: {error}") from error
        except BaseException:
            self.close()
            raise
        self.close()
        raise UpstreamUnreachableError(f"{title}: no answer within {self._patience:g} s")

    async def _connect(self) -> Connection:
        connection = self._connection
        if connection is None or not connection.is_usable(now=trio.current_time(), max_idle=_MAX_IDLE):
            self.close()
            prefix = self._prefix
            self._connection = connection = await open_connection(prefix.host, prefix.port, prefix.context)
            connection.idle_since = trio.current_time()
            self.opened += 1
        return connection

    async def _exchange(self, method: str, head: bytes, body: bytes | None) -> Answer:
        connection = await self._connect()
        is_reused = connection.exchanges > 0
        try:
            parser = await connection.exchange(method, head, body, len(body or b""))
        except CutShortError as error:
            if not (is_reused and error.silent):
                raise
            self.close()  # SPEC: RFC 9112 9.3.1; the server closed while our request was on its way
            connection = await self._connect()
            parser = await connection.exchange(method, head, body, len(body or b""))
        content = await _read_body(connection, parser)
        parser.detach()
        connection.idle_since = trio.current_time()
        if not parser.keep_alive:
            self.close()
        fields = tuple([(name.decode("ascii", "replace"), value.decode("latin-1")) for name, value in parser.headers])
        return Answer(parser.status, fields, content)


async def send_at_once(prefix: Prefix, path: str, bodies: Sequence[bytes], *, patience: float) -> list[Answer]:
    """POST several bodies at the same moment, each over a connection of its own that is open before.

    Raises:
        UpstreamUnreachableError, UpstreamProtocolError: alone or in a group, as `Line.ask` says.
    """
    answers: dict[int, Answer] = {}
    lines = [Line(prefix, patience=patience) for _ in bodies]

    async def send(number: int) -> None:
        answers[number] = await lines[number].ask("POST", path, bodies[number])

    try:
        for line in lines:
            await line.open()
        async with trio.open_nursery() as nursery:
            for number in range(len(bodies)):
                nursery.start_soon(send, number)
    finally:
        for line in lines:
            line.close()
    return [answers[number] for number in range(len(bodies))]


async def _read_body(connection: Connection, parser: ResponseParser) -> bytes:
    pieces = [parser.take()]
    size = len(pieces[0])
    while not parser.complete:
        is_framed = parser.chunked or parser.length is not None
        data = await (connection.receive(_RECEIVE_BYTES) if is_framed else connection.receive_or_end(_RECEIVE_BYTES))
        if not data:
            break
        parser.feed(data)
        pieces.append(parser.take())
        size += len(pieces[-1])
        if size > MAX_ANSWER_BYTES:
            raise BadResponseError(f"a body of at most {MAX_ANSWER_BYTES} bytes was expected, more came")
    return b"".join(pieces)
