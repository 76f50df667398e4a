"""A log that brings itself to log mirrors: what counts for the quorum, and what never holds anybody up."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

import pytest
import trio

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamUnreachableError
from mirrorwitness.fetch import Backoff
from mirrorwitness.logmirror.upload import Uploaded, Uploader
from mirrorwitness.run import pushing as module
from mirrorwitness.run.publishing import PublishWishes, read_quorum
from mirrorwitness.run.pushing import MirrorPush, sample_pushes
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.sumdb.contradiction import Contradiction
from mirrorwitness.sumdb.quorum import KnownWitness
from mirrorwitness.tlog.cosignature import Cosignature, Statement, timestamp_of
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.policy import check_policy, parse_policy
from mirrorwitness.tlog.proof import parse_proof
from mirrorwitness.witness.lab import sign_line
from tests.unit.logmirror.sources import listening
from tests.unit.logmirror.world import OURS
from tests.unit.run.sumdb_site import W1, Watcher, mirror_of, mirrored, open_site, wait_until_answered
from tests.unit.tlog import signing
from tests.unit.witness.log_server import make_lab

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.run.sumdb import SumdbWishes
    from mirrorwitness.sumdb.cosign import Prove
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.merkle import Hash

LAB = make_lab("a", KeyType.ED25519, KeyType.ML_DSA_44)
OWN = [key.verifier for key in LAB.keys]


def with_mirror(wishes: SumdbWishes, url: str) -> SumdbWishes:
    """Return the same wishes, with a mirror."""
    return replace(wishes, publishing=replace(wishes.publishing, mirrors=(f"{OURS.verifier}={url}",)))


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_mirror_that_the_policy_names_cosigns_what_is_published(tmp_path: Path) -> None:
    """One witness and one mirror, both needed: each published tree is held by the mirror, which says so."""
    async with open_site(tmp_path) as site:
        watcher, world = Watcher(W1, site.log), mirror_of(site)
        app = LogMirrorApp(mirror=await world.start(), storage=world.storage)
        policy = tmp_path / "policy"
        policy.write_text(
            f"witness w {W1.verifier}\nwitness m {OURS.verifier} https://mirror.example\ngroup both all w m\n"
            "quorum both\n",
            encoding="utf-8",
        )
        async with watcher.running(), listening(app) as url:
            async with site.serving(with_mirror(site.wishes(watcher, policy=policy), url)):
                site.publish("p0", "1.0.0")
                reply = await site.get("/lookup/p0@1.0.0")
                for number in range(1, 3):
                    site.publish(f"p{number}", "1.0.0")
                    reply = await site.get(f"/lookup/p{number}@1.0.0")
                    assert reply.status == 200
                    assert mirrored(site, world) == number + 1
                metrics = (await site.get("/metrics")).body.decode()
            assert 'sumdb_mirrored_records{mirror="mirror.example/m1"} 3.0' in metrics
            assert 'answers_total{outcome="cosigned",witness="mirror.example/m1"} 4.0' in metrics
        clients = parse_policy(b"log %b\n" % str(site.keys[0]).encode() + policy.read_bytes())
        found = check_policy(parse_proof(reply.body).checkpoint, clients).cosignatures
        assert {each.key for each in found} == {W1.verifier, OURS.verifier}


@pytest.mark.slow
@pytest.mark.timeout(60)
async def test_a_mirror_that_is_down_holds_nothing_up_and_is_brought_all_later(
    tmp_path: Path,
) -> None:
    """The policy does not name it: look-ups go on, and when it is there it gets everything."""
    async with open_site(tmp_path) as site:
        world = mirror_of(site)
        app = LogMirrorApp(mirror=await world.start(), storage=world.storage)
        async with listening(app) as url:
            address = url
        port = int(address.rpartition(":")[2])
        site.publish("left", "1.0.0")
        async with site.serving(with_mirror(site.wishes(), address)):
            assert (await wait_until_answered(site, "/lookup/left@1.0.0", 200)).status == 200
            assert (mirrored(site, world), b"mirrored_records{" in (await site.get("/metrics")).body) == (0, False)
            shutdown = trio.Event()
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(serve_app, app, host="127.0.0.1", port=port, shutdown=shutdown))
                with trio.fail_after(20):
                    while mirrored(site, world) != 1:  # noqa: ASYNC110 - nobody tells us
                        await trio.sleep(0.02)
                shutdown.set()


@dataclass
class SlowUploader:
    """Takes some seconds for each push, or fails."""

    seconds: float = 1.0
    errors: list[MirrorWitnessError] = field(default_factory=list["MirrorWitnessError"])
    begun: list[int] = field(default_factory=list[int])
    in_flight: int = 0

    async def push(self, head: OpenedCheckpoint) -> Uploaded:
        assert self.in_flight == 0, "one push at a time"
        self.in_flight += 1
        self.begun.append(head.checkpoint.size)
        try:
            await trio.sleep(self.seconds)
        finally:
            self.in_flight -= 1
        if self.errors:
            raise self.errors.pop(0)
        line = sign_line(signing.A, head.note.text, 1_700_000_000 + len(self.begun))
        return Uploaded((Cosignature(signing.A.verifier, timestamp_of(line), line),), 1, 100)


def make_push(uploader: SlowUploader) -> MirrorPush:
    return MirrorPush(
        uploader=cast("Uploader", uploader),
        keys=[signing.A.verifier],
        log=OWN,
        tries=Backoff(base=2, cap=300),
        jitter=lambda: 1.0,
    )


def head(size: int) -> bytes:
    return LAB.sign(LAB.text(size), *LAB.keys)


def statement(size: int) -> Statement:
    return Statement(LAB.origin, 0, size, LAB.root(size), LAB.text(size))


async def no_proof(_old: int, _new: int, _root: Hash) -> Sequence[Hash]:
    raise AssertionError("a push makes its own proofs")


PROVE: Prove = no_proof


async def test_of_many_heads_the_newest_is_pushed(autojump_clock: trio.testing.MockClock) -> None:
    """While one is under way others come: none of those between is sent, and no two at once."""
    uploader = SlowUploader(10)
    push = make_push(uploader)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push.run)
        for size in range(1, 20):
            push.want(head(size))
            await trio.sleep(1)
        await trio.sleep(20)
        nursery.cancel_scope.cancel()
    assert uploader.begun == [1, 11, 19]
    assert [sample.value for sample in sample_pushes([push, make_push(uploader)])] == [19]
    assert repr(push) == "<MirrorPush to witness-a.example, 19 entries>"


async def test_what_fails_is_tried_again_later_and_later(autojump_clock: trio.testing.MockClock) -> None:
    """Also where our own tiles are at fault: that is told, and ends nothing here."""
    uploader = SlowUploader(
        0, errors=[UpstreamUnreachableError("down"), ProofError("tiles"), *[UpstreamUnreachableError("down")] * 20]
    )
    push = make_push(uploader)
    with trio.move_on_after(1000):
        push.want(head(3))
        await push.run()
    assert 8 <= len(uploader.begun) <= 12


async def test_a_cosigner_that_has_no_more_time_leaves_the_push_to_go_on(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first copy takes longer than a round of witnesses: the next rounds find it done."""
    uploader = SlowUploader(100)
    push = make_push(uploader)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(push.run)
        with trio.move_on_after(15) as scope:
            await push.ask(head(3), statement(3), PROVE)
        assert scope.cancelled_caught
        await trio.sleep(101)
        uploader.seconds = 1
        for _ in range(2):
            (found,) = cast("tuple[Cosignature, ...]", await push.ask(head(3), statement(3), PROVE))
            assert found.key == signing.A.verifier
        nursery.cancel_scope.cancel()
    assert uploader.begun == [3, 3]


async def test_an_unchanged_head_is_cosigned_again_after_a_while(autojump_clock: trio.testing.MockClock) -> None:
    """Its cosignature stays young, as those of witnesses do."""
    uploader = SlowUploader(1)
    push = make_push(uploader)
    for _ in range(3):
        await push.ask(head(3), statement(3), PROVE)
        await trio.sleep(module.FRESH_SECONDS / 2)
    assert uploader.begun == [3, 3]
    said = Contradiction("m", "says nothing", b"")
    assert await push.examine(said, statement(3), PROVE) is said
    assert await make_push(uploader).settle(), "nothing is wanted"


def test_no_name_is_a_mirror_s_and_a_witness_s() -> None:
    """Three kinds of statement, three keys; and a mirror's key in a policy with a URL is not asked as a witness."""
    flag = f"{signing.A.verifier}=https://a.example"
    with pytest.raises(ConfigurationError, match=r"--mirror: witness-a\.example is the name of a witness"):
        read_quorum(PublishWishes(witnesses=(flag,), mirrors=(flag,)), OWN)
    with pytest.raises(ConfigurationError, match="--mirror 'nonsense': expected VKEY=URL"):
        read_quorum(PublishWishes(mirrors=("nonsense",)), OWN)
    found = read_quorum(PublishWishes(mirrors=(flag,)), OWN)
    assert (found.witnesses, found.policy.quorum, found.is_counted(signing.A.name)) == ((), None, False)
    assert found.mirrors == (KnownWitness("https://a.example", (signing.A.verifier,)),)


def test_a_mirror_may_be_what_the_policy_wants(tmp_path: Path) -> None:
    """It counts by the flag, at the flag's URL."""
    policy = tmp_path / "policy"
    policy.write_text(f"witness m {signing.A.verifier} https://elsewhere.example\nquorum m\n", encoding="utf-8")
    flag = f"{signing.A.verifier}=https://a.example"
    found = read_quorum(PublishWishes(mirrors=(flag,), policy=policy), OWN)
    assert (found.witnesses, found.is_counted(signing.A.name)) == ((), True)
    assert [each.url for each in found.mirrors] == ["https://a.example"]
