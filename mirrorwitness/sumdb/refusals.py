"""Refusals: which versions of a package were not logged and why, and which are missing from the registry.

    state/sumdb/refused/<name>.json

Rules:

- It is what the last look at the package gave, for people and for look-ups (`mirrorwitness sumdb` tells the reason);
  nothing is decided by it but how long a version has been missing. So it may be lost, and the last writer wins.
- A package of which nothing is refused or missing has no such object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ObjectMissingError
from mirrorwitness.sumdb.paths import refused_key

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage

__all__ = ["Refusals", "RefusedVersion", "read_refusals", "write_refusals"]

FORMAT: Final = 1

LIMIT: Final = 64 * 1024 * 1024
"""Bytes of the largest that is read: some 200 for each of 40,000 versions are 8 MB."""


class RefusedVersion(msgspec.Struct, frozen=True, kw_only=True):
    """One version that is not logged.

    Attributes:
        kind: a word of `mirrorwitness.sumdb.claims.Refusal`.
        reason: a sentence.
    """

    kind: str
    reason: str


class Refusals(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was not logged of one package.

    Attributes:
        name: the package.
        seen: when it was looked at (ISO 8601, UTC).
        versions: what was refused.
        waiting: logged versions that the registry does not list, and since when; not yet withdrawals.
    """

    name: str
    format: int = FORMAT
    seen: str = ""
    versions: dict[str, RefusedVersion] = {}
    waiting: dict[str, str] = {}

    @property
    def is_nothing(self) -> bool:
        """Whether there is nothing to tell."""
        return not self.versions and not self.waiting


async def read_refusals(storage: Storage, name: PackageName) -> Refusals | None:
    """Return what is known; None where there is nothing, or what is there is damaged.

    Raises:
        StorageError: the storage failed.
    """
    try:
        body, _ = await storage.read(refused_key(name), limit=LIMIT)
        return msgspec.json.decode(body, type=Refusals)
    except (ObjectMissingError, *UNREADABLE_JSON):
        return None


async def write_refusals(storage: Storage, name: PackageName, refusals: Refusals, *, before: Refusals | None) -> None:
    """Write what the last look gave, where it is not what the one `before` gave.

    Raises:
        StorageError: the storage failed.
    """
    if before is not None and (before.versions, before.waiting) == (refusals.versions, refusals.waiting):
        return
    if not refusals.is_nothing:
        body = msgspec.json.encode(refusals, order="sorted")
        await storage.put(refused_key(name), body, content_type="application/json")
    elif before is not None:
        await storage.delete(refused_key(name))
