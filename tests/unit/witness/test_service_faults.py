"""Storages that fail, before and after an operation took effect, and requests that are cancelled in between (P7).

No cosignature is answered unless the record, the anchor and the published checkpoint are written, in this order; after
whatever failed the next request goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec
import pytest
import trio

from mirrorwitness.errors import (
    MirrorWitnessError,
    PreconditionFailedError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.witness.protocol import Answer, Reason
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.records import LogRecord, public_key, record_key
from tests.fakes.storage import MemoryStorage, StorageCall
from tests.unit.witness.world import LOG, OURS, MeddledStorage, World, grow, read_cosignatures

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.witness.service import Witness

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)
GONE = StorageUnavailableError("no answer")
BUSY = Answer(503, b"the witness's storage does not answer\n", reason=Reason.STORAGE, retry_after=5)

Where = Literal["storage", "anchor"]


def size_in(storage: MemoryStorage) -> int:
    """Return the size that is published in a storage; 0 where nothing is."""
    body = storage.objects.get(SHOWN)
    return 0 if body is None else parse_checkpoint(parse_note(body).text).size


def record_of(world: World) -> LogRecord | None:
    """Return the record."""
    body = world.storage.objects.get(RECORD)
    return None if body is None else msgspec.json.decode(body, type=LogRecord)


def make_world() -> World:
    """Return a world with an anchor, in which things can be done in between."""
    return World(storage=MeddledStorage(), anchor=MeddledStorage())


async def ask(witness: Witness, size: int) -> Answer:
    """Ask for a cosignature on a size as a client does: begin with what it was told last."""
    answer = await witness.add_checkpoint(LOG.request(0, size))
    return await witness.add_checkpoint(LOG.request(int(answer.body), size)) if answer.status == 409 else answer


@pytest.mark.parametrize("grown", [0, 10])
async def test_p7_first_the_record_then_the_anchor_then_the_published_checkpoint_then_the_answer(grown: int) -> None:
    """Each is written when the one before is, for a new log and for an old one."""
    world = make_world()
    assert world.anchor is not None
    witness = await world.start()
    await grow(witness, grown)
    seen: list[tuple[str, int, int, int]] = []
    answers: list[Answer] = []

    def look(name: str) -> None:
        record = record_of(world)
        assert world.anchor is not None
        assert answers == []
        seen.append((name, record.size if record else 0, size_in(world.anchor), size_in(world.storage)))

    for storage, key, name in (
        (world.storage, RECORD, "record"),
        (world.anchor, SHOWN, "anchor"),
        (world.storage, SHOWN, "published"),
    ):
        _before_put(storage, key, look, name)
    answers.append(await witness.add_checkpoint(LOG.request(grown, 20)))
    look_after = (record_of(world), size_in(world.anchor), size_in(world.storage))
    assert seen == [
        ("record", grown, grown, grown),
        ("anchor", 20, grown, grown),
        ("published", 20, 20, grown),
    ]
    assert [answer.status for answer in answers] == [200]
    assert look_after[0] is not None
    assert (look_after[0].size, *look_after[1:]) == (20, 20, 20)


def _before_put(storage: MemoryStorage, key: str, look: Callable[[str], None], name: str) -> None:
    assert isinstance(storage, MeddledStorage)

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        look(name)

    storage.before("put", key, work)


async def test_a_request_of_a_process_that_knows_the_log_reads_nothing() -> None:
    """Two writes without an anchor: that is what a cosignature costs."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    world.storage.operations.clear()
    await grow(witness, 11, old=10)
    assert world.storage.operations == [StorageCall("put", RECORD), StorageCall("put", SHOWN)]


@pytest.mark.parametrize("error", [GONE, StorageRefusedError("read-only"), UnsupportedConditionError("501")])
@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("where", "key"), [("storage", RECORD), ("anchor", SHOWN), ("storage", SHOWN)])
@pytest.mark.parametrize("grown", [0, 10])
async def test_p7_a_failed_write_answers_no_cosignature(
    grown: int,
    where: Where,
    key: str,
    is_late: bool,  # noqa: FBT001 - a parameter
    error: MirrorWitnessError,
) -> None:
    """503 and Retry-After, whether it took effect or not; the next request goes on, here and in a new process."""
    world = make_world()
    witness = await world.start()
    await grow(witness, grown)
    storage: MemoryStorage = getattr(world, where)
    (storage.fail_after if is_late else storage.fail_before)("put", key, error)
    assert await witness.add_checkpoint(LOG.request(grown, 20)) == BUSY
    for size in (20, 21):
        answer = await ask(witness, size)
        assert read_cosignatures(answer.body, LOG.tree(size).text, OURS)
        _check_all_written(world, size)
    answer = await ask(await world.start(), 22)
    assert answer.status == 200
    _check_all_written(world, 22)


def _check_all_written(world: World, size: int) -> None:
    record = record_of(world)
    assert record is not None
    assert world.anchor is not None
    assert (record.size, size_in(world.anchor), size_in(world.storage)) == (size, size, size)
    assert world.storage.objects[SHOWN] == world.anchor.objects[SHOWN] == record.checkpoint.encode()


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("where", "key"), [("anchor", SHOWN), ("storage", SHOWN), ("storage", RECORD)])
async def test_p7_a_failed_read_answers_no_cosignature(where: Where, key: str, is_late: bool) -> None:  # noqa: FBT001
    """What cannot be read is not taken for nothing: 503, nothing written, and the next request goes on."""
    world = make_world()
    await grow(await world.start(), 10)
    witness = await world.start()
    witness._state.forget(LOG.origin)
    storage: MemoryStorage = getattr(world, where)
    before = world.copy()
    (storage.fail_after if is_late else storage.fail_before)("read", key, GONE)
    assert await witness.add_checkpoint(LOG.request(10, 20)) == BUSY
    assert world.copy() == before
    assert (await ask(witness, 20)).status == 200


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_failures_in_a_row(times: int) -> None:
    """However often it fails: what was written once is known, and its size is told."""
    world = make_world()
    witness = await world.start()
    world.storage.fail_before("put", SHOWN, GONE, times=times)
    for number in range(times):
        answer = await witness.add_checkpoint(LOG.request(0, 10) if not number else LOG.request(10, 10))
        assert answer == BUSY
    assert await witness.add_checkpoint(LOG.request(0, 12)) == Answer(409, b"10\n", "text/x.tlog.size", Reason.STALE)
    answer = await witness.add_checkpoint(LOG.request(10, 10))
    assert read_cosignatures(answer.body, LOG.tree(10).text, OURS)


async def test_fork_of_what_was_recorded_and_never_answered() -> None:
    """The cosignature may be out: the record counts, not what we believe that somebody got."""
    world = make_world()
    witness = await world.start()
    await grow(witness, 10)
    world.storage.fail_after("put", RECORD, GONE)
    await witness.add_checkpoint(LOG.request(10, 20))
    fork = LOG.fork(15)
    assert (await witness.add_checkpoint(fork.request(10, 20))).status == 409
    assert (await witness.add_checkpoint(fork.request(20, 20))).status == 422
    assert len(world.forks) == 2


@pytest.mark.parametrize(("where", "key"), [("storage", RECORD), ("anchor", SHOWN), ("storage", SHOWN)])
async def test_p7_a_cancelled_request_leaves_a_witness_that_goes_on(where: Where, key: str) -> None:
    """A client that leaves, or a deadline, before each write: nothing is believed that was not written."""
    world = make_world()
    witness = await world.start()
    await grow(witness, 10)
    storage = getattr(world, where)
    assert isinstance(storage, MeddledStorage)
    with trio.CancelScope() as scope:

        async def cancel() -> None:
            await trio.lowlevel.checkpoint()
            scope.cancel()

        storage.before("put", key, cancel)
        await witness.add_checkpoint(LOG.request(10, 20))
    assert scope.cancelled_caught
    record = record_of(world)
    assert record is not None
    assert record.size == (10 if key == RECORD else 20)
    for size in (20, 21):
        answer = await ask(witness, size)
        assert read_cosignatures(answer.body, LOG.tree(size).text, OURS)
        _check_all_written(world, size)


async def test_a_swap_that_is_lost_is_decided_anew() -> None:
    """Somebody else was faster: what it cosigned is what we go on from; the log is charged for one request."""
    world = make_world()
    world.rates = Rates(per_second=0.001, burst=1)
    witness, other = await world.start(), await World(storage=world.storage, anchor=world.anchor).start()
    assert isinstance(world.storage, MeddledStorage)
    world.storage.before("put", RECORD, lambda: grow(other, 5))
    answer = await witness.add_checkpoint(LOG.request(0, 10))
    assert answer == Answer(409, b"5\n", "text/x.tlog.size", Reason.STALE)


async def test_a_swap_that_is_always_lost() -> None:
    """After three tries the client is told to come back; nothing of ours is given away."""
    world = make_world()
    witness = await world.start()
    await grow(witness, 10)
    before = world.copy()
    world.storage.fail_before("put", RECORD, PreconditionFailedError("lost"), times=3)
    answer = await witness.add_checkpoint(LOG.request(10, 20))
    assert answer == Answer(503, b"other replicas are faster, try again\n", reason=Reason.STORAGE, retry_after=1)
    assert world.copy() == before
    world.storage.fail_before("put", RECORD, PreconditionFailedError("lost"), times=2)
    assert (await witness.add_checkpoint(LOG.request(10, 20))).status == 200


async def test_a_storage_without_conditions_is_never_written_to() -> None:
    """One that says so only now, after it was checked: no cosignature, and no write that could undo another's."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    before = world.copy()
    world.storage.fail_before("put", "*", UnsupportedConditionError("501"), times=99)
    assert await witness.add_checkpoint(LOG.request(10, 20)) == BUSY
    assert world.copy() == before


async def test_what_was_published_and_is_gone_comes_back() -> None:
    """Nobody needs it to go on; monitors get it with the next cosignature."""
    world = make_world()
    witness = await world.start()
    await grow(witness, 10)
    world.storage.remove(SHOWN)
    await grow(witness, 11, old=10)
    assert size_in(world.storage) == 11
