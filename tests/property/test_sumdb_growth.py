"""Growth of a log: however records are cut into batches, tree, tiles and bundles are those of RFC 6962."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.sumdb.growth import EMPTY_EDGE, Growth, format_staged, grow, make_edge, parse_staged
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import (
    MAX_SIZE,
    Hash,
    Range,
    check_consistency,
    check_inclusion,
    make_proof,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
    root_of,
)
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import EntriesTile, Tile, all_tiles, edge_tiles, entries_tiles, tiles_to_trust
from tests.unit.tlog.naive_merkle import NaiveTree, naive_leaf

MANY = 700


def entry(number: int) -> bytes:
    return b"record %d\n" % number * (1 + number % 3)


ENTRIES = [entry(number) for number in range(MANY)]
NAIVE = NaiveTree(ENTRIES)

batches = st.lists(st.one_of(st.integers(0, 5), st.sampled_from([255, 256, 257]), st.integers(0, 300)), max_size=6)


def grow_by(sizes: list[int]) -> tuple[list[Growth], dict[Tile, bytes], dict[EntriesTile, bytes]]:
    """Append batch by batch, and return each step, and everything that was written."""
    steps: list[Growth] = []
    tiles: dict[Tile, bytes] = {}
    bundles: dict[EntriesTile, bytes] = {}
    edge = EMPTY_EDGE
    for count in sizes:
        step = grow(edge, ENTRIES[edge.size : edge.size + count])
        steps.append(step)
        for key, body in step.tiles.items():
            assert tiles.setdefault(key, body) == body
        for bundle, body in step.bundles.items():
            assert bundles.setdefault(bundle, body) == body
        edge = step.edge
    return steps, tiles, bundles


@given(batches)
@example([256, 256, 1])
@example([1, 255])
@example([0])
def test_any_split_into_batches_gives_the_naive_tree_and_the_same_full_tiles(sizes: list[int]) -> None:
    """Each step's root is RFC 6962's; what one batch writes for the same records is written by any split."""
    steps, tiles, bundles = grow_by(sizes)
    for step in steps:
        size = step.edge.size
        assert step.edge.root == NAIVE.mth(0, size)
        assert step.edge.entries == tuple(ENTRIES[size - size % 256 : size])
    size = steps[-1].edge.size if steps else 0
    _, whole_tiles, whole_bundles = grow_by([size])
    assert whole_tiles.items() <= tiles.items()
    assert whole_bundles.items() <= bundles.items()
    found = [line for bundle in entries_tiles(0, size) for line in parse_entries(bundles[bundle], bundle)]
    assert found == ENTRIES[:size]


@given(batches)
def test_all_tiles_of_every_size_on_the_way_exist_and_verify(sizes: list[int]) -> None:
    """Every head that was ever made can be proven from what was written; nothing else was written."""
    steps, tiles, bundles = grow_by(sizes)
    for step in steps:
        size, root = step.edge.size, step.edge.root
        needed = set(all_tiles(0, size))
        TileHashes(size, {tile: tiles[tile] for tile in needed}).check_root(root)
        assert set(entries_tiles(0, size)) <= bundles.keys()
    old = 0
    expected: set[Tile] = set()
    for step in steps:
        expected |= set(all_tiles(old, step.edge.size))
        old = step.edge.size
    assert tiles.keys() == expected


@given(batches, st.data())
def test_heads_on_the_way_are_consistent_and_their_entries_are_included(sizes: list[int], data: st.DataObject) -> None:
    """Proofs out of the written tiles verify between any two heads, and for any entry."""
    steps, tiles, _ = grow_by(sizes)
    heads = [step.edge for step in steps if step.edge.size]
    if not heads:
        return
    old, new = sorted(data.draw(st.tuples(st.sampled_from(heads), st.sampled_from(heads))), key=lambda edge: edge.size)
    plan = plan_consistency(old.size, new.size)
    hashes = TileHashes(new.size, {tile: tiles[tile] for tile in tiles_to_trust(nodes_needed(plan), new.size)})
    hashes.check_root(new.root)
    proof = make_proof(plan, hashes.hash_of)
    check_consistency(proof, old_size=old.size, old_root=old.root, new_size=new.size, new_root=new.root)
    index = data.draw(st.integers(0, new.size - 1))
    plan = plan_inclusion(index, new.size)
    hashes = TileHashes(new.size, {tile: tiles[tile] for tile in tiles_to_trust(nodes_needed(plan), new.size)})
    proof = make_proof(plan, hashes.hash_of)
    check_inclusion(proof, index=index, size=new.size, leaf=naive_leaf(ENTRIES[index]), root=new.root)


@given(batches, st.integers(0, 100))
def test_a_log_that_was_read_again_grows_as_one_that_was_not(sizes: list[int], more: int) -> None:
    """The edge that is read from tiles and the last bundle is the one that was held."""
    steps, tiles, _ = grow_by([*sizes, 1])
    held = steps[-1].edge
    read = make_edge(held.size, held.root, {tile: tiles[tile] for tile in edge_tiles(held.size)}, held.entries)
    assert read == held
    more_entries = ENTRIES[:more]
    assert grow(read, more_entries) == grow(held, more_entries)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=600))
def test_staged_entries_read_back_as_they_were(entries: list[bytes]) -> None:
    """parse(format) is the identity, for any number of entries."""
    assert parse_staged(format_staged(entries), len(entries)) == entries


def test_the_naive_tree_and_a_plain_list_agree() -> None:
    """The judge of this file agrees with the product's plainest function."""
    assert NAIVE.mth(0, MANY) == root_of([Hash(naive_leaf(line)) for line in ENTRIES])
    assert Range(0, MANY).end < MAX_SIZE
