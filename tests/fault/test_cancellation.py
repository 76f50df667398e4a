"""Cancelled at every step of the event loop (P2; rule 47): the state is consistent and the next run completes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.fault.invariants import check_invariants
from tests.fault.scenarios import first_run, public_part, update_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.unit.mirror.builder import Mirror

pytestmark = [pytest.mark.fault, pytest.mark.slow]

POINTS = 300
"""Steps at which a run is cancelled; a longer run is sampled evenly."""


class CancelAt(trio.abc.Instrument):
    """Cancels a scope before the n-th step of any task since `arm`; counts on where n is never reached."""

    def __init__(self, step: int | None) -> None:
        self._step = step
        self._scope: trio.CancelScope | None = None
        self.steps = 0

    def arm(self, scope: trio.CancelScope) -> None:
        self._scope = scope

    def disarm(self) -> None:
        self._scope = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002 - the interface
        """Count, and cancel when the time has come."""
        if self._scope is None:
            return
        self.steps += 1
        if self.steps == self._step:
            self._scope.cancel()


async def run_once(scenario: Callable[[], Awaitable[tuple[Mirror, set[bytes]]]], instrument: CancelAt) -> Mirror:
    """Run the scenario's sync under the instrument, check, run again, check."""
    mirror, published = await scenario()
    with trio.CancelScope() as scope:
        instrument.arm(scope)
        await mirror.sync()
    instrument.disarm()
    check_invariants(mirror.storage.objects, published=published)
    await mirror.sync_well()
    check_invariants(mirror.storage.objects, published=published)
    return mirror


@pytest.mark.parametrize("scenario", [first_run, update_run])
def test_p2_a_run_is_cancelled_at_each_step(scenario: Callable[[], Awaitable[tuple[Mirror, set[bytes]]]]) -> None:
    """No document names a missing or wrong object, and the next run ends as if nothing had happened."""
    counter = CancelAt(None)
    expected = public_part(trio.run(run_once, scenario, counter, instruments=[counter]))
    assert counter.steps > 50
    for step in range(1, counter.steps + 1, -(-counter.steps // POINTS)):
        instrument = CancelAt(step)
        mirror = trio.run(run_once, scenario, instrument, instruments=[instrument])
        assert public_part(mirror) == expected, step
