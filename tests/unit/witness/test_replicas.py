"""Two replicas over one storage (P7): one wins each size, and an old memory is no reason for a wrong answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import RolledBackError
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.witness.decision import Latest
from mirrorwitness.witness.protocol import Answer, Reason, format_add_checkpoint
from mirrorwitness.witness.records import public_key, record_key
from tests.fakes.storage import MemoryStorage
from tests.unit.witness.world import (
    LOG,
    OURS,
    START,
    MeddledStorage,
    World,
    cosign,
    forge,
    grow,
    read_cosignatures,
)

if TYPE_CHECKING:
    from mirrorwitness.witness.service import Witness

RECORD, SHOWN = record_key(LOG.origin), public_key(LOG.origin)
FORK = LOG.fork(6)


async def start_two(*, has_anchor: bool = False, size: int = 10) -> tuple[World, Witness, Witness]:
    """Return two replicas that both know of the same size."""
    world = World(storage=MeddledStorage(), anchor=MemoryStorage() if has_anchor else None)
    one = await world.start()
    await grow(one, size)
    return world, one, await world.start()


@pytest.mark.parametrize("has_anchor", [False, True])
@pytest.mark.parametrize("replicas", [1, 2, 4])
async def test_race_one_wins_each_size(replicas: int, has_anchor: bool) -> None:  # noqa: FBT001 - a parameter
    """Sixteen requests at once, half of them of a fork: one is cosigned, all others are told its size."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    witnesses = [await world.start() for _ in range(replicas)]
    for old, size in ((0, 10), (10, 11), (11, 30)):
        answers: list[tuple[bytes, Answer]] = []

        async def ask(witness: Witness, body: bytes) -> None:
            answers.append((body, await witness.add_checkpoint(body)))  # noqa: B023 - awaited in this round

        async with trio.open_nursery() as nursery:
            for number in range(16):
                log = LOG.fork(4) if number % 2 and not old else LOG
                body = log.request(old, size)
                nursery.start_soon(ask, witnesses[number % replicas], body)
        won = [body for body, answer in answers if answer.status == 200]
        assert len(won) == 1
        told = {(answer.status, answer.body) for _, answer in answers if answer.status not in {200, 503}}
        assert told <= {(409, b"%d\n" % size), (422, b"another tree of size %d was cosigned before\n" % size)}
        if won[0] != LOG.request(old, size):
            return  # the fork was first; the log is the fork from here on
        assert parse_checkpoint(world.published().text) == LOG.tree(size)


async def test_stale_memory_gives_no_wrong_409() -> None:
    """A replica that knows of size 10 while another one went on to 20 tells 20, and goes on from there."""
    _, one, two = await start_two()
    await grow(one, 20, old=10)
    for old in (0, 10, 15):
        answer = await two.add_checkpoint(LOG.request(old, 30))
        assert answer == Answer(409, b"20\n", "text/x.tlog.size", Reason.STALE)
    await grow(two, 30, old=20)
    await grow(one, 31, old=30)


async def test_stale_memory_goes_on_from_the_newest_size() -> None:
    """The first request that it gets may be from a size that it never saw."""
    _, one, two = await start_two()
    await grow(one, 20, 25, old=10)
    await grow(two, 30, old=25)


async def test_stale_memory_is_no_rollback() -> None:
    """Our own line on a tree that only the other replica knows, as logs send it: no halt, and a cosignature."""
    _, one, two = await start_two()
    (answer,) = await grow(one, 20, old=10)
    line = read_cosignatures(answer.body, LOG.tree(20).text, OURS)[0].line
    again = await two.add_checkpoint(LOG.request(20, 20, more=[line]))
    assert again.status == 200
    await grow(one, 30, old=20)


async def test_stale_memory_of_a_fork() -> None:
    """A fork of a size that only the other replica knows is one."""
    world, one, two = await start_two()
    await grow(one, 20, old=10)
    answer = await two.add_checkpoint(format_add_checkpoint(20, (), FORK.note(20)))
    assert (answer.status, answer.reason) == (422, Reason.OTHER_ROOT)
    assert [parse_checkpoint(fork.ours.rpartition(b"\n\n")[0] + b"\n").size for fork in world.forks] == [20]


async def test_stale_memory_and_a_fork_from_there() -> None:
    """What the other replica cosigned meanwhile stands; the fork of what we remember is not cosigned."""
    world, one, two = await start_two(size=5)
    await grow(one, 20, old=5)
    answer = await two.add_checkpoint(FORK.request(5, 20))
    assert (answer.status, answer.body) == (409, b"20\n")
    assert len(world.forks) == 1
    assert await two.latest(LOG.witnessed) == Latest(20, LOG.root(0, 20))


@pytest.mark.parametrize("has_anchor", [False, True])
async def test_a_slower_replica_does_not_publish_over_a_newer_checkpoint(has_anchor: bool) -> None:  # noqa: FBT001
    """Between its record and its publication another one went on: it finds that done, and its line is good."""
    world, one, two = await start_two(has_anchor=has_anchor)
    assert isinstance(world.storage, MeddledStorage)
    world.storage.before("put", SHOWN, lambda: grow(two, 20, 25, old=15))
    (answer,) = await grow(one, 15, old=10)
    assert read_cosignatures(answer.body, LOG.tree(15).text, OURS)
    assert parse_checkpoint(world.published().text).size == 25
    if has_anchor:
        assert parse_checkpoint(world.published(anchor=True).text).size == 25
    await grow(one, 30, old=25)


async def test_a_slower_replica_publishes_over_an_older_checkpoint() -> None:
    """What changed meanwhile was changed by one that is behind it."""
    world, one, two = await start_two()
    assert isinstance(world.storage, MeddledStorage)

    async def be_slow() -> None:
        world.clock.at += 1
        assert isinstance(world.storage, MeddledStorage)
        world.storage.before("put", SHOWN, lambda: grow(one, 15, old=10))
        answer = await two.add_checkpoint(LOG.request(10, 10))
        assert answer.status == 200

    await be_slow()
    assert parse_checkpoint(world.published().text).size == 15
    await grow(two, 20, old=15)


async def test_a_published_checkpoint_that_is_removed_meanwhile() -> None:
    """It is written all the same."""
    world, one, _ = await start_two()
    assert isinstance(world.storage, MeddledStorage)

    async def remove() -> None:
        await world.storage.delete(SHOWN)

    world.storage.before("put", SHOWN, remove)
    await grow(one, 20, old=10)
    assert parse_checkpoint(world.published().text).size == 20


async def test_a_published_checkpoint_that_is_put_back_meanwhile() -> None:
    """An older copy of it is replaced: it is what came before our record."""
    world, one, _ = await start_two()
    assert isinstance(world.storage, MeddledStorage)
    older = world.storage.objects[SHOWN]
    await grow(one, 20, old=10)

    async def put_back() -> None:
        await trio.lowlevel.checkpoint()
        world.storage.set_bytes(SHOWN, older)

    world.storage.before("put", SHOWN, put_back)
    await grow(one, 30, old=20)
    assert parse_checkpoint(world.published().text).size == 30


async def test_rollback_that_shows_up_while_publishing() -> None:
    """A newer checkpoint of ours that no record knows: the cosignature is not given away, and nothing more is."""
    world, one, _ = await start_two()
    assert isinstance(world.storage, MeddledStorage)
    newer = LOG.note(30, more=[cosign(OURS, LOG.tree(30).text, START)])

    async def show() -> None:
        await trio.lowlevel.checkpoint()
        world.storage.set_bytes(SHOWN, newer)

    world.storage.before("put", SHOWN, show)
    for body in (LOG.request(10, 20), LOG.request(20, 21)):
        answer = await one.add_checkpoint(body)
        assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
        assert b"the state knows of size 20 and the time " in answer.body
        assert b"and the monitoring part of the storage has our cosignature" in answer.body
    assert world.storage.objects[SHOWN] == newer


async def test_rollback_of_a_smaller_tree_that_shows_up_while_publishing() -> None:
    """Ours, and larger than what our record replaced: somebody went on from another history of this key."""
    world, one, _ = await start_two()
    assert isinstance(world.storage, MeddledStorage)
    other = FORK.note(15, more=[cosign(OURS, FORK.tree(15).text, START)])

    async def show() -> None:
        await trio.lowlevel.checkpoint()
        world.storage.set_bytes(SHOWN, other)

    world.storage.before("put", SHOWN, show)
    answer = await one.add_checkpoint(LOG.request(10, 20))
    assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
    assert world.storage.objects[SHOWN] == other


async def test_a_halt_is_one_of_all_replicas() -> None:
    """The other one has the log in memory, and learns it before it answers; so does one that starts."""
    world, one, two = await start_two()
    ahead = cosign(OURS, LOG.tree(20).text, START)
    assert (await one.add_checkpoint(LOG.request(10, 20, more=[ahead]))).reason is Reason.ROLLED_BACK
    for witness in (two, one):
        for body in (LOG.request(10, 12), LOG.request(10, 20), LOG.request(20, 21)):
            answer = await witness.add_checkpoint(body)
            assert (answer.status, answer.reason) == (503, Reason.ROLLED_BACK)
            assert answer.retry_after is None
            assert b"witness adopt" in answer.body
    with pytest.raises(RolledBackError, match=r"'log\.example/a' is halted: a checkpoint of size 20 carries"):
        await world.start()


async def test_two_replicas_that_halt_at_once() -> None:
    """Both say so, and it is written once."""
    world, one, two = await start_two()
    body = LOG.request(10, 20, more=[cosign(OURS, LOG.tree(20).text, START)])
    answers: list[Answer] = []

    async def ask(witness: Witness) -> None:
        answers.append(await witness.add_checkpoint(body))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, one)
        nursery.start_soon(ask, two)
    assert [answer.reason for answer in answers] == [Reason.ROLLED_BACK] * 2
    assert parse_checkpoint(world.published().text).size == 20


async def test_a_halt_wins_over_a_replica_that_goes_on() -> None:
    """One that went on from the state that was too old meanwhile is halted where it is now."""
    world, one, two = await start_two()
    assert isinstance(world.storage, MeddledStorage)
    ahead = cosign(OURS, LOG.tree(20).text, START)
    world.storage.before("put", RECORD, lambda: grow(two, 12, old=10))
    assert (await one.add_checkpoint(LOG.request(10, 20, more=[ahead]))).reason is Reason.ROLLED_BACK
    assert (await two.add_checkpoint(LOG.request(12, 13))).reason is Reason.ROLLED_BACK


async def test_clocks_of_replicas_that_differ_give_times_in_order() -> None:
    """Three seconds behind the other one: its time is used; a minute behind: refused until the clock is there."""
    world, one, _ = await start_two()
    behind = World(storage=world.storage)
    behind.clock.at = START - 3
    two = await behind.start()
    (answer,) = await grow(two, 11, old=10)
    assert [item.timestamp for item in read_cosignatures(answer.body, LOG.tree(11).text, OURS)] == [START]
    behind.clock.at = START - 60
    assert (await two.add_checkpoint(LOG.request(11, 12))).reason is Reason.CLOCK
    await grow(one, 12, old=11)


async def test_a_forged_line_of_ours_halts_nobody() -> None:
    """Nor does it make a replica read its state anew for nothing else than that."""
    world, one, _ = await start_two()
    body = LOG.request(10, 20, more=[forge(cosign(OURS, LOG.tree(20).text, START))])
    world.storage.operations.clear()
    assert (await one.add_checkpoint(body)).status == 200
    assert world.storage.keys_of("read") == []
