"""How often logs may ask: bursts, refills, and clocks that step."""

from __future__ import annotations

from mirrorwitness.witness.rates import Rates


def test_a_burst_and_then_the_rate() -> None:
    """As many at once as the burst, then one each time that it takes; what is refused costs nothing."""
    rates = Rates(per_second=2, burst=3)
    assert [rates.take("a", 100.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("a", 100.25) == 0.25
    assert rates.take("a", 100.5) == 0.0
    assert rates.take("a", 100.5) == 0.5
    assert [rates.take("a", 1000.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert repr(rates) == "<Rates 2/s, 1 logs>"


def test_logs_do_not_share() -> None:
    """One that asks all the time takes nothing from the others."""
    rates = Rates(per_second=1, burst=1)
    assert rates.take("a", 0.0) == 0.0
    assert rates.take("a", 0.0) == 1.0
    assert rates.take("b", 0.0) == 0.0


def test_no_limit() -> None:
    """0 is none, and nothing is remembered."""
    rates = Rates(per_second=0)
    assert {rates.take("a", 0.0) for _ in range(1000)} == {0.0}
    assert repr(rates) == "<Rates 0/s, 0 logs>"


def test_a_burst_is_at_least_one_request() -> None:
    """Else nothing would ever pass."""
    assert Rates(per_second=0.001, burst=0).take("a", 0.0) == 0.0


def test_a_clock_that_steps_back_gives_nothing_and_takes_nothing() -> None:
    """An hour back: the same tokens, and from there on the rate."""
    rates = Rates(per_second=1, burst=2)
    assert [rates.take("a", 5000.0) for _ in range(3)] == [0.0, 0.0, 1.0]
    assert rates.take("a", 1400.0) == 1.0
    assert rates.take("a", 1401.0) == 0.0
