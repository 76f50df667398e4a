"""Dead at each storage operation of a run, and wishes that change: what is complete is what is wanted (P2, P3, P8)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.select import make_deny_rule
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fault.dying import DyingStorage, run_until_death
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import lasting, make_mirror

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from tests.unit.mirror.builder import Mirror

pytestmark = pytest.mark.fault

OPERATIONS = range(1, 16)
"""More than any of these runs makes; the last ones must end by themselves."""


async def whole_mirror() -> Mirror:
    """Return a complete mirror of one package with two versions."""
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    sim.publish("left", "2.0.0")
    mirror = make_mirror(sim, rules=["left"])
    await mirror.sync_well()
    return mirror


async def die(
    mirror: Mirror,
    work: Callable[[], Awaitable[object]],
    operation: int,
    *,
    is_late: bool,
    damaged: Collection[str] = (),
) -> bool:
    """Do the work until its n-th operation; return whether it came to that."""
    dying = DyingStorage(mirror.storage, operations=operation, is_late=is_late)
    mirror.wrapped = dying
    has_died = await run_until_death(dying, work)
    mirror.wrapped = None
    check_invariants(mirror.storage.objects, damaged=damaged)
    return has_died


@pytest.mark.parametrize("is_late", [False, True])
async def test_p3_wishes_that_change_back_after_a_death_are_served_as_they_are(is_late: bool) -> None:  # noqa: FBT001
    """A version that is denied, allowed, and denied again is not served, wherever the run in between died."""
    deaths = []
    for operation in OPERATIONS:
        mirror = await whole_mirror()
        mirror.denied = [make_deny_rule("left", versions="2.0.0", reason="bad", origin="a test")]
        await mirror.sync_well()
        expected = mirror.storage.objects
        denied, mirror.denied = mirror.denied, []
        deaths.append(await die(mirror, mirror.sync, operation, is_late=is_late))
        mirror.denied = denied
        await mirror.sync_well()
        assert mirror.served("left") == ["1.0.0"]
        assert lasting(mirror.storage.objects) == lasting(expected)
    assert deaths[0] != deaths[-1]


@pytest.mark.parametrize("is_late", [False, True])
async def test_p3_what_a_dead_repair_withdrew_comes_back_with_the_next_run(is_late: bool) -> None:  # noqa: FBT001
    """A tarball that was lost here and upstream for a while is owed until it is there, wherever the repair died."""
    deaths = []
    for operation in OPERATIONS:
        mirror = await whole_mirror()
        expected = mirror.storage.objects
        key = mirror.tarball_key("left", "1.0.0")
        mirror.storage.set_bytes(key, b"rotten")
        mirror.sims[0].fail("/left/-/left-1.0.0.tgz", Fault.status(404), times=None)
        repair = partial(mirror.repair, "left", "1.0.0")
        deaths.append(await die(mirror, repair, operation, is_late=is_late, damaged=[key]))
        mirror.sims[0].heal()
        if (await mirror.sync()).exit_code() is ExitCode.COMPLETE and mirror.served("left") == ["2.0.0"]:
            pytest.fail(f"complete without 1.0.0, after a death in operation {operation}")
        findings = await mirror.audit()
        if findings:  # the repair died before it took note: an audit says so
            assert {finding.version for finding in findings} == {"1.0.0"}
            await mirror.repair("left", "1.0.0")
        assert lasting(mirror.storage.objects) == lasting(expected)
    assert deaths[0] != deaths[-1]
