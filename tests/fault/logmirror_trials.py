"""Log mirrors that are killed while a log is brought to them: nothing that was cosigned is ever not whole."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import UpstreamError
from mirrorwitness.logmirror.paths import pending_key, tile_key
from mirrorwitness.logmirror.upload import Uploader
from mirrorwitness.storage.address import open_storage
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.keys import format_signer_key
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.property.witness_places import copy_objects
from tests.unit.logmirror.sources import LabSource, fetching
from tests.unit.logmirror.world import LAB, OURS, MirrorWorld, check_copy, next_of
from tests.unit.witness.world import MeddledStorage

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncGenerator

__all__ = ["Trial"]

STEP = 700
"""Most entries by which the log grows for each push: up to four packages, begun and ended anywhere in a bundle."""

LONGER, SHORTER = 1.4, 0.9
"""How the time within which a mirror is killed follows what the kills meet: most meet one at work."""

BEGIN_SECONDS = 60.0
"""Longest time for a process to begin, on a machine that has much else to do."""


@dataclass
class Trial:
    """One log, one storage, and mirrors of it, one after the other.

    Attributes:
        folder: for storage and key.
        chance: where the moments come from.
        told: size of the largest tree whose cosignature a client got.
        size: how large the log is now.
        met: how many mirrors were killed after they had stored something.
        seconds: within which time after their begin they are killed.
    """

    folder: Path
    chance: random.Random
    told: int = 0
    size: int = 0
    met: int = 0
    seconds: float = 0.3
    _before: int = field(default=-1, repr=False)

    @property
    def address(self) -> str:
        """The address of the storage."""
        return f"file:{self.folder / 'copies'}?fsync=off"

    async def kill_one(self) -> None:
        """Let a mirror run, bring entries to it, kill it at some moment, and check what it leaves."""
        async with self._running() as (process, url), trio.open_nursery() as nursery:
            nursery.start_soon(self._bring, url)
            await trio.sleep(self.chance.uniform(0, self.seconds))
            process.kill()
            await process.wait()
            nursery.cancel_scope.cancel()
        assert process.returncode == -signal.SIGKILL, "a log mirror ended by itself"
        stored = await self.check()
        is_met = stored > self._before
        self.met += is_met
        self.seconds *= SHORTER if is_met else LONGER
        self._before = stored

    async def finish(self) -> None:
        """Let a mirror take all that is missing, and end it with a signal."""
        async with self._running() as (process, url):
            await self._push(url)
            process.terminate()
            await process.wait()
        assert process.returncode == 0
        await self.check()
        assert self.told == self.size

    async def check(self) -> int:
        """Check that what is published is whole, and no less than anybody was told; return how much is stored."""
        async with open_storage(self.address) as storage:
            found = MirrorWorld(storage=MeddledStorage(await copy_objects(storage)))
        published = found.size()
        if published is not None:
            check_copy(found, published)
        assert (published or 0) >= self.told
        objects = found.storage.objects
        stored = next_of(found) if pending_key(LAB.origin) in objects else 0
        for at in range(stored // 256):
            assert tile_key(LAB.origin, EntriesTile(at, 256)) in objects
            assert tile_key(LAB.origin, Tile(0, at, 256)) in objects
        return stored

    async def _bring(self, url: str) -> None:
        """Let the log grow and bring it, again and again, until nobody answers."""
        while True:
            self.size += self.chance.randint(1, STEP)
            try:
                await self._push(url)
            except UpstreamError:
                await trio.sleep_forever()

    async def _push(self, url: str) -> None:
        head = open_checkpoint(LAB.checkpoint(self.size), [LAB.keys[0].verifier], origin=LAB.origin)
        async with fetching() as (fetcher, gate):
            source = LabSource(LAB, self.size)
            uploader = Uploader(source=source, url=url, keys=[OURS.verifier], fetcher=fetcher, gate=gate)
            await uploader.push(head)
        self.told = self.size

    @asynccontextmanager
    async def _running(self) -> AsyncGenerator[tuple[trio.Process, str], None]:
        key = self.folder / "m1.key"
        if not key.exists():
            key.write_text(format_signer_key(OURS))
            key.chmod(0o600)
        whose = ("--storage", self.address, "--key", str(key), "--log", str(LAB.keys[0].verifier))
        command = [sys.executable, "-m", "mirrorwitness", "logmirror", "serve", "--listen", "127.0.0.1:0", *whose]
        # Who is killed reports no coverage; measuring it only makes the runs slower.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        inherited["PYTHONPATH"] = str(Path(__file__).parents[2])
        with (self.folder / "log").open("ab") as log:
            process = await trio.lowlevel.open_process(
                command, stdout=-1, stderr=log, cwd=str(self.folder), env=inherited
            )
        try:
            with trio.fail_after(BEGIN_SECONDS):
                line = await _read_line(process)
            assert line.startswith("listening on http://127.0.0.1:"), (self.folder / "log").read_text()[-2000:]
            yield process, line.removeprefix("listening on ")
        finally:
            if process.returncode is None:
                process.kill()
            assert process.stdout is not None
            with trio.CancelScope(shield=True, deadline=trio.current_time() + BEGIN_SECONDS):
                await process.wait()
                await process.stdout.aclose()


async def _read_line(process: trio.Process) -> str:
    assert process.stdout is not None
    body = b""
    while not body.endswith(b"\n"):
        piece = await process.stdout.receive_some()
        if not piece:
            break
        body += piece
    return body.decode().strip()
