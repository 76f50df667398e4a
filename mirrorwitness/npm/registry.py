"""Registry: the client of one npm registry: packuments, tarballs, keys, attestations.

Rules:

- The full packument is asked for by ``Accept: application/json`` exactly (research/B 2.2) and with gzip; what it
  unpacks to is capped piece by piece, so a bomb costs neither memory nor time, and large ones never hold the event
  loop for more than a few milliseconds at once.
- An answer that is no JSON object (an HTML page with status 200, broken gzip, half a document) is tried again and then
  raises; it is never taken for "no such package".
- A tarball goes to the caller's sink as the bytes that came over the wire, whatever ``Content-Encoding`` claims, and
  never whole through memory. A transfer that breaks is started again after ``sink.reset()``.
- The token goes to the registry's own origin only; tarball URLs elsewhere, and redirects, go where the policy allows.
- Messages carry the URL, the status and at most a short reason; never a whole body.

What it does not do: judge what it fetched (`packument`, `integrity`, `signatures`), or remember it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import quote, urlsplit

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.fetch import (
    MAX_PAUSE,
    Backoff,
    HostGate,
    Session,
    SickAnswerError,
    make_policy,
    origin_of,
)
from mirrorwitness.npm.answers import check_status, read_object, show_url

if TYPE_CHECKING:
    from mirrorwitness.fetch import Fetcher, Response
    from mirrorwitness.npm.names import PackageName, Version

__all__ = ["PackumentAnswer", "Registry", "RegistryOptions", "TarballSink"]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

MAX_PACKUMENT_BYTES: Final = 128 * MIB
"""The registry's own maximum is 100 MB (research/B 2.1)."""

MAX_TARBALL_BYTES: Final = 4 * GIB
"""An endless body has to end somewhere; the largest published tarballs are some hundred MB."""

MAX_KEYS_BYTES: Final = 1 * MIB
"""The public registry's document has two keys and 600 bytes."""

MAX_ATTESTATIONS_BYTES: Final = 16 * MIB
"""A version has two bundles of some 10 KiB."""

_NOT_MODIFIED: Final = 304
_NO_KEYS: Final = frozenset({400, 404})
_NO_HEAD: Final = frozenset({405, 501})
_GZIP_MAGIC: Final = b"\x1f\x8b"


class TarballSink(Protocol):
    """Where a tarball goes: a spool file, a hash, a storage."""

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes."""
        ...

    async def reset(self) -> None:
        """Forget everything written so far: the transfer starts again from the first byte."""
        ...


@dataclass(frozen=True, slots=True)
class PackumentAnswer:
    """A packument as the registry sent it.

    Attributes:
        body: the document, decompressed; None: not modified since the given validators.
        etag: for the next request.
        last_modified: for the next request.
    """

    body: bytes | None
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryOptions:
    """How to talk to one registry.

    Attributes:
        token: bearer token, sent to the registry's origin only.
        allowed_hosts: other hosts (``host``, ``host:port`` or URLs) that tarballs may come from, at any address.
        public_hosts: whether tarballs may also come from every other https host with a public address.
        tries: repetition.
        max_pause: seconds; longest pause that ``Retry-After`` may order.
        max_packument_bytes: largest packument, decompressed.
        max_tarball_bytes: largest tarball.
    """

    token: str | None = field(default=None, repr=False)
    allowed_hosts: tuple[str, ...] = ()
    public_hosts: bool = False
    tries: Backoff = field(default_factory=Backoff)
    max_pause: float = MAX_PAUSE
    max_packument_bytes: int = MAX_PACKUMENT_BYTES
    max_tarball_bytes: int = MAX_TARBALL_BYTES


class Registry:
    """The client of one registry; may be used by many tasks at once.

    Args:
        base: the registry's URL, also with a path.
        fetcher: the door to HTTP.
        options: how to talk to it.
        gate: share one between registries, so that their common hosts are paused and bounded together.

    Raises:
        ConfigurationError: the base is no http or https URL, or an option cannot be.
    """

    def __init__(
        self, *, base: str, fetcher: Fetcher, options: RegistryOptions | None = None, gate: HostGate | None = None
    ) -> None:
        self.base = _check_base(base)
        self.options = options or RegistryOptions()
        self.gate = gate or HostGate()
        self._session = Session(
            fetcher=fetcher,
            gate=self.gate,
            policy=make_policy(self.base, allowed=self.options.allowed_hosts, public=self.options.public_hosts),
            home=self.base,
            token=self.options.token,
            tries=self.options.tries,
            max_pause=self.options.max_pause,
        )

    def __repr__(self) -> str:
        return f"<Registry {self.base}, {self._session!r}>"

    async def packument(
        self, name: PackageName, *, etag: str | None = None, last_modified: str | None = None
    ) -> PackumentAnswer:
        """Fetch the full packument, or learn that it has not changed since `etag` or `last_modified`.

        Raises:
            UpstreamNotFoundError: 404 or 410.
            UpstreamRefusedError: 401, 403, or 429 to the last try.
            UpstreamUnreachableError: no usable answer to the last try.
            UpstreamProtocolError: too large, or no JSON object to the last try.
        """
        headers = {"accept": "application/json", "accept-encoding": "gzip"}
        if etag is not None:
            headers["if-none-match"] = etag
        if last_modified is not None:
            headers["if-modified-since"] = last_modified
        url = f"{self.base}/{_quote(name)}"

        async def once() -> PackumentAnswer:
            async with self._session.request("GET", url, headers=headers) as response:
                found = response.headers.get("etag"), response.headers.get("last-modified")
                if response.status == _NOT_MODIFIED and len(headers) > 2:  # noqa: PLR2004 - validators were sent
                    return PackumentAnswer(None, found[0] or etag, found[1] or last_modified)
                body = await read_object(response, url, self.options.max_packument_bytes)
                return PackumentAnswer(body, *found)

        return await self._session.repeat(once)

    async def tarball(self, url: str, sink: TarballSink) -> int:
        """Stream a tarball to `sink` and return its length in bytes.

        Raises:
            UpstreamRefusedError: the URL's host is not allowed, or the host said no.
            UpstreamNotFoundError: 404 or 410.
            UpstreamUnreachableError: the transfer broke each time.
            UpstreamProtocolError: larger than allowed, or an HTML page each time.

        Errors:
            Whatever `sink` raises passes at once.
        """
        started = False

        async def once() -> int:
            nonlocal started
            if started:
                await sink.reset()
            started = False
            async with self._session.request("GET", url, headers={"accept-encoding": "identity"}) as response:
                await check_status(response, url)
                size = 0
                while chunk := await response.receive_some():
                    if not size:
                        _check_start(response, chunk, url)
                    size += len(chunk)
                    if size > self.options.max_tarball_bytes:
                        raise UpstreamProtocolError(
                            f"{show_url(url)}: more than {self.options.max_tarball_bytes} bytes"
                        )
                    started = True
                    await sink.write(chunk)
                return size

        return await self._session.repeat(once)

    async def tarball_size(self, url: str) -> int | None:
        """Ask for a tarball's length without fetching it; None where the server does not say.

        Raises:
            UpstreamError: as `tarball`.
        """

        async def once() -> int | None:
            async with self._session.request("HEAD", url, headers={"accept-encoding": "identity"}) as response:
                if response.status in _NO_HEAD:
                    return None
                await check_status(response, url)
                length = response.headers.get("content-length", "")
                encoded = response.headers.get("content-encoding", "identity") != "identity"
                return int(length) if length.isascii() and length.isdigit() and not encoded else None

        return await self._session.repeat(once)

    async def keys(self) -> bytes | None:
        """Fetch the signing keys; None where the registry has none (404 or 400).

        Raises:
            UpstreamError: no usable answer. Never a reason to forget keys that are known.
        """
        url = f"{self.base}/-/npm/v1/keys"
        return await self._optional(url, limit=MAX_KEYS_BYTES, absent=_NO_KEYS)

    async def attestations(self, name: PackageName, version: Version) -> bytes | None:
        """Fetch the attestations of one version; None where there are none (404).

        Raises:
            UpstreamError: no usable answer.
        """
        url = f"{self.base}/-/npm/v1/attestations/{_quote(f'{name}@{version}')}"
        return await self._optional(url, limit=MAX_ATTESTATIONS_BYTES, absent=frozenset({404}))

    async def _optional(self, url: str, *, limit: int, absent: frozenset[int]) -> bytes | None:
        headers = {"accept": "application/json", "accept-encoding": "gzip"}

        async def once() -> bytes | None:
            async with self._session.request("GET", url, headers=headers) as response:
                if response.status in absent:
                    return None
                return await read_object(response, url, limit)

        return await self._session.repeat(once)


def _check_start(response: Response, chunk: bytes, url: str) -> None:
    # A captive portal's or CDN's page with status 200 is a sick answer, not forged bytes; only the digest can accuse.
    if "html" in response.headers.get("content-type", "").lower() and not chunk.startswith(_GZIP_MAGIC):
        raise SickAnswerError(f"{show_url(url)}: expected a tarball, found an HTML page")


def _check_base(base: str) -> str:
    text = base.rstrip("/")
    try:
        origin_of(text)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"registry {base!r}: {error}") from error
    parts = urlsplit(text)
    if parts.query or parts.fragment:
        raise ConfigurationError(f"registry {base!r}: a query or fragment cannot be part of it")
    return text


def _quote(text: str) -> str:
    # npm itself sends the scope's slash as lower-case %2f; some caches key on the exact text.
    return quote(text, safe="@!~*'()").replace("%2F", "%2f")
