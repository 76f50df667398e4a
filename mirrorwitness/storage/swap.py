"""Swap one object: replace it only where it still is what was read. The one compare-and-swap.

Where a storage does no conditional writes the object is simply replaced, and of two that do so at one instant one is
forgotten. Whoever cannot live with that looks before and reads back after (`mirrorwitness.mirror.lease`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import UnsupportedConditionError

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo, Storage

__all__ = ["swap"]


async def swap(
    storage: Storage, key: str, body: bytes, *, etag: str | None, kind: str = "application/json"
) -> ObjectInfo:
    """Replace an object.

    Args:
        storage: where it is.
        key: its key.
        body: the new one.
        etag: what came with the object that is replaced; None where there was none.
        kind: the Content-Type of what it is.

    Raises:
        PreconditionFailedError: somebody else was first.
        StorageError: the storage failed; after a `StorageUnavailableError` it may have been replaced all the same.
    """
    try:
        return await storage.put(key, body, if_match=etag, if_absent=etag is None, content_type=kind)
    except UnsupportedConditionError:
        return await storage.put(key, body, content_type=kind)
