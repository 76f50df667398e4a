"""The state of a witness: what is found, remembered and forgotten, and one lock for each log."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import PreconditionFailedError, RolledBackError, StorageUnavailableError
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.cosignature import Cosignature
from mirrorwitness.witness.decision import NEVER, Latest
from mirrorwitness.witness.records import format_cosigned, make_record, public_key, record_key
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage, StorageCall
from tests.unit.witness.world import LOG, OTHER, OURS, START, cosign

if TYPE_CHECKING:
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.witness.records import LogRecord

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)


def make_state(storage: MemoryStorage, anchor: MemoryStorage | None = None) -> WitnessState:
    """Return the state of a process that begins."""
    return WitnessState(storage=storage, anchor=anchor, own=[OURS.verifier])


def record(size: int, timestamp: int = START, before: tuple[int, int] = (0, 0)) -> LogRecord:
    """Return the record of a checkpoint that is cosigned."""
    opened = open_checkpoint(LOG.note(size), LOG.witnessed.keys, origin=LOG.origin)
    note = format_cosigned(opened, [cosign(OURS, LOG.tree(size).text, timestamp)])
    return make_record(LOG.tree(size), timestamp=timestamp, note=note, before=before)


async def advance(state: WitnessState, size: int, timestamp: int = START) -> None:
    """Go on to a size."""
    held = await state.find(LOG.origin)
    await state.advance(held, record(size, timestamp, (held.latest.size, held.timestamp)))


async def test_nothing_is_known_of_a_new_log() -> None:
    """No record, no time, and nothing is written by looking."""
    storage = MemoryStorage()
    state = make_state(storage)
    held = await state.find(LOG.origin)
    assert (held.latest, held.timestamp, held.record, held.etag) == (NEVER, 0, None, None)
    assert (state.is_known(LOG.origin), state.is_known(OTHER.origin)) == (True, False)
    assert storage.objects == {}


async def test_the_record_is_read_last() -> None:
    """Another replica writes it first, so it is never older than what was shown: no false rollback in between."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    anchor.operations = storage.operations
    await make_state(storage, anchor).find(LOG.origin)
    assert storage.operations == [StorageCall("read", SHOWN), StorageCall("read", SHOWN), StorageCall("read", RECORD)]


async def test_what_was_written_is_known_without_reading() -> None:
    """Until it is forgotten."""
    storage = MemoryStorage()
    state = make_state(storage)
    await advance(state, 10)
    storage.operations.clear()
    held = await state.find(LOG.origin)
    assert (held.latest, held.timestamp) == (Latest(10, LOG.root(0, 10)), START)
    assert storage.operations == []
    state.forget(LOG.origin)
    assert not state.is_known(LOG.origin)
    assert (await state.find(LOG.origin)).latest == held.latest
    assert storage.keys_of("read") == [SHOWN, RECORD]
    state.forget(OTHER.origin)
    assert repr(state) == "<WitnessState of 1 logs>"
    assert repr(make_state(storage, MemoryStorage())) == "<WitnessState of 0 logs, with an anchor>"


async def test_no_two_records_are_the_same() -> None:
    """Also of one tree at one time: an etag made of the bytes then still says that somebody wrote."""
    storage = MemoryStorage()
    state = make_state(storage)
    seen: set[bytes] = set()
    for _ in range(3):
        await advance(state, 10)
        seen.add(storage.objects[RECORD])
    assert len(seen) == 3
    assert len({json.loads(body)["written"] for body in seen}) == 3


async def test_of_two_that_go_on_from_one_record_one_wins() -> None:
    """The other one is told, and has to read anew."""
    storage = MemoryStorage()
    one, two = make_state(storage), make_state(storage)
    first, second = await one.find(LOG.origin), await two.find(LOG.origin)
    await one.advance(first, record(10))
    with pytest.raises(PreconditionFailedError):
        await two.advance(second, record(12))
    assert not two.is_known(LOG.origin)
    assert (await two.find(LOG.origin)).latest.size == 10


@pytest.mark.parametrize("key", [RECORD, SHOWN])
async def test_after_a_failure_nothing_is_known_for_certain(key: str) -> None:
    """The next look reads."""
    storage = MemoryStorage()
    state = make_state(storage)
    await advance(state, 10)
    storage.fail_after("put", key, StorageUnavailableError("no answer"))
    with pytest.raises(StorageUnavailableError):
        await advance(state, 20)
    assert not state.is_known(LOG.origin)
    assert (await state.find(LOG.origin)).latest.size == 20


async def test_rollback_by_time_alone() -> None:
    """A record of the tree that is published, older than the line there: it was restored from a copy."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    state = make_state(storage, anchor)
    await advance(state, 10)
    anchor.set_bytes(SHOWN, record(10, START + 7).checkpoint.encode())
    with pytest.raises(RolledBackError, match=f"of the time {START + 7}"):
        await make_state(storage, anchor).find(LOG.origin)


async def test_a_suspicion_that_is_not_true_is_forgotten() -> None:
    """Our own line on a tree that this process had not seen, and the state has: the other replica made it."""
    storage = MemoryStorage()
    one, two = make_state(storage), make_state(storage)
    await advance(one, 10)
    await two.find(LOG.origin)
    await advance(one, 20)
    two.suspect(LOG.origin, "a line", _shown(20))
    two.forget(LOG.origin)
    assert (await two.find(LOG.origin)).latest.size == 20
    await advance(two, 30)


async def test_a_suspicion_waits_until_the_state_can_be_read() -> None:
    """The storage fails just when our newer line was shown: it is not forgotten with the request."""
    storage = MemoryStorage()
    state = make_state(storage)
    await advance(state, 10)
    state.suspect(LOG.origin, "a line", _shown(20))
    state.forget(LOG.origin)
    storage.fail_before("read", RECORD, StorageUnavailableError("no answer"), times=2)
    for _ in range(2):
        with pytest.raises(StorageUnavailableError):
            await state.find(LOG.origin)
    for each in (state, make_state(storage)):
        with pytest.raises(RolledBackError, match=r"'log\.example/a' is halted: a line"):
            await each.find(LOG.origin)


def _shown(size: int) -> tuple[OpenedCheckpoint, tuple[Cosignature, ...]]:
    line = cosign(OURS, LOG.tree(size).text, START)
    opened = open_checkpoint(LOG.note(size, more=[line]), LOG.witnessed.keys, origin=LOG.origin)
    return opened, (Cosignature(OURS.verifier, START, line),)


async def test_one_lock_for_each_log() -> None:
    """The same one each time; those of two logs do not wait for each other."""
    state = make_state(MemoryStorage())
    assert state.lock(LOG.origin) is state.lock(LOG.origin)
    async with state.lock(LOG.origin):
        with trio.fail_after(1):
            async with state.lock(OTHER.origin):
                pass
