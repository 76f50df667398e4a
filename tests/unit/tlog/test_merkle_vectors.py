"""Merkle trees and proofs: published vectors (tests/data/tlog/merkle/README.md says whose)."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import ConfigurationError, ProofError
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    Hash,
    Range,
    check_consistency,
    check_inclusion,
    check_subtree,
    is_subtree,
    leaf_hash,
    make_proof,
    node_hash,
    plan_consistency,
    plan_inclusion,
    plan_subtree,
    root_of,
    subtree_hash,
)
from tests.unit.tlog.naive_merkle import NaiveTree, flip

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 130
TREE = NaiveTree([bytes([index]) for index in range(LARGEST)])

PUBLISHED: dict[str, Any] = json.loads(
    (Path(__file__).parents[2] / "data" / "tlog" / "merkle" / "rfc6962.json").read_text()
)
ENTRIES = [bytes.fromhex(text) for text in PUBLISHED["entries"]]
NODES = [[Hash(bytes.fromhex(text)) for text in level] for level in PUBLISHED["nodes"]]
ROOTS = [Hash(bytes.fromhex(text)) for text in PUBLISHED["roots"]]
OTHER = leaf_hash(b"another")


def subtrees(largest: int = LARGEST) -> Iterator[Range]:
    for end in range(largest + 1):
        for start in range(end + 1):
            if is_subtree(start, end):
                yield Range(start, end)


def published_hash_of(node: Range) -> Hash:
    """Return the hash of a complete node of the published tree."""
    width = node.end - node.start
    return NODES[width.bit_length() - 1][node.start // width]


def published_proof(case: dict[str, Any]) -> list[Hash]:
    return [Hash(bytes.fromhex(text)) for text in case["proof"]]


def variants(proof: list[Hash], more: list[Hash]) -> Iterator[list[Hash]]:
    """Yield proofs that are nearly this one: a hash is changed, left out, put in or moved."""
    for place, original in enumerate(proof):
        yield [*proof[:place], flip(original, 252), *proof[place + 1 :]]
        yield proof[:place] + proof[place + 1 :]
    for place in range(len(proof) + 1):
        for extra in (Hash(b""), *more):
            yield [*proof[:place], extra, *proof[place:]]
    if len(proof) > 1:
        yield proof[::-1]


def test_the_published_hashes() -> None:
    """Of eight entries, of every complete node, and of the tree at each size."""
    assert [leaf_hash(entry) for entry in ENTRIES] == NODES[0]
    for below, level in pairwise(NODES):
        assert [node_hash(left, right) for left, right in zip(below[::2], below[1::2], strict=True)] == level
    assert len(ROOTS) == len(ENTRIES) + 1
    for size, root in enumerate(ROOTS):
        assert root_of(NODES[0][:size]) == subtree_hash(Range(0, size), published_hash_of) == root


@pytest.mark.parametrize("case", PUBLISHED["inclusion"], ids=lambda case: f"{case['index']} of {case['size']}")
def test_published_inclusion_proofs(case: dict[str, Any]) -> None:
    """They are made and accepted, and nothing near them is."""
    index, size, proof = case["index"], case["size"], published_proof(case)
    leaf, root = NODES[0][index], ROOTS[size]
    assert make_proof(plan_inclusion(index, size), published_hash_of) == proof
    check_inclusion(proof, index=index, size=size, leaf=leaf, root=root)
    for other in {index - 1, index + 1, index ^ 2}:
        with pytest.raises((ProofError, ConfigurationError)):
            check_inclusion(proof, index=other, size=size, leaf=leaf, root=root)
    for other in {size * 2, size // 2}:
        with pytest.raises((ProofError, ConfigurationError)):
            check_inclusion(proof, index=index, size=other, leaf=leaf, root=root)
    for wrong_leaf, wrong_root in ((OTHER, root), (leaf, OTHER), (leaf, EMPTY_ROOT), (leaf, Hash(b""))):
        with pytest.raises(ProofError):
            check_inclusion(proof, index=index, size=size, leaf=wrong_leaf, root=wrong_root)
    for wrong in variants(proof, [root, leaf, OTHER]):
        with pytest.raises(ProofError):
            check_inclusion(wrong, index=index, size=size, leaf=leaf, root=root)


@pytest.mark.parametrize("case", PUBLISHED["consistency"], ids=lambda case: f"{case['old']} to {case['new']}")
def test_published_consistency_proofs(case: dict[str, Any]) -> None:
    """They are made and accepted, and nothing near them is."""
    old, new, proof = case["old"], case["new"], published_proof(case)
    first, second = ROOTS[old], ROOTS[new]
    assert make_proof(plan_consistency(old, new), published_hash_of) == proof
    check_consistency(proof, old_size=old, old_root=first, new_size=new, new_root=second)
    for wrong in variants(proof, [first, second, OTHER]):
        with pytest.raises(ProofError):
            check_consistency(wrong, old_size=old, old_root=first, new_size=new, new_root=second)
    for roots in ((OTHER, second), (first, OTHER), (EMPTY_ROOT, second), (first, Hash(b""))):
        with pytest.raises(ProofError):
            check_consistency(proof, old_size=old, old_root=roots[0], new_size=new, new_root=roots[1])
    if old == new:
        return  # a tree is consistent with itself at any size
    for sizes in ((old - 1, new), (old + 1, new), (old ^ 2, new), (old, new * 2), (old, new // 2)):
        with pytest.raises((ProofError, ConfigurationError)):
            check_consistency(proof, old_size=sizes[0], old_root=first, new_size=sizes[1], new_root=second)
    with pytest.raises(ProofError):
        check_consistency(proof, old_size=old, old_root=second, new_size=new, new_root=first)


def test_a_deliberate_difference_to_where_the_vectors_are_from() -> None:
    """There, any two equal texts are the roots of two empty trees, and any goes with size 0; the witness knows one."""
    for length in (12, 32):
        root = Hash(bytes(length))
        for old_root, new_root in ((root, root), (EMPTY_ROOT, root), (root, EMPTY_ROOT)):
            with pytest.raises(ProofError):
                check_consistency([], old_size=0, old_root=old_root, new_size=0, new_root=new_root)
        with pytest.raises(ProofError):
            check_consistency([], old_size=0, old_root=root, new_size=1, new_root=ROOTS[1])
    check_consistency([], old_size=0, old_root=EMPTY_ROOT, new_size=1, new_root=ROOTS[1])


def test_a_random_root_of_an_empty_tree_is_refused() -> None:
    """An empty subtree goes with the root of any tree that is not empty; SPEC tlog-witness knows the empty tree's."""
    with pytest.raises(ProofError, match=r"as hash of \[0, 0\)"):
        check_subtree([], start=0, end=0, subtree=EMPTY_ROOT, size=0, root=leaf_hash(b""))


def test_a_subtree_has_its_entries() -> None:
    """A subtree is a tree whose entries are counted from its start: each has its proof by the definition."""
    for span in subtrees(20):
        root = TREE.mth(span.start, span.end)
        for index in range(span.start, span.end):
            proof = TREE.path(index, span.start, span.end)
            place, size, leaf = index - span.start, span.end - span.start, TREE.mth(index, index + 1)
            check_inclusion(proof, index=place, size=size, leaf=leaf, root=root)
            with pytest.raises(ProofError):
                check_inclusion(proof, index=place, size=size, leaf=OTHER, root=root)


def test_the_accumulated_vector_of_subtree_hashes() -> None:
    """The draft's "Subtree Hashes": every subtree of trees up to size 130."""
    rolling = hashlib.sha256()
    for span in subtrees():
        rolling.update(f"{span} {subtree_hash(span, TREE.hash_of).hex()}\n".encode())
    assert rolling.hexdigest() == "b82806ad4265bb151c1119c0f4db437bb4d1a1f887b3a7fba1cd4ebf552e3e81"


@pytest.mark.slow
def test_the_accumulated_vector_of_inclusion_proofs() -> None:
    """The draft's "Subtree Inclusion Proofs": every entry of every subtree."""
    rolling = hashlib.sha256()
    for span in subtrees():
        for index in range(span.start, span.end):
            plan = plan_inclusion(index - span.start, span.end - span.start)
            moved = [Range(span.start + found.start, span.start + found.end) for found in plan]
            line = "".join(f" {found.hex()}" for found in make_proof(moved, TREE.hash_of))
            rolling.update(f"{index} {span}{line}\n".encode())
    assert rolling.hexdigest() == "ac2a8f989e44d99e399db448050ff5f19757df53cfb716aa81015d3955d8163f"


@pytest.mark.slow
def test_the_accumulated_vector_of_consistency_proofs() -> None:
    """The draft's "Subtree Consistency Proofs": every subtree in every tree that holds it."""
    rolling = hashlib.sha256()
    every = list(subtrees())
    for size in range(LARGEST + 1):
        for span in every:
            if span.end <= size:
                proof = make_proof(plan_subtree(span.start, span.end, size), TREE.hash_of)
                line = "".join(f" {found.hex()}" for found in proof)
                rolling.update(f"{span} {size}{line}\n".encode())
    assert rolling.hexdigest() == "10fa99b37bf9bf9ffa26b412fbd98bd75363256d0b75d61bc4538b9c9c5a0a74"
