"""One attempt at one package, whatever comes of it: counted, and noted in the storage where it is not complete (P8).

Rules:

- A package that fails never stops another; it leaves a note under ``state/unfinished/``.
- A storage that refuses ends everything (`RunSummary.fatal`): every further package would only repeat the same error.
  So does one that has gone: `SILENT_PACKAGES` in a row of which not even the note could be written. So does a budget
  of requests that is used up; the package it met is not done, and gets no note.
- A 404 is a deletion only where the feed said so too and a second 404 came `OwedTerms.confirm_after` later (research/B
  7 row 3). Until then the package is served as it was.
- A package whose note could not be written is not done: `run` says so, and the cursor stays before it.

What this does not do: choose packages, bound concurrency, or move cursors.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    BudgetExhaustedError,
    MirrorWitnessError,
    SecurityError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamNotFoundError,
)
from mirrorwitness.mirror.catalogue import Unfinished
from mirrorwitness.mirror.coverage import Coverage, CoverageStore, measure
from mirrorwitness.mirror.owed import Announced, OwedTerms, delay_after
from mirrorwitness.mirror.package import PackageResult, Status
from mirrorwitness.mirror.receipts import is_covered, is_shown
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.mirror.catalogue import Catalogue, PackageRecord
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.package import PackageSync
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.storage import Storage

__all__ = ["Attempts"]

SILENT_PACKAGES: Final = 3
"""Packages in a row whose notes get no answer before the storage is taken for gone. Each took some 20 s of tries: at 32
at once the run ends after these 20 s, and one package with keys that a service cannot take (500) does not end it."""

STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"


class Attempts:
    """Brings single packages up to date and keeps the notes.

    Args:
        storage: the mirror.
        packages: brings one package up to date.
        catalogue: for notes.
        terms: how long things are owed.
        summary: counts everything.
        progress: told of every finished package.
        now: the clock.
        noted: told of every package's record, for the summary.
        jitter: numbers from 0 up to 1, for delays.

    Attributes:
        notes: the notes of this worker's packages, as far as known.
        change: what became more or less served, not yet added to the mirror's counters.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        packages: PackageSync,
        catalogue: Catalogue,
        terms: OwedTerms,
        summary: RunSummary,
        progress: Progress,
        now: Callable[[], datetime],
        noted: Callable[[PackageRecord], Awaitable[None]] | None = None,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
    ) -> None:
        self._storage = storage
        self._packages = packages
        self._noted = noted
        self._catalogue = catalogue
        self._terms = terms
        self._progress = progress
        self._now = now
        self._jitter = jitter
        self._silent = 0
        self.summary = summary
        self.notes: dict[PackageName, Unfinished] = {}
        self.change = Coverage()

    def __repr__(self) -> str:
        return f"<Attempts {dict(self.summary.counts)}, {len(self.notes)} notes>"

    async def load_notes(self, owns: Callable[[str], bool]) -> None:
        """Read the notes of the packages that we own.

        Raises:
            StorageError: they cannot be read.
        """
        after: str | None = ""
        while after is not None:
            page, after = await self._catalogue.unfinished_page(after=after)
            self.notes.update({PackageName(note.name): note for note in page if owns(note.name)})

    async def save_change(self) -> None:
        """Add what changed to the mirror's counters.

        Raises:
            StorageError: they could not be written; the next time may succeed.
        """
        change, self.change = self.change, Coverage()
        try:
            await CoverageStore(self._storage).add(change, now=self._now().strftime(STAMP))
        except BaseException:
            self.change = self.change.plus(change)
            raise

    async def run(self, name: PackageName, announced: Announced) -> PackageRecord | None:
        """Bring one package up to date, or note why not.

        Returns:
            What is stored of it now.

        Raises:
            BudgetExhaustedError: nothing may be asked any more this month; the package is not done.
            StorageError: its note could not be written, or the storage refuses; the package is not done.
        """
        result = await self._try(name, announced)
        self.summary.add(result)
        if result.error is None and result.status is not Status.UNCHANGED:
            self.change = self.change.plus(measure(result.record)).plus(measure(result.before), times=-1)
        if result.record is not None and self._noted is not None:
            await self._noted(result.record)
        self._progress.package_finished(name, problem=result.problem())
        if isinstance(result.error, StorageRefusedError | BudgetExhaustedError):
            self.summary.fatal = self.summary.fatal or result.error
            raise result.error
        try:
            await self._note(result, announced)
        except StorageRefusedError as error:
            self.summary.fatal = self.summary.fatal or error
            raise
        except StorageError as error:
            self.summary.alarm(f"{name}: the note of its state could not be written: {error}")
            if isinstance(error, StorageUnavailableError):
                self._silent += 1
                if self._silent >= SILENT_PACKAGES:
                    self.summary.fatal = self.summary.fatal or error
            raise
        self._silent = 0
        return result.record

    async def _try(self, name: PackageName, announced: Announced) -> PackageResult:
        try:
            if announced.rev is not None and not announced.deleted and name not in self.notes:
                record = await self._catalogue.read_record(name)
                if record is not None and self._is_stored(record, announced.rev, is_listed=announced.is_listed):
                    return PackageResult(name, Status.UNCHANGED, record)
            try:
                return await self._packages.run(name)
            except UpstreamNotFoundError as error:
                record = await self._catalogue.read_record(name)
                if record is not None and record.deleted:
                    return await self._packages.withdraw(record), known.deleted
                if not known.deleted:
                    return PackageResult(name, Status.UNFINISHED, record, error=error), False
                result = await self._absent(name, error)
                return result, result.error is None
        except SecurityError as error:
            return PackageResult(name, Status.DIVERGED, error=error)
        except MirrorWitnessError as error:
            return PackageResult(name, Status.UNFINISHED, error=error)

    def _is_stored(self, record: PackageRecord, rev: str, *, is_listed: bool) -> bool:
        """Say whether the record has what was announced, so that nothing needs to be asked."""
        is_fitting = not is_listed or record.fingerprint == self._packages.fingerprint(PackageName(record.name))
        return is_fitting and is_covered(rev, by=record.rev)

    async def _absent(self, name: PackageName, note: Unfinished | None, error: UpstreamNotFoundError) -> PackageResult:
        """Judge a 404 of a package that the feed called deleted."""
        record = await self._catalogue.read_record(name)
        if record is None or record.packument_sha256 is None:
            return PackageResult(name, Status.UNCHANGED, record)
        if note is None or not note.deleted or self._age(note) < self._terms.confirm_after:
            return PackageResult(name, Status.UNFINISHED, record, error=error)
        return await self._packages.withdraw(record)

    async def _note(self, result: PackageResult, announced: Announced) -> None:
        """Write, change or clear the package's note, so that the next worker knows."""
        name = result.name
        before = self.notes.get(name)
        expected = _newer(announced.rev, before.expected if before else None)
        is_owed = not announced.deleted and not is_shown(expected, by=result.record.rev if result.record else None)
        if result.error is None and is_owed and before is not None and self._age(before) > self._terms.owed_for:
            self.summary.alarm(
                f"{name}: revision {expected} was announced on {before.first} and never showed; given up"
            )
            self.summary.counts["owed_given_up"] += 1
            is_owed = False
        problem = result.problem()
        if result.error is None and is_owed:
            found = result.record.rev if result.record else None
            problem = f"the feed announced revision {expected}, the registry still shows {found}"
        if problem is None:
            if before is not None:
                await self._catalogue.clear_unfinished(name)
                del self.notes[name]
            return
        await self._write(result, problem, expected if is_owed else None, announced, before)

    async def _write(
        self,
        result: PackageResult,
        problem: str,
        expected: str | None,
        announced: Announced,
        before: Unfinished | None,
    ) -> None:
        now = self._now()
        attempts = before.attempts + 1 if before else 1
        deleted = announced.deleted or (before is not None and before.deleted and result.error is not None)
        wait = self._terms.confirm_after if deleted else None
        if wait is None:
            is_awaited = result.error is None or isinstance(result.error, UpstreamNotFoundError)
            wait = delay_after(attempts, is_owed=expected is not None and is_awaited, jitter=self._jitter())
        first = result.error or next(iter(result.withheld.values()), None)
        kind = type(first).__name__ if first else "owed" if result.status in _GOOD else str(result.status)
        note = Unfinished(
            name=result.name,
            reason=problem,
            kind=kind,
            versions={version: str(error) for version, error in result.withheld.items()},
            attempts=attempts,
            first=before.first if before and before.first and before.deleted == deleted else now.strftime(STAMP),
            last=now.strftime(STAMP),
            expected=expected,
            deleted=deleted,
            next_try=(now + timedelta(seconds=wait)).strftime(STAMP),
        )
        await self._catalogue.write_unfinished(note)
        self.notes[result.name] = note

    def _age(self, note: Unfinished) -> float:
        try:
            first = datetime.strptime(note.first, STAMP).replace(tzinfo=UTC)
        except ValueError:
            return 0.0
        return (self._now() - first).total_seconds()


_GOOD: Final = frozenset({Status.UNCHANGED, Status.UPDATED})


def _newer(one: str | None, other: str | None) -> str | None:
    if one is None or other is None:
        return one or other
    return one if is_covered(other, by=one) else other
