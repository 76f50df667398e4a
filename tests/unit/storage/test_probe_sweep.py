"""What a killed check of a storage leaves is removed a day later, and never what a check at work still needs (P8)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import trio

from mirrorwitness.errors import StorageError, StorageUnavailableError
from mirrorwitness.storage import Listing
from mirrorwitness.storage.probe import check_storage
from mirrorwitness.storage.probe_scratch import PROBE_PREFIX
from mirrorwitness.storage.probe_sweep import LEFTOVER_SECONDS, make_token, sweep_leftovers
from mirrorwitness.storage.probe_verdict import Outcome
from tests.fakes.storage import MemoryStorage

NOW = datetime(2026, 11, 24, 10, 30, tzinfo=UTC)
LONG_AGO = NOW - timedelta(seconds=LEFTOVER_SECONDS + 1)
RANDOM = "0123456789abcdef"
OTHERS = {"npm/x/packument.json": b"{}", "state/probe.json": b"{}", "state/run/last.json": b"{}"}


def corner(began: datetime, name: str) -> str:
    return f"{PROBE_PREFIX}{make_token(began, RANDOM)}/{name}"


async def killed_check(storage: MemoryStorage, *, began: datetime) -> None:
    """Make a short check that is killed before it removes anything."""
    storage.fail_before("delete", "*", StorageUnavailableError("killed"), times=100)
    await check_storage(storage, short=True, now=lambda: began)
    storage._faults.clear()


async def test_p8_what_a_killed_check_left_is_removed_a_day_later() -> None:
    """Everything of a check that began more than a day ago goes, and nothing else."""
    storage = MemoryStorage(OTHERS)
    await killed_check(storage, began=LONG_AGO)
    left = len(storage.objects) - len(OTHERS)
    assert left >= 2
    assert await sweep_leftovers(storage, now=NOW) == left
    assert storage.objects == OTHERS


@pytest.mark.parametrize("age", [timedelta(0), timedelta(hours=2), timedelta(hours=24), timedelta(days=-400)])
async def test_a_check_of_today_or_of_a_clock_ahead_is_left_alone(age: timedelta) -> None:
    """What is a day old or younger, or from a time to come, may belong to a check at work."""
    storage = MemoryStorage({corner(NOW - age, "first"): b"x"})
    assert await sweep_leftovers(storage, now=NOW) == 0
    assert list(storage.objects) == [corner(NOW - age, "first")]


@pytest.mark.parametrize(
    "name", ["0849e78599b433c2/first", "20260230-000000-0123456789abcdef/first", "20200101-000000/first", "first"]
)
async def test_what_does_not_say_when_it_began_is_left_alone(name: str) -> None:
    """Names that no check of ours makes are somebody else's."""
    storage = MemoryStorage({PROBE_PREFIX + name: b"x"})
    assert await sweep_leftovers(storage, now=NOW) == 0
    assert list(storage.objects) == [PROBE_PREFIX + name]


async def test_a_sweep_with_nothing_to_remove_is_one_request() -> None:
    """Every sync pays for it."""
    storage = MemoryStorage(OTHERS)
    await sweep_leftovers(storage, now=NOW)
    assert [(call.operation, call.key) for call in storage.operations] == [("list", PROBE_PREFIX)]


async def test_a_sweep_reads_every_page() -> None:
    """Leftovers behind the first thousand objects are found."""
    names = [f"{number:04}" for number in range(1500)]
    storage = MemoryStorage({corner(LONG_AGO, name): b"x" for name in names})
    assert await sweep_leftovers(storage, now=NOW) == 1500
    assert storage.objects == {}


async def test_a_sweep_ends_where_listings_do_not() -> None:
    """A service whose pages lead round in a circle is left to `store-check`."""

    class Endless(MemoryStorage):
        async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:  # noqa: ARG002
            page = await super().list(prefix, limit=limit)
            return Listing(page.objects, more_after=PROBE_PREFIX)

    storage = Endless({corner(NOW, "first"): b"x"})
    assert await sweep_leftovers(storage, now=NOW) == 0


async def test_p8_a_sweep_that_failed_goes_on_next_time() -> None:
    """An error leaves what it leaves; the next sweep removes the rest."""
    storage = MemoryStorage({corner(LONG_AGO, name): b"x" for name in ("a", "b", "c")})
    storage.fail_before("delete", "*/b", StorageUnavailableError("503"))
    with pytest.raises(StorageError):
        await sweep_leftovers(storage, now=NOW)
    assert await sweep_leftovers(storage, now=NOW) == 2
    assert storage.objects == {}


async def test_checks_and_sweeps_at_the_same_time_do_not_disturb_each_other() -> None:
    """Two checks beside a sweep in a loop: every promise is found kept, and nothing is left, of others neither."""
    storage = MemoryStorage({corner(LONG_AGO, name): b"x" for name in ("first", "race/0")})
    outcomes: list[Outcome] = []

    async def check() -> None:
        report = await check_storage(storage, short=True, now=lambda: NOW)
        outcomes.extend(finding.outcome for finding in report.findings)

    async with trio.open_nursery() as sweeping:
        sweeping.start_soon(_sweep_for_ever, storage)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(check)
            nursery.start_soon(check)
        sweeping.cancel_scope.cancel()
    assert set(outcomes) == {Outcome.HOLDS}
    assert storage.objects == {}


async def _sweep_for_ever(storage: MemoryStorage) -> None:
    while True:
        await sweep_leftovers(storage, now=NOW)


async def test_the_long_check_sweeps_too() -> None:
    """A storage that no mirror lives in is swept by `store-check`, and the leftovers are not held against it."""
    storage = MemoryStorage({corner(LONG_AGO, "first"): b"x"})
    report = await check_storage(storage, short=False, now=lambda: NOW)
    assert {finding.outcome for finding in report.findings} == {Outcome.HOLDS}
    assert storage.objects == {}


async def test_a_sweep_that_fails_is_no_finding() -> None:
    """What another check left says nothing about what the storage promises."""
    storage = MemoryStorage({corner(LONG_AGO, "first"): b"x"})
    storage.fail_before("delete", corner(LONG_AGO, "first"), StorageUnavailableError("503"))
    report = await check_storage(storage, short=False, now=lambda: NOW)
    assert {finding.outcome for finding in report.findings} == {Outcome.HOLDS}
    assert list(storage.objects) == [corner(LONG_AGO, "first")]
