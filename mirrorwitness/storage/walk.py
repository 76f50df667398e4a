"""All keys below a prefix, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage

__all__ = ["list_keys"]


async def list_keys(storage: Storage, prefix: str) -> list[str]:
    """Return all keys that begin with a prefix; for prefixes below which there are few enough to hold.

    Raises:
        StorageError: the storage failed.
    """
    found: list[str] = []
    after: str | None = ""
    while after is not None:
        page = await storage.list(prefix, after=after)
        found.extend(info.key for info in page.objects)
        after = page.more_after
    return found
