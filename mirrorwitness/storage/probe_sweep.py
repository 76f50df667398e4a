"""Removal of what checks that were killed left in a storage; a check that ends in any other way removes its own.

- The name of a check's corner says when the check began, ``state/probe/<YYYYMMDD-HHMMSS>-<random>/``: the Protocol
  has no modification times, and clocks of services differ from ours.
- Only corners that began more than `LEFTOVER_SECONDS` ago are removed. A check takes minutes, so this is never one at
  work, unless the clocks of two machines that share a storage differ by a day.
- A corner whose name says no time, or one to come, is left alone.

What this does not do: look at anything outside ``state/probe/``.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from mirrorwitness.storage.probe_scratch import PROBE_PREFIX

if TYPE_CHECKING:
    from mirrorwitness.storage import Storage

__all__ = ["LEFTOVER_SECONDS", "make_token", "sweep_leftovers"]

LEFTOVER_SECONDS: Final = 24 * 3600
"""Age at which a check counts as dead. The longest possible one, every probe at its deadline, takes half an hour; the
rest is room for clocks that disagree, as for another host's session in a directory (`local_tree`)."""

_STAMP: Final = "%Y%m%d-%H%M%S"
_TOKEN: Final = re.compile(r"([0-9]{8}-[0-9]{6})-[0-9a-f]{16}")
_PAGES: Final = 20
"""Pages of a listing looked at, of 1,000 objects each; a check writes under 200. What is beyond is for next time."""


def make_token(began: datetime, random: str) -> str:
    """Return the name of a check's corner.

    Args:
        began: when the check began, in UTC.
        random: 16 hex digits that no other check has.
    """
    return f"{began.astimezone(UTC).strftime(_STAMP)}-{random}"


async def sweep_leftovers(storage: Storage, *, now: datetime) -> int:
    """Remove the objects of checks that died long ago, and return how many there were.

    Safe to run beside checks and other sweeps, and to be killed anywhere.

    Args:
        storage: where to look; one request, where there is nothing.
        now: our clock, in UTC.

    Raises:
        StorageError: the storage failed; what is left is for next time.
    """
    last = now - timedelta(seconds=LEFTOVER_SECONDS)
    removed = 0
    after = ""
    for _ in range(_PAGES):
        page = await storage.list(PROBE_PREFIX, after=after)
        for info in page.objects:
            began = _began(info.key)
            if began is not None and began < last:
                await storage.delete(info.key)
                removed += 1
        if page.more_after is None:
            break
        after = page.more_after
    return removed


def _began(key: str) -> datetime | None:
    found = _TOKEN.fullmatch(key.removeprefix(PROBE_PREFIX).partition("/")[0])
    if found is None:
        return None
    try:
        return datetime.strptime(found[1], _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
