"""Keep a mirror's summary true: after a run for its packages, or anew for all of them.

    notes of a run ─► where the tree says otherwise: record ─► entries ─► changed nodes ─► root

Rules:

- What the tree says of a package is compared with its note by one digest. Only where they differ the record is read,
  and only nodes that changed are written, those below first and the root last. A run over `c` changed packages of a
  mirror with `n` versions costs at most `c` reads of records and `c · (log16 n + 1)` reads and as many writes of small
  nodes, fewer where packages share nodes; a run over unchanged packages reads each of their leaves once and writes
  nothing.
- An update that fails or is killed leaves the older tree; what it wrote is found again, or removed by a rebuild.
- Memory holds the notes and branches of one 256th of the tree (P10), never the set.
- The record decides. A note can be older than it, and the tree is made of the record as it is at the end.

What this does not do: publish the root (`mirrorwitness.mirror.about`), or check tarballs against what the records say.

*Cancellation*: at any time; see the second rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import PreconditionFailedError, StorageUnavailableError
from mirrorwitness.mirror.nodes import CONCURRENCY, Head
from mirrorwitness.mirror.notes import entries_of, package_digest
from mirrorwitness.mirror.parts import PART_DIGITS
from mirrorwitness.mirror.subtree import EMPTY, Subtree, join, make_subtree, split
from mirrorwitness.mirror.summary import DIGITS, FORMAT, LEAF_MAX, NAME_DIGITS, Leaf
from mirrorwitness.npm.times import format_time
from mirrorwitness.storage.side_by_side import for_each

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from datetime import datetime

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.nodes import NodeStore
    from mirrorwitness.mirror.notes import Note, Notes
    from mirrorwitness.mirror.summary import Entry, Node

__all__ = ["Summarizer"]

TRIES: Final = 16
"""Updates tried while others replace the root meanwhile: as many shards can end at the same instant."""

SPLIT_NOTES: Final = 64
"""Notes that one leaf takes at once. More are divided first, so that no step holds more than some thousand entries."""

PARALLEL_DIGITS: Final = 4
"""Ranges of up to that many digits are worked on side by side; below it is one after another, to bound the tasks."""


class Summarizer:
    """Writes the summary of one mirror.

    Args:
        catalogue: the records.
        nodes: where the summary is kept.
        now: the clock.
    """

    def __init__(self, *, catalogue: Catalogue, nodes: NodeStore, now: Callable[[], datetime]) -> None:
        self._catalogue = catalogue
        self._nodes = nodes
        self._now = now

    def __repr__(self) -> str:
        return f"<Summarizer {self._nodes!r}>"

    async def update(self, notes: Notes) -> Head:
        """Bring the summary up to date for the packages of a run, and remove what nobody needs any more.

        Where there is no summary yet, all records are read.

        Args:
            notes: all packages of the run.

        Returns:
            The root; nothing was written where nothing changed.

        Raises:
            StorageError: the summary is damaged (`rebuild` writes it anew), or the storage failed.
        """
        for _ in range(TRIES):
            before, etag = await self._nodes.read_head()
            if before is None:
                # A mirror that is older than its summary: this run may have looked at a part of it only.
                await self._note_all(notes)
            work = _Update(self._catalogue, self._nodes, now=self._now())
            tree = await work.run(EMPTY if before is None else Subtree(before.ref), notes)
            if before is not None and before.ref == tree.ref:
                head = before
            else:
                await self._nodes.write_nodes([(tree.ref.digest, tree.body or b"")])
                head = self._make_head(tree, (0 if before is None else before.packages) + work.gained)
                try:
                    await self._nodes.write_head(head, etag=etag)
                except PreconditionFailedError:
                    continue
            await self._nodes.sweep(head.ref, now=self._now())
            return head
        raise StorageUnavailableError(f"other runs replaced the summary's root {TRIES} times; the next run tries again")

    async def rebuild(self, notes: Notes, live: Callable[[str], Awaitable[None]]) -> Head:
        """Make the summary anew from all records, without a look at the older one.

        Args:
            notes: an empty collection; gets the names of all packages.
            live: gets the digest of every node of the new tree.

        Raises:
            StorageError: the storage failed, or another run replaced the root meanwhile.
        """
        await self._note_all(notes)
        etag = await self._nodes.read_etag()
        work = _Update(self._catalogue, self._nodes, now=self._now(), written=live)
        tree = await work.run(EMPTY, notes)
        await self._nodes.write_nodes([(tree.ref.digest, tree.body or b"")])
        await live(tree.ref.digest)
        head = self._make_head(tree, work.gained)
        await self._nodes.write_head(head, etag=etag)
        return head

    def _make_head(self, tree: Subtree, packages: int) -> Head:
        stamp = format_time(self._now())
        return Head(format=FORMAT, root=tree.ref.digest, versions=tree.ref.versions, packages=packages, updated=stamp)

    async def _note_all(self, notes: Notes) -> None:
        after: str | None = ""
        while after is not None:
            keys, after = await self._catalogue.record_page(after=after)
            for key in keys:
                name = await self._catalogue.name_of(key)
                if name is not None:
                    await notes.add_name(name)


class _Update:
    """One pass over the tree.

    Attributes:
        gained: packages that have entries now and had none, less those that lost all of theirs.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        nodes: NodeStore,
        *,
        now: datetime,
        written: Callable[[str], Awaitable[None]] | None = None,
    ) -> None:
        self._catalogue = catalogue
        self._nodes = nodes
        self._now = now
        self._written = written
        self.gained = 0
        self._replaced: list[tuple[str, str]] = []
        self._records = trio.CapacityLimiter(CONCURRENCY)

    async def run(self, tree: Subtree, notes: Notes) -> Subtree:
        """Return the tree with all notes taken in; its root is not written yet."""
        if notes.is_small:
            done = await self._apply("", tree, notes.all())
        else:
            done = await self._apply_parts("", tree, notes)
        await self._flush_replaced()
        return done

    async def _apply_parts(self, prefix: str, tree: Subtree, notes: Notes) -> Subtree:
        """Take in notes of which only one part at a time is in memory."""
        if len(prefix) == PART_DIGITS:
            done = await self._apply(prefix, tree, await notes.part(prefix))
            await self._flush_replaced()
            return done
        children = await self._children(prefix, tree)
        for digit in DIGITS:
            children[digit] = await self._apply_parts(prefix + digit, _child(children, prefix, digit), notes)
        return await self._join(prefix, tree, children)

    async def _apply(self, prefix: str, tree: Subtree, notes: Sequence[Note]) -> Subtree:
        if not notes or (len(notes) == 1 and len(prefix) == NAME_DIGITS and notes[0].digest == tree.ref.digest):
            return tree
        is_leaf = tree.ref.versions <= LEAF_MAX
        if len(prefix) >= NAME_DIGITS or (is_leaf and len(notes) <= SPLIT_NOTES):
            known = await self._find_known(prefix, tree) if is_leaf else {note.name: "not read" for note in notes}
            changed = [note for note in notes if note.digest != known.get(note.name, package_digest(note.name, []))]
            if not changed:
                return tree
            fresh = await self._read_entries(changed)
            names = frozenset(note.name for note in changed)
            self.gained += len({entry.name for entry in fresh}) - len(names & known.keys())
            return await self._merge(prefix, tree, names, fresh)
        children = await self._children(prefix, tree)
        parts: dict[str, list[Note]] = {}
        for note in notes:
            parts.setdefault(note.prefix[len(prefix)], []).append(note)

        async def apply(digit: str) -> None:
            children[digit] = await self._apply(prefix + digit, _child(children, prefix, digit), parts[digit])

        await for_each(list(parts), apply, at_once=len(parts) if len(prefix) < PARALLEL_DIGITS else 1)
        return await self._join(prefix, tree, children)

    async def _find_known(self, prefix: str, tree: Subtree) -> dict[str, str]:
        """Return the packages of a leaf, each with its digest."""
        leaf = await self._load(prefix, tree)
        held: dict[str, list[Entry]] = {}
        for entry in leaf.entries if isinstance(leaf, Leaf) else ():
            held.setdefault(entry.name, []).append(entry)
        return {name: package_digest(name, entries) for name, entries in held.items()}

    async def _merge(self, prefix: str, tree: Subtree, names: frozenset[str], fresh: list[Entry]) -> Subtree:
        """Replace all entries of some packages by others, reading only branches where that changes anything."""
        if make_subtree(prefix, fresh, _forget).ref == tree.ref:
            return tree
        node = await self._load(prefix, tree)
        if isinstance(node, Leaf):
            kept = [entry for entry in node.entries if entry.name not in names]
            nodes: list[tuple[str, bytes]] = []
            made = make_subtree(prefix, [*kept, *fresh], _collect(nodes))
            await self._write(nodes)
            return self._replace(prefix, tree, made)
        children = await self._children(prefix, tree)
        parts = split(len(prefix), fresh)
        for digit in sorted(children.keys() | parts.keys()):
            part = parts.get(digit, [])
            children[digit] = await self._merge(prefix + digit, _child(children, prefix, digit), names, part)
        return await self._join(prefix, tree, children)

    async def _join(self, prefix: str, tree: Subtree, children: dict[str, Subtree]) -> Subtree:
        if sum(child.ref.versions for child in children.values()) <= LEAF_MAX:
            for digit, child in children.items():
                if child.entries is None and child.ref.versions:
                    leaf = await self._load(prefix + digit, child)
                    children[digit] = Subtree(child.ref, None, leaf.entries if isinstance(leaf, Leaf) else ())
        nodes: list[tuple[str, bytes]] = []
        made = join(prefix, children, _collect(nodes))
        await self._write(nodes)
        if made.entries is not None:
            for digit, child in children.items():
                if child.body is None and child.ref.versions:
                    self._replaced.append((prefix + digit, child.ref.digest))
        return self._replace(prefix, tree, made)

    def _replace(self, prefix: str, tree: Subtree, made: Subtree) -> Subtree:
        if made.ref == tree.ref:
            return tree
        if tree.body is None:
            self._replaced.append((prefix, tree.ref.digest))
        return made

    async def _children(self, prefix: str, tree: Subtree) -> dict[str, Subtree]:
        node = await self._load(prefix, tree)
        if isinstance(node, Leaf):
            parts = split(len(prefix), node.entries)
            return {digit: make_subtree(prefix + digit, part, _forget) for digit, part in parts.items()}
        return {digit: Subtree(ref) for digit, ref in node.children.items()}

    async def _load(self, prefix: str, tree: Subtree) -> Node:
        if tree.entries is not None:
            return Leaf(tree.entries)
        return await self._nodes.read_node(prefix, tree.ref)

    async def _read_entries(self, notes: Sequence[Note]) -> list[Entry]:
        found: list[Entry] = []

        async def read(note: Note) -> None:
            async with self._records:
                record = await self._catalogue.read_record(note.name)
            if record is not None:
                found.extend(entries_of(record))

        await for_each(notes, read, at_once=min(CONCURRENCY, len(notes)))
        return found

    async def _write(self, nodes: list[tuple[str, bytes]]) -> None:
        if nodes:
            await self._nodes.write_nodes(nodes)
            if self._written is not None:
                for digest, _ in nodes:
                    await self._written(digest)

    async def _flush_replaced(self) -> None:
        if self._replaced:
            await self._nodes.write_replaced(self._replaced, now=self._now)
            self._replaced = []


def _child(children: Mapping[str, Subtree], prefix: str, digit: str) -> Subtree:
    return children.get(digit) or make_subtree(prefix + digit, [], _forget)


def _collect(nodes: list[tuple[str, bytes]]) -> Callable[[str, bytes], None]:
    return lambda digest, body: nodes.append((digest, body))


def _forget(digest: str, body: bytes) -> None:
    """Drop a node: only the digest on top is wanted, or the set is too small to have any below."""
