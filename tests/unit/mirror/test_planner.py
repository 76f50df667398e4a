"""Planning against an upstream: the same decision as the sync's, nothing written, no tarball asked for."""

from __future__ import annotations

from mirrorwitness.mirror.plan import PackagePlan, Size
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.registry import Fault, RegistrySimulator
from tests.unit.mirror.builder import make_mirror


def make_sim() -> RegistrySimulator:
    sim = RegistrySimulator()
    sim.publish("a", "1.0.0", dist={"unpackedSize": 1000})
    sim.publish("a", "1.1.0", dist={"unpackedSize": None})
    sim.publish("b", "1.0.0")
    return sim


async def test_a_plan_downloads_and_writes_nothing() -> None:
    """Packuments and keys only; an estimate says that it is one; a package that cannot be had is a problem."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["a", "b@9.9.9", "nobody"])
    plan = await mirror.plan(is_new=True)
    assert [package.name for package in plan.packages] == ["a", "b", "nobody"]
    assert plan.packages[0].fetch == {
        "1.0.0": Size(270, is_exact=False),
        "1.1.0": Size(14_000, is_exact=False, is_blind=True),
    }
    assert (plan.has_gap, plan.has_divergence) == (True, False)
    assert "404" in (plan.packages[2].problem or "")
    assert not any("/-/" in request.target.removeprefix("/-/npm") for request in sim.requests)
    assert mirror.keys("npm/") + mirror.keys("state/") == []


async def test_sizes_are_asked_for_and_a_silent_answer_leaves_the_estimate() -> None:
    """One HEAD for each missing tarball; what cannot be asked stays an estimate."""
    sim = make_sim()
    sim.fail("/a/-/a-1.0.0.tgz", Fault.status(404), times=None)
    sim.fail("/b/-/b-1.0.0.tgz", Fault.status(405), times=None)
    mirror = make_mirror(sim, rules=["a", "b"])
    plan = await mirror.plan(ask_sizes=True)
    assert plan.packages[0].fetch == {
        "1.0.0": Size(270, is_exact=False),
        "1.1.0": Size(len(sim.tarball("a", "1.1.0")), is_exact=True),
    }
    assert not plan.packages[1].fetch[Version("1.0.0")].is_exact
    assert {request.method for request in sim.requests if "/a/-/" in request.target} == {"HEAD"}


async def test_what_is_stored_is_counted_as_held_and_matches_the_sync() -> None:
    """After a sync nothing is left to fetch, and an equivocation shows before anything is downloaded."""
    sim = make_sim()
    mirror = make_mirror(sim, rules=["a", "b"])
    summary = await mirror.sync_well()
    plan = await mirror.plan()
    totals = plan.totals()
    assert (totals["files_held"], totals["bytes_held"], totals["files_to_fetch"]) == (3, summary.counts["bytes"], 0)
    sim.republish("b", "1.0.0", {"index.js": b"evil"})
    plan = await mirror.plan()
    assert plan.has_divergence
    assert plan.packages[1].versions == ("1.0.0",)


async def test_a_plan_of_nothing_is_empty() -> None:
    mirror = make_mirror(make_sim(), rules=["a"])
    mirror.sims[0].fail("a", Fault.html(), times=None)
    plan = await mirror.plan()
    assert isinstance(plan.packages[0], PackagePlan)
    assert plan.packages[0].name == PackageName("a")
    assert "expected a JSON object" in (plan.packages[0].problem or "")
