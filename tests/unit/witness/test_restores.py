"""Storages that are restored from older copies (P7): with an anchor, with our own newer line, with a running process.

The last test is the hole that is known: everything restored while nothing runs, no anchor, and nobody who shows us a
newer line of ours.
"""

from __future__ import annotations

import msgspec
import pytest

from mirrorwitness.errors import ObjectMissingError, RolledBackError, StorageUnavailableError
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import Signature, parse_note
from mirrorwitness.witness.decision import Latest
from mirrorwitness.witness.protocol import Reason
from mirrorwitness.witness.records import LogRecord, public_key, record_key
from tests.fakes.storage import MemoryStorage
from tests.unit.witness.world import LOG, NEXT, OTHER, OURS, OURS_PQ, START, Log, World, cosign, grow

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)
FORK = LOG.fork(12)
"""A log that differs behind size 10, from which all copies are, and before 20, where the witness was."""

GONE = StorageUnavailableError("no answer")


def line_on(size: int, log: Log = LOG) -> Signature:
    """Return our cosignature as a log has it."""
    return cosign(OURS, log.tree(size).text, START)


async def make_world(*, has_anchor: bool = False) -> tuple[World, dict[str, bytes]]:
    """Return a world that was at 20, and a copy of its storage from when it was at 10."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    witness = await world.start()
    await grow(witness, 10)
    copy = world.copy()
    await grow(witness, 20, old=10)
    return world, copy


def only(prefix: str, copy: dict[str, bytes]) -> dict[str, bytes]:
    """Return a part of a copy."""
    return {key: body for key, body in copy.items() if key.startswith(prefix)}


async def test_rollback_of_the_state_alone_is_refused_at_the_start() -> None:
    """What is published is newer: the message says what is known, what was found, and the ways out."""
    world, copy = await make_world()
    world.restore(only("state/", copy), "state/")
    said = (
        r"the state knows of size 10 and the time \d+ for 'log\.example/a', and the monitoring part of the storage has "
        r"our cosignature on log\.example/a at 20, root .*: the state was lost or restored "
        r".*witness adopt.*witness retire"
    )
    with pytest.raises(RolledBackError, match=said):
        await world.start()


@pytest.mark.parametrize("old", [10, 20])
async def test_rollback_of_the_state_alone_under_a_running_process(old: int) -> None:
    """The first request after it is refused, and all that follow; nothing is written."""
    world, copy = await make_world()
    witness = await world.start()
    world.restore(only("state/", copy), "state/")
    before = world.copy()
    for log in (LOG, FORK):
        answer = await witness.add_checkpoint(log.request(old, 25))
        assert (answer.status, answer.reason, answer.retry_after) == (503, Reason.ROLLED_BACK, None)
        assert b"has our cosignature on log.example/a at 20" in answer.body
    assert world.copy() == before


async def test_lost_state_under_a_running_process() -> None:
    """The same where the record is gone."""
    world, _ = await make_world()
    witness = await world.start()
    world.storage.remove(RECORD)
    answer = await witness.add_checkpoint(LOG.request(20, 25))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert answer.body.startswith(b"the state knows of nothing for 'log.example/a'")


async def test_rollback_of_the_whole_storage_beside_an_anchor_is_refused_at_the_start() -> None:
    """The anchor was not restored with it."""
    world, copy = await make_world(has_anchor=True)
    world.restore(copy)
    with pytest.raises(RolledBackError, match=r"and the anchor has our cosignature on log\.example/a at 20"):
        await world.start()


async def test_rollback_of_the_whole_storage_beside_an_anchor_under_a_running_process() -> None:
    """Refused before anything is signed."""
    world, copy = await make_world(has_anchor=True)
    witness = await world.start()
    world.restore(copy)
    for log, old in ((LOG, 20), (FORK, 10), (FORK, 10)):
        answer = await witness.add_checkpoint(log.request(old, 25))
        assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert world.copy() == copy


async def test_rollback_of_the_whole_storage_under_a_running_process_without_an_anchor() -> None:
    """What the process has seen is an anchor as long as it lives."""
    world, copy = await make_world()
    witness = await world.start()
    world.restore(copy)
    for log, old in ((LOG, 20), (FORK, 10), (FORK, 10)):
        answer = await witness.add_checkpoint(log.request(old, 25))
        assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
        assert b"and the memory of this process has our cosignature on log.example/a at 20" in answer.body
    assert world.copy() == copy


async def test_rollback_of_the_whole_storage_under_the_process_that_wrote_it() -> None:
    """What it wrote itself it has seen too."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    copy = world.copy()
    await grow(witness, 20, old=10)
    world.restore(copy)
    answer = await witness.add_checkpoint(FORK.request(10, 25))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)


@pytest.mark.parametrize(("size", "timestamp"), [(15, START), (9, START + 1)])
async def test_rollback_that_was_gone_on_from_is_seen_in_what_is_published(size: int, timestamp: int) -> None:
    """Ours, smaller than the state's, and larger or newer than what the state replaced: two histories of one key."""
    world, _ = await make_world()
    text = FORK.tree(size).text
    world.storage.set_bytes(SHOWN, FORK.note(size, more=[cosign(OURS, text, timestamp)]))
    with pytest.raises(RolledBackError, match=f"has our cosignature on log.example/a at {size}"):
        await world.start()


async def test_rollback_of_an_hour_without_growth_does_not_turn_the_time_back() -> None:
    """The restored state has the same tree and an older time; who knows better signs with the newer one."""
    world = World()
    witness = await world.start()
    await grow(witness, 10)
    copy = world.copy()
    world.clock.at += 3600
    await witness.add_checkpoint(LOG.request(10, 10))
    world.restore(copy)
    world.clock.at -= 1800
    assert (await witness.add_checkpoint(LOG.request(10, 11))).reason is Reason.CLOCK


async def test_rollback_of_the_whole_storage_and_our_own_line_halts_the_log() -> None:
    """Nothing more is signed: here, after a restart, by another replica, and after one more restore of the state."""
    world, copy = await make_world()
    world.restore(copy)
    witness, other = await world.start(), await world.start()
    answer = await witness.add_checkpoint(LOG.request(10, 20, more=[line_on(20)]))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert b"size 20 carries a cosignature of this witness" in answer.body
    assert b"the state knows of size 10" in answer.body
    for each in (witness, other):
        assert (await each.add_checkpoint(FORK.request(10, 25))).reason is Reason.ROLLED_BACK
    with pytest.raises(RolledBackError, match=r"'log\.example/a' is halted"):
        await world.start()
    world.restore(only("state/", copy), "state/")
    with pytest.raises(RolledBackError, match="the monitoring part of the storage has our cosignature"):
        await world.start()


async def test_what_halts_a_log_is_published_again() -> None:
    """As it once was: the log's line and ours, here and in the anchor, so that the next restore is noticed too."""
    world, copy = await make_world(has_anchor=True)
    assert world.anchor is not None
    older = only("witness/", copy)
    world.restore(copy)
    for key, body in older.items():
        world.anchor.set_bytes(key, body)
    witness = await world.start()
    strange = cosign(NEXT, LOG.tree(20).text, START)
    await witness.add_checkpoint(LOG.request(10, 20, more=[line_on(20), strange]))
    for found in (world.published(), world.published(anchor=True)):
        assert parse_checkpoint(found.text) == LOG.tree(20)
        assert [line.name for line in found.signatures] == [LOG.origin, OURS.name]


async def test_a_halt_is_of_one_log() -> None:
    """The others go on in a process that runs."""
    world = World(logs=(LOG, OTHER))
    witness = await world.start()
    await grow(witness, 10)
    await witness.add_checkpoint(LOG.request(10, 20, more=[line_on(20)]))
    await grow(witness, 10, log=OTHER)
    assert (await witness.add_checkpoint(LOG.request(10, 11))).reason is Reason.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await witness.latest(LOG.witnessed)


async def test_a_halt_of_a_log_that_was_never_cosigned() -> None:
    """The whole state restored from before the log was known."""
    world = World()
    witness = await world.start()
    answer = await witness.add_checkpoint(LOG.request(0, 20, more=[line_on(20)]))
    assert answer.reason is Reason.ROLLED_BACK
    record = msgspec.json.decode(world.storage.objects[RECORD], type=LogRecord)
    assert (record.latest, bool(record.halted)) == (Latest(0, Hash(LOG.root(0, 0))), True)
    assert (await witness.add_checkpoint(FORK.request(0, 25))).reason is Reason.ROLLED_BACK


async def test_our_own_line_of_the_same_size_and_another_root_halts_too() -> None:
    """The worst case: we contradicted ourselves already. Both stay as they are."""
    world, _ = await make_world()
    witness = await world.start()
    answer = await witness.add_checkpoint(FORK.request(20, 20, more=[line_on(20, FORK)]))
    assert answer.reason is Reason.ROLLED_BACK
    assert parse_checkpoint(world.published().text) == LOG.tree(20)
    assert (await witness.add_checkpoint(LOG.request(20, 21))).reason is Reason.ROLLED_BACK


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("operation", "key"), [("put", RECORD), ("read", RECORD), ("put", SHOWN), ("read", SHOWN)])
async def test_a_halt_that_cannot_be_written_holds_in_this_process(
    operation: str,
    key: str,
    is_late: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The storage fails just then: nothing is signed, and the halt is written as soon as it answers."""
    world, copy = await make_world()
    world.restore(copy)
    witness = await world.start()
    fail = world.storage.fail_after if is_late else world.storage.fail_before
    fail(operation, key, GONE, times=2)  # type: ignore[arg-type]
    assert (await witness.add_checkpoint(LOG.request(10, 20, more=[line_on(20)]))).status == 503
    assert (await witness.add_checkpoint(FORK.request(10, 25))).status == 503
    world.storage.heal()
    assert (await witness.add_checkpoint(FORK.request(10, 25))).reason is Reason.ROLLED_BACK
    assert (await witness.add_checkpoint(FORK.request(10, 25))).reason is Reason.ROLLED_BACK
    with pytest.raises(RolledBackError, match="is halted"):
        await world.start()
    assert parse_checkpoint(world.published().text) == LOG.tree(20)


async def test_a_newer_line_of_a_key_that_is_not_used_any_more_halts_too() -> None:
    """A rotation does not make us forget what the old key said."""
    world = World(keys=(OURS, OURS_PQ))
    await grow(await world.start(OURS), 10)
    await world.start(OURS, OURS_PQ)
    witness = await world.start(OURS_PQ)
    assert (await witness.add_checkpoint(LOG.request(10, 20, more=[line_on(20)]))).reason is Reason.ROLLED_BACK


@pytest.mark.parametrize("prefix", ["witness/", "anchor"])
async def test_an_older_published_checkpoint_alone_is_no_rollback(prefix: str) -> None:
    """Only what is shown was restored: the state knows more, and shows it with the next cosignature."""
    world, copy = await make_world(has_anchor=True)
    assert world.anchor is not None
    running = await world.start()
    if prefix == "anchor":
        world.anchor.set_bytes(SHOWN, copy[SHOWN])
    else:
        world.restore(only(prefix, copy), prefix)
    await grow(await world.start(), 21, old=20)
    await grow(running, 22, old=21)
    assert parse_checkpoint(world.published().text).size == 22
    assert parse_checkpoint(world.published(anchor=True).text).size == 22


async def test_another_witness_s_published_checkpoint_under_a_running_process() -> None:
    """Two buckets that were mixed up: refused, and not written over."""
    world, _ = await make_world()
    witness = await world.start()
    foreign = LOG.note(20, more=[cosign(NEXT, LOG.tree(20).text, START)])
    world.storage.set_bytes(SHOWN, foreign)
    for _ in range(2):
        answer = await witness.add_checkpoint(LOG.request(20, 21))
        assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert world.storage.objects[SHOWN] == foreign


async def test_damaged_published_checkpoint_under_a_running_process() -> None:
    """What was signed cannot be told from it: no cosignature, and it stays for whoever looks into it."""
    world, _ = await make_world()
    witness = await world.start()
    world.storage.set_bytes(SHOWN, b"nonsense")
    answer = await witness.add_checkpoint(LOG.request(20, 21))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert b"is damaged" in answer.body
    assert world.storage.objects[SHOWN] == b"nonsense"


async def test_known_hole_everything_restored_while_nothing_runs() -> None:
    """No anchor, no line of ours on what is sent, no process that remembers: nobody can tell, and a fork is signed.

    `mirrorwitness.witness.state` says so. The anchor is the remedy, and the test above shows that it is one.
    """
    world, copy = await make_world()
    world.restore(copy)
    answer = await (await world.start()).add_checkpoint(FORK.request(10, 25))
    assert answer.status == 200
    assert parse_checkpoint(parse_note(world.storage.objects[SHOWN]).text) == FORK.tree(25)


async def test_a_restored_copy_of_the_same_age_goes_on() -> None:
    """A restore that lost nothing is no reason to stop."""
    world, _ = await make_world(has_anchor=True)
    world.restore(world.copy())
    await grow(await world.start(), 21, old=20)
    with pytest.raises(ObjectMissingError):
        await world.storage.read("nothing", limit=1)
