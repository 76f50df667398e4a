"""Tiles: the pieces in which a log serves its tree and its entries, and what a client must fetch to believe them.

    tile/<level>/<index>[.p/<width>]   up to 256 consecutive hashes of one height of the tree
    tile/entries/<index>[.p/<width>]   the entries themselves, of level 0

Rules:

- A hash of level L covers 256**L entries; a full tile of level L has 256 of them and covers 256**(L + 1) entries. In a
  tree of size S a level has S // 256**L hashes, so its last tile is partial, S // 256**L % 256 wide, or absent.
- Only full tiles have a parent: one hash in a tile of the next level. The partial tiles of a tree, at most one for each
  level, are its right edge: from them alone, and from all their bytes, its root is computed.
- So tiles are believed from the root down, and `tiles_to_trust` names the right edge and all parents as well.
- Paths are read strictly: one spelling for each tile. Two dialects differ in paths and in how entries are cut, in
  nothing else.

Here are paths and numbers alone. What it does not do: look into tiles (`mirrorwitness.tlog.tile_hashes`) or into
bundles of entries (`mirrorwitness.tlog.entries`), fetch, store or cache.

SPEC: C2SP tlog-tiles (July 2026); Go's checksum database as in golang.org/x/mod ``sumdb`` (tiles of height 8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_SIZE, Range

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = [
    "TILE_HEIGHT",
    "TILE_WIDTH",
    "Dialect",
    "EntriesTile",
    "Tile",
    "all_tiles",
    "check_sizes",
    "checkpoint_path",
    "edge_tiles",
    "entries_path",
    "entries_tiles",
    "parse_tile_path",
    "tile_of",
    "tile_path",
    "tiles_needed",
    "tiles_of_size",
    "tiles_to_trust",
    "width_of",
]

TILE_HEIGHT: Final = 8
"""Levels of the tree from a tile's hashes to the hash of the whole tile. Both dialects have this height only."""

TILE_WIDTH: Final = 1 << TILE_HEIGHT
"""Hashes of a full tile, entries of a full bundle."""

_MAX_LEVEL: Final = 63
_SHOWN: Final = 100
_GROUP: Final = 1000  # an index is written three digits at a time: no folder has more than 1,000 of a kind


class Dialect(StrEnum):
    """How a log names what it serves."""

    TILES = "tiles"
    """C2SP tlog-tiles."""

    SUMDB = "sumdb"
    """Go's checksum database."""


_CHECKPOINT: Final = {Dialect.TILES: "checkpoint", Dialect.SUMDB: "latest"}
_ROOT: Final = {Dialect.TILES: "tile", Dialect.SUMDB: f"tile/{TILE_HEIGHT}"}
_ENTRIES: Final = {Dialect.TILES: "entries", Dialect.SUMDB: "data"}
_PATH: Final = {
    dialect: re.compile(
        rf"{_ROOT[dialect]}/(?:{_ENTRIES[dialect]}|([1-5]?[0-9]|6[0-3]))"
        r"/((?:x(?!000)[0-9]{3}/(?:x[0-9]{3}/){0,4})?[0-9]{3})"
        r"(?:\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
    )
    for dialect in Dialect
}


@dataclass(frozen=True, slots=True)
class Tile:
    """Consecutive hashes of one level.

    Attributes:
        level: 0 for hashes of entries, 1 for hashes of full tiles of level 0, and so on to 63.
        index: the number of the tile in its level, counted from 0.
        width: how many hashes it has: 256 where it is full, never 0.
    """

    level: int
    index: int
    width: int

    def __post_init__(self) -> None:
        """Refuse what no log has."""
        _check_place(self.level, self.index, self.width)

    def __str__(self) -> str:
        """Return its path in a tiled log."""
        return tile_path(self, Dialect.TILES)

    @property
    def is_full(self) -> bool:
        """Whether it will never change."""
        return self.width == TILE_WIDTH

    @property
    def byte_size(self) -> int:
        """How many bytes it is served as."""
        return self.width * HASH_BYTES

    def full(self) -> Tile:
        """Return the full tile of the same place."""
        return Tile(self.level, self.index, TILE_WIDTH)

    def covered(self) -> Range:
        """Return the entries below the full tile of the same place: the node whose hash its parent has."""
        height = TILE_HEIGHT * (self.level + 1)
        return Range(self.index << height, (self.index + 1) << height)


@dataclass(frozen=True, slots=True)
class EntriesTile:
    """Consecutive entries, those of the tile of level 0 with the same index and width.

    Attributes:
        index: the number of the bundle, counted from 0.
        width: how many entries it has: 256 where it is full, never 0.
    """

    index: int
    width: int

    def __post_init__(self) -> None:
        """Refuse what no log has."""
        _check_place(0, self.index, self.width)

    def __str__(self) -> str:
        """Return its path in a tiled log."""
        return entries_path(self, Dialect.TILES)

    @property
    def is_full(self) -> bool:
        """Whether it will never change."""
        return self.width == TILE_WIDTH

    def full(self) -> EntriesTile:
        """Return the full bundle of the same place."""
        return EntriesTile(self.index, TILE_WIDTH)


def checkpoint_path(dialect: Dialect) -> str:
    """Return where a log serves its latest checkpoint."""
    return _CHECKPOINT[dialect]


def tile_path(tile: Tile, dialect: Dialect) -> str:
    """Return where a log serves a tile."""
    return f"{_ROOT[dialect]}/{tile.level}/{_format_place(tile.index, tile.width)}"


def entries_path(tile: EntriesTile, dialect: Dialect) -> str:
    """Return where a log serves entries."""
    return f"{_ROOT[dialect]}/{_ENTRIES[dialect]}/{_format_place(tile.index, tile.width)}"


def parse_tile_path(path: str, dialect: Dialect) -> Tile | EntriesTile:
    """Read a path; `tile_path` or `entries_path` gives back the same text.

    Raises:
        UpstreamProtocolError: it is the path of no tile, or that of a tile which no log can have.
    """
    found = _PATH[dialect].fullmatch(path)
    if found is None:
        expected = f"{_ROOT[dialect]}/LEVEL or {_ENTRIES[dialect]}/INDEX[.p/WIDTH]"
        raise UpstreamProtocolError(f"{path[:_SHOWN]!r} is not the path of a tile: expected {expected}")
    level, index_text, width_text = found.groups()
    index = int(index_text.replace("x", "").replace("/", ""))
    width = int(width_text or TILE_WIDTH)
    try:
        return EntriesTile(index, width) if level is None else Tile(int(level), index, width)
    except ConfigurationError as error:
        raise UpstreamProtocolError(f"{path[:_SHOWN]!r} is not the path of a tile: {error}") from error


def check_sizes(old_size: int, new_size: int) -> int:
    """Return the new size of a tree that grows.

    Raises:
        ConfigurationError: these are no sizes, or the tree shrank.
    """
    if not 0 <= old_size <= new_size <= MAX_SIZE:
        raise ConfigurationError(f"sizes {old_size} and {new_size}: expected 0 <= old <= new <= {MAX_SIZE}")
    return new_size


def width_of(level: int, index: int, size: int) -> int:
    """Return the width of a tile as it is in a tree, below 1 where the tree does not reach it."""
    return min(TILE_WIDTH, (size >> TILE_HEIGHT * level) - index * TILE_WIDTH)


def tiles_of_size(size: int, level: int) -> tuple[int, int]:
    """Return how many full tiles a level of a tree has, and the width of its partial tile, 0 where it has none."""
    return divmod(check_sizes(0, size) >> TILE_HEIGHT * level, TILE_WIDTH)


def all_tiles(old_size: int, new_size: int) -> Iterator[Tile]:
    """Yield the tiles that a log writes when it grows: those of the new tree that the old one did not have like this.

    Args:
        old_size: size of the tree whose tiles are written; 0 gives all of the new one.
        new_size: size of the new tree.

    Returns:
        Level by level from 0, left to right: full tiles first, then the partial one.

    Raises:
        ConfigurationError: these are no sizes, or the log shrank.
    """
    levels = _levels(check_sizes(old_size, new_size))
    return (Tile(level, *place) for level in levels for place in _new_places(old_size, new_size, level))


def entries_tiles(old_size: int, new_size: int) -> Iterator[EntriesTile]:
    """Yield the bundles of entries that a log writes when it grows; as `all_tiles`."""
    check_sizes(old_size, new_size)
    return (EntriesTile(*place) for place in _new_places(old_size, new_size, 0))


def edge_tiles(size: int) -> list[Tile]:
    """Return the partial tiles of a tree, level by level: what its root is computed from, and what a log appends to."""
    places = [(level, *tiles_of_size(size, level)) for level in _levels(check_sizes(0, size))]
    return [Tile(level, full, width) for level, full, width in places if width]


def tile_of(node: Range, size: int) -> Tile:
    """Return the tile, as it is in a tree of a size, from which a node's hash is computed.

    Raises:
        ConfigurationError: the node is not complete (2**k entries from a multiple of 2**k), or not in the tree.
    """
    length = node.end - node.start
    if length < 1 or length & (length - 1) or node.start % length or not 0 <= node.start <= node.end <= size:
        raise ConfigurationError(f"{node} is no complete node of a tree of size {size}")
    level = (length.bit_length() - 1) // TILE_HEIGHT
    index = node.start >> TILE_HEIGHT * (level + 1)
    return Tile(level, index, width_of(level, index, size))


def tiles_needed(nodes: Iterable[Range], size: int) -> list[Tile]:
    """Return the tiles from which the hashes of nodes are computed, each once, in the order of the nodes.

    They do not suffice to believe them: see `tiles_to_trust`.

    Raises:
        ConfigurationError: as `tile_of`.
    """
    return list(dict.fromkeys(tile_of(node, size) for node in nodes))


def tiles_to_trust(nodes: Iterable[Range], size: int) -> list[Tile]:
    """Return the tiles to fetch so that `TileHashes.check_root` can vouch for the hashes of nodes.

    With L levels these are at most L for the root, shared by all nodes, and L - 1 for each node; nodes of one proof lie
    on one path and share them too, so a proof needs at most 2 L - 1.

    Returns:
        Each once: the right edge from level 0, then for each node the tiles above its own and it, parents first.

    Raises:
        ConfigurationError: as `tile_of`.
    """
    found = dict.fromkeys(edge_tiles(size))
    for tile in tiles_needed(nodes, size):
        path = [tile]
        while path[-1].is_full:
            path.append(tile_of(path[-1].covered(), size))
        found.update(dict.fromkeys(reversed(path)))
    return list(found)


def _check_place(level: int, index: int, width: int) -> None:
    if not 0 <= level <= _MAX_LEVEL:
        raise ConfigurationError(f"level of a tile: {level}, expected 0 to {_MAX_LEVEL}")
    if not 1 <= width <= TILE_WIDTH:
        raise ConfigurationError(f"width of a tile: {width}, expected 1 to {TILE_WIDTH}")
    if index < 0 or index << TILE_HEIGHT * (level + 1) > MAX_SIZE:
        raise ConfigurationError(f"index of a tile of level {level}: {index}, no tree of size {MAX_SIZE} has it")


def _format_place(index: int, width: int) -> str:
    index, last = divmod(index, _GROUP)
    text = f"{last:03}"
    while index:
        index, group = divmod(index, _GROUP)
        text = f"x{group:03}/{text}"
    return text if width == TILE_WIDTH else f"{text}.p/{width}"


def _levels(size: int) -> range:
    """Return the levels of which a tree has at least one hash."""
    return range(-(-size.bit_length() // TILE_HEIGHT))


def _new_places(old_size: int, new_size: int, level: int) -> Iterator[tuple[int, int]]:
    """Yield index and width of the tiles of a level that are new."""
    old_full, old_width = tiles_of_size(old_size, level)
    full, width = tiles_of_size(new_size, level)
    for index in range(old_full, full):
        yield index, TILE_WIDTH
    if width and (old_full, old_width) != (full, width):
        yield full, width
