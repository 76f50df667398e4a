"""Refuse upstream documents older than what we have: a lagging edge must not undo a newer one (P6; rows 26 and 27).

Rules:

- Older than the record is refused. Older than the stored document is refused too: a run that was killed between its
  documents and its record leaves a document that no record knows (`mirrorwitness.mirror.package`, steps 5 and 6).
- Revisions are compared by the number in front (`rev_number`); where one of the two has none, nothing can be said.
- A repair believes the record alone, where there is one: the stored document may be what has to be repaired.
- Only the head of the stored document is read where its revision stands there, as in the registry's own documents.

What this does not do: decide what becomes of the package; whoever asked keeps what there is and tries again later.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ObjectMissingError, UpstreamProtocolError, UpstreamStaleError
from mirrorwitness.mirror import layout
from mirrorwitness.npm.offloop import PACKUMENT_LIMIT, parse_off_loop
from mirrorwitness.npm.packument import rev_number

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Storage

__all__ = ["check_not_stale"]

HEAD_BYTES: Final = 4096
"""Bytes of a stored document that are read for its revision: ``_id`` and ``_rev`` come first in the registry's."""

_STRING: Final = rb'"(?:[^"\\]|\\.)*"'
_HEAD: Final = re.compile(rb'\s*\{\s*(?:%b\s*:\s*%b\s*,\s*)*?"_rev"\s*:\s*"([^"\\]*)"' % (_STRING, _STRING))
"""A document whose members before the revision are all strings: what matches is never inside of anything."""


async def check_not_stale(storage: Storage, packument: Packument, *, recorded: str | None, is_forced: bool) -> None:
    """Refuse a document that is older than the record or than the stored document.

    Args:
        storage: the mirror.
        packument: upstream's document.
        recorded: the revision that the package's record names.
        is_forced: the package is being repaired.

    Raises:
        StorageError: the stored document cannot be read.
        UpstreamStaleError: upstream's document is older; the message names both revisions.
    """
    _compare(packument, recorded)
    if recorded is None or not is_forced:
        _compare(packument, await _read_stored_rev(storage, packument.name))


def _compare(packument: Packument, known: str | None) -> None:
    found, had = rev_number(packument.rev), rev_number(known)
    if found is not None and had is not None and found < had:
        raise UpstreamStaleError(
            f"{packument.name}: upstream answered revision {packument.rev}, older than {known} that we have;"
            " kept what we have, the next run asks again"
        )


async def _read_stored_rev(storage: Storage, name: PackageName) -> str | None:
    """Return the stored document's revision; None where there is no document, or a damaged one."""
    key = layout.packument_key(name)
    try:
        async with storage.open(key, length=HEAD_BYTES) as reader:
            head = await reader.receive_some()
        found = _HEAD.match(head)
        if found:
            return found[1].decode("utf-8", "replace")
        body, _ = await storage.read(key, limit=PACKUMENT_LIMIT)
        return (await parse_off_loop(body, name)).rev
    except (ObjectMissingError, UpstreamProtocolError):
        return None
