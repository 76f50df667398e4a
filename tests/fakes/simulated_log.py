"""The real log over a storage, filled from a registry simulator and read without HTTP, for tests of mirrors.

    log = await open_simulated_log()
    await log.add(sim, "left-pad", "1.0.0")
    voucher = log.make_voucher(MemoryStorage())

It is both what a client reads the log from and what it looks versions up with. Its one witness cosigns what it shows.
`tests.fakes.sumdb` is the fake that shares no code with the log, speaks HTTP and lies.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mirrorwitness.errors import UpstreamNotFoundError
from mirrorwitness.mirror.logword import LogVoucher
from mirrorwitness.npm.canonical import hash_manifest
from mirrorwitness.npm.integrity import parse_integrity
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.tarball import read_tarball
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.log import Log, Proposal, create_log, open_log
from mirrorwitness.sumdb.lookups import Lookup, format_lookup
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.ratchet import Ratchet
from mirrorwitness.sumdb.records import Event, Record
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.sumdb.terms import Terms, make_terms
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.policy import Policy
from mirrorwitness.tlog.policy_text import PolicyLog, PolicyWitness
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.fates import Sequenced
    from mirrorwitness.tlog.keys import SignerKey
    from mirrorwitness.tlog.tiles import EntriesTile, Tile
    from tests.fakes.registry import RegistrySimulator

__all__ = ["ORIGIN", "REGISTRY", "SimulatedLog", "make_registry_record", "open_simulated_log"]

ORIGIN: Final = "sumdb.example/test"
REGISTRY: Final = "registry.example"
_NOW: Final = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
_WITNESS: Final = make_signer_key("witness.example/one", bytes([7] * 32), KeyType.COSIGNATURE)


def make_registry_record(sim: RegistrySimulator, name: str, version: str, **changes: Any) -> Record:
    """Return what an honest database says of a version; `changes` are fields of `Record`."""
    manifest = sim.packument(name)["versions"][version]
    body = sim.tarball(name, version)
    text = read_tarball(body).text
    values: dict[str, Any] = {
        "registry": REGISTRY,
        "name": PackageName(name),
        "version": Version(version),
        "integrity": str(parse_integrity(manifest["dist"]["integrity"]).hashes[0]),
        "tarball_size": len(body),
        "shasum": hashlib.sha1(body, usedforsecurity=False).hexdigest(),
        "manifest": hash_manifest(json.dumps(manifest).encode()),
        "tarball_manifest": None if text is None else hashlib.sha256(text).digest(),
        "published": None,
        "signatures": (),
        "attestations": None,
        "event": Event.PUBLISH,
    }
    return Record(**{**values, **changes})


@dataclass
class SimulatedLog:
    """One log and its look-ups.

    Attributes:
        log: appends to it.
        storage: where it is.
        key: the log's key.
        has_witness: its checkpoints are cosigned, and its terms ask for that.
        error: what every question gets instead of an answer.
        shown: the checkpoint that is shown instead of the published one.
        asked: the versions that were looked up, in order.
        absent: versions that it keeps from whoever asks.
    """

    log: Log
    storage: MemoryStorage
    key: SignerKey
    has_witness: bool = True
    error: Exception | None = None
    shown: bytes | None = None
    asked: list[str] = field(default_factory=list)
    absent: set[str] = field(default_factory=set)
    _prover: Prover = field(init=False)

    def __post_init__(self) -> None:
        self._prover = Prover(StoredLog(self.storage))

    @property
    def terms(self) -> Terms:
        """Whom to believe about it."""
        if not self.has_witness:
            return make_terms([self.key.verifier], None)
        witness = PolicyWitness(b"one", _WITNESS.verifier, None)
        return make_terms([self.key.verifier], Policy((PolicyLog(self.key.verifier, None),), (witness,), (), b"one"))

    async def add(self, sim: RegistrySimulator, name: str, *versions: str, **changes: Any) -> tuple[Sequenced, ...]:
        """Log versions of a registry, and publish the tree."""
        return await self.append(*(make_registry_record(sim, name, version, **changes) for version in versions))

    async def append(self, *records: Record) -> tuple[Sequenced, ...]:
        """Log records, and publish the tree."""
        done = await self.log.append([Proposal(record) for record in records])
        await self.publish()
        return done

    async def publish(self) -> None:
        """Publish the newest tree, cosigned."""
        await self.log.publish(self.cosign(self.log.head))

    def cosign(self, note: bytes) -> bytes:
        """Return a checkpoint with the witness's line, where there is a witness."""
        if not self.has_witness:
            return note
        opened = open_checkpoint(note, [self.key.verifier], origin=self.log.origin)
        tree = opened.checkpoint
        statement = Statement(tree.origin, 0, tree.size, tree.root, opened.note.text)
        seconds = int(_NOW.timestamp())
        signature = _WITNESS.sign(cosigned_message(_WITNESS.verifier, seconds, statement))
        return opened.format(make_line(_WITNESS.verifier, seconds, signature))

    def make_voucher(self, trust: Storage, *, registry: str | None = None) -> LogVoucher:
        """Return what asks it, and remembers its head in a storage."""
        store = TrustStore(trust, place="a test")
        ratchet = Ratchet(terms=self.terms, source=self, trust=store, now=lambda: _NOW)
        return LogVoucher(terms=self.terms, ratchet=ratchet, lookups=self, registry=registry)

    # ---- what a client asks

    async def read_head(self) -> bytes:
        self._fail()
        return self.shown or await StoredLog(self.storage).read_head()

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        self._fail()
        return await StoredLog(self.storage).read_tiles(tiles)

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        self._fail()
        return await StoredLog(self.storage).read_entries(tiles)

    async def read_lookup(self, name: PackageName, version: Version, *, size: int) -> bytes:
        self.asked.append(f"{name}@{version}")
        self._fail()
        line = (await read_index(self.storage, name)).latest(version, below=size)
        if line is None or f"{name}@{version}" in self.absent:
            raise UpstreamNotFoundError(f"{name}@{version} is not in the tree of {size}")
        proof = tuple(await self._prover.inclusion(line.index, size))
        return format_lookup(Lookup(line.index, await self._prover.entry(line.index, size), proof))

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


async def open_simulated_log(*, has_witness: bool = True, storage: MemoryStorage | None = None) -> SimulatedLog:
    """Begin a log; its checkpoint of nothing is published."""
    storage = MemoryStorage() if storage is None else storage
    key = make_signer_key(ORIGIN, bytes([3] * 32))
    await create_log(storage, origin=ORIGIN, keys=[key], now=_NOW.timestamp())
    log = await open_log(storage, origin=ORIGIN, keys=[key], now=_NOW.timestamp)
    made = SimulatedLog(log, storage, key, has_witness)
    await made.publish()
    return made
