"""KeyCheck: the part of `mirrorwitness.sumdb.fsck` that starts from keys: indexes, and tiles that were partial once.

Rules:

- Each record has its line in the index of its package, and there are as many lines as records: so there are no others.
- The lines of one version tell a history that can be (`mirrorwitness.sumdb.fates`): one integrity, no event twice in a
  row, nothing behind a conflict.
- A partial tile or bundle is the beginning of what is at its place now.
- What has no place in the tree is told: a leaf or a tile beyond the head shows that the head was restored from an older
  copy, unless the log has grown meanwhile.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    RolledBackError,
    SecurityError,
    UpstreamProtocolError,
)
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.faults import show
from mirrorwitness.sumdb.index import PackageIndex, make_line
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.paths import INDEX_PREFIX, TILE_PREFIX, index_key, name_of_index_key, parse_tile_key, tile_key
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.sumdb.state import read_head, read_identity
from mirrorwitness.sumdb.stored import MAX_BUNDLE_BYTES, StoredLog
from mirrorwitness.tlog.tiles import TILE_HEIGHT, TILE_WIDTH, EntriesTile, Tile, width_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.index import IndexLine

__all__ = ["KeyCheck"]

AT_ONCE: Final = 16
"""Objects that are read at once."""

LINES_KEPT: Final = 200_000
"""Lines of indexes that are kept while records go by, of some 300 bytes each: 60 MB, and one index more. Those of one
package mostly stand close to each other; an index of 40,000 versions counts as what it is."""


class KeyCheck:
    """Checks indexes and partial tiles.

    Args:
        storage: where the log is.
        tell: is told key, found and expected of each fault.

    Attributes:
        packages: how many indexes were gone through.
        tiles: how many partial tiles and bundles were compared.
    """

    def __init__(self, storage: Storage, tell: Callable[[str, str, str], None]) -> None:
        self._storage = storage
        self._tell = tell
        self._kept: OrderedDict[PackageName, frozenset[IndexLine]] = OrderedDict()
        self._kept_lines = 0
        self._missing = 0  # lines that records should have, and have not
        self._records = 0
        self._lines = 0
        self._size = 0
        self._grown = 0  # how far the log is now
        self._prover = Prover(StoredLog(storage))
        self.packages = 0
        self.tiles = 0

    async def check_lines(self, item: tuple[PackageName, Sequence[IndexLine]]) -> None:
        """Check that records have their lines in the index of their package."""
        name, lines = item
        self._records += len(lines)
        there = self._kept.get(name)
        if there is None:
            there = await self._read(name)
            self._keep(name, there)
        missing = [line for line in lines if line not in there]
        if missing:
            self._missing += len(missing)
            found = f"no line {str(missing[0])!r}" + (f" and {len(missing) - 1} more" if len(missing) > 1 else "")
            self._tell(index_key(name), found, "one for each record")

    def _keep(self, name: PackageName, lines: frozenset[IndexLine]) -> None:
        """Keep an index, and forget the oldest where there are too many lines."""
        self._kept_lines += len(lines) - len(self._kept.pop(name, ()))
        self._kept[name] = lines
        while self._kept_lines > LINES_KEPT and len(self._kept) > 1:
            self._kept_lines -= len(self._kept.popitem(last=False)[1])

    async def check(self, size: int) -> None:
        """Go through all keys of indexes and tiles, after all records of the tree of a size went by."""
        self._size = size
        await self._walk(INDEX_PREFIX, self._check_index)
        if self._lines != self._records - self._missing:
            await self._walk(INDEX_PREFIX, self._find_strangers)
        await self._walk(TILE_PREFIX, self._check_tile)

    async def _walk(self, prefix: str, work: Callable[[str], Awaitable[None]]) -> None:
        after: str | None = ""
        while after is not None:
            page = await self._storage.list(prefix, after=after)
            await for_each([info.key for info in page.objects], work, at_once=AT_ONCE)
            after = page.more_after

    async def _read(self, name: PackageName) -> frozenset[IndexLine]:
        """Return the lines of an index; that it is none is told when its key comes by."""
        try:
            return frozenset((await read_index(self._storage, name)).lines)
        except UpstreamProtocolError:
            return frozenset()

    async def _open(self, key: str) -> PackageIndex | None:
        try:
            return await read_index(self._storage, name_of_index_key(key))
        except (ConfigurationError, UpstreamProtocolError) as error:
            self._tell(key, show(error), "the index of a package")
            return None

    async def _check_index(self, key: str) -> None:
        index = await self._open(key)
        if index is None:
            return
        self.packages += 1
        self._lines += sum(line.index < self._size for line in index.lines)
        histories: dict[tuple[str, str], list[IndexLine]] = {}
        for line in index.lines:
            histories.setdefault((line.registry, line.version), []).append(line)
        for lines in histories.values():
            for earlier, later in pairwise(lines):
                self._check_history(key, earlier, later)
        if index.lines and await self._is_beyond(index.lines[-1].index + 1):
            self._tell(key, f"line {str(index.lines[-1])!r}", f"leaves below {self._size}")

    def _check_history(self, key: str, earlier: IndexLine, later: IndexLine) -> None:
        found = f"{str(later)!r} behind {str(earlier)!r}"
        if earlier.event is Event.CONFLICT:
            self._tell(key, found, "nothing behind a conflict")
        elif earlier.content != later.content:
            self._tell(key, found, "one integrity for a version")
        elif earlier.event is later.event:
            self._tell(key, found, "no event twice in a row")

    async def _find_strangers(self, key: str) -> None:
        """Find the lines that no record has: there are more of them than there should be."""
        index = await self._open(key)
        for line in index.lines if index is not None else ():
            if index is None or line.index >= self._size:
                continue
            try:
                record = parse_record(await self._prover.entry(line.index, self._size))
            except (ObjectMissingError, UpstreamProtocolError):
                continue  # told when the record went by
            if record.name != index.name or make_line(line.index, record) != line:
                self._tell(key, f"line {str(line)!r}", f"none: leaf {line.index} is the {record}")

    async def _check_tile(self, key: str) -> None:
        try:
            tile = parse_tile_key(key)
        except UpstreamProtocolError as error:
            self._tell(key, show(error), "the key of a tile")
            return
        level = tile.level if isinstance(tile, Tile) else 0
        width = width_of(level, tile.index, self._size)
        if tile.width > width:
            end = tile.index * TILE_WIDTH + tile.width << TILE_HEIGHT * level
            if await self._is_beyond(end):
                self._tell(key, "a tile", f"none beyond the tree of {self._size} records")
        elif tile.width < width:
            self.tiles += 1
            await self._check_beginning(key, tile, width)

    async def _check_beginning(self, key: str, tile: Tile | EntriesTile, width: int) -> None:
        """Compare what was partial once with what is at its place now."""
        whole = tile_key(replace(tile, width=width))
        try:
            body, _ = await self._storage.read(key, limit=MAX_BUNDLE_BYTES)
            now, _ = await self._storage.read(whole, limit=MAX_BUNDLE_BYTES)
        except ObjectMissingError:
            return  # pruned meanwhile; or the whole one is missing, which was told
        length = tile.byte_size if isinstance(tile, Tile) else _length_of(now, tile.width)
        if body != now[:length]:
            self._tell(key, f"{len(body)} bytes", f"the first {length} bytes of {whole}")

    async def _is_beyond(self, end: int) -> bool:
        """Say whether a tree that goes on to `end` is none of this log, also where it has grown meanwhile."""
        if end > self._size and end > self._grown:
            with suppress(UpstreamProtocolError, SecurityError, RolledBackError):
                self._grown = (await read_head(self._storage, await read_identity(self._storage)))[0].size
        return end > max(self._size, self._grown)


def _length_of(bundle: bytes, width: int) -> int:
    """Return how long the first entries of a bundle are."""
    at = 0
    for _ in range(width):
        at += 2 + int.from_bytes(bundle[at : at + 2], "big")
    return at
