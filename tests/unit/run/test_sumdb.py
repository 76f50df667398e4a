"""A whole checksum database over loopback: look-ups that make it grow, witnesses that are down, wrong or ahead."""

from __future__ import annotations

import shutil
import threading
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    LogLostError,
    RolledBackError,
    SignatureError,
    UpstreamUnreachableError,
    leaves_of,
)
from mirrorwitness.fetch import HostGate
from mirrorwitness.run import sumdb
from mirrorwitness.run.publishing import PublishWishes
from mirrorwitness.run.sumdb import check_log, init_log
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import leaf_hash
from mirrorwitness.tlog.policy import check_policy
from mirrorwitness.tlog.proof import parse_proof, verify_proof
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import Dialect, edge_tiles
from mirrorwitness.tlog.witnessing import SIZE_TYPE
from tests.fakes.cosigners import FakeWitness, sign_as
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry_server import Reply as ServedReply
from tests.fakes.serving import serve as serve_sim
from tests.unit.run.sumdb_site import ORIGIN, W1, W2, Site, Watcher, open_site, wait_until_answered
from tests.unit.storage.lying import IgnoringStorage, RacyStorage, RefusingStorage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.run.ingesting import Ingesting
    from mirrorwitness.run.sumdb import SumdbWishes
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.faults import Fault
    from mirrorwitness.sumdb.records import Record
    from tests.fakes.storage import MemoryStorage
    from tests.unit.run.sumdb_site import Reply

pytestmark = pytest.mark.timeout(60)


@asynccontextmanager
async def witnessed(folder: Path) -> AsyncGenerator[tuple[Site, Watcher, Watcher], None]:
    """A site with two witnesses that are up."""
    async with open_site(folder) as site:
        first, second = Watcher(W1, site.log), Watcher(W2, site.log)
        async with first.running(), second.running():
            yield site, first, second


def verify(site: Site, reply: Reply, *watchers: Watcher) -> Record:
    """Check an answer as any reader of C2SP tlog-proof does, under a policy that wants all witnesses."""
    proof = parse_proof(reply.body)
    assert proof.extra is not None
    verify_proof(proof, leaf=leaf_hash(proof.extra), policy=site.policy(*watchers))
    return parse_record(proof.extra)


async def wait_for(site: Site, metric: str) -> None:
    """Wait until the database shows a metric with a value."""
    with trio.fail_after(20):
        while f"{metric}\n".encode() not in (await site.get("/metrics")).body:  # noqa: ASYNC110 - nobody tells us
            await trio.sleep(0.02)


async def find_faults(site: Site) -> list[Fault]:
    faults: list[Fault] = []
    await check_log(site.storage, on_fault=faults.append, on_progress=lambda _done, _all: None)
    return faults


@pytest.mark.slow
async def test_a_log_grows_by_what_is_looked_up_and_is_cosigned_by_two_of_two(tmp_path: Path) -> None:
    """From `init` to a proof that a client believes: nobody posted anything, and fsck finds nothing wrong."""
    async with witnessed(tmp_path) as (site, *both):
        site.publish("left", "1.0.0")
        site.publish("@s/right", "2.0.0-rc.1")
        async with site.serving(site.wishes(*both)):
            record = verify(site, await site.get("/lookup/left@1.0.0"), *both)
            assert (record.name, record.version, record.event) == ("left", "1.0.0", Event.PUBLISH)
            assert len(record.signatures) == 1
            assert verify(site, await site.get("/lookup/@s%2fright@2.0.0-rc.1"), *both).name == "@s/right"
            missing = await site.get("/lookup/left@9.9.9")
            assert (missing.status, b"the registry has no version 9.9.9" in missing.body) == (404, True)
            metrics = (await site.get("/metrics")).body.decode()
            assert "mirrorwitness_sumdb_logged_records 2.0" in metrics
            assert "mirrorwitness_sumdb_published_records 2.0" in metrics
            assert 'sumdb_witness_answers_total{outcome="cosigned",witness="w1.example/ours"} 3.0' in metrics
        assert site.told == []
        assert await find_faults(site) == []


@pytest.mark.slow
async def test_what_was_logged_is_there_after_a_restart(tmp_path: Path) -> None:
    """The next process asks witnesses from where they are, and adds behind what is there."""
    async with witnessed(tmp_path) as (site, *both):
        site.publish("left", "1.0.0")
        for _ in range(2):
            async with site.serving(site.wishes(*both)):
                assert verify(site, await site.get("/lookup/left@1.0.0"), *both).version == "1.0.0"
        site.publish("left", "1.1.0")
        async with site.serving(site.wishes(*both)):
            reply = await site.get("/lookup/left@1.1.0")
            assert verify(site, reply, *both).version == "1.1.0"
            assert parse_lookup(reply.body, has_checkpoint=True).index == 1


@pytest.mark.slow
async def test_a_server_that_begins_without_a_witness_adds_nothing_until_it_is_there(tmp_path: Path) -> None:
    """What was published is answered, and the operator is told; with the witness the log grows."""
    async with open_site(tmp_path) as site:
        first, second = Watcher(W1, site.log), Watcher(W2, site.log)
        site.publish("left", "1.0.0")
        site.publish("right", "1.0.0")
        async with first.running():
            async with second.running():
                wishes = site.wishes(first, second)
                async with site.serving(wishes):
                    await site.get("/lookup/left@1.0.0")
            async with site.serving(wishes):
                assert "is not published yet, and nothing is added until it is: the quorum is not met" in site.told[-1]
                assert verify(site, await site.get("/lookup/left@1.0.0"), first, second).name == "left"
                async with second.running():
                    assert (await wait_until_answered(site, "/lookup/right@1.0.0", 200)).status == 200


@pytest.mark.slow
async def test_while_a_witness_is_down_the_older_checkpoint_stays(tmp_path: Path) -> None:
    """What was published is answered, what is new is logged and waits, and with the witness it is there."""
    async with open_site(tmp_path) as site:
        first, second = Watcher(W1, site.log), FakeWitness(W2, log=site.keys)
        policy = site.policy(first, Watcher(W2, site.log))
        site.publish("left", "1.0.0")
        site.publish("right", "1.0.0")
        async with first.running(), serve_sim(second):
            wishes = site.wishes(first)
            flags = (*wishes.publishing.witnesses, *second.flags)
            async with site.serving(replace(wishes, publishing=replace(wishes.publishing, witnesses=flags))):
                await site.get("/lookup/left@1.0.0")
                second.reply = ServedReply(503, ())
                answers: list[Reply] = []

                async def look_up() -> None:
                    answers.append(await wait_until_answered(site, "/lookup/right@1.0.0", 200))

                async with trio.open_nursery() as nursery:
                    nursery.start_soon(look_up)
                    await wait_for(site, "sumdb_logged_records 2.0")
                    tree = check_policy((await site.get("/checkpoint")).body, policy).opened.checkpoint
                    assert (tree.size, answers) == (1, [])
                    assert (await site.get("/lookup/left@1.0.0")).status == 200
                    second.reply = None
                    await wait_for(site, "sumdb_published_records 2.0")
                proof = parse_proof(answers[0].body)
                assert check_policy(proof.checkpoint, policy).opened.checkpoint.size == 2


@pytest.mark.slow
async def test_attack_one_witness_that_lies_does_not_halt_a_log_that_runs(tmp_path: Path) -> None:
    """It says that it saw more, once the log has grown: one of two suffices, and look-ups go on."""
    async with open_site(tmp_path) as site:
        honest, liar = Watcher(W1, site.log), FakeWitness(W2, log=site.keys)
        for version in ("1.0.0", "1.1.0"):
            site.publish("left", version)
        policy = tmp_path / "policy"
        policy.write_text(
            f"witness a {W1.verifier}\nwitness b {W2.verifier}\ngroup any any a b\nquorum any\n", encoding="utf-8"
        )
        async with honest.running(), serve_sim(liar):
            wishes = site.wishes(honest, policy=policy)
            flags = (*wishes.publishing.witnesses, *liar.flags)
            wishes = replace(wishes, publishing=replace(wishes.publishing, witnesses=flags))
            async with site.serving(wishes):
                assert (await site.get("/lookup/left@1.0.0")).status == 200
                liar.reply = ServedReply(409, (("content-type", SIZE_TYPE),), b"1000\n")
                assert (await site.get("/lookup/left@1.1.0")).status == 200
                metrics = (await site.get("/metrics")).body
                assert b'sumdb_witness_answers_total{outcome="contradicts",witness="w2.example/ours"} 1.0' in metrics
            (error,) = await ended_by(site, wishes)
        assert isinstance(error, RolledBackError)
        assert "take it out of --witness and --policy" in str(error), "one that begins cannot know better"


@pytest.mark.slow
async def test_a_witness_whose_lines_are_wrong_is_passed_over(tmp_path: Path) -> None:
    """One of two suffices here: its line is in the checkpoint, nothing of the liar's is."""
    async with open_site(tmp_path) as site:
        honest = Watcher(W1, site.log)
        liar = FakeWitness(W2, log=site.keys)
        liar.lines = lambda asked: [sign_as(W1, asked)]
        site.publish("left", "1.0.0")
        policy = tmp_path / "policy"
        policy.write_text(
            f"witness a {W1.verifier}\nwitness b {W2.verifier}\ngroup any any a b\nquorum any\n", encoding="utf-8"
        )
        async with honest.running(), serve_sim(liar):
            wishes = site.wishes(honest, policy=policy)
            flags = (*wishes.publishing.witnesses, *liar.flags)
            wishes = replace(wishes, publishing=replace(wishes.publishing, witnesses=flags))
            async with site.serving(wishes):
                reply = await site.get("/lookup/left@1.0.0")
                assert verify(site, reply, honest).name == "left"
                with pytest.raises(SignatureError):
                    check_policy(parse_proof(reply.body).checkpoint, site.policy(Watcher(W2, site.log)))
        assert liar.asked


@pytest.mark.slow
async def test_a_log_that_was_restored_from_an_older_copy_stops_before_it_signs(tmp_path: Path) -> None:
    """Its witnesses saw more of it: nothing more is logged, and the message says what to do."""
    async with witnessed(tmp_path) as (site, *both):
        for version in ("1.0.0", "1.1.0"):
            site.publish("left", version)
        copy = tmp_path / "copy"
        async with site.serving(site.wishes(*both)):
            await site.get("/lookup/left@1.0.0")
        shutil.copytree(tmp_path / "sumdb", copy)
        async with site.serving(site.wishes(*both)):
            await site.get("/lookup/left@1.1.0")
        shutil.rmtree(tmp_path / "sumdb")
        copy.rename(tmp_path / "sumdb")
        (error,) = await ended_by(site, site.wishes(*both))
        assert isinstance(error, RolledBackError)
        assert "has cosigned a tree of size 2, and it shows a checkpoint that this log's own keys signed" in str(error)
        (kept,) = (tmp_path / "sumdb" / "evidence" / "sumdb-heads").iterdir()
        assert open_checkpoint(kept.read_bytes(), site.keys, origin=ORIGIN).checkpoint.size == 2
        tree = (await all_sizes(site)).pop()
        assert tree == 1, "nothing was signed meanwhile"


async def all_sizes(site: Site) -> set[int]:
    """Return the size of the log's newest head, recomputed."""
    report = await check_log(site.storage, on_fault=lambda _: None, on_progress=lambda _done, _all: None)
    return {report.size}


async def ended_by(site: Site, wishes: SumdbWishes) -> list[BaseException]:
    """Run the database until it ends by itself, and return why."""
    try:
        async with site.serving(wishes):
            await trio.sleep(10)
    except BaseExceptionGroup as group:
        return leaves_of(group)
    raise AssertionError("it went on")


@pytest.mark.slow
async def test_a_server_that_only_reads_needs_no_key(tmp_path: Path) -> None:
    """It serves what is there, a view at a size as well, and sends nobody to the registry."""
    async with witnessed(tmp_path) as (site, *both):
        site.publish("left", "1.0.0")
        site.publish("right", "1.0.0")
        async with site.serving(site.wishes(*both)):
            await site.get("/lookup/left@1.0.0")
        (tmp_path / "sumdb.key").unlink()
        reading = replace(site.wishes(), keys=(), is_read_only=True)
        async with site.serving(reading):
            assert verify(site, await site.get("/lookup/left@1.0.0"), *both).name == "left"
            assert (await site.get("/lookup/right@1.0.0")).status == 404
        (error,) = await ended_by(site, replace(reading, is_read_only=False, at=2))
        assert "--at 2: the newest tree that is published has 1 records" in str(error)
        async with site.serving(replace(reading, is_read_only=False, at=0)):
            assert (await site.get("/lookup/left@1.0.0")).status == 404


@pytest.mark.slow
async def test_a_second_sequencer_stops(tmp_path: Path) -> None:
    """Of two over one storage the one that loses a swap ends, with what it was asked for; the other goes on."""
    async with open_site(tmp_path) as site:
        for name in ("a", "b", "c"):
            site.publish(name, "1.0.0")
        statuses: list[int] = []

        async def duel() -> None:
            async with site.serving(site.wishes()):
                loser = site.url
                async with site.serving(site.wishes()):
                    winner = site.url
                    for url, name in ((winner, "a"), (loser, "b"), (winner, "c")):
                        site.url = url
                        statuses.append((await site.get(f"/lookup/{name}@1.0.0")).status)

        leaves: list[BaseException] = []
        try:
            await duel()
        except BaseExceptionGroup as group:
            leaves = leaves_of(group)
        # Whoever asked the loser is told to come back, or cut off where it ended before.
        (error,) = [leaf for leaf in leaves if not isinstance(leaf, UpstreamUnreachableError)]
        assert isinstance(error, LogLostError)
        assert "there can be one only" in str(error)
        assert statuses[:2] in ([200], [200, 503])
        assert await find_faults(site) == []


@pytest.mark.slow
async def test_a_feed_fills_the_log(tmp_path: Path) -> None:
    """What the registry announces is there before anybody looks it up."""
    async with open_site(tmp_path) as site:
        feed = FeedSimulator(site.sim)
        site.publish("left", "1.0.0")
        site.publish("left", "1.1.0")
        async with serve_sim(feed), site.serving(site.wishes(feed=feed.base)):
            await wait_for(site, "sumdb_published_records 2.0")
            assert (await site.get("/lookup/left@1.1.0?size=2")).status == 200


async def test_a_feed_that_cannot_be_followed_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    """Every minute; look-ups go on meanwhile. What must not be tried again ends the server."""
    errors = [UpstreamUnreachableError("no route"), BudgetExhaustedError("used up"), LogLostError("another one")]
    times: list[float] = []

    async def follow_feed(_ingesting: object, *, is_once: bool) -> None:
        assert not is_once
        await trio.lowlevel.checkpoint()
        times.append(trio.current_time())
        raise errors[len(times) - 1]

    monkeypatch.setattr(sumdb, "follow_feed", follow_feed)
    with pytest.raises(LogLostError):
        await sumdb._follow(cast("Ingesting", None))
    assert [time - times[0] for time in times] == pytest.approx([0, 60, 120])


@pytest.mark.parametrize("kind", [RefusingStorage, IgnoringStorage, RacyStorage])
async def test_a_storage_without_compare_and_swap_is_no_place_for_a_log(
    monkeypatch: pytest.MonkeyPatch, kind: type[MemoryStorage]
) -> None:
    """Refused before a key is written: two sequencers would overwrite each other."""
    kept: list[str] = []
    storage = kind()

    @asynccontextmanager
    async def open_storage(address: str) -> AsyncGenerator[Storage, None]:
        assert address == "place"
        yield storage

    monkeypatch.setattr(sumdb, "open_storage", open_storage)
    with pytest.raises(ConfigurationError, match=r"--storage place: a log cannot rely on it \(.+\)"):
        await init_log("place", name=ORIGIN, keep=kept.append)
    assert kept == []


@pytest.mark.slow
async def test_any_file_server_can_serve_the_log(tmp_path: Path) -> None:
    """The folder log/ is a C2SP tlog-tiles log: its root is computed from what plain files say, without our server."""
    async with open_site(tmp_path) as site:
        for number in range(5):
            site.publish("left", f"1.{number}.0")
        async with site.serving(site.wishes()):
            for number in range(5):
                await site.get(f"/lookup/left@1.{number}.0")
        handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "sumdb" / "log"))
        with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            client = LogClient(
                log=site.log,
                url=f"http://127.0.0.1:{server.server_port}",
                dialect=Dialect.TILES,
                fetcher=site.fetcher,
                gate=HostGate(),
            )
            try:
                tree = open_checkpoint(await client.read_head(), site.keys, origin=ORIGIN).checkpoint
                hashes = TileHashes(tree.size, await client.read_tiles(edge_tiles(tree.size)))
            finally:
                await trio.to_thread.run_sync(server.shutdown)
                thread.join()
        assert (tree.size, hashes.root()) == (5, tree.root)


@pytest.mark.slow
async def test_a_log_is_never_begun_anew(tmp_path: Path) -> None:
    """Not over one that is there; and no key is written then."""
    async with open_site(tmp_path) as site:
        kept: list[str] = []
        with pytest.raises(ConfigurationError, match="never begun anew"):
            await init_log(site.storage, name=ORIGIN, keep=kept.append)
        assert kept == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": ()}, "no key: give --key FILE"),
        ({"keys": ("missing.key",)}, "--key missing.key: cannot be read"),
        ({"keys": ("PRIVATE+KEY+x",)}, "in place of a file's name"),
        ({"publishing": PublishWishes(witnesses=("nonsense",))}, "expected VKEY=URL"),
        ({"publishing": PublishWishes(policy=Path("missing.policy"))}, "--policy missing.policy"),
        ({"authority": (("@s", "http://elsewhere.example"),)}, "is none of the registries"),
    ],
)
async def test_what_does_not_fit_is_refused_before_anything_is_served(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    """One sentence that names the flag."""
    async with open_site(tmp_path) as site:
        wishes = replace(site.wishes(), **change)
        errors = await ended_by(site, wishes)
        assert [type(error) for error in errors] == [ConfigurationError]
        assert message in str(errors[0])


@pytest.mark.slow
async def test_the_name_of_the_log_is_no_witness_s(tmp_path: Path) -> None:
    """Equal names across roles are refused: one could be taken for the other."""
    async with open_site(tmp_path) as site:
        own = make_signer_key(ORIGIN, bytes([9] * 32), KeyType.COSIGNATURE)
        wishes = replace(site.wishes(), publishing=PublishWishes(witnesses=(f"{own.verifier}=http://127.0.0.1:1/",)))
        (error,) = await ended_by(site, wishes)
        assert "no name has two roles" in str(error)
