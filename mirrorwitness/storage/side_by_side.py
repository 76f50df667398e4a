"""Do one thing to many items, several at a time, and fail with one plain error of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio

from mirrorwitness.errors import MirrorWitnessError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

__all__ = ["for_each"]

_Item = TypeVar("_Item")


async def for_each(items: Iterable[_Item], work: Callable[[_Item], Awaitable[None]], *, at_once: int) -> None:
    """Do `work` to every item, `at_once` of them at a time.

    Args:
        items: taken one by one, as workers become free.
        work: what to do; after its first `MirrorWitnessError` nothing more is begun, and what is in work is cancelled.
        at_once: how many workers there are.

    Raises:
        MirrorWitnessError: the first that `work` raised; not in a group, so that callers can catch it by its kind.
    """
    waiting = iter(items)
    failed: list[MirrorWitnessError] = []
    async with trio.open_nursery() as nursery:

        async def go() -> None:
            for item in waiting:
                try:
                    await work(item)
                except MirrorWitnessError as error:
                    failed.append(error)
                    nursery.cancel_scope.cancel()
                    return

        for _ in range(at_once):
            nursery.start_soon(go)
    if failed:
        raise failed[0]
