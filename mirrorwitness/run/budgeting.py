"""The month's budget of one process: a lease that is opened with the upstream and given back with it (P9)."""

from __future__ import annotations

import os
import platform
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import StorageError
from mirrorwitness.fetch import make_policy, origin_of
from mirrorwitness.mirror.lease import Lease
from mirrorwitness.npm.times import SECONDS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from datetime import datetime

    from mirrorwitness.config import Config
    from mirrorwitness.fetch import Origin
    from mirrorwitness.storage import Storage

__all__ = ["find_free_origins", "open_lease", "worker_name"]

GIVE_BACK_SECONDS: Final = 5 * SECONDS
"""How long the end of a run waits for the storage to take the rest of a lease; after that it counts as used."""


@asynccontextmanager
async def open_lease(
    config: Config, storage: Storage | None, *, now: Callable[[], datetime]
) -> AsyncGenerator[Lease | None, None]:
    """Open this process's part of the month's budget; None where no budget is kept, or nothing to keep it in.

    *Cancellation*: the rest of the lease is given back all the same, within `GIVE_BACK_SECONDS`.
    """
    allowed = config.limits.requests_per_month
    if storage is None or not allowed:
        yield None
        return
    lease = Lease(storage=storage, allowed=allowed, worker=worker_name(), now=now)
    try:
        yield lease
    finally:
        with trio.move_on_after(GIVE_BACK_SECONDS, shield=True), suppress(StorageError):
            await lease.give_back()


def find_free_origins(config: Config) -> frozenset[Origin]:
    """Return the origins of peers: requests to them cost the registry nothing, so they cost its budget nothing.

    An origin that the registry, its feed or its tarballs have too is never free.
    """
    authority, *peers = config.registries
    counted = make_policy(authority.url, allowed=authority.tarball_hosts).origins
    if config.feed.url is not None:
        counted |= {origin_of(config.feed.url)}
    return frozenset(origin_of(peer.url) for peer in peers) - counted


def worker_name() -> str:
    """Return a name that no other process has, for records and messages."""
    return f"{platform.node()[:64]}.{os.getpid()}.{secrets.token_hex(4)}"
