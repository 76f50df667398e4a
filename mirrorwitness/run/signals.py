"""Stop on SIGINT and SIGTERM: first gracefully, then at once.

The first signal asks the job to take no more work and gives it `grace` seconds to finish what it has in hand; a second
signal, or the end of the grace, cancels it. State is consistent either way (P2): a graceful stop only wastes less.
"""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["GRACE_SECONDS", "run_until_signal"]

GRACE_SECONDS: Final = 20.0
"""Time to finish packages in work; below the 30 s after which Kubernetes kills."""


async def run_until_signal(
    work: Callable[[], Awaitable[None]], *, stop: Callable[[], None], grace: float = GRACE_SECONDS
) -> bool:
    """Run `work`, stopping it when a signal arrives.

    Args:
        work: the job.
        stop: asks the job to take no more work.
        grace: seconds it may take after that.

    Returns:
        Whether a signal arrived.

    *Errors*: those of `work`. *Cancellation*: cancels `work`.
    """
    is_stopped = False

    async def watch(scope: trio.CancelScope) -> None:
        nonlocal is_stopped
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if is_stopped:
                    scope.cancel()
                is_stopped = True
                stop()
                scope.deadline = trio.current_time() + grace

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, scope)
            await work()
            nursery.cancel_scope.cancel()
    return is_stopped
