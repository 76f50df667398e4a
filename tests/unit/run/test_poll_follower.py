"""Polling logs again and again: who is asked when, what is done anew, and what ends it."""

from __future__ import annotations

import logging
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run import polling, watching
from mirrorwitness.run.polling import Poller, follow_logs, next_delay
from mirrorwitness.run.witnessing import manage_logs, retire_witness
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.witness.distributor import distributor_path
from mirrorwitness.witness.feeder import Action, Polled
from tests.fakes.registry_server import Fault
from tests.unit.run.polling_site import LABS, make_folder, served, wishes
from tests.unit.witness.log_server import DistributorServer, LogServer
from tests.unit.witness.world import OURS, contradiction

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trio.testing import MockClock

    from mirrorwitness.run.witnessing import WitnessWishes
    from mirrorwitness.witness.feeder import Feeder


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with keys, in which a witness keeps its state."""
    monkeypatch.chdir(tmp_path)
    return make_folder(tmp_path)


async def until(is_so: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not is_so():
        await trio.testing.wait_all_tasks_blocked(0.001)


@pytest.mark.slow
async def test_a_log_that_is_disabled_is_not_polled_any_more(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From the next look on, by no process that runs; the other log is, and this one again once it is enabled."""
    caplog.set_level(logging.INFO, "mirrorwitness.witness")
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.02)
    one, other = servers = [LogServer(lab, 10) for lab in LABS[:2]]

    def events() -> int:
        return sum(record.msg == "logs_refreshed" for record in caplog.records)

    async def go_on(polls: int) -> None:
        """Wait until the other log was polled some more times."""
        before = len(other.asked)
        await until(lambda: len(other.asked) >= before + polls)

    async def run(work: Callable[[], Any], *, stop: Callable[[], None]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await until(lambda: one.asked and other.asked)
            await manage_logs(f"file:{folder / 'state'}", disable=LABS[0].origin)
            await until(lambda: events() == 1)
            await go_on(3)  # what was under way is done
            asked = len(one.asked)
            await go_on(10)
            assert len(one.asked) == asked
            await manage_logs(f"file:{folder / 'state'}", enable=LABS[0].origin)
            await until(lambda: len(one.asked) > asked)
            stop()
        return True

    monkeypatch.setattr(polling, "run_until_signal", run)
    async with served(*servers):
        with trio.fail_after(20):
            assert await follow_logs(wishes(folder, servers, every=0.03))
    refused = [record for record in caplog.records if record.__dict__.get("action") == "refused"]
    assert refused == []


async def test_a_follower_whose_key_is_retired_ends(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself, with the error of its next start."""
    monkeypatch.setattr(watching, "WATCH_SECONDS", 0.02)
    server = LogServer(LABS[0], 10)

    async def retire(witness: WitnessWishes) -> None:
        await until(lambda: server.asked)
        await retire_witness(witness)

    async with served(server), trio.open_nursery() as nursery:
        asked = wishes(folder, [server], every=0.03)
        nursery.start_soon(retire, asked.witness)
        with trio.fail_after(20), pytest.raises(ConfigurationError, match="was retired, and never signs again"):
            await follow_logs(asked)


async def test_a_follower_polls_again_and_again_until_it_is_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Growth is found, a distributor that failed is told with the next poll, the log has a line for each result."""
    server = LogServer(LABS[0], 10)
    distributor = DistributorServer(LABS[0], OURS.verifier)
    distributor.fail(Fault.status(500), times=2)
    caplog.set_level(logging.DEBUG, "mirrorwitness.witness")
    is_done = trio.Event()
    distributor.on_take = lambda note: is_done.set() if note.split(b"\n")[1] == b"700" else server.grow(700)

    async def run(work: Callable[[], Any], *, stop: Callable[[], None]) -> bool:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(work)
            await is_done.wait()
            stop()
        return True

    monkeypatch.setattr(polling, "run_until_signal", run)
    stranger = make_signer_key(LABS[0].origin, bytes(32))
    (folder / "logs").write_text(f"logs/v0\nvkey {stranger.verifier}\n")
    async with served(server, distributor):
        asked = wishes(folder, [server], distributors=(distributor.base,), every=0.02)
        asked = replace(asked, witness=replace(asked.witness, lists=("logs",)))
        with trio.fail_after(10):
            assert await follow_logs(asked, jitter=lambda: 0.5)
    lines = [record.__dict__ for record in caplog.records]
    polled = [line for line in lines if line["msg"] == "log_polled"]
    new = [
        (line["action"], line["before"], line["after"], line["levelname"]) for line in polled if line["reason"] == ""
    ]
    assert [found for found in new if found[0] != "unchanged"] == [
        ("cosigned", 0, 10, "INFO"),
        ("cosigned", 10, 700, "INFO"),
    ]
    assert ("unchanged", 10, 10, "DEBUG") in new
    assert [line["levelname"] for line in lines if line["msg"] == "distributor_failed"] == ["WARNING"] * 2
    assert distributor.taken[distributor_path(LABS[0].origin, OURS.name)].split(b"\n")[1] == b"700"
    assert [line["reason"] for line in lines if line["msg"] == "log_list"] == [contradiction(stranger, LABS[0].keys[0])]


class Scripted:
    """A feeder that does what it is told, in the place of a real one.

    Attributes:
        at: when it was polled, by trio's clock.
        is_disabled: whether it is to be left alone.
    """

    is_disabled = False

    def __init__(self, behave: Callable[[], Any]) -> None:
        self.at: list[float] = []
        self._behave = behave

    async def poll(self) -> Polled:
        self.at.append(trio.current_time())
        await self._behave()
        return self.end(Action.UNCHANGED)

    def end(self, action: Action, text: str = "") -> Polled:
        return Polled("log.example", action, 1, 1, text)


async def follow_for(seconds: float, *feeders: Scripted) -> None:
    """Follow scripted logs for some time, every minute, each with a deadline of a minute."""
    poller = Poller(
        feeders=cast("list[Feeder]", feeders), distributors=[], own=[], deadline=60, told=lambda _text: None
    )
    stop = trio.Event()
    assert repr(poller) == f"<Poller of {len(feeders)} logs, 0 distributors>"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: poller.follow(every=60, stop=stop, jitter=lambda: 0.5))
        await trio.sleep(seconds)
        stop.set()


@pytest.mark.slow
async def test_logs_that_hang_never_take_the_place_of_others(autojump_clock: MockClock) -> None:
    """Of 60 logs 40 hang: the 20 others are polled every minute or so, and those less and less often."""
    start = trio.current_time()
    hanging = [Scripted(trio.sleep_forever) for _ in range(40)]
    quick = [Scripted(trio.lowlevel.checkpoint) for _ in range(20)]
    await follow_for(7200, *hanging, *quick)
    for feeder in quick:
        late = [at - start for at in feeder.at if at - start > 1200]
        gaps = [after - before for before, after in pairwise(late)]
        assert len(gaps) > 30
        assert max(gaps) <= 240
    counts = [len(feeder.at) for feeder in hanging]
    assert 8 <= min(counts) <= max(counts) <= 14


async def test_a_log_that_hangs_does_not_delay_another(autojump_clock: MockClock) -> None:
    """Two logs: one is polled every minute to the second."""
    start = trio.current_time()
    one, other = Scripted(trio.sleep_forever), Scripted(trio.lowlevel.checkpoint)
    await follow_for(601, one, other)
    assert [round(at - start) for at in other.at] == [60 * number for number in range(11)]
    assert [round(at - start) for at in one.at] == [0, 180, 480]


async def test_a_stop_lets_polls_finish(autojump_clock: MockClock) -> None:
    """What is under way is brought to its end, nothing new is begun."""
    start = trio.current_time()

    async def work() -> None:
        await trio.sleep(30)

    feeders = [Scripted(work) for _ in range(20)]
    await follow_for(1, *feeders)
    assert trio.current_time() - start == pytest.approx(30)
    assert [len(feeder.at) for feeder in feeders] == [1] * 16 + [0] * 4


@given(st.floats(1, 1e5), st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_with_failures_up_to_a_limit(every: float, failures: int, jitter: float) -> None:
    """Never under three quarters of what is asked, never over ten minutes and a quarter where less is asked."""
    delay = next_delay(every, failures, jitter)
    assert 0.75 * every <= delay <= 1.25 * max(every, 600)
    assert next_delay(every, 0, jitter) <= delay <= next_delay(every, failures + 1, jitter)
