"""Compare two summaries, deciding what to read next: only ranges that differ, only as deep as they do.

    comparison = Comparison(ref_a, ref_b)
    while (task := comparison.take()) is not None:
        comparison.settle(task, <node of task.a>, <node of task.b>)

Rules:

- Equal digests end a branch: everything below is the same set. A range that one side does not have ends it too: its
  count says how many versions only the other has.
- The difference found is exact: every version that both have with two digests, and how many each has alone.
- Memory is bounded by the depth, not by the differences: branches are taken last in, first out, and at most `keep`
  differing versions are remembered; all are counted.
- Tasks may be taken and settled by several workers at once; the result does not depend on the order.

What it does not do: read nodes or check their digests (`mirrorwitness.mirror.summary.parse_node` does). This module is
pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from mirrorwitness.mirror.subtree import split
from mirrorwitness.mirror.summary import DIGITS, Leaf, Ref

if TYPE_CHECKING:
    from mirrorwitness.mirror.summary import Entry, Node

__all__ = ["Comparison", "Difference", "Task"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One version with two digests.

    Attributes:
        name: the package, as it stands in the summaries.
        version: the version, the same.
        a: what the first says that its tarball is.
        b: what the second says.
    """

    name: str
    version: str
    a: str
    b: str


_Side: TypeAlias = "Ref | Leaf"
"""A node to be read, or the entries of the range, known from a leaf further up."""


class Task(NamedTuple):
    """A range to look into.

    Attributes:
        prefix: the range.
        a: the first side: a `Ref` has to be read, a `Leaf` is known.
        b: the second side.
    """

    prefix: str
    a: _Side
    b: _Side


class Comparison:
    """Two summaries being compared.

    Args:
        a: the first one's root.
        b: the second one's.
        keep: how many differing versions to remember.

    Attributes:
        same: versions that are the same so far.
        only_a: versions that only the first has.
        only_b: versions that only the second has.
        differing: versions with two digests.
        differences: the first `keep` of these.
    """

    def __init__(self, a: Ref, b: Ref, *, keep: int) -> None:
        self.same = 0
        self.only_a = 0
        self.only_b = 0
        self.differing = 0
        self.differences: list[Difference] = []
        self._keep = keep
        self._waiting: list[Task] = []
        self._meet("", a, b)

    def __repr__(self) -> str:
        return (
            f"<Comparison {self.same} same, {self.only_a} and {self.only_b} alone, {self.differing} differing,"
            f" {len(self._waiting)} ranges waiting>"
        )

    @property
    def is_waiting(self) -> bool:
        """Whether a range is waiting to be taken."""
        return bool(self._waiting)

    def take(self) -> Task | None:
        """Return a range to look into, None where none is waiting (others may be in work)."""
        return self._waiting.pop() if self._waiting else None

    def settle(self, task: Task, a: Node, b: Node) -> None:
        """Take what stands in a range.

        Args:
            task: the range.
            a: its node of the first summary; for a side that was a `Leaf` already, that leaf.
            b: the same of the second.
        """
        if isinstance(a, Leaf) and isinstance(b, Leaf):
            self._compare(a.entries, b.entries)
            return
        parts_a, parts_b = _parts(task.prefix, a), _parts(task.prefix, b)
        for digit in reversed(DIGITS):
            self._meet(task.prefix + digit, parts_a.get(digit), parts_b.get(digit))

    def _meet(self, prefix: str, a: _Side | None, b: _Side | None) -> None:
        if a is None or b is None or not _count(a) or not _count(b):
            self.only_a += _count(a)
            self.only_b += _count(b)
        elif a == b and isinstance(a, Ref):
            self.same += a.versions
        else:
            self._waiting.append(Task(prefix, a, b))

    def _compare(self, a: tuple[Entry, ...], b: tuple[Entry, ...]) -> None:
        mine = {(entry.name, entry.version): entry.sri for entry in a}
        theirs = {(entry.name, entry.version): entry.sri for entry in b}
        both = mine.keys() & theirs.keys()
        differing = sorted(key for key in both if mine[key] != theirs[key])
        self.only_a += len(mine) - len(both)
        self.only_b += len(theirs) - len(both)
        self.same += len(both) - len(differing)
        self.differing += len(differing)
        for key in differing[: max(0, self._keep - len(self.differences))]:
            self.differences.append(Difference(*key, mine[key], theirs[key]))


def _count(side: _Side | None) -> int:
    if side is None:
        return 0
    return side.versions if isinstance(side, Ref) else len(side.entries)


def _parts(prefix: str, node: Node) -> dict[str, _Side]:
    if isinstance(node, Leaf):
        return {digit: Leaf(tuple(part)) for digit, part in split(len(prefix), node.entries).items()}
    return dict(node.children)
