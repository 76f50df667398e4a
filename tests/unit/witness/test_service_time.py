"""Clocks that step, and logs that ask too often."""

from __future__ import annotations

import pytest

from mirrorwitness.witness import startup
from mirrorwitness.witness.protocol import Answer, Reason, format_add_checkpoint
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.service import CLOCK_STEP
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    OTHER,
    OURS,
    START,
    World,
    cosign,
    forge,
    grow,
    make_note,
    read_cosignatures,
    sign,
)

TEXT = "text/plain; charset=utf-8"


async def test_the_rate_is_counted_after_the_signature() -> None:
    """Nobody who cannot sign for a log uses up what it may ask; what is refused for other reasons counts."""
    world = World(rates=Rates(per_second=0.1, burst=2), logs=(LOG, OTHER))
    witness = await world.start()
    forged = make_note(LOG.tree(10), forge(sign(LOG_KEY, LOG.tree(10).text)))
    for _ in range(50):
        assert (await witness.add_checkpoint(format_add_checkpoint(0, (), forged))).status == 403
    await grow(witness, 10)
    assert (await witness.add_checkpoint(LOG.request(0, 10))).status == 409
    answer = await witness.add_checkpoint(LOG.request(10, 11))
    assert answer == Answer(429, b"this log asks too often\n", TEXT, Reason.RATE, 10)
    await grow(witness, 10, log=OTHER)
    world.clock.at += 10
    assert (await witness.add_checkpoint(LOG.request(10, 11))).status == 200


@pytest.mark.parametrize("is_new", [False, True])
async def test_rollback_is_heard_however_often_the_log_asks(
    is_new: bool,  # noqa: FBT001 - a parameter
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A log that has used up its rate cannot keep from us that our state is too old."""
    monkeypatch.setattr(startup, "CHECKED_LOGS", 0)  # a process that begins knows nothing before the first request
    world = World(rates=Rates(per_second=0.001, burst=1))
    witness = await world.start()
    await grow(witness, 10)
    if is_new:
        witness = await world.start()
    answer = await witness.add_checkpoint(LOG.request(10, 12, more=[cosign(OURS, LOG.tree(12).text, START)]))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)


@pytest.mark.parametrize("step", [1, CLOCK_STEP])
async def test_clock_that_steps_back_a_little_signs_with_the_time_before(step: int) -> None:
    """As time services do; the time of a later cosignature is never smaller."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    world.clock.at -= step
    answer = await witness.add_checkpoint(LOG.request(10, 11))
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(11).text, OURS)] == [START]
    world.clock.at += step + 1
    answer = await witness.add_checkpoint(LOG.request(11, 12))
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(12).text, OURS)] == [START + 1]


@pytest.mark.parametrize(("step", "wait"), [(CLOCK_STEP + 1, CLOCK_STEP + 1), (3600, 3600), (86400, 3600)])
async def test_clock_that_steps_back_far_signs_nothing(step: int, wait: int) -> None:
    """503 with a Retry-After, until the clock has caught up; also after a restart."""
    world = World()
    await grow(await world.start(), 10)
    world.clock.at -= step
    for _ in range(2):
        answer = await (await world.start()).add_checkpoint(LOG.request(10, 11))
        said = b"the witness's clock is %d s behind its latest cosignature of this log\n" % step
        assert answer == Answer(503, said, TEXT, Reason.CLOCK, wait)
    world.clock.at = START - CLOCK_STEP
    assert (await (await world.start()).add_checkpoint(LOG.request(10, 11))).status == 200


async def test_clock_that_was_an_hour_ahead() -> None:
    """What was signed then is the latest for an hour; other logs are not touched by it."""
    world = World(logs=(LOG, OTHER))
    witness = await world.start()
    world.clock.at += 3600
    await grow(witness, 10)
    world.clock.at -= 3600
    assert (await witness.add_checkpoint(LOG.request(10, 11))).reason is Reason.CLOCK
    (answer,) = await grow(witness, 10, log=OTHER)
    assert [item.timestamp for item in read_cosignatures(answer.body, OTHER.tree(10).text, OURS)] == [START]
    world.clock.at += 3600
    answer = await witness.add_checkpoint(LOG.request(10, 11))
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(11).text, OURS)] == [START + 3600]


async def test_a_clock_at_zero_still_gives_a_time() -> None:
    """SPEC: "the timestamp MUST NOT be zero"."""
    world = World()
    world.clock.at = 0.9
    (answer,) = await grow(await world.start(), 10)
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(10).text, OURS)] == [1]
