"""Every storage operation of a run fails once, before and after it took effect (P1, P2, P3; rules 37 and 47)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from mirrorwitness.errors import ExitCode, StorageError, StorageRefusedError, StorageUnavailableError
from mirrorwitness.mirror.catalogue import Catalogue
from tests.fault.invariants import check_invariants
from tests.fault.scenarios import first_run, public_part, update_run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tests.fakes.storage import StorageCall
    from tests.unit.mirror.builder import Mirror

    Scenario = Callable[[], Awaitable[tuple[Mirror, set[bytes]]]]

pytestmark = [pytest.mark.fault, pytest.mark.slow]

SCENARIOS: dict[str, Scenario] = {"first": first_run, "update": update_run}


async def list_operations(scenario: Scenario) -> tuple[list[StorageCall], dict[str, bytes]]:
    """Return the operations of a clean run, each once, and what it leaves for clients."""
    mirror, _ = await scenario()
    before = len(mirror.storage.operations)
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.COMPLETE
    return list(dict.fromkeys(mirror.storage.operations[before:])), public_part(mirror)


async def run_anyhow(mirror: Mirror) -> ExitCode | None:
    """Run; return what it exits with, or None where the storage's error ended the whole run."""
    try:
        return (await mirror.sync()).exit_code()
    except StorageError:
        return None
    finally:
        mirror.storage._faults.clear()  # one that never fired (a read of nothing cannot fail after it took effect)


async def check_recovery(mirror: Mirror, expected: dict[str, bytes], published: set[bytes]) -> None:
    """The next run completes, the audit finds nothing, no note is left, and clients see what a clean run gives."""
    check_invariants(mirror.storage.objects, published=published)
    await mirror.sync_well()
    await mirror.sync_well()
    check_invariants(mirror.storage.objects, published=published)
    assert public_part(mirror) == expected
    assert await notes(mirror) == []


async def notes(mirror: Mirror) -> Iterable[object]:
    found, _ = await Catalogue(mirror.storage).unfinished_page()
    return found


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("kind", [StorageUnavailableError, StorageRefusedError])
@pytest.mark.parametrize("name", SCENARIOS)
async def test_p2_each_storage_operation_fails_once(
    name: str, kind: type[StorageError], when: Literal["before", "after"]
) -> None:
    """After each failure the mirror is consistent, exit 0 is never a lie, and the next run completes."""
    operations, expected = await list_operations(SCENARIOS[name])
    assert len(operations) >= 20
    for call in operations:
        mirror, published = await SCENARIOS[name]()
        plan = mirror.storage.fail_before if when == "before" else mirror.storage.fail_after
        plan(call.operation, call.key, kind(f"{call.operation} {call.key}: injected"))
        code = await run_anyhow(mirror)
        check_invariants(mirror.storage.objects, published=published)
        if code is ExitCode.COMPLETE:
            assert public_part(mirror) == expected, call
            assert await mirror.audit() == [], call
        else:
            assert code in {None, ExitCode.PARTIAL}, call
        await check_recovery(mirror, expected, published)


@pytest.mark.parametrize("name", SCENARIOS)
@pytest.mark.parametrize("operation", ["put", "delete", "read", "list", "open"])
async def test_p2_everything_of_one_kind_fails_for_a_while(name: str, operation: str) -> None:
    """A storage that answers no put (delete, ...) at all during one run leaves a consistent mirror."""
    _, expected = await list_operations(SCENARIOS[name])
    for when in ("fail_before", "fail_after"):
        mirror, published = await SCENARIOS[name]()
        broken = mirror.storage.objects
        getattr(mirror.storage, when)(operation, "*", StorageUnavailableError("injected"), times=10**6)
        code = await run_anyhow(mirror)
        assert code in {None, ExitCode.PARTIAL, ExitCode.COMPLETE}
        if when == "fail_before" and operation == "put":
            assert mirror.storage.objects == broken
        await check_recovery(mirror, expected, published)


@pytest.mark.parametrize("when", ["fail_before", "fail_after"])
async def test_p1_each_operation_of_a_repair_fails_once(when: str) -> None:
    """A repair that failed anywhere can be repeated, and then nothing is wrong any more."""

    async def damaged() -> tuple[Mirror, set[bytes]]:
        mirror, published = await first_run()
        await mirror.sync_well()
        mirror.storage.set_bytes(mirror.tarball_key("left", "1.0.0"), b"rotten")
        mirror.storage.remove(mirror.tarball_key("left", "1.1.0"))
        return mirror, published

    mirror, _ = await damaged()
    before = len(mirror.storage.operations)
    await mirror.repair("left", "1.0.0", "1.1.0")
    operations = list(dict.fromkeys(mirror.storage.operations[before:]))
    expected = public_part(mirror)
    for call in operations:
        mirror, published = await damaged()
        getattr(mirror.storage, when)(call.operation, call.key, StorageUnavailableError("injected"))
        try:
            await mirror.repair("left", "1.0.0", "1.1.0")
        except StorageError:
            assert await mirror.audit() != [] or public_part(mirror) == expected
        found = await mirror.audit()
        versions = [finding.version for finding in found if finding.version is not None]
        await mirror.repair("left", *versions)
        await check_recovery(mirror, expected, published)


async def test_p3_a_storage_that_is_full_in_mid_run_stops_it_with_a_message() -> None:
    """Exit 3, the error is kept for the operator, no further package is asked for, what is there is consistent."""
    mirror, published = await first_run()
    mirror.workers = 1
    full = StorageRefusedError("npm/left/-/left-1.0.0.tgz: No space left on device")
    mirror.storage.fail_before("put", "npm/*", full, times=10**6)
    summary = await mirror.sync()
    assert (summary.exit_code(), summary.fatal) == (ExitCode.PARTIAL, full)
    assert [request.target for request in mirror.sims[0].requests if "%2f" in request.target] == []
    mirror.storage._faults.clear()
    check_invariants(mirror.storage.objects, published=published)
    await mirror.sync_well()


async def test_p3_credentials_that_expire_in_mid_run_stop_it_with_a_message() -> None:
    """Everything is refused from some operation on: exit 3, the first package stays whole, the next run completes."""
    mirror, published = await first_run()
    mirror.workers = 1
    expired = StorageRefusedError("403 ExpiredToken")
    for operation in ("read", "open", "stat", "put", "list", "delete"):
        mirror.storage.fail_before(operation, "*right*", expired, times=10**6)
        mirror.storage.fail_before(operation, "*Upper*", expired, times=10**6)
    summary = await mirror.sync()
    assert (summary.exit_code(), summary.fatal) == (ExitCode.PARTIAL, expired)
    assert mirror.served("left") == ["1.0.0", "1.1.0"]
    check_invariants(mirror.storage.objects, published=published)
    mirror.storage._faults.clear()
    await mirror.sync_well()
