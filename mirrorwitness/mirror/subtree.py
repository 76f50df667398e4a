"""Parts of a summary in the making: a range's node, not written yet or stored already, and how parts are joined.

Rules:

- Nothing is written before it is known that it is a node of the finished tree: a small part may still become lines of
  its parent's leaf.
- What is returned is a function of the set of entries alone (`mirrorwitness.mirror.summary`), however it came about.

This module is pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

from mirrorwitness.mirror.summary import LEAF_MAX, Ref, format_inner, format_leaf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mirrorwitness.mirror.summary import Entry

__all__ = ["EMPTY", "Subtree", "join", "make_subtree", "split"]


@dataclass(frozen=True, slots=True)
class Subtree:
    """The node of one range.

    Attributes:
        ref: what its parent says of it.
        body: its bytes where they have to be written; None where it is stored.
        entries: what is in the range, where it is a leaf that was read or made.
    """

    ref: Ref
    body: bytes | None = None
    entries: tuple[Entry, ...] | None = None


def _finish(body: bytes, count: int, entries: tuple[Entry, ...] | None) -> Subtree:
    return Subtree(Ref(count, hashlib.sha256(body).hexdigest()), body, entries)


EMPTY = _finish(format_leaf("", ()), 0, ())
"""The tree of a mirror that serves nothing."""


def make_subtree(prefix: str, entries: Sequence[Entry], emit: Callable[[str, bytes], None]) -> Subtree:
    """Make the node of a range from all its entries.

    Args:
        prefix: the range.
        entries: what is in it, in any order, each version once.
        emit: gets digest and bytes of each node below it.

    Returns:
        The node itself, not emitted.
    """
    if len(entries) <= LEAF_MAX:
        return _finish(format_leaf(prefix, entries), len(entries), tuple(entries))
    children = {digit: make_subtree(prefix + digit, part, emit) for digit, part in split(len(prefix), entries).items()}
    return join(prefix, children, emit)


def join(prefix: str, children: Mapping[str, Subtree], emit: Callable[[str, bytes], None]) -> Subtree:
    """Make the node of a range from the nodes of its parts.

    Args:
        prefix: the range.
        children: next digit → its node; empty ones are left away. Where all together have at most `LEAF_MAX` entries,
            every one has its `entries`.
        emit: gets digest and bytes of each child that is not written yet and stays.
    """
    count = sum(child.ref.versions for child in children.values())
    if count <= LEAF_MAX:
        entries = tuple([entry for child in children.values() for entry in child.entries or ()])
        return _finish(format_leaf(prefix, entries), count, entries)
    kept = {digit: child for digit, child in children.items() if child.ref.versions}
    for child in kept.values():
        if child.body is not None:
            emit(child.ref.digest, child.body)
    return _finish(format_inner(prefix, {digit: child.ref for digit, child in kept.items()}), count, None)


def split(depth: int, entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Return entries by the digit of their position that stands at `depth`."""

    def digit(entry: Entry) -> str:
        return entry.position[depth]

    return {found: list(part) for found, part in groupby(sorted(entries, key=digit), key=digit)}
