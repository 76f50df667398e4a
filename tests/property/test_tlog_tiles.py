"""Tiles: no bytes break a reader, no changed byte is believed, and a log grows the same in whatever steps."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ProofError, UpstreamProtocolError
from mirrorwitness.tlog.entries import (
    MAX_ENTRY_BYTES,
    format_entries,
    format_records,
    parse_entries,
    parse_records,
)
from mirrorwitness.tlog.merkle import (
    Hash,
    check_consistency,
    leaf_hash,
    make_proof,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
    root_of,
)
from mirrorwitness.tlog.tile_hashes import TileHashes, make_tiles
from mirrorwitness.tlog.tiles import (
    TILE_WIDTH,
    Dialect,
    EntriesTile,
    Tile,
    all_tiles,
    edge_tiles,
    entries_path,
    parse_tile_path,
    tile_path,
    tiles_of_size,
    tiles_to_trust,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

SIZE = 66_000
SIZES = st.one_of(st.integers(1, 800), st.sampled_from([65_535, 65_536, 65_537, 65_800, SIZE]))
HUGE = st.one_of(
    st.integers(0, 2**63 - 1), st.tuples(st.integers(1, 7), SIZES).map(lambda pair: 256 ** pair[0] + pair[1])
)
WIDTHS = st.integers(1, TILE_WIDTH)
DIALECTS = st.sampled_from(Dialect)
TILES = st.integers(0, 7).flatmap(
    lambda level: st.builds(Tile, st.just(level), st.integers(0, (2**63 - 1) // 256 ** (level + 1)), WIDTHS)
)
BUNDLES = st.builds(EntriesTile, st.integers(0, 2**55 - 1), WIDTHS)
NEARLY_PATHS = st.lists(
    st.sampled_from([
        "tile",
        "8",
        "0",
        "63",
        "64",
        "data",
        "entries",
        "x000",
        "x001",
        "000",
        "001",
        "000.p",
        "1",
        "256",
    ]),
    max_size=7,
).map("/".join)
LINES = st.text(alphabet=st.characters(exclude_categories=["Cs"], min_codepoint=0x20), min_size=1)
RECORDS = st.lists(LINES, min_size=1, max_size=3).map(lambda lines: "".join(f"{line}\n" for line in lines).encode())


@cache
def rows() -> list[list[Hash]]:
    """Return the hashes of each level of a log."""
    found = [[leaf_hash(b"%d" % at) for at in range(SIZE)]]
    while len(below := found[-1]) >= TILE_WIDTH:
        found.append([root_of(below[at : at + TILE_WIDTH]) for at in range(0, len(below) - 255, TILE_WIDTH)])
    return found


@cache
def root(size: int) -> Hash:
    return root_of(rows()[0][:size])


def fetch(tiles: Iterable[Tile]) -> dict[Tile, bytes]:
    return {tile: b"".join(rows()[tile.level][tile.index * TILE_WIDTH :][: tile.width]) for tile in tiles}


@given(tile=st.one_of(TILES, BUNDLES), dialect=DIALECTS)
def test_every_tile_has_a_path(tile: Tile | EntriesTile, dialect: Dialect) -> None:
    """What is written is read as the same tile."""
    path = tile_path(tile, dialect) if isinstance(tile, Tile) else entries_path(tile, dialect)
    assert parse_tile_path(path, dialect) == tile


@given(
    path=st.one_of(st.text(), NEARLY_PATHS, st.from_regex(r"tile/(8/)?[0-9]{1,2}/(x[0-9]{3}/)?[0-9]{3}(\.p/[0-9]+)?"))
)
def test_any_path_is_a_tile_s_or_refused(path: str) -> None:
    """A tile that is read has just this path."""
    for dialect in Dialect:
        try:
            tile = parse_tile_path(path, dialect)
        except UpstreamProtocolError:
            continue
        assert path == (tile_path(tile, dialect) if isinstance(tile, Tile) else entries_path(tile, dialect))


@given(size=HUGE, level=st.integers(0, 63))
def test_a_level_is_its_full_tiles_and_the_rest(size: int, level: int) -> None:
    """The widths of the partial tiles are the digits of the size in base 256, and all that a level has is in tiles."""
    full, width = tiles_of_size(size, level)
    assert full * 256 + width == size // 256**level
    assert [tile.width for tile in edge_tiles(size)] == [digit for digit in size.to_bytes(8, "little") if digit]


@given(start=HUGE, steps=st.lists(st.integers(0, 700), min_size=1, max_size=3))
def test_growth_in_steps_gives_the_same_full_tiles(start: int, steps: list[int]) -> None:
    """A full tile is written once, in whatever steps a log grows; every partial one is of the right edge."""
    sizes = [start]
    for step in steps:
        sizes.append(min(sizes[-1] + step, 2**63 - 1))
    stepwise = [list(all_tiles(old, new)) for old, new in pairwise(sizes)]
    for tiles, size in zip(stepwise, sizes[1:], strict=True):
        assert {tile for tile in tiles if not tile.is_full} <= set(edge_tiles(size))
    whole = [tile for tile in all_tiles(start, sizes[-1]) if tile.is_full]
    assert sorted(whole, key=str) == sorted((t for tiles in stepwise for t in tiles if t.is_full), key=str)


@given(steps=st.lists(st.integers(0, 700), max_size=5))
def test_a_log_that_grows_has_the_root_of_its_entries(steps: list[int]) -> None:
    """From nothing but the right edge each step writes the named tiles, with the bytes of the definition."""
    size, edge = 0, dict[Tile, bytes]()
    for step in steps:
        made = make_tiles(TileHashes(size, edge), rows()[0][size : size + step])
        assert list(made) == list(all_tiles(size, size + step))
        assert made == fetch(made)
        size += step
        edge = {tile: made.get(tile) or edge[tile] for tile in edge_tiles(size)}
        TileHashes(size, edge).check_root(root(size))


@given(size=SIZES, data=st.data())
def test_a_proof_from_tiles_is_right(size: int, data: st.DataObject) -> None:
    """For each two sizes, from the tiles to trust alone, and also where full tiles stand in for partial ones."""
    old = data.draw(st.integers(1, size))
    plan = plan_consistency(old, size)
    tiles = fetch(tiles_to_trust(nodes_needed(plan), size))
    assert len(tiles) <= 2 * -(-size.bit_length() // 8) - 1
    for tile in data.draw(st.sets(st.sampled_from(sorted(tiles, key=str)))):
        tiles[tile.full()] = tiles.pop(tile).ljust(TILE_WIDTH * 32, b"?")
    hashes = TileHashes(size, tiles)
    hashes.check_root(root(size))
    proof = make_proof(plan, hashes.hash_of)
    old_root = TileHashes(old, fetch(edge_tiles(old))).root()
    check_consistency(proof, old_size=old, old_root=old_root, new_size=size, new_root=root(size))


@given(size=SIZES, data=st.data())
def test_replaced_bytes_in_any_fetched_tile_are_found(size: int, data: st.DataObject) -> None:
    """No single byte of what was fetched for a proof can be another one."""
    index = data.draw(st.integers(0, size - 1))
    tiles = fetch(tiles_to_trust(nodes_needed(plan_inclusion(index, size)), size))
    tile = data.draw(st.sampled_from(sorted(tiles, key=str)))
    body = bytearray(tiles[tile])
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    hashes = TileHashes(size, {**tiles, tile: bytes(body)})
    with pytest.raises(ProofError):
        hashes.check_root(root(size))


@given(size=SIZES, data=st.data())
def test_a_missing_tile_is_missed(size: int, data: st.DataObject) -> None:
    """Left out of the right edge, or from above another tile, it is named."""
    index = data.draw(st.integers(0, size - 1))
    path = Tile(0, index // 256, min(256, size - index // 256 * 256))
    tiles = fetch([*tiles_to_trust(nodes_needed(plan_inclusion(index, size)), size), path])
    missing = data.draw(st.sampled_from(sorted(set(tiles) - ({path} if path.is_full else set()), key=str)))
    del tiles[missing]
    used = {tile.index // 256 for tile in tiles if tile.level + 1 == missing.level and tile.is_full}
    hashes = TileHashes(size, tiles)
    if missing.is_full and missing.index not in used:
        hashes.check_root(root(size))  # nothing given rests on it
    else:
        with pytest.raises(ProofError, match=f"^{missing} of a tree of size {size} is missing"):
            hashes.check_root(root(size))


@given(entries=st.lists(st.binary(max_size=9) | st.just(bytes(MAX_ENTRY_BYTES)), min_size=1, max_size=TILE_WIDTH))
def test_entries_round_trip(entries: list[bytes]) -> None:
    """Any bytes can be entries."""
    assert parse_entries(format_entries(entries), EntriesTile(0, len(entries))) == entries


@given(records=st.lists(RECORDS, min_size=1, max_size=TILE_WIDTH))
def test_records_round_trip(records: list[bytes]) -> None:
    """Any lines of text can be records."""
    assert parse_records(format_records(records), EntriesTile(0, len(records))) == records


@given(
    body=st.one_of(st.binary(), st.lists(st.sampled_from([b"\0", b"\1", b"\2"])).map(b"".join)), width=st.integers(1, 5)
)
def test_any_bytes_are_entries_or_refused(body: bytes, width: int) -> None:
    """A bundle that is read is written again as it was."""
    try:
        entries = parse_entries(body, EntriesTile(0, width))
    except UpstreamProtocolError:
        return
    assert (len(entries), format_entries(entries)) == (width, body)


@given(
    body=st.one_of(st.binary(), st.lists(st.sampled_from([b"a", b"\n", b"\n\n"])).map(b"".join)),
    width=st.integers(1, 5),
)
def test_any_bytes_are_records_or_refused(body: bytes, width: int) -> None:
    """A data tile that is read is written again as it was, but for one empty line behind it."""
    try:
        records = parse_records(body, EntriesTile(0, width))
    except UpstreamProtocolError:
        return
    assert len(records) == width
    assert format_records(records) in {body, body[:-1]}
