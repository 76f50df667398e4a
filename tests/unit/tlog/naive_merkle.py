"""Merkle trees as the specifications define them, word for word and slowly: what the product's are compared with.

`NaiveTree` makes hashes and proofs by the recursive definitions, each kind of proof by its own. `SparseTree` has as
many entries as one likes, nearly all of them equal. A `Statement` is judged by the product, and by the procedure of the
draft with its three numbers, which shares nothing with the product's plans.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from mirrorwitness.errors import ConfigurationError, ProofError
from mirrorwitness.tlog.merkle import Hash, Range, check_subtree

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def naive_leaf(entry: bytes) -> Hash:
    return Hash(hashlib.sha256(b"\x00" + entry).digest())


def naive_node(left: bytes, right: bytes) -> Hash:
    return Hash(hashlib.sha256(b"\x01" + left + right).digest())


def below(size: int) -> int:
    """Return the largest power of two smaller than a size of at least 2."""
    power = 1
    while power * 2 < size:
        power *= 2
    return power


def is_aligned(start: int, end: int) -> bool:
    """Say whether a range is a subtree, by trying powers of two."""
    power = 1
    while power < end - start:
        power *= 2
    return start % power == 0


def subtrees(size: int) -> list[Range]:
    """Return all subtrees of a tree, the empty ones too."""
    return [Range(start, end) for end in range(size + 1) for start in range(end + 1) if is_aligned(start, end)]


class NaiveTree:
    """A tree over some entries; hashes of ranges are remembered."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        self._known: dict[tuple[int, int], Hash] = {}

    def mth(self, start: int, end: int) -> Hash:
        """Return MTH(D[start:end])."""
        if (start, end) not in self._known:
            self._known[start, end] = self._mth(start, end)
        return self._known[start, end]

    def _mth(self, start: int, end: int) -> Hash:
        if start == end:
            return Hash(hashlib.sha256(b"").digest())
        if end - start == 1:
            return naive_leaf(self.entries[start])
        middle = start + below(end - start)
        return naive_node(self.mth(start, middle), self.mth(middle, end))

    def path(self, index: int, start: int, end: int) -> list[Hash]:
        """Return PATH(index, D[start:end]) of RFC 6962; the index counts from the tree's start."""
        if end - start == 1:
            return []
        middle = start + below(end - start)
        if index < middle:
            return [*self.path(index, start, middle), self.mth(middle, end)]
        return [*self.path(index, middle, end), self.mth(start, middle)]

    def proof(self, old: int, new: int) -> list[Hash]:
        """Return PROOF(old, D[0:new]) of RFC 6962, and nothing for an empty old tree."""
        return self._subproof(old, 0, new, known=True) if old else []

    def _subproof(self, old: int, start: int, end: int, *, known: bool) -> list[Hash]:
        if old == end - start:
            return [] if known else [self.mth(start, end)]
        split = below(end - start)
        middle = start + split
        if old <= split:
            return [*self._subproof(old, start, middle, known=known), self.mth(middle, end)]
        return [*self._subproof(old - split, middle, end, known=False), self.mth(start, middle)]

    def subtree_proof(self, start: int, end: int, size: int) -> list[Hash]:
        """Return SUBTREE_PROOF(start, end, D[0:size]) of the draft."""
        return self._subtree_subproof(start, end, 0, size, known=True) if start < end else []

    def _subtree_subproof(self, start: int, end: int, at: int, size: int, *, known: bool) -> list[Hash]:
        """Return SUBTREE_SUBPROOF(start, end, D[at:at + size], known)."""
        if (start, end) == (0, size):
            return [] if known else [self.mth(at, at + size)]
        k = below(size)
        left, right = (at, at + k), (at + k, at + size)
        if end <= k:
            return [*self._subtree_subproof(start, end, at, k, known=known), self.mth(*right)]
        if k <= start:
            return [*self._subtree_subproof(start - k, end - k, at + k, size - k, known=known), self.mth(*left)]
        assert start == 0
        return [*self._subtree_subproof(0, end - k, at + k, size - k, known=False), self.mth(*left)]

    def statement(self, start: int, end: int, size: int) -> Statement:
        """Return what is true of a subtree, with its proof."""
        proof = self.subtree_proof(start, end, size)
        return Statement(proof, start, end, self.mth(start, end), size, self.mth(0, size))

    def hash_of(self, node: Range) -> Hash:
        """Return the hash of a complete node that the tree has; there is no other question."""
        width = node.end - node.start
        assert width > 0
        assert width & (width - 1) == 0
        assert node.start % width == 0
        assert node.end <= len(self.entries)
        return self.mth(node.start, node.end)


class SparseTree:
    """A tree of any size whose entries are empty, but for a few.

    Complete nodes without one of these are equal to all others of their level, so the tree is as cheap as it is high.
    """

    def __init__(self, marked: Mapping[int, bytes]) -> None:
        self.marked = dict(marked)
        self._uniform = [naive_leaf(b"")]

    def hash_of(self, node: Range) -> Hash:
        """Return the hash of a complete node."""
        width = node.end - node.start
        level = width.bit_length() - 1
        assert width == 1 << level
        assert node.start % width == 0
        if not any(node.start <= index < node.end for index in self.marked):
            while len(self._uniform) <= level:
                self._uniform.append(naive_node(self._uniform[-1], self._uniform[-1]))
            return self._uniform[level]
        if width == 1:
            return naive_leaf(self.marked[node.start])
        middle = node.start + width // 2
        return naive_node(self.hash_of(Range(node.start, middle)), self.hash_of(Range(middle, node.end)))


class Statement(NamedTuple):
    """That a subtree belongs to a tree, with a proof."""

    proof: Sequence[Hash]
    start: int
    end: int
    subtree: Hash
    size: int
    root: Hash

    def check(self) -> None:
        """Check it by the product."""
        check_subtree(self.proof, start=self.start, end=self.end, subtree=self.subtree, size=self.size, root=self.root)

    def is_accepted(self) -> bool:
        """Say whether the product accepts it; a question that is none counts as refused."""
        try:
            self.check()
        except (ProofError, ConfigurationError):
            return False
        return True

    def is_right(self) -> bool:
        """Say whether it is proved, by the steps of the draft's "Verifying a Subtree Consistency Proof"."""
        if not 0 <= self.start <= self.end <= self.size or not is_aligned(self.start, self.end):
            return False
        if self.start == self.end:
            return not self.proof and self.subtree == hashlib.sha256(b"").digest()
        rest = list(self.proof)
        fn, sn, tn = self.start, self.end - 1, self.size - 1
        while fn != sn and (sn == tn or sn & 1):
            fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
        if fn != sn and not rest:
            return False
        fr = sr = self.subtree if fn == sn else rest.pop(0)
        for sibling in rest:
            if tn == 0:
                return False
            if sn & 1 or sn == tn:
                if fn < sn:
                    fr = naive_node(sibling, fr)
                sr = naive_node(sibling, sr)
                while not sn & 1:
                    fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
            else:
                sr = naive_node(sr, sibling)
            fn, sn, tn = fn >> 1, sn >> 1, tn >> 1
        return (tn, fr, sr) == (0, self.subtree, self.root)


def flip(found: Hash, bit: int) -> Hash:
    """Return a hash that differs in one bit."""
    return Hash((int.from_bytes(found, "big") ^ (1 << bit)).to_bytes(len(found), "big"))
