"""Look-ups on demand: one flight for each version, answers remembered for a minute, failures for a moment."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    StorageUnavailableError,
    UpstreamNotFoundError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb import demand as module
from mirrorwitness.sumdb.claims import Refusal, Refused
from mirrorwitness.sumdb.demand import Demand
from mirrorwitness.sumdb.ingested import Ingested
from tests.fakes.registry import Signer
from tests.unit.sumdb.ingest_world import make_world

if TYPE_CHECKING:
    from trio.testing import MockClock

LEFT, ONE, TWO = PackageName("left"), Version("1.0.0"), Version("2.0.0")
LISTED = frozenset({ONE, TWO})


class FakeIngest:
    """Answers what it is told to, after a second."""

    def __init__(self, *answers: Ingested | Exception) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, str]] = []
        self.in_flight = 0
        self.most = 0

    async def run_version(self, name: PackageName, version: Version) -> Ingested:
        self.calls.append((name, version))
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await trio.sleep(1)
        finally:
            self.in_flight -= 1
        answer = self.answers.pop(0) if self.answers else Ingested(name, listed=LISTED, logged=(version,))
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Ingested(LEFT, listed=LISTED, logged=(ONE,)), ""),
        (Ingested(LEFT, listed=LISTED, known=1), ""),
        (Ingested(LEFT, listed=LISTED, conflicts={ONE: "other"}), ""),
        (Ingested(LEFT, listed=frozenset({TWO})), "the registry has no version 1.0.0 of left"),
        (UpstreamNotFoundError("404"), "the registry has no package left"),
        (ConfigurationError("left is not logged here"), "left is not logged here"),
        (
            Ingested(LEFT, listed=LISTED, refused={ONE: Refused(Refusal.NO_SHA512, "without")}),
            "refused (no-sha512): without",
        ),
        (
            Ingested(
                LEFT,
                listed=LISTED,
                refused={ONE: Refused(Refusal.BYTES, "other bytes")},
                withheld={ONE: IntegrityMismatchError("other bytes")},
            ),
            "refused (bytes): other bytes",
        ),
    ],
)
async def test_why_a_version_is_not_logged(
    answer: Ingested | Exception,
    reason: str,
    autojump_clock: MockClock,
) -> None:
    """Each outcome in words, and remembered for a minute."""
    ingest = FakeIngest(answer)
    demand = Demand(ingest)
    assert await demand.ingest_version(LEFT, ONE) == reason
    await trio.sleep(module.REMEMBERED - 1)
    assert await demand.ingest_version(LEFT, ONE) == reason
    assert len(ingest.calls) == 1
    await trio.sleep(1)
    assert await demand.ingest_version(LEFT, ONE) == ""
    assert len(ingest.calls) == 2


async def test_many_look_ups_of_one_version_are_one_flight(autojump_clock: MockClock) -> None:
    """A hundred clients that ask for two versions cost two questions, at the same time."""
    ingest = FakeIngest()
    demand = Demand(ingest)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(demand.ingest_version, LEFT, (ONE, TWO)[number % 2])
    assert (sorted(ingest.calls), ingest.most) == ([("left", "1.0.0"), ("left", "2.0.0")], 2)
    assert repr(demand) == "<Demand 0 packages in flight, 2 answers remembered>"


async def test_versions_of_one_package_leave_room_for_others(autojump_clock: MockClock) -> None:
    """A hundred of one are brought some at a time, and one of another package does not wait for them."""
    versions = [Version(f"1.0.{number}") for number in range(100)]
    ingest = FakeIngest(*[Ingested(LEFT, listed=frozenset(versions))] * 100)
    demand = Demand(ingest)
    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for version in versions:
            nursery.start_soon(demand.ingest_version, LEFT, version)
        await trio.testing.wait_all_tasks_blocked()
        assert ingest.in_flight == module.AT_ONCE_EACH
        await demand.ingest_version(PackageName("right"), ONE)
        assert trio.current_time() - start == pytest.approx(1)
    assert trio.current_time() - start == pytest.approx(7)


async def test_what_another_version_found_out_is_the_answer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred versions that do not exist, asked for at once, cost as many questions as may be in flight."""
    monkeypatch.setattr(module, "AT_ONCE_EACH", 2)
    ingest = FakeIngest(*[Ingested(LEFT, listed=LISTED)] * 2)
    demand = Demand(ingest)
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(demand.ingest_version, LEFT, Version(f"9.0.{number}"))
    assert len(ingest.calls) == 2


async def test_attack_look_ups_of_made_up_versions(autojump_clock: MockClock) -> None:
    """What the registry lists is remembered: a hundred versions that do not exist cost one question a minute."""
    ingest = FakeIngest(Ingested(LEFT, listed=LISTED, logged=(ONE,)), UpstreamNotFoundError("404"))
    demand = Demand(ingest)
    for name, reason in ((LEFT, "version 9.0.{} of left"), (PackageName("none"), "package none")):
        await demand.ingest_version(name, ONE)
        for number in range(100):
            found = await demand.ingest_version(name, Version(f"9.0.{number}"))
            assert found == f"the registry has no {reason.format(number)}"
    assert ingest.calls == [("left", "1.0.0"), ("none", "1.0.0")]
    assert await demand.ingest_version(LEFT, TWO) == ""
    await trio.sleep(module.REMEMBERED)
    await demand.ingest_version(LEFT, Version("9.0.0"))
    assert len(ingest.calls) == 4


async def test_packages_do_not_wait_for_each_other_up_to_a_limit(
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As many at once as there may be, and memory is bounded."""
    monkeypatch.setattr(module, "AT_ONCE", 3)
    monkeypatch.setattr(module, "MOST_REMEMBERED", 5)
    monkeypatch.setattr(module, "MOST_LISTED", 5)
    ingest = FakeIngest()
    demand = Demand(ingest)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(demand.ingest_version, PackageName(f"p{number}"), ONE)
    assert (ingest.most, len(ingest.calls)) == (3, 10)
    assert repr(demand) == "<Demand 0 packages in flight, 5 answers remembered>"


@pytest.mark.parametrize("is_withheld", [False, True])
async def test_a_registry_that_cannot_be_asked_is_left_alone_for_a_moment(
    autojump_clock: MockClock,
    is_withheld: bool,  # noqa: FBT001
) -> None:
    """Everybody gets the error, nobody asks again at once; then it is tried again."""
    error = UpstreamUnreachableError("no answer")
    ingest = FakeIngest(Ingested(LEFT, listed=LISTED, withheld={ONE: error}) if is_withheld else error)
    demand = Demand(ingest)
    for _ in range(3):
        with pytest.raises(UpstreamUnreachableError, match="no answer"):
            await demand.ingest_version(LEFT, ONE)
    assert len(ingest.calls) == 1
    await trio.sleep(module.FAILED)
    assert await demand.ingest_version(LEFT, ONE) == ""


async def test_an_error_keeps_its_kind(autojump_clock: MockClock) -> None:
    """A refusal of the registry is one for everybody who waited."""
    demand = Demand(FakeIngest(UpstreamRefusedError("status 403", status=403)))
    for _ in range(2):
        with pytest.raises(UpstreamRefusedError, match="403"):
            await demand.ingest_version(LEFT, ONE)


async def test_a_storage_that_fails_is_nobodys_answer(autojump_clock: MockClock) -> None:
    """The next look-up tries again at once."""
    demand = Demand(FakeIngest(StorageUnavailableError("gone")))
    with pytest.raises(StorageUnavailableError):
        await demand.ingest_version(LEFT, ONE)
    assert await demand.ingest_version(LEFT, ONE) == ""


async def test_a_client_that_goes_away_leaves_the_flight_to_the_next(autojump_clock: MockClock) -> None:
    """Cancelled in flight: whoever waited asks for itself."""
    ingest = FakeIngest()
    demand = Demand(ingest)
    answers: list[str] = []

    async def wait() -> None:
        answers.append(await demand.ingest_version(LEFT, ONE))

    async with trio.open_nursery() as nursery:
        with trio.move_on_after(0.5):
            nursery.start_soon(wait)
            await demand.ingest_version(LEFT, ONE)
    assert answers == [""]
    assert repr(demand) == "<Demand 0 packages in flight, 1 answers remembered>"


async def test_one_version_is_logged_on_demand() -> None:
    """Only the one that was asked for; the log has it when the call returns."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    world.sim.publish("left", "2.0.0", signer=Signer())
    async with world.ingesting() as ingest:
        demand = Demand(ingest)
        assert await demand.ingest_version(LEFT, ONE) == ""
        assert await world.events("left") == ["publish 1.0.0"]
        assert await demand.ingest_version(LEFT, Version("3.0.0")) == "the registry has no version 3.0.0 of left"
        assert await demand.ingest_version(PackageName("right"), ONE) == "the registry has no package right"
        assert await Demand(ingest).ingest_version(LEFT, ONE) == ""
    assert await world.events("left") == ["publish 1.0.0"]
