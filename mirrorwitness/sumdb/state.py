"""State of a log in its storage: made, opened, and completed where a sequencer was killed.

    new records staged -> head swapped -> bundles and tiles -> indexes -> what was staged removed

Rules:

- Opening completes the last batch. It can be done at any time, by any number of processes, at any point of another's
  batch: everything that is written is decided by the head and what was staged for it, and indexes are merged.
- Staged records for a size that the head has reached are never needed again; others may be those of a sequencer that is
  just about to swap, and stay.
- The last bundle and the partial tiles must have the root that the head says, and the published checkpoint must be an
  earlier tree of the same log. A storage of which parts were lost or restored from an older copy does not open.

What it does not do: append (`mirrorwitness.sumdb.log`), or look at more than the edge (`mirrorwitness.sumdb.fsck`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    ObjectMissingError,
    PreconditionFailedError,
    RolledBackError,
)
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.sumdb.growth import EMPTY_EDGE, Edge, edge_bundle, grow, make_edge, parse_staged
from mirrorwitness.sumdb.head import (
    Head,
    Identity,
    check_keys,
    format_head,
    format_identity,
    parse_head,
    parse_identity,
)
from mirrorwitness.sumdb.index import make_line
from mirrorwitness.sumdb.indexes import add_lines
from mirrorwitness.sumdb.paths import (
    CHECKPOINT_KEY,
    HEAD_KEY,
    IDENTITY_KEY,
    STAGED_PREFIX,
    size_of_staged_key,
    tile_key,
)
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import Checkpoint, OpenedCheckpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES, parse_entries
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.tiles import edge_tiles

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.growth import Growth
    from mirrorwitness.sumdb.index import IndexLine, PackageIndex
    from mirrorwitness.tlog.keys import SignerKey

__all__ = [
    "AT_ONCE",
    "LogState",
    "apply",
    "create_log",
    "read_head",
    "read_identity",
    "read_published",
    "read_state",
]

AT_ONCE: Final = 32
"""Objects that are written at once: as many as a directory storage has threads, and a bucket's pool connections."""

MAX_STATE_BYTES: Final = 2 * MAX_NOTE_BYTES
"""Largest head or identity in bytes: a head holds a note, as JSON."""

_OCTETS: Final = "application/octet-stream"
_JSON: Final = "application/json"

Known: TypeAlias = "tuple[PackageIndex, str | None]"
"""An index, and the storage's token of it."""


@dataclass(frozen=True, slots=True)
class LogState:
    """A log, as it was found or left.

    Attributes:
        head: its newest tree.
        etag: the storage's token of the head.
        edge: the right edge of that tree.
    """

    head: Head
    etag: str
    edge: Edge


async def create_log(storage: Storage, *, origin: str, keys: Sequence[SignerKey], now: float) -> Identity:
    """Begin a log: sign the empty tree, and make the storage this log's.

    Args:
        storage: where.
        origin: the first line of its checkpoints.
        keys: its keys, all of the origin's name, at least one of type Ed25519.
        now: seconds since 1970.

    Raises:
        ConfigurationError: the storage has a log, or something of one; or these are no keys of a log.
        StorageError: the storage failed. The same call again goes on where it ended.
    """
    verifiers = tuple([key.verifier for key in keys])
    check_keys(origin, verifiers)
    identity = Identity(origin, verifiers)
    for key in (IDENTITY_KEY, CHECKPOINT_KEY):
        if await storage.stat(key) is not None:
            raise ConfigurationError(f"{key} exists: this storage has a log already, and a log is never begun anew")
    note = sign_checkpoint(Checkpoint(origin, 0, EMPTY_ROOT), keys, timestamp=int(now))
    try:
        await storage.put(HEAD_KEY, format_head(note, 0), if_absent=True, content_type=_JSON)
    except PreconditionFailedError:
        body, info = await storage.read(HEAD_KEY, limit=MAX_STATE_BYTES)
        await _take_over(storage, body, info.etag, format_head(note, 0))
    try:
        await storage.put(IDENTITY_KEY, format_identity(identity), if_absent=True, content_type=_JSON)
    except PreconditionFailedError as error:
        raise ConfigurationError(f"{IDENTITY_KEY} exists: somebody else begins a log in this storage") from error
    return identity


async def _take_over(storage: Storage, found: bytes, etag: str, body: bytes) -> None:
    """Replace the head of a beginning that was interrupted; any other belongs to a log whose identity was lost."""
    if b'"before": 0' not in found or b"\\n0\\n" not in found:
        raise ConfigurationError(f"{HEAD_KEY} exists without {IDENTITY_KEY}: a part of a log was lost; restore it")
    try:
        await storage.put(HEAD_KEY, body, if_match=etag, content_type=_JSON)
    except PreconditionFailedError as error:
        raise ConfigurationError(f"{HEAD_KEY} has changed: somebody else begins a log in this storage") from error


async def read_identity(storage: Storage) -> Identity:
    """Read whose log a storage holds.

    Raises:
        ConfigurationError: there is no log.
        UpstreamProtocolError: what is there is none that this version reads.
        StorageError: the storage failed.
    """
    try:
        body, _ = await storage.read(IDENTITY_KEY, limit=MAX_STATE_BYTES)
    except ObjectMissingError as error:
        raise ConfigurationError(f"{IDENTITY_KEY} is missing: this storage has no log yet; begin one first") from error
    return parse_identity(body)


async def read_head(storage: Storage, identity: Identity) -> tuple[Head, str]:
    """Read the head, and the storage's token of it.

    Raises:
        RolledBackError: there is none: it was lost.
        UpstreamProtocolError: it is none that this version reads.
        SignatureError: the log did not sign it.
        StorageError: the storage failed.
    """
    try:
        body, info = await storage.read(HEAD_KEY, limit=MAX_STATE_BYTES)
    except ObjectMissingError as error:
        raise RolledBackError(f"{HEAD_KEY} is missing, and the log exists: restore its newest version") from error
    return parse_head(body, identity), info.etag


async def read_published(storage: Storage, identity: Identity) -> tuple[OpenedCheckpoint, str] | None:
    """Read the published checkpoint, and the storage's token of it; None where nothing is published yet.

    Raises:
        UpstreamProtocolError: it is no checkpoint of this log.
        SignatureError: the log did not sign it.
        StorageError: the storage failed.
    """
    try:
        body, info = await storage.read(CHECKPOINT_KEY, limit=MAX_NOTE_BYTES)
    except ObjectMissingError:
        return None
    return open_checkpoint(body, identity.keys, origin=identity.origin), info.etag


async def read_state(storage: Storage, identity: Identity) -> LogState:
    """Read a log, and complete its last batch where that is not done.

    Raises:
        RolledBackError: the head is lost, or behind what is published.
        IntegrityMismatchError: what was staged does not lead to the head.
        ProofError: the right edge of the tree has another root.
        UpstreamProtocolError: an object is not what its key says.
        SignatureError: the log did not sign its head, or what is published.
        StorageError: the storage failed.
    """
    # Read before the head: another sequencer may publish a newer one meanwhile.
    published = await read_published(storage, identity)
    head, etag = await read_head(storage, identity)
    edge = await _complete(storage, head)
    if edge is None:
        edge = await _read_edge(storage, head.checkpoint)
    if published is not None:
        await _check_published(storage, published[0].checkpoint, head)
    await _remove_staged(storage, head)
    return LogState(head, etag, edge)


async def apply(
    storage: Storage,
    growth: Growth,
    lines: Mapping[PackageName, Iterable[IndexLine]],
    known: Mapping[PackageName, Known],
) -> None:
    """Write what a head has added: bundles, tiles, and lines of indexes.

    Args:
        storage: where.
        growth: the bundles and tiles.
        lines: the lines of the new records.
        known: indexes that were read already; they may be old.

    Raises:
        StorageError: the storage failed; done again, it ends with the same.
    """

    async def write(item: tuple[str, bytes]) -> None:
        await storage.put(*item, content_type=_OCTETS)

    async def add(item: tuple[PackageName, Iterable[IndexLine]]) -> None:
        name, added = item
        await add_lines(storage, name, added, known=known.get(name))

    objects = [(tile_key(bundle), body) for bundle, body in growth.bundles.items()]
    objects += [(tile_key(tile), body) for tile, body in growth.tiles.items()]
    await for_each(objects, write, at_once=min(AT_ONCE, len(objects)))
    await for_each(lines.items(), add, at_once=min(AT_ONCE, len(lines)))


async def _complete(storage: Storage, head: Head) -> Edge | None:
    """Apply what is staged for the head, and return its edge; None where it was applied before."""
    if head.staged is None:
        return None
    count = head.size - head.before
    try:
        body, _ = await storage.read(head.staged, limit=count * (MAX_ENTRY_BYTES + 2))
    except ObjectMissingError:
        return None
    entries = parse_staged(body, count)
    growth = grow(await _read_old_edge(storage, head.before), entries)
    if growth.edge.root != head.checkpoint.root:
        raise IntegrityMismatchError(
            f"{head.staged} leads from {head.before} entries to the root {growth.edge.root.hex()}, "
            f"and the head says {head.checkpoint.root.hex()}: a tile of the old tree, or it, was changed"
        )
    lines: dict[PackageName, list[IndexLine]] = {}
    for at, entry in enumerate(entries, head.before):
        record = parse_record(entry)
        lines.setdefault(record.name, []).append(make_line(at, record))
    await apply(storage, growth, lines, {})
    await storage.delete(head.staged)
    return growth.edge


async def _read_old_edge(storage: Storage, size: int) -> Edge:
    """Read the edge that staged records are appended to; the root that they lead to vouches for it."""
    return await _read_edge(storage, Checkpoint("", size, await Prover(StoredLog(storage)).root(size)))


async def _read_edge(storage: Storage, tree: Checkpoint) -> Edge:
    if not tree.size:
        return EMPTY_EDGE
    log = StoredLog(storage)
    tiles = await log.read_tiles(edge_tiles(tree.size))
    bundle = edge_bundle(tree.size)
    entries: list[bytes] = []
    if bundle is not None:
        ((given, body),) = (await log.read_entries([bundle])).items()
        entries = parse_entries(body, given)[: bundle.width]
    return make_edge(tree.size, tree.root, tiles, entries)


async def _check_published(storage: Storage, published: Checkpoint, head: Head) -> None:
    if published.size > head.size:
        raise RolledBackError(
            f"{HEAD_KEY} has {head.size} entries, and {published.size} are published: it was restored from an older "
            "copy. Restore its newest version; what was published cannot be taken back"
        )
    root = await Prover(StoredLog(storage)).root(published.size)
    if root != published.root:
        raise RolledBackError(
            f"{CHECKPOINT_KEY} says {published}, and the tiles of this log lead to {root.hex()}: parts of two "
            "histories are in this storage. Nothing more is signed"
        )


async def _remove_staged(storage: Storage, head: Head) -> None:
    """Remove what no head can need any more."""
    for key in await list_keys(storage, STAGED_PREFIX):
        if size_of_staged_key(key) <= head.size:
            await storage.delete(key)
