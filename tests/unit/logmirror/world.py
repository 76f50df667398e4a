"""What the tests of the log mirror share: logs in memory that grow and fork, and mirrors over storages in memory.

A `MirrorWorld` is what outlives processes: storage, anchor, clock. Each `MirrorWorld.start` is a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.paths import checkpoint_key, pending_key, tile_key
from mirrorwitness.logmirror.protocol import (
    INFO_TYPE,
    MirrorInfo,
    Package,
    UploadHead,
    bundle_start,
    format_head,
    format_package,
    package_spans,
    parse_info,
)
from mirrorwitness.logmirror.roles import LOG_MIRROR, RoleView
from mirrorwitness.logmirror.service import LogMirror
from mirrorwitness.logmirror.state import MirrorState
from mirrorwitness.tlog.checkpoint import OpenedCheckpoint, open_checkpoint, origin_hash
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import Range
from mirrorwitness.tlog.note import parse_lines, parse_note
from mirrorwitness.tlog.tiles import EntriesTile, Tile, all_tiles, edge_tiles, entries_tiles
from mirrorwitness.tlog.witnessing import format_add_checkpoint
from mirrorwitness.witness.lab import statement_of
from mirrorwitness.witness.logs import LogSet, WitnessedLog
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import check_states, open_identity
from mirrorwitness.witness.state import WitnessState
from tests.unit.witness.log_server import make_lab
from tests.unit.witness.world import Clock, MeddledStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.witness.lab import LabLog
    from mirrorwitness.witness.protocol import Answer
    from mirrorwitness.witness.service import Fork

__all__ = [
    "LAB",
    "OTHER_LAB",
    "OURS",
    "OURS_PQ",
    "MirrorWorld",
    "add",
    "body_of",
    "check_copy",
    "fill",
    "info_of",
    "lines_of",
    "pending",
    "post",
    "receiver",
    "witnessed",
]

OURS = make_signer_key("mirror.example/m1", bytes([41] * 32), KeyType.COSIGNATURE)
OURS_PQ = make_signer_key("mirror.example/m1", bytes([42] * 32), KeyType.ML_DSA_44)

LAB: Final = make_lab("mirrored")
OTHER_LAB: Final = make_lab("other")


def witnessed(lab: LabLog, url: str | None = None) -> WitnessedLog:
    """Return a log as a mirror has it configured."""
    return WitnessedLog(lab.origin, tuple([key.verifier for key in lab.keys]), url)


@dataclass
class MirrorWorld:
    """What outlives a process.

    Attributes:
        labs: whom its mirrors know.
        keys: who signs.
        storage: the storage.
        anchor: the anchor, where there is one.
        clock: the time.
        forks: what mirrors said of forks.
        known: how its mirrors have the logs configured, where that is not as usual.
    """

    labs: tuple[LabLog, ...] = (LAB, OTHER_LAB)
    keys: tuple[SignerKey, ...] = (OURS,)
    storage: MeddledStorage = field(default_factory=MeddledStorage)
    anchor: Storage | None = None
    clock: Clock = field(default_factory=Clock)
    forks: list[Fork] = field(default_factory=list["Fork"])
    known: tuple[WitnessedLog, ...] = ()

    async def start(self, *keys: SignerKey, storage: Storage | None = None) -> LogMirror:
        """Start a process."""
        keys = keys or self.keys
        storage = self.storage if storage is None else storage
        verifiers = [key.verifier for key in keys]
        digests = [origin_hash(lab.origin) for lab in self.labs]
        view = RoleView(storage, LOG_MIRROR, digests)
        anchor = None if self.anchor is None else RoleView(self.anchor, LOG_MIRROR, digests)
        own = await open_identity(view, anchor, verifiers)
        logs = LogSet(self.known or map(witnessed, self.labs), cosigners=own)
        signed = WitnessState(storage=view, anchor=anchor, own=own)
        await check_states(view, anchor, logs, signed)
        cosigner = Cosigner(state=signed, signers=[LocalSigner(key) for key in keys], own=own, now=self.clock)
        state = MirrorState(storage=storage, cosigner=cosigner)
        return LogMirror(logs=logs, storage=storage, state=state, cosigner=cosigner, on_fork=self.keep)

    async def keep(self, fork: Fork) -> None:
        """Keep what is said of a fork."""
        await trio.lowlevel.checkpoint()
        self.forks.append(fork)

    def published(self, lab: LabLog = LAB) -> OpenedCheckpoint | None:
        """Return the checkpoint that is served of a log, None where there is none."""
        body = self.storage.objects.get(checkpoint_key(lab.origin))
        return None if body is None else open_checkpoint(body, [lab.keys[0].verifier], origin=lab.origin)

    def size(self, lab: LabLog = LAB) -> int | None:
        """Return the size of the checkpoint that is served of a log."""
        found = self.published(lab)
        return None if found is None else found.checkpoint.size

    def has(self, tile: Tile | EntriesTile, lab: LabLog = LAB) -> bool:
        """Say whether a tile is stored."""
        return tile_key(lab.origin, tile) in self.storage.objects

    @property
    def state_key(self) -> str:
        """Where what is pending for the first log lies."""
        return pending_key(self.labs[0].origin)


def add(old: int, new: int, lab: LabLog = LAB) -> bytes:
    """Return an ``add-checkpoint``."""
    return format_add_checkpoint(old, lab.proof(old, new) if 0 < old <= new else [], lab.checkpoint(new))


def body_of(
    start: int,
    end: int,
    *,
    ticket: bytes = b"",
    packages: int | None = None,
    lab: LabLog = LAB,
    origin: str | None = None,
) -> bytes:
    """Return an ``add-entries`` with the first packages, or all."""
    parts = [format_head(UploadHead((origin or lab.origin).encode(), start, end, ticket))]
    for span in islice(package_spans(start, end), packages):
        entries = tuple([lab.entry(at) for at in range(span.start, span.end)])
        proof = tuple(lab.subtree_proof(bundle_start(span.start), span.end, end))
        parts.append(format_package(Package(span, entries, proof)))
    return b"".join(parts)


def receiver(*pieces: bytes, before: Callable[[int], Awaitable[None]] | None = None) -> Callable[[], Awaitable[bytes]]:
    """Return what gives a body in pieces; before each one something of the test's may happen."""
    waiting = list(enumerate(piece for piece in pieces if piece))

    async def receive() -> bytes:
        await trio.lowlevel.checkpoint()
        if not waiting:
            return b""
        number, piece = waiting.pop(0)
        if before is not None:
            await before(number)
        return piece

    return receive


async def post(mirror: LogMirror, *pieces: bytes, before: Callable[[int], Awaitable[None]] | None = None) -> Answer:
    """Send an ``add-entries``, and check what holds for every answer."""
    given = await mirror.add_entries(receiver(*pieces, before=before))
    assert (given.content_type == INFO_TYPE) == (given.status in {202, 409})
    if given.content_type == INFO_TYPE:
        info = parse_info(given.body)
        assert info.next_entry <= info.size, "a client would be told to begin above its end"
    return given


def info_of(given: Answer, status: int = 409) -> MirrorInfo:
    """Return what a mirror says of itself."""
    assert given.status == status, given
    return parse_info(given.body)


async def pending(mirror: LogMirror, *sizes: int, old: int = 0, lab: LabLog = LAB) -> None:
    """Let pending checkpoints of these sizes come."""
    for size in sizes:
        given = await mirror.add_checkpoint(add(old, size, lab))
        assert (given.status, given.body) == (200, b""), given
        old = size


async def fill(mirror: LogMirror, size: int, *, start: int = 0, old: int | None = None, lab: LabLog = LAB) -> Answer:
    """Bring a log to the mirror from an entry on, up to a size that becomes pending."""
    await pending(mirror, size, old=start if old is None else old, lab=lab)
    given = await post(mirror, body_of(start, size, lab=lab))
    assert given.status == 200, given
    return given


def lines_of(given: Answer, size: int, *keys: SignerKey, lab: LabLog = LAB) -> tuple[Cosignature, ...]:
    """Return the cosignatures of a good answer, which are of exactly these keys on the tree of a size."""
    assert given.status == 200, given
    lines = parse_lines(given.body)
    found = check_cosignatures(lines, [key.verifier for key in keys or (OURS,)], statement_of(lab.text(size)))
    assert len(found) == len(lines) == len(keys or (OURS,))
    return found


def check_copy(world: MirrorWorld, size: int, lab: LabLog = LAB) -> None:
    """Check that everything that a client of a log needs at the size of its checkpoint is there, and is the log's."""
    opened = world.published(lab)
    assert opened is not None
    assert (opened.checkpoint.size, opened.checkpoint.root) == (size, lab.root(size))
    ours = {(key.verifier.name, key.verifier.key_id) for key in world.keys}
    theirs = {(key.verifier.name, key.verifier.key_id) for key in lab.keys[:1]}
    assert {(line.name, line.key_id) for line in opened.note.signatures} == ours | theirs
    statement = Statement(lab.origin, 0, size, opened.checkpoint.root, opened.note.text)
    assert check_cosignatures(opened.note.signatures, [key.verifier for key in world.keys], statement)
    objects = world.storage.objects
    for tile in all_tiles(0, size):
        assert objects[tile_key(lab.origin, tile)] == _tile(lab, tile), tile
    for tile in edge_tiles(size):
        assert world.has(tile, lab)
    for bundle in entries_tiles(0, size):
        first = bundle.index * 256
        entries = [lab.entry(at) for at in range(first, first + bundle.width)]
        assert objects[tile_key(lab.origin, bundle)] == format_entries(entries), bundle


def next_of(world: MirrorWorld, lab: LabLog = LAB) -> int:
    """Return how many entries the stored record says are here."""
    body = world.storage.objects[pending_key(lab.origin)]
    return int(body.partition(b'"next":')[2].partition(b",")[0].strip(b"}") or 0)


def published_lines(world: MirrorWorld, lab: LabLog = LAB) -> Sequence[str]:
    """Return the names of whoever signed what is served."""
    body = world.storage.objects[checkpoint_key(lab.origin)]
    return [line.name for line in parse_note(body).signatures]


def _tile(lab: LabLog, tile: Tile) -> bytes:
    width = 256**tile.level
    first = tile.index * 256
    return b"".join(lab.node(Range(at * width, (at + 1) * width)) for at in range(first, first + tile.width))
