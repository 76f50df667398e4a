"""What becomes of versions that upstream withdrew: the one decision, under the operator's policy. Pure.

| policy | unpublished, deleted | security holder | listed again |
|---|---|---|---|
| follow | hidden | quarantined | served again |
| hold | served on | quarantined | nothing changes |
| hide | hidden | quarantined | hidden until it is released |
| purge | hidden, bytes deleted | bytes deleted | hidden until it is released, then fetched again |

Rules:

- *Hidden* means in no document, so at no door (P2); the bytes stay. *Quarantined* means hidden and moved to where no
  static server looks; only a release ends it, whatever the policy and whatever upstream lists.
- Each withdrawal has a name, its *stone*: the event and a digest of what upstream said. The same document read twice is
  the same withdrawal, another one is another. A release is for one stone: it never covers a later withdrawal.
- A released version is served as under hold; listed again, it is a version like any other.
- Digests outlive everything, so other bytes under a known version are always noticed (P5).

What this does not do: write tombstones, find manifests or move bytes (`mirrorwitness.mirror.withdraw`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mirrorwitness.mirror.catalogue import HeldVersion
    from mirrorwitness.npm.names import Version

__all__ = ["Event", "Judgement", "Place", "Release", "WithdrawnPolicy", "event_of", "judge", "make_stone"]

DIGEST_DIGITS: Final = 16
"""Hex digits of a stone: enough that two documents of one package never share them by accident."""


class WithdrawnPolicy(StrEnum):
    """What the operator wants to happen to versions that upstream withdrew."""

    FOLLOW = "follow"
    HOLD = "hold"
    HIDE = "hide"
    PURGE = "purge"

    @property
    def is_final(self) -> bool:
        """Whether a withdrawn version stays out until a person releases it, also where upstream lists it again."""
        return self in {WithdrawnPolicy.HIDE, WithdrawnPolicy.PURGE}


class Event(StrEnum):
    """What a tombstone says."""

    UNPUBLISHED = "unpublished"
    SECURITY_HOLDER = "security-holder"
    DELETED = "deleted"
    RELISTED = "relisted"
    RELEASED = "released"


class Place(StrEnum):
    """Where the bytes of a held version are."""

    PUBLIC = "public"
    QUARANTINE = "quarantine"
    PURGED = "purged"


Release = tuple["Version", str]
"""A version, and the stone that the operator lifted."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What becomes of one package's versions.

    Attributes:
        stones: the stone of every version that is withdrawn now.
        released: those of them whose stone the operator lifted.
        fresh: events that no tombstone tells yet.
        held: versions that upstream does not list and that are served all the same.
        barred: versions that must not be served, and why.
        places: where bytes have to go once no document names them.
        back: versions whose bytes have to come back from quarantine first.
    """

    stones: Mapping[Version, str]
    released: frozenset[Version]
    fresh: Mapping[Version, Event]
    held: tuple[Version, ...]
    barred: Mapping[Version, str]
    places: Mapping[Version, Place]
    back: tuple[Version, ...]


def make_stone(event: Event, digest: str) -> str:
    """Return the name of a withdrawal; `digest` is the hex digest of what upstream said."""
    return f"{event}-{digest[:DIGEST_DIGITS]}"


def event_of(stone: str) -> Event | None:
    """Return the event of a stone; None for the empty text, which stands for no withdrawal."""
    return Event(stone.rpartition("-")[0]) if stone else None


def judge(
    listed: Collection[Version],
    versions: Mapping[Version, HeldVersion],
    *,
    policy: WithdrawnPolicy,
    event: Event,
    digest: str,
    releases: Collection[Release] = (),
) -> Judgement:
    """Decide about every version that was ever stored of a package.

    Args:
        listed: the versions that upstream lists.
        versions: the package's record.
        policy: what the operator wants.
        event: what it means that a version is not listed.
        digest: hex digest of what upstream said.
        releases: what the operator lifted, as far as the record does not say so.

    Returns:
        The decision; nothing is done yet.
    """
    stones: dict[Version, str] = {}
    fresh: dict[Version, Event] = {}
    released: set[Version] = set()
    for version, item in versions.items():
        known = event_of(item.withdrawn)
        is_released = bool(item.withdrawn) and (item.released or (version, item.withdrawn) in releases)
        if version in listed:
            if known is None:
                continue
            if is_released or not (policy.is_final or known is Event.SECURITY_HOLDER):
                fresh[version] = Event.RELISTED
                continue
        elif known is None or (event is Event.SECURITY_HOLDER and known is not event):
            # Security has the last word: what it takes away was perhaps unpublished, and held, before.
            fresh[version] = event
            stones[version] = make_stone(event, digest)
            continue
        stones[version] = item.withdrawn
        if is_released:
            released.add(version)
    barred = {
        version: _reason(stone, policy, is_listed=version in listed)
        for version, stone in stones.items()
        if not _is_served(event_of(stone), policy, is_released=version in released)
    }
    served = [version for version in versions if version not in barred]
    return Judgement(
        stones=stones,
        released=frozenset(released),
        fresh=fresh,
        held=tuple(v for v in served if v in stones and versions[v].place is not Place.PURGED),
        barred=barred,
        places=_find_places(versions, {version: stones[version] for version in barred}, policy),
        back=tuple(v for v in served if versions[v].place is Place.QUARANTINE),
    )


def _is_served(event: Event | None, policy: WithdrawnPolicy, *, is_released: bool) -> bool:
    return is_released or (policy is WithdrawnPolicy.HOLD and event is not Event.SECURITY_HOLDER)


def _reason(stone: str, policy: WithdrawnPolicy, *, is_listed: bool) -> str:
    event = event_of(stone)
    again = ", and lists it again" if is_listed else ""
    if event is Event.SECURITY_HOLDER:
        what = "upstream replaced the package by its placeholder for malicious ones"
        return f"{what}{again}: in quarantine until `mirrorwitness release` lets it out"
    what = "upstream deleted the package" if event is Event.DELETED else "upstream unpublished it"
    if is_listed:
        return f'{what}{again}: withdrawn = "{policy}" keeps it out until `mirrorwitness release` lets it in'
    return f'{what} (withdrawn = "{policy}")'


def _find_places(
    versions: Mapping[Version, HeldVersion], barred: Mapping[Version, str], policy: WithdrawnPolicy
) -> dict[Version, Place]:
    places: dict[Version, Place] = {}
    for version, stone in barred.items():
        place = versions[version].place
        if policy is WithdrawnPolicy.PURGE:
            wanted = Place.PURGED
        elif event_of(stone) is Event.SECURITY_HOLDER:
            wanted = Place.QUARANTINE
        else:
            continue
        if place not in {wanted, Place.PURGED}:
            places[version] = wanted
    return places
