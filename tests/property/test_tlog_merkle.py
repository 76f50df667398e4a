"""Properties of Merkle trees and proofs."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import assume, example, given
from hypothesis import strategies as st

from mirrorwitness.tlog.merkle import (
    MAX_PROOF_HASHES,
    Range,
    check_consistency,
    check_inclusion,
    check_subtree,
    complete_ranges,
    is_subtree,
    leaf_hash,
    make_proof,
    nodes_needed,
    plan_consistency,
    plan_inclusion,
    plan_subtree,
    root_of,
    subtree_hash,
)
from tests.unit.tlog.naive_merkle import NaiveTree, SparseTree, Statement, flip

MAX_SIZE = 2**63 - 1
ENTRIES = st.lists(st.binary(max_size=3), max_size=300)
SIZES = st.integers(0, MAX_SIZE)


@st.composite
def subtrees_of(draw: st.DrawFn, size: int) -> Range:
    """Draw a subtree, with one entry at least, of a tree that has one."""
    start = draw(st.integers(0, size - 1))
    widest = size if start == 0 else min(start & -start, size - start)
    return Range(start, start + draw(st.integers(1, widest)))


@st.composite
def statements(draw: st.DrawFn) -> Statement:
    """Draw a true statement about a small tree."""
    tree = NaiveTree(draw(st.lists(st.binary(max_size=2), min_size=1, max_size=70)))
    size = len(tree.entries)
    span = draw(subtrees_of(size))
    return tree.statement(span.start, span.end, size)


@given(ENTRIES)
def test_the_root_of_leaves_is_that_of_nodes(entries: list[bytes]) -> None:
    """And that of the definition."""
    tree = NaiveTree(entries)
    root = root_of([leaf_hash(entry) for entry in entries])
    assert root == subtree_hash(Range(0, len(entries)), tree.hash_of) == tree.mth(0, len(entries))


@given(ENTRIES, st.data())
def test_what_is_made_is_accepted(entries: list[bytes], data: st.DataObject) -> None:
    """An entry, an earlier tree and a subtree of any tree."""
    tree, size = NaiveTree(entries), len(entries)
    root = tree.mth(0, size)
    old = data.draw(st.integers(0, size))
    proof = make_proof(plan_consistency(old, size), tree.hash_of)
    check_consistency(proof, old_size=old, old_root=tree.mth(0, old), new_size=size, new_root=root)
    assume(size)
    index = data.draw(st.integers(0, size - 1))
    proof = make_proof(plan_inclusion(index, size), tree.hash_of)
    check_inclusion(proof, index=index, size=size, leaf=leaf_hash(entries[index]), root=root)
    span = data.draw(subtrees_of(size))
    proof = make_proof(plan_subtree(span.start, span.end, size), tree.hash_of)
    subtree = subtree_hash(span, tree.hash_of)
    check_subtree(proof, start=span.start, end=span.end, subtree=subtree, size=size, root=root)


@given(statements(), st.data())
def test_a_changed_bit_of_a_hash_is_refused(true: Statement, data: st.DataObject) -> None:
    """Of any hash of the proof, of the part or of the root."""
    bit = data.draw(st.integers(0, 255))
    changed = [true._replace(subtree=flip(true.subtree, bit)), true._replace(root=flip(true.root, bit))]
    if true.proof:
        place = data.draw(st.integers(0, len(true.proof) - 1))
        proof = [*true.proof[:place], flip(true.proof[place], bit), *true.proof[place + 1 :]]
        changed.append(true._replace(proof=proof))
    true.check()
    assert not any(statement.is_accepted() for statement in changed)


@given(statements(), st.data())
def test_another_number_of_hashes_is_refused(true: Statement, data: st.DataObject) -> None:
    """Whatever is taken out or put in."""
    place = data.draw(st.integers(0, len(true.proof)))
    more = data.draw(st.lists(st.sampled_from([*true.proof, true.subtree, true.root]), min_size=1, max_size=70))
    changed = [true._replace(proof=[*true.proof[:place], *more, *true.proof[place:]])]
    if place < len(true.proof):
        changed.append(true._replace(proof=[*true.proof[:place], *true.proof[place + 1 :]]))
    assert not any(statement.is_accepted() for statement in changed)


@given(statements(), st.integers(-2, 80), st.integers(-2, 80), st.integers(1, 80), st.integers(0, 6))
def test_other_numbers_are_judged_as_the_draft_s_procedure_does(
    true: Statement, start: int, end: int, size: int, bit: int
) -> None:
    """Any others, and those that differ in one bit."""
    changed = [
        true._replace(start=start),
        true._replace(end=end),
        true._replace(size=size),
        true._replace(start=start, end=end),
        true._replace(start=true.start ^ (1 << bit)),
        true._replace(end=true.end ^ (1 << bit)),
        true._replace(size=true.size ^ (1 << bit) or 1),
    ]
    assert [statement.is_accepted() for statement in changed] == [statement.is_right() for statement in changed]


@given(SIZES, SIZES, SIZES)
@example(0, 0, 0)
@example(3, MAX_SIZE, MAX_SIZE)
def test_plans_have_their_size(one: int, two: int, three: int) -> None:
    """Few hashes, all of disjoint ranges that with the part make up the tree, all subtrees, all of known nodes."""
    start, end, size = sorted((one, two, three))
    plans = [(Range(0, end), plan_consistency(end, size))]
    if start < size:
        plans.append((Range(start, start + 1), plan_inclusion(start, size)))
        assert len(plans[-1][1]) <= min(MAX_PROOF_HASHES, (size - 1).bit_length())
    if is_subtree(start, end):
        plans.append((Range(start, end), plan_subtree(start, end, size)))
    for part, plan in plans:
        assert len(plan) <= (size - 1).bit_length() + 1
        assert all(span.start < span.end and is_subtree(span.start, span.end) for span in plan)
        outside = [span for span in plan if span.end <= part.start or span.start >= part.end]
        whole = sorted((span.start, span.end) for span in [part, *outside])
        if part.start < part.end:
            assert (whole[0][0], whole[-1][1]) == (0, size)
            assert all(left[1] == right[0] for left, right in pairwise(whole))
        needed = nodes_needed(plan)
        assert len(needed) <= 2 * MAX_PROOF_HASHES
        assert sum(node.end - node.start for node in needed) == sum(span.end - span.start for span in plan)


@given(SIZES, SIZES)
def test_nodes_make_up_their_range(one: int, two: int) -> None:
    """Without gaps, complete, and not more than two for each level."""
    start, end = sorted((one, two))
    nodes = complete_ranges(start, end)
    assert [node.start for node in nodes] + [end] == [start] + [node.end for node in nodes]
    widths = [node.end - node.start for node in nodes]
    assert all(width & (width - 1) == 0 and node.start % width == 0 for node, width in zip(nodes, widths, strict=True))
    assert all(widths.count(width) <= 2 for width in widths)


@given(st.integers(1, MAX_SIZE), st.data())
def test_trees_of_any_size_are_proved(size: int, data: st.DataObject) -> None:
    """An entry and an earlier tree of one with up to 2^63 - 1 entries."""
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    tree = SparseTree({index: b"one", old: b"two"})
    root = subtree_hash(Range(0, size), tree.hash_of)
    leaf = tree.hash_of(Range(index, index + 1))
    proof = make_proof(plan_inclusion(index, size), tree.hash_of)
    check_inclusion(proof, index=index, size=size, leaf=leaf, root=root)
    plan = plan_consistency(old, size)
    assume(len(plan) <= MAX_PROOF_HASHES)
    old_root = subtree_hash(Range(0, old), tree.hash_of)
    check_consistency(make_proof(plan, tree.hash_of), old_size=old, old_root=old_root, new_size=size, new_root=root)
