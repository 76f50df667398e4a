"""RunSummary: what a run did, counted, and the exit code that it means (P3).

Memory does not grow with the number of packages (P10): totals are counted; problems, alarms and evidence are kept up
to a bound. The storage has a note of every unfinished package. Every package and every alarm is one line of the log.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from mirrorwitness.errors import ExitCode, UpstreamRefusedError, UpstreamUnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.errors import BudgetExhaustedError, ForkError, StorageError
    from mirrorwitness.mirror.result import PackageResult

__all__ = ["PROBLEMS_KEPT", "Problem", "RunSummary"]

_Item = TypeVar("_Item")

_log = logging.getLogger("mirrorwitness.run")

PROBLEMS_KEPT: Final = 1000
"""Problems listed in a summary; more are counted only. The storage keeps a note of every one."""

ALARMS_FRESH: Final = 20
"""Alarms that wait to be put into a cursor; of more at once the newest."""

COMMON_ALARM: Final = "run"
"""The kind of alarms about the run's own work, such as an entry of a lockfile that every run leaves out."""


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
            ``blocked_KIND``; served versions by signature outcome as ``signature_OUTCOME``; served versions that a log
            vouched for, and those that it did not although it was asked; confused tarballs.
        sources: bytes that each source sent, by its base URL.
        problems: the first `PROBLEMS_KEPT` packages that are not complete.
        alarms: sentences for the operator.
        alarm_kinds: how many of each kind, also of those that are not kept.
        fresh: the newest alarms that `take_alarms` has not returned yet, with their kinds.
        evidence: keys of evidence written.
        fatal: what ended the run early, if anything did: a storage that failed, a budget that is used up, a log that
            forked.
        is_interrupted: whether `SyncRun.stop` ended the intake before all names were taken.
    """

    counts: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    alarm_kinds: Counter[str] = field(default_factory=Counter)
    fresh: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=ALARMS_FRESH))
    evidence: list[str] = field(default_factory=list)
    fatal: StorageError | BudgetExhaustedError | ForkError | None = None
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
        if self.fatal is not None or self.counts["packages_unfinished"] or self.counts["log_unpublished"]:
            return ExitCode.PARTIAL
        return ExitCode.COMPLETE

    def add(self, result: PackageResult) -> None:
        """Count one package's result."""
        self.counts[f"packages_{result.status}"] += 1
        self.counts["tarballs_downloaded"] += result.downloaded
        self.counts["bytes_downloaded"] += result.downloaded_bytes
        self.sources.update(result.received)
        self.counts.update({f"bytes_from_{role}": size for role, size in result.received_as.items()})
        self.counts.update({word: n for word, n in _rare(result) if n})
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
                    if held.leaf is not None:
                        self.counts["logged"] += 1
        for alarm in result.alarms:
            self.alarm(alarm, kind="package")
        _extend(self.evidence, result.evidence)
        problem = result.problem()
        _log_package(result, problem)
        if problem is not None:
            _extend(self.problems, [Problem(result.name, result.status, problem)])

    def merge(self, other: RunSummary) -> None:
        """Add what another worker did."""
        self.counts.update(other.counts)
        self.sources.update(other.sources)
        _extend(self.problems, other.problems)
        _extend(self.alarms, other.alarms)
        self.alarm_kinds.update(other.alarm_kinds)
        _extend(self.evidence, other.evidence)
        self.fatal = self.fatal or other.fatal
        self.is_interrupted = self.is_interrupted or other.is_interrupted

    def alarm(self, text: str, *, kind: str = COMMON_ALARM) -> None:
        """Keep a sentence for the operator; `kind` is a word of ``docs/reference/words.md``."""
        self.alarm_kinds[kind] += 1
        _log.warning("alarm", extra={"kind": kind, "text": text})
        if kind != COMMON_ALARM:
            self.fresh.append((kind, text))
        _extend(self.alarms, [text])

    def take_alarms(self) -> list[tuple[str, str]]:
        """Return kind and text of the newest alarms since the last call, but for those of the run's own work."""
        taken = list(self.fresh)
        self.fresh.clear()
        return taken


def _rare(result: PackageResult) -> tuple[tuple[str, int], ...]:
    """Return counts that most runs do not have."""
    return ("unvouched", result.unvouched), ("confused", result.confused)


def _log_package(result: PackageResult, problem: str | None) -> None:
    level = logging.INFO if problem is None else logging.WARNING
    if not _log.isEnabledFor(level):
        return
    fields: dict[str, object] = {
        "package": result.name,
        "outcome": str(result.status),
        "downloaded_tarballs": result.downloaded,
        "downloaded_bytes": result.downloaded_bytes,
        "refused": len(result.blocks),
    }
    if problem is not None:
        fields["reason"] = problem
    _log.log(level, "package_finished", extra=fields)


def _extend(kept: list[_Item], more: Iterable[_Item]) -> None:
    kept.extend(list(more)[: max(0, PROBLEMS_KEPT - len(kept))])
