"""Storages and senders that lie in one way each, as services do (research/E 1.3), over a faithful one in memory."""

# ruff: noqa: ARG002 - a storage that lies ignores what it is given

from __future__ import annotations

import base64
import hashlib
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import StorageError, UnsupportedConditionError
from mirrorwitness.storage import Listing, ObjectInfo
from mirrorwitness.storage.probe_requests import Answer, Signing
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from mirrorwitness.storage import Body, ObjectReader

__all__ = [
    "CaseFoldingStorage",
    "DirectoryStorage",
    "FakeSender",
    "FramingStorage",
    "IgnoringStorage",
    "ImmortalStorage",
    "LateStorage",
    "LossyListStorage",
    "OldStorage",
    "RacyStorage",
    "RefusingStorage",
    "SameEtagStorage",
    "UnsortedStorage",
    "WholeStorage",
]


class IgnoringStorage(MemoryStorage):
    """Accepts conditions and ignores them."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        return await super().put(key, body, content_type=content_type)


class RefusingStorage(MemoryStorage):
    """Says that it does not do conditions."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if if_absent or if_match is not None:
            raise UnsupportedConditionError("status 501")
        return await super().put(key, body, content_type=content_type)


class RacyStorage(MemoryStorage):
    """Looks, then writes: right for one writer at a time, wrong for two."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        found = await self.stat(key)
        if (if_absent and found) or (if_match is not None and (found is None or found.etag != if_match)):
            return await super().put(key, body, if_absent=if_absent, if_match=if_match)
        await trio.lowlevel.checkpoint()
        return await super().put(key, body, content_type=content_type)


class FramingStorage(MemoryStorage):
    """Stores the framing of an upload as content, and acknowledges."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        content = body if isinstance(body, bytes) else body.read_bytes()
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(content), content)
        info = await super().put(key, framed, if_absent=if_absent, if_match=if_match, content_type=content_type)
        return replace(info, size=len(content))


class SameEtagStorage(MemoryStorage):
    """Gives every object of one length the same etag."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        matched = None if if_match is None else await super().stat(key)
        info = await super().put(key, body, if_absent=if_absent, if_match=None if matched is None else matched.etag)
        return replace(info, etag=str(info.size))


class OldStorage(MemoryStorage):
    """Acknowledges a second put, and keeps what was there."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        return await super().stat(key) or await super().put(key, body, content_type=content_type)


class CaseFoldingStorage(MemoryStorage):
    """Keeps keys as a disk does that knows no case."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        info = await super().put(key.lower(), body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        return replace(info, key=key)

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        return await super().read(key.lower(), limit=limit)


class DirectoryStorage(MemoryStorage):
    """Cannot keep an object under the name of a directory, nor a name with a tilde."""

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if "~" in key or any(key.startswith(f"{each}/") for each in self.objects):
            raise StorageError(f"status 400 for {key}")
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)


class UnsortedStorage(MemoryStorage):
    """Lists names as a dictionary does, without regard to case."""

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        page = await super().list(prefix, after=after, limit=limit)
        return replace(page, objects=tuple(sorted(page.objects, key=lambda each: each.key.lower())))


class LossyListStorage(MemoryStorage):
    """Forgets an object at each page's end, and takes a prefix for a directory."""

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        page = await super().list(prefix, after=after, limit=limit)
        if not prefix.endswith("/"):
            page = replace(page, objects=tuple(each for each in page.objects if each.key.startswith(f"{prefix}/")))
        return page if page.more_after is None else replace(page, objects=page.objects[:-1])


class LateStorage(MemoryStorage):
    """Lists what was there at the listing before."""

    _listed = Listing((), None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        before, self._listed = self._listed, await super().list(prefix, after=after, limit=limit)
        return before


class ImmortalStorage(MemoryStorage):
    """Acknowledges deletions, and keeps everything."""

    async def delete(self, key: str) -> None:
        await trio.lowlevel.checkpoint()


class WholeStorage(MemoryStorage):
    """Gives the whole object for every range."""

    @asynccontextmanager
    async def open(self, key: str, *, start: int = 0, length: int | None = None) -> AsyncIterator[ObjectReader]:
        async with super().open(key) as reader:
            yield reader


class FakeSender:
    """A service's front door over a storage in memory: strict, but for the promises named in `broken`.

    Attributes:
        broken: what it lies about: ``checksum``, ``echo``, ``no-echo``, ``payload``, ``delete``, ``delete-501``,
            ``type``, ``metadata``, ``anonymous-read``, ``anonymous-write``, ``secret``, or a status as ``500``.
        date: the Date header of its answers.
    """

    def __init__(self, storage: MemoryStorage, *broken: str, date: str = "Tue, 24 Nov 2026 00:00:00 GMT") -> None:
        self.storage = storage
        self.broken = broken
        self.date = date
        self._metadata: dict[str, str] = {}

    async def send(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        payload: bytes | None = None,
        signing: Signing = Signing.RIGHT,
    ) -> Answer:
        if "500" in self.broken:
            return self._answer(500)
        fields = headers or {}
        if not self._is_allowed(method, signing):
            return self._answer(403)
        if payload not in {None, body} and "payload" not in self.broken:
            return self._answer(400)
        if method == "PUT":
            return await self._put(key, fields, body)
        if method == "DELETE":
            return await self._delete(key)
        return self._get(method, key)

    def _get(self, method: str, key: str) -> Answer:
        if key not in self.storage.objects:
            return self._answer(404)
        more = {"content-type": "binary/octet-stream" if "type" in self.broken else self.storage.content_types[key]}
        if key in self._metadata and "metadata" not in self.broken:
            more["x-amz-meta-probe"] = self._metadata[key]
        return self._answer(200, more, self.storage.objects[key] if method == "GET" else b"")

    def _is_allowed(self, method: str, signing: Signing) -> bool:
        open_door = f"anonymous-{'write' if method == 'PUT' else 'read'}"
        return {
            Signing.RIGHT: True,
            Signing.WRONG_SECRET: "secret" in self.broken,
            Signing.NONE: open_door in self.broken,
        }[signing]

    async def _put(self, key: str, headers: Mapping[str, str], body: bytes) -> Answer:
        checksum = base64.b64encode(hashlib.sha256(body).digest()).decode()
        sent = headers.get("x-amz-checksum-sha256", checksum)
        if sent != checksum and "checksum" not in self.broken:
            return self._answer(400)
        await self.storage.put(key, body)
        if "x-amz-meta-probe" in headers:
            self._metadata[key] = headers["x-amz-meta-probe"]
        echoed = {} if "no-echo" in self.broken else {"x-amz-checksum-sha256": "x" if "echo" in self.broken else sent}
        return self._answer(200, echoed)

    async def _delete(self, key: str) -> Answer:
        if "delete-501" in self.broken:
            return self._answer(501)
        if "delete" not in self.broken:
            return self._answer(412)
        await self.storage.delete(key)
        return self._answer(204)

    def _answer(self, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        return Answer(status, {"date": self.date, **(headers or {})}, body)
