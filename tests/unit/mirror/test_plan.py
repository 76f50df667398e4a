"""Plans: the gate's decision in numbers, exact and estimated bytes apart."""

from __future__ import annotations

from mirrorwitness.mirror.catalogue import HeldVersion
from mirrorwitness.mirror.gate import Block, BlockKind, Decision, Wanted, changed_promise
from mirrorwitness.mirror.plan import BYTES_WITHOUT_HINT, PackagePlan, Plan, Size, estimate_size, make_package_plan
from mirrorwitness.npm.integrity import Expectation
from mirrorwitness.npm.manifest import Manifest
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import SignatureOutcome

NAME = PackageName("left-pad")
HELD = HeldVersion(file="left-pad-1.0.0.tgz", size=70, sri="sha512-x")


def wanted(version: str, *, held: HeldVersion | None = None, hint: int | None = None) -> Wanted:
    return Wanted(
        version=Version(version),
        file=f"left-pad-{version}.tgz",
        url="https://registry.example/x",
        expectation=Expectation("none"),
        integrity=None,
        shasum=None,
        signature=SignatureOutcome.UNSIGNED,
        held=held,
        attested=False,
        size_hint=hint,
    )


def test_sizes_say_what_they_rest_on() -> None:
    """A hint gives an estimate; without one the guess is marked as blind."""
    assert estimate_size(wanted("1.0.0", hint=1000)) == Size(270, is_exact=False)
    assert estimate_size(wanted("1.0.0")) == Size(BYTES_WITHOUT_HINT, is_exact=False, is_blind=True)


def test_a_plan_adds_up_and_keeps_exact_and_estimated_apart() -> None:
    """What is stored is exact, what upstream was asked for is exact, the rest is an estimate and called so."""
    decision = Decision(
        wanted=(wanted("1.0.0", held=HELD), wanted("1.1.0"), wanted("1.2.0", hint=1000)),
        kept=(Version("0.9.0"),),
        blocks=(Block("9.9.9", BlockKind.POLICY, "denied"),),
    )
    package = make_package_plan(NAME, decision, exact={Version("1.1.0"): 55})
    plan = Plan([package, PackagePlan(PackageName("absent"), problem="404")])
    assert package.versions == ("1.0.0", "1.1.0", "1.2.0", "0.9.0")
    assert plan.totals() == {
        "packages": 1,
        "versions": 4,
        "files_held": 2,
        "bytes_held": 70,
        "files_to_fetch": 2,
        "bytes_to_fetch_exact": 55,
        "bytes_to_fetch_estimated": 270,
        "files_estimated": 1,
        "files_without_size": 0,
        "blocked": 1,
        "problems": 1,
    }
    assert (plan.has_gap, plan.has_divergence) == (True, False)


def test_p3_a_plan_knows_what_a_sync_would_exit_with() -> None:
    """A divergence and a gap are seen before anything is downloaded; a policy is neither."""

    def plan_of(*kinds: BlockKind) -> Plan:
        blocks = tuple(Block("1.0.0", kind, "why") for kind in kinds)
        return Plan([make_package_plan(NAME, Decision((), (), blocks))])

    assert (plan_of(BlockKind.POLICY).has_gap, plan_of(BlockKind.POLICY).has_divergence) == (False, False)
    assert (plan_of(BlockKind.MISSING).has_gap, plan_of(BlockKind.MISSING).has_divergence) == (True, False)
    assert (plan_of(BlockKind.EQUIVOCATION).has_gap, plan_of(BlockKind.SIGNATURE).has_divergence) == (False, True)


def test_p5_every_change_of_a_promise_is_told_from_no_change() -> None:
    """Another shasum, and an integrity that was taken away, contradict what we hold; the same promise does not."""

    def manifest(integrity: str | None, shasum: str | None) -> Manifest:
        return Manifest(version=Version("1.0.0"), tarball="x", integrity=integrity, shasum=shasum)

    one, other = "a" * 40, "b" * 40
    weak = HeldVersion(file="f", size=1, sri="sha512-x", shasum=one)
    strong = HeldVersion(file="f", size=1, sri="sha512-x", integrity="sha512-x", shasum=one)
    assert changed_promise(manifest(None, one.upper()), weak) is None
    assert "shasum" in (changed_promise(manifest(None, other), weak) or "")
    assert "no longer promises" in (changed_promise(manifest(None, one), strong) or "")
