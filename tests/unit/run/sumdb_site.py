"""A checksum database as its operator runs it, over loopback: a directory, a registry, and two of our own witnesses."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import trio

from mirrorwitness.config.load import Config
from mirrorwitness.config.options import Registry as RegistrySettings
from mirrorwitness.errors import StorageUnavailableError, UpstreamError
from mirrorwitness.fetch import Backoff, FetchOptions, Patience, open_fetcher
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.run.publishing import PublishWishes
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.session import Wishes
from mirrorwitness.run.sumdb import SumdbWishes, init_log, serve_sumdb
from mirrorwitness.server.witness import WitnessApp
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.witness.logs import WitnessedLog
from tests.fakes.registry import RegistrySimulator, Signer
from tests.fakes.serving import serve as serve_sim
from tests.unit.logmirror.world import MirrorWorld
from tests.unit.witness.world import World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.sumdb.head import Identity
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey
    from mirrorwitness.tlog.policy import Policy
    from mirrorwitness.witness.lab import LabLog

__all__ = ["ORIGIN", "W1", "W2", "Reply", "Site", "Watcher", "mirror_of", "mirrored", "open_site"]

ORIGIN = "sum.example/npm"
W1 = make_signer_key("w1.example/ours", bytes([21] * 32), KeyType.COSIGNATURE)
W2 = make_signer_key("w2.example/ours", bytes([22] * 32), KeyType.ML_DSA_44)
QUICK = Backoff(attempts=1, base=0.02, cap=0.05)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


class Watcher:
    """One witness of ours, on a port of its own; it can be down, and what it keeps outlives that.

    Attributes:
        key: who cosigns.
        world: what it keeps.
        url: where it is.
    """

    def __init__(self, key: SignerKey, log: WitnessedLog) -> None:
        self.key = key
        self.world = World(logs=(log,), keys=(key,))
        self.url = ""
        self._port = 0

    @property
    def flag(self) -> str:
        """The witness as a flag."""
        return f"{self.key.verifier}={self.url}"

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None, None]:
        """Let it run for the length of a block."""
        self.world.clock.at = 1_800_000_000
        app = WitnessApp(witness=await self.world.start(), storage=self.world.storage, signs_subtrees=False)
        shutdown = trio.Event()
        async with trio.open_nursery() as nursery:
            start = partial(serve_app, app, host="127.0.0.1", port=self._port, shutdown=shutdown, grace=0.1)
            _, self._port = await nursery.start(start)
            self.url = f"http://127.0.0.1:{self._port}"
            yield
            shutdown.set()


@dataclass
class Site:
    """What an operator has.

    Attributes:
        folder: has the storage and the key.
        sim: the registry.
        identity: the log.
        fetcher: what tests ask with.
        signer: signs what the registry publishes.
        url: where the database answers, while it runs.
        told: what it told its operator.
    """

    folder: Path
    sim: RegistrySimulator
    identity: Identity
    fetcher: Fetcher
    signer: Signer = field(default_factory=Signer)
    url: str = ""
    told: list[str] = field(default_factory=list[str])

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The log's keys."""
        return self.identity.keys

    @property
    def log(self) -> WitnessedLog:
        """The log as its witnesses know it."""
        return WitnessedLog(self.identity.origin, self.keys, None)

    @property
    def storage(self) -> str:
        """The address of the storage."""
        return f"file:{self.folder / 'sumdb'}"

    def wishes(self, *watchers: Watcher, feed: str | None = None, policy: Path | None = None) -> SumdbWishes:
        """Return what the operator asks, with these witnesses."""
        config = Config(storage=self.storage, registries=(RegistrySettings(url=self.sim.base),))
        if feed is not None:
            config = replace(config, feed=type(config.feed)(url=feed))
        return SumdbWishes(
            session=Wishes(config=config),
            keys=(str(self.folder / "sumdb.key"),),
            publishing=PublishWishes(
                witnesses=tuple([watcher.flag for watcher in watchers]), policy=policy, tries=QUICK
            ),
        )

    def policy(self, *watchers: Watcher) -> Policy:
        """Return the policy of a client that wants all of these witnesses."""
        lines = [f"log {key}" for key in self.keys]
        lines += [f"witness w{number} {watcher.key.verifier}" for number, watcher in enumerate(watchers)]
        lines.append(f"group all all {' '.join(f'w{number}' for number in range(len(watchers)))}")
        return parse_policy("".join(f"{line}\n" for line in [*lines, "quorum all"]).encode())

    @asynccontextmanager
    async def serving(self, wishes: SumdbWishes) -> AsyncGenerator[None, None]:
        """Run the database for the length of a block."""
        started = trio.Event()

        def ready(url: str) -> None:
            self.url = url
            started.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve_sumdb, wishes, listen="127.0.0.1:0", ready=ready, told=self.told.append))
            await started.wait()
            yield
            nursery.cancel_scope.cancel()

    async def get(self, path: str) -> Reply:
        """Ask the database."""
        async with self.fetcher.request("GET", f"{self.url}{path}", headers={}) as response:
            return Reply(response.status, dict(response.headers), await response.read(10_000_000))

    def publish(self, name: str, version: str) -> None:
        """Let the registry publish a version."""
        self.sim.publish(name, version, signer=self.signer)


@asynccontextmanager
async def open_site(folder: Path) -> AsyncGenerator[Site, None]:
    """Begin a log as `sumdb init` does, and run a registry beside it."""
    key = folder / "sumdb.key"

    def keep(text: str) -> None:
        key.write_text(f"{text}\n")
        key.chmod(0o600)

    sim = RegistrySimulator()
    identity = await init_log(f"file:{folder / 'sumdb'}", name=ORIGIN, keep=keep)
    options = FetchOptions(patience=Patience(connect=5, head=30, grace=30))
    async with serve_sim(sim), open_fetcher(options) as fetcher:
        yield Site(folder, sim, identity, fetcher)


async def wait_until_answered(site: Site, path: str, status: int) -> Reply:
    """Ask again and again until an answer has a status; nothing else of the site is looked at."""
    with trio.fail_after(20):
        while True:
            try:
                reply = await site.get(path)
            except (UpstreamError, StorageUnavailableError):
                continue
            if reply.status == status:
                return reply
            await trio.sleep(0.02)


@dataclass
class Named:
    """As much of a log as a mirror's world asks for."""

    origin: str


def mirror_of(site: Site) -> MirrorWorld:
    """Return what a mirror of the site's log keeps."""
    return MirrorWorld(labs=(cast("LabLog", Named(site.identity.origin)),), known=(site.log,))


def mirrored(site: Site, world: MirrorWorld) -> int:
    """Return how many entries a mirror vouches for."""
    body = world.storage.objects.get(checkpoint_key(site.identity.origin))
    return 0 if body is None else open_checkpoint(body, site.keys, origin=site.identity.origin).checkpoint.size
