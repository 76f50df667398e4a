"""One log that is served, and one witness that polls it."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.fetch import Backoff, HostGate, open_fetcher
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.feeder import Action, Feeder
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.records import public_key
from mirrorwitness.witness.service import Witness
from tests.fakes.serving import serve
from tests.unit.witness.log_server import LogServer, make_lab
from tests.unit.witness.world import OURS, World

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.witness.lab import LabLog
    from mirrorwitness.witness.service import Fork

__all__ = ["LAB", "OLDER_AFTER", "REFRESH", "Scene", "paths", "scene"]

LAB: Final = make_lab()
REFRESH: Final = 3600
OLDER_AFTER: Final = 600


@dataclass
class Scene:
    """One log, served, and one witness that polls it; the storage outlives its processes.

    Attributes:
        server: the log.
        world: storage, clock, and what the witness itself said of forks.
        witness: the process.
        client: reads the log.
        forks: what feeders said of forks.
    """

    server: LogServer
    world: World
    witness: Witness
    client: LogClient
    forks: list[Fork] = field(default_factory=list["Fork"])

    def __post_init__(self) -> None:
        self.feeder = self.make_feeder(self.witness)

    def make_feeder(self, witness: Witness) -> Feeder:
        """Return a feeder of the log to a process of the witness."""
        return Feeder(
            witness=witness,
            log=self.server.log,
            client=self.client,
            refresh=REFRESH,
            older_after=OLDER_AFTER,
            now=self.world.clock,
            storage=self.world.storage,
            on_fork=self._keep,
        )

    async def _keep(self, fork: Fork) -> None:
        await trio.lowlevel.checkpoint()
        self.forks.append(fork)

    async def poll(self) -> tuple[Action, int | None, int | None]:
        """Poll; return what was done, and the sizes before and after."""
        polled = await self.feeder.poll()
        return polled.action, polled.before, polled.after

    async def has(self, size: int) -> None:
        """Let the witness cosign the log at a size, and forget which requests that took."""
        self.server.grow(size)
        assert (await self.feeder.poll()).action is Action.COSIGNED
        self.server.asked.clear()

    async def push(self, old: int, new: int, witness: Witness | None = None) -> None:
        """Let the log push to a witness itself."""
        lab = self.server.lab
        body = format_add_checkpoint(old, lab.proof(old, new), lab.checkpoint(new))
        assert (await (witness or self.witness).add_checkpoint(body)).status == 200

    def published_size(self) -> int:
        """Return the size of the checkpoint that everybody can read."""
        note = self.world.storage.objects[public_key(self.server.lab.origin)]
        assert len(self.cosignatures(note)) == 1
        return int(note.split(b"\n")[1])

    def cosignatures(self, note: bytes) -> tuple[Cosignature, ...]:
        """Return the witness's cosignatures on a note that the log signed."""
        opened = open_checkpoint(note, self.server.log.keys, origin=self.server.lab.origin)
        tree = opened.checkpoint
        statement = Statement(tree.origin, 0, tree.size, tree.root, opened.note.text)
        return check_cosignatures(opened.note.signatures, [OURS.verifier], statement)


@asynccontextmanager
async def scene(
    size: int = 0, *, lab: LabLog = LAB, dialect: Dialect = Dialect.TILES, kind: type[Witness] = Witness
) -> AsyncGenerator[Scene, None]:
    """Serve a log, and let a witness cosign it at a size where one is given."""
    server = LogServer(lab, size, dialect=dialect)
    async with serve(server), open_fetcher() as fetcher:
        world = World(logs=(server.log,))
        witness = await world.start()
        witness.__class__ = kind
        quick = Backoff(attempts=1)
        client = LogClient(
            log=server.log, url=server.base, dialect=dialect, fetcher=fetcher, gate=HostGate(), tries=quick
        )
        found = Scene(server, world, witness, client)
        if size:
            await found.has(size)
        yield found


def paths(dialect: Dialect, old: int, new: int) -> set[str]:
    """Return what has to be asked for a log that grew, from sizes below 65,536, reckoned by hand."""
    root = "/tile/8" if dialect is Dialect.SUMDB else "/tile"
    found = {f"{root}/0/{new // 256:03}.p/{new % 256}"} if new % 256 else set[str]()
    found |= {f"{root}/1/000.p/{new // 256}"} if new >= 256 else set()
    if old % 256 and old // 256 < new // 256:  # the old tree's last tile is full now
        found.add(f"{root}/0/{old // 256:03}")
    return found | {"/latest" if dialect is Dialect.SUMDB else "/checkpoint"}
