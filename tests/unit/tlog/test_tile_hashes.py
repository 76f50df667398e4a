"""Hashes out of tiles: proofs made from them, attacks on them, and the tiles that a growing log writes."""

from __future__ import annotations

import base64
import json
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    Hash,
    Range,
    check_consistency,
    check_inclusion,
    leaf_hash,
    make_proof,
    node_hash,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
    root_of,
)
from mirrorwitness.tlog.tile_hashes import TileHashes, make_tiles
from mirrorwitness.tlog.tiles import (
    TILE_HEIGHT,
    TILE_WIDTH,
    Dialect,
    EntriesTile,
    Tile,
    all_tiles,
    edge_tiles,
    parse_tile_path,
    tile_of,
    tiles_to_trust,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "tiles"
SIZE = 66_000  # three levels: 257 full tiles and one of 208, one full tile and one of 1, one of 1
EDGES = [1, 2, 255, 256, 257, 511, 512, 513, 600, 65_535, 65_536, 65_537, 65_792, SIZE]


class NaiveLog:
    """A log in memory, by the specification's formula: hash i of tile n is MTH(D[(n*256+i)*256^l:(n*256+i+1)*256^l]).

    Attributes:
        rows: of each level all hashes.
    """

    def __init__(self, size: int) -> None:
        self.rows = [[leaf_hash(b"entry %d" % at) for at in range(size)]]
        while len(below := self.rows[-1]) >= 256:
            self.rows.append([root_of(below[at : at + 256]) for at in range(0, len(below) - 255, 256)])
        self.root = cache(self._root)

    def fetch(self, tiles: Iterable[Tile]) -> dict[Tile, bytes]:
        return {tile: b"".join(self.rows[tile.level][tile.index * 256 :][: tile.width]) for tile in tiles}

    def _root(self, size: int) -> Hash:
        return root_of(self.rows[0][:size])


@pytest.fixture(scope="module")
def log() -> NaiveLog:
    return NaiveLog(SIZE)


def hash_of(hashes: TileHashes, index: int) -> Hash:
    return hashes.hash_of(Range(index, index + 1))


def check_and_prove(hashes: TileHashes, root: Hash, plan: list[Range]) -> list[Hash]:
    hashes.check_root(root)
    return make_proof(plan, hashes.hash_of)


@pytest.mark.parametrize("size", [1, 255, 256, 257, 513])
def test_every_node_is_computed_from_its_tile(log: NaiveLog, size: int) -> None:
    """The hash of each complete node is that of its entries, from the one tile that `tile_of` names."""
    tiles = set(all_tiles(0, size))
    for width in [2**power for power in range(10)]:
        for start in range(0, size - width + 1, width):
            node = Range(start, start + width)
            tile = tile_of(node, size)
            assert tile in tiles
            assert TileHashes(size, log.fetch([tile])).hash_of(node) == root_of(log.rows[0][start : start + width])


@pytest.mark.parametrize("size", EDGES)
def test_proofs_are_made_from_checked_tiles(log: NaiveLog, size: int) -> None:
    """Both kinds of proof, made from what `tiles_to_trust` names, are right for old sizes and entries all over."""
    root = log.root(size)
    for part in sorted({1, 255, 256, 257, 65_536, size // 3, size - 1, size} & set(range(1, size + 1))):
        plan = plan_consistency(part, size)
        hashes = TileHashes(size, log.fetch(tiles_to_trust(nodes_needed(plan), size)))
        proof = check_and_prove(hashes, root, plan)
        check_consistency(proof, old_size=part, old_root=log.root(part), new_size=size, new_root=root)
        plan = plan_inclusion(part - 1, size)
        hashes = TileHashes(size, log.fetch(tiles_to_trust(nodes_needed(plan), size)))
        proof = check_and_prove(hashes, root, plan)
        check_inclusion(proof, index=part - 1, size=size, leaf=log.rows[0][part - 1], root=root)


@pytest.mark.parametrize("size", [35_225_469, 256**3, 256**4 - 1, 2**63 - 1])
def test_proofs_of_large_trees(size: int) -> None:
    """Of a log whose entries are all the same, each level has one hash only, however large it is."""
    heights = [leaf_hash(b"")]
    for _ in range(63):
        heights.append(node_hash(heights[-1], heights[-1]))
    for index in (0, size // 3, size // 2, size - 1):
        plan = plan_inclusion(index, size)
        tiles = tiles_to_trust(nodes_needed(plan), size)
        hashes = TileHashes(size, {tile: heights[TILE_HEIGHT * tile.level] * tile.width for tile in tiles})
        hashes.check_root(hashes.root())
        check_inclusion(
            make_proof(plan, hashes.hash_of), index=index, size=size, leaf=leaf_hash(b""), root=hashes.root()
        )


def test_tessera_s_log() -> None:
    """Every size of a log that another implementation wrote: entries, leaf hashes, tiles and roots agree."""
    vectors = json.loads((VECTORS / "tessera-log.json").read_text())
    roots = [Hash(base64.b64decode(root)) for root in vectors["roots"]]
    files = {parse_tile_path(path, Dialect.TILES): base64.b64decode(body) for path, body in vectors["files"].items()}
    TileHashes(0, {}).check_root(roots[0])
    assert len(files) == 30
    for size in range(1, 16):
        hashes = TileHashes(size, {Tile(0, 0, size): files[Tile(0, 0, size)]})
        hashes.check_root(roots[size])
        leaves = [leaf_hash(entry) for entry in parse_entries(files[EntriesTile(0, size)], EntriesTile(0, size))]
        assert [hash_of(hashes, index) for index in range(size)] == leaves
        assert make_tiles(TileHashes(0, {}), leaves) == {Tile(0, 0, size): files[Tile(0, 0, size)]}
        for old in range(size):
            proof = make_proof(plan_consistency(old, size), hashes.hash_of)
            check_consistency(proof, old_size=old, old_root=roots[old], new_size=size, new_root=roots[size])


def test_a_missing_tile_is_named(log: NaiveLog) -> None:
    """Whichever tile is left out of those to fetch, check or proof ask for it by name."""
    plan = plan_inclusion(300, SIZE)
    needed = tiles_to_trust(nodes_needed(plan), SIZE)
    assert len(needed) == 5
    for missing in needed:
        hashes = TileHashes(SIZE, log.fetch(tile for tile in needed if tile != missing))
        with pytest.raises(ProofError, match=f"{missing} of a tree of size {SIZE} is missing"):
            check_and_prove(hashes, log.root(SIZE), plan)


def test_cut_and_padded_tiles_are_refused(log: NaiveLog) -> None:
    """A tile with another number of bytes than its width says is not used, nor checked."""
    tile = Tile(0, 0, TILE_WIDTH)
    (body,) = log.fetch([tile]).values()
    edge = log.fetch(edge_tiles(300))
    for wrong in (b"", body[:-1], body[:-32], body + b"\0", body + body[:32]):
        hashes = TileHashes(300, {**edge, tile: wrong})
        with pytest.raises(UpstreamProtocolError, match=f"tile/0/000 has {len(wrong)} bytes, expected 8192"):
            hash_of(hashes, 7)
        with pytest.raises(UpstreamProtocolError, match="tile/0/000 has"):
            hashes.check_root(log.root(300))
        with pytest.raises(UpstreamProtocolError, match=r"tile/1/000.p/1 has 0 bytes, expected 32"):
            make_tiles(TileHashes(300, {**edge, Tile(1, 0, 1): b""}), log.rows[0][300:600])


def test_a_full_tile_stands_in_for_a_partial_one(log: NaiveLog) -> None:
    """What it has beyond the tree is neither checked nor given out, also where both are there."""
    full, part = Tile(0, 1, TILE_WIDTH), Tile(0, 1, 44)
    later = bytearray(log.fetch([full])[full])
    later[-1] ^= 1  # no part of the tree of size 300: no root speaks of it
    edge = log.fetch([Tile(1, 0, 1)])
    for tiles in ({full: bytes(later)}, {full: bytes(later), **log.fetch([part])}):
        hashes = TileHashes(300, {**edge, **tiles})
        hashes.check_root(log.root(300))
        assert hashes.bytes_of(part) == log.fetch([part])[part]
        assert hash_of(hashes, 299) == log.rows[0][299]
        with pytest.raises(ConfigurationError):
            hash_of(hashes, 300)
        for other in (full, Tile(0, 1, 45), Tile(0, 2, 1)):
            with pytest.raises(ConfigurationError, match=f"{other} is no tile of a tree of size 300"):
                hashes.bytes_of(other)
    with pytest.raises(ProofError, match=r"tile/0/001 does not begin with the hashes of tile/0/001\.p/44"):
        TileHashes(300, {**edge, **log.fetch([part]), full: bytes(8192)}).check_root(log.root(300))


@pytest.mark.parametrize(
    "stranger",
    [
        Tile(0, 0, 255),
        Tile(0, 1, 43),
        Tile(0, 1, 45),
        Tile(0, 2, 256),
        Tile(1, 0, 2),
        Tile(2, 0, 256),
        Tile(63, 0, 256),
    ],
)
def test_tiles_of_another_size_are_refused(log: NaiveLog, stranger: Tile) -> None:
    """No root of the tree vouches for them, so they are not passed over in silence."""
    tiles = log.fetch(all_tiles(0, 300))
    TileHashes(300, tiles).check_root(log.root(300))
    with pytest.raises(ProofError, match=f"{stranger} is no tile of a tree of size 300"):
        TileHashes(300, {**tiles, stranger: bytes(stranger.byte_size)}).check_root(log.root(300))


def test_the_empty_tree(log: NaiveLog) -> None:
    """It has a root and no tiles."""
    hashes = TileHashes(0, {})
    hashes.check_root(EMPTY_ROOT)
    with pytest.raises(ProofError, match=f"size 0 have the root {EMPTY_ROOT.hex()}, expected {log.root(1).hex()}"):
        hashes.check_root(log.root(1))
    with pytest.raises(ProofError, match=r"tile/0/000\.p/1 is no tile of a tree of size 0"):
        TileHashes(0, log.fetch([Tile(0, 0, 1)])).check_root(EMPTY_ROOT)


def test_attack_forged_tile_below_an_honest_edge(log: NaiveLog) -> None:
    """The root alone does not show it: a child is compared with its parent, on every level."""
    for forged in (Tile(0, 5, TILE_WIDTH), Tile(1, 0, TILE_WIDTH)):
        tiles = log.fetch({*tiles_to_trust([Range(5 * 256, 5 * 256 + 1)], SIZE), forged})
        hashes = TileHashes(SIZE, {**tiles, forged: bytes(forged.byte_size)})
        assert hashes.root() == log.root(SIZE)
        with pytest.raises(ProofError, match=f"{forged} has the hash .*, its parent says"):
            hashes.check_root(log.root(SIZE))


def test_attack_consistent_forgery_of_a_whole_path(log: NaiveLog) -> None:
    """A tile, its parent and the edge above that fit to each other do not fit to the root that was signed."""
    honest = NaiveLog(SIZE)
    honest.rows[0][1280] = leaf_hash(b"forged")
    honest.rows[1][5] = root_of(honest.rows[0][1280:1536])
    honest.rows[2][0] = root_of(honest.rows[1][:256])
    hashes = TileHashes(SIZE, honest.fetch(tiles_to_trust([Range(1280, 1281)], SIZE)))
    with pytest.raises(ProofError, match=f"expected {log.root(SIZE).hex()}"):
        hashes.check_root(log.root(SIZE))


def test_attack_one_bit_in_each_hash_of_each_tile(log: NaiveLog) -> None:
    """There is no hash, needed for a proof or not, that the check does not cover."""
    tiles = log.fetch(all_tiles(0, 300))
    for tile, body in tiles.items():
        for at in range(0, tile.byte_size, 32):
            forged = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
            with pytest.raises(ProofError, match=f"{tile} has the hash" if tile.is_full else "size 300 have the root"):
                TileHashes(300, {**tiles, tile: forged}).check_root(log.root(300))


def test_attack_tile_of_another_place(log: NaiveLog) -> None:
    """A genuine tile under another index is found."""
    tiles = log.fetch([*edge_tiles(SIZE), Tile(1, 0, TILE_WIDTH)])
    (body,) = log.fetch([Tile(0, 6, TILE_WIDTH)]).values()
    with pytest.raises(ProofError, match="tile/0/005 has the hash"):
        TileHashes(SIZE, {**tiles, Tile(0, 5, TILE_WIDTH): body}).check_root(log.root(SIZE))


def test_tiles_that_change_afterwards_do_not(log: NaiveLog) -> None:
    """What was checked is what is answered from, whatever becomes of the caller's mapping."""
    tiles = log.fetch(all_tiles(0, 300))
    hashes = TileHashes(300, tiles)
    hashes.check_root(log.root(300))
    tiles[Tile(0, 0, TILE_WIDTH)] = bytes(8192)
    assert (hashes.size, hash_of(hashes, 0)) == (300, log.rows[0][0])


@pytest.mark.parametrize("step", [1, 255, 256, 257, 65_537])
def test_a_growing_log_writes_the_right_tiles(log: NaiveLog, step: int) -> None:
    """In steps of any size, each writes just the tiles that `all_tiles` names, and keeps only the right edge."""
    last = min(SIZE, step * 700)
    sizes = [*range(0, last, step), last]
    edge: dict[Tile, bytes] = {}
    for old, new in pairwise(sizes):
        made = make_tiles(TileHashes(old, edge), log.rows[0][old:new])
        assert list(made) == list(all_tiles(old, new))
        assert made == log.fetch(made)
        edge = {tile: made.get(tile) or edge[tile] for tile in edge_tiles(new)}
    TileHashes(last, edge).check_root(log.root(last))


def test_growing_by_nothing_writes_nothing(log: NaiveLog) -> None:
    """No entries, no tiles, and not even the edge is looked at."""
    assert make_tiles(TileHashes(300, {}), []) == {}


def test_what_a_log_cannot_append(log: NaiveLog) -> None:
    """Without its edge, with what is no hash, and beyond the largest tree."""
    append = partial(make_tiles, leaves=[log.rows[0][0]])
    with pytest.raises(ProofError, match=r"tile/0/001\.p/44 of a tree of size 300 is missing"):
        append(TileHashes(300, {}))
    with pytest.raises(ConfigurationError, match="the hash of an entry has 32 bytes"):
        make_tiles(TileHashes(0, {}), [Hash(bytes(31))])
    with pytest.raises(ConfigurationError, match=f"sizes {2**63 - 1} and {2**63}"):
        append(TileHashes(2**63 - 1, {}))
