"""Two objects one after the other: what `Storage.put_pair` promises, for a storage that has no cheaper way.

Rules:

- Both keys and conditions are checked before anything is written.
- The second object is put when the first one is durable; where the first one fails, it is not put at all.
- Both are durable in the end: that is more than a pair promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import PreconditionFailedError
from mirrorwitness.storage.checks import check_pair

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo, Put, Storage

__all__ = ["put_in_turn", "put_one"]


async def put_in_turn(storage: Storage, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
    """Put two objects; see `mirrorwitness.storage.Storage.put_pair`."""
    check_pair(first, then)
    info = await put_one(storage, first)
    try:
        return info, await put_one(storage, then)
    except PreconditionFailedError:
        return info, None


async def put_one(storage: Storage, put: Put) -> ObjectInfo:
    """Put one object; see `mirrorwitness.storage.Storage.put`."""
    return await storage.put(
        put.key, put.body, if_absent=put.if_absent, if_match=put.if_match, content_type=put.content_type
    )
