"""What a follower does for a checksum database: each package that a feed or a list names is brought into the log.

Rules:

- What is remembered of a package is what the registry showed last (`PackageRecord`), in a part of the storage for that
  alone (`FOLLOW_PREFIX`), so that a mirror beside it has its own cursor and notes. What is logged, only the log knows.
- The registry's ETag is kept if and only if everything wanted is logged or refused for good: only then may a later run
  believe "not modified".
- A conflict that is new, a signature that does not verify and bytes that are not what they should be end the run as a
  divergence (P3); other refusals are complete: nothing will change them but another document.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import PackageRecord
from mirrorwitness.mirror.gate import Block, BlockKind
from mirrorwitness.mirror.result import PackageResult, Status
from mirrorwitness.mirror.select import choose
from mirrorwitness.npm.times import format_time
from mirrorwitness.sumdb.claims import Refusal
from mirrorwitness.sumdb.ingested import Seen
from mirrorwitness.sumdb.paths import STATE_PREFIX, evidence_prefix

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Container
    from datetime import datetime

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.choice import Choice
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.ingest import Ingest
    from mirrorwitness.sumdb.ingested import Ingested

__all__ = ["FOLLOW_PREFIX", "LoggingWork"]

FOLLOW_PREFIX: Final = f"{STATE_PREFIX}follow/"
"""Where a follower for the log keeps its cursor, notes and records."""

_KINDS: Final = {
    Refusal.MALFORMED: BlockKind.MALFORMED,
    Refusal.NO_SHA512: BlockKind.NO_DIGEST,
    Refusal.AMBIGUOUS: BlockKind.MALFORMED,
    Refusal.SIGNATURE: BlockKind.SIGNATURE,
    Refusal.UNKNOWN_KEY: BlockKind.UNSIGNED,
    Refusal.UNSIGNED: BlockKind.UNSIGNED,
}
"""How the summary of a run counts refusals. Bytes that do not match are withheld, and tried again."""


class LoggingWork:
    """Brings single packages into the log.

    Args:
        ingest: does it.
        storage: the follower's part of the storage.
        catalogue: its records.
        selection: which versions are wanted.
        terms: changes when everything has to be looked at anew.
        counts: counts what was logged; the summary of the run.
        now: the clock.
    """

    def __init__(
        self,
        *,
        ingest: Ingest,
        storage: Storage,
        catalogue: Catalogue,
        selection: Selection,
        terms: str,
        counts: Counter[str],
        now: Callable[[], datetime],
    ) -> None:
        self._ingest = ingest
        self._storage = storage
        self._catalogue = catalogue
        self._selection = selection
        self._terms = terms
        self._counts = counts
        self._now = now

    def __repr__(self) -> str:
        return f"<LoggingWork {self._ingest!r}>"

    def fingerprint(self, name: PackageName) -> str:
        """Return what changes when a package has to be looked at anew although its document is the one we know."""
        return hashlib.sha256(f"{self._terms}\n{self._selection.fingerprint(name)}".encode()).hexdigest()[:32]

    async def run(self, name: PackageName) -> PackageResult:
        """Bring one package into the log.

        Raises:
            MirrorWitnessError: as `Ingest.run`.
        """
        before = await self._catalogue.read_record(name)
        choices: list[Choice] = []

        def wants(packument: Packument) -> Container[Version]:
            choices.append(choose(self._selection, packument))
            return choices[-1].wanted

        found = await self._ingest.run(name, _seen(before, self.fingerprint(name)), wants=wants)
        if found.is_unchanged:
            return PackageResult(name, Status.UNCHANGED, before, before)
        self._count(found)
        result = _settle(found, choices)
        is_done = result.status is Status.UPDATED
        result.record = PackageRecord(
            name=name,
            fingerprint=self.fingerprint(name) if is_done else "",
            etag=found.seen.etag if is_done else None,
            last_modified=found.seen.last_modified if is_done else None,
            rev=found.seen.rev,
            source_sha256=found.seen.digest,
            packument_sha256=found.seen.digest,
            checked=format_time(self._now()),
        )
        await self._write(result.record)
        return result

    async def withdraw(self, record: PackageRecord) -> PackageResult:
        """Log a deletion that was confirmed.

        Raises:
            MirrorWitnessError: as `Ingest.withdraw`.
        """
        name = record.name
        fingerprint = self.fingerprint(name)
        if record.deleted == fingerprint:
            return PackageResult(name, Status.UNCHANGED, record, record)
        found = await self._ingest.withdraw(name)
        self._count(found)
        after = PackageRecord(name=name, rev=record.rev, deleted=fingerprint, checked=format_time(self._now()))
        await self._write(after)
        return PackageResult(name, Status.UPDATED, after, record)

    async def _write(self, record: PackageRecord) -> None:
        key = layout.record_key(record.name)
        await self._storage.put(key, msgspec.json.encode(record), content_type="application/json")

    def _count(self, found: Ingested) -> None:
        self._counts.update({
            "log_records": len(found.logged),
            "log_known": found.known,
            "log_withdrawals": len(found.events),
            "log_conflicts": len(found.conflicts),
        })
        for refused in found.refused.values():
            self._counts[f"log_refused_{refused.kind}"] += 1


def _seen(record: PackageRecord | None, fingerprint: str) -> Seen:
    """Return what was seen last; its ETag only where it was looked at under the present terms."""
    if record is None:
        return Seen()
    if record.fingerprint != fingerprint:
        return Seen(rev=record.rev)
    return Seen(record.etag, record.last_modified, record.rev, record.source_sha256)


def _settle(found: Ingested, choices: list[Choice]) -> PackageResult:
    result = PackageResult(found.name, withheld=found.withheld)
    result.downloaded, result.downloaded_bytes = found.downloaded, found.downloaded_bytes
    result.blocks = (
        *(Block(item.subject, BlockKind(item.kind), item.reason) for choice in choices for item in choice.blocked),
        *(Block(v, _KINDS[item.kind], item.reason) for v, item in found.refused.items() if item.kind in _KINDS),
    )
    result.alarms = [*found.conflicts.values()]
    result.evidence = tuple(evidence_prefix(found.name, version) for version in found.conflicts)
    if found.waiting:
        result.owed.append(
            f"{found.name}: the registry does not list {len(found.waiting)} logged versions, which has to be confirmed:"
            f" {', '.join(found.waiting[:5])}"
        )
    is_refused = any(item.kind.is_divergence for item in found.refused.values())
    if is_refused or found.conflicts or any(block.kind.is_divergence for block in result.blocks):
        result.status = Status.DIVERGED
    elif result.problem() is not None:
        result.status = Status.UNFINISHED
    return result
