"""Builds logs that are filled from a registry simulator, so that each test reads as a scenario.

world = await make_world()
world.sim.publish("left", "1.0.0", signer=Signer())
await world.run("left")
assert await world.events("left") == ["publish 1.0.0"]
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import MirrorWitnessError
from mirrorwitness.fetch import Backoff
from mirrorwitness.npm.names import PackageName
from mirrorwitness.npm.registry import Registry, RegistryOptions
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.examination import Examiner, Upstream
from mirrorwitness.sumdb.ingest import Ingest
from mirrorwitness.sumdb.logged import Logged
from mirrorwitness.sumdb.pool import Pool
from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.sumdb.registry_keys import RegistryKeys
from mirrorwitness.sumdb.tarballs import TarballLimits, Tarballs
from tests.fakes.registry import RegistrySimulator
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.direct import DirectFetcher
from tests.unit.sumdb.logs import begin_log, reopen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.ingested import Ingested, Seen
    from mirrorwitness.sumdb.log import Log
    from mirrorwitness.sumdb.records import Record

__all__ = ["CONFIRM_AFTER", "NOW", "World", "make_world"]

NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CONFIRM_AFTER = 3600.0
_QUICK = Backoff(attempts=2, base=0.001, cap=0.002)


@dataclass
class World:
    """One log and the registries that it is filled from; change any attribute between two runs."""

    sims: Sequence[RegistrySimulator]
    storage: MemoryStorage
    log: Log
    authority: Authority
    must_be_signed: bool = False
    waited: timedelta = field(default_factory=timedelta)

    @property
    def sim(self) -> RegistrySimulator:
        """The first registry."""
        return self.sims[0]

    @property
    def registry(self) -> str:
        """Its name in records."""
        return registry_of(self.sim.base)

    def now(self) -> datetime:
        """Return the time of day."""
        return NOW + self.waited

    @asynccontextmanager
    async def ingesting(self, storage: Storage | None = None) -> AsyncGenerator[Ingest, None]:
        """Open what fills the log, with its pool running."""
        used = storage or self.storage
        pool = Pool(self.log, interval=0)
        logged = Logged(used, self.log)
        fetcher = DirectFetcher(*self.sims)
        upstreams: dict[str, Upstream] = {}
        for sim in self.sims:
            client = Registry(base=sim.base, fetcher=fetcher, options=RegistryOptions(tries=_QUICK))
            prefix = registry_of(sim.base)
            upstreams[prefix] = Upstream(prefix, client, RegistryKeys(storage=used, registry=client, prefix=prefix))
        failed: MirrorWitnessError | None = None
        async with trio.open_nursery() as nursery:
            await nursery.start(pool.run)
            ingest = Ingest(
                storage=used,
                logged=logged,
                sink=pool,
                authority=self.authority,
                upstreams=upstreams,
                examiner=Examiner(
                    logged=logged,
                    tarballs=Tarballs(TarballLimits(concurrency=4)),
                    must_be_signed=self.must_be_signed,
                    now=self.now,
                ),
                confirm_after=CONFIRM_AFTER,
                now=self.now,
            )
            try:
                yield ingest
            except MirrorWitnessError as error:
                failed = error  # raised outside of the nursery, which would put it into a group
            nursery.cancel_scope.cancel()
        if failed is not None:
            raise failed

    async def run(self, name: str, seen: Seen | None = None) -> Ingested:
        """Bring one package up to date."""
        async with self.ingesting() as ingest:
            return await ingest.run(PackageName(name), seen)

    async def reopen(self) -> None:
        """Open the log anew, as after the start of a process."""
        self.log = await reopen(self.storage)

    async def records(self, name: str) -> list[Record]:
        """Return all records of a package, in the log's order."""
        logged = Logged(self.storage, self.log)
        index = await logged.index(PackageName(name))
        return [parse_record(await logged.record(line.index)) for line in index.lines]

    async def events(self, name: str) -> list[str]:
        """Return what the log says of a package, in its order."""
        return [f"{record.event} {record.version}" for record in await self.records(name)]


async def make_world(*sims: RegistrySimulator, storage: MemoryStorage | None = None) -> World:
    """Begin a log; every name belongs to the first registry."""
    storage = MemoryStorage() if storage is None else storage
    found = sims or (RegistrySimulator(),)
    authority = make_authority([], default=registry_of(found[0].base))
    return World(found, storage, await begin_log(storage), authority)
