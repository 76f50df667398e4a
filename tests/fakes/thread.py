"""A `RegistrySimulator` served from a thread, for tests whose product code runs an event loop of its own."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from tests.fakes.registry import RegistrySimulator, serve

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ThreadedRegistry", "serve_in_thread"]


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
    ready = threading.Event()
    found: dict[str, str] = {}
    stop: dict[str, tuple[trio.lowlevel.TrioToken, trio.Event]] = {}

    async def run() -> None:
        done = trio.Event()
        async with serve(sim) as url:
            found["url"] = url
            stop["it"] = (trio.lowlevel.current_trio_token(), done)
            ready.set()
            await done.wait()

    thread = threading.Thread(target=trio.run, args=(run,), name="registry simulator", daemon=True)
    thread.start()
    if not ready.wait(timeout=30):
        raise RuntimeError("the registry simulator did not start")
    try:
        yield ThreadedRegistry(sim, found["url"])
    finally:
        token, done = stop["it"]
        token.run_sync_soon(done.set)
        thread.join(timeout=30)
