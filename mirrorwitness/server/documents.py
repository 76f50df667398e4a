"""Rendered documents, made once and kept while they are true.

Rules:

- What is served is never older than `fresh_seconds`: each answer rests on the storage's tag of the stored object, asked
  for at most once in that time. An entry made from another tag is not used.
- One representation (package, form, version, base URL, coding) is made once however many ask for it; its parts are
  fields of the cache's key, never joined to a string, so no request can be made to hit another's entry.
- The cache is bounded in bytes; documents over `LARGE_BYTES` are parsed, rendered and compressed in a thread, and at
  most `LARGE_JOBS` of them at a time, so memory does not grow with the number of clients (P10).
- A view of a tree size is a representation of its own, named by what it was made from (`mirrorwitness.server.views`).
- A stored document that cannot be parsed is an error that names its key; the old rendering is not served in its place.

*Cancellation*: whoever waits for a rendering may leave; the rendering is finished by another who waits, or dropped.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

import trio

from mirrorwitness.errors import ObjectMissingError, UpstreamProtocolError
from mirrorwitness.mirror.layout import packument_key
from mirrorwitness.npm.packument import parse_packument
from mirrorwitness.server.cache import ByteCache, Flights
from mirrorwitness.server.compress import MIN_COMPRESSED_BYTES, compress
from mirrorwitness.server.faults import DamagedObjectError
from mirrorwitness.server.forms import Form, Index, make_index, render_form
from mirrorwitness.server.negotiate import Coding

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.server.views import View
    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = [
    "LARGE_BYTES",
    "LARGE_JOBS",
    "MAX_DOCUMENT_BYTES",
    "Documents",
    "Rendering",
]

LARGE_BYTES: Final = 262_144
"""Stored bytes from which the work goes to a thread: about 2 ms of work, which other clients would have to wait for."""

LARGE_JOBS: Final = 2
"""Large documents in work at a time: each may take several times 100 MB of memory."""

MAX_DOCUMENT_BYTES: Final = 134_217_728
"""Largest stored document that is read; the registry's own limit is 100 MB."""

_FRESHNESS_BYTES: Final = 8 * 1024 * 1024
"""Memory for remembered tags, about 16,000 objects, also of absent ones: asking for random names must not add up."""
_INFO_BYTES: Final = 500

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rendering:
    """A finished body.

    Attributes:
        body: as it is sent.
        coding: its content coding.
        etag: a strong entity tag of exactly these bytes, quoted.
    """

    body: bytes
    coding: Coding
    etag: str


class _Representation(NamedTuple):
    key: str
    form: Form | None
    wanted: str
    base: str
    coding: Coding
    view: str = ""


class _Fresh(NamedTuple):
    info: ObjectInfo | None
    good_until: float


class Documents:
    """Everything JSON that a mirror serves, rendered from a storage."""

    def __init__(self, *, storage: Storage, cache_bytes: int, fresh_seconds: float) -> None:
        self._storage = storage
        self._fresh_seconds = fresh_seconds
        self._fresh: ByteCache[str, _Fresh] = ByteCache(capacity=_FRESHNESS_BYTES)
        self._renderings: ByteCache[_Representation, tuple[str, Rendering]] = ByteCache(capacity=cache_bytes)
        self._indexes: ByteCache[tuple[str, str], Index] = ByteCache(capacity=cache_bytes // 4)
        self._stats: Flights[str, ObjectInfo | None] = Flights()
        self._flights: Flights[tuple[_Representation, str], Rendering | None] = Flights()
        self._index_flights: Flights[tuple[str, str, str], Index] = Flights()
        self._large = trio.CapacityLimiter(LARGE_JOBS)
        self._threads = trio.CapacityLimiter(LARGE_JOBS)

    def __repr__(self) -> str:
        return f"<Documents renderings={self._renderings!r} indexes={self._indexes!r}>"

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info, at most `fresh_seconds` old; None where there is no object.

        Raises:
            StorageError: the storage did not answer.
        """
        known = self._fresh.get(key)
        if known is not None and trio.current_time() < known.good_until:
            return known.info
        return await self._stats.run(key, partial(self._stat, key))

    async def find_index(self, name: PackageName, view: View | None = None) -> Index | None:
        """Return what can be installed of a package, or of its view; None where the mirror does not have it.

        Raises:
            DamagedObjectError: the stored packument cannot be parsed.
            StorageError: the storage did not answer.
        """
        key = packument_key(name)
        info = await self.stat(key)
        if info is None:
            return None
        shown = _name(view)
        known = self._indexes.get((key, shown))
        if known is not None and known.source == info.etag:
            return known
        return await self._index_flights.run((key, info.etag, shown), partial(self._make_index, name, info, view))

    async def render(
        self,
        name: PackageName,
        *,
        form: Form,
        base: str,
        coding: Coding,
        wanted: str = "",
        view: View | None = None,
    ) -> Rendering | None:
        """Return one representation of a package, or of its view; None where the mirror does not have it.

        Raises:
            DamagedObjectError: the stored packument cannot be parsed.
            StorageError: the storage did not answer.
        """
        if form is Form.VERSION:
            # Made-up versions cost a look-up, not a parse, and never enter the cache.
            index = await self.find_index(name, view)
            version = None if index is None else index.resolve(wanted)
            if version is None:
                return None
            wanted = version
        key = packument_key(name)
        representation = _Representation(key, form, wanted, base, coding, _name(view))
        return await self._find(representation, partial(self._render, name, representation, view))

    async def copy(self, key: str, *, coding: Coding) -> Rendering | None:
        """Return a stored JSON document as it is, None where there is none.

        Raises:
            StorageError: the storage did not answer.
        """
        representation = _Representation(key, None, "", "", coding)
        return await self._find(representation, partial(self._copy, representation))

    async def _find(
        self, representation: _Representation, make: Callable[[ObjectInfo], Awaitable[Rendering | None]]
    ) -> Rendering | None:
        info = await self.stat(representation.key)
        if info is None:
            return None
        known = self._renderings.get(representation)
        if known is not None and known[0] == info.etag:
            return known[1]
        return await self._flights.run((representation, info.etag), partial(make, info))

    async def _stat(self, key: str) -> ObjectInfo | None:
        asked_at = trio.current_time()
        info = await self._storage.stat(key)
        self._fresh.put(key, _Fresh(info, asked_at + self._fresh_seconds), size=_INFO_BYTES)
        return info

    async def _read(self, key: str) -> tuple[bytes, ObjectInfo] | None:
        asked_at = trio.current_time()
        try:
            body, info = await self._storage.read(key, limit=MAX_DOCUMENT_BYTES)
        except ObjectMissingError:
            self._fresh.drop(key)
            return None
        self._fresh.put(key, _Fresh(info, asked_at + self._fresh_seconds), size=_INFO_BYTES)
        return body, info

    async def _make_index(self, name: PackageName, info: ObjectInfo, view: View | None) -> Index:
        async def make() -> Index:
            found = await self._read(info.key)
            if found is None:
                return Index(source=info.etag, files={}, tags={}, names=frozenset())
            body, read = found
            return await self._work(len(body), partial(_parse, body, name, read, view))

        index = await self._bounded(info.size, make)
        self._indexes.put((info.key, _name(view)), index, size=index.size)
        return index

    async def _render(
        self, name: PackageName, representation: _Representation, view: View | None, info: ObjectInfo
    ) -> Rendering | None:
        async def make() -> tuple[Rendering | None, Index] | None:
            found = await self._read(info.key)
            if found is None:
                return None
            body, read = found
            return await self._work(len(body), partial(_parse_and_render, body, name, representation, view, read))

        made = await self._bounded(info.size, make)
        if made is None:
            return None
        rendering, index = made
        self._indexes.put((info.key, representation.view), index, size=index.size)
        self._keep(representation, index.source, rendering)
        return rendering

    async def _copy(self, representation: _Representation, info: ObjectInfo) -> Rendering | None:
        async def make() -> tuple[Rendering, str] | None:
            found = await self._read(info.key)
            if found is None:
                return None
            body, read = found
            return await self._work(len(body), partial(_finish, body, representation.coding)), read.etag

        made = await self._bounded(info.size, make)
        if made is None:
            return None
        self._keep(representation, made[1], made[0])
        return made[0]

    def _keep(self, representation: _Representation, source: str, rendering: Rendering | None) -> None:
        if rendering is not None:
            size = len(rendering.body) + _INFO_BYTES
            self._renderings.put(representation, (source, rendering), size=size)

    async def _bounded(self, size: int, make: Callable[[], Awaitable[T]]) -> T:
        if size <= LARGE_BYTES:
            return await make()
        async with self._large:
            return await make()

    async def _work(self, size: int, work: Callable[[], T]) -> T:
        if size <= LARGE_BYTES:
            return work()
        return await trio.to_thread.run_sync(work, limiter=self._threads)


def _name(view: View | None) -> str:
    return "" if view is None else f"at {view.source}"


def _parse(body: bytes, name: PackageName, info: ObjectInfo, view: View | None) -> Index:
    return _parse_both(body, name, info, view)[1]


def _parse_both(body: bytes, name: PackageName, info: ObjectInfo, view: View | None) -> tuple[Packument, Index]:
    try:
        packument = parse_packument(body, name=name)
    except UpstreamProtocolError as error:
        raise DamagedObjectError(
            f"the stored object {info.key} is damaged; the mirror's operator can run: mirrorwitness audit"
        ) from error
    return packument, make_index(packument, source=info.etag, view=view)


def _parse_and_render(
    body: bytes, name: PackageName, representation: _Representation, view: View | None, info: ObjectInfo
) -> tuple[Rendering | None, Index]:
    packument, index = _parse_both(body, name, info, view)
    form = representation.form or Form.FULL
    base, wanted = representation.base, representation.wanted
    rendered = render_form(packument, index, form=form, base=base, wanted=wanted, view=view)
    return (None if rendered is None else _finish(rendered, representation.coding)), index


def _finish(body: bytes, coding: Coding) -> Rendering:
    if len(body) < MIN_COMPRESSED_BYTES:
        coding = Coding.IDENTITY
    body = compress(body, coding)
    digest = hashlib.blake2b(body, digest_size=16, person=coding.value.encode()).hexdigest()
    return Rendering(body=body, coding=coding, etag=f'"{digest}"')
