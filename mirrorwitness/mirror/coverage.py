"""Coverage: how much a mirror serves, kept as counters that every run adjusts by what it changed.

    state/coverage.json

Rules:

- A run adds the difference between each package's record before and after, so the counters cost one small write for a
  run (or for each save of a cursor), not a look at millions of records.
- The write is a compare-and-swap, tried again where another worker was first: shards share one object.
- A worker that is killed between a record and the counters leaves them off by what it had not added yet. A full audit,
  which reads every record anyway, counts anew and sets them right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ObjectMissingError, PreconditionFailedError
from mirrorwitness.mirror import layout
from mirrorwitness.storage.swap import swap

if TYPE_CHECKING:
    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.storage import Storage

__all__ = ["Coverage", "CoverageStore", "change_of", "measure"]

LIMIT: Final = 64 * 1024
TRIES: Final = 20
"""Swaps that may be lost in a row; a hundred shards that save every five seconds collide far less."""


class Coverage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is served; or a difference between two such counts.

    Attributes:
        packages: packages with at least one version that is served.
        versions: versions that are served.
        bytes: size of their tarballs.
        weak: versions whose bytes rest on a SHA-1 alone.
        signatures: versions by outcome of the signature check.
        counted: when everything was last counted, ISO 8601; empty where it never was.
        changed: when this was last written, ISO 8601.
    """

    packages: int = 0
    versions: int = 0
    bytes: int = 0
    weak: int = 0
    signatures: dict[str, int] = {}
    counted: str = ""
    changed: str = ""

    def plus(self, other: Coverage, *, times: int = 1) -> Coverage:
        """Return the sum, or with ``times=-1`` the difference."""
        names = self.signatures.keys() | other.signatures.keys()
        signatures = {
            name: count
            for name in sorted(names)
            if (count := self.signatures.get(name, 0) + times * other.signatures.get(name, 0))
        }
        return msgspec.structs.replace(
            self,
            packages=self.packages + times * other.packages,
            versions=self.versions + times * other.versions,
            bytes=self.bytes + times * other.bytes,
            weak=self.weak + times * other.weak,
            signatures=signatures,
        )

    @property
    def is_nothing(self) -> bool:
        """Whether this difference changes nothing."""
        return not (self.packages or self.versions or self.bytes or self.weak or self.signatures)


def measure(record: PackageRecord | None) -> Coverage:
    """Return what is served of one package."""
    served = [item for item in record.versions.values() if item.served] if record else []
    signatures: dict[str, int] = {}
    for item in served:
        signatures[item.signature] = signatures.get(item.signature, 0) + 1
    return Coverage(
        packages=1 if served else 0,
        versions=len(served),
        bytes=sum(item.size for item in served),
        weak=sum(item.weak for item in served),
        signatures=signatures,
    )


def change_of(before: PackageRecord | None, after: PackageRecord | None) -> Coverage:
    """Return what became more, or less, served of one package."""
    return measure(after).plus(measure(before), times=-1)


class CoverageStore:
    """The one way to a mirror's counters."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __repr__(self) -> str:
        return f"<CoverageStore over {self._storage!r}>"

    async def read(self) -> Coverage | None:
        """Return the counters, or None where there are none or they are damaged (an audit counts anew)."""
        found, _ = await self._read()
        return found

    async def add(self, difference: Coverage, *, now: str) -> None:
        """Adjust the counters.

        Args:
            difference: what changed.
            now: ISO 8601.

        Raises:
            StorageError: they could not be written.
        """
        if difference.is_nothing:
            return
        for _ in range(TRIES):
            found, etag = await self._read()
            total = msgspec.structs.replace((found or Coverage()).plus(difference), changed=now)
            if await self._swap(total, etag):
                return
        raise PreconditionFailedError(f"{layout.COVERAGE_KEY} was changed by others {TRIES} times in a row")

    async def replace(self, total: Coverage, *, since: Coverage | None, now: str) -> bool:
        """Set the counters after everything was counted.

        Args:
            total: the count.
            since: what `read` gave when the counting began; where the counters were changed meanwhile, the count is of
                no moment and is not taken.
            now: ISO 8601.

        Returns:
            Whether it was taken.
        """
        found, etag = await self._read()
        if found != since:
            return False
        return await self._swap(msgspec.structs.replace(total, counted=now, changed=now), etag)

    async def _read(self) -> tuple[Coverage | None, str | None]:
        try:
            body, info = await self._storage.read(layout.COVERAGE_KEY, limit=LIMIT)
        except ObjectMissingError:
            return None, None
        try:
            return msgspec.json.decode(body, type=Coverage), info.etag
        except UNREADABLE_JSON:
            return None, info.etag

    async def _swap(self, total: Coverage, etag: str | None) -> bool:
        try:
            await swap(self._storage, layout.COVERAGE_KEY, msgspec.json.encode(total), etag=etag)
        except PreconditionFailedError:
            return False
        return True
