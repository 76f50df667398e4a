"""Dead at each storage operation of a run with a log: no visible version without its proof, ever (P1, P2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.fakes.registry import RegistrySimulator
from tests.fakes.simulated_log import open_simulated_log
from tests.fault.dying import DyingStorage, run_until_death
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import lasting, make_mirror

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.mirror.builder import Mirror

pytestmark = pytest.mark.fault

OPERATIONS = range(1, 40)
"""More than any of these runs makes; the last ones must end by themselves."""


async def new_mirror() -> Mirror:
    """Return an empty mirror of one package with two logged versions, and one that is not logged yet."""
    sim = RegistrySimulator()
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        sim.publish("left", version)
    log = await open_simulated_log()
    await log.add(sim, "left", "1.0.0", "2.0.0")
    return make_mirror(sim, rules=["left"], log=log)


async def grown_mirror() -> Mirror:
    """Return the same mirror after a run, with the third version logged since, and one proof lost."""
    mirror = await new_mirror()
    await mirror.sync()
    assert mirror.log is not None
    await mirror.log.add(mirror.sims[0], "left", "3.0.0")
    return mirror


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize("make", [new_mirror, grown_mirror])
async def test_p1_no_version_is_visible_without_its_proof_wherever_a_run_died(
    make: Callable[[], Awaitable[Mirror]],
    is_late: bool,  # noqa: FBT001
) -> None:
    """Between tarball, proof, document and record: the next run completes, and all is as if nobody had died."""
    expected = await make()
    code = (await expected.sync()).exit_code()
    deaths = []
    for operation in OPERATIONS:
        mirror = await make()
        dying = DyingStorage(mirror.storage, operations=operation, is_late=is_late)
        mirror.wrapped = dying
        deaths.append(await run_until_death(dying, mirror.sync))
        mirror.wrapped = None
        check_invariants(mirror.storage.objects, proven=True)
        assert (await mirror.sync()).exit_code() is code
        check_invariants(mirror.storage.objects, proven=True)
        assert lasting(mirror.storage.objects).keys() == lasting(expected.storage.objects).keys()
        assert mirror.served("left") == expected.served("left")
    assert deaths[0] != deaths[-1]


async def test_p1_cancelled_between_tarball_proof_and_document() -> None:
    """A run that is cancelled at any checkpoint leaves no version without its proof."""
    for steps in range(1, 200, 7):
        mirror = await new_mirror()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(mirror.sync)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                scope.cancel()
        check_invariants(mirror.storage.objects, proven=True)
        await mirror.sync()
        assert mirror.served("left") == ["1.0.0", "2.0.0"]
