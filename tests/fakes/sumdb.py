"""A checksum database in memory: signs, is cosigned, grows, forks, lies; over HTTP or as the protocols of its readers.

Rules:

- The tree is hashed node by node from the records, with nothing of `mirrorwitness.tlog.tiles` but the reading of paths.
- It has every size at once: what it shows is what `show` said last; look-ups are answered at the size that is named.
- A fork shares keys, origin and the first records with its log.
- A lie is a body (`bodies`), a status, or a fault at a path; nothing else of it is changed.

It is no server of ours: `mirrorwitness.server.sumdb` is, and shares no code with it.
"""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from mirrorwitness.errors import UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record, format_record, parse_record
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.keys import KeyType, SignerKey, make_signer_key
from mirrorwitness.tlog.merkle import Hash, Range, leaf_hash, make_proof, node_hash, plan_inclusion, subtree_hash
from mirrorwitness.tlog.note import Note, Signature, format_note
from mirrorwitness.tlog.tiles import Dialect, EntriesTile, Tile, parse_tile_path
from tests.fakes.registry_server import Fault, FaultPlan, RecordedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["ORIGIN", "REGISTRY", "FakeSumdb", "filler", "integrity_of", "make_record"]

ORIGIN: Final = "sumdb.example.org"
REGISTRY: Final = "registry.example"
TIME: Final = 1_790_000_000

LOG_KEY: Final = make_signer_key(ORIGIN, bytes([11] * 32))
LOG_KEY_PQ: Final = make_signer_key(ORIGIN, bytes([12] * 32), KeyType.ML_DSA_44)
W1: Final = make_signer_key("w1.example.org", bytes([13] * 32), KeyType.COSIGNATURE)
W2: Final = make_signer_key("w2.example.org", bytes([14] * 32), KeyType.COSIGNATURE)
STRANGER: Final = make_signer_key("stranger.example.org", bytes([15] * 32), KeyType.COSIGNATURE)

POLICY: Final = f"witness w1 {W1.verifier}\nwitness w2 {W2.verifier}\ngroup both all w1 w2\nquorum both\n".encode()
"""Both witnesses have to have cosigned."""

_TEXT: Final = (("content-type", "text/plain; charset=utf-8"),)


def integrity_of(data: bytes) -> str:
    """Return the sha512 of some bytes as an integrity string."""
    return f"sha512-{base64.b64encode(hashlib.sha512(data).digest()).decode()}"


def make_record(
    name: str,
    version: str = "1.0.0",
    data: bytes = b"",
    *,
    event: Event = Event.PUBLISH,
    registry: str = REGISTRY,
    other: bytes = b"other bytes",
) -> Record:
    """Make the record of a version whose tarball has these bytes."""
    is_conflict = event is Event.CONFLICT
    return Record(
        registry=registry,
        name=PackageName(name),
        version=Version(version),
        integrity=integrity_of(data),
        tarball_size=len(data),
        shasum=hashlib.sha1(data, usedforsecurity=False).hexdigest(),
        manifest=hashlib.sha256(name.encode()).digest(),
        tarball_manifest=hashlib.sha256(data).digest(),
        published="2026-07-01T12:00:00.000Z",
        signatures=(("SHA256:abc", base64.b64encode(b"signature").decode()),),
        attestations=None,
        event=event,
        other_integrity=integrity_of(other) if is_conflict else None,
        evidence=hashlib.sha256(other).digest() if is_conflict else None,
    )


def filler(count: int) -> list[Record]:
    """Make records that nobody asks for."""
    return [make_record(f"filler-{number}") for number in range(count)]


class FakeSumdb:
    """One log.

    Args:
        records: its records, in order.
        size: the tree that it shows; None for all of it.
        keys: who signs its checkpoints.
        witnesses: who cosigns them.

    Attributes:
        entries: the bytes of its records.
        asked: the paths that were asked for, in order.
        bodies: path → what is served there instead.
        statuses: path → the status of the answer.
        gone: paths at which nothing is.
        latency: seconds before each answer.
        time: when its witnesses cosign, in seconds since 1970; None for `TIME`.
        note: the checkpoint that it shows, where that is not one of its own.
        on_ask: path → what is done, once, when it has been answered.
    """

    def __init__(
        self,
        records: Iterable[Record],
        *,
        size: int | None = None,
        keys: Sequence[SignerKey] = (LOG_KEY,),
        witnesses: Sequence[SignerKey] = (W1, W2),
    ) -> None:
        self.prefix = "/sumdb"
        self.base = ""
        self.latency = 0.0
        self.time: int | None = None
        self.entries = [format_record(record) for record in records]
        self.asked: list[str] = []
        self.bodies: dict[str, bytes] = {}
        self.statuses: dict[str, int] = {}
        self.gone: set[str] = set()
        self.note: bytes | None = None
        self.on_ask: dict[str, Callable[[], object]] = {}
        self.keys = tuple(keys)
        self.witnesses = tuple(witnesses)
        self._faults = FaultPlan()
        self._nodes: dict[Range, Hash] = {}
        self._size = len(self.entries) if size is None else size

    @property
    def flag(self) -> str:
        """What ``--sumdb`` gets."""
        return f"{','.join(str(key.verifier) for key in self.keys)}={self.base}"

    def append(self, *records: Record) -> None:
        """Log more records, and show the tree that has them."""
        self.entries += [format_record(record) for record in records]
        self.show(len(self.entries))

    def show(self, size: int) -> None:
        """Show the tree of this size from now on."""
        self._size = size

    def fork(self, start: int, *records: Record) -> FakeSumdb:
        """Return a log of the same origin and keys that has other records from an index on."""
        twin = FakeSumdb((), keys=self.keys, witnesses=self.witnesses)
        twin.entries = [*self.entries[:start], *(format_record(record) for record in records)]
        twin.show(len(twin.entries))
        return twin

    def become(self, other: FakeSumdb) -> None:
        """Serve another history from now on, at the same address."""
        self.entries, self._nodes, self._size = other.entries, other._nodes, other._size

    def fail(self, path: str, fault: Fault, *, times: int | None = None) -> None:
        """Let something go wrong with the answers at a path."""
        self._faults.add(path, fault, times)

    def tree(self, size: int | None = None) -> Checkpoint:
        """Return the tree head at a size."""
        size = self._size if size is None else size
        return Checkpoint(ORIGIN, size, subtree_hash(Range(0, size), self._node))

    def checkpoint(self, size: int | None = None, *signers: SignerKey) -> bytes:
        """Return the checkpoint at a size, signed by the log and its witnesses, or by others."""
        tree = self.tree(size)
        at = TIME if self.time is None else self.time
        keys = signers or self.keys + self.witnesses
        return format_note(Note(tree.text, tuple([_sign(key, tree, at) for key in keys])))

    def lookup(self, name: str, version: str, size: int) -> bytes | None:
        """Return the answer for a version; None where the tree does not have it."""
        for index in range(size - 1, -1, -1):
            record = parse_record(self.entries[index])
            if (record.name, record.version) == (name, version):
                return self.proof(index, size)
        return None

    def proof(self, index: int, size: int) -> bytes:
        """Return the tlog-proof of an entry, up to its empty line, written by hand."""
        hashes = make_proof(plan_inclusion(index, size), self._node)
        extra = base64.b64encode(self.entries[index]).decode()
        lines = ["c2sp.org/tlog-proof@v1", f"extra {extra}", f"index {index}"]
        return "".join(
            f"{line}\n" for line in [*lines, *(base64.b64encode(item).decode() for item in hashes), ""]
        ).encode()

    def tile(self, tile: Tile) -> bytes:
        """Return the bytes of a tile."""
        width = 256**tile.level
        first = tile.index * 256
        return b"".join(
            self._node(Range(number * width, (number + 1) * width)) for number in range(first, first + tile.width)
        )

    # What reads a log: `LogSource` and `LookupSource`, without a network.

    async def read_head(self) -> bytes:
        """Return the checkpoint that it shows."""
        return self.note or self.checkpoint()

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles."""
        self.asked += [str(tile) for tile in tiles]
        for tile in tiles:
            if (tile.index * 256 + tile.width) << 8 * tile.level > len(self.entries):
                raise UpstreamNotFoundError(f"{tile}: status 404")
        return {tile: self.bodies.get(f"/{tile}", self.tile(tile)) for tile in tiles}

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles of entries."""
        first = {tile: tile.index * 256 for tile in tiles}
        return {tile: format_entries(self.entries[first[tile] : first[tile] + tile.width]) for tile in tiles}

    async def read_lookup(self, name: PackageName, version: Version, *, size: int) -> bytes:
        """Return the answer for a version."""
        path = f"/lookup/{name}@{version}?size={size}"
        self.asked.append(path)
        body = self.bodies.get(path) or self.lookup(name, version, size)
        if body is None or size > self._size:
            raise UpstreamNotFoundError(f"{path}: status 404")
        return body

    # The same over HTTP.

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        path = unquote(request.target.removeprefix(self.prefix))
        self.asked.append(path)
        body = None if path in self.gone else self.bodies.get(path, self._find(path))
        reply = Reply(404, _TEXT, b"not logged\n")
        if body is not None:
            is_conflict = path.startswith("/lookup/") and b"event conflict" in base64.b64decode(_extra_of(body))
            reply = Reply(self.statuses.get(path, 409 if is_conflict else 200), _TEXT, body)
        fault = self._faults.next(path)
        self.on_ask.pop(path, bool)()
        return reply if fault is None else fault.spoil(reply)

    def _find(self, path: str) -> bytes | None:
        if path == "/checkpoint":
            return self.note or self.checkpoint()
        if path.startswith("/lookup/"):
            subject, _, size = path.removeprefix("/lookup/").partition("?size=")
            name, _, version = subject.rpartition("@")
            return self.lookup(name, version, int(size)) if int(size) <= self._size else None
        try:
            tile = parse_tile_path(path.removeprefix("/"), Dialect.TILES)
        except UpstreamProtocolError:
            return None
        level = tile.level if isinstance(tile, Tile) else 0
        if (tile.index * 256 + tile.width) << 8 * level > len(self.entries):
            return None
        if isinstance(tile, Tile):
            return self.tile(tile)
        return format_entries(self.entries[tile.index * 256 : tile.index * 256 + tile.width])

    def _node(self, span: Range) -> Hash:
        found = self._nodes.get(span)
        if found is None:
            middle = (span.start + span.end) // 2
            found = (
                leaf_hash(self.entries[span.start])
                if span.end - span.start == 1
                else node_hash(self._node(Range(span.start, middle)), self._node(Range(middle, span.end)))
            )
            self._nodes[span] = found
        return found


def _extra_of(body: bytes) -> bytes:
    lines = body.split(b"\n")
    return lines[1].removeprefix(b"extra ") if len(lines) > 1 and lines[1].startswith(b"extra ") else b""


def _sign(key: SignerKey, tree: Checkpoint, at: int) -> Signature:
    if key.verifier.kind is KeyType.ED25519:
        return Signature(key.name, key.verifier.key_id, key.sign(tree.text))
    statement = Statement(tree.origin, 0, tree.size, tree.root, tree.text)
    return make_line(key.verifier, at, key.sign(cosigned_message(key.verifier, at, statement)))
