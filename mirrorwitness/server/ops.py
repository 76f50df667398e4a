"""Health and metrics, for load balancers, Kubernetes and Prometheus: is the process up, is the mirror stuck, how much.

Rules:

- Health looks at nothing, so that nothing outside the process ever restarts it.
- Readiness says no, with 503 and the reasons, where the storage cannot be read or the mirror is stuck
  (`mirrorwitness.mirror.health`). An empty mirror is ready: it answers 404 for everything, truly.
- What a storage says of its failure goes to the log, not to whoever asks.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import StorageError, StorageUnavailableError
from mirrorwitness.server.asgi import RETRY_AFTER_SECONDS, App, check_method
from mirrorwitness.server.faults import RequestError
from mirrorwitness.telemetry import CONTENT_TYPE, format_metrics

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.server.asgi import Exchange, Request
    from mirrorwitness.telemetry import Sample

__all__ = ["READY_SECONDS", "Watch", "answer_health", "answer_metrics", "answer_ready", "make_ops_app"]

READY_SECONDS: Final = 5
"""How long readiness waits for the storage; Kubernetes' own probes give up after 1 to 10 s."""

_HEADERS: Final = {"content-type": "application/json", "cache-control": "no-store"}
_log = logging.getLogger("mirrorwitness.server")


class Watch(Protocol):
    """Whoever knows how a mirror is."""

    async def troubles(self) -> tuple[str, ...]:
        """Say why the mirror is stuck; empty where it is not.

        Raises:
            StorageError: the storage cannot be read.
        """
        ...

    async def samples(self) -> Iterable[Sample]:
        """Return all metrics.

        Raises:
            StorageError: the storage cannot be read.
        """
        ...


def make_ops_app(watch: Watch) -> App:
    """Make the ASGI application of a process that serves nothing else: ``/metrics``, ``/healthz``, ``/readyz``.

    Args:
        watch: knows how the mirror is.
    """

    async def answer(request: Request, exchange: Exchange) -> None:
        check_method(request)
        match request.path:
            case "/healthz":
                await answer_health(exchange)
            case "/readyz":
                await answer_ready(exchange, watch=watch)
            case "/metrics":
                await answer_metrics(exchange, watch=watch)
            case _:
                raise RequestError(404, "a follower answers /metrics, /healthz and /readyz; `serve` serves the mirror")

    return App(answer)


async def answer_health(exchange: Exchange) -> None:
    """Say that the process answers."""
    await exchange.respond(200, _HEADERS, b'{"status": "ok"}')


async def answer_ready(exchange: Exchange, *, watch: Watch) -> None:
    """Say whether the mirror can be relied on.

    Raises:
        StorageUnavailableError: the storage does not answer, or not within `READY_SECONDS`.
    """
    try:
        with trio.fail_after(READY_SECONDS):
            troubles = await watch.troubles()
    except trio.TooSlowError as error:
        raise StorageUnavailableError(f"the storage gave no answer within {READY_SECONDS} s") from error
    except StorageUnavailableError:
        raise
    except StorageError as error:
        _log.exception("storage_unreadable", exc_info=error)
        troubles = ("the storage cannot be read; the log says why",)
    if not troubles:
        await exchange.respond(200, _HEADERS, b'{"status": "ready"}')
        return
    body = {"status": "stuck", "error": "; ".join(troubles), "troubles": troubles}
    headers = {**_HEADERS, "retry-after": str(RETRY_AFTER_SECONDS)}
    await exchange.respond(503, headers, json.dumps(body).encode())


async def answer_metrics(exchange: Exchange, *, watch: Watch) -> None:
    """Send all metrics as text for Prometheus.

    Raises:
        StorageError: the storage cannot be read.
    """
    body = format_metrics(await watch.samples())
    await exchange.respond(200, {"content-type": CONTENT_TYPE, "cache-control": "no-store"}, body)
