"""Open a storage that somebody's word rests on: raced first, refused where it does no compare-and-swap (DESIGN 4)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.storage import Storage
    from mirrorwitness.storage.probe_verdict import Role

__all__ = ["check_reliable", "open_reliable"]


@asynccontextmanager
async def open_reliable(address: str, *, flag: str, role: Role, who: str) -> AsyncGenerator[Storage, None]:
    """Open a storage that a role can rely on.

    Args:
        address: where it is.
        flag: which flag named it, for the message.
        role: what is asked of it.
        who: relies on it, for the message: ``a witness``.

    Raises:
        ConfigurationError: it cannot be relied on; the message names what it does not do.
        StorageError: it failed.
    """
    async with open_storage(address) as storage:
        await check_reliable(storage, address, flag=flag, role=role, who=who)
        yield storage


async def check_reliable(storage: Storage, address: str, *, flag: str, role: Role, who: str) -> None:
    """Check that a role can rely on an open storage; see `open_reliable`."""
    report = await check_storage(storage, short=True)
    if report.verdict_for(role) is Verdict.REFUSED:
        broken = [str(each.capability) for each in report.findings if each.verdicts[role] is Verdict.REFUSED]
        raise ConfigurationError(
            f"{flag} {address}: {who} cannot rely on it ({', '.join(broken)}); "
            f"`mirrorwitness store-check {address}` says more"
        )
