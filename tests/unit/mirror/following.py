"""Builds followers in memory over a feed simulator, so that each test reads as a scenario on trio's own clock.

upstream = make_upstream()
upstream.sim.publish("left", "1.0.0")
following = Following(upstream, rules=["*"])
async with following.running():
    await trio.sleep(60)
assert following.mirror.served("left") == ["1.0.0"]
"""

from __future__ import annotations

import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import trio

from mirrorwitness.fetch import Backoff
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.cursor import CursorStore
from mirrorwitness.mirror.follower import Follower, FollowOptions
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.receipts import Receipts
from mirrorwitness.mirror.shards import WHOLE, Shard
from mirrorwitness.mirror.sweep import Sweep
from mirrorwitness.mirror.workload import Workload
from mirrorwitness.npm.feed import Feed, FeedOptions
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import RegistrySimulator
from tests.unit.mirror.builder import NOW, Mirror, make_mirror
from tests.unit.mirror.direct import DirectFetcher

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import datetime

__all__ = ["Following", "Upstream", "make_upstream"]

_QUICK = Backoff(attempts=2, base=0.001, cap=0.002)


@dataclass
class Upstream:
    """A registry and its feed."""

    sim: RegistrySimulator
    feed: FeedSimulator


def make_upstream(*names: str) -> Upstream:
    """Return a registry with one version of each named package, and its feed."""
    sim = RegistrySimulator()
    for name in names:
        sim.publish(name, "1.0.0")
    return Upstream(sim, FeedSimulator(sim))


@dataclass
class Following:
    """A mirror that follows; change any attribute between two runs."""

    upstream: Upstream
    rules: Sequence[str] = ("*",)
    options: FollowOptions = field(default_factory=FollowOptions)
    terms: OwedTerms = field(default_factory=OwedTerms)
    shard: Shard = WHOLE
    worker: str = "worker-1"
    mirror: Mirror = field(init=False)
    summary: RunSummary = field(default_factory=RunSummary)

    def __post_init__(self) -> None:
        self.mirror = make_mirror(self.upstream.sim, rules=self.rules)

    def now(self) -> datetime:
        """Return the time of day, which goes with trio's clock."""
        return NOW + timedelta(seconds=trio.current_time())

    async def make(self, attempts: Attempts | None = None) -> tuple[Follower, Workload]:
        """Return a follower that has not begun, as after the start of a process; `attempts` do its work."""
        mirror = self.mirror
        packages = await mirror.packages()
        self.summary = RunSummary()
        attempts = attempts or Attempts(
            storage=mirror.wrapped or mirror.storage,
            packages=packages,
            catalogue=mirror.catalogue,
            terms=self.terms,
            summary=self.summary,
            progress=SilentProgress(),
            now=self.now,
            jitter=lambda: 0.5,
        )
        receipts = Receipts()
        workload = Workload(attempts=attempts, receipts=receipts, workers=4)
        feed = Feed(
            base=self.upstream.feed.base, fetcher=DirectFetcher(self.upstream.feed), options=FeedOptions(tries=_QUICK)
        )
        selection = mirror.selection()
        follower = Follower(
            feed=feed,
            store=CursorStore(storage=mirror.wrapped or mirror.storage, shard=self.shard, worker=self.worker),
            shard=self.shard,
            wants=selection.matches,
            workload=workload,
            attempts=attempts,
            receipts=receipts,
            sweep=Sweep(
                feed=feed,
                catalogue=mirror.catalogue,
                selection=selection,
                wants=selection.matches,
                shard=self.shard,
                fingerprint_of=packages.fingerprint,
            ),
            options=self.options,
            now=self.now,
            jitter=lambda: 0.5,
        )
        return follower, workload

    async def once(self) -> RunSummary:
        """Follow once, as a scheduled job does."""
        follower, workload = await self.make()
        async with trio.open_nursery() as nursery:
            await nursery.start(workload.run)
            await follower.run(is_once=True)
            workload.close()
        return self.summary

    @asynccontextmanager
    async def running(self, *, is_killed: bool = False) -> AsyncGenerator[Follower, None]:
        """Follow beside the block; at its end stop well, or at once."""
        follower, workload = await self.make()

        async def follow() -> None:
            await follower.run(is_once=False)
            workload.close()

        async with trio.open_nursery() as nursery:
            await nursery.start(workload.run)
            nursery.start_soon(follow)
            yield follower
            if is_killed:
                nursery.cancel_scope.cancel()
            follower.stop()

    def cursor(self) -> dict[str, Any]:
        """Return the stored cursor."""
        parsed: dict[str, Any] = json.loads(self.mirror.storage.objects[f"state/cursor/{self.shard.key}.json"])
        return parsed

    def requests(self) -> list[str]:
        """Return the registry's requests so far, and forget them."""
        found = [request.target for request in self.upstream.sim.requests]
        self.upstream.sim.requests.clear()
        return found

    def missing(self) -> dict[str, tuple[list[str], list[str]]]:
        """Return every package in which the mirror differs from upstream: what it serves, what it should."""
        different: dict[str, tuple[list[str], list[str]]] = {}
        for name in self.upstream.sim.names:
            wanted = sorted(self.upstream.sim.packument(name).get("versions", {}))
            found = sorted(self.mirror.served(name))
            if wanted != found:
                different[name] = (found, wanted)
        return different
