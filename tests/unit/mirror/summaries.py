"""Summaries in memory, for tests: made of entries, compared by reading nodes from dictionaries."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.mirror.reconcile import Comparison
from mirrorwitness.mirror.subtree import make_subtree
from mirrorwitness.mirror.summary import Entry, Leaf, Node, Ref, make_entry, parse_node

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["MemorySummary", "compare", "entry", "sri"]


def sri(text: str) -> str:
    """Return an integrity of some text."""
    return f"sha512-{base64.b64encode(hashlib.sha512(text.encode('utf-8', 'surrogatepass')).digest()).decode()}"


def entry(name: str, version: str, content: str = "") -> Entry:
    made = make_entry(name, version, sri(content or f"{name}@{version}"))
    assert made is not None
    return made


@dataclass
class MemorySummary:
    """A summary and a count of what was read of it."""

    root: Ref
    nodes: dict[str, bytes]
    requests: int = 0
    size: int = field(default=0)

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> MemorySummary:
        nodes: dict[str, bytes] = {}
        top = make_subtree("", list(entries), nodes.__setitem__)
        assert top.body is not None
        nodes[top.ref.digest] = top.body
        return cls(top.ref, nodes)

    def read(self, prefix: str, side: Ref | Leaf) -> Node:
        if isinstance(side, Leaf):
            return side
        body = self.nodes[side.digest]
        self.requests += 1
        self.size += len(body)
        return parse_node(body, prefix, side)


def compare(a: MemorySummary, b: MemorySummary, *, keep: int = 1000) -> Comparison:
    """Compare two summaries to the end."""
    comparison = Comparison(a.root, b.root, keep=keep)
    while (task := comparison.take()) is not None:
        comparison.settle(task, a.read(task.prefix, task.a), b.read(task.prefix, task.b))
    return comparison
