"""What the feed simulator does beyond the contract of all feeds (`tests/contract/test_feed.py`)."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import RecordedRequest, RegistrySimulator, serve
from tests.fakes.registry_packages import Package
from tests.unit.fakes.asking import ask, names, reply
from tests.unit.mirror.direct import DirectFetcher

if TYPE_CHECKING:
    from collections.abc import Callable


def _make(*published: str) -> tuple[RegistrySimulator, FeedSimulator]:
    sim = RegistrySimulator()
    feed = FeedSimulator(sim)
    for name in published:
        sim.publish(name, "1.0.0")
    return sim, feed


def test_what_was_there_before_the_feed_has_rows() -> None:
    """A feed made later has the packages in the order of their first publication, with the revision they have now."""
    sim = RegistrySimulator()
    for name in ("b", "a", "b"):
        sim.publish(name, "1.0.0")
    sim.set_tarball("not-published", "x.tgz", b"x")
    feed = FeedSimulator(sim)
    assert names(feed) == ["b", "a"]
    assert ask(feed)["results"][0]["changes"] == [{"rev": sim.packument("b")["_rev"]}]


def test_every_way_to_change_the_registry_is_a_row() -> None:
    """Also the attacks that change a document are announced with its revision."""
    sim, feed = _make("a")
    seq = 0
    changes: list[Callable[[], object]] = [
        lambda: sim.republish("a", "1.0.0", {"other.js": b""}),
        lambda: sim.edit_packument("a"),
        lambda: sim.set_packument("a", b"{}"),
    ]
    for number, change in enumerate(changes, 2):
        change()
        (row,) = ask(feed, f"/_changes?since={seq}")["results"]
        assert row["changes"][0]["rev"].startswith(f"{number}-")
        seq = row["seq"]


def test_sequences_have_gaps_and_are_the_same_each_time() -> None:
    """About one sequence in five has a row; another seed has other gaps."""
    published = [f"p{n}" for n in range(200)]
    first, again = ([row["seq"] for row in ask(_make(*published)[1])["results"]] for _ in "12")
    assert first == again
    assert first[0] > 1000
    assert 600 < first[-1] - first[0] < 1400


def test_default_and_largest_page() -> None:
    """1,000 rows without a limit; 0 means 1, as in CouchDB."""
    _, feed = _make()
    for number in range(1001):
        feed.announce(f"p{number}")
    assert [len(ask(feed, target)["results"]) for target in ("/_changes", "/_changes?limit=10000")] == [1000, 1001]
    assert len(ask(feed, "/_all_docs")["rows"]) == 1000
    assert len(ask(feed, "/_changes?limit=0")["results"]) == 1


def test_all_docs_counts_what_lies_before() -> None:
    """``offset`` is how many documents come before the first row."""
    _, feed = _make("a", "b", "c")
    page = ask(feed, "/_all_docs?startkey=%22b%22&endkey=%22b%22")
    assert (page["total_rows"], page["offset"], [row["id"] for row in page["rows"]]) == (3, 1, ["b"])
    assert ask(feed, "/_all_docs?startkey_docid=b") == ask(feed, "/_all_docs?startkey=%22b%22")


@pytest.mark.parametrize("target", ["/_all_docs?startkey=b", "/_all_docs?startkey=1", "/_changes?descending=true"])
def test_refused_beyond_the_contract(target: str) -> None:
    """A key that is not quoted, and what is not simulated, is answered with 400, not ignored."""
    assert reply(_make("a")[1], target).status == 400


def test_only_reading() -> None:
    assert _make()[1].answer(RecordedRequest("POST", "/_changes")).status == 405


def test_below_a_prefix() -> None:
    """The feed can lie below a path, and is below ``/registry`` there as well."""
    sim = RegistrySimulator()
    feed = FeedSimulator(sim, prefix="/sub")
    sim.publish("a", "1.0.0")
    assert feed.base.endswith("/sub")
    assert [reply(feed, target).status for target in ("/", "/_changes", "/subway/_changes")] == [404] * 3
    for target in ("/sub/_changes", "/sub/registry/_changes?since=0"):
        assert ask(feed, target)["results"][0]["id"] == "a"
    assert ask(feed, "/sub/") == ask(feed, "/sub") == ask(feed, "/sub/registry")


def test_compressed_where_asked_for() -> None:
    _, feed = _make("a")
    plain, packed = reply(feed), reply(feed, **{"accept-encoding": "gzip"})
    assert ("content-encoding", "gzip") in packed.headers
    assert gzip.decompress(packed.body) == plain.body


def test_requests_are_recorded() -> None:
    _, feed = _make("a")
    ask(feed, "/_changes?since=0")
    assert [request.target for request in feed.requests] == ["/_changes?since=0"]
    assert "1 requests" in repr(feed)


def test_revision_rises_over_a_deletion() -> None:
    """A package's revisions are distinct and rising, whatever happens to it."""
    sim, _ = _make("a")
    revs = [sim.packument("a")["_rev"]]
    sim.remove("a")
    sim.publish("a", "2.0.0")
    revs.append(sim.packument("a")["_rev"])
    assert [rev.partition("-")[0] for rev in revs] == ["1", "3"]
    assert revs[1] == _rev("a", 3)


def _rev(name: str, number: int) -> str:
    package = Package(name)
    package.rev = number
    return package.rev_text


async def test_over_loopback_and_without_sockets() -> None:
    """The same answers come over a socket and through the tests' direct fetcher."""
    sim, feed = _make("a")
    url = feed.base + "/_changes"
    async with DirectFetcher(sim, feed).request("GET", url) as response:
        assert response.status == 200
        body = await response.receive_some()
    assert json.loads(body) == ask(feed)
    async with serve(feed) as base, serve(sim) as registry:
        assert base == feed.base != registry


@pytest.mark.slow
def test_process() -> None:
    """As a process it says where registry and feed are, and lets things happen."""
    words = ["--demo", "3", "--interval", "0", "--operations", "20", "--seed", "5", "--names", "4"]
    command = [sys.executable, "-m", "tests.fakes.feed", *words]
    root = Path(__file__).resolve().parents[3]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        registry, base = (process.stdout.readline().split()[-1] for _ in "12")
        try:
            found: list[str] = []
            while len(found) < 7:
                with urllib.request.urlopen(f"{base}/_changes") as response:
                    found = [row["id"] for row in json.load(response)["results"]]
            assert found[:3] == ["demo-package-00000", "demo-package-00001", "demo-package-00002"]
            with urllib.request.urlopen(f"{registry}/{found[0]}") as response:
                assert json.load(response)["name"] == found[0]
        finally:
            process.terminate()
