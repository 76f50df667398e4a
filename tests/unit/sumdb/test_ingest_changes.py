"""A registry that changes: what it withdraws, the keys it signs with, and what a kill or a cancellation leaves."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    PreconditionFailedError,
    SignatureError,
    StorageUnavailableError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamStaleError,
)
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.registry import Registry
from mirrorwitness.npm.signatures import format_keys, parse_keys
from mirrorwitness.sumdb.claims import Refusal
from mirrorwitness.sumdb.ingested import Ingested, Seen
from mirrorwitness.sumdb.paths import index_key, refused_key, registry_keys_key
from mirrorwitness.sumdb.records import Event
from mirrorwitness.sumdb.refusals import read_refusals
from mirrorwitness.sumdb.registry_keys import ASK_AGAIN, RegistryKeys
from tests.fakes.registry import Fault, Signer
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.direct import DirectFetcher
from tests.unit.sumdb.ingest_world import make_world

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.fakes.storage import Operation
    from tests.unit.sumdb.ingest_world import World

LEFT = PackageName("left")
ONE, TWO = Version("1.0.0"), Version("2.0.0")


def refusals(found: Ingested) -> dict[Version, Refusal]:
    return {version: refused.kind for version, refused in found.refused.items()}


# ---- withdrawals


async def test_an_unpublished_version_is_an_event() -> None:
    """The document knows of it and does not list it; the record repeats what was published."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    await world.run("left")
    world.sim.unpublish("left", "1.0.0")
    found = await world.run("left")
    assert (found.events, found.is_complete) == ((ONE,), True)
    first, _, gone = await world.records("left")
    assert (gone.event, gone.integrity, gone.version) == (Event.UNPUBLISH, first.integrity, ONE)
    assert (await world.run("left")).events == ()


async def test_a_version_that_comes_back_is_published_again() -> None:
    """The same bytes are looked at again and logged; other bytes are a conflict, also after they were away."""
    world = await make_world()
    files = {"index.js": b"same"}
    world.sim.publish("left", "1.0.0", files=files)
    await world.run("left")
    world.sim.unpublish("left")
    await world.run("left")
    world.sim.publish("left", "1.0.0", files=files)
    await world.run("left")
    assert await world.events("left") == ["publish 1.0.0", "unpublish 1.0.0", "publish 1.0.0"]
    world.sim.unpublish("left")
    await world.run("left")
    world.sim.publish("left", "1.0.0", files={"index.js": b"other"})
    await world.run("left")
    assert (await world.events("left"))[3:] == ["unpublish 1.0.0", "conflict 1.0.0"]


async def test_security_hold_has_the_last_word() -> None:
    """It is logged of all versions, also of those that were unpublished before; the placeholder is a version too."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    await world.run("left")
    world.sim.unpublish("left", "1.0.0")
    await world.run("left")
    world.sim.replace_by_holder("left")
    await world.run("left")
    assert (await world.events("left"))[2:] == [
        "unpublish 1.0.0",
        "publish 0.0.1-security",
        "security-hold 1.0.0",
        "security-hold 2.0.0",
    ]


async def test_a_version_that_the_document_never_heard_of_is_waited_for() -> None:
    """An older document without revisions is no withdrawal; one that stays so for long enough is."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    await world.run("left")
    document = world.sim.packument("left")
    for part in (document["versions"], document["time"]):
        del part["2.0.0"]
    del document["_rev"]
    world.sim.set_packument("left", json.dumps(document).encode())
    found = await world.run("left")
    assert (found.waiting, found.events, found.is_complete) == ((TWO,), (), False)
    world.waited = timedelta(minutes=59)
    assert (await world.run("left")).waiting == (TWO,)
    world.waited = timedelta(minutes=61)
    assert (await world.run("left")).events == (TWO,)
    assert await world.storage.stat(refused_key(LEFT)) is None


async def test_a_version_that_shows_again_in_time_was_never_away() -> None:
    """What was missing from one edge's document is forgotten, and the waiting begins anew the next time."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    await world.run("left")
    whole = world.sim.packument("left")
    del whole["_rev"]
    lacking = json.loads(json.dumps(whole))
    for part in (lacking["versions"], lacking["time"]):
        del part["1.0.0"]
    world.sim.set_packument("left", json.dumps(lacking).encode())
    await world.run("left")
    world.waited = timedelta(minutes=30)
    world.sim.set_packument("left", json.dumps(whole).encode())
    assert (await world.run("left")).waiting == ()
    world.waited = timedelta(minutes=90)
    world.sim.set_packument("left", json.dumps(lacking).encode())
    assert (await world.run("left")).waiting == (ONE,)
    assert await world.events("left") == ["publish 1.0.0"]


async def test_attack_an_older_document_is_refused() -> None:
    """A cache that goes back in time unpublishes nothing."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    first = await world.run("left")
    world.sim.publish("left", "2.0.0")
    second = await world.run("left", first.seen)
    world.sim.serve_older("left", revisions=1)
    with pytest.raises(UpstreamStaleError, match="older than"):
        await world.run("left", Seen(rev=second.seen.rev))
    assert await world.events("left") == ["publish 1.0.0", "publish 2.0.0"]


async def test_a_deleted_package_is_unpublished_where_that_was_confirmed() -> None:
    """A 404 alone says nothing; the caller's confirmation is an event for each version, once."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    await world.run("left")
    world.sim.remove("left")
    with pytest.raises(UpstreamNotFoundError):
        await world.run("left")
    async with world.ingesting() as ingest:
        assert (await ingest.withdraw(LEFT)).events == (ONE,)
        assert (await ingest.withdraw(LEFT)).events == ()
    assert await world.events("left") == ["publish 1.0.0", "unpublish 1.0.0"]


# ---- keys


async def test_a_new_key_of_the_registry_is_asked_for() -> None:
    """A version that is signed with a key that was published since the last run is logged."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    await world.run("left")
    world.sim.publish("left", "2.0.0", signer=Signer(2))
    assert (await world.run("left")).logged == (TWO,)


async def test_keys_are_never_forgotten() -> None:
    """A registry that drops a key does not make what was signed with it unknown."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    await world.run("left")
    world.sim.keys = None
    world.sim.publish("left", "2.0.0", signer=Signer())
    world.sim.keys = None
    assert (await world.run("left")).logged == (TWO,)


async def test_keys_that_cannot_be_read_are_no_judgement(autojump_clock: MockClock) -> None:
    """A signed version waits until its key can be asked for."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    world.sim.fail("/-/npm/v1/keys", Fault.status(503, retry_after="0"), times=None)
    found = await world.run("left")
    assert (list(found.withheld), found.refused) == ([ONE], {})
    world.sim.heal()
    assert (await world.run("left")).logged == (ONE,)


async def test_attack_other_bytes_under_a_known_keyid_end_the_run() -> None:
    """Somebody replaced the registry's keys: nothing of the package is judged."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    await world.run("left")
    world.sim.keys = [Signer(2).key() | {"keyid": Signer().keyid}]
    world.sim.publish("left", "2.0.0", signer=Signer(3))
    world.sim.keys = [Signer(2).key() | {"keyid": Signer().keyid}]
    with pytest.raises(SignatureError, match="was the key"):
        await world.run("left")


async def test_a_package_full_of_unknown_keys_costs_one_question(autojump_clock: MockClock) -> None:
    """Whoever forges keyids cannot make us ask for keys again and again; a minute later they are asked for again."""
    world = await make_world()
    for number in range(5):
        world.sim.publish("left", f"1.0.{number}", signer=Signer(number + 1))
    world.sim.keys = None
    async with world.ingesting() as ingest:
        found = await ingest.run(LEFT)
        assert set(refusals(found).values()) == {Refusal.UNKNOWN_KEY}
        assert sum(request.target == "/-/npm/v1/keys" for request in world.sim.requests) == 1
        world.sim.keys = [Signer(number + 1).key() for number in range(5)]
        await trio.sleep(ASK_AGAIN)
        assert len((await ingest.run(LEFT)).logged) == 5


async def test_two_that_keep_keys_of_one_registry_keep_all() -> None:
    """A swap that was lost is tried again with what the other one wrote."""
    world = await make_world()
    world.sim.publish("left", "1.0.0", signer=Signer())
    other = format_keys(parse_keys(json.dumps({"keys": [Signer(2).key()]}).encode()))
    key = registry_keys_key("registry.example")
    client = Registry(base=world.sim.base, fetcher=DirectFetcher(world.sim))
    keys = RegistryKeys(storage=world.storage, registry=client, prefix="registry.example")
    assert (await keys.find([])).keys == ()
    world.storage.set_bytes(key, other)
    ring = await keys.find([Signer().keyid])
    assert [found.keyid for found in ring.keys] == [Signer(2).keyid, Signer().keyid]
    assert "2" in repr(keys)
    world.storage.fail_before("put", key, PreconditionFailedError("somebody was first"))
    world.sim.keys = [Signer(3).key()]
    again = RegistryKeys(storage=world.storage, registry=client, prefix="registry.example")
    assert repr(again) == "<RegistryKeys of http://registry.example, not read>"
    assert len((await again.find([Signer(3).keyid])).keys) == 3


# ---- the log


async def test_what_another_one_logged_meanwhile_is_known() -> None:
    """A look-up on demand and a feed may bring one version at one time: it is logged once."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    async with world.ingesting() as ingest, trio.open_nursery() as nursery:
        nursery.start_soon(ingest.run, LEFT)
        nursery.start_soon(ingest.run_version, LEFT, ONE)
    assert await world.events("left") == ["publish 1.0.0"]


async def test_an_index_that_leads_to_another_record_is_damaged() -> None:
    """Nothing is logged on its word."""
    world = await make_world()
    world.sim.publish("left", "1.0.0")
    world.sim.publish("left", "2.0.0")
    await world.run("left")
    body, _ = await world.storage.read(index_key(LEFT), limit=10**6)
    first, second = body.split(b"\n")[1:3]
    swapped = body.replace(first, b"0" + second[1:]).replace(second, b"1" + first[1:])
    world.storage.set_bytes(index_key(LEFT), swapped)
    world.sim.unpublish("left", "1.0.0")
    with pytest.raises(
        UpstreamProtocolError, match=r"calls leaf 1 a record of 1\.0\.0, and it is publish of left@2\.0\.0"
    ):
        await world.run("left")


async def test_what_is_shown_of_the_parts() -> None:
    """One line each, for logs and debuggers."""
    world = await make_world()
    async with world.ingesting() as ingest:
        assert repr(ingest) == "<Ingest from registry.example>"
        assert repr(ingest._examiner) == "<Examiner <Tarballs 0 in work, <MemoryBudget 0 of 33554432 bytes taken>>>"
        assert repr(ingest._logged).startswith("<Logged <Log 'log.example/npm'")


# ---- faults


async def _try_all(world: World) -> None:
    world.sim.publish("left", "1.0.0", signer=Signer())
    world.sim.publish("left", "2.0.0", dist={"integrity": None})


class CancellingStorage(MemoryStorage):
    """Cancels whoever works when an operation begins, or has just taken effect."""

    def __init__(self) -> None:
        super().__init__()
        self.scope: trio.CancelScope | None = None
        self.steps = 0

    def _fail(self, operation: Operation, key: str, *, after: bool) -> None:
        super()._fail(operation, key, after=after)
        self.steps -= 1
        if self.scope is not None and self.steps == 0:
            self.scope.cancel()


@pytest.mark.fault
async def test_cancelled_between_any_two_steps_the_next_run_completes() -> None:
    """Wherever it is cancelled: everything once, nothing twice."""
    for step in range(1, 60):
        storage = CancellingStorage()
        world = await make_world(storage=storage)
        await _try_all(world)
        with trio.CancelScope() as storage.scope:
            storage.steps = step
            await world.run("left")
        if not storage.scope.cancelled_caught:
            assert step > 20
            break
        storage.scope = None
        await world.reopen()
        await world.run("left")
        assert await world.events("left") == ["publish 1.0.0"], step


@pytest.mark.fault
@pytest.mark.parametrize("is_after", [False, True])
async def test_killed_between_any_two_steps_the_next_run_completes(is_after: bool) -> None:  # noqa: FBT001
    """Whatever operation of the storage fails, before or after it took effect: everything once, nothing twice."""
    clean = await make_world()
    await _try_all(clean)
    before = len(clean.storage.operations)
    await clean.run("left")
    calls = clean.storage.operations[before:]
    for at, call in enumerate(calls):
        if call.operation not in {"put", "delete", "read"}:
            continue
        world = await make_world()
        await _try_all(world)
        plan = world.storage.fail_after if is_after else world.storage.fail_before
        plan(call.operation, call.key, StorageUnavailableError(f"step {at}"))
        try:
            await world.run("left")
        except StorageUnavailableError:
            await world.reopen()
        world.storage.heal()
        await world.run("left")
        assert await world.events("left") == ["publish 1.0.0"], call
        told = await read_refusals(world.storage, LEFT)
        assert told is not None, call
        assert list(told.versions) == ["2.0.0"], call
