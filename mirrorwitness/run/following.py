"""Follow the feed with one follower, for one shard.

`run_follow` opens what `mirrorwitness.run.mirroring` opens, adds the feed and the shard's cursor, and records the run
at its end. A signal stops it: what is in work is finished, the cursor is saved.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.fetch import Backoff
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.cursor import CursorStore
from mirrorwitness.mirror.follower import Follower, FollowOptions
from mirrorwitness.mirror.receipts import Receipts
from mirrorwitness.mirror.sweep import Sweep
from mirrorwitness.mirror.workload import Workload
from mirrorwitness.npm.feed import Feed, FeedOptions
from mirrorwitness.run.budgeting import worker_name
from mirrorwitness.run.mirroring import keep_described, open_mirroring, record_run
from mirrorwitness.run.observing import FollowerWatch, health_terms, serve_watch
from mirrorwitness.run.session import now
from mirrorwitness.run.signals import run_until_signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.config import Feed as FeedSettings
    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.run.mirroring import Mirroring
    from mirrorwitness.run.session import Upstream, Wishes

__all__ = ["make_feed", "make_options", "run_follow"]


async def run_follow(
    wishes: Wishes,
    progress: Progress,
    *,
    shard: Shard,
    is_once: bool,
    listen: tuple[str, int] | None = None,
    ready: Callable[[str], None] = lambda _: None,
) -> RunSummary:
    """Follow the configured feed for one shard.

    Args:
        wishes: what the operator asked for.
        progress: told of every finished package.
        shard: which packages are ours.
        is_once: end when everything that the feed shows now is done; otherwise only on a signal.
        listen: host and port for metrics, health and readiness; None: nothing listens.
        ready: told their address.

    Raises:
        ConfigurationError: no feed is configured.
        CursorLostError: another worker has the shard.
        MirrorWitnessError: what ended the follower.
    """
    if wishes.config.feed.url is None:
        raise ConfigurationError(
            "no feed to follow: write url into [feed] of mirrorwitness.toml, or give --feed URL; the registry's"
            " operator says where its replication feed is"
        )
    async with open_mirroring(wishes, progress, shard=shard) as mirroring:
        store = CursorStore(storage=mirroring.storage, shard=shard, worker=worker_name())
        follower, workload = _make_follower(mirroring, wishes.config.feed.url, shard, store)
        is_finished = False

        async def work() -> None:
            nonlocal is_finished
            async with trio.open_nursery() as watching:
                watching.start_soon(keep_described, mirroring)
                if listen is not None:
                    watch = _make_watch(mirroring, shard, store)
                    await watching.start(partial(serve_watch, watch, host=listen[0], port=listen[1], ready=ready))
                async with trio.open_nursery() as nursery:
                    await nursery.start(workload.run)
                    await follower.run(is_once=is_once)
                    workload.close()
                is_finished = True
                watching.cancel_scope.cancel()

        is_stopped = await run_until_signal(work, stop=follower.stop)
        summary = mirroring.summary
        # A follower that was told to stop and did is complete; one that was cut off in its work is not (P3).
        summary.is_interrupted = is_stopped and (is_once or not is_finished)
        # Failures that a later try of this run made good are none; what counts is what is noted now.
        summary.counts["packages_unfinished"] = mirroring.attempts.unfinished
        await record_run(mirroring, is_stopped=is_stopped)
    return summary


def _make_watch(mirroring: Mirroring, shard: Shard, store: CursorStore) -> FollowerWatch:
    return FollowerWatch(
        storage=mirroring.storage,
        store=store,
        shard=shard,
        attempts=mirroring.attempts,
        gate=mirroring.upstream.gate,
        lease=mirroring.upstream.lease,
        terms=health_terms(mirroring.wishes.config),
        now=now,
    )


def _make_follower(mirroring: Mirroring, url: str, shard: Shard, store: CursorStore) -> tuple[Follower, Workload]:
    wishes = mirroring.wishes
    feed = make_feed(wishes, mirroring.upstream, url)
    receipts = Receipts()
    workload = Workload(attempts=mirroring.attempts, receipts=receipts, workers=wishes.config.limits.packages)
    wants = wishes.wants(mirroring.selection)
    follower = Follower(
        feed=feed,
        store=store,
        shard=shard,
        wants=wants,
        workload=workload,
        attempts=mirroring.attempts,
        receipts=receipts,
        sweep=Sweep(
            feed=feed,
            catalogue=Catalogue(mirroring.storage),
            selection=mirroring.selection,
            wants=wants,
            shard=shard,
            fingerprint_of=mirroring.packages.fingerprint,
        ),
        options=make_options(wishes.config.feed),
        now=now,
    )
    return follower, workload


def make_feed(wishes: Wishes, upstream: Upstream, url: str) -> Feed:
    """Return the client of a feed, with the manners of the registries."""
    limits = wishes.config.limits
    return Feed(
        base=url,
        fetcher=upstream.fetcher,
        gate=upstream.gate,
        options=FeedOptions(
            token=wishes.feed_token, tries=Backoff(attempts=limits.retries + 1), max_pause=limits.retry_after_max
        ),
    )


def make_options(settings: FeedSettings) -> FollowOptions:
    """Return how a follower behaves, as it is configured."""
    return FollowOptions(
        page_rows=settings.page_rows,
        window=settings.window,
        reread_every=settings.reread_every,
        idle_least=settings.idle_least,
        idle_most=settings.idle_most,
        sweep_every=settings.sweep_every,
        sweep_pace=settings.sweep_pace,
    )
