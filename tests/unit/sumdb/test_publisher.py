"""Publishing: the quorum before the checkpoint, always; what fails is tried again, and what must not be goes up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import LogLostError, RolledBackError, SignatureError, StorageUnavailableError
from mirrorwitness.fetch import Backoff, HostGate
from mirrorwitness.sumdb.cosign import Cosigner, WitnessClient
from mirrorwitness.sumdb.publisher import Publication, Publisher
from mirrorwitness.sumdb.quorum import KnownWitness, make_quorum
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.policy import check_policy
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

    def __init__(self, log: GrowingLog | None = None) -> None:
        self.a = FakeWitness(signing.A, log=OWN, name="a")
        self.b = FakeWitness(signing.C, log=OWN, name="b")
        self.log = log or GrowingLog(3)
        fetcher = AskFetcher(self.a, self.b)
        known = [KnownWitness(each.base, tuple(key.verifier for key in each.keys)) for each in (self.a, self.b)]
        clients = [WitnessClient(keys=one.keys, url=one.url, fetcher=fetcher, gate=HostGate()) for one in known]
        self.policy = make_quorum(OWN, known, None)
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


async def test_rollback_of_our_own_log_ends_it() -> None:
    """A witness saw more of it: nothing more is signed or published."""
    world = World()
    world.a.size, world.a.root = 5, LAB.root(5)
    with pytest.raises(RolledBackError):
        await world.publisher.run()
    assert world.log.notes == []


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
