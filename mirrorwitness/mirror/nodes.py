"""Where a mirror's summary is kept: its nodes, which never change, and which one is the root.

    about/summary/<first 2 digits>/<digest>   a node (`mirrorwitness.mirror.summary`), served at /-/summary/…
    state/summary/head.json                   the root, as the last update left it
    state/summary/replaced/<time>-<digest>    nodes that are not part of the tree any more, to be removed later

Rules:

- A node's key is its content's digest: it can be cached for ever, and somebody who walks the tree meanwhile sees one
  tree, never half of two. The nodes of a tree are written before the root that needs them.
- The root is replaced by compare-and-swap. On a storage without it, of two runs that end at the same instant one may be
  forgotten; its packages are noted again by its next run.
- Replaced nodes stay for `GRACE`, for those who began to read the older tree. Before one is removed the present tree is
  asked, because the same node can be needed again.

What this does not do: know what belongs into the tree (`mirrorwitness.mirror.summarize`).
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import UNREADABLE_JSON, ObjectMissingError, SecurityError, StorageError, UpstreamProtocolError
from mirrorwitness.mirror.layout import NODE_PREFIX, REPLACED_PREFIX, SUMMARY_HEAD_KEY, node_key
from mirrorwitness.mirror.summary import FORMAT, MAX_NODE_BYTES, Inner, Ref, parse_node
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.storage.swap import swap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mirrorwitness.mirror.summary import Node
    from mirrorwitness.storage import Storage

__all__ = ["CONCURRENCY", "GRACE", "Head", "NodeStore"]

GRACE: Final = timedelta(hours=6)
"""How long a replaced node stays: longer than any comparison, and than caches keep the description that named it."""

CONCURRENCY: Final = 32
"""Nodes read or written at once: a bucket answers after some 20 ms."""

_HEAD_BYTES: Final = 65_536
_LIST_BYTES: Final = 256 * 1024 * 1024
"""Largest list of replaced nodes: all nodes of a full mirror's part are far fewer."""
_LIST_KEY: Final = re.compile(rf"{REPLACED_PREFIX}(\d{{8}}T\d{{6}}Z)-[0-9a-f]{{16}}")
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_PATHS_KEPT: Final = 4096


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The root of a summary.

    Attributes:
        format: of the nodes.
        root: hex digest of the root's node.
        versions: how many entries the tree has.
        packages: of how many packages; kept by adding up, so two names whose positions begin alike may count as one.
        updated: when it was made (ISO 8601, UTC).
    """

    format: str
    root: str
    versions: int
    packages: int
    updated: str

    @property
    def ref(self) -> Ref:
        """The root as a reference."""
        return Ref(self.versions, self.root)


class NodeStore:
    """The nodes of one mirror's summary. All methods may be called by many tasks at once.

    Args:
        storage: the mirror.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._limiter = trio.CapacityLimiter(CONCURRENCY)

    def __repr__(self) -> str:
        return f"<NodeStore over {self._storage!r}>"

    async def read_head(self) -> tuple[Head | None, str | None]:
        """Return the root and the etag of what says so; None twice where there is none.

        Raises:
            StorageError: it is damaged, of another format, or cannot be read.
        """
        try:
            body, info = await self._storage.read(SUMMARY_HEAD_KEY, limit=_HEAD_BYTES)
        except ObjectMissingError:
            return None, None
        try:
            head = msgspec.json.decode(body, type=Head)
        except UNREADABLE_JSON as error:
            raise _damaged(SUMMARY_HEAD_KEY, error) from error
        if head.format != FORMAT:
            raise _damaged(SUMMARY_HEAD_KEY, f"format {head.format[:100]!r}, expected {FORMAT}")
        return head, info.etag

    async def read_etag(self) -> str | None:
        """Return the etag of what says which node is the root, without looking at it."""
        info = await self._storage.stat(SUMMARY_HEAD_KEY)
        return None if info is None else info.etag

    async def write_head(self, head: Head, *, etag: str | None) -> None:
        """Make another node the root, if the root is still the one that `etag` came with.

        Raises:
            PreconditionFailedError: another run was first.
            StorageError: the storage failed.
        """
        await swap(self._storage, SUMMARY_HEAD_KEY, msgspec.json.encode(head), etag=etag)

    async def read_node(self, prefix: str, ref: Ref) -> Node:
        """Return a node, checked.

        Raises:
            StorageError: it is missing or damaged, or the storage failed.
        """
        key = node_key(ref.digest)
        try:
            async with self._limiter:
                body, _ = await self._storage.read(key, limit=MAX_NODE_BYTES)
            return parse_node(body, prefix, ref)
        except (ObjectMissingError, SecurityError, UpstreamProtocolError) as error:
            raise _damaged(key, error) from error

    async def write_nodes(self, nodes: Iterable[tuple[str, bytes]]) -> None:
        """Write nodes, given as digest and bytes, before anything refers to them."""
        await for_each(nodes, lambda item: self._write(*item), at_once=CONCURRENCY)

    async def write_replaced(self, nodes: Sequence[tuple[str, str]], *, now: datetime) -> None:
        """Remember nodes, given as prefix and digest, that the tree in the making does without."""
        body = "".join([f"{prefix or '-'} {digest}\n" for prefix, digest in sorted(nodes)]).encode("ascii")
        name = hashlib.sha256(body).hexdigest()[:16]
        await self._storage.put(f"{REPLACED_PREFIX}{now.strftime(_STAMP)}-{name}", body)

    async def sweep(self, root: Ref, *, now: datetime) -> int:
        """Remove nodes that were replaced longer than `GRACE` ago and are not part of the tree; return how many."""
        removed = 0
        after: str | None = ""
        while after is not None:
            page = await self._storage.list(REPLACED_PREFIX, after=after)
            for info in page.objects:
                found = _LIST_KEY.fullmatch(info.key)
                if found and datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC) + GRACE < now:
                    removed += await self._sweep_list(info.key, root)
            after = page.more_after
        return removed

    async def sweep_all(self, is_live: Callable[[str], bool], *, part: str) -> int:
        """Remove all nodes whose digest begins with `part` (two digits) and is not live; return how many."""
        removed = 0
        after: str | None = ""
        while after is not None:
            page = await self._storage.list(f"{NODE_PREFIX}{part}/", after=after)
            dead = [info.key for info in page.objects if not is_live(info.key.rpartition("/")[2])]
            await for_each(dead, self._storage.delete, at_once=CONCURRENCY)
            removed += len(dead)
            after = page.more_after
        return removed

    async def _sweep_list(self, key: str, root: Ref) -> int:
        body, _ = await self._storage.read(key, limit=_LIST_BYTES)
        paths = _Paths(self, root)
        dead: list[str] = []
        for line in body.decode("ascii").split("\n")[:-1]:
            prefix, _, digest = line.partition(" ")
            if await paths.find("" if prefix == "-" else prefix) != digest:
                dead.append(node_key(digest))
        await for_each(dead, self._storage.delete, at_once=CONCURRENCY)
        await self._storage.delete(key)
        return len(dead)

    async def _write(self, digest: str, body: bytes) -> None:
        async with self._limiter:
            await self._storage.put(node_key(digest), body, content_type="text/plain; charset=utf-8")


class _Paths:
    """Finds nodes of one tree by their range; asked in order, it reads each inner node on the way once."""

    def __init__(self, store: NodeStore, root: Ref) -> None:
        self._store = store
        self._root = root
        self._known: OrderedDict[str, Inner | None] = OrderedDict()

    async def find(self, prefix: str) -> str | None:
        """Return the digest of the node of a range, None where the tree has none."""
        ref = self._root
        for depth in range(len(prefix)):
            inner = await self._inner(prefix[:depth], ref)
            child = None if inner is None else inner.children.get(prefix[depth])
            if child is None:
                return None
            ref = child
        return ref.digest

    async def _inner(self, prefix: str, ref: Ref) -> Inner | None:
        if prefix not in self._known:
            node = await self._store.read_node(prefix, ref)
            self._known[prefix] = node if isinstance(node, Inner) else None
            if len(self._known) > _PATHS_KEPT:
                self._known.popitem(last=False)
        return self._known[prefix]


def _damaged(key: str, reason: object) -> StorageError:
    return StorageError(f"the mirror's summary is damaged at {key}: {reason}; write it anew: mirrorwitness summarize")
