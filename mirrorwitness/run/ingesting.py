"""Fill the checksum database from a registry: named packages once, or everything that a feed announces.

`run_ingest` is the work of a command of its own, over a log that `mirrorwitness.run.sumdb` opened. `open_ingesting` is
for a server: look-ups on demand (`Ingesting.demand`), and with `follow_feed` its feed. Nothing here prints.

The follower is the mirror's own; what it remembers lies apart (`mirrorwitness.run.logging_work`).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.cursor import CursorStore
from mirrorwitness.mirror.follower import Follower
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.receipts import Receipts
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.mirror.shards import WHOLE
from mirrorwitness.mirror.sweep import Sweep
from mirrorwitness.mirror.sync import SyncRun
from mirrorwitness.mirror.workload import Workload
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.signatures import SignaturePolicy
from mirrorwitness.run.budgeting import worker_name
from mirrorwitness.run.following import make_feed, make_options
from mirrorwitness.run.logging_work import FOLLOW_PREFIX, LoggingWork
from mirrorwitness.run.session import now, open_upstream
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.storage.prefixed import PrefixedStorage
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.demand import Demand
from mirrorwitness.sumdb.examination import Examiner
from mirrorwitness.sumdb.examination import Upstream as Origin
from mirrorwitness.sumdb.ingest import Ingest
from mirrorwitness.sumdb.logged import Logged
from mirrorwitness.sumdb.pool import Pool
from mirrorwitness.sumdb.registry_keys import RegistryKeys
from mirrorwitness.sumdb.tarballs import TarballLimits, Tarballs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mirrorwitness.config import Config
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.run.pushing import MirrorPush
    from mirrorwitness.run.session import Upstream, Wishes
    from mirrorwitness.run.sumdb import OpenedLog
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.ingest import Sink
    from mirrorwitness.sumdb.log import Log
    from mirrorwitness.sumdb.publisher import Publisher

__all__ = ["Ingesting", "follow_feed", "log_when_agreed", "open_ingesting", "run_ingest"]


MIRROR_SECONDS: Final = 600.0
"""How long a job that is finished waits for a log mirror: some hundred thousand entries."""


@dataclass(frozen=True, slots=True)
class Ingesting:
    """What fills a log.

    Attributes:
        wishes: what the operator asked for.
        selection: which packages and versions a feed or a list brings.
        authority: which registry names belong to.
        upstream: the registries.
        storage: the follower's part of the storage.
        ingest: brings single packages into the log.
        demand: has single versions logged for look-ups.
        work: what a follower does with each package.
        attempts: does so and keeps the notes; its summary is the run's.
    """

    wishes: Wishes
    selection: Selection
    authority: Authority
    upstream: Upstream
    storage: Storage
    ingest: Ingest
    demand: Demand
    work: LoggingWork
    attempts: Attempts

    @property
    def summary(self) -> RunSummary:
        """What was done so far."""
        return self.attempts.summary

    def wants(self, name: str) -> bool:
        """Say whether a package that the first registry's feed names is to be logged: selected, and that registry's."""
        first = registry_of(self.upstream.authority.base)
        return self.selection.matches(name) and self.authority.authority_of(PackageName(name)) == first


async def run_ingest(
    wishes: Wishes,
    progress: Progress,
    *,
    opened: OpenedLog,
    is_once: bool,
    names: Sequence[PackageName] | None = None,
    authority: Authority | None = None,
) -> RunSummary:
    """Bring the log up to date: of the named packages once, or by the configured feed (once, or until a signal).

    Args:
        wishes: what the operator asked for; the first of its registries and that one's feed are read.
        progress: told of every finished package.
        opened: the log, as `mirrorwitness.run.sumdb.open_for_writing` opens it.
        is_once: end when everything that the feed shows now is done; otherwise only on a signal.
        names: these packages, without a feed; None: the feed, of what the wishes select.
        authority: which registry names belong to; None: all of them to the first.

    Raises:
        ConfigurationError: no feed is configured and no names are given, or a name belongs to another registry.
        LogLostError: another sequencer grows the log.
        MirrorWitnessError: what ended the run.
    """
    pool = Pool(opened.log, after_batch=opened.publisher.wake)
    async with (
        open_upstream(wishes, storage=opened.storage) as upstream,
        open_ingesting(
            wishes,
            progress,
            storage=opened.storage,
            upstream=upstream,
            log=opened.log,
            sink=pool,
            authority=authority,
        ) as ingesting,
    ):
        for name in names or ():
            ingesting.ingest.registry_of(name)
        for sentence in opened.notes:
            ingesting.summary.alarm(sentence)
        # A witness that saw more of the log than we have says so now; a job that nobody answers ends, and adds nothing.
        if not await opened.publisher.attempt() and (is_once or names is not None):
            return _end_unpublished(ingesting.summary, opened.publisher, "nothing was added: what is logged already")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_when_agreed, opened.publisher, pool)
            await nursery.start(opened.publisher.run)
            for push in opened.pushes:
                nursery.start_soon(push.run)
            if names is None:
                await _follow(ingesting, is_once=is_once)
            else:
                await _run_names(ingesting, progress, names)
            nursery.cancel_scope.cancel()
        if not await opened.publisher.attempt():
            return _end_unpublished(ingesting.summary, opened.publisher, "what is logged now")
        await _bring_to_mirrors(opened, ingesting.summary)
    return ingesting.summary


async def log_when_agreed(publisher: Publisher, pool: Pool) -> None:
    """Run a log's pool, from when the quorum has cosigned what there is; until then what is offered waits.

    Raises:
        MirrorWitnessError: why nothing more can be logged.
    """
    await publisher.wait_agreed()
    await pool.run()


async def _bring_to_mirrors(opened: OpenedLog, summary: RunSummary) -> None:
    """Bring what was published to log mirrors before the job ends; what cannot be brought is for the next one."""

    async def settle(push: MirrorPush) -> None:
        with trio.move_on_after(MIRROR_SECONDS):
            if await push.settle():
                return
        summary.alarm(f"log mirror {push.name}: was not brought all that is published; the next run goes on")

    await for_each(opened.pushes, settle, at_once=max(1, len(opened.pushes)))


def _end_unpublished(summary: RunSummary, publisher: Publisher, what: str) -> RunSummary:
    summary.counts["log_unpublished"] = 1  # nobody can see it yet: not complete (P3)
    summary.alarm(f"{what} is not published yet: {publisher.statistics().missing}", kind="publication")
    return summary


@asynccontextmanager
async def open_ingesting(
    wishes: Wishes,
    progress: Progress,
    *,
    storage: Storage,
    upstream: Upstream,
    log: Log,
    sink: Sink,
    authority: Authority | None = None,
) -> AsyncGenerator[Ingesting, None]:
    """Put together what fills an open log.

    Args:
        wishes: what the operator asked for.
        progress: told of every finished package.
        storage: where the log is.
        upstream: the registries.
        log: the log.
        sink: takes records: the pool of that log.
        authority: which registry names belong to; None: all of them to the first.

    Raises:
        ConfigurationError: a registry cannot stand in a record, or none that has authority is configured.
    """
    config = wishes.config
    rules = wishes.rules or (parse_rule("*", origin="without a selection"),)
    selection = make_selection(rules, config.denied)
    authority, origins = _find_origins(storage, upstream, authority)
    must_be_signed = config.signatures is SignaturePolicy.REQUIRE
    logged = Logged(storage, log)
    ingest = Ingest(
        storage=storage,
        logged=logged,
        sink=sink,
        authority=authority,
        upstreams=origins,
        examiner=Examiner(logged=logged, tarballs=Tarballs(_limits_of(config)), must_be_signed=must_be_signed, now=now),
        confirm_after=config.feed.confirm_deletion,
        now=now,
    )
    summary = RunSummary()
    part = PrefixedStorage(storage, FOLLOW_PREFIX)
    terms = "\n".join([str(must_be_signed), *sorted(f"{key} {prefix}" for key, prefix in authority.rules.items())])
    work = LoggingWork(
        ingest=ingest,
        storage=part,
        catalogue=Catalogue(part),
        selection=selection,
        terms=terms,
        counts=summary.counts,
        now=now,
    )
    attempts = Attempts(
        storage=part,
        packages=work,
        catalogue=Catalogue(part),
        terms=OwedTerms(owed_for=config.feed.owed_for, confirm_after=config.feed.confirm_deletion),
        summary=summary,
        progress=progress,
        now=now,
    )
    yield Ingesting(
        wishes=wishes,
        selection=selection,
        authority=authority,
        upstream=upstream,
        storage=part,
        ingest=ingest,
        demand=Demand(ingest),
        work=work,
        attempts=attempts,
    )


async def follow_feed(
    ingesting: Ingesting, *, is_once: bool, on_start: Callable[[Follower], None] = lambda _: None
) -> None:
    """Follow the configured feed for an open log: once, or until `Follower.stop` or cancellation.

    It does not listen to signals.

    Args:
        ingesting: what fills the log.
        is_once: end when everything that the feed shows now is done.
        on_start: told the follower, before it begins.

    Raises:
        ConfigurationError: no feed is configured.
        CursorLostError: another worker follows the feed for this log.
        MirrorWitnessError: what ended the follower.
    """
    wishes = ingesting.wishes
    url = wishes.config.feed.url
    if url is None:
        raise ConfigurationError(
            "no feed to follow: write url into [feed] of mirrorwitness.toml, or give --feed URL; or name packages"
        )
    feed = make_feed(wishes, ingesting.upstream, url)
    receipts = Receipts()
    workload = Workload(attempts=ingesting.attempts, receipts=receipts, workers=wishes.config.limits.packages)
    follower = Follower(
        feed=feed,
        store=CursorStore(storage=ingesting.storage, shard=WHOLE, worker=worker_name()),
        shard=WHOLE,
        wants=ingesting.wants,
        workload=workload,
        attempts=ingesting.attempts,
        receipts=receipts,
        sweep=Sweep(
            feed=feed,
            catalogue=Catalogue(ingesting.storage),
            selection=ingesting.selection,
            wants=ingesting.wants,
            shard=WHOLE,
            fingerprint_of=ingesting.work.fingerprint,
        ),
        options=make_options(wishes.config.feed),
        now=now,
    )
    on_start(follower)
    async with trio.open_nursery() as nursery:
        await nursery.start(workload.run)
        await follower.run(is_once=is_once)
        workload.close()


async def _follow(ingesting: Ingesting, *, is_once: bool) -> None:
    """Follow the feed, once or until a signal."""
    followers: list[Follower] = []
    is_finished = False

    async def work() -> None:
        nonlocal is_finished
        await follow_feed(ingesting, is_once=is_once, on_start=followers.append)
        is_finished = True

    def stop() -> None:
        for follower in followers:
            follower.stop()

    is_stopped = await run_until_signal(work, stop=stop)
    summary = ingesting.summary
    # A follower that was told to stop and did is complete; one that was cut off in its work is not (P3).
    summary.is_interrupted = is_stopped and (is_once or not is_finished)
    # Failures that a later try of this run made good are none; what counts is what is noted now.
    summary.counts["packages_unfinished"] = ingesting.attempts.unfinished


async def _run_names(ingesting: Ingesting, progress: Progress, names: Sequence[PackageName]) -> None:
    progress.started(len(names))
    run = SyncRun(attempts=ingesting.attempts, workers=ingesting.wishes.config.limits.packages)

    async def work() -> None:
        await run.run(names)

    if await run_until_signal(work, stop=run.stop):
        run.summary.is_interrupted = True


def _find_origins(
    storage: Storage, upstream: Upstream, authority: Authority | None
) -> tuple[Authority, dict[str, Origin]]:
    """Return who has authority for which names, and the registries among those that are configured."""
    clients = {registry_of(client.base): client for client in reversed(upstream.sources)}
    first = registry_of(upstream.authority.base)
    authority = authority or make_authority([], default=first)
    missing = sorted(authority.registries - clients.keys())
    if missing:
        raise ConfigurationError(
            f"authority: {', '.join(missing)} is to be asked, and is none of the registries: {', '.join(clients)}"
        )
    return authority, {
        prefix: Origin(prefix, clients[prefix], RegistryKeys(storage=storage, registry=clients[prefix], prefix=prefix))
        for prefix in authority.registries
    }


def _limits_of(config: Config) -> TarballLimits:
    limits = config.limits
    return TarballLimits(
        concurrency=limits.concurrency,
        size=limits.tarball_max,
        memory=limits.spool_memory,
        directory=config.spool_directory,
    )
