"""Withdrawals: which logged versions a registry's document does not list any more, and whether that counts. Pure.

Rules:

- A version is withdrawn where the document knows of it and does not list it: its time of publication is still there, as
  registries keep it, or the whole package is said to be unpublished.
- One that the document has never heard of may be younger than the document: caches show for hours what was. It is
  waited for, and counts after `confirm_after` if no document listed it meanwhile.
- A package that was replaced by the registry's placeholder is held for security. That has the last word: it is logged
  also of versions that were unpublished before.
- A version in conflict has no more events.

What it does not do: compare revisions (`mirrorwitness.sumdb.ingest` refuses a document that is older than the last
one), or judge an answer 404 (`mirrorwitness.mirror.attempt`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirrorwitness.npm.times import format_time, parse_time
from mirrorwitness.sumdb.records import Event

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from mirrorwitness.npm.names import Version
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.sumdb.index import IndexLine

__all__ = ["Withdrawals", "find_withdrawals"]


@dataclass(frozen=True, slots=True)
class Withdrawals:
    """What a document says by not listing versions.

    Attributes:
        events: what happened to which version.
        waiting: versions that have to be looked for again, and since when they are missing.
    """

    events: Mapping[Version, Event]
    waiting: Mapping[Version, str]


def find_withdrawals(
    packument: Packument,
    latest: Mapping[Version, IndexLine],
    *,
    waiting: Mapping[str, str],
    now: datetime,
    confirm_after: float,
) -> Withdrawals:
    """Say which versions are withdrawn.

    Args:
        packument: the registry's document.
        latest: the newest record of each version that the log has of it.
        waiting: which of them were missing before, and since when.
        now: the time.
        confirm_after: seconds after which a version that is missing counts as withdrawn, whatever the document knows.
    """
    event = Event.SECURITY_HOLD if packument.security_holder else Event.UNPUBLISH
    events: dict[Version, Event] = {}
    missing: dict[Version, str] = {}
    for version, line in latest.items():
        if version in packument.versions or not _may_follow(line.event, event):
            continue
        since = parse_time(waiting.get(version, ""))
        waited = 0.0 if since is None else (now - since).total_seconds()
        if packument.unpublished or version in packument.time or waited >= confirm_after:
            events[version] = event
        else:
            # A clock that went back begins anew.
            missing[version] = waiting[version] if waited > 0 else format_time(now)
    return Withdrawals(events, missing)


def _may_follow(known: Event, event: Event) -> bool:
    return known is Event.PUBLISH or (known is Event.UNPUBLISH and event is Event.SECURITY_HOLD)
