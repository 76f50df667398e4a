"""HostGate: shared pauses, bounded concurrency, pace and counts for each host (P9)."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mirrorwitness.errors import BudgetExhaustedError, ConfigurationError
from mirrorwitness.fetch import HostGate, HostStatistics, origin_of

A = origin_of("https://a.example")
B = origin_of("https://b.example")


async def test_row_17_pause_is_shared_by_everybody_who_wants_the_host(autojump_clock: trio.testing.MockClock) -> None:
    """All requests to a paused host wait; others do not; a shorter pause never ends a longer one."""
    gate = HostGate()
    times: list[tuple[str, float]] = []

    async def one(host: str) -> None:
        async with gate.slot(A if host == "a" else B):
            times.append((host, trio.current_time()))

    gate.pause(A, 60)
    gate.pause(A, 1)
    async with trio.open_nursery() as nursery:
        for host in ("a", "a", "b"):
            nursery.start_soon(one, host)
        await trio.sleep(30)
        gate.pause(A, 90)
    assert sorted(times) == [("a", 120), ("a", 120), ("b", 0)]
    assert gate.failures(A) == 3
    gate.record_success(A)
    assert (gate.failures(A), gate.failures(B)) == (0, 0)


async def test_requests_in_flight_are_bounded_per_host(autojump_clock: trio.testing.MockClock) -> None:
    """At most max_in_flight at once; each host has its own places; statistics say so."""
    gate = HostGate(max_in_flight=2)

    async def one() -> None:
        async with gate.slot(A):
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(one)
        await trio.sleep(1)
        gate.pause(A, 100)
        assert gate.statistics() == {
            A: HostStatistics(requests=2, in_flight=2, waiting=3, pauses=1, paused_for=100),
        }
    assert trio.current_time() == 121  # two at 0, two at 101, one at 111
    assert repr(gate) == "<HostGate 1 hosts, 5 requests>"


async def test_requests_start_no_faster_than_allowed(autojump_clock: trio.testing.MockClock) -> None:
    """With a rate, starts are evenly spaced, also after a quiet time."""
    gate = HostGate(max_rate=2)
    starts: list[float] = []

    async def one() -> None:
        async with gate.slot(A):
            starts.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    await trio.sleep(10)
    await one()
    assert starts == [0, 0.5, 1, 1.5, 11.5]


async def test_waiter_that_is_cancelled_costs_nobody_a_place(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving the line, or a pause, gives the place back."""
    gate = HostGate(max_in_flight=1)
    gate.pause(A, 100)
    for _ in range(2):
        with trio.move_on_after(1):
            async with gate.slot(A):
                raise AssertionError("the host is paused")
    assert gate.statistics()[A].in_flight == 0
    async with gate.slot(A):
        assert trio.current_time() == 100
        with trio.move_on_after(1):
            async with gate.slot(A):
                raise AssertionError("the only place is taken")
        assert gate.statistics()[A].waiting == 0


@pytest.mark.parametrize(("most", "rate"), [(0, None), (1, 0.0), (1, -1.0)])
def test_impossible_options(most: int, rate: float | None) -> None:
    """A gate that lets nobody through is a configuration error."""
    with pytest.raises(ConfigurationError):
        HostGate(max_in_flight=most, max_rate=rate)


class Purse:
    """A budget of so many requests."""

    def __init__(self, left: int) -> None:
        self.left = left

    async def take(self) -> None:
        await trio.lowlevel.checkpoint()
        if not self.left:
            raise BudgetExhaustedError("nothing left")
        self.left -= 1

    def put_back(self) -> None:
        self.left += 1


async def test_p9_every_slot_costs_the_budget_one_request(autojump_clock: trio.testing.MockClock) -> None:
    """But for free hosts, and for those who leave before they sent anything; when it is empty nobody gets a slot."""
    purse = Purse(2)
    gate = HostGate(max_in_flight=1, budget=purse, free=frozenset({B}))
    async with gate.slot(B):
        assert purse.left == 2
    gate.pause(A, 100)
    with trio.move_on_after(1):
        async with gate.slot(A):
            raise AssertionError("the host is paused")
    assert purse.left == 2
    for _ in range(2):
        async with gate.slot(A):
            pass
    with pytest.raises(BudgetExhaustedError):
        async with gate.slot(A):
            raise AssertionError("nothing is left")
    assert (gate.statistics()[A].requests, gate.statistics()[A].in_flight, gate.requests) == (2, 0, 3)


async def test_answers_are_counted_by_class_of_status() -> None:
    """Whoever sent the request says what came; where nobody does, none came."""
    gate = HostGate()
    for status in (200, 204, 404, 503, None):
        async with gate.slot(A) as slot:
            slot.status = status
    assert gate.statistics()[A].answers == {"2xx": 2, "4xx": 1, "5xx": 1, "none": 1}
