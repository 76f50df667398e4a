"""Followers of a real database: killed and started again at random while packages come, change and go (P2, P6, P8).

Upstream is express-pouchdb behind our thin front (`tests.real.pouchdb`), the follower a process of its own:
``mirrorwitness sync --follow``. And Verdaccio, which has no feed: followed it cannot be, mirrored it can.
"""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

import pytest

from tests.fakes.feed_history import FeedHistory, Life, apply
from tests.fakes.feed_process import Workplace, end, wait_until
from tests.fault.invariants import check_invariants
from tests.fault.places import Directory
from tests.real.pouchdb import open_pouchdb
from tests.real.servers import NotInstalledError
from tests.real.test_verdaccio import verdaccio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen

    from tests.real.pouchdb import PouchUpstream
    from tests.real.test_verdaccio import Verdaccio

__all__ = ["verdaccio"]

NAMES = ["alpha", "beta", "@s/one", "Gamma", "-"]
OPERATIONS = 24


@pytest.fixture(scope="module")
def running() -> Iterator[PouchUpstream]:
    try:
        with open_pouchdb() as upstream:
            yield upstream
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("seed", range(20))
def test_p8_a_follower_of_a_real_database_is_killed_anywhere(
    running: PouchUpstream, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each kill the mirror is consistent; after quiescence it is what upstream is, every version and byte."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    running.reset()
    chance = random.Random(seed)  # noqa: S311
    history = FeedHistory(seed=seed, names=NAMES)
    place = Workplace(tmp_path)
    place.configure(registry=running.registry_base, feed=running.feed_base, confirm_deletion="0 s")
    published: set[bytes] = set()
    for _ in range(chance.randint(0, 8)):
        _operate(history, running, published)
    follower: Popen[str] = place.start("sync", "--follow")
    try:
        while len(history.operations) < OPERATIONS:
            for _ in range(chance.randint(1, 4)):
                _operate(history, running, published)
            time.sleep(chance.uniform(0, 0.4))
            if chance.random() < 0.4:
                end(follower, signal.SIGKILL)
                check_invariants(Directory(tmp_path / "mirror").read(), published=published)
                follower = place.start("sync", "--follow")
        wait_until(lambda: _is_equal(place, history, running), what="never equal", process=follower)
        # The one that was killed may have done all the work: then this one is still starting.
        wait_until(lambda: _listens_to_signals(follower), what="never ready", process=follower)
        code, _, err = end(follower)
    finally:
        follower.kill()
    assert code == 0, err
    objects = Directory(tmp_path / "mirror").read()
    check_invariants(objects, published=published)
    for name, package in history.packages.items():
        served = json.loads(objects[f"npm/{name}/packument.json"])["versions"] if package.versions else {}
        assert sorted(served) == sorted(package.versions)
        for version, manifest in served.items():
            file = unquote(manifest["dist"]["tarball"].rpartition("/")[2])
            assert objects[f"npm/{name}/-/{file}"] == running.tarball(name, version)
    assert [key for key in objects if key.startswith("state/unfinished/")] == []


def _operate(history: FeedHistory, upstream: PouchUpstream, published: set[bytes]) -> None:
    operation = history.next()
    apply(operation, upstream)
    package = history.packages[operation.name]
    published.update(upstream.tarball(operation.name, version) for version in package.versions[-1:])


def _listens_to_signals(process: Popen[str]) -> bool:
    """Say whether a process catches SIGTERM by now: before, it just dies of it."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    (caught,) = (line.split()[1] for line in lines if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _is_equal(place: Workplace, history: FeedHistory, upstream: PouchUpstream) -> bool:
    """Say whether the packages that are served, and their revisions, are upstream's."""
    expected = {
        name: upstream.packument(name)["_rev"]
        for name, package in history.packages.items()
        if package.life in {Life.LIVE, Life.HOLDER}
    }
    return place.packages() == expected


def test_p3_verdaccio_has_no_feed_and_is_mirrored_once(
    verdaccio: Verdaccio,
    tmp_path: Path,
) -> None:
    """Without a feed `--once` asks for every package; `--follow` says what is missing, and names what is no feed."""
    verdaccio.publish("small", "1.0.0")
    place = Workplace(tmp_path)
    place.configure(registry=verdaccio.url, feed=None)
    text = (tmp_path / "mirrorwitness.toml").read_text()
    (tmp_path / "mirrorwitness.toml").write_text(text.replace('"*"', '"small"'))
    code, out, err = place.run("sync", "--once", "--json")
    assert (code, json.loads(out)["counts"]["packages_updated"]) == (0, 1), err
    assert set(place.packages()) == {"small"}
    verdaccio.publish("small", "1.1.0")
    assert place.run("sync", "--once")[0] == 0
    document = json.loads((tmp_path / "mirror/npm/small/packument.json").read_bytes())
    assert sorted(document["versions"]) == ["1.0.0", "1.1.0"]
    code, _, err = place.run("sync", "--follow")
    assert (code, "--feed URL" in err) == (2, True)
    code, _, err = place.run("sync", "--once", "--feed", verdaccio.url)
    assert code == 5, err
    assert verdaccio.url in err
