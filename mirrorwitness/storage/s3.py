"""A storage in an S3-compatible bucket: ``s3://BUCKET/PREFIX?endpoint=URL``.

Rules:

- The data plane is plain HTTP through `mirrorwitness.fetch` (a boto3 PUT costs five times the CPU; research/F 2);
  boto3 finds the credentials, the region and Amazon's endpoints, botocore signs.
- A bucket behind an endpoint is addressed by path (``ENDPOINT/BUCKET/KEY``), one at Amazon by host.
- Keys are percent-encoded byte by byte, so that what is signed is what is sent.
- The etag is the service's ETag without quotes. It is made of the bytes on most services: the same bytes written again
  may have the same one.
- A stream is one GET, and so one version of the object; where it breaks, it ends with an error and is not resumed.

What lies behind it: `s3_client` (one request, retries), `s3_put` (writing, verified), `s3_sign`, `s3_xml`, `s3_errors`.
"""

from __future__ import annotations

import re
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    StorageError,
    StorageUnavailableError,
    UpstreamError,
)
from mirrorwitness.fetch import open_fetcher
from mirrorwitness.storage import Listing, ObjectInfo, check_key, check_prefix
from mirrorwitness.storage.checks import check_condition, check_limit, check_range
from mirrorwitness.storage.pair import put_in_turn
from mirrorwitness.storage.s3_client import Retries, S3Client, S3Request
from mirrorwitness.storage.s3_put import Putter
from mirrorwitness.storage.s3_sign import DEFAULT_REGION, Signer, find_endpoint, load_session, make_bucket_url
from mirrorwitness.storage.s3_xml import parse_listing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.fetch import Fetcher, Response
    from mirrorwitness.storage import Body, ObjectReader, Put
    from mirrorwitness.storage.address import S3Address

__all__ = ["S3Storage", "open_s3"]

LISTING_BYTES: Final = 8 * 1024 * 1024
"""Longest page of a listing: 1,000 keys of 1,024 bytes, each percent-encoded, with their tags, take under 5 MB."""

MAX_S3_KEY_BYTES: Final = 1024
"""Longest key that S3 allows, the prefix included."""

MAX_PAGE: Final = 1000
"""Most objects of one page of a listing; services give no more."""

_LENGTH: Final = re.compile(r"[0-9]{1,16}")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16})")
_OK: Final = frozenset({200})
_OK_OR_MISSING: Final = frozenset({200, 404})
_GONE: Final = frozenset({200, 202, 204, 404})
_READABLE: Final = frozenset({200, 206, 416})

_IDENTITY: Final = {"accept-encoding": "identity"}
"""We want the bytes that are stored: a front that compresses on the way would change length and hash."""


@asynccontextmanager
async def open_s3(address: S3Address, *, fetcher: Fetcher | None = None) -> AsyncGenerator[S3Storage, None]:
    """Open a place in a bucket, and ask the service whether it is there.

    Args:
        address: where.
        fetcher: the door to HTTP; one of its own where none is given.

    Raises:
        ConfigurationError: there are no credentials, or no such profile.
        StorageRefusedError: no such bucket, or no access to it.
        StorageUnavailableError: the service does not answer.
    """
    signer, bucket_url = await trio.to_thread.run_sync(_prepare, address)
    async with AsyncExitStack() as stack:
        if fetcher is None:
            fetcher = await stack.enter_async_context(open_fetcher())
        client = S3Client(fetcher=fetcher, signer=signer, bucket=address.bucket, bucket_url=bucket_url)
        storage = S3Storage(client, address.prefix)
        await storage.list("", limit=1)
        yield storage


class S3Storage:
    """A `mirrorwitness.storage.Storage` in a bucket; made by `open_s3`."""

    def __init__(self, client: S3Client, prefix: str) -> None:
        self._client = client
        self._prefix = prefix
        self._putter = Putter(client)

    def __repr__(self) -> str:
        return f"<S3Storage {self._prefix!r} {self._client!r}>"

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object; see `mirrorwitness.storage.Storage.read`."""
        retries = Retries(self._client, S3Request("GET", self._full(key)))
        while True:
            is_open = False
            try:
                async with self.open(key) as reader:
                    is_open = True
                    check_limit(reader.info, limit)
                    return await _read_all(reader), reader.info
            except StorageUnavailableError as error:
                # Opening has tried often enough by itself; only a body that breaks is begun again.
                if not is_open:
                    raise
                await retries.after_error(error)

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncGenerator[ObjectReader, None]:
        """Open an object for streaming; see `mirrorwitness.storage.Storage.open`."""
        headers = dict(_IDENTITY)
        if start or length is not None:
            # No service has a range of no bytes; one byte is asked for, and none of it is read.
            last = "" if length is None else str(start + max(length, 1) - 1)
            headers["range"] = f"bytes={start}-{last}"
        request = S3Request("GET", self._full(key), headers=headers)
        async with self._client.stream(request, accept=_READABLE) as response:
            is_outside = response.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            if not is_outside:
                yield _make_reader(key, response, start, length)
                return
        info = await self.stat(key)
        if info is None:
            raise ObjectMissingError(f"there is no object under {key}")
        if check_range(info, start, length) > start:
            raise StorageUnavailableError(f"{key} was replaced while it was opened")
        yield _S3Reader(info, None, 0)

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info; see `mirrorwitness.storage.Storage.stat`."""
        request = S3Request("HEAD", self._full(key), headers=_IDENTITY)
        answer = await self._client.ask(request, accept=_OK_OR_MISSING)
        return None if answer.status == HTTPStatus.NOT_FOUND else _info(key, answer.headers)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object; see `mirrorwitness.storage.Storage.put`."""
        check_condition(if_absent=if_absent, if_match=if_match)
        return await self._putter.put(
            key, self._full(key), body, if_absent=if_absent, if_match=if_match, content_type=content_type
        )

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write two small objects, each durably; see `mirrorwitness.storage.Storage.put_pair`."""
        return await put_in_turn(self, first, then)

    async def list(self, prefix: str, *, after: str = "", limit: int = MAX_PAGE) -> Listing:
        """List objects; see `mirrorwitness.storage.Storage.list`. A page has at most `MAX_PAGE` objects."""
        full = self._prefix + check_prefix(prefix)
        # Starting after a bare "directory" leaves out the marker object that some tools put there. The start is always
        # inside the prefix: JuiceFS answers 501 otherwise.
        start = self._prefix + after if after else full if full.endswith("/") else ""
        query = (
            ("encoding-type", "url"),
            ("list-type", "2"),
            ("max-keys", str(min(limit, MAX_PAGE))),
            ("prefix", full),
            ("start-after", start),
        )
        request = S3Request("GET", query=query if start else query[:-1], headers=_IDENTITY)
        answer = await self._client.ask(request, accept=_OK, limit=LISTING_BYTES)
        page = parse_listing(answer.body, prefix=full, after=start)
        at = len(self._prefix)
        objects = tuple(
            ObjectInfo(found.key[at:], found.size, found.etag) for found in page.objects if _is_key(found.key[at:])
        )
        return Listing(objects, page.objects[-1].key[at:] if page.is_truncated else None)

    async def delete(self, key: str) -> None:
        """Remove an object; see `mirrorwitness.storage.Storage.delete`."""
        await self._client.ask(S3Request("DELETE", self._full(key)), accept=_GONE)

    def _full(self, key: str) -> str:
        full = self._prefix + check_key(key)
        if len(full.encode()) > MAX_S3_KEY_BYTES:
            raise ConfigurationError(
                f"storage key {full[:200]!r} is longer than {MAX_S3_KEY_BYTES} bytes with its prefix"
            )
        return full


class _S3Reader:
    """The body of one GET, cut off at the end of what was asked for."""

    def __init__(self, info: ObjectInfo, response: Response | None, missing: int) -> None:
        self.info = info
        self._response = response
        self._missing = missing

    async def receive_some(self) -> bytes:
        if self._response is None or not self._missing:
            await trio.lowlevel.checkpoint()
            return b""
        try:
            piece = await self._response.receive_some()
        except UpstreamError as error:
            raise StorageUnavailableError(f"{self.info.key}: {error}") from error
        if not piece:
            raise StorageUnavailableError(f"{self.info.key} was cut: {self._missing:,} bytes are missing")
        piece = piece[: self._missing]
        self._missing -= len(piece)
        return piece


async def _read_all(reader: ObjectReader) -> bytes:
    pieces: list[bytes] = []
    while piece := await reader.receive_some():
        pieces.append(piece)
    return b"".join(pieces)


def _make_reader(key: str, response: Response, start: int, length: int | None) -> _S3Reader:
    text = response.headers.get("content-range", "")
    # Some services (rclone) send a range with status 200: without its Content-Range it would pass for a whole object.
    if response.status == HTTPStatus.OK and not text:
        info = _info(key, response.headers)
        end = check_range(info, start, length)
        if start:
            raise StorageError(f"the service ignores ranges: {key} was asked for from byte {start:,}")
        return _S3Reader(info, response, end)
    found = _CONTENT_RANGE.fullmatch(text)
    if not found or int(found[1]) != start:
        raise StorageError(f"{key} was asked for from byte {start:,}, and has the Content-Range {text!r}")
    info = ObjectInfo(key, int(found[3]), _etag(response.headers))
    end = check_range(info, start, length)
    if length != 0 and int(found[2]) + 1 != end:
        raise StorageError(f"{key} was asked for up to byte {end - 1:,}, and has the Content-Range {text!r}")
    return _S3Reader(info, response, end - start)


def _info(key: str, headers: Mapping[str, str]) -> ObjectInfo:
    size = headers.get("content-length", "")
    if not _LENGTH.fullmatch(size):
        raise StorageError(f"the service gives {key} the Content-Length {size!r}, expected a number")
    return ObjectInfo(key, int(size), _etag(headers))


def _etag(headers: Mapping[str, str]) -> str:
    return headers.get("etag", "").strip('"')


def _is_key(key: str) -> bool:
    """Tell whether a listed key can be one of ours; markers of directories and dot files of others are passed over."""
    try:
        check_key(key)
    except ConfigurationError:
        return False
    return True


def _prepare(address: S3Address) -> tuple[Signer, str]:
    session, credentials = load_session(address.profile)
    region = address.region or session.region_name or DEFAULT_REGION
    signer = Signer(credentials=credentials, region=region, profile=address.profile)
    return signer, make_bucket_url(address.bucket, address.endpoint or find_endpoint(session, region))
