"""A tarball that rotted while it was in no document is not named when its version is wanted again (P1, P2)."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ExitCode, StorageUnavailableError
from mirrorwitness.mirror.result import Status
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import Mirror, make_mirror


async def unserved() -> Mirror:
    """Return a mirror that holds 2.0.0 and was told to serve only 1.0.0 since."""
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    sim.publish("left", "2.0.0")
    mirror = make_mirror(sim, rules=["left"])
    await mirror.sync_well()
    mirror.rules = ["left@1"]
    await mirror.sync_well()
    assert mirror.served("left") == ["1.0.0"]
    mirror.rules = ["left"]
    return mirror


async def test_sound_bytes_that_come_back_are_read_and_not_downloaded() -> None:
    """One read of the storage, no request for a tarball."""
    mirror = await unserved()
    before = len(mirror.sims[0].requests)
    await mirror.sync_well()
    assert mirror.served("left") == ["1.0.0", "2.0.0"]
    assert [each.target for each in mirror.sims[0].requests[before:] if "/-/left" in each.target] == []
    assert mirror.storage.keys_of("open").count(mirror.tarball_key("left", "2.0.0")) >= 1


@pytest.mark.parametrize("body", [b"rotten", None])
@pytest.mark.parametrize("is_repair", [False, True])
async def test_p1_bytes_that_rotted_unseen_are_fetched_again(body: bytes | None, is_repair: bool) -> None:  # noqa: FBT001
    """No document names them in between, and they become the first bytes again."""
    mirror = await unserved()
    key = mirror.tarball_key("left", "2.0.0")
    first = mirror.storage.objects[key]
    mirror.storage.remove(key)
    if body is not None:
        mirror.storage.set_bytes(key, body)
    if is_repair:
        assert (await mirror.repair("left")).status is Status.UPDATED
    await mirror.sync_well()
    assert mirror.served("left") == ["1.0.0", "2.0.0"]
    assert mirror.storage.objects[key] == first


async def test_p2_bytes_that_rotted_unseen_and_are_lost_upstream_are_withheld() -> None:
    """The version stays out of the documents and is owed."""
    mirror = await unserved()
    mirror.storage.set_bytes(mirror.tarball_key("left", "2.0.0"), b"rotten")
    mirror.sims[0].fail("/left/-/left-2.0.0.tgz", Fault.status(404), times=None)
    assert (await mirror.sync()).exit_code() is ExitCode.PARTIAL
    assert mirror.served("left") == ["1.0.0"]
    check_invariants(mirror.storage.objects, damaged=[mirror.tarball_key("left", "2.0.0")])
    mirror.sims[0].heal()
    await mirror.sync_well()
    assert mirror.served("left") == ["1.0.0", "2.0.0"]


async def test_a_storage_that_fails_then_leaves_the_package_unfinished() -> None:
    """An unknown outcome is no rot: nothing is fetched or changed."""
    mirror = await unserved()
    before = mirror.document("left")
    mirror.storage.fail_before("open", mirror.tarball_key("left", "2.0.0"), StorageUnavailableError("503"))
    assert (await mirror.sync()).exit_code() is ExitCode.PARTIAL
    assert mirror.document("left") == before
    await mirror.sync_well()
