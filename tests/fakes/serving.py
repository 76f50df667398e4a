"""Puts a simulator on loopback: whatever answers requests, at a free port of 127.0.0.1."""

from __future__ import annotations

import functools
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

import trio

from tests.fakes.registry_server import Answerer, serve_connection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["Simulator", "serve"]


class Simulator(Answerer, Protocol):
    """What can be served, here over sockets and in `tests.unit.mirror.direct` without.

    Attributes:
        prefix: the path that all its paths begin with.
        base: its URL, with the prefix and without a slash at the end.
    """

    prefix: str
    base: str


@asynccontextmanager
async def serve(sim: Simulator, *, port: int = 0) -> AsyncGenerator[str, None]:
    """Let a simulator listen on loopback for the length of a block; gives its base URL (with prefix, no slash)."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    handler = functools.partial(serve_connection, sim)
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        sim.base = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}{sim.prefix}"
        await nursery.start(functools.partial(trio.serve_listeners, handler, listeners))
        try:
            yield sim.base
        except Exception as error:  # noqa: BLE001 - raised again below, without the nursery's group round it
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
