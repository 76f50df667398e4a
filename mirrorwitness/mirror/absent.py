"""Packages that the mirror serves and the list of all names does not have: deletions of which no row ever told.

Rules:

- A part of the list is compared with the records of the same part of the alphabet; memory is that of one page.
- The list must be in the order of its bytes, as CouchDB's and the public one are. A part that is not says nothing.
- To be absent is a hint like a row: whoever asks decides (`mirrorwitness.mirror.attempt`), and one 404 deletes nothing.

Known hole: a record whose key is a digest (a name longer than the storage's limit, which npm does not allow) is not
looked at.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from mirrorwitness.mirror import layout
from mirrorwitness.npm.changes import checked_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.npm.names import PackageName

__all__ = ["find_absent"]


async def find_absent(
    catalogue: Catalogue, listed: Sequence[str], *, start: str | None, end: str | None, is_ours: Callable[[str], bool]
) -> list[PackageName]:
    """Return the packages behind `start` and up to `end` that are not listed, and not known to be deleted.

    Args:
        catalogue: the mirror's records.
        listed: all names of the part, in the order of the list.
        start: the name behind which the part begins; None at the beginning.
        end: the name with which it ends; None at the end.
        is_ours: says whether a package concerns us.

    Raises:
        StorageError: the records cannot be listed or read.
    """
    if any(one >= other for one, other in pairwise(listed)):
        return []
    known = frozenset(listed)
    absent: list[PackageName] = []
    async for name in _recorded(catalogue, start, end):
        if name in known or not is_ours(name) or name == start:
            continue
        record = await catalogue.read_record(name)
        if record is not None and not record.deleted:
            absent.append(name)
    return absent


async def _recorded(catalogue: Catalogue, start: str | None, end: str | None) -> AsyncGenerator[PackageName]:
    """Give the recorded names of a part of the alphabet.

    Keys end in ``.json``, so the key of a name that `end` begins with can lie behind that of `end`.
    """
    after: str | None = layout.RECORD_PREFIX + (start or "")
    while after is not None:
        keys, after = await catalogue.record_page(after=after)
        for key in keys:
            if end is not None and key > layout.RECORD_PREFIX + end:
                after = None
                break
            name = _name_of(key)
            if name is not None and (start is None or name > start):
                yield name
    for size in range(1, len(end or "") + 1):
        name = checked_name((end or "")[:size])
        if name is None or (start is not None and name <= start):
            continue
        key = layout.record_key(name)
        keys, _ = await catalogue.record_page(after=key[:-1], limit=1)
        if keys == [key] and end is not None and key > layout.RECORD_PREFIX + end:
            yield name


def _name_of(key: str) -> PackageName | None:
    text = layout.name_of_record_key(key, prefix=layout.RECORD_PREFIX)
    return None if text is None else checked_name(text)
