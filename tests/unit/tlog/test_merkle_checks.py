"""Checking of Merkle proofs: what is true is accepted, and everything else is refused."""

from __future__ import annotations

import base64
from contextlib import nullcontext
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, ProofError
from mirrorwitness.tlog.merkle import (
    EMPTY_ROOT,
    MAX_PROOF_HASHES,
    Hash,
    Range,
    check_consistency,
    check_inclusion,
    check_subtree,
    leaf_hash,
    make_proof,
    node_hash,
    plan_consistency,
    plan_inclusion,
    plan_subtree,
    subtree_hash,
)
from tests.unit.tlog.naive_merkle import NaiveTree, SparseTree, Statement, flip, subtrees

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SIZE = 2**63 - 1
LARGEST = 70
TREE = NaiveTree([bytes([index]) for index in range(LARGEST)])
OTHER = leaf_hash(b"another")


def show(found: bytes) -> str:
    return base64.b64encode(found).decode()


@pytest.mark.parametrize("size", range(LARGEST + 1))
def test_every_true_statement_is_accepted(size: int) -> None:
    """Of every entry, every earlier tree and every subtree, with the proof of the definition."""
    root = TREE.mth(0, size)
    for index in range(size):
        leaf = TREE.mth(index, index + 1)
        check_inclusion(TREE.path(index, 0, size), index=index, size=size, leaf=leaf, root=root)
    for old in range(size + 1):
        old_root = TREE.mth(0, old)
        check_consistency(TREE.proof(old, size), old_size=old, old_root=old_root, new_size=size, new_root=root)
    for span in subtrees(size):
        proof = TREE.subtree_proof(span.start, span.end, size)
        subtree = TREE.mth(span.start, span.end)
        check_subtree(proof, start=span.start, end=span.end, subtree=subtree, size=size, root=root)


@pytest.mark.parametrize("size", [*range(1, 18), 31, 33, 64, 69])
def test_every_other_entry_or_tree_is_refused(size: int) -> None:
    """Another hash in the place of the part, of the root, or of both; a tree is consistent with itself."""
    for span in subtrees(size):
        true = TREE.statement(span.start, span.end, size)
        assert true.is_accepted()
        assert not true._replace(subtree=OTHER).is_accepted()
        assert true._replace(root=OTHER).is_accepted() == (span.start == span.end)
        assert true._replace(subtree=OTHER, root=OTHER).is_accepted() == (span == Range(0, size))


@pytest.mark.parametrize("size", range(13))
def test_the_draft_s_procedure_gives_the_same_answers(size: int) -> None:
    """To questions that differ in one bit of a number: a few proofs fit these too, because none binds a size."""
    for span in subtrees(size):
        true = TREE.statement(span.start, span.end, size)
        for bit in (1 << shift for shift in range(5)):
            for other in (
                true._replace(start=true.start ^ bit),
                true._replace(end=true.end ^ bit),
                true._replace(size=true.size ^ bit),
            ):
                if other.size:  # of an empty tree the product wants the root, about which the draft is silent
                    assert other.is_accepted() == other.is_right(), other


def test_a_proof_does_not_bind_the_size() -> None:
    """The known hole: entry 0 of 5 is as well entry 0 of 6, so the size has to come with the root."""
    proof, leaf, root = TREE.path(0, 0, 5), TREE.mth(0, 1), TREE.mth(0, 5)
    check_inclusion(proof, index=0, size=5, leaf=leaf, root=root)
    check_inclusion(proof, index=0, size=6, leaf=leaf, root=root)
    with pytest.raises(ProofError):
        check_inclusion(proof, index=0, size=9, leaf=leaf, root=root)


@pytest.mark.parametrize(
    ("start", "end", "size"), [(0, 3, 7), (0, 6, 8), (0, 4, 5), (6, 7, 7), (8, 13, 14), (5, 6, 13)]
)
def test_every_changed_bit_of_a_hash_is_refused(start: int, end: int, size: int) -> None:
    """In the proof, the part and the root."""
    true = TREE.statement(start, end, size)
    assert true.is_accepted()
    for bit in range(256):
        assert not true._replace(subtree=flip(true.subtree, bit)).is_accepted()
        assert not true._replace(root=flip(true.root, bit)).is_accepted()
        for place, original in enumerate(true.proof):
            altered = [*true.proof[:place], flip(original, bit), *true.proof[place + 1 :]]
            assert not true._replace(proof=altered).is_accepted()


@pytest.mark.parametrize("size", [1, 2, 7, 8, 13, 35])
def test_every_other_length_of_a_proof_is_refused(size: int) -> None:
    """Without its first or last hash, with one more at either end, with one twice, empty."""
    for span in subtrees(size):
        true = TREE.statement(span.start, span.end, size)
        proof = list(true.proof)
        altered = [
            [OTHER, *proof],
            [*proof, OTHER],
            [*proof, true.root],
            [*proof, true.subtree],
            [*proof, *proof, OTHER],
        ]
        if proof:
            altered += [proof[1:], proof[:-1], [], [proof[0], *proof]]
        for wrong in altered:
            with pytest.raises(ProofError, match=f"has {len(wrong)} hashes, expected {len(proof)}$"):
                true._replace(proof=wrong).check()


@pytest.mark.parametrize("size", [5, 8, 14])
def test_hashes_in_another_order_are_refused(size: int) -> None:
    """Every exchange of neighbours."""
    for span in subtrees(size):
        true = TREE.statement(span.start, span.end, size)
        proof = true.proof
        for place in range(len(proof) - 1):
            altered = [*proof[:place], proof[place + 1], proof[place], *proof[place + 2 :]]
            assert not true._replace(proof=altered).is_accepted()


def test_bytes_cannot_move_between_hashes() -> None:
    """A leaf that is one byte longer beside a hash that is one byte shorter has the same node above, and is refused."""
    left, right = leaf_hash(b"left"), leaf_hash(b"right")
    longer, shorter = Hash(left + right[:1]), Hash(right[1:])
    assert node_hash(longer, shorter) == node_hash(left, right)
    with pytest.raises(ProofError, match=r"the hash given for \[0, 1\) has 33 bytes, expected 32$"):
        check_inclusion([shorter], index=0, size=2, leaf=longer, root=node_hash(left, right))


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_hashes_of_another_length_are_refused(length: int) -> None:
    """Each in its place, also where it is compared with nothing else."""
    wrong = Hash(bytes(length))
    true = TREE.statement(0, 3, 7)
    altered = [
        *[
            true._replace(proof=[*true.proof[:place], wrong, *true.proof[place + 1 :]])
            for place in range(len(true.proof))
        ],
        true._replace(subtree=wrong),
        true._replace(root=wrong),
        Statement([], 0, 7, wrong, 7, wrong),
        Statement([], 0, 0, EMPTY_ROOT, 7, wrong),
        Statement([], 3, 3, wrong, 7, true.root),
    ]
    for statement in altered:
        with pytest.raises(ProofError, match=rf"the hash given for \[\d, \d\) has {length} bytes, expected 32$"):
            statement.check()


@pytest.mark.parametrize(
    ("old", "new", "proof", "problem"),
    [
        ((0, EMPTY_ROOT), (0, EMPTY_ROOT), [], None),
        ((0, EMPTY_ROOT), (7, OTHER), [], None),
        ((7, OTHER), (7, OTHER), [], None),
        ((0, OTHER), (7, OTHER), [], r"as hash of \[0, 0\), expected"),
        ((0, OTHER), (0, EMPTY_ROOT), [], r"as hash of \[0, 0\), expected"),
        ((0, EMPTY_ROOT), (0, OTHER), [], r"as hash of \[0, 0\), expected"),
        ((0, OTHER), (0, OTHER), [], r"as hash of \[0, 0\), expected"),
        ((0, EMPTY_ROOT), (7, OTHER), [OTHER], "has 1 hashes, expected 0"),
        ((0, EMPTY_ROOT), (0, EMPTY_ROOT), [EMPTY_ROOT], "has 1 hashes, expected 0"),
        ((7, OTHER), (7, OTHER), [OTHER], "has 1 hashes, expected 0"),
        ((7, EMPTY_ROOT), (7, OTHER), [], r"as hash of \[0, 7\), expected"),
        ((1, EMPTY_ROOT), (7, OTHER), [], "has 0 hashes, expected 3"),
    ],
)
def test_the_witness_s_rules_about_empty_and_equal_trees(
    old: tuple[int, Hash], new: tuple[int, Hash], proof: list[Hash], problem: str | None
) -> None:
    """SPEC tlog-witness, add-checkpoint: from size 0 the proof is empty; at one size the roots are equal."""
    expected = f"^consistency proof from size {old[0]} to size {new[0]}: .*{problem}"
    with pytest.raises(ProofError, match=expected) if problem else nullcontext():
        check_consistency(proof, old_size=old[0], old_root=old[1], new_size=new[0], new_root=new[1])


def test_an_empty_subtree_says_nothing_about_the_tree() -> None:
    """Its own hash is that of nothing; the root may be any."""
    check_subtree([], start=3, end=3, subtree=EMPTY_ROOT, size=7, root=OTHER)
    with pytest.raises(ProofError, match=r"^consistency proof of subtree \[3, 3\) in the tree of size 7: leads to "):
        check_subtree([], start=3, end=3, subtree=OTHER, size=7, root=OTHER)


def test_messages_name_what_was_found_and_what_was_expected() -> None:
    """Sizes, counts, and both hashes in base64, as they stand in checkpoints."""
    proof, old, new = TREE.proof(3, 7), TREE.mth(0, 3), TREE.mth(0, 7)
    title = "consistency proof from size 3 to size 7"
    with pytest.raises(ProofError) as caught:
        check_consistency(proof, old_size=3, old_root=old, new_size=7, new_root=OTHER)
    assert str(caught.value) == f"{title}: leads to {show(new)} as hash of [0, 7), expected {show(OTHER)}"
    with pytest.raises(ProofError) as caught:
        check_consistency(proof, old_size=3, old_root=OTHER, new_size=7, new_root=new)
    assert str(caught.value) == f"{title}: leads to {show(old)} as hash of [0, 3), expected {show(OTHER)}"
    with pytest.raises(ProofError) as caught:
        check_inclusion(TREE.path(2, 0, 3), index=2, size=3, leaf=TREE.mth(2, 3), root=OTHER)
    expected = f"leads to {show(old)} as hash of [0, 3), expected {show(OTHER)}"
    assert str(caught.value) == f"inclusion proof of entry 2 in the tree of size 3: {expected}"


def test_a_fork_is_refused() -> None:
    """A log that replaced one old entry has no proof of the old tree: neither its own nor the true one fits."""
    forged = NaiveTree([*TREE.entries[:2], b"replaced", *TREE.entries[3:]])
    for proof in (TREE.proof(5, 9), forged.proof(5, 9)):
        with pytest.raises(ProofError):
            check_consistency(proof, old_size=5, old_root=TREE.mth(0, 5), new_size=9, new_root=forged.mth(0, 9))


def test_a_huge_proof_is_refused_by_its_length() -> None:
    """Before anything is hashed; also the 64 hashes that a tree of over 2^62 entries would need (the module's BUG)."""
    for count in (MAX_PROOF_HASHES + 1, 1_000_000):
        with pytest.raises(ProofError, match=f"has {count} hashes, at most {MAX_PROOF_HASHES} are allowed"):
            check_inclusion([OTHER] * count, index=0, size=2, leaf=OTHER, root=OTHER)
    tree = SparseTree({2: b"two"})
    proof = make_proof(plan_consistency(3, MAX_SIZE), tree.hash_of)
    roots = [subtree_hash(Range(0, size), tree.hash_of) for size in (3, MAX_SIZE)]
    with pytest.raises(ProofError, match=r"from size 3 .* has 64 hashes, at most 63 are allowed"):
        check_consistency(proof, old_size=3, old_root=roots[0], new_size=MAX_SIZE, new_root=roots[1])


@pytest.mark.parametrize("size", [MAX_SIZE, MAX_SIZE - 1, 2**62 + 1, 2**62, 2**62 - 1])
def test_the_largest_trees_are_proved(size: int) -> None:
    """Entries, earlier trees and subtrees at both ends and beside the middle; a neighbour's place is refused."""
    places = [0, 1, 2**61 - 1, 2**61, 2**61 + 1, size // 2, size - 2, size - 1]
    tree = SparseTree({place: str(place).encode() for place in places})
    root = subtree_hash(Range(0, size), tree.hash_of)
    for index in places:
        proof = make_proof(plan_inclusion(index, size), tree.hash_of)
        leaf = leaf_hash(str(index).encode())
        check_inclusion(proof, index=index, size=size, leaf=leaf, root=root)
        with pytest.raises(ProofError):
            check_inclusion(proof, index=index ^ 1 if index ^ 1 < size else index - 1, size=size, leaf=leaf, root=root)
    for old in (2**32, 2**61, 2**61 + 2**20, (size - 2**40) & -2, size // 2 + 2 & -2, size):
        proof = make_proof(plan_consistency(old, size), tree.hash_of)
        old_root = subtree_hash(Range(0, old), tree.hash_of)
        check_consistency(proof, old_size=old, old_root=old_root, new_size=size, new_root=root)
        with pytest.raises(ProofError):
            check_consistency(proof, old_size=old, old_root=OTHER, new_size=size, new_root=root)
    for start, end in ((2**61, 2**62 - 2**20), (size & -256, size), (2**60, 2**60 + 2**59 + 2**7)):
        proof = make_proof(plan_subtree(start, end, size), tree.hash_of)
        subtree = subtree_hash(Range(start, end), tree.hash_of)
        check_subtree(proof, start=start, end=end, subtree=subtree, size=size, root=root)


@pytest.mark.parametrize(
    "check",
    [
        lambda: check_inclusion([], index=-1, size=1, leaf=OTHER, root=OTHER),
        lambda: check_inclusion([], index=1, size=1, leaf=OTHER, root=OTHER),
        lambda: check_inclusion([], index=0, size=MAX_SIZE + 1, leaf=OTHER, root=OTHER),
        lambda: check_consistency([], old_size=2, old_root=OTHER, new_size=1, new_root=OTHER),
        lambda: check_consistency([], old_size=-1, old_root=OTHER, new_size=1, new_root=OTHER),
        lambda: check_consistency([], old_size=0, old_root=EMPTY_ROOT, new_size=MAX_SIZE + 1, new_root=OTHER),
        lambda: check_subtree([], start=1, end=3, subtree=OTHER, size=8, root=OTHER),
        lambda: check_subtree([], start=0, end=9, subtree=OTHER, size=8, root=OTHER),
        lambda: check_subtree([], start=-1, end=-1, subtree=EMPTY_ROOT, size=8, root=OTHER),
    ],
)
def test_what_is_no_question_is_the_caller_s_fault(check: Callable[[], None]) -> None:
    """It is no evidence against anybody."""
    with pytest.raises(ConfigurationError):
        check()
