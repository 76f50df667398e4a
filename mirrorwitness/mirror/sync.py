"""Run over all selected packages once: bounded workers, honest counts, an exit code that means what it says (P3).

    names ─(bounded channel)→ N workers ─ one package each (`mirrorwitness.mirror.package`)
                                        ─ tarballs share one limit over all packages

Rules:

- A package that fails never stops another; it leaves a note under ``state/unfinished/`` and is tried by the next run.
- A storage that refuses stops the run: every further package would only repeat the same error. So does one that has
  gone: `SILENT_PACKAGES` in a row of which not even the note could be written, each after all tries of the storage.
- Memory does not grow with the number of packages (P10): totals are counted, problems are kept up to a bound and
  counted beyond; the notes in the storage are the complete list.

Cancellation: `stop` ends the intake; packages in work are finished. Cancelling the surrounding scope ends everything at
once; what is stored stays consistent at every instant (see `mirrorwitness.mirror.package`).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import trio

from mirrorwitness.errors import (
    ExitCode,
    MirrorWitnessError,
    SecurityError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror.catalogue import Unfinished
from mirrorwitness.mirror.package import PackageResult, Status
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.package import PackageSync
    from mirrorwitness.mirror.progress import Progress

__all__ = ["Problem", "RunSummary", "SyncRun"]

_Item = TypeVar("_Item")

PROBLEMS_KEPT: Final = 1000
"""Problems listed in a summary; more are counted only. The storage keeps a note of every one."""

SILENT_PACKAGES: Final = 3
"""Packages in a row whose notes get no answer before the storage is taken for gone. Each took some 20 s of tries: at 32
at once the run ends after these 20 s, and one package with keys that a service cannot take (500) does not end it."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One package that is not complete, or one thing that disagreed."""

    name: str
    status: str
    reason: str


@dataclass(slots=True)
class RunSummary:
    """What a run did.

    Attributes:
        counts: packages by status; versions, files and bytes held; tarballs and bytes downloaded; blocks by kind as
            ``blocked_KIND``; served versions by signature outcome as ``signature_OUTCOME``.
        problems: the first `PROBLEMS_KEPT` packages that are not complete.
        alarms: sentences for the operator.
        evidence: keys of evidence written.
        fatal: the storage error that ended the run early, if one did.
        is_interrupted: whether `SyncRun.stop` ended the intake before all names were taken.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    evidence: list[str] = field(default_factory=list)
    fatal: StorageError | None = None
    is_interrupted: bool = False

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3): the first of these that is true."""
        done = self.counts["packages_unchanged"] + self.counts["packages_updated"]
        if self.counts["packages_diverged"]:
            return ExitCode.DIVERGENCE
        if self.is_interrupted:
            return ExitCode.INTERRUPTED
        if self.counts["packages_upstream_failed"] and not done and self.fatal is None:
            return ExitCode.UPSTREAM
        if self.fatal is not None or self.counts["packages_unfinished"]:
            return ExitCode.PARTIAL
        return ExitCode.COMPLETE

    def add(self, result: PackageResult) -> None:
        """Count one package's result."""
        self.counts[f"packages_{result.status}"] += 1
        self.counts["tarballs_downloaded"] += result.downloaded
        self.counts["bytes_downloaded"] += result.downloaded_bytes
        for block in result.blocks:
            self.counts[f"blocked_{block.kind}"] += 1
        if isinstance(result.error, UpstreamUnreachableError | UpstreamRefusedError):
            self.counts["packages_upstream_failed"] += 1
        if result.record is not None:
            for held in result.record.versions.values():
                if held.served:
                    self.counts["versions"] += 1
                    self.counts["bytes"] += held.size
                    self.counts[f"signature_{held.signature}"] += 1
                    self.counts["weak"] += held.weak
        _extend(self.alarms, result.alarms)
        _extend(self.evidence, result.evidence)
        problem = result.problem()
        if problem is not None:
            _extend(self.problems, [Problem(result.name, result.status, problem)])


class SyncRun:
    """One pass over a list of names.

    Args:
        packages: brings one package up to date.
        catalogue: for notes of unfinished work.
        workers: packages in work at once.
        now: the clock.
        progress: told of every finished package.
    """

    def __init__(
        self,
        *,
        packages: PackageSync,
        catalogue: Catalogue,
        workers: int,
        now: Callable[[], datetime],
        progress: Progress,
    ) -> None:
        self._packages = packages
        self._catalogue = catalogue
        self._workers = workers
        self._now = now
        self._progress = progress
        self._noted: set[str] = set()
        self._is_stopping = False
        self._silent = 0
        self.summary = RunSummary()

    def __repr__(self) -> str:
        return f"<SyncRun {dict(self.summary.counts)}{' stopping' if self._is_stopping else ''}>"

    def stop(self) -> None:
        """Take no further packages; those in work are finished."""
        self._is_stopping = True

    async def run(self, names: Iterable[PackageName]) -> RunSummary:
        """Bring every named package up to date.

        Raises:
            StorageError: the notes of unfinished work cannot be listed.
        """
        self._noted = await self._names_with_notes()
        # A rendezvous (size 0): names are cheap to make and a queue would only delay a stop.
        send, receive = trio.open_memory_channel[PackageName](0)
        async with trio.open_nursery() as nursery:
            for _ in range(self._workers):
                nursery.start_soon(self._work, receive.clone())
            receive.close()
            async with send:
                for name in names:
                    if self._is_stopping or self.summary.fatal is not None:
                        self.summary.is_interrupted = self._is_stopping
                        break
                    try:
                        await send.send(name)
                    except trio.BrokenResourceError:  # every worker stopped over a storage that refuses
                        break
        return self.summary

    async def _names_with_notes(self) -> set[str]:
        names: set[str] = set()
        after: str | None = ""
        while after is not None:
            notes, after = await self._catalogue.unfinished_page(after=after)
            names.update(note.name for note in notes)
        return names

    async def _work(self, receive: trio.MemoryReceiveChannel[PackageName]) -> None:
        async with receive:
            async for name in receive:
                result = await self._one(name)
                self.summary.add(result)
                self._progress.package_finished(name, problem=result.problem())
                if self.summary.fatal is not None:
                    return

    async def _one(self, name: PackageName) -> PackageResult:
        try:
            result = await self._packages.run(name)
        except StorageRefusedError as error:
            self.summary.fatal = self.summary.fatal or error
            return PackageResult(name, Status.UNFINISHED, error=error)
        except SecurityError as error:
            result = PackageResult(name, Status.DIVERGED, error=error)
        except MirrorWitnessError as error:
            result = PackageResult(name, Status.UNFINISHED, error=error)
        try:
            await self._note(result)
        except StorageRefusedError as error:
            self.summary.fatal = self.summary.fatal or error
        except StorageError as error:
            result.alarms.append(f"{name}: the note of its state could not be written: {error}")
            if isinstance(error, StorageUnavailableError):
                self._silent += 1
                if self._silent >= SILENT_PACKAGES:
                    self.summary.fatal = self.summary.fatal or error
                return result
        self._silent = 0
        return result

    async def _note(self, result: PackageResult) -> None:
        """Keep or clear the package's note of unfinished work, so that the next worker knows (P8)."""
        problem = result.problem()
        if result.status in {Status.UNCHANGED, Status.UPDATED} or problem is None:
            if result.name in self._noted:
                await self._catalogue.clear_unfinished(result.name)
            return
        stamp = self._now().strftime("%Y-%m-%dT%H:%M:%SZ")
        first = result.error or next(iter(result.withheld.values()), None)
        await self._catalogue.write_unfinished(
            Unfinished(
                name=result.name,
                reason=problem,
                kind=result.status if first is None else type(first).__name__,
                versions={version: str(error) for version, error in result.withheld.items()},
                first=stamp,
                last=stamp,
            )
        )


def _extend(kept: list[_Item], more: Iterable[_Item]) -> None:
    kept.extend(list(more)[: max(0, PROBLEMS_KEPT - len(kept))])
