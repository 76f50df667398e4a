"""Followers that are killed at random moments while upstream changes; one run more must make the mirror upstream."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.fakes.feed_history import FeedHistory, apply
from tests.fault.cursors import check_cursor
from tests.fault.invariants import check_invariants
from tests.fault.killing import open_killer

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from tests.fakes.feed import FeedSimulator
    from tests.fakes.registry import RegistrySimulator
    from tests.fault.places import Places

__all__ = ["compare", "kill_followers"]

NAMES = ["alpha", "beta", "@s/one", "Gamma"]


def kill_followers(
    places: Places, sim: RegistrySimulator, feed: FeedSimulator, chance: random.Random, *, trials: int, kills: int
) -> None:
    """Let followers of a changing upstream be killed; each trial begins with an empty place."""
    history = FeedHistory(seed=chance.randrange(1000), names=NAMES)
    published: set[bytes] = set()

    def change(count: int) -> None:
        for _ in range(count):
            apply(history.next(), sim)
        for name in sim.names:
            published.update(sim.tarball(name, version) for version in sim.packument(name).get("versions", {}))

    change(10)
    with open_killer(registry=sim.base, feed=feed.base, names=["*"], chance=chance) as killer:
        assert killer.finish("once", places()) == 0
        clean = places()
        assert killer.measure("once", clean) == 0
        compare(clean.read(), sim)
        killer.seconds["follow"] = killer.seconds["once"] * 1.2
        for _ in range(trials):
            place = places()
            for _ in range(kills):
                change(chance.randint(1, 4))
                killer.kill_service("follow", place)
                objects = place.read()
                check_invariants(objects, published=published)
                check_cursor(objects, feed.rows.rows())
            change(chance.randint(0, 2))
            assert killer.finish("once", place) == 0
            objects = place.read()
            check_invariants(objects, published=published)
            check_cursor(objects, feed.rows.rows())
            compare(objects, sim)


def compare(objects: Mapping[str, bytes], sim: RegistrySimulator) -> None:
    """Hold what is served to what upstream has: versions and revisions."""
    expected = {
        name: (sim.packument(name)["_rev"], sorted(sim.packument(name)["versions"]))
        for name in sim.names
        if sim.packument(name).get("versions")
    }
    documents = [json.loads(body) for key, body in objects.items() if key.endswith("/packument.json")]
    assert {each["name"]: (each["_rev"], sorted(each["versions"])) for each in documents} == expected
    assert [key for key in objects if key.startswith("state/unfinished/")] == []
