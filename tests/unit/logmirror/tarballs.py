"""A checksum database of the tests, and an npm mirror that holds its tarballs or does not."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord
from mirrorwitness.mirror.layout import quarantine_key, record_key, tarball_key
from mirrorwitness.mirror.withdrawal import Place
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record, format_record
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.entries import format_entries
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.merkle import Range, leaf_hash, root_of
from mirrorwitness.tlog.note import sign_note
from mirrorwitness.witness.logs import WitnessedLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.tiles import EntriesTile, Tile
    from tests.fakes.storage import MemoryStorage

__all__ = ["SUM_KEY", "SumLog", "bytes_of", "hold", "publish", "sri_of", "withdraw"]

SUM_KEY = make_signer_key("sum.example", bytes([51] * 32))


def bytes_of(version: str) -> bytes:
    """Return the tarball of a version."""
    return f"the bytes of {version}".encode() * 3


def sri_of(body: bytes) -> str:
    """Return the integrity of bytes."""
    return f"sha512-{base64.b64encode(hashlib.sha512(body).digest()).decode()}"


def publish(
    version: str, name: str = "left-pad", *, event: Event = Event.PUBLISH, registry: str = "r.example"
) -> Record:
    """Return a record."""
    body = bytes_of(version)
    is_conflict = event is Event.CONFLICT
    return Record(
        registry=registry,
        name=PackageName(name),
        version=Version(version),
        integrity=sri_of(body),
        tarball_size=len(body),
        shasum=None,
        manifest=None,
        tarball_manifest=None,
        published=None,
        signatures=(),
        attestations=None,
        event=event,
        other_integrity=sri_of(b"other") if is_conflict else None,
        evidence=bytes(32) if is_conflict else None,
    )


def withdraw(version: str, event: Event = Event.UNPUBLISH) -> Record:
    """Return a record that takes a version away."""
    return publish(version, event=event)


@dataclass
class SumLog:
    """A checksum database that has all its trees at once; a `mirrorwitness.sumdb.source.LogSource`.

    Attributes:
        records: all records.
        size: of the head that is shown.
    """

    records: list[bytes] = field(default_factory=list[bytes])
    size: int = 0

    def log(self, *records: Record) -> SumLog:
        """Append records, and show them."""
        self.records += map(format_record, records)
        self.size = len(self.records)
        return self

    @property
    def witnessed(self) -> WitnessedLog:
        """The log as it is configured."""
        return WitnessedLog(SUM_KEY.name, (SUM_KEY.verifier,))

    def note(self, size: int) -> bytes:
        """Return the head of a size."""
        tree = Checkpoint(SUM_KEY.name, size, root_of([leaf_hash(entry) for entry in self.records[:size]]))
        return sign_note(tree.text, [SUM_KEY])

    async def read_head(self) -> bytes:
        """Return the head."""
        return self.note(self.size)

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles."""
        return {tile: self._tile(tile) for tile in tiles}

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles."""
        firsts = {tile: tile.index * 256 for tile in tiles}
        return {tile: format_entries(self.records[at : at + tile.width]) for tile, at in firsts.items()}

    def _tile(self, tile: Tile) -> bytes:
        width = 256**tile.level
        spans = [Range(at * width, (at + 1) * width) for at in range(tile.index * 256, tile.index * 256 + tile.width)]
        return b"".join(root_of([leaf_hash(each) for each in self.records[span.start : span.end]]) for span in spans)


def hold(
    storage: MemoryStorage,
    version: str,
    name: str = "left-pad",
    *,
    body: bytes | None = None,
    stored: bytes | None = None,
    place: Place = Place.PUBLIC,
    damaged: bool = False,
) -> str:
    """Let a mirror hold a tarball, and return its key; `stored` is what lies there instead."""
    package, body = PackageName(name), bytes_of(version) if body is None else body
    key = record_key(package)
    known = storage.objects.get(key)
    record = PackageRecord(name=package) if known is None else msgspec.json.decode(known, type=PackageRecord)
    file = f"{name}-{version}.tgz"
    held = HeldVersion(file=file, size=len(body), sri=sri_of(body), place=place, damaged=damaged)
    record = msgspec.structs.replace(record, versions={**record.versions, Version(version): held})
    storage.set_bytes(key, msgspec.json.encode(record))
    at = (quarantine_key if place is Place.QUARANTINE else tarball_key)(package, file)
    storage.set_bytes(at, body if stored is None else stored)
    return at
