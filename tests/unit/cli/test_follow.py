"""`sync --follow`, and `--once` with a feed, as processes against a registry and a feed in another (P3, P6, P8)."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.mirror.shards import Shard
from tests.fakes.feed import FeedSimulator
from tests.fakes.feed_process import FeedProcess, Workplace, end, run_feed, wait_until
from tests.fakes.registry import Fault, serve
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return Workplace(tmp_path)


@pytest.fixture
def feed() -> Iterator[FeedProcess]:
    with run_feed("--demo", "12") as running:
        yield running


@pytest.fixture
def followed(place: Workplace, feed: FeedProcess) -> tuple[Workplace, FeedProcess]:
    place.configure(registry=feed.registry, feed=feed.feed)
    return place, feed


def is_caught_up(place: Workplace, feed: FeedProcess) -> bool:
    return place.cursor().get("position") == feed.head() and "sweep" not in place.cursor()


def test_p3_sigterm_ends_a_follower_with_its_cursor_saved(followed: tuple[Workplace, FeedProcess]) -> None:
    """Exit 0, a summary that is one JSON document, and a position up to which everything is stored."""
    place, feed = followed
    process = place.start("sync", "--follow", "--json")
    wait_until(lambda: is_caught_up(place, feed), what="the follower never caught up", process=process)
    code, out, err = end(process)
    assert code == 0, (out, err)
    document = json.loads(out)
    assert (document["exit_code"], document["counts"]["packages_updated"]) == (0, 12)
    assert place.packages() == feed.names()
    assert place.cursor()["position"] == feed.head()


def test_p6_a_follower_mirrors_what_happens_while_it_runs(place: Workplace) -> None:
    """Two hundred publications, deletions and deprecations, fifty a second, and then the mirror is upstream."""
    with run_feed("--interval", "0.02", "--operations", "200", "--seed", "3") as feed:
        place.configure(registry=feed.registry, feed=feed.feed)
        process = place.start("sync", "--follow")
        heads = [""]

        def is_quiet() -> bool:
            heads.append(feed.head())
            return heads[-1] == heads[-2] and is_caught_up(place, feed)

        wait_until(is_quiet, what="the history has no end", process=process)
        wait_until(lambda: served_of(feed) <= place.packages().items(), what="never equal", process=process)
        extra = place.packages().keys() - feed.names().keys()
        code, _, err = end(process)
    assert code == (3 if extra else 0), err  # a deletion waits an hour for its second 404, and is noted
    noted = {path.stem for path in (place.folder / "mirror/state/unfinished").rglob("*.json")}
    assert extra <= noted


def served_of(feed: FeedProcess) -> set[tuple[str, str]]:
    """Return the packages that have versions, with their revisions."""
    return {(name, rev) for name, rev in feed.names().items() if feed.versions(name)}


def test_p3_a_follower_ends_with_3_where_something_is_noted(followed: tuple[Workplace, FeedProcess]) -> None:
    """What could not be finished is named in the summary and in a note."""
    place, feed = followed
    assert place.run("sync", "--once")[0] == 0
    note = place.folder / "mirror" / "state" / "unfinished" / "nobody.json"
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(json.dumps({"name": "nobody", "reason": "r", "kind": "k"}))
    process = place.start("sync", "--follow", "--json")
    wait_until(lambda: b"status 404" in note.read_bytes(), what="it is never tried again", process=process)
    code, out, _ = end(process)
    assert code == 3
    assert [problem["name"] for problem in json.loads(out)["problems"]] == ["nobody"]
    assert place.packages() == feed.names()


def test_p9_once_asks_only_for_what_the_feed_says_has_changed(place: Workplace, registry: ThreadedRegistry) -> None:
    """A second run asks the registry for its keys and nothing else, a third one for the one package that changed."""
    for number in range(12):
        registry.sim.publish(f"p{number}", "1.0.0")
    feed = FeedSimulator(registry.sim)
    with run_in_thread(serve(feed)) as url:
        place.configure(registry=registry.url, feed=url)
        assert place.run("sync", "--once")[0] == 0
        assert len(registry.sim.requests) > 12
        registry.sim.requests.clear()
        code, out, _ = place.run("sync", "--once", "--json")
        assert (code, json.loads(out)["counts"].get("packages_updated", 0)) == (0, 0)
        assert [request.target for request in registry.sim.requests] == ["/-/npm/v1/keys"]
        registry.sim.publish("p3", "1.1.0")
        registry.sim.requests.clear()
        assert place.run("sync", "--once")[0] == 0
    targets = [request.target for request in registry.sim.requests]
    assert targets == ["/-/npm/v1/keys", "/p3", "/p3/-/p3-1.1.0.tgz"]


def test_p3_a_follower_that_is_cut_off_is_not_complete(place: Workplace, registry: ThreadedRegistry) -> None:
    """A second signal while a download hangs: exit 130, and the next one brings what is missing."""
    registry.sim.publish("left", "1.0.0")
    registry.sim.fail("/left/-/left-1.0.0.tgz", Fault.hang(), times=1)
    with run_in_thread(serve(FeedSimulator(registry.sim))) as url:
        place.configure(registry=registry.url, feed=url)
        process = place.start("sync", "--follow")
        asked = "/left/-/left-1.0.0.tgz"
        wait_until(
            lambda: asked in [request.target for request in registry.sim.requests], what="not asked", process=process
        )
        process.send_signal(signal.SIGTERM)
        time.sleep(0.5)
        assert process.poll() is None
        assert end(process)[0] == 130
        assert place.packages() == {}
        assert place.run("sync", "--once")[0] == 0
    assert set(place.packages()) == {"left"}


def test_p8_a_second_worker_on_a_shard_says_who_the_other_is(followed: tuple[Workplace, FeedProcess]) -> None:
    """One of the two ends with 3 and names the other and what to do; the other one goes on."""
    place, feed = followed
    first = place.start("sync", "--follow")
    wait_until(lambda: is_caught_up(place, feed), what="the first never caught up", process=first)
    name = place.cursor()["worker"]
    second = place.start("sync", "--follow")
    wait_until(lambda: place.cursor()["worker"] != name, what="the second never began", process=second)
    taken = place.cursor()["worker"]
    wait_until(lambda: first.poll() is not None, what="the first never noticed", process=second)
    code, _, err = end(first, None)
    assert code == 3, err
    assert taken in err
    assert "--shard I/N" in err
    assert end(second)[0] == 0


def test_p8_processes_add_up_and_share_nothing(followed: tuple[Workplace, FeedProcess]) -> None:
    """Two children mirror everything, each its part with a cursor of its own, and the summary is their sum."""
    place, feed = followed
    process = place.start("sync", "--follow", "--processes", "2", "--json")
    shards = [Shard(1, 2).key, Shard(2, 2).key]
    wait_until(
        lambda: all(place.cursor(shard).get("position") == feed.head() for shard in shards),
        what="never caught up",
        process=process,
    )
    wait_until(lambda: place.packages() == feed.names(), what="never complete", process=process)
    code, out, err = end(process)
    assert code == 0, err
    assert json.loads(out)["counts"]["packages_updated"] == 12


def test_p8_a_killed_child_is_told_at_once_and_the_others_go_on(followed: tuple[Workplace, FeedProcess]) -> None:
    """The parent says which shard has died while the other child works on, and ends with 3."""
    place, feed = followed
    process = place.start("sync", "--follow", "--processes", "2", "--json")
    wait_until(lambda: place.packages() == feed.names(), what="never complete", process=process)
    victim = children_of(process)[0]
    os.kill(victim, signal.SIGKILL)
    assert process.stderr is not None
    line = next(line for line in process.stderr if "killed by signal 9" in line)
    assert "shard" in line
    assert process.poll() is None
    code, out, _ = end(process)
    assert code == 3
    assert "killed by signal 9" in json.loads(out)["error"]["message"]


def test_shard_takes_its_part_only(followed: tuple[Workplace, FeedProcess]) -> None:
    """`--shard 2/3` mirrors what belongs to it and leaves the rest to others."""
    place, feed = followed
    code, _, err = place.run("sync", "--once", "--shard", "2/3")
    assert code == 0, err
    assert set(place.packages()) == {name for name in feed.names() if Shard(2, 3).owns(name)}
    assert place.cursor("2-of-3")["position"] == feed.head()


def test_p3_follow_without_a_feed_says_what_to_do(place: Workplace, feed: FeedProcess) -> None:
    """Exit 2, and where to write the address."""
    place.configure(registry=feed.registry, feed=None)
    code, _, err = place.run("sync", "--follow")
    assert code == 2
    assert "--feed URL" in err
    assert "mirrorwitness.toml" in err
    code, out, _ = place.run("sync", "--follow", "--json")
    assert (code, json.loads(out)["error"]["kind"]) == (2, "ConfigurationError")


def test_p3_a_feed_that_cannot_be_reached_is_upstreams_fault(place: Workplace, feed: FeedProcess) -> None:
    """A scheduled run ends with 5 and names the address."""
    place.configure(registry=feed.registry, feed="http://127.0.0.1:9/registry")
    code, _, err = place.run("sync", "--once")
    assert code == 5
    assert "127.0.0.1:9" in err


def children_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the ids of a process's children."""
    text = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(word) for word in text.split()]
