"""Views: which versions of a package the log had at a tree size, so that a mirror can answer as it stood then.

    log/index/<name>             where the mirror's storage holds the log, or a copy of it
    state/package/<name>.json    otherwise: the leaves that the log's word came with

Rules:

- A version is in the view of a size where its newest record below that size is a publication. So one that was
  withdrawn or in conflict by then is not, and one that no log vouched for is in no view: nobody can say when it came.
- An index object knows every record; a mirror's own record knows one leaf of each version, the newest when it asked.
- A view never has more than the mirror serves now: what upstream withdrew since does not come back.

What it does not do: prove anything. The leaves are hints of our own storage; the proof lies beside each tarball.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.layout import record_key
from mirrorwitness.server.cache import ByteCache
from mirrorwitness.server.faults import DamagedObjectError
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.paths import index_key
from mirrorwitness.sumdb.records import Event

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = ["At", "View", "Views"]

_LINE_BYTES: Final = 200
"""Memory of one remembered record, about."""


@dataclass(frozen=True, slots=True)
class At:
    """When a request is about.

    Attributes:
        size: the tree size; None for now.
        prefix: what the path of everything in the same view begins with; empty outside of one.
    """

    size: int | None
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class View:
    """A package at one tree size.

    Attributes:
        source: changes whenever the view may be another one.
        versions: what can be installed.
        known: what was published by then, also what was withdrawn again.
    """

    source: str
    versions: frozenset[Version]
    known: frozenset[Version]


@dataclass(frozen=True, slots=True)
class _History:
    """All that is known of a package's records: version, leaf and event, in the log's order."""

    source: str
    lines: tuple[tuple[Version, int, Event], ...]

    def at(self, size: int) -> View:
        lines = [line for line in self.lines if line[1] < size]
        newest = {version: event for version, _, event in lines}
        versions = frozenset(version for version, event in newest.items() if event is Event.PUBLISH)
        # By the last leaf, not by the size: who asks for one size after another must not fill a cache with one view.
        return View(f"{lines[-1][1] if lines else 'nothing'} {self.source}", versions, frozenset(newest))


class Views:
    """Reads and remembers what the log had of packages.

    Args:
        storage: the mirror.
        stat: looks at an object, at most some time ago.
        cache_bytes: memory for what was read.
    """

    def __init__(
        self, *, storage: Storage, stat: Callable[[str], Awaitable[ObjectInfo | None]], cache_bytes: int
    ) -> None:
        self._storage = storage
        self._catalogue = Catalogue(storage)
        self._stat = stat
        self._kept: ByteCache[str, _History] = ByteCache(capacity=cache_bytes)

    def __repr__(self) -> str:
        return f"<Views {self._kept!r}>"

    async def find(self, name: PackageName, size: int) -> View:
        """Return a package at a tree size; one without versions where nothing is known of it.

        Raises:
            DamagedObjectError: the log's index of it cannot be read.
            StorageError: the storage did not answer.
        """
        info, is_index = await self._stat(index_key(name)), True
        if info is None:
            info, is_index = await self._stat(record_key(name)), False
        if info is None:
            return View("nothing", frozenset(), frozenset())
        known = self._kept.get(info.key)
        if known is None or known.source != info.etag:
            known = await (self._read_index(name, info) if is_index else self._read_record(name, info))
            self._kept.put(info.key, known, size=(len(known.lines) + 1) * _LINE_BYTES)
        return known.at(size)

    async def _read_index(self, name: PackageName, info: ObjectInfo) -> _History:
        try:
            index = await read_index(self._storage, name)
        except UpstreamProtocolError as error:
            raise DamagedObjectError(f"the stored object {info.key} is damaged: {error}") from error
        return _History(info.etag, tuple([(line.version, line.index, line.event) for line in index.lines]))

    async def _read_record(self, name: PackageName, info: ObjectInfo) -> _History:
        record = await self._catalogue.read_record(name)
        held = {} if record is None else record.versions
        lines = [(version, item.leaf, Event.PUBLISH) for version, item in held.items() if item.leaf is not None]
        await trio.lowlevel.checkpoint()
        return _History(info.etag, tuple(sorted(lines, key=lambda line: line[1])))
