"""`witness adopt`: going on from a checkpoint that we cosigned, after state was lost, damaged, restored or halted."""

from __future__ import annotations

import msgspec
import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    RolledBackError,
    SignatureError,
    StorageUnavailableError,
    UpstreamProtocolError,
)
from mirrorwitness.tlog.checkpoint import Checkpoint, parse_checkpoint
from mirrorwitness.tlog.note import Signature, parse_note
from mirrorwitness.witness.protocol import Reason
from mirrorwitness.witness.records import LogRecord, public_key, record_key
from mirrorwitness.witness.startup import check_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    NEXT,
    OTHER,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    Log,
    World,
    cosign,
    forge,
    grow,
    make_note,
    read_cosignatures,
    sign,
)

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)
FORK = LOG.fork(6)
GONE = StorageUnavailableError("no answer")


def own(size: int, timestamp: int = START, *, log: Log = LOG, more: tuple[Signature, ...] = ()) -> bytes:
    """Return a checkpoint that we cosigned."""
    return log.note(size, more=[cosign(OURS, log.tree(size).text, timestamp), *more])


async def adopt(world: World, body: bytes) -> Checkpoint:
    """Adopt a checkpoint in a process of its own."""
    keys = await check_identity(world.storage, world.anchor, [key.verifier for key in world.keys])
    state = WitnessState(storage=world.storage, anchor=world.anchor, own=keys)
    return await state.adopt(body, world.known())


async def make_world(*, has_anchor: bool = True) -> World:
    """Return a world that was at 20."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    await grow(await world.start(), 10, 20)
    return world


def record_of(world: World) -> LogRecord:
    """Return the record."""
    return msgspec.json.decode(world.storage.objects[RECORD], type=LogRecord)


@pytest.mark.parametrize("lost", ["gone", "damaged", "older"])
@pytest.mark.parametrize("has_anchor", [True, False])
async def test_a_lost_record_is_adopted(lost: str, has_anchor: bool) -> None:  # noqa: FBT001 - a parameter
    """Gone, damaged, or an older copy: from the newest checkpoint it goes on, in new processes and old ones."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    running = await world.start()
    await grow(running, 10)
    older = world.storage.objects[RECORD]
    await grow(running, 20, old=10)
    newest = world.storage.objects[SHOWN]
    if lost == "gone":
        world.storage.remove(RECORD)
    else:
        world.storage.set_bytes(RECORD, older if lost == "older" else b"nonsense")
    with pytest.raises(RolledBackError):
        await world.start()
    assert await adopt(world, newest) == LOG.tree(20)
    await grow(await world.start(), 21, old=20)
    await grow(running, 22, old=21)


@pytest.mark.parametrize("damage", [b"\n", b"nonsense", b"\xff", b"no checkpoint\n\n\xe2\x80\x94 x AAAAAAAA\n"])
@pytest.mark.parametrize("place", ["storage", "anchor"])
async def test_a_damaged_published_checkpoint_is_replaced(place: str, damage: bytes) -> None:
    """It is refused with the message that names this way out, so this has to be one."""
    world = await make_world()
    newest = world.storage.objects[SHOWN]
    storage: MemoryStorage = getattr(world, place)
    storage.set_bytes(SHOWN, damage)
    with pytest.raises(RolledBackError, match=r"is damaged: .*witness adopt"):
        await world.start()
    await adopt(world, newest)
    assert storage.objects[SHOWN] == newest
    await grow(await world.start(), 21, old=20)


async def test_a_halted_log_goes_on_from_what_halted_it() -> None:
    """And from nothing older than that: neither the state's own checkpoint nor one in between."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    await witness.add_checkpoint(LOG.request(10, 20, more=[cosign(OURS, LOG.tree(20).text, START)]))
    for size in (9, 10, 15):
        with pytest.raises(RolledBackError, match=r"our cosignature on log\.example/a at 20"):
            await adopt(world, own(size))
        assert (await witness.add_checkpoint(LOG.request(10, 11))).reason is Reason.ROLLED_BACK
    await adopt(world, own(20))
    await grow(witness, 21, old=20)
    await grow(await world.start(), 22, old=21)


async def test_a_witness_that_contradicted_itself_has_no_way_but_to_retire() -> None:
    """Our line on another root of the size that we know halted it; adopting what is known does not undo that."""
    world = World()
    witness = await world.start()
    await grow(witness, 20)
    await witness.add_checkpoint(FORK.request(20, 20, more=[cosign(OURS, FORK.tree(20).text, START)]))
    with pytest.raises(RolledBackError, match=r"was halted all the same: .*witness retire"):
        await adopt(world, own(20))
    with pytest.raises(RolledBackError, match="was lost or restored"):
        await adopt(world, own(20, log=FORK))


@pytest.mark.parametrize(("size", "log"), [(19, LOG), (10, LOG), (0, LOG), (20, FORK), (19, FORK)])
async def test_rollback_nothing_older_and_nothing_else_is_adopted(size: int, log: Log) -> None:
    """What is published, or in the anchor, or in the state, is newer or contradicts it."""
    world = await make_world()
    before = world.copy()
    with pytest.raises(RolledBackError):
        await adopt(world, own(size, log=log))
    world.storage.remove(SHOWN)
    with pytest.raises(RolledBackError, match="the anchor has our cosignature"):
        await adopt(world, own(size, log=log))
    assert world.anchor is not None
    world.anchor.remove(SHOWN)
    with pytest.raises(RolledBackError, match="knows of size 20 already; adopt nothing older"):
        await adopt(world, own(size, log=log))
    assert world.storage.objects[RECORD] == before[RECORD]


async def test_a_newer_one_is_adopted() -> None:
    """It is taken from a log, or an archive, where nothing of ours knows it any more; it is published."""
    world = await make_world()
    noise = (cosign(STRANGER, LOG.tree(30).text, START), sign(LOG_KEY, LOG.tree(30).text))
    assert await adopt(world, own(30, START + 5, more=noise)) == LOG.tree(30)
    for found in (world.published(), world.published(anchor=True)):
        assert found.text == LOG.tree(30).text
        assert [line.name for line in found.signatures] == [LOG.origin, OURS.name]
    record = record_of(world)
    assert (record.size, record.timestamp, record.checkpoint.encode()) == (30, START + 5, world.storage.objects[SHOWN])
    await grow(await world.start(), 31, old=30)


async def test_the_time_does_not_go_back_by_an_adoption() -> None:
    """An older line on the same tree: what was published is not replaced, and the next time is not before it."""
    world = await make_world()
    witness = await world.start()
    world.clock.at += 60
    await witness.add_checkpoint(LOG.request(20, 20))
    newest = world.storage.objects[SHOWN]
    await adopt(world, own(20, START - 999))
    assert (record_of(world).timestamp, world.storage.objects[SHOWN]) == (START + 60, newest)
    world.clock.at -= 2
    again = await world.start()
    (answer,) = await grow(again, 21, old=20)
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(21).text, OURS)] == [START + 60]


async def test_the_time_of_what_is_published_counts_too() -> None:
    """Where the record is lost, what is published still knows the time, in whichever place."""
    world = await make_world()
    assert world.anchor is not None
    world.clock.at += 60
    await (await world.start()).add_checkpoint(LOG.request(20, 20))
    world.storage.remove(RECORD)
    world.storage.remove(SHOWN)
    await adopt(world, own(20))
    assert (record_of(world).timestamp, record_of(world).before) == (START + 60, (20, START + 60))


async def test_a_state_that_adopted_goes_on_from_there() -> None:
    """What it knew before is forgotten."""
    world = await make_world()
    state = WitnessState(storage=world.storage, anchor=world.anchor, own=[OURS.verifier])
    assert (await state.find(LOG.origin)).latest.size == 20
    await state.adopt(own(30), world.known())
    assert (await state.find(LOG.origin)).latest.size == 30


async def test_the_time_of_the_record_counts_too() -> None:
    """Where nothing is published any more, the record still knows the time."""
    world = await make_world(has_anchor=False)
    world.clock.at += 60
    await (await world.start()).add_checkpoint(LOG.request(20, 20))
    world.storage.remove(SHOWN)
    await adopt(world, own(20))
    assert (record_of(world).timestamp, record_of(world).before) == (START + 60, (20, START + 60))


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        (LOG.note(30), SignatureError, r"the checkpoint of 'log\.example/a' carries no cosignature of this witness"),
        (
            LOG.note(30, more=[cosign(STRANGER, LOG.tree(30).text, START)]),
            SignatureError,
            "carries no cosignature of this witness",
        ),
        (LOG.note(30, more=[forge(cosign(OURS, LOG.tree(30).text, START))]), SignatureError, "does not verify"),
        (LOG.note(30, more=[cosign(OURS, LOG.tree(29).text, START)]), SignatureError, "does not verify"),
        (
            make_note(LOG.tree(30), cosign(OURS, LOG.tree(30).text, START)),
            SignatureError,
            "no trusted key signed the checkpoint",
        ),
        (
            make_note(LOG.tree(30), forge(sign(LOG_KEY, LOG.tree(30).text)), cosign(OURS, LOG.tree(30).text, START)),
            SignatureError,
            "does not verify",
        ),
        (own(30, log=OTHER), ConfigurationError, r"the log 'log\.example/b' is not among those given with --log"),
        (b"nonsense", UpstreamProtocolError, "signed note"),
        (b"text\n\n" + own(30).partition(b"\n\n")[2], UpstreamProtocolError, "checkpoint"),
    ],
)
async def test_forged_what_the_log_and_we_did_not_sign_is_not_adopted(
    body: bytes, error: type[Exception], said: str
) -> None:
    """Without our line, or the log's, or with one that does not verify; of a log that was not given; no checkpoint."""
    world = await make_world()
    before = world.copy()
    with pytest.raises(error, match=said):
        await adopt(world, body)
    assert world.copy() == before


async def test_a_cosignature_without_a_time_is_not_enough() -> None:
    """A subtree from 0 on is cosigned with time 0: it says nothing about the largest tree."""
    world = World(keys=(OURS_PQ,))
    await world.start()
    text = LOG.tree(30).text
    with pytest.raises(SignatureError, match="carries no cosignature of this witness"):
        await adopt(world, LOG.note(30, more=[cosign(OURS_PQ, text, 0)]))
    await adopt(world, LOG.note(30, more=[cosign(OURS_PQ, text, 0), cosign(OURS_PQ, text, START)]))
    assert [line.value[:8] for line in world.published().signatures[1:]] == [START.to_bytes(8)]


async def test_rotation_what_an_old_key_cosigned_is_adopted_with_the_new_one() -> None:
    """All keys that ever signed from this storage are ours."""
    world = await make_world()
    newest = world.storage.objects[SHOWN]
    await world.start(OURS, NEXT)
    world.storage.remove(RECORD)
    world.keys = (NEXT,)
    assert await adopt(world, newest) == LOG.tree(20)
    await grow(await world.start(NEXT), 21, old=20)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("place", "key"), [("storage", RECORD), ("anchor", SHOWN), ("storage", SHOWN)])
async def test_an_adoption_that_failed_half_way_is_done_again(place: str, key: str, is_late: bool) -> None:  # noqa: FBT001
    """Whether the write took effect or not."""
    world = await make_world()
    storage: MemoryStorage = getattr(world, place)
    (storage.fail_after if is_late else storage.fail_before)("put", key, GONE)
    with pytest.raises(StorageUnavailableError):
        await adopt(world, own(30))
    await adopt(world, own(30))
    for found in (world.published(), world.published(anchor=True)):
        assert parse_checkpoint(found.text) == LOG.tree(30)
    await grow(await world.start(), 31, old=30)


async def test_an_adoption_beside_a_replica_that_goes_on() -> None:
    """One of both wins the swap; the replica that lost reads anew."""
    world = await make_world()
    witness = await world.start()
    await adopt(world, own(30))
    answer = await witness.add_checkpoint(LOG.request(20, 25))
    assert (answer.status, answer.body) == (409, b"30\n")
    assert parse_checkpoint(parse_note(world.storage.objects[SHOWN]).text) == LOG.tree(30)
