"""What the tests of the witness share: logs in memory that grow, fork and sign, and a witness over storages in memory.

A `Log` has all sizes at once; a fork of it has the same keys and origin, and other entries from some index on.
A `World` is what outlives processes: storage, anchor, clock. Each `World.start` is a process.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.tlog.checkpoint import Checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import (
    Range,
    leaf_hash,
    make_proof,
    plan_consistency,
    plan_subtree,
    root_of,
)
from mirrorwitness.tlog.note import Note, Signature, format_note, parse_lines, parse_note
from mirrorwitness.witness.logs import LogSet, WitnessedLog
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.service import Witness
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import check_states, open_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from mirrorwitness.storage import Body, ObjectInfo, Storage
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.witness.protocol import Answer
    from mirrorwitness.witness.service import Fork
    from tests.fakes.storage import Operation

__all__ = [
    "LOG",
    "LOG_KEY",
    "LOG_PQ",
    "NEXT",
    "OTHER",
    "OURS",
    "OURS_PQ",
    "SIZES",
    "START",
    "STRANGER",
    "Clock",
    "Log",
    "MeddledStorage",
    "World",
    "contradiction",
    "cosign",
    "forge",
    "grow",
    "make_note",
    "read_cosignatures",
    "sign",
]

SIZES: Final = 40
"""Largest tree of a log."""

START: Final = 1_790_000_000
"""When the clock starts: a day in 2026."""

LOG_KEY = make_signer_key("log.example/a", bytes([11] * 32))
LOG_PQ = make_signer_key("log.example/a", bytes([12] * 32), KeyType.ML_DSA_44)
OTHER_KEY = make_signer_key("log.example/b", bytes([13] * 32))
OURS = make_signer_key("witness.example/w1", bytes([21] * 32), KeyType.COSIGNATURE)
OURS_PQ = make_signer_key("witness.example/w1", bytes([22] * 32), KeyType.ML_DSA_44)
NEXT = make_signer_key("witness.example/w2", bytes([23] * 32), KeyType.COSIGNATURE)
STRANGER = make_signer_key("stranger.example", bytes([31] * 32), KeyType.COSIGNATURE)


class Log:
    """A log, or a fork of one.

    Args:
        keys: its keys; all sign.
        origin: its origin; by default the name of its first key.
        forks: for each fork from which index on the entries differ.
    """

    def __init__(self, *keys: SignerKey, origin: str | None = None, forks: tuple[int, ...] = ()) -> None:
        self.keys = keys
        self.origin = origin or keys[0].name
        self._forks = forks
        self._leaves = [leaf_hash(self._entry(index)) for index in range(SIZES)]

    @property
    def witnessed(self) -> WitnessedLog:
        """The log as a witness knows it."""
        return WitnessedLog(self.origin, tuple(key.verifier for key in self.keys))

    def fork(self, at: int) -> Log:
        """Return a log whose entries differ from index `at` on."""
        return Log(*self.keys, origin=self.origin, forks=(*self._forks, at))

    def root(self, start: int, end: int) -> Hash:
        """Return the hash of some entries."""
        return root_of(self._leaves[start:end])

    def tree(self, size: int, *extension: str) -> Checkpoint:
        """Return the tree head of a size."""
        return Checkpoint(self.origin, size, self.root(0, size), extension)

    def proof(self, old: int, new: int) -> list[Hash]:
        """Return the consistency proof from a size to another."""
        return make_proof(plan_consistency(old, new), self._hash_of)

    def subtree_proof(self, start: int, end: int, size: int) -> list[Hash]:
        """Return the proof that a subtree is part of the tree of a size."""
        return make_proof(plan_subtree(start, end, size), self._hash_of)

    def note(self, size: int, *extension: str, more: Iterable[Signature] = ()) -> bytes:
        """Return the signed checkpoint of a size, with more lines behind those of the log."""
        tree = self.tree(size, *extension)
        return make_note(tree, *[sign(key, tree.text) for key in self.keys], *more)

    def request(self, old: int, size: int, *extension: str, more: Iterable[Signature] = ()) -> bytes:
        """Return an ``add-checkpoint``; the proof is empty where none leads from `old` to `size`."""
        proof = self.proof(old, size) if old <= size else []
        return format_add_checkpoint(old, proof, self.note(size, *extension, more=more))

    def _entry(self, index: int) -> bytes:
        return b"/".join([self.origin.encode(), *[b"%d" % at for at in self._forks if index >= at], b"%d" % index])

    def _hash_of(self, node: Range) -> Hash:
        return self.root(node.start, node.end)


LOG = Log(LOG_KEY)
OTHER = Log(OTHER_KEY)


def contradiction(listed: SignerKey, known: SignerKey) -> str:
    """Return what is said of a log that has another key in a list than is known."""
    names = [f"{key.name}+{key.verifier.key_id.hex()}" for key in (listed, known)]
    return (
        f"{listed.name!r} is listed with the key {names[0]}, and known with {names[1]}: nothing changes; where both "
        "are the log's, give both with --log"
    )


def make_note(tree: Checkpoint, *lines: Signature) -> bytes:
    """Return a checkpoint with these lines and no others."""
    return format_note(Note(tree.text, lines))


def sign(key: SignerKey, text: bytes) -> Signature:
    """Return the line of a log under the text of a checkpoint."""
    if key.verifier.kind is KeyType.ED25519:
        return Signature(key.name, key.verifier.key_id, key.sign(text))
    return cosign(key, text, 0)


def cosign(key: SignerKey, text: bytes, timestamp: int) -> Signature:
    """Return the line of a cosigner under the text of a checkpoint."""
    message = cosigned_message(key.verifier, timestamp, _statement(text))
    return make_line(key.verifier, timestamp, key.sign(message))


def forge(line: Signature) -> Signature:
    """Return a line of the same key that does not verify."""
    return Signature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))


def read_cosignatures(lines: bytes | Sequence[Signature], text: bytes, *keys: SignerKey) -> list[Cosignature]:
    """Return the cosignatures of exactly these keys that lines are on a checkpoint; all lines have to be theirs."""
    parsed = parse_lines(lines) if isinstance(lines, bytes) else lines
    found = check_cosignatures(parsed, [key.verifier for key in keys], _statement(text))
    assert len(found) == len(parsed)
    assert {item.key for item in found} == {key.verifier for key in keys}
    return list(found)


def _statement(text: bytes) -> Statement:
    tree = parse_checkpoint(text)
    return Statement(tree.origin, 0, tree.size, tree.root, text)


class MeddledStorage(MemoryStorage):
    """A storage in which somebody else is faster: does something of the test's before an operation, once."""

    def __init__(self, objects: Mapping[str, bytes] | None = None) -> None:
        super().__init__(objects)
        self._meddlers: list[tuple[Operation, str, Callable[[], Awaitable[object]]]] = []

    def before(self, operation: Operation, key: str, work: Callable[[], Awaitable[object]]) -> None:
        """Do some work before the next operation of a kind on a key."""
        self._meddlers.append((operation, key, work))

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object, a moment later."""
        await self._meddle("read", key)
        return await super().read(key, limit=limit)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object, a moment later."""
        await self._meddle("put", key)
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)

    async def _meddle(self, operation: Operation, key: str) -> None:
        due = [item for item in self._meddlers if item[:2] == (operation, key)]
        for item in due[:1]:
            self._meddlers.remove(item)
            await item[2]()


@dataclass
class Clock:
    """A clock that stands until it is set."""

    at: float = START

    def __call__(self) -> float:
        """Return seconds since 1970."""
        return self.at


@dataclass
class World:
    """What outlives a process.

    Attributes:
        logs: whom its witnesses know.
        keys: who signs.
        storage: the storage.
        anchor: the anchor, where there is one.
        clock: the time.
        rates: how often a log may ask.
        forks: what `Witness` said of forks.
    """

    logs: tuple[Log | WitnessedLog, ...] = (LOG,)
    keys: tuple[SignerKey, ...] = (OURS,)
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    anchor: MemoryStorage | None = None
    clock: Clock = field(default_factory=Clock)
    rates: Rates = field(default_factory=lambda: Rates(per_second=0))
    forks: list[Fork] = field(default_factory=list["Fork"])

    async def start(self, *keys: SignerKey, storage: Storage | None = None) -> Witness:
        """Start a process, with other keys where some are given."""
        keys = keys or self.keys
        storage = self.storage if storage is None else storage
        own = await open_identity(storage, self.anchor, [key.verifier for key in keys])
        logs = self.known(*keys)
        state = WitnessState(storage=storage, anchor=self.anchor, own=own)
        await check_states(storage, self.anchor, logs, state)
        return Witness(
            logs=logs,
            state=state,
            signers=[LocalSigner(key) for key in keys],
            own=own,
            now=self.clock,
            rates=self.rates,
            on_fork=self._keep,
        )

    def known(self, *keys: SignerKey) -> LogSet:
        """Return the logs as a witness of these keys knows them."""
        logs = [log.witnessed if isinstance(log, Log) else log for log in self.logs]
        return LogSet(logs, cosigners=[key.verifier for key in keys or self.keys])

    def published(self, log: Log = LOG, *, anchor: bool = False) -> Note:
        """Return the checkpoint of a log that is published, here or in the anchor."""
        storage = self.anchor if anchor else self.storage
        assert storage is not None
        (found,) = [
            note
            for key, body in storage.objects.items()
            if key.startswith("witness/") and parse_checkpoint((note := parse_note(body)).text).origin == log.origin
        ]
        return found

    def published_sizes(self) -> list[int]:
        """Return the sizes of all checkpoints that are published here."""
        return [
            parse_checkpoint(parse_note(body).text).size
            for key, body in self.storage.objects.items()
            if key.startswith("witness/")
        ]

    def copy(self, prefix: str = "") -> dict[str, bytes]:
        """Return a copy of what is stored below a prefix."""
        return {key: body for key, body in self.storage.objects.items() if key.startswith(prefix)}

    def restore(self, copy: dict[str, bytes], prefix: str = "") -> None:
        """Put an older copy back, in the place of everything below a prefix."""
        for key in self.storage.objects:
            if key.startswith(prefix):
                self.storage.remove(key)
        for key, body in copy.items():
            self.storage.set_bytes(key, body)

    async def _keep(self, fork: Fork) -> None:
        await trio.lowlevel.checkpoint()
        self.forks.append(fork)


async def grow(witness: Witness, *sizes: int, log: Log = LOG, old: int = 0) -> list[Answer]:
    """Let a log grow from size to size; all of it is cosigned."""
    answers = [
        await witness.add_checkpoint(log.request(before, new))
        for before, new in zip((old, *sizes), sizes, strict=False)
    ]
    assert [answer.status for answer in answers] == [200] * len(sizes)
    return answers
