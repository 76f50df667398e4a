"""The three trials of the kill suite, the same for a directory, an S3 server in memory and a real one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.registry import Fault
from tests.fault.history import NAMES, History
from tests.fault.invariants import check_invariants
from tests.fault.killing import open_killer
from tests.fault.places import public_part

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.fakes.thread import ThreadedRegistry
    from tests.fault.killing import Killer
    from tests.fault.places import Place, Places

__all__ = ["kill_first_runs", "kill_repairs", "kill_updates"]

_COUNTERS = "state/coverage.json"

LATER = 2
"""Days until the run that has to complete: what a killed check of the storage left is swept by then."""


def kill_first_runs(
    places: Places, registry: ThreadedRegistry, chance: random.Random, *, versions: int, trials: int, kills: int
) -> None:
    """Fill a place from nothing in each trial, killed `kills` times; the run after that has to complete."""
    history = History(registry.sim, chance, names=NAMES, versions=versions)
    with open_killer(registry=registry.url, names=NAMES, chance=chance) as killer:
        assert killer.finish("sync", places()) == 0
        clean = places()
        assert killer.measure("sync", clean) == 0
        expected = clean.read()
        place = clean
        for _ in range(trials):
            place = places()
            for _ in range(kills):
                killer.kill("sync", place)
                check_invariants(place.read(), published=history.published)
            assert killer.finish("sync", place, days_ahead=LATER) == 0
            objects = place.read()
            check_invariants(objects, published=history.published)
            assert public_part(objects) == public_part(expected)
            assert _kept_keys(objects) == _kept_keys(expected)
        _check_counters(killer, place, expected)


def kill_updates(
    places: Places, twin: Place, registry: ThreadedRegistry, chance: random.Random, *, days: int, kills: int
) -> None:
    """Follow an upstream for some days, killed each day; at its end all must be as in a twin that nobody killed.

    Versions come and go, tags move, fields change, integrities are taken away or become others. The twin decides what
    the day's exit code is (an equivocation is no complete run), which evidence and tombstones there are, and every
    byte that is served.
    """
    history = History(registry.sim, chance, names=NAMES, versions=2)
    place = places()
    with open_killer(registry=registry.url, names=NAMES, chance=chance) as killer:
        killer.finish("sync", place)
        killer.finish("sync", twin)
        history.pass_day()
        killer.finish("sync", twin)
        killer.measure("sync", place)
        for _ in range(days):
            history.pass_day()
            for _ in range(kills):
                killer.kill("sync", place)
                check_invariants(place.read(), published=history.published)
            assert killer.finish("sync", place) == killer.finish("sync", twin)
            objects, expected = place.read(), twin.read()
            check_invariants(objects, published=history.published)
            assert public_part(objects) == public_part(expected)
            assert _kept_keys(objects) == _kept_keys(expected)


def kill_repairs(places: Places, registry: ThreadedRegistry, chance: random.Random, *, trials: int, kills: int) -> None:
    """Damage a mirror in each trial and kill its repair; each object is as it was or right, and at last all are right.

    In every other trial upstream has lost one of the damaged tarballs: it is withdrawn, and comes back with it.
    """
    history = History(registry.sim, chance, names=NAMES, versions=3)
    place = places()
    with open_killer(registry=registry.url, names=NAMES, chance=chance) as killer:
        assert killer.finish("sync", place) == 0
        sound = place.read()
        _damage(place, sound, chance)
        assert killer.measure("repair", place) == 0
        for trial in range(trials):
            damaged = _damage(place, sound, chance)
            lost = _lose_one(registry, damaged, chance) if trial % 2 else None
            for _ in range(kills):
                killer.kill("repair", place)
                _check_repairing(place.read(), sound, damaged, history.published, is_lossy=lost is not None)
            assert killer.finish("repair", place) == 0
            assert killer.finish("audit", place) == 0
            check_invariants(place.read(), published=history.published, damaged=damaged if lost is not None else ())
            registry.sim.heal()
            assert killer.finish("sync", place) == 0
            assert public_part(place.read()) == public_part(sound)
            assert killer.finish("audit", place) == 0


def _kept_keys(objects: Mapping[str, bytes]) -> list[str]:
    """Return all keys but those that may differ after a death.

    What is left of the summary's nodes has a sweep of its own; the counters of what is served are right again after a
    full audit (`mirrorwitness.mirror.coverage`).
    """
    return sorted(key for key in objects if not key.startswith(("about/summary/", "state/summary/", _COUNTERS)))


def _check_counters(killer: Killer, place: Place, expected: Mapping[str, bytes]) -> None:
    """After an audit the counters are those of a mirror that nobody killed."""
    assert killer.finish("audit", place) == 0
    found, right = (json.loads(objects[_COUNTERS]) for objects in (place.read(), expected))
    assert {**found, "changed": "", "counted": ""} == {**right, "changed": "", "counted": ""}


def _damage(place: Place, sound: Mapping[str, bytes], chance: random.Random) -> dict[str, bytes | None]:
    """Make some tarballs wrong, remove others, put one there that nobody asked for, and break documents."""
    tarballs = sorted(key for key in sound if "/-/" in key)
    documents = sorted(key for key in sound if key.startswith("npm/") and key.endswith(".json"))
    wrong = chance.sample(tarballs, 4)
    damaged: dict[str, bytes | None] = {
        wrong[0]: sound[wrong[0]][:-1],
        wrong[1]: b"rotten" + sound[wrong[1]],
        wrong[2]: sound[wrong[3]],
        wrong[3]: None,
    }
    for key in chance.sample(documents, 2):
        damaged[key] = chance.choice([None, sound[key][: len(sound[key]) // 2], sound[key] + b" "])
    for key, body in damaged.items():
        place.write(key, body)
    return damaged


def _lose_one(registry: ThreadedRegistry, damaged: Mapping[str, bytes | None], chance: random.Random) -> str:
    """Let upstream answer 404 for one of the damaged tarballs."""
    key = chance.choice([key for key in damaged if "/-/" in key])
    registry.sim.fail(key.removeprefix("npm"), Fault.status(404), times=None)
    return key


def _check_repairing(
    objects: Mapping[str, bytes],
    sound: Mapping[str, bytes],
    damaged: Mapping[str, bytes | None],
    published: set[bytes],
    *,
    is_lossy: bool,
) -> None:
    """Nothing that was sound was touched, and what was damaged is as it was or right."""
    check_invariants(objects, published=published, damaged=damaged)
    for key, body in public_part(sound).items():
        found = objects.get(key)
        if key in damaged and found == damaged[key]:
            continue
        # Documents without the version that upstream lost are right too; the invariants look at these.
        assert found == body or (is_lossy and found is not None and key.endswith(".json")), key
    assert public_part(objects).keys() <= public_part(sound).keys()
