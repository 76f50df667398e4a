"""Parse and render large documents without stalling the event loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import trio

from mirrorwitness.npm.packument import Packument, parse_packument

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.npm.names import PackageName

__all__ = ["PACKUMENT_LIMIT", "parse_off_loop", "run_off_loop"]

PARSE_IN_THREAD: Final = 512 * 1024
"""Bytes of a packument above which parsing and rendering leave the event loop: about 2 ms of work (research/F 4)."""

PACKUMENT_LIMIT: Final = 128 * 1024 * 1024
"""Bytes of the largest stored packument read back; upstream's own limit is 100 MB (research/B 2.1)."""

_Value = TypeVar("_Value")


async def parse_off_loop(body: bytes, name: PackageName) -> Packument:
    """Parse a packument, in a thread where it is large enough to stall other tasks."""
    return await run_off_loop(len(body), lambda: parse_packument(body, name=name))


async def run_off_loop(size: int, work: Callable[[], _Value]) -> _Value:
    """Do pure work on a document of `size` bytes, in a thread where that is large enough to stall other tasks."""
    if size < PARSE_IN_THREAD:
        return work()
    return await trio.to_thread.run_sync(work)
