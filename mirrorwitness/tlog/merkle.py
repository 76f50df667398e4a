"""Merkle trees over SHA-256, and the proofs that an entry, an earlier tree or a subtree belongs to a tree.

    MTH([])      = SHA-256()
    MTH([entry]) = SHA-256(0x00 entry)
    MTH(entries) = SHA-256(0x01 MTH(the first k) MTH(the rest))      k: the largest power of two below their number

Rules:

- A *plan* lists the ranges of entries whose hashes make a proof, in the proof's order, from the numbers alone. The
  maker fetches by it; the checker counts and tells left from right by it. So a proof has exactly one form.
- An inclusion proof is that of a subtree of one entry, a consistency proof that of a subtree which starts at 0: one
  checker serves all three.
- A *node* is complete: it covers 2^n entries from a multiple of 2^n on, so it never changes, and tiles have it. All
  else is computed from nodes; `nodes_needed` says which ones before any is fetched.
- The empty tree is a part of every tree. Its root is `EMPTY_ROOT` and the proof is empty; between trees of one size
  the proof is empty too, and the roots are equal.
- All numbers are below 2^63. A plan or a check takes at most 64 steps; nothing is recursive.
- What is no question (an index outside the tree) is a `ConfigurationError`, a wrong answer a `ProofError`.

What it does not do: read tiles or text, keep a tree, or decide what to trust. A proof does not bind the size: that of
entry 0 in a tree of 5 has the form of one in a tree of 6. So take size and root from the same signed checkpoint.

BUG: some consistency proofs of trees with more than 2^62 entries have 64 hashes. The witness protocol cannot carry
these, and they are refused here. No log will see it: at a billion entries a second it is 146 years away.

SPEC: RFC 6962 and RFC 9162, section 2.1 of both; draft-ietf-plants-merkle-tree-certs, "Subtrees"; C2SP tlog-witness
for size 0 and `MAX_PROOF_HASHES`.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NewType, TypeAlias

from mirrorwitness.errors import ConfigurationError, ProofError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EMPTY_ROOT",
    "HASH_BYTES",
    "MAX_PROOF_HASHES",
    "MAX_SIZE",
    "Hash",
    "HashOf",
    "Range",
    "check_consistency",
    "check_inclusion",
    "check_subtree",
    "complete_ranges",
    "is_subtree",
    "leaf_hash",
    "make_proof",
    "node_hash",
    "nodes_needed",
    "plan_consistency",
    "plan_inclusion",
    "plan_subtree",
    "root_of",
    "subtree_hash",
]

Hash = NewType("Hash", bytes)
"""A hash in the tree: of an entry, of a node, or the root."""

HASH_BYTES: Final = 32
"""Length of a hash in bytes."""

MAX_PROOF_HASHES: Final = 63
"""Most hashes in a proof: SPEC tlog-witness: "The client MUST NOT send more than 63 consistency proof lines"."""

EMPTY_ROOT: Final = Hash(hashlib.sha256().digest())
"""Root of the tree without entries."""

MAX_SIZE: Final = 2**63 - 1
"""Most entries of a tree: Go's logs count in signed 64-bit numbers."""


@dataclass(frozen=True, slots=True)
class Range:
    """The entries below one node, or of one subtree.

    Attributes:
        start: index of the first.
        end: one more than the index of the last.
    """

    start: int
    end: int

    def __str__(self) -> str:
        """Return the range as the specifications write it."""
        return f"[{self.start}, {self.end})"


HashOf: TypeAlias = Callable[[Range], Hash]
"""Gives the hash of a complete node, one of those that `complete_ranges` returns."""


def leaf_hash(entry: bytes) -> Hash:
    """Return the hash of an entry."""
    return Hash(hashlib.sha256(b"\x00" + entry).digest())


def node_hash(left: Hash, right: Hash) -> Hash:
    """Return the hash of the node above two others."""
    return Hash(hashlib.sha256(b"\x01" + left + right).digest())


def root_of(leaves: Sequence[Hash]) -> Hash:
    """Return the root hash of the tree over some leaves, in time and memory that grow with their number."""
    if not leaves:
        return EMPTY_ROOT
    level = list(leaves)
    while len(level) > 1:
        unpaired = level[-1:] if len(level) % 2 else []
        level = [node_hash(left, right) for left, right in zip(level[::2], level[1::2], strict=False)] + unpaired
    return level[0]


def is_subtree(start: int, end: int) -> bool:
    """Say whether a range of entries is a subtree: it starts at the left edge of the smallest node that holds it."""
    return 0 <= start <= end and start % _bit_ceil(end - start) == 0


def complete_ranges(start: int, end: int) -> list[Range]:
    """Return the fewest complete nodes that make up a range of entries, from left to right.

    Raises:
        ConfigurationError: it is not a range.
    """
    if not 0 <= start <= end <= MAX_SIZE:
        raise ConfigurationError(f"{Range(start, end)} is not a range of entries: expected 0 <= start <= end < 2^63")
    nodes: list[Range] = []
    while start < end:
        fits = 1 << (end - start).bit_length() - 1
        aligned = start & -start or fits
        nodes.append(Range(start, start + min(fits, aligned)))
        start = nodes[-1].end
    return nodes


def subtree_hash(span: Range, hash_of: HashOf) -> Hash:
    """Return the hash of a subtree; that of a tree's root is the hash of the subtree from 0 to its size.

    Args:
        span: the subtree.
        hash_of: is asked for its complete nodes, from left to right.

    Raises:
        ConfigurationError: the range is not a subtree.
    """
    _require_subtree(span.start, span.end)
    found = [hash_of(node) for node in complete_ranges(span.start, span.end)]
    if not found:
        return EMPTY_ROOT
    above = found.pop()
    while found:
        above = node_hash(found.pop(), above)
    return above


def plan_inclusion(index: int, size: int) -> list[Range]:
    """Return the subtrees whose hashes prove that a tree has an entry, from the leaf's sibling to the root's child.

    Raises:
        ConfigurationError: a tree of that size has no such entry.
    """
    if not 0 <= index < size <= MAX_SIZE:
        raise ConfigurationError(f"entry {index} of a tree of size {size}: expected 0 <= index < size < 2^63")
    return _plan(index, index + 1, size)


def plan_consistency(old: int, new: int) -> list[Range]:
    """Return the subtrees whose hashes prove that a tree has grown from an earlier one, in the proof's order.

    Raises:
        ConfigurationError: the old size is larger than the new, or one is no size.
    """
    if not 0 <= old <= new <= MAX_SIZE:
        raise ConfigurationError(f"a tree that grows from size {old} to {new}: expected 0 <= old <= new < 2^63")
    return _plan(0, old, new)


def plan_subtree(start: int, end: int, size: int) -> list[Range]:
    """Return the subtrees whose hashes prove that a subtree is part of a tree, in the proof's order.

    Raises:
        ConfigurationError: the range is not a subtree, or a tree of that size does not hold it.
    """
    if not end <= size <= MAX_SIZE:
        raise ConfigurationError(f"{Range(start, end)} in a tree of size {size}: expected end <= size < 2^63")
    _require_subtree(start, end)
    return _plan(start, end, size)


def nodes_needed(plan: Sequence[Range]) -> list[Range]:
    """Return all complete nodes that `make_proof` will ask for, in that order and each once."""
    return [node for span in plan for node in complete_ranges(span.start, span.end)]


def make_proof(plan: Sequence[Range], hash_of: HashOf) -> list[Hash]:
    """Make a proof.

    Args:
        plan: what one of the functions ``plan_…`` returned.
        hash_of: is asked for the nodes that `nodes_needed` lists.
    """
    return [subtree_hash(span, hash_of) for span in plan]


def check_inclusion(proof: Sequence[Hash], *, index: int, size: int, leaf: Hash, root: Hash) -> None:
    """Check that a tree has an entry at an index.

    Args:
        proof: hashes, from the leaf's sibling to the root's child.
        index: where the entry is said to be.
        size: number of entries of the tree, out of the same checkpoint as the root.
        leaf: the entry's hash.
        root: the tree's.

    Raises:
        ProofError: the proof does not show it.
        ConfigurationError: a tree of that size has no such entry.
    """
    title = f"inclusion proof of entry {index} in the tree of size {size}"
    _check(title, proof, plan_inclusion(index, size), (Range(index, index + 1), leaf), (Range(0, size), root))


def check_consistency(proof: Sequence[Hash], *, old_size: int, old_root: Hash, new_size: int, new_root: Hash) -> None:
    """Check that a tree has grown from an earlier one: that it starts with all entries of that.

    Args:
        proof: hashes; none where the old tree is empty or the sizes are equal.
        old_size: number of entries of the earlier tree.
        old_root: its root hash.
        new_size: number of entries of the later tree, which may be the same.
        new_root: its root hash.

    Raises:
        ProofError: the proof does not show it.
        ConfigurationError: the old size is larger than the new, or one is no size.
    """
    title = f"consistency proof from size {old_size} to size {new_size}"
    plan = plan_consistency(old_size, new_size)
    _check(title, proof, plan, (Range(0, old_size), old_root), (Range(0, new_size), new_root))


def check_subtree(proof: Sequence[Hash], *, start: int, end: int, subtree: Hash, size: int, root: Hash) -> None:
    """Check that a subtree is part of a tree.

    Args:
        proof: hashes; none where the subtree is empty or the whole tree.
        start: index of the subtree's first entry.
        end: one more than the index of its last.
        subtree: its hash.
        size: number of entries of the tree, out of the same checkpoint as the root.
        root: the tree's root hash. Where the subtree is empty and the tree is not, nothing is said of it.

    Raises:
        ProofError: the proof does not show it.
        ConfigurationError: the range is not a subtree, or a tree of that size does not hold it.
    """
    part = Range(start, end)
    title = f"consistency proof of subtree {part} in the tree of size {size}"
    _check(title, proof, plan_subtree(start, end, size), (part, subtree), (Range(0, size), root))


def _bit_ceil(number: int) -> int:
    """Return the smallest power of two that is at least a number, which may be 0."""
    return 1 << max(number - 1, 0).bit_length()


def _require_subtree(start: int, end: int) -> None:
    if not is_subtree(start, end):
        rule = "0 <= start <= end, and start a multiple of the smallest power of two that is at least end - start"
        raise ConfigurationError(f"{Range(start, end)} is not a subtree: expected {rule}")


def _plan(start: int, end: int, size: int) -> list[Range]:
    """Walk from the root down to the last node of the subtree, noting the siblings on the way.

    Where the subtree lies on both sides of a fork it starts at the fork's left edge: the left side is wholly in it, and
    the walk goes on for the rest. SPEC: the draft's SUBTREE_SUBPROOF, whose flag b is ``rest == start``.
    """
    if start == end:
        return []
    plan: list[Range] = []
    low, high, rest = 0, size, start
    while (low, high) != (rest, end):
        fork = low + (_bit_ceil(high - low) >> 1)
        if end <= fork:
            plan.append(Range(fork, high))
            high = fork
        else:
            plan.append(Range(low, fork))
            low, rest = fork, max(rest, fork)
    if rest != start:
        plan.append(Range(rest, end))
    return plan[::-1]


def _check(
    title: str, proof: Sequence[Hash], plan: list[Range], part: tuple[Range, Hash], whole: tuple[Range, Hash]
) -> None:
    """Check that a proof by this plan leads to the hashes of a part and of the whole tree, which the caller gives."""
    _check_form(title, proof, plan, (part, whole))
    if part[0].start < part[0].end:
        ends = _fold(proof, plan, *part)
    else:  # nothing is a part of every tree; of an empty tree the root is known
        ends = EMPTY_ROOT, whole[1] if whole[0].end else EMPTY_ROOT
    for (span, expected), found in zip((part, whole), ends, strict=True):
        if found != expected:
            raise ProofError(f"{title}: leads to {_show(found)} as hash of {span}, expected {_show(expected)}")


def _check_form(title: str, proof: Sequence[Hash], plan: list[Range], ends: Sequence[tuple[Range, Hash]]) -> None:
    """Check number and lengths: with other lengths, bytes could move from one hash into the one beside it."""
    if len(proof) > MAX_PROOF_HASHES:
        raise ProofError(f"{title}: has {len(proof)} hashes, at most {MAX_PROOF_HASHES} are allowed")
    if len(proof) != len(plan):
        raise ProofError(f"{title}: has {len(proof)} hashes, expected {len(plan)}")
    for span, given in (*ends, *zip(plan, proof, strict=True)):
        if len(given) != HASH_BYTES:
            raise ProofError(f"{title}: the hash given for {span} has {len(given)} bytes, expected {HASH_BYTES}")


def _fold(proof: Sequence[Hash], plan: list[Range], part: Range, part_hash: Hash) -> tuple[Hash, Hash]:
    """Return the hashes of the part and of the whole tree that a proof leads to.

    What goes into the first goes into the second too: that, and the caller's comparison of both, is the proof.
    """
    steps = list(zip(plan, proof, strict=True))
    inner = part_hash
    if plan and plan[0].end == part.end:  # the part is no node of the tree: the proof begins with its last one
        inner = steps.pop(0)[1]
    outer = inner
    for span, sibling in steps:
        if span.start >= part.end:
            outer = node_hash(outer, sibling)
            continue
        if span.start >= part.start:
            inner = node_hash(sibling, inner)
        outer = node_hash(sibling, outer)
    return inner, outer


def _show(found: Hash) -> str:
    return base64.b64encode(found).decode()
