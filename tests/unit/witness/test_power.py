"""A machine that loses power (P7): the record is on the disk, what was published may be older, cut or gone.

`MemoryStorage.lose_power` takes back what was written without waiting for the disk. The last test is the hole that is
known.
"""

from __future__ import annotations

import pytest
import trio

from mirrorwitness.errors import RolledBackError, StorageUnavailableError
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.witness import startup
from mirrorwitness.witness.protocol import Reason
from mirrorwitness.witness.records import public_key, record_key
from mirrorwitness.witness.service import Witness
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage, StorageCall
from tests.unit.witness.world import LOG, OTHER, OURS, START, Log, MeddledStorage, World, cosign, grow

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)
FORK = LOG.fork(12)
"""A log that differs behind size 10, and before 20, where the witness was."""


THIRD = Log(make_signer_key("log.example/c", bytes([14] * 32)))


async def make_world(*, has_anchor: bool = False, settled: bool = False) -> World:
    """Return a world that was at 10 and is at 20; the disk has neither publication, or (`settled`) the first."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    witness = await world.start()
    await grow(witness, 10)
    if settled:
        world.storage.settle()
    await grow(witness, 20, old=10)
    return world


async def pass_over(_: object) -> None:
    """Take what is told of a fork."""
    await trio.lowlevel.checkpoint()


async def publish_again(world: World) -> None:
    """Do what a server does first."""
    await WitnessState(storage=world.storage, anchor=None, own=[OURS.verifier]).publish_again(LOG.origin)


@pytest.mark.parametrize("cut", [None, 0, 1, 40, 200])
@pytest.mark.parametrize("settled", [False, True])
async def test_what_the_power_took_is_published_again(settled: bool, cut: int | None) -> None:  # noqa: FBT001
    """Older, gone or cut: a server makes it good, durably, and goes on from what it signed, never from before."""
    world = await make_world(settled=settled)
    newest = world.storage.objects[SHOWN]
    assert world.storage.lose_power(cut=cut) == [SHOWN]
    assert world.storage.objects.get(SHOWN) != newest
    witness = await world.start()
    await publish_again(world)
    assert world.storage.objects[SHOWN] == newest
    assert world.storage.lose_power() == []
    assert (await witness.add_checkpoint(FORK.request(10, 25))).reason is Reason.STALE
    await grow(witness, 25, old=20)


@pytest.mark.parametrize("cut", [None, 0, 40])
async def test_without_being_published_again_the_next_cosignature_makes_it_good(cut: int | None) -> None:
    """As of a log that is one of too many to be looked at first."""
    world = await make_world(settled=True)
    world.storage.lose_power(cut=cut)
    await grow(await world.start(), 25, old=20)
    assert world.published_sizes() == [25]


async def test_zeros_instead_of_bytes() -> None:
    """A file that has its length and not all of its bytes."""
    world = await make_world()
    newest = world.storage.objects[SHOWN]
    for cut in (0, 60):
        world.storage.set_bytes(SHOWN, newest[:cut] + bytes(len(newest) - cut))
        await publish_again(world)
        assert world.storage.objects[SHOWN] == newest


async def test_a_rollback_after_the_power_came_back_is_noticed() -> None:
    """What was published again is the anchor that it was before."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    copy = world.copy("state/")
    await grow(witness, 20, old=10)
    world.storage.lose_power()
    await publish_again(world)
    world.restore(copy, "state/")
    with pytest.raises(RolledBackError, match=r"has our cosignature on log\.example/a at 20"):
        await world.start()


async def test_a_cut_checkpoint_proves_no_state() -> None:
    """Without the record nobody can say what it was the beginning of: refused, as before."""
    world = await make_world()
    world.storage.remove(RECORD)
    for body in (b"", bytes(100), world.storage.objects[SHOWN][:40]):
        world.storage.set_bytes(SHOWN, body)
        with pytest.raises(RolledBackError):
            await WitnessState(storage=world.storage, anchor=None, own=[OURS.verifier]).find(LOG.origin)


async def test_damage_that_no_power_does_is_refused() -> None:
    """The beginning of another checkpoint, or bytes that were changed: the record may be the one that is too old."""
    world = await make_world()
    newest = world.storage.objects[SHOWN]
    await grow(await world.start(), 25, old=20)
    for body in (newest[:-40], newest.replace(b"log", b"lag"), b"x"):
        world.storage.set_bytes(SHOWN, body)
        with pytest.raises(RolledBackError, match="is damaged"):
            await world.start()


async def test_an_anchor_is_never_cut() -> None:
    """It is written durably, and so is what is published beside it: no power takes either, and damage is refused."""
    world = await make_world(has_anchor=True)
    assert world.anchor is not None
    assert (world.storage.lose_power(), world.anchor.lose_power()) == ([], [])
    world.anchor.set_bytes(SHOWN, b"")
    with pytest.raises(RolledBackError, match=r"the anchor: what is published for .* is damaged"):
        await world.start()


async def test_nothing_is_published_again_where_nothing_is_missing() -> None:
    """Nor where nothing was ever cosigned, nor twice."""
    world = World()
    await publish_again(world)
    assert world.storage.objects == {}
    world = await make_world()
    state = WitnessState(storage=world.storage, anchor=None, own=[OURS.verifier])
    world.storage.lose_power()
    world.storage.operations.clear()
    for _ in range(2):
        await state.publish_again(LOG.origin)
    reads = [StorageCall("read", SHOWN), StorageCall("read", RECORD)]
    assert world.storage.operations == [*reads, StorageCall("put", SHOWN)]


async def test_what_another_replica_publishes_meanwhile_stays() -> None:
    """Of two that start at once the slower one finds it done; what is newer is not replaced."""
    world = await make_world()
    storage = MeddledStorage(world.storage.objects)
    storage.set_bytes(SHOWN, b"")
    world.storage = storage
    other = await world.start()

    async def go_on() -> None:
        await grow(other, 30, old=20)

    storage.before("put", SHOWN, go_on)
    await publish_again(world)
    assert world.published_sizes() == [30]


async def test_a_publication_that_fails_again_is_told() -> None:
    """The server does not begin; nothing is lost."""
    world = await make_world()
    world.storage.lose_power()
    world.storage.fail_before("put", SHOWN, StorageUnavailableError("no answer"))
    with pytest.raises(StorageUnavailableError):
        await publish_again(world)
    await publish_again(world)
    assert world.published_sizes() == [20]


async def test_a_server_looks_at_all_its_logs(caplog: pytest.LogCaptureFixture) -> None:
    """One that fails, or is behind, is logged and keeps no other one from being published; none is kept in memory."""
    world = World(logs=(LOG, OTHER, THIRD))
    witness = await world.start()
    for log in (LOG, OTHER, THIRD):
        await grow(witness, 10, log=log)
    world.storage.lose_power()
    world.storage.fail_before("read", SHOWN, StorageUnavailableError("no answer"))
    world.storage.remove(record_key(OTHER.origin))
    world.storage.set_bytes(public_key(OTHER.origin), OTHER.note(10, more=[cosign(OURS, OTHER.tree(10).text, START)]))
    state = WitnessState(storage=world.storage, anchor=None, own=[OURS.verifier])
    witness = Witness(
        logs=world.known(),
        state=state,
        signers=[],
        own=[OURS.verifier],
        now=world.clock,
        rates=world.rates,
        on_fork=pass_over,
    )
    await startup.publish_again(witness)
    assert public_key(THIRD.origin) in world.storage.objects
    assert SHOWN not in world.storage.objects
    assert [(item.message, vars(item)["origin"]) for item in caplog.records] == [
        ("witness_storage", LOG.origin),
        ("witness_rolled_back", OTHER.origin),
    ]
    assert not any(state.is_known(log.origin) for log in (LOG, OTHER, THIRD))
    await startup.publish_again(witness)
    assert world.published_sizes() == [10, 10, 10]


@pytest.mark.parametrize("age", [1, 86400])
async def test_known_hole_power_lost_and_the_state_restored_before_anything_ran(age: float) -> None:
    """From a copy, however old, that lacks only what the disk had not, and without an anchor: a fork is signed."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    world.storage.settle()
    copy = world.copy("state/")
    world.clock.at += age
    await grow(witness, 20, old=10)
    world.storage.lose_power()
    world.restore(copy, "state/")
    answer = await (await world.start()).add_checkpoint(FORK.request(10, 25))
    assert answer.status == 200
    assert parse_checkpoint(parse_note(world.storage.objects[SHOWN]).text) == FORK.tree(25)
