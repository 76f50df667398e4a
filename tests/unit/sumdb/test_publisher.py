"""Publishing: the quorum before the checkpoint, always; what fails is tried again, and what must not be goes up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    LogLostError,
    RolledBackError,
    SignatureError,
    StorageRefusedError,
    StorageUnavailableError,
)
from mirrorwitness.fetch import Backoff, HostGate
from mirrorwitness.sumdb.cosign import Cosigner, WitnessClient
from mirrorwitness.sumdb.publisher import Publication, Publisher
from mirrorwitness.sumdb.quorum import KnownWitness, make_quorum
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.policy import check_policy, parse_policy
from tests.fakes.cosigners import NOW, AskFetcher, FakeWitness, sign_as
from tests.unit.tlog import signing
from tests.unit.witness.log_server import make_lab

if TYPE_CHECKING:
    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.tlog.merkle import Hash

LAB = make_lab("a", KeyType.ED25519, KeyType.ML_DSA_44)
OWN = [key.verifier for key in LAB.keys]


@dataclass
class GrowingLog:
    """A log of which only heads are seen."""

    size: int = 0
    notes: list[bytes] = field(default_factory=list)
    broken: list[MirrorWitnessError] = field(default_factory=list["MirrorWitnessError"])
    is_overtaken: bool = False
    is_own_head: bool = False
    lost: LogLostError | None = None
    kept: list[bytes] = field(default_factory=list)
    is_full: bool = False

    async def check_newest(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.lost is not None:
            raise self.lost

    async def keep_shown(self, note: bytes) -> str:
        await trio.lowlevel.checkpoint()
        if self.is_full:
            raise StorageRefusedError("the disk is full")
        self.kept.append(note)
        return "evidence/some.txt"

    @property
    def head(self) -> bytes:
        return LAB.sign(LAB.text(self.size), *LAB.keys)

    async def publish(self, note: bytes) -> bool:
        await trio.lowlevel.checkpoint()
        if self.broken:
            raise self.broken.pop()
        if not self.is_overtaken:
            self.notes.append(note)
        return not self.is_overtaken

    @property
    def sizes(self) -> list[int]:
        return [parse_checkpoint(parse_note(note).text).size for note in self.notes]


class World:
    """A log with two witnesses, both of which have to have cosigned."""

    def __init__(self, log: GrowingLog | None = None, *, policy: str | None = None) -> None:
        self.a = FakeWitness(signing.A, log=OWN, name="a")
        self.b = FakeWitness(signing.C, log=OWN, name="b")
        self.log = log or GrowingLog(3)
        fetcher = AskFetcher(self.a, self.b)
        known = [KnownWitness(each.base, tuple(key.verifier for key in each.keys)) for each in (self.a, self.b)]
        clients = [
            WitnessClient(keys=one.keys, log=OWN, url=one.url, fetcher=fetcher, gate=HostGate()) for one in known
        ]
        self.policy = make_quorum(OWN, known, None if policy is None else parse_policy(policy.encode()))
        self.publisher = Publisher(
            log=self.log,
            cosigner=Cosigner(witnesses=clients, prove=prove),
            policy=self.policy,
            now=lambda: NOW + trio.current_time() - self.start,
            refresh=3600,
            tries=Backoff(base=1, cap=30),
            jitter=lambda: 1.0,
        )
        self.start = trio.current_time()


async def prove(old: int, new: int, root: Hash) -> list[Hash]:
    await trio.lowlevel.checkpoint()
    assert root == LAB.root(new)
    return LAB.proof(old, new)


async def test_what_is_published_fulfils_the_policy() -> None:
    """Both lines of the log, those of both witnesses, each once: a client's own check passes."""
    world = World()
    assert await world.publisher.attempt()
    (note,) = world.log.notes
    verdict = check_policy(note, world.policy)
    assert [key for key, _ in verdict.opened.signed] == OWN
    assert {each.key for each in verdict.cosignatures} == {signing.A.verifier, signing.C.verifier}
    assert replace(world.publisher.statistics(), published=None) == Publication(3, None, 3, 0, "", 0)
    assert world.publisher.statistics().published == pytest.approx(NOW)
    assert world.publisher.counts == {("witness-a.example", "cosigned"): 1, ("witness-c.example", "cosigned"): 1}


async def test_until_the_quorum_is_met_the_older_checkpoint_stays(autojump_clock: trio.testing.MockClock) -> None:
    """One witness of two is down: nothing is published, it is tried again later and later, and published in the end."""
    world = World()
    async with trio.open_nursery() as nursery:
        await nursery.start(world.publisher.run)
        await world.publisher.wait_published(3)
        world.b.is_down = True
        world.log.size = 7
        world.publisher.wake()
        await trio.sleep(20)
        assert world.log.sizes == [3]
        statistics = world.publisher.statistics()
        assert (statistics.size, statistics.head, statistics.failures) == (3, 7, 5)
        assert "the quorum is not met" in statistics.missing
        assert "nobody answers" in statistics.missing
        assert statistics.waiting == pytest.approx(20, abs=0.1)
        assert "5 failures" in repr(world.publisher)
        world.b.is_down = False
        world.log.size = 9
        await world.publisher.wait_published(7)
        assert world.log.sizes == [3, 9], "only the newest head is asked for"
        assert world.publisher.statistics().failures == 0
        assert world.publisher.statistics().waiting == 0
        nursery.cancel_scope.cancel()
    assert world.b.asked[-1] == (3, 9)


async def test_a_wrong_line_is_never_published(autojump_clock: trio.testing.MockClock) -> None:
    """A witness that lies is one that did not cosign."""
    world = World()
    world.b.lines = lambda asked: [sign_as(signing.STRANGER, asked)]
    assert not await world.publisher.attempt()
    assert world.log.notes == []
    assert "of none of its keys" in world.publisher.statistics().missing


async def test_an_unchanged_head_is_cosigned_again(autojump_clock: trio.testing.MockClock) -> None:
    """Its cosignatures stay young, an hour after the other."""
    world = World()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.publisher.run)
        await trio.sleep(3600 * 2 + 60)
        nursery.cancel_scope.cancel()
    assert world.log.sizes == [3, 3, 3]
    assert world.publisher.statistics().published == pytest.approx(NOW + 7200, abs=10)


async def test_a_head_that_comes_while_another_is_asked_for_is_not_forgotten(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """It is published next, without waiting for anything."""
    world = World()
    world.a.latency = world.b.latency = 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.publisher.run)
        await trio.sleep(1)
        world.log.size = 7
        world.publisher.wake()
        await world.publisher.wait_published(7)
        nursery.cancel_scope.cancel()
    assert world.log.sizes == [3, 7]


async def test_a_storage_that_does_not_answer_is_tried_again(autojump_clock: trio.testing.MockClock) -> None:
    """The reason is kept meanwhile."""
    world = World()
    world.log.broken = [StorageUnavailableError("no answer")]
    assert not await world.publisher.attempt()
    assert world.publisher.statistics().missing == "no answer"
    assert await world.publisher.attempt()
    assert world.log.sizes == [3]


async def test_a_larger_tree_that_somebody_else_published_stays() -> None:
    """That of another process over the same storage: this one says so, and comes back to it."""
    world = World(GrowingLog(3, is_overtaken=True))
    assert not await world.publisher.attempt()
    assert "a larger tree" in world.publisher.statistics().missing


async def test_a_log_that_was_lost_to_another_sequencer_ends_it() -> None:
    """Nothing is tried again: the other one publishes."""
    world = World()
    world.log.broken = [LogLostError("another sequencer")]
    with pytest.raises(LogLostError):
        await world.publisher.run()


EITHER = f"witness a {signing.A.verifier}\nwitness b {signing.C.verifier}\ngroup one any a b\nquorum one\n"


@pytest.mark.parametrize("is_own_head", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
async def test_rollback_of_our_own_log_that_is_proven_ends_it(is_own_head: bool, is_full: bool) -> None:  # noqa: FBT001
    """A witness shows that it saw more of it: nothing more is signed or published, and what it showed is kept."""
    world = World(GrowingLog(3, is_own_head=is_own_head, is_full=is_full), policy=EITHER)
    world.a.size, world.a.root, world.a.shown = 5, LAB.root(5), LAB.checkpoint(5)
    where = "could not be kept: the disk is full" if is_full else "kept as evidence/some.txt"
    with pytest.raises(RolledBackError, match=rf"at size 3, and its witness .* cosigned a tree of size 5, .*{where}"):
        await world.publisher.run()
    assert (world.log.notes, world.log.kept) == ([], [] if is_full else [LAB.checkpoint(5)])


async def test_rollback_that_is_only_said_ends_a_process_that_found_its_head() -> None:
    """Most likely the storage is an older copy; the message says how to go on where the witness is wrong."""
    world = World(policy=EITHER)
    world.a.size, world.a.root = 5, LAB.root(5)
    with pytest.raises(RolledBackError, match=r"does not prove it.*take it out of --witness and --policy"):
        await world.publisher.run()
    assert world.log.notes == []


async def test_attack_one_lying_witness_does_not_halt_a_log_that_runs(autojump_clock: trio.testing.MockClock) -> None:
    """We made the head ourselves: the liar counts as silent, the quorum goes on, and it is believed when it agrees."""
    world = World(GrowingLog(3, is_own_head=True), policy=EITHER)
    world.a.size, world.a.root = 500, LAB.root(500)
    for size in (3, 7):
        world.log.size = size
        assert await world.publisher.attempt()
    assert world.publisher.counts["witness-a.example", "contradicts"] == 2
    world.a.size, world.a.root = 7, LAB.root(7)
    world.log.size = 9
    assert await world.publisher.attempt()
    found = check_policy(world.log.notes[-1], world.policy).cosignatures
    assert {each.key for each in found} == {signing.A.verifier, signing.C.verifier}


async def test_without_the_liar_the_quorum_may_be_missed(autojump_clock: trio.testing.MockClock) -> None:
    """Both have to have cosigned: nothing is published, and the reason names it."""
    world = World(GrowingLog(3, is_own_head=True))
    world.a.size, world.a.root = 500, LAB.root(500)
    assert not await world.publisher.attempt()
    assert "has cosigned a tree of size 500" in world.publisher.statistics().missing


async def test_what_a_witness_saw_may_be_another_sequencer_s() -> None:
    """It extended the log over the same storage: that is no rollback, and this one stops as the loser."""
    world = World(GrowingLog(3, lost=LogLostError("another sequencer")))
    world.a.size, world.a.root, world.a.shown = 5, LAB.root(5), LAB.checkpoint(5)
    with pytest.raises(LogLostError):
        await world.publisher.attempt()


async def test_a_slow_witness_is_heard_before_the_first_record(autojump_clock: trio.testing.MockClock) -> None:
    """The quorum is met without it; it may be the only one that knows that we are an older copy."""
    world = World(policy=EITHER)
    world.a.size, world.a.root, world.a.latency = 5, LAB.root(5), 6
    with pytest.raises(RolledBackError):
        await world.publisher.attempt()
    world = World(GrowingLog(3, is_own_head=True), policy=EITHER)
    world.a.latency = 6
    start = trio.current_time()
    assert await world.publisher.attempt()
    assert trio.current_time() - start < 2


async def test_agreement_is_waited_for(autojump_clock: trio.testing.MockClock) -> None:
    """What another process published does not count: the witnesses have to have cosigned for this one."""
    world = World()
    world.b.is_down = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.publisher.run)
        with trio.move_on_after(20) as scope:
            await world.publisher.wait_agreed()
        assert scope.cancelled_caught
        world.b.is_down = False
        await world.publisher.wait_agreed()
        nursery.cancel_scope.cancel()


async def test_a_head_that_no_client_would_accept_is_not_published() -> None:
    """A line of our own that does not verify: the last good checkpoint stays, and it is an error of ours."""

    class Broken(GrowingLog):
        @property
        def head(self) -> bytes:
            good = super().head
            text, _, lines = good.rpartition(b"\n\n")
            other = LAB.sign(LAB.text(4), *LAB.keys).rpartition(b"\n\n")[2]
            return text + b"\n\n" + lines.splitlines(keepends=True)[1] + other.splitlines(keepends=True)[0]

    world = World(Broken(3))
    world.a.log = world.b.log = (OWN[1],)
    with pytest.raises(SignatureError, match="the log's own head does not verify"):
        await world.publisher.attempt()
    assert world.log.notes == []
