"""Health for load balancers and Kubernetes: is the process up, and does its storage answer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.mirror.layout import MIRROR_KEY

if TYPE_CHECKING:
    from mirrorwitness.server.asgi import Exchange
    from mirrorwitness.storage import Storage

__all__ = ["READY_SECONDS", "answer_health", "answer_ready"]

READY_SECONDS: Final = 5
"""How long readiness waits for the storage; Kubernetes' own probes give up after 1 to 10 s."""

_HEADERS: Final = {"content-type": "application/json", "cache-control": "no-store"}


async def answer_health(exchange: Exchange) -> None:
    """Say that the process answers; it looks at nothing else, so a broken storage never restarts a server."""
    await exchange.respond(200, _HEADERS, b'{"status": "ok"}')


async def answer_ready(exchange: Exchange, *, storage: Storage) -> None:
    """Say that the storage answers. An empty mirror is ready: it answers 404 for everything, truly.

    Raises:
        StorageError: it does not, or not within `READY_SECONDS`.
    """
    try:
        with trio.fail_after(READY_SECONDS):
            await storage.stat(MIRROR_KEY)
    except trio.TooSlowError as error:
        raise StorageUnavailableError(f"the storage gave no answer within {READY_SECONDS} s") from error
    await exchange.respond(200, _HEADERS, b'{"status": "ready"}')
