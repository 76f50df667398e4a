"""What every run that fills a mirror has in common: open everything, work, record the run.

`run_sync` is one pass over the selected packages; `mirrorwitness.run.following` follows the feed. Both take what
`open_mirroring` opened and end with `record_run`. Nothing here prints.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ExitCode, StorageError
from mirrorwitness.fetch import make_user_agent
from mirrorwitness.mirror.about import make_about
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.catalogue import Catalogue, RunRecord
from mirrorwitness.mirror.coverage import CoverageStore
from mirrorwitness.mirror.keeper import SummaryKeeper
from mirrorwitness.mirror.nodes import NodeStore
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.package import PackageSync
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.shards import WHOLE
from mirrorwitness.mirror.sources import Role, Sources
from mirrorwitness.mirror.sync import SyncRun
from mirrorwitness.mirror.tarballs import TarballOptions, Tarballs
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.describe import make_summarizer, publish_about, read_lag, read_mirror_key
from mirrorwitness.run.session import now, open_mirror, open_upstream, refresh_keys
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.voucher import make_voucher, read_log_registry, read_log_terms
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_sweep import sweep_leftovers

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from datetime import datetime

    from mirrorwitness.mirror.logword import LogVoucher
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.mirror.terms import PackageTerms
    from mirrorwitness.mirror.voucher import Voucher
    from mirrorwitness.run.session import Upstream, Wishes
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.tlog.keys import SignerKey

__all__ = [
    "Mirroring",
    "keep_described",
    "open_mirroring",
    "open_voucher",
    "prepare_packages",
    "record_run",
    "run_sync",
]

DESCRIBE_EVERY: Final = 600.0
"""Seconds between two publications while a feed is followed: well within the hours that a follower reads again after a
restart, so that what a killed one had not taken into the summary yet is noted once more."""

STOPPED_SECONDS: Final = 5.0
"""How long a run that was stopped may work on the summary; with the 20 s for its packages below Kubernetes' 30."""


@dataclass(frozen=True, slots=True)
class Mirroring:
    """What a run works with.

    Attributes:
        wishes: what the operator asked for.
        selection: the packages and versions.
        storage: the mirror.
        upstream: the registries.
        terms: what every package is judged by.
        packages: brings one package up to date.
        attempts: does so and keeps the notes; its summary is the run's.
        keeper: keeps the summary of all versions.
        mirror_key: signs what the mirror says of itself, or None.
        before: the run before this one.
        storage_check: what the short storage probe found, once.
        started: when the run began.
    """

    wishes: Wishes
    selection: Selection
    storage: Storage
    upstream: Upstream
    terms: PackageTerms
    packages: PackageSync
    attempts: Attempts
    keeper: SummaryKeeper
    mirror_key: SignerKey | None
    before: RunRecord | None
    storage_check: dict[str, str]
    started: datetime

    @property
    def summary(self) -> RunSummary:
        """What was done so far."""
        return self.attempts.summary


@asynccontextmanager
async def open_mirroring(
    wishes: Wishes, progress: Progress, *, shard: Shard = WHOLE
) -> AsyncGenerator[Mirroring, None]:
    """Open storage and registries, look at the storage once, and bring signing keys and the log's head up to date.

    Raises:
        SecurityError: the log forked, or its checkpoint is not acceptable; nothing was changed.
    """
    started = now()
    selection = wishes.selection()
    mirror_key = read_mirror_key(wishes.config)
    log = read_log_terms(wishes.config.log)
    async with (
        open_mirror(wishes.config) as storage,
        open_upstream(wishes, storage=storage, shards=shard.total) as upstream,
    ):
        catalogue = Catalogue(storage)
        before = await catalogue.read_run()
        storage_check = before.storage_check if before is not None else None
        if storage_check is None:
            storage_check = await _check_briefly(storage)
        keys, alarms = await refresh_keys(storage, upstream, wishes.config.signatures)
        alarms += await _sweep_probes(storage)
        voucher = open_voucher(wishes, log, storage, upstream, shards=shard.total)
        alarms += [] if voucher is None else await voucher.start()
        terms = wishes.terms(selection, keys, log)
        packages = _make_packages(wishes, storage, upstream, terms, progress, voucher=voucher)
        feed = wishes.config.feed
        with SummaryKeeper(summarizer=make_summarizer(storage), directory=wishes.config.spool_directory) as keeper:
            attempts = Attempts(
                storage=storage,
                packages=packages,
                catalogue=catalogue,
                terms=OwedTerms(owed_for=feed.owed_for, confirm_after=feed.confirm_deletion),
                summary=RunSummary(),
                progress=progress,
                now=now,
                noted=keeper.note,
            )
            for alarm in [*wishes.skipped, *alarms]:
                attempts.summary.alarm(alarm)
            yield Mirroring(
                wishes=wishes,
                selection=selection,
                storage=storage,
                upstream=upstream,
                terms=terms,
                packages=packages,
                attempts=attempts,
                keeper=keeper,
                mirror_key=mirror_key,
                before=before,
                storage_check=storage_check,
                started=started,
            )


async def run_sync(wishes: Wishes, progress: Progress, *, shard: Shard = WHOLE) -> RunSummary:
    """Bring the mirror up to date once, and record the run."""
    names, left_out = wishes.packages(wishes.selection())
    names = [name for name in names if shard.owns(name)]
    progress.started(len(names))
    async with open_mirroring(wishes, progress, shard=shard) as mirroring:
        run = SyncRun(attempts=mirroring.attempts, workers=wishes.config.limits.packages)
        for sentence in left_out:
            run.summary.alarm(sentence)

        async def work() -> None:
            await run.run(names)

        if await run_until_signal(work, stop=run.stop):
            run.summary.is_interrupted = True
        await record_run(mirroring, is_stopped=run.summary.is_interrupted)
    return run.summary


async def record_run(mirroring: Mirroring, *, is_stopped: bool) -> None:
    """Write down what the run did, and what the mirror is now.

    Args:
        mirroring: the run.
        is_stopped: a signal ended it, and whoever sent it waits; the summary may stay older than the run.

    Raises:
        StorageError: it cannot be written, and the run itself had no such trouble.
    """
    summary = mirroring.summary
    record = _make_record(mirroring)
    try:
        await mirroring.attempts.save_change()
        if summary.fatal is None:
            await _update_summary(mirroring, seconds=STOPPED_SECONDS if is_stopped else math.inf)
        await Catalogue(mirroring.storage).write_run(record)
        await _publish(mirroring, record)
    except StorageError as error:
        if summary.fatal is None:
            raise
        summary.alarm(f"the run could not be recorded: {error}")


async def keep_described(mirroring: Mirroring) -> None:
    """Bring the summary up to date and publish the mirror's description, again and again until cancelled.

    *Errors*: a storage that fails is an alarm; the next time may succeed.
    """
    while True:
        await trio.sleep(DESCRIBE_EVERY)
        try:
            await _update_summary(mirroring, seconds=math.inf)
            await _publish(mirroring, _make_record(mirroring))
        except StorageError as error:
            mirroring.summary.alarm(f"the mirror's description could not be written: {error}")


def _make_record(mirroring: Mirroring) -> RunRecord:
    summary, before = mirroring.summary, mirroring.before
    code = summary.exit_code()
    finished = format_time(now())
    return RunRecord(
        started=format_time(mirroring.started),
        finished=finished,
        exit_code=int(code),
        last_complete=finished if code is ExitCode.COMPLETE else None if before is None else before.last_complete,
        counts=dict(summary.counts),
        storage_check=mirroring.storage_check,
    )


async def _update_summary(mirroring: Mirroring, *, seconds: float) -> None:
    """Take what the run learned into the summary; a failure is an alarm, the older summary stays."""
    with trio.move_on_after(seconds) as scope:
        try:
            await mirroring.keeper.update()
        except StorageError as error:
            mirroring.summary.alarm(f"the summary of all versions is older than this run: {error}")
    if scope.cancelled_caught:
        mirroring.summary.alarm("the summary of all versions is older than this run, which was stopped")


async def _publish(mirroring: Mirroring, record: RunRecord) -> None:
    storage, key = mirroring.storage, mirroring.mirror_key
    try:
        head, _ = await NodeStore(storage).read_head()
    except StorageError as error:
        mirroring.summary.alarm(f"the mirror's description names no summary: {error}")
        head = None
    about = make_about(
        software=make_user_agent(None),
        sources=[source.base for source in mirroring.upstream.sources],
        contact=mirroring.wishes.config.contact,
        policy=mirroring.terms.policy,
        keys=mirroring.terms.keys,
        run=record,
        selection=mirroring.selection,
        coverage=await CoverageStore(storage).read(),
        summary=head,
        lag=await read_lag(storage, at=now()),
        mirror_key=None if key is None else str(key.verifier),
    )
    await publish_about(storage, about, key)


async def prepare_packages(wishes: Wishes, storage: Storage, upstream: Upstream) -> PackageSync:
    """Put together what brings single packages up to date, for a command that is no run.

    Raises:
        SelectionError: nothing is selected.
        SecurityError: the registry shows other bytes under a known keyid, or the log forked.
        StorageError: the signing keys cannot be read or written.
        UpstreamError: the log cannot be read, and without its word nothing could be served.
    """
    selection = wishes.selection()
    log = read_log_terms(wishes.config.log)
    keys, _ = await refresh_keys(storage, upstream, wishes.config.signatures)
    voucher = open_voucher(wishes, log, storage, upstream)
    if voucher is not None:
        await voucher.advance()
    terms = wishes.terms(selection, keys, log)
    return _make_packages(wishes, storage, upstream, terms, SilentProgress(), voucher=voucher)


def open_voucher(
    wishes: Wishes, log: Terms | None, storage: Storage, upstream: Upstream, *, shards: int = 1
) -> LogVoucher | None:
    """Put together what asks the log; None where there is no log to ask."""
    if log is None:
        return None
    rate = wishes.config.limits.requests_per_second / shards
    return make_voucher(
        wishes.config.log,
        log,
        storage=storage,
        fetcher=upstream.fetcher,
        rate=rate or None,
        now=now,
        registry=read_log_registry(wishes.config),
    )


def _make_packages(
    wishes: Wishes,
    storage: Storage,
    upstream: Upstream,
    terms: PackageTerms,
    progress: Progress,
    *,
    voucher: Voucher | None,
) -> PackageSync:
    limits = wishes.config.limits
    catalogue = Catalogue(storage)
    tarballs = Tarballs(
        storage=storage,
        catalogue=catalogue,
        sources=make_sources(wishes, storage, upstream),
        options=TarballOptions(
            concurrency=limits.concurrency,
            size_limit=limits.tarball_max,
            memory=limits.spool_memory,
            spool_directory=wishes.config.spool_directory,
            authority_only=frozenset(wishes.homes),
        ),
        progress=progress,
    )
    return PackageSync(
        storage=storage,
        catalogue=catalogue,
        authority=upstream.authority,
        tarballs=tarballs,
        terms=terms,
        now=now,
        voucher=voucher,
    )


def make_sources(wishes: Wishes, storage: Storage, upstream: Upstream) -> Sources:
    """Put the registries in the order in which they are asked for bytes."""
    authority, *others = upstream.sources
    roles = [registry.role for registry in wishes.config.registries[1:]]
    return Sources(
        authority=authority,
        peers=[source for source, role in zip(others, roles, strict=True) if Role(role) is Role.PEER],
        fallbacks=[source for source, role in zip(others, roles, strict=True) if Role(role) is not Role.PEER],
        storage=storage,
        now=now,
        dropped_for=wishes.config.limits.source_dropped_for,
    )


async def _check_briefly(storage: Storage) -> dict[str, str]:
    """Ask a new storage once what it enforces, and record it; `store-check` explains each line."""
    report = await check_storage(storage, short=True)
    return {str(finding.capability): str(finding.outcome) for finding in report.findings}


async def _sweep_probes(storage: Storage) -> list[str]:
    """Remove what storage checks that were killed left here; return sentences for the operator."""
    try:
        await sweep_leftovers(storage, now=now())
    except StorageError as error:
        return [f"what a killed storage check left below state/probe/ could not be removed: {error}"]
    return []
