"""One attempt at one package, whatever comes of it: counted, and noted in the storage where it is not complete (P8).

Rules:

- A package that fails never stops another; it leaves a note under ``state/unfinished/``.
- A storage that refuses ends everything (`RunSummary.fatal`): every further package would only repeat the same error.
  So does one that has gone: `SILENT_PACKAGES` in a row of which not even the note could be written. So does a budget
  of requests that is used up, and a log that forked: nothing that it says counts, in this run or the next. The package
  that met one of these is not done, and gets no note.
- A 404 is a deletion only where the feed said so too and a second 404 came `OwedTerms.confirm_after` later (research/B
  7 row 3). Until then the package is served as it was. A package that is called deleted and is shown all the same is
  owed like any other revision: caches show for minutes what is gone (research/B 2.3).
- What the note and the announcement say counts together; the higher revision wins (`mirrorwitness.mirror.owed.join`).
- A package whose note could not be written is not done: `run` says so, and the cursor stays before it.

What this does not do: choose packages, bound concurrency, or move cursors.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import (
    BudgetExhaustedError,
    ForkError,
    MirrorWitnessError,
    SecurityError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamNotFoundError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import PackageRecord, Unfinished
from mirrorwitness.mirror.coverage import Coverage, CoverageStore, change_of
from mirrorwitness.mirror.owed import Announced, OwedTerms, delay_after, join
from mirrorwitness.mirror.receipts import is_covered, is_shown
from mirrorwitness.mirror.result import PackageResult, Status
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.times import format_time, parse_time

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.work import PackageWork
    from mirrorwitness.storage import Storage

__all__ = ["Attempts"]

SILENT_PACKAGES: Final = 3
"""Packages in a row whose notes get no answer before the storage is taken for gone. Each took some 20 s of tries: at 32
at once the run ends after these 20 s, and one package with keys that a service cannot take (500) does not end it."""

_OWED: Final = "owed"


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
        terms: how long things are owed.
        unnoted: packages that are not complete and whose note could not be written either.
        change: what became more or less served, not yet added to the mirror's counters.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        packages: PackageWork,
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
        self.terms = terms
        self._progress = progress
        self._now = now
        self._jitter = jitter
        self._silent: set[PackageName] = set()
        self.summary = summary
        self.notes: dict[PackageName, Unfinished] = {}
        self.unnoted: set[PackageName] = set()
        self.change = Coverage()

    def __repr__(self) -> str:
        return f"<Attempts {dict(self.summary.counts)}, {len(self.notes)} notes>"

    @property
    def unfinished(self) -> int:
        """How many packages are noted as unfinished, or should be."""
        return len(self.notes.keys() | self.unnoted)

    @property
    def owed(self) -> int:
        """In how many of the notes the feed announced a revision that the registry does not show yet."""
        return sum(note.expected is not None for note in self.notes.values())

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
            await CoverageStore(self._storage).add(change, now=format_time(self._now()))
        except BaseException:
            self.change = self.change.plus(change)
            raise

    async def run(self, name: PackageName, announced: Announced) -> PackageRecord | None:
        """Bring one package up to date, or note why not.

        Returns:
            What is stored of it now.

        Raises:
            BudgetExhaustedError: nothing may be asked any more this month; the package is not done.
            ForkError: the log signed two histories; the package is not done.
            StorageError: its note could not be written, or the storage refuses; the package is not done.
        """
        note = self.notes.get(name)
        known = announced if note is None else join(Announced(note.expected, deleted=note.deleted), announced)
        result, is_gone = await self._try(name, known)
        self.summary.add(result)
        self.unnoted.add(name)
        if result.error is None and result.status is not Status.UNCHANGED:
            self.change = self.change.plus(change_of(result.before, result.record))
        if result.record is not None and self._noted is not None:
            await self._noted(result.record)
        self._progress.package_finished(name, problem=result.problem())
        if isinstance(result.error, StorageRefusedError | BudgetExhaustedError | ForkError):
            self.summary.fatal = self.summary.fatal or result.error
            raise result.error
        try:
            await self._note(result, known, _owed(result, known, is_gone=is_gone))
        except StorageRefusedError as error:
            self.summary.fatal = self.summary.fatal or error
            raise
        except StorageError as error:
            self.summary.alarm(f"{name}: the note of its state could not be written: {error}", kind="package")
            if isinstance(error, StorageUnavailableError):
                self._silent.add(name)
                if len(self._silent) >= SILENT_PACKAGES:
                    self.summary.fatal = self.summary.fatal or error
            raise
        self._silent.clear()
        self.unnoted.discard(name)
        return result.record

    async def forget(self, name: PackageName) -> None:
        """Remove the note of a package that nobody wants any more; what is stored of it stays as it is.

        Raises:
            StorageError: it could not be removed.
        """
        await self._catalogue.clear_unfinished(name)
        self.notes.pop(name, None)

    async def _try(self, name: PackageName, known: Announced) -> tuple[PackageResult, bool]:
        """Return what came of it, and whether the package is gone, upstream and here."""
        try:
            if known.rev is not None and not known.deleted and name not in self.notes:
                record = await self._catalogue.read_record(name)
                if record is not None and self._is_stored(record, known.rev):
                    return PackageResult(name, Status.UNCHANGED, record), False
            try:
                return await self._packages.run(name), False
            except UpstreamNotFoundError as error:
                return await self._judge(name, known, error)
        except SecurityError as error:
            return PackageResult(name, Status.DIVERGED, error=error), False
        except MirrorWitnessError as error:
            return PackageResult(name, Status.UNFINISHED, error=error), False

    def _is_stored(self, record: PackageRecord, rev: str) -> bool:
        """Say whether the record has what was announced, complete, so that nothing needs to be asked.

        A worker that died between record and note leaves a record of the new revision that is not complete; that one
        fits no terms.
        """
        is_fitting = record.fingerprint == self._packages.fingerprint(record.name)
        return is_fitting and is_covered(rev, by=record.rev)

    async def _judge(
        self, name: PackageName, known: Announced, error: UpstreamNotFoundError
    ) -> tuple[PackageResult, bool]:
        """Judge a 404: it counts only where the feed called the package deleted, and the second time."""
        record = await self._catalogue.read_record(name)
        if record is not None and record.deleted:
            return await self._packages.withdraw(record), known.deleted
        if not known.deleted:
            return PackageResult(name, Status.UNFINISHED, record, error=error), False
        if not await self._is_served(name, record):
            return PackageResult(name, Status.UNCHANGED, record), True
        note = self.notes.get(name)
        if note is None or not _is_first_404(note) or self._age(note) < self.terms.confirm_after:
            return PackageResult(name, Status.UNFINISHED, record, error=error), False
        return await self._packages.withdraw(record or PackageRecord(name=name)), True

    async def _is_served(self, name: PackageName, record: PackageRecord | None) -> bool:
        """Say whether there are documents; a worker that died before its record leaves some that no record knows."""
        if record is not None and record.packument_sha256 is not None:
            return True
        return await self._storage.stat(layout.packument_key(name)) is not None

    async def _note(self, result: PackageResult, known: Announced, owed: str | None) -> None:
        """Write, change or clear the package's note, so that the next worker knows."""
        before = self.notes.get(result.name)
        problem = result.problem()
        if problem is not None and before is not None and self._is_ghost(result, known, before):
            self.summary.counts["owed_given_up"] += 1
            problem = owed = None
        if problem is None and owed is not None:
            is_same = before is not None and before.kind == _OWED and before.expected == owed
            if before is not None and is_same and self._age(before) > self.terms.owed_for:
                self.summary.alarm(
                    f"{result.name}: revision {owed} was announced on {before.first} and never showed; given up",
                    kind="owed",
                )
                self.summary.counts["owed_given_up"] += 1
            else:
                found = result.record.rev if result.record else None
                what = "announced the deletion" if known.deleted else "announced"
                problem = f"the feed {what} with revision {owed}, the registry still shows {found}"
        if problem is not None:
            await self._write(result, problem, owed, known, before)
        elif before is not None:
            await self.forget(result.name)

    def _is_ghost(self, result: PackageResult, known: Announced, before: Unfinished) -> bool:
        """Say whether a row told of a package that never was: there are thousands (research/B 1.4.8)."""
        is_unknown = isinstance(result.error, UpstreamNotFoundError) and result.record is None
        return is_unknown and known.rev is not None and self._age(before) > self.terms.owed_for

    async def _write(
        self, result: PackageResult, problem: str, owed: str | None, known: Announced, before: Unfinished | None
    ) -> None:
        first = result.error or next(iter(result.withheld.values()), None)
        kind = type(first).__name__ if first else _OWED if result.status in _GOOD else str(result.status)
        note = Unfinished(
            name=result.name,
            reason=problem,
            kind=kind,
            versions={version: str(error) for version, error in result.withheld.items()},
            expected=owed,
            # A document that is shown, and by no revision too old, says that the package is there.
            deleted=known.deleted and (owed is not None or result.error is not None),
        )
        note = self._timed(note, before)
        await self._catalogue.write_unfinished(note)
        self.notes[result.name] = note

    def _timed(self, note: Unfinished, before: Unfinished | None) -> Unfinished:
        """Return the note with its times and attempts: they go on where it says the same as the one before."""
        now = self._now()
        is_same = before is not None and _is_first_404(before) == _is_first_404(note)
        if before is not None and _OWED in {before.kind, note.kind}:
            is_same = (before.kind, before.expected) == (note.kind, note.expected)
        if before is not None and self._age(before) < 0:
            is_same = False  # the clock went back, and what is said to have begun in the future begins now
        attempts = before.attempts + 1 if before is not None and is_same else 1
        if _is_first_404(note):
            wait = self.terms.confirm_after
        else:
            is_awaited = note.expected is not None and note.kind in {_OWED, UpstreamNotFoundError.__name__}
            wait = delay_after(attempts, is_owed=is_awaited, jitter=self._jitter())
        return msgspec.structs.replace(
            note,
            attempts=attempts,
            first=before.first if before is not None and is_same and before.first else format_time(now),
            last=format_time(now),
            next_try=format_time(now + timedelta(seconds=wait)),
        )

    def _age(self, note: Unfinished) -> float:
        first = parse_time(note.first)
        return 0.0 if first is None else (self._now() - first).total_seconds()


_GOOD: Final = frozenset({Status.UNCHANGED, Status.UPDATED})


def _is_first_404(note: Unfinished) -> bool:
    """Say whether a note means: called deleted, and not found; once more, and it counts."""
    return note.deleted and note.kind == UpstreamNotFoundError.__name__


def _owed(result: PackageResult, known: Announced, *, is_gone: bool) -> str | None:
    """Return the revision that was announced and did not show, if any."""
    if known.rev is None or is_gone:
        return None
    if result.record is None or result.error is not None:
        return known.rev  # nobody knows what the registry shows
    if known.deleted and result.record.rev is None:
        return known.rev  # without revisions a document that is gone cannot be told from one that came back
    return None if is_shown(known.rev, by=result.record.rev) else known.rev
