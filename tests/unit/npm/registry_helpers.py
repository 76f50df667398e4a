"""What the tests of the registry client share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from mirrorwitness.fetch import Backoff, FetchOptions, Patience, open_fetcher
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.registry import Registry, RegistryOptions
from tests.fakes.registry import RecordedRequest, RegistrySimulator, Reply, Signer, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

LEFT_PAD = PackageName("left-pad")
SCOPED = PackageName("@scope/name")
ONE = Version("1.0.0")
OPTIONS = RegistryOptions(tries=Backoff(attempts=3, base=0.001, cap=0.002), max_pause=0.002)
PATIENCE = Patience(connect=5, head=10, grace=20, min_rate=1000)


class ListSink:
    """Collects a tarball; `resets` counts how often it had to start again."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.data = b""
        self.chunks = 0
        self.resets = 0
        self._error = error

    async def write(self, chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self._error is not None:
            raise self._error
        self.data += chunk
        self.chunks += 1

    async def reset(self) -> None:
        await trio.lowlevel.checkpoint()
        self.data = b""
        self.resets += 1


class Fixed(RegistrySimulator):
    """Gives every request the same answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__()
        self._reply = reply

    def answer(self, request: RecordedRequest) -> Reply:  # noqa: ARG002 - the base class's
        return self._reply


def make_simulator() -> RegistrySimulator:
    sim = RegistrySimulator(prefix="/npm/registry")
    sim.publish("left-pad", "1.0.0", signer=Signer())
    sim.publish("left-pad", "1.1.0", signer=Signer())
    sim.publish("@scope/name", "1.0.0")
    return sim


@asynccontextmanager
async def registry_of(sim: RegistrySimulator, options: RegistryOptions = OPTIONS) -> AsyncGenerator[Registry, None]:
    async with serve(sim) as base, open_fetcher(FetchOptions(patience=PATIENCE)) as fetcher:
        yield Registry(base=f"{base}/", fetcher=fetcher, options=options)
