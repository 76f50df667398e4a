"""A storage in memory that watches what is written: no document may be replaced by one of a lower revision (P6)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from mirrorwitness.storage import Body, ObjectInfo

__all__ = ["WatchedStorage"]


class WatchedStorage(MemoryStorage):
    """A `MemoryStorage` that remembers the revision of each document.

    Attributes:
        went_back: keys of documents that were replaced by older ones, each with both revisions' numbers.
        put_bytes: bytes written so far, by whatever caller.
    """

    def __init__(self) -> None:
        super().__init__()
        self.went_back: list[tuple[str, int, int]] = []
        self.put_bytes = 0
        self._revs: dict[str, int] = {}

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object, and look at its revision."""
        info = await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
        self.put_bytes += info.size
        if key.endswith("/packument.json") and isinstance(body, bytes):
            rev = int(json.loads(body)["_rev"].partition("-")[0])
            if rev < self._revs.get(key, 0):
                self.went_back.append((key, self._revs[key], rev))
            self._revs[key] = rev
        return info
