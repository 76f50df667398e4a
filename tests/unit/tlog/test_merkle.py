"""Merkle trees: hashes, nodes, plans, and the proofs made by them, against the definitions."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_PROOF_HASHES,
    Hash,
    Range,
    complete_ranges,
    is_subtree,
    leaf_hash,
    make_proof,
    node_hash,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
    plan_subtree,
    root_of,
    subtree_hash,
)
from tests.unit.tlog.naive_merkle import NaiveTree, SparseTree, is_aligned, subtrees

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE = 2**63 - 1
LARGEST = 70
TREE = NaiveTree([bytes([index]) for index in range(LARGEST)])
LEAVES = [leaf_hash(entry) for entry in TREE.entries]


def test_hashes_are_those_of_rfc_6962() -> None:
    """Entries and nodes are hashed with different first bytes; the empty tree is the hash of nothing."""
    assert hashlib.sha256(b"").digest() == EMPTY_ROOT
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert node_hash(LEAVES[1], LEAVES[2]) == Hash(hashlib.sha256(b"\x01" + LEAVES[1] + LEAVES[2]).digest())
    assert {len(EMPTY_ROOT), len(leaf_hash(b"an entry")), len(node_hash(EMPTY_ROOT, EMPTY_ROOT))} == {HASH_BYTES}


def test_an_entry_cannot_pose_as_a_node() -> None:
    """The hash of two hashes as an entry is another than that of the node above them."""
    assert leaf_hash(LEAVES[0] + LEAVES[1]) != node_hash(LEAVES[0], LEAVES[1])


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_roots_are_those_of_the_definition(size: int) -> None:
    """From the leaves, and from complete nodes."""
    expected = TREE.mth(0, size)
    assert root_of(LEAVES[:size]) == expected
    assert subtree_hash(Range(0, size), TREE.hash_of) == expected


def test_the_leaves_stay_as_they_are() -> None:
    """The caller's list is not used up."""
    leaves = LEAVES[:7]
    root_of(leaves)
    assert leaves == LEAVES[:7]


def test_a_large_tree_needs_no_recursion() -> None:
    """And not much time either."""
    count = 100_000
    tree = SparseTree({count - 1: b"last"})
    leaves = [leaf_hash(b"")] * (count - 1) + [leaf_hash(b"last")]
    assert root_of(leaves) == subtree_hash(Range(0, count), tree.hash_of)


def test_ranges_are_written_as_in_the_specifications() -> None:
    """Half open."""
    assert str(Range(8, 13)) == "[8, 13)"


def test_subtrees_are_those_of_the_draft() -> None:
    """Every range of small numbers, by the definition."""
    ranges = [(start, end) for start in range(40) for end in range(40)]
    expected = [(start, end) for start, end in ranges if start <= end and is_aligned(start, end)]
    assert [found for found in ranges if is_subtree(*found)] == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (-1, 0, False),
        (-4, -2, False),
        (2, 1, False),
        (5, 5, True),
        (0, MAX_SIZE, True),
        (2**62, MAX_SIZE, True),
        (2**61, MAX_SIZE, False),
        (2**62 + 1, MAX_SIZE, False),
        (MAX_SIZE - 1, MAX_SIZE, True),
        (1, 2**63 + 2, False),
    ],
)
def test_subtrees_at_the_edges(start: int, end: int, expected: bool) -> None:  # noqa: FBT001 # a column of the table
    """Negative, reversed, empty and very large ranges."""
    assert is_subtree(start, end) is expected


@pytest.mark.parametrize(
    ("start", "end", "nodes"),
    [
        (0, 0, []),
        (7, 7, []),
        (0, 1, [(0, 1)]),
        (0, 8, [(0, 8)]),
        (0, 7, [(0, 4), (4, 6), (6, 7)]),
        (8, 13, [(8, 12), (12, 13)]),
        (3, 13, [(3, 4), (4, 8), (8, 12), (12, 13)]),
        (1, 3, [(1, 2), (2, 3)]),
    ],
)
def test_a_range_falls_into_nodes(start: int, end: int, nodes: list[tuple[int, int]]) -> None:
    """Subtrees and other ranges."""
    assert complete_ranges(start, end) == [Range(*node) for node in nodes]


def test_nodes_of_a_range_join_and_are_the_largest() -> None:
    """They touch, they are complete, and no two of them have a node above that lies in the range."""
    for start in range(24):
        for end in range(start, 24):
            nodes = complete_ranges(start, end)
            assert [i for node in nodes for i in range(node.start, node.end)] == list(range(start, end))
            for node in nodes:
                width = node.end - node.start
                assert width & (width - 1) == 0
                assert node.start % width == 0
                parent = node.start - node.start % (2 * width)
                assert parent < start or parent + 2 * width > end


def test_nodes_of_the_largest_ranges() -> None:
    """Every power of two once."""
    nodes = complete_ranges(0, MAX_SIZE)
    assert [node.end - node.start for node in nodes] == [1 << level for level in range(62, -1, -1)]
    assert complete_ranges(1, 2**62) == [Range(1 << level, 2 << level) for level in range(62)]


@pytest.mark.parametrize(("start", "end"), [(-1, 1), (2, 1), (0, MAX_SIZE + 1)])
def test_what_is_no_range_has_no_nodes(start: int, end: int) -> None:
    """Negative, reversed, too large."""
    with pytest.raises(
        ConfigurationError, match=rf"^\[{start}, {end}\) is not a range of entries: expected 0 <= start"
    ):
        complete_ranges(start, end)


def test_what_is_no_subtree_has_no_hash() -> None:
    """Its hash would be of no use."""
    with pytest.raises(ConfigurationError, match=r"^\[1, 3\) is not a subtree: expected .* multiple"):
        subtree_hash(Range(1, 3), TREE.hash_of)


def test_an_empty_subtree_asks_for_nothing() -> None:
    """Wherever it is."""

    def refuse(node: Range) -> Hash:
        raise AssertionError(node)

    assert subtree_hash(Range(5, 5), refuse) == EMPTY_ROOT


def test_the_draft_s_examples_of_plans() -> None:
    """Figures of sections 4.3 and 4.4 and of the appendix, and the tree of RFC 6962, section 2.1.3."""
    assert plan_inclusion(10 - 8, 13 - 8) == [Range(3, 4), Range(0, 2), Range(4, 5)]
    assert plan_subtree(4, 8, 14) == [Range(0, 4), Range(8, 14)]
    assert plan_subtree(8, 13, 14) == [Range(12, 13), Range(13, 14), Range(8, 12), Range(0, 8)]
    assert plan_consistency(6, 8) == [Range(4, 6), Range(6, 8), Range(0, 4)]
    assert plan_consistency(6, 7) == [Range(4, 6), Range(6, 7), Range(0, 4)]
    assert plan_consistency(3, 7) == [Range(2, 3), Range(3, 4), Range(0, 2), Range(4, 7)]
    assert plan_consistency(4, 7) == [Range(4, 7)]
    assert plan_inclusion(6, 7) == [Range(4, 6), Range(0, 4)]


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_proofs_are_those_of_the_definitions(size: int) -> None:
    """Of every entry, every earlier tree and every subtree, byte for byte."""
    for index in range(size):
        assert make_proof(plan_inclusion(index, size), TREE.hash_of) == TREE.path(index, 0, size)
    for old in range(size + 1):
        assert make_proof(plan_consistency(old, size), TREE.hash_of) == TREE.proof(old, size)
    for span in subtrees(size):
        found = make_proof(plan_subtree(span.start, span.end, size), TREE.hash_of)
        assert found == TREE.subtree_proof(span.start, span.end, size)


@pytest.mark.parametrize("size", [1, 2, 13, 64, 69])
def test_the_nodes_needed_are_those_asked_for(size: int) -> None:
    """In that order and each once, so that all can be fetched beforehand."""
    for span in subtrees(size):
        asked: list[Range] = []

        def hash_of(node: Range, asked: list[Range] = asked) -> Hash:
            asked.append(node)
            return TREE.hash_of(node)

        plan = plan_subtree(span.start, span.end, size)
        make_proof(plan, hash_of)
        assert asked == nodes_needed(plan)
        assert len(set(asked)) == len(asked)


def test_plans_of_the_largest_trees() -> None:
    """As many hashes as the tree is high; the known hole of one too many is where the module says it is."""
    assert len(plan_inclusion(0, MAX_SIZE)) == len(plan_inclusion(MAX_SIZE - 1, MAX_SIZE)) + 1 == MAX_PROOF_HASHES
    assert plan_consistency(2**62, MAX_SIZE) == [Range(2**62, MAX_SIZE)]
    assert plan_subtree(2**62, MAX_SIZE, MAX_SIZE) == [Range(0, 2**62)]
    assert max(len(plan_consistency(old, 2**62)) for old in (3, 2**61 + 1, 2**62 - 1)) == MAX_PROOF_HASHES
    assert len(plan_consistency(3, 2**62 + 1)) == MAX_PROOF_HASHES + 1
    assert len(nodes_needed(plan_consistency(3, MAX_SIZE))) == 2 * MAX_PROOF_HASHES - 1


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda: plan_inclusion(-1, 1), "entry -1 of a tree of size 1: expected 0 <= index < size"),
        (lambda: plan_inclusion(0, 0), "entry 0 of a tree of size 0"),
        (lambda: plan_inclusion(5, 5), "entry 5 of a tree of size 5"),
        (lambda: plan_inclusion(0, MAX_SIZE + 1), f"entry 0 of a tree of size {MAX_SIZE + 1}"),
        (lambda: plan_consistency(-1, 1), "a tree that grows from size -1 to 1: expected 0 <= old <= new"),
        (lambda: plan_consistency(2, 1), "a tree that grows from size 2 to 1"),
        (lambda: plan_consistency(0, MAX_SIZE + 1), f"a tree that grows from size 0 to {MAX_SIZE + 1}"),
        (lambda: plan_subtree(0, 2, 1), r"\[0, 2\) in a tree of size 1: expected end <= size"),
        (lambda: plan_subtree(0, 1, MAX_SIZE + 1), rf"\[0, 1\) in a tree of size {MAX_SIZE + 1}"),
        (lambda: plan_subtree(-1, 0, 1), r"\[-1, 0\) is not a subtree"),
        (lambda: plan_subtree(-2, -1, 1), r"\[-2, -1\) is not a subtree"),
        (lambda: plan_subtree(2, 1, 2), r"\[2, 1\) is not a subtree"),
        (lambda: plan_subtree(2, 6, 8), r"\[2, 6\) is not a subtree"),
    ],
)
def test_what_is_no_question_has_no_plan(plan: Callable[[], list[Range]], message: str) -> None:
    """Negative, reversed, outside of the tree, too large, not a subtree."""
    with pytest.raises(ConfigurationError, match=f"^{message}"):
        plan()
