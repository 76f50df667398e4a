"""Fake servers run from a thread, for tests whose product code runs an event loop of its own."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tests.fakes.registry import RegistrySimulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

__all__ = ["ThreadedRegistry", "run_in_thread", "serve_in_thread"]


@dataclass(slots=True)
class ThreadedRegistry:
    """A running simulator.

    Attributes:
        sim: its state; change it between commands, not during one.
        url: where it listens.
    """

    sim: RegistrySimulator
    url: str


@contextmanager
def serve_in_thread(sim: RegistrySimulator | None = None) -> Iterator[ThreadedRegistry]:
    """Serve a simulator until the block ends."""
    sim = sim or RegistrySimulator()
    with run_in_thread(serve(sim)) as url:
        yield ThreadedRegistry(sim, url)


@contextmanager
def run_in_thread(server: AbstractAsyncContextManager[str]) -> Iterator[str]:
    """Run a server until the block ends; gives its address."""
    ready = threading.Event()
    found: list[str] = []
    stop: list[tuple[trio.lowlevel.TrioToken, trio.Event]] = []

    async def run() -> None:
        done = trio.Event()
        async with server as address:
            found.append(address)
            stop.append((trio.lowlevel.current_trio_token(), done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=trio.run, args=(run,), name="fake server", daemon=True)
    thread.start()
    if not ready.wait(timeout=30):
        raise RuntimeError("the fake server did not start")
    try:
        yield found[0]
    finally:
        ((token, done),) = stop
        token.run_sync_soon(done.set)
        thread.join(timeout=30)
