"""Random histories of an upstream, of its feed's faults, and of the lives and deaths of followers (P2, P6, P8).

After each step the storage is consistent, and no document was replaced by an older one. At the end of each history
everything is healed, time passes, one sweep among it, and the mirror is what upstream is: every version, every byte.

``make fuzz F=tests/property/test_follower_machine.py N=500`` plays the 500 histories of issue 3.
"""

from __future__ import annotations

from functools import partial

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from tests.property.following_world import Act, Step, World

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(3600)]

OFTEN = [Act.OPERATION, Act.OPERATION, Act.OPERATION, Act.WAIT, Act.WAIT, Act.FOLLOW, Act.FOLLOW, Act.KILL, Act.ONCE]

steps = st.tuples(st.sampled_from([*OFTEN, *Act]), st.integers(0, 11), st.integers(0, 11))


async def play(history: list[Step], *, seed: int, has_text: bool) -> None:
    """Live through a history, and hold the mirror to what upstream is."""
    world = World(seed=seed, has_text=has_text)
    async with world.open():
        for step in history:
            await world.do(step)
        await world.settle()


@settings(suppress_health_check=list(HealthCheck))
@given(history=st.lists(steps, min_size=12, max_size=60), seed=st.integers(0, 99), has_text=st.booleans())
def test_p6_whatever_happened_the_mirror_becomes_what_upstream_is(
    history: list[Step],
    seed: int,
    has_text: bool,  # noqa: FBT001
) -> None:
    """After any history and a quiet day, versions and bytes are upstream's, and nothing is left unfinished."""
    trio.run(partial(play, history, seed=seed, has_text=has_text), clock=MockClock(autojump_threshold=0))
