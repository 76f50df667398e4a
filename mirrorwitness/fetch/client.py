"""Fetcher: one HTTP exchange at a time for the rest of the package, with deadlines and this project's errors.

Rules:

- Raw: no redirects, no retries (but for a dead kept-alive connection), no decoding, no cookies, no politeness; those
  are decisions of `mirrorwitness.fetch.polite` and its callers.
- `httpx.AsyncClient` is left out, because all it would add here (cookies, redirects, authentication, event hooks) is
  unwanted; its errors, and its transports where there is a proxy, are used.
- Where the environment names a proxy for a host (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY), httpx's stock
  transport speaks to it; it pools in its own way and is slower. `StackTransport` carries everything else.
- A response is read inside the ``async with`` block, by the task that opened it. Where the block ends before the body
  did, the connection is closed.
- Every failure is an `UpstreamError` (or `StorageError` for an unreadable request body), raised ``from`` its cause.
"""

from __future__ import annotations

import io
import math
import urllib.request
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Final, Protocol

import httpx
import trio

from mirrorwitness.errors import ConfigurationError, StorageError, UpstreamProtocolError, UpstreamUnreachableError
from mirrorwitness.fetch.bodies import BodyStream, UploadStream
from mirrorwitness.fetch.deadline import SECONDS, Deadline, Patience
from mirrorwitness.fetch.failures import CAUGHT, make_failure
from mirrorwitness.fetch.transport import Message, StackTransport, TransportStatistics, make_context
from mirrorwitness.fetch.urls import parse_url, shorten_url

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from pathlib import Path
    from typing import TypeAlias

    from mirrorwitness.fetch.connection import RequestBody
    from mirrorwitness.fetch.urls import Url

    _Answer: TypeAlias = "tuple[int, Sequence[tuple[bytes, bytes]], BodyStream | _ProxiedBody]"

__all__ = ["FetchOptions", "Fetcher", "Response", "make_user_agent", "open_fetcher"]

_PROXIED_SCHEMES: Final = frozenset({"http", "https", "all"})

_CLEANUP: Final = 2 * SECONDS
"""How long closing a proxied response may take, shielded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions:
    """How a `Fetcher` behaves.

    Attributes:
        patience: the deadlines.
        max_connections: connections per origin; research/F 3.4: one core is busy with 64 to 128 at 40 ms.
        max_idle: seconds after which an idle connection is not used again; common servers close after 60 to 75 s.
        user_agent: names this program and the operator's contact (`make_user_agent`).
        trust_environment: whether proxies of the environment are used.
    """

    patience: Patience = field(default_factory=Patience)
    max_connections: int = 64
    max_idle: float = 45 * SECONDS
    user_agent: str = "mirrorwitness"
    trust_environment: bool = True


def make_user_agent(contact: str | None) -> str:
    """Return the User-Agent that tells an upstream who is asking, and whom to write to (P9).

    Raises:
        ConfigurationError: the contact cannot stand in a header.
    """
    if contact is not None and (not contact.isascii() or not contact.isprintable() or set(contact) & set("()\\")):
        raise ConfigurationError(f"contact {contact!r}: expected printable ASCII without brackets or backslash")
    try:
        version = metadata.version("mirrorwitness")
    except metadata.PackageNotFoundError:
        version = "0"
    return f"mirrorwitness/{version}" + (f" (+{contact})" if contact else "")


class Response:
    """A response whose body is read piece by piece.

    Attributes:
        status: the status code.
        headers: the header fields; names in lower case, repeated ones joined by a comma.
        url: the URL that was asked.
    """

    __slots__ = ("_method", "_stream", "headers", "status", "url")

    def __init__(self, *, status: int, headers: Mapping[str, str], url: str, method: str, stream: _Source) -> None:
        self.status = status
        self.headers = headers
        self.url = url
        self._method = method
        self._stream = stream

    def __repr__(self) -> str:
        return f"<Response {self.status} of {self._method} {shorten_url(self.url)}>"

    async def receive_some(self) -> bytes:
        """Return the next piece of the body as it came over the wire, ``b""`` at its end.

        Raises:
            UpstreamUnreachableError: the body was cut short.
            UpstreamProtocolError: its framing is broken.
        """
        try:
            return await self._stream.receive_some()
        except CAUGHT as error:
            raise make_failure(error, method=self._method, url=self.url) from error

    async def read(self, limit: int) -> bytes:
        """Return the whole body.

        Raises:
            UpstreamProtocolError: it has more than `limit` bytes.
            UpstreamUnreachableError: it was cut short.
        """
        # SPEC: the Content-Length of an answer to HEAD is that of the answer to GET (RFC 9110, 9.3.2).
        announced = "" if self._method == "HEAD" else self.headers.get("content-length", "")
        if announced.isascii() and announced.isdigit() and int(announced) > limit:
            raise self._too_long(limit, f"{announced} announced")
        # BytesIO grows in place and hands its buffer out without a copy: a large body is in memory once.
        body = io.BytesIO()
        while piece := await self.receive_some():
            if body.tell() + len(piece) > limit:
                raise self._too_long(limit, "more came")
            body.write(piece)
        return body.getvalue()

    def _too_long(self, limit: int, found: str) -> UpstreamProtocolError:
        shown = shorten_url(self.url)
        return UpstreamProtocolError(f"{self._method} {shown}: body of at most {limit} bytes expected, {found}")


class _Source(Protocol):
    async def receive_some(self) -> bytes: ...


class _ProxiedBody:
    """The body of a response that httpx's own transport brought, read and closed as a `BodyStream` is."""

    __slots__ = ("_deadline", "_iterator", "_stream")

    def __init__(self, stream: httpx.AsyncByteStream, deadline: Deadline) -> None:
        self._stream = stream
        self._iterator = aiter(stream)
        self._deadline = deadline

    async def receive_some(self) -> bytes:
        self._deadline.start_read()
        piece = await anext(self._iterator, b"")
        self._deadline.stop_read(len(piece))
        return piece

    async def aclose(self) -> None:
        # The iterator is a generator round more of them (httpx's, httpcore's); closing the outer one leaves the inner
        # ones to the garbage collector. A cancellation unwinds them all, and costs the connection.
        with trio.move_on_after(_CLEANUP, shield=True):
            with suppress(*CAUGHT), trio.CancelScope() as scope:
                scope.cancel()
                while await anext(self._iterator, b""):
                    pass
            await self._stream.aclose()


class Fetcher:
    """The door to HTTP; open one with `open_fetcher` and share it. All methods may be called by many tasks at once."""

    def __init__(self, *, options: FetchOptions, transport: StackTransport) -> None:
        self.options = options
        self._transport = transport
        self._user_agent = options.user_agent.encode("ascii")
        # NO_PROXY alone (its key is "no") names no proxy, and asking for each request costs a third of a small GET.
        proxies = urllib.request.getproxies() if options.trust_environment else {}
        self._proxies = {scheme: url for scheme, url in proxies.items() if scheme in _PROXIED_SCHEMES}
        self._proxied: dict[str, httpx.AsyncHTTPTransport] = {}
        self._requests = 0

    def __repr__(self) -> str:
        return f"<Fetcher {self._requests} requests, {self._transport!r}>"

    def statistics(self) -> TransportStatistics:
        """Return a snapshot of the connections (proxied ones excepted)."""
        return self._transport.statistics()

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,
        public_only: bool = False,
    ) -> AsyncGenerator[Response, None]:
        """Send a request; the block gets the response as soon as its head is here.

        Args:
            method: upper case.
            url: absolute, http or https.
            headers: fields to send; Host, Content-Length and User-Agent are added.
            body: bytes, or a file that is streamed from disk with its present size as Content-Length.
            public_only: refuse to talk to an address that is loopback, private or otherwise not public; checked
                against the address really connected to, so a name that changes its answer gains nothing. (Through a
                proxy the proxy resolves names, and only literal addresses are checked, by `fetch.redirects`.)

        Raises:
            UpstreamUnreachableError: no connection, a cut response, or a deadline that passed.
            UpstreamProtocolError: the answer is not HTTP, or the URL not one we can fetch.
            UpstreamRefusedError: `public_only`, and the address is not.
            StorageError: the file of the body cannot be read.

        Cancellation:
            At any point; the connection is closed, never reused. Where a deadline passes, the block is cancelled and
            the error is raised at its end.
        """
        self._requests += 1
        deadline = Deadline(self.options.patience)
        length = await _measure(body)
        try:
            message = self._make_message(method, url, headers, body, length)
        except CAUGHT as error:
            raise make_failure(error, method=method, url=url) from error
        with deadline.scope:
            try:
                status, fields, stream = await self._send(message, deadline, public_only=public_only)
                deadline.stop()
            except CAUGHT as error:
                raise make_failure(error, method=method, url=url) from error
            try:
                yield Response(status=status, headers=_headers(fields), url=url, method=method, stream=stream)
            finally:
                await stream.aclose()
        if deadline.expired:
            raise UpstreamUnreachableError(f"{method} {shorten_url(url)}: {deadline.describe()}")

    async def aclose(self) -> None:
        """Close all idle connections; requests after this fail."""
        await self._transport.aclose()
        with trio.move_on_after(_CLEANUP, shield=True):
            for transport in self._proxied.values():
                await transport.aclose()

    def _make_message(
        self, method: str, url: str, headers: Mapping[str, str] | None, body: RequestBody, length: int | None
    ) -> Message:
        target = parse_url(url)
        fields = [(b"Host", target.authority)]
        fields += [(name.encode("ascii"), value.encode("latin-1")) for name, value in (headers or {}).items()]
        fields.append((b"User-Agent", self._user_agent))
        if length is not None:
            fields.append((b"Content-Length", b"%d" % length))
        return Message(method, target, fields, body, length or 0)

    async def _send(self, message: Message, deadline: Deadline, *, public_only: bool) -> _Answer:
        proxy = self._proxy_for(message.url) if self._proxies else None
        if proxy is None:
            parser, body = await self._transport.send(message, deadline, public_only=public_only)
            return parser.status, parser.headers, body
        transport = self._proxied.get(proxy)
        if transport is None:
            most = self.options.max_connections
            limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
            transport = httpx.AsyncHTTPTransport(verify=make_context(), proxy=httpx.Proxy(proxy), limits=limits)
            self._proxied[proxy] = transport
        deadline.start_head()
        url = message.url
        request = httpx.Request(
            message.method,
            httpx.URL(scheme=url.scheme, host=url.host, port=url.port, raw_path=url.target),
            headers=message.fields,
            stream=UploadStream(message.body),
        )
        response = await transport.handle_async_request(request)
        return response.status_code, response.headers.raw, _ProxiedBody(_async_stream(response), deadline)

    def _proxy_for(self, url: Url) -> str | None:
        if urllib.request.proxy_bypass(url.authority.decode("ascii")):
            return None
        return self._proxies.get(url.scheme) or self._proxies.get("all")


@asynccontextmanager
async def open_fetcher(options: FetchOptions | None = None) -> AsyncGenerator[Fetcher, None]:
    """Open a `Fetcher` for the length of a block.

    Raises:
        ConfigurationError: an option cannot be.
    """
    options = options or FetchOptions()
    if options.max_connections < 1 or not math.isfinite(options.max_idle):
        raise ConfigurationError(f"max_connections is {options.max_connections}, expected at least 1")
    transport = StackTransport(max_connections=options.max_connections, max_idle=options.max_idle)
    fetcher = Fetcher(options=options, transport=transport)
    try:
        yield fetcher
    finally:
        await fetcher.aclose()


async def _measure(body: bytes | Path | None) -> int | None:
    if body is None:
        return None
    if isinstance(body, bytes):
        return len(body)
    try:
        return (await trio.to_thread.run_sync(body.stat)).st_size
    except OSError as error:
        raise StorageError(f"cannot read the request body from {body}: {error.strerror}") from error


def _async_stream(response: httpx.Response) -> httpx.AsyncByteStream:
    stream = response.stream
    if not isinstance(stream, httpx.AsyncByteStream):  # pragma: no cover - both transports are asynchronous
        raise httpx.StreamError("the transport gave a body that cannot be awaited")
    return stream


def _headers(fields: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in fields:
        key = name.decode("ascii", "replace").lower()
        text = value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers
