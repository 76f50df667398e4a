"""Tiles: their paths, which ones a tree has and a proof needs, and the entries in them."""

from __future__ import annotations

from functools import partial

import pytest

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.tlog.merkle import (
    Range,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
)
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Dialect,
    EntriesTile,
    Tile,
    all_tiles,
    checkpoint_path,
    edge_tiles,
    entries_path,
    entries_tiles,
    parse_tile_path,
    tile_of,
    tile_path,
    tiles_needed,
    tiles_of_size,
    tiles_to_trust,
)

SPEC_SIZE = 70_000
GO_SIZE = 35_225_469  # a real size of the checksum database of Go


def defined_tiles(size: int) -> set[Tile]:
    """Return the tiles of a tree by counting."""
    counts = [(level, size // 256**level) for level in range(5)]
    return {
        Tile(level, at // 256, min(256, count - at)) for level, count in counts for at in range(0, count, 256) if count
    }


@pytest.mark.parametrize(
    ("tile", "tiles", "sumdb"),
    [
        (Tile(0, 1_234_067, 256), "tile/0/x001/x234/067", "tile/8/0/x001/x234/067"),
        (Tile(63, 0, 1), "tile/63/000.p/1", "tile/8/63/000.p/1"),
        (Tile(1, 999, 255), "tile/1/999.p/255", "tile/8/1/999.p/255"),
        (Tile(2, 1000, 40), "tile/2/x001/000.p/40", "tile/8/2/x001/000.p/40"),
        (Tile(9, 0, 256), "tile/9/000", "tile/8/9/000"),
        (Tile(0, 2**55 - 1, 256), "tile/0/x036/x028/x797/x018/x963/967", "tile/8/0/x036/x028/x797/x018/x963/967"),
        (EntriesTile(1_234_067, 256), "tile/entries/x001/x234/067", "tile/8/data/x001/x234/067"),
        (EntriesTile(123_456_789, 7), "tile/entries/x123/x456/789.p/7", "tile/8/data/x123/x456/789.p/7"),
        (EntriesTile(2**55 - 1, 1), "tile/entries/x036/x028/x797/x018/x963/967.p/1", None),
    ],
)
def test_paths(tile: Tile | EntriesTile, tiles: str, sumdb: str | None) -> None:
    """Both specifications' examples and the largest numbers are written and read."""
    assert str(tile) == tiles
    for dialect, path in (
        (Dialect.TILES, tiles),
        (Dialect.SUMDB, sumdb or tiles.replace("tile/entries", "tile/8/data")),
    ):
        assert parse_tile_path(path, dialect) == tile
        assert (tile_path(tile, dialect) if isinstance(tile, Tile) else entries_path(tile, dialect)) == path


def test_checkpoint_paths() -> None:
    """The head of a log has another name in each dialect."""
    assert [checkpoint_path(dialect) for dialect in Dialect] == ["checkpoint", "latest"]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    "rest",
    [
        *("", "0", "0/", "/0/000", "0/0", "0/00", "0/0000", "0/1234", "0/abc", "0/-01", "0/+01", "0/ 01", "0/000 "),
        *("00/000", "01/000", "64/000", "100/000", "-1/000", "x/000", "entries", "data/", "names/000", "Data/000"),
        *("0/x000/001", "0/x000/x001/000", "0/x001", "0/001/002", "0/x01/002", "0/x0001/002", "0/X001/002"),
        *("0/x001//002", "0/x001/x002", "0/x001/002/", "0/001/x002", "0/../0/000", "0/000/..", "0/000?x", "0/000#"),
        *("0/000.p/0", "0/000.p/256", "0/000.p/257", "0/000.p/1000", "0/000.p/01", "0/000.p/", "0/000.p", "0/000.p/-1"),
        *(
            "0/000.p/1/",
            "0/000.p/1.p/1",
            "0/000.P/1",
            "0/000p/1",
            "0/000.p/x01",
            "0/000\n",
            "0/000.p/1\n",
            "0/00\u0660",
        ),
        *("0/x036/x028/x797/x018/x963/968", "1/x140/x737/x488/x355/328", "8/001", "63/001", "0/" + "x001/" * 6 + "001"),
        "0/" + "x001/" * 2000 + "001",
    ],
)
def test_malformed_paths(rest: str, dialect: Dialect) -> None:
    """One tile has one path: nothing that only resembles it, and nothing beyond the largest tree."""
    path = ("tile/" if dialect is Dialect.TILES else "tile/8/") + rest
    with pytest.raises(UpstreamProtocolError, match="is not the path of a tile: "):
        parse_tile_path(path, dialect)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("tile/8/data/000", Dialect.TILES),
        ("tile/8/0/000", Dialect.TILES),
        ("tile/entries/000", Dialect.SUMDB),
        ("tile/0/000", Dialect.SUMDB),
        ("tile/7/0/000", Dialect.SUMDB),
        ("/tile/0/000", Dialect.TILES),
        ("Tile/0/000", Dialect.TILES),
        ("", Dialect.TILES),
        ("checkpoint", Dialect.TILES),
    ],
)
def test_paths_of_the_other_dialect(path: str, dialect: Dialect) -> None:
    """A path is read in the dialect of its log only, and only as a whole."""
    with pytest.raises(UpstreamProtocolError, match="expected tile/"):
        parse_tile_path(path, dialect)


@pytest.mark.parametrize(
    ("level", "index", "width", "reason"),
    [
        (-1, 0, 1, "level of a tile: -1, expected 0 to 63"),
        (64, 0, 1, "level of a tile: 64, expected 0 to 63"),
        (0, 0, 0, "width of a tile: 0, expected 1 to 256"),
        (0, 0, 257, "width of a tile: 257, expected 1 to 256"),
        (0, -1, 1, "index of a tile of level 0: -1"),
        (0, 2**55, 1, "index of a tile of level 0: 36028797018963968"),
        (6, 128, 1, "index of a tile of level 6: 128"),
        (7, 1, 1, "index of a tile of level 7: 1"),
    ],
)
def test_tiles_that_no_log_has(level: int, index: int, width: int, reason: str) -> None:
    """A tile is one of some tree below 2^63 entries."""
    with pytest.raises(ConfigurationError, match=reason):
        Tile(level, index, width)
    if level == 0:
        with pytest.raises(ConfigurationError, match=reason):
            EntriesTile(index, width)


def test_full_and_partial() -> None:
    """A tile of 256 is full; each place has a full one."""
    assert (TILE_HEIGHT, TILE_WIDTH) == (8, 256)
    assert (Tile(1, 2, 255).is_full, Tile(1, 2, 255).byte_size) == (False, 255 * 32)
    assert (Tile(1, 2, 256).is_full, Tile(1, 2, 256).byte_size) == (True, 8192)
    assert Tile(1, 2, 3).full() == Tile(1, 2, 256)
    assert (EntriesTile(2, 3).is_full, EntriesTile(2, 3).full()) == (False, EntriesTile(2, 256))
    assert EntriesTile(2, 256).is_full


def test_the_specification_s_example() -> None:
    """70,000 entries: 273 full tiles and one of 112, one full tile and one of 17, one of 1; 256 entries: two tiles."""
    assert [tiles_of_size(SPEC_SIZE, level) for level in range(5)] == [(273, 112), (1, 17), (0, 1), (0, 0), (0, 0)]
    assert len(list(all_tiles(0, SPEC_SIZE))) == 274 + 2 + 1
    assert edge_tiles(SPEC_SIZE) == [Tile(0, 273, 112), Tile(1, 1, 17), Tile(2, 0, 1)]
    assert list(all_tiles(0, 256)) == [Tile(0, 0, 256), Tile(1, 0, 1)]


def test_the_tiles_of_every_small_size() -> None:
    """Up to 600 the set of tiles, of bundles and of partial tiles is the one that counting gives."""
    for size in range(601):
        expected = defined_tiles(size)
        found = list(all_tiles(0, size))
        assert (len(found), set(found)) == (len(expected), expected)
        assert list(entries_tiles(0, size)) == [EntriesTile(t.index, t.width) for t in found if t.level == 0]
        assert edge_tiles(size) == [tile for tile in found if not tile.is_full]


@pytest.mark.parametrize("old", [0, 1, 255, 256, 257, 511, 512, 599, 600])
def test_growth_between_small_sizes(old: int) -> None:
    """A log that grows writes the tiles which it did not have in this form, level by level, left to right."""
    had = defined_tiles(old)
    for new in range(old, 601):
        expected = sorted(defined_tiles(new) - had, key=lambda tile: (tile.level, tile.index))
        assert list(all_tiles(old, new)) == expected
        assert list(entries_tiles(old, new)) == [EntriesTile(t.index, t.width) for t in expected if t.level == 0]


def test_growth_over_powers_of_256() -> None:
    """Where several levels become full at once."""
    assert list(all_tiles(256**2 - 1, 256**2)) == [Tile(0, 255, 256), Tile(1, 0, 256), Tile(2, 0, 1)]
    assert list(all_tiles(256**2, 256**2 + 256)) == [Tile(0, 256, 256), Tile(1, 1, 1)]
    assert list(all_tiles(256**3 - 1, 256**3 + 1)) == [
        *(Tile(0, 65_535, 256), Tile(0, 65_536, 1), Tile(1, 255, 256), Tile(2, 0, 256), Tile(3, 0, 1)),
    ]
    assert set(all_tiles(0, 256**2 + 1)) == defined_tiles(256**2 + 1)
    assert edge_tiles(256**3) == [Tile(3, 0, 1)]
    assert [tile.width for tile in edge_tiles(2**63 - 1)] == [255] * 7 + [127]


@pytest.mark.parametrize(("old", "new"), [(-1, 1), (2, 1), (0, 2**63)])
def test_sizes_that_no_tree_has(old: int, new: int) -> None:
    """A log does not shrink, and is below 2^63; said before the first tile is asked for."""
    for ask in (all_tiles, entries_tiles):
        with pytest.raises(ConfigurationError, match=f"sizes {old} and {new}"):
            ask(old, new)
    for refuse in (edge_tiles, partial(tiles_of_size, level=0), partial(TileHashes, tiles={})):
        with pytest.raises(ConfigurationError):
            refuse(old if old < 0 else 2**63)


@pytest.mark.parametrize("node", [(0, 0), (1, 0), (0, 3), (1, 3), (-2, 0), (-1, 0), (8, 16), (15, 16), (16, 32)])
def test_only_nodes_of_the_tree_have_a_tile(node: tuple[int, int]) -> None:
    """Ranges that are no node, or end beyond the tree, are refused."""
    with pytest.raises(ConfigurationError, match="is no complete node of a tree of size 15"):
        tile_of(Range(*node), 15)
    with pytest.raises(ConfigurationError):
        TileHashes(15, {}).hash_of(Range(*node))


def test_tiles_of_nodes_come_once_and_in_order() -> None:
    """Two nodes of one tile need it once."""
    nodes = [Range(512, 513), Range(0, 256), Range(514, 516), Range(0, 1), Range(256, 512)]
    assert tiles_needed(nodes, 600) == [Tile(0, 2, 88), Tile(1, 0, 2), Tile(0, 0, 256)]
    assert tiles_to_trust(nodes, 600) == [Tile(0, 2, 88), Tile(1, 0, 2), Tile(0, 0, 256)]
    assert tiles_to_trust([Range(0, 1)], SPEC_SIZE) == [*edge_tiles(SPEC_SIZE), Tile(1, 0, 256), Tile(0, 0, 256)]
    assert tiles_to_trust([], 0) == tiles_needed([], 0) == []


def test_a_proof_at_the_size_of_go_s_database_needs_at_most_7_tiles() -> None:
    """4 levels have each one tile of the right edge, for the root; below the top 3 more lie above an entry."""
    assert [tile.width for tile in edge_tiles(GO_SIZE)] == [125, 127, 25, 2]
    parts = [1, 256, 257, 65_537, GO_SIZE // 7, GO_SIZE // 3, GO_SIZE // 2, GO_SIZE - 256, GO_SIZE - 1, GO_SIZE]
    plans = [
        *(plan_inclusion(part - 1, GO_SIZE) for part in parts),
        *(plan_consistency(part, GO_SIZE) for part in parts),
    ]
    counts = [len(tiles_to_trust(nodes_needed(plan), GO_SIZE)) for plan in plans]
    assert (min(counts), max(counts)) == (4, 7)
    for plan in plans:
        nodes = nodes_needed(plan)
        assert set(tiles_needed(nodes, GO_SIZE)) <= set(tiles_to_trust(nodes, GO_SIZE))
