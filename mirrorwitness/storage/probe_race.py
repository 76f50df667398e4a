"""Probes in which many writers go for one key at the same moment, each over a connection of its own.

A serial check of a condition proves nothing: a service was seen that refuses the second of two puts, and then told
several of 50 racing writers that they had won on 97 of 120 keys (research/E 0, finding 1). A race that is lost is a
proof; a race that is passed is not, so the reports say how hard it was tried.

An outcome that is *unknown* (`StorageUnavailableError`) counts as neither won nor lost: the bytes that are there
afterwards may be that writer's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    IntegrityMismatchError,
    PreconditionFailedError,
    StorageError,
    StorageUnavailableError,
)
from mirrorwitness.storage.probe_verdict import Capability, Observation, Outcome

if TYPE_CHECKING:
    from mirrorwitness.storage.probe_scratch import Scratch

__all__ = ["COUNTS_PER_WRITER", "RACED_KEYS", "probe_put_if_absent_raced", "probe_put_if_match_raced"]

RACED_KEYS: Final = 4
"""Keys raced for in the long form: enough for the services that lose 4 races in 5, few enough for those whose locks
poll (0.9 s for each key and 5 writers)."""

COUNTS_PER_WRITER: Final = 2
"""How often each writer counts up; all writers together stay under a few hundred requests."""


@dataclass(slots=True)
class _Race:
    """Who was told what in the race for one key."""

    winners: list[bytes] = field(default_factory=list[bytes])
    unknown: list[bytes] = field(default_factory=list[bytes])
    errors: list[StorageError] = field(default_factory=list["StorageError"])
    replaced: bool = False


async def probe_put_if_absent_raced(scratch: Scratch, *, writers: int, keys: int = RACED_KEYS) -> Observation:
    """Let all writers put each key with if-absent; exactly one may win, and its bytes must be there."""
    capability = Capability.PUT_IF_ABSENT_RACED
    several = most = 0
    wrong: list[str] = []
    for number in range(keys):
        key = scratch.key(f"race/{number}")
        race = await _race(scratch, key, writers)
        several += len(race.winners) > 1
        most = max(most, len(race.winners))
        if len(race.winners) <= 1:
            wrong += await _check_winner(scratch, key, race)
    tried = f"{writers} writers on {keys} {'key' if keys == 1 else 'keys'}"
    if several:
        return Observation(capability, Outcome.BROKEN, f"{tried}: several winners on {several} (up to {most})")
    if wrong:
        return Observation(capability, Outcome.BROKEN, f"{tried}: {wrong[0]}")
    return Observation(capability, Outcome.HOLDS, f"{tried}: one winner each")


async def probe_put_if_match_raced(scratch: Scratch, *, writers: int) -> Observation:
    """Let all writers count up one number by compare-and-swap; every acknowledged step must be in the sum."""
    capability = Capability.PUT_IF_MATCH_RACED
    key = scratch.key("counter")
    await scratch.storage.put(key, b"0")
    steps: list[bool] = []
    errors: list[StorageError] = []
    async with trio.open_nursery() as nursery:
        for _ in range(writers):
            nursery.start_soon(_count_up, scratch, key, steps, errors)
    if errors:
        raise errors[0]
    total = _number(await scratch.read(key))
    sure, unknown = steps.count(True), steps.count(False)
    seen = f"{writers} writers: {sure} steps acknowledged, {unknown} unknown, the number is {total}"
    is_right = sure <= total <= sure + unknown
    return Observation(capability, Outcome.HOLDS if is_right else Outcome.BROKEN, seen)


async def _race(scratch: Scratch, key: str, writers: int) -> _Race:
    race = _Race()
    start = trio.Event()

    async def write(number: int) -> None:
        # Bodies differ in length too: a server that mixes two of them is noticed.
        body = f"writer {number} ".encode() * (number + 10)
        await start.wait()
        try:
            await scratch.storage.put(key, body, if_absent=True)
        except PreconditionFailedError:
            return
        except StorageUnavailableError:
            race.unknown.append(body)
        except IntegrityMismatchError:
            # Acknowledged, and when it was read back other bytes were there: it was no winner, whatever it was told.
            race.winners.append(body)
            race.replaced = True
        except StorageError as error:
            race.errors.append(error)
        else:
            race.winners.append(body)

    async with trio.open_nursery() as nursery:
        for number in range(writers):
            nursery.start_soon(write, number)
        start.set()
    if race.errors:
        raise race.errors[0]
    return race


async def _check_winner(scratch: Scratch, key: str, race: _Race) -> list[str]:
    if not race.winners and len(race.unknown) != 1:
        # Several unknown outcomes and no sure one: some clients read back, find another's bytes, and say no more.
        return ["nobody is sure to have won"]
    found = await scratch.read(key)
    is_right = found in (race.winners or race.unknown) and not race.replaced
    return [] if is_right else ["the bytes there are not the winner's"]


async def _count_up(scratch: Scratch, key: str, steps: list[bool], errors: list[StorageError]) -> None:
    done = 0
    while done < COUNTS_PER_WRITER:
        try:
            steps.append(await _step(scratch, key))
        except PreconditionFailedError:
            continue
        except StorageError as error:
            errors.append(error)
            return
        done += 1


async def _step(scratch: Scratch, key: str) -> bool:
    """Count up once; False where the outcome is unknown."""
    body, info = await scratch.storage.read(key, limit=100)
    try:
        await scratch.storage.put(key, b"%d" % (_number(body) + 1), if_match=info.etag)
    except StorageUnavailableError:
        return False
    except IntegrityMismatchError:
        # Acknowledged, and somebody wrote over it before it was read back: that is a step like any other.
        return True
    return True


def _number(body: bytes) -> int:
    # What is there was written by us, or the storage mixes bytes up: then no number of ours is right.
    return int(body) if body.isdigit() else -1
