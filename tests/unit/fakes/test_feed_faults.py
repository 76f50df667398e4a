"""Each fault of feed and registry simulator does what its name says, as often as planned, and heals."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import UpstreamUnreachableError
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import Fault, RegistrySimulator
from tests.unit.fakes.asking import ask, names, packument, reply
from tests.unit.mirror.direct import DirectFetcher

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.fixture
def sim() -> RegistrySimulator:
    return RegistrySimulator()


@pytest.fixture
def feed(sim: RegistrySimulator) -> FeedSimulator:
    return FeedSimulator(sim)


def test_late_row_appears_behind_the_position(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """The row comes after so many polls, at its old place: a forward reader has passed it."""
    sim.publish("a", "1.0.0")
    feed.delay("a", polls=2)
    sim.publish("a", "2.0.0")
    sim.publish("b", "1.0.0")
    first = ask(feed)
    assert [(row["id"], row["changes"][0]["rev"][0]) for row in first["results"]] == [("a", "1"), ("b", "1")]
    assert names(feed, first["last_seq"]) == []
    found = ask(feed)
    assert [(row["id"], row["changes"][0]["rev"][0]) for row in found["results"]] == [("a", "2"), ("b", "1")]
    assert found["results"][0]["seq"] < first["last_seq"] == found["last_seq"]
    assert names(feed, first["last_seq"]) == []


def test_late_row_is_in_the_list_of_all_documents(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """Only the feed is late; a sweep sees the revision, and the head counts the row."""
    sim.publish("b", "1.0.0")
    feed.delay("a", polls=5)
    sim.publish("a", "1.0.0")
    assert names(feed) == ["b"]
    assert [row["id"] for row in ask(feed, "/_all_docs")["rows"]] == ["a", "b"]
    assert ask(feed, "/")["update_seq"] > ask(feed)["last_seq"]


def test_overtaken_late_row_never_appears(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """One row per package: a newer change that was on time stays."""
    feed.delay("a", polls=1)
    sim.publish("a", "1.0.0")
    sim.publish("a", "2.0.0")
    for _ in range(3):
        (row,) = ask(feed)["results"]
        assert row["changes"][0]["rev"].startswith("2-")


async def test_late_row_by_the_clock(sim: RegistrySimulator, feed: FeedSimulator, autojump_clock: MockClock) -> None:
    """A row can be late until a time."""
    feed.delay("a", until=trio.current_time() + 7200)
    sim.publish("a", "1.0.0")
    assert names(feed) == []
    await trio.sleep(7199)
    assert names(feed) == []
    await trio.sleep(1)
    assert names(feed) == ["a"]


def test_lost_event(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """It never appears until the next change; a sweep finds it, unless it was lost everywhere."""
    for name in ("a", "b"):
        sim.publish(name, "1.0.0")
    feed.lose("a")
    feed.lose("b", everywhere=True)
    sim.publish("a", "2.0.0")
    sim.remove("b")
    feed.heal()
    assert [row["changes"][0]["rev"][0] for row in ask(feed)["results"]] == ["1", "1"]
    listed = {row["id"]: row["value"]["rev"][0] for row in ask(feed, "/_all_docs")["rows"]}
    assert listed == {"a": "2", "b": "1"}
    sim.publish("a", "3.0.0")
    assert names(feed) == ["b", "a"]


def test_head_regression(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """All rows get lower sequences in the same order; an old position is above the head, and hears nothing."""
    for name in ("a", "b", "c", "a"):
        sim.publish(name, "1.0.0")
    before = ask(feed, "/")["update_seq"]
    feed.delay("d", polls=9)
    sim.publish("d", "1.0.0")
    feed.regress()
    assert ask(feed, "/")["update_seq"] == 4 < before
    assert [(row["seq"], row["id"]) for row in ask(feed)["results"]] == [(1, "b"), (2, "c"), (3, "a")]
    assert ask(feed, f"/_changes?since={before}") == {"results": [], "last_seq": before}
    feed.heal()
    sim.publish("e", "1.0.0")
    assert names(feed) == ["b", "c", "a", "d", "e"]


def test_invented_rows(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """The feed can name what the registry answers 404 for, design documents, and revisions that never come."""
    sim.publish("a", "1.0.0")
    feed.announce("ghost")
    feed.announce("_design/app")
    feed.announce("a", "9-" + "0" * 32)
    assert names(feed) == ["ghost", "_design/app", "a"]
    assert packument(sim, "ghost")[0] == 404
    assert packument(sim, "a")[1].startswith("1-")


def test_announced_before_it_is_shown(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """The registry stays at the older revision for so many answers, whatever happens meanwhile."""
    sim.publish("a", "1.0.0")
    sim.hold_packument("a", answers=2)
    sim.publish("a", "2.0.0")
    sim.publish("a", "3.0.0")
    assert ask(feed)["results"][0]["changes"][0]["rev"].startswith("3-")
    assert [packument(sim, "a")[1][0] for _ in range(4)] == ["1", "1", "3", "3"]


def test_deletion_and_creation_are_held_too(sim: RegistrySimulator) -> None:
    """Where there was nothing, 404 is held; where a document was, it outlives its deletion until it is released."""
    sim.hold_packument("a", answers=1)
    sim.publish("a", "1.0.0")
    assert [packument(sim, "a")[0] for _ in "12"] == [404, 200]
    sim.hold_packument("a")
    sim.remove("a")
    assert [packument(sim, "a") for _ in "12"] == [packument(sim, "a")] * 2
    sim.release_packument("a")
    assert packument(sim, "a")[0] == 404


async def test_held_until_a_time(sim: RegistrySimulator, autojump_clock: MockClock) -> None:
    sim.publish("a", "1.0.0")
    sim.hold_packument("a", until=trio.current_time() + 10)
    sim.publish("a", "2.0.0")
    found = []
    for _ in range(3):
        found.append(packument(sim, "a")[1][0])
        await trio.sleep(5)
    assert found == ["1", "1", "2"]


def test_packument_goes_backwards(sim: RegistrySimulator) -> None:
    """An older edge answers so many times, also with what was deleted meanwhile."""
    for version in ("1.0.0", "2.0.0", "3.0.0"):
        sim.publish("a", version)
    assert packument(sim, "a")[1][0] == "3"
    sim.serve_older("a", revisions=2)
    assert [packument(sim, "a")[1][0] for _ in "12"] == ["1", "3"]
    sim.remove("a")
    sim.serve_older("a")
    assert [packument(sim, "a")[0] for _ in "12"] == [200, 404]


def test_healed_registry_holds_nothing(sim: RegistrySimulator) -> None:
    sim.publish("a", "1.0.0")
    sim.hold_packument("a")
    sim.publish("a", "2.0.0")
    sim.heal()
    assert packument(sim, "a")[1].startswith("2-")


def test_pages_are_malformed(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """Each fault of pages hits as many pages as planned, one fault after another."""
    sim.publish("a", "1.0.0")
    sim.publish("b", "1.0.0")
    honest = ask(feed)
    feed.omit_last_seq()
    feed.reverse()
    feed.repeat(times=2)
    a, b = honest["results"]
    assert ask(feed) == {"results": [a, b]}
    assert ask(feed) == {**honest, "results": [b, a]}
    for _ in range(2):
        assert ask(feed) == {**honest, "results": [a, a, b, b]}
    assert ask(feed) == honest


def test_page_faults_without_end_are_healed(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    sim.publish("a", "1.0.0")
    feed.omit_last_seq(times=None)
    assert ["last_seq" in ask(feed) for _ in "123"] == [False] * 3
    feed.heal()
    assert "last_seq" in ask(feed)


def test_sequences_are_text(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """Every sequence is a string that is taken back as it was given, and not when it was changed."""
    for name in ("a", "b"):
        sim.publish(name, "1.0.0")
    feed.use_text()
    page = ask(feed, "/_changes?since=0&limit=1")
    seq = page["last_seq"]
    assert type(seq) is str
    assert page["results"][0]["seq"] == seq
    assert names(feed, seq) == ["b"]
    assert type(ask(feed, "/")["update_seq"]) is str
    assert reply(feed, f"/_changes?since={seq}0").status == 400
    assert reply(feed, f"/_changes?since={seq.partition('-')[0]}").status == 400
    end = ask(feed, f"/_changes?since={seq}")["last_seq"]
    assert ask(feed, f"/_changes?since={end}") == {"results": [], "last_seq": end}


def test_pages_are_smaller_than_asked_for(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """A short page is not the last one."""
    for name in ("a", "b", "c"):
        sim.publish(name, "1.0.0")
    feed.page_cap = 2
    page = ask(feed, "/_changes?limit=100")
    assert [len(page["results"]), len(names(feed, page["last_seq"]))] == [2, 1]


def test_dialect_changes(feed: FeedSimulator) -> None:
    """Everything is answered with 400 from one moment on."""
    feed.refuse()
    targets = ["/", "/_changes?since=0", "/registry/_changes", "/_all_docs"]
    assert [reply(feed, target).status for target in targets] == [400] * 4
    feed.heal()
    assert [reply(feed, target).status for target in targets] == [200] * 4


def test_answers_fail(sim: RegistrySimulator, feed: FeedSimulator) -> None:
    """The registry's faults happen to the feed, at the path that was named and below ``/registry`` alike."""
    sim.publish("a", "1.0.0")
    feed.fail("/_changes", Fault.status(429, retry_after="7"))
    feed.fail("/_changes", Fault.status(503))
    feed.fail("/_changes", Fault.html())
    feed.fail("/_changes", Fault.half())
    throttled, sick, page, half = (reply(feed, f"{mount}/_changes") for mount in ("", "/registry", "", ""))
    assert (throttled.status, dict(throttled.headers)["retry-after"]) == (429, "7")
    assert (sick.status, "retry-after" in dict(sick.headers)) == (503, False)
    assert (page.status, page.body[:9]) == (200, b"<!doctype")
    with pytest.raises(json.JSONDecodeError):
        json.loads(half.body)
    assert half.claimed is None
    assert names(feed) == ["a"]


async def test_answers_break_off(sim: RegistrySimulator, feed: FeedSimulator, autojump_clock: MockClock) -> None:
    """Without sockets too, a reset is a failure of the connection, and a slow answer takes its time."""
    sim.publish("a", "1.0.0")
    fetcher = DirectFetcher(feed)
    feed.fail("/_changes", Fault.reset())
    feed.fail("/_changes", Fault.drip(seconds=2))
    with pytest.raises(UpstreamUnreachableError):
        async with fetcher.request("GET", feed.base + "/_changes"):
            pass
    body = b""
    async with fetcher.request("GET", feed.base + "/_changes") as response:
        began = trio.current_time()
        while piece := await response.receive_some():
            assert len(piece) == 1
            body += piece
    assert json.loads(body)["results"][0]["id"] == "a"
    assert trio.current_time() - began >= 2 * len(body)
