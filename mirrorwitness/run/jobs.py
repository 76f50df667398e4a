"""What each command does, put together from components: the composition root's second half.

Every function opens what it needs, runs, and closes everything again; nothing outlives it. They print nothing.
"""

from __future__ import annotations

import logging
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ExitCode, MirrorWitnessError, StorageRefusedError
from mirrorwitness.mirror.audit import Audit, Finding, FindingKind, ProofTerms
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.coverage import CoverageStore, change_of
from mirrorwitness.mirror.planner import Planner
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.result import Status
from mirrorwitness.mirror.snapshot import read_snapshot
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.describe import find_signer, take_in
from mirrorwitness.run.mirroring import open_voucher, prepare_packages
from mirrorwitness.run.observing import health_terms
from mirrorwitness.run.serve import format_address, parse_listen
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.session import now, open_mirror, open_upstream, refresh_keys
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.voucher import name_terms, read_log_registry, read_log_terms
from mirrorwitness.server.options import ServeOptions
from mirrorwitness.server.registry import make_app
from mirrorwitness.storage.address import open_storage

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Sequence

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.plan import Plan
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.snapshot import MirrorSnapshot
    from mirrorwitness.run.session import Upstream, Wishes
    from mirrorwitness.storage import Storage

__all__ = ["AuditSummary", "MirrorStatus", "make_plan", "read_status", "run_audit", "serve_mirror"]

UNFINISHED_SHOWN: Final = 1000
"""Unfinished packages that `status` lists; more are counted only."""

UNFINISHED_COUNTED: Final = 10_000_000
"""Unfinished packages that `status` counts: as many as there are."""

AUDIT_CONCURRENCY: Final = 16
"""Tarballs an audit reads at once: enough to hide a bucket's latency, few enough to leave a server its disk."""

_log = logging.getLogger("mirrorwitness.mirror")


@dataclass(slots=True)
class AuditSummary:
    """What an audit found and what became of it.

    Attributes:
        counts: what was checked.
        findings: what was wrong, before any repair.
        repaired: packages that were wrong and are right now.
        unrepaired: packages that are still wrong, with the reason.
        unproven: those of them that lack proofs, and nothing else.
        is_repair: whether repair was asked for.
    """

    counts: Counter[str]
    findings: list[Finding]
    repaired: list[str] = field(default_factory=list[str])
    unrepaired: dict[str, str] = field(default_factory=dict[str, str])
    unproven: set[str] = field(default_factory=set[str])
    is_repair: bool = False

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3)."""
        if self.is_repair:
            wrong, owed = len(self.unrepaired), len(self.unproven)
        else:
            wrong, owed = self.counts["findings"], self.counts[f"findings_{FindingKind.MISSING_PROOF}"]
        if not wrong:
            return ExitCode.COMPLETE
        return ExitCode.PARTIAL if wrong == owed else ExitCode.DIVERGENCE


@dataclass(frozen=True, slots=True)
class MirrorStatus:
    """What `status` shows.

    Attributes:
        storage: its address.
        snapshot: everything else; it has the first `UNFINISHED_SHOWN` notes of unfinished work.
    """

    storage: str
    snapshot: MirrorSnapshot


async def make_plan(wishes: Wishes, progress: Progress, *, ask_sizes: bool) -> Plan:
    """Plan a sync; no tarball is downloaded, nothing is written but the log's newest checkpoint, where one is asked."""
    selection = wishes.selection()
    names, _ = wishes.packages(selection)
    log = read_log_terms(wishes.config.log)
    progress.started(len(names))
    async with AsyncExitStack() as stack:
        has_mirror = wishes.config.storage is not None
        storage = await stack.enter_async_context(open_mirror(wishes.config)) if has_mirror else None
        upstream = await stack.enter_async_context(open_upstream(wishes, storage=storage))
        keys, _ = await refresh_keys(None, upstream, wishes.config.signatures)
        remembering = storage
        if log is not None and remembering is None:
            folder = stack.enter_context(TemporaryDirectory(prefix="mirrorwitness-"))
            remembering = await stack.enter_async_context(open_storage(f"file:{folder}"))
        voucher = None if remembering is None else open_voucher(wishes, log, remembering, upstream)
        planner = Planner(
            authority=upstream.authority,
            catalogue=None if storage is None else Catalogue(storage),
            terms=wishes.terms(selection, keys, log),
            voucher=voucher,
            workers=wishes.config.limits.packages,
            ask_sizes=ask_sizes,
            progress=progress,
        )
        return await planner.run(names)


async def run_audit(wishes: Wishes, progress: Progress, *, sample: int | None, is_repair: bool) -> AuditSummary:
    """Re-read what is stored; repair it where asked to."""
    async with open_mirror(wishes.config) as storage:
        counters = CoverageStore(storage)
        counted_before = await counters.read()
        names = await _stored_names(Catalogue(storage), sample)
        progress.started(len(names))
        audit = await _audit(wishes, storage, names, progress)
        if sample is None:
            try:
                await counters.replace(audit.coverage, since=counted_before, now=format_time(now()))
            except StorageRefusedError as error:  # whoever only reads may audit; the counters stay the last ones
                _log.warning("coverage_not_counted", extra={"error": str(error)})
        summary = AuditSummary(audit.counts, audit.findings, is_repair=is_repair)
        if is_repair and audit.findings:
            async with open_upstream(wishes, storage=storage) as upstream:
                await _repair(wishes, storage, upstream, summary)
    return summary


async def _stored_names(catalogue: Catalogue, sample: int | None) -> list[PackageName]:
    """Return the recorded packages, or a uniform random sample of them (reservoir sampling: one pass, N names held)."""
    chosen: list[str] = []
    seen = 0
    after: str | None = ""
    while after is not None:
        keys, after = await catalogue.record_page(after=after)
        for key in keys:
            seen += 1
            if sample is None or len(chosen) < sample:
                chosen.append(key)
            elif (place := random.randrange(seen)) < sample:  # noqa: S311 - nobody gains by guessing an audit's sample
                chosen[place] = key
    return [name for key in chosen if (name := await catalogue.name_of(key)) is not None]


async def _audit(wishes: Wishes, storage: Storage, names: Sequence[PackageName], progress: Progress) -> Audit:
    catalogue = Catalogue(storage)
    audit = Audit(
        storage=storage,
        catalogue=catalogue,
        keys=await catalogue.read_keys(),
        policy=wishes.config.signatures,
        concurrency=AUDIT_CONCURRENCY,
        progress=progress,
        proofs=_read_proof_terms(wishes),
    )
    await audit.run(names)
    return audit


def _read_proof_terms(wishes: Wishes) -> ProofTerms | None:
    log = read_log_terms(wishes.config.log)
    if log is None:
        return None
    is_required = wishes.config.log.check is LogCheck.REQUIRE
    return ProofTerms(log, name_terms(log), is_required=is_required, registry=read_log_registry(wishes.config))


async def _repair(wishes: Wishes, storage: Storage, upstream: Upstream, summary: AuditSummary) -> None:
    selection = wishes.selection()
    packages = await prepare_packages(wishes, storage, upstream)
    signer = await find_signer(wishes.config, storage)
    records: list[PackageRecord] = []
    found: dict[PackageName, list[Finding]] = {}
    for finding in summary.findings:
        found.setdefault(PackageName(finding.name), []).append(finding)
    for name, findings in found.items():
        try:
            _, left_out = wishes.at_home([name], selection)
            if left_out:
                summary.unrepaired[name] = left_out[0]
                continue
            result = await packages.run(
                name,
                is_forced=True,
                replace_bytes=_versions_with(findings, _WRONG_BYTES),
                renew_proofs=_versions_with(findings, _WRONG_PROOFS),
            )
            await CoverageStore(storage).add(change_of(result.before, result.record), now=format_time(now()))
            if result.record is not None:
                records.append(result.record)
            again = await _audit(wishes, storage, [name], SilentProgress())
        except MirrorWitnessError as error:
            summary.unrepaired[name] = str(error)
            continue
        problem = result.problem() if result.status is Status.DIVERGED else None
        if again.findings or problem is not None:
            summary.unrepaired[name] = problem or again.findings[0].reason
            if problem is None and {finding.kind for finding in again.findings} == {FindingKind.MISSING_PROOF}:
                summary.unproven.add(name)
        else:
            summary.repaired.append(name)
    await take_in(storage, records, key=signer, directory=wishes.config.spool_directory)


_WRONG_BYTES: Final = frozenset({FindingKind.WRONG_BYTES, FindingKind.MISSING_TARBALL})
_WRONG_PROOFS: Final = frozenset({FindingKind.WRONG_PROOF, FindingKind.MISSING_PROOF})


def _versions_with(findings: Sequence[Finding], kinds: frozenset[FindingKind]) -> frozenset[Version]:
    return frozenset(
        Version(finding.version) for finding in findings if finding.version is not None and finding.kind in kinds
    )


async def read_status(wishes: Wishes) -> MirrorStatus:
    """Read what the mirror says of itself."""
    config = wishes.config
    async with open_mirror(config) as storage:
        snapshot = await read_snapshot(
            storage,
            at=now(),
            allowed=config.limits.requests_per_month,
            terms=health_terms(config),
            notes=UNFINISHED_SHOWN,
            counted=UNFINISHED_COUNTED,
        )
    return MirrorStatus(config.storage or "", snapshot)


async def serve_mirror(
    wishes: Wishes, *, listen: str | None, ready: Callable[[str], None], at: int | None = None
) -> None:
    """Serve the mirror until a signal arrives; with `at`, as the registry stood at that tree size of the log."""
    config = wishes.config
    host, port = parse_listen(listen or config.serve.listen)
    options = ServeOptions(
        public_url=config.public_url,
        trust_forwarded=config.serve.trust_forwarded,
        packument_max_age=int(config.serve.packument_max_age),
        cache_bytes=config.serve.cache_memory,
        fresh_seconds=config.serve.fresh_for,
        budget=config.limits.requests_per_month,
        health=health_terms(config),
        at=at,
    )
    shutdown = trio.Event()
    async with open_mirror(config) as storage:
        app = make_app(storage=storage, options=options, now=now)

        async def work() -> None:
            async with trio.open_nursery() as nursery:
                start = partial(serve_app, app, host=host, port=port, shutdown=shutdown)
                ready(format_address(await nursery.start(start)))

        await run_until_signal(work, stop=shutdown.set)
