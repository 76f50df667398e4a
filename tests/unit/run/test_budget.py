"""The month's budget through whole runs: every request is counted, and a budget that is used up ends them politely."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from mirrorwitness.config.layers import read_flags
from mirrorwitness.config.load import make_config
from mirrorwitness.errors import BudgetExhaustedError, ExitCode
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.mirror.shards import WHOLE, Shard
from mirrorwitness.npm.names import PackageName
from mirrorwitness.run.budgeting import find_free_origins
from mirrorwitness.run.following import run_follow
from mirrorwitness.run.mirroring import run_sync
from mirrorwitness.run.session import Wishes, open_mirror, open_upstream
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import Fault, RegistrySimulator, Signer
from tests.fakes.serving import serve
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.config import Config
    from mirrorwitness.mirror.outcome import RunSummary

NAMES = [f"p{number}" for number in range(8)]


@dataclass
class Site:
    """A registry, its feed, a peer, and a directory for the mirror."""

    folder: Path
    sim: RegistrySimulator = field(default_factory=RegistrySimulator)
    peer: RegistrySimulator = field(default_factory=RegistrySimulator)
    feed: FeedSimulator = field(init=False)
    limits: dict[str, int] = field(default_factory=dict[str, int])

    def __post_init__(self) -> None:
        self.feed = FeedSimulator(self.sim)

    def config(self, *, has_peer: bool = False) -> Config:
        flags: dict[str, object] = {
            "storage": f"file:{self.folder}",
            "registry": [{"url": url} for url in (self.sim.base, *([self.peer.base] if has_peer else []))],
            "feed.url": self.feed.base,
            **{f"limits.{name}": value for name, value in self.limits.items()},
        }
        return make_config(read_flags(flags))

    def wishes(self, *, has_peer: bool = False) -> Wishes:
        rules = tuple(parse_rule(name, origin="test") for name in ("left", *NAMES))
        return Wishes(config=self.config(has_peer=has_peer), rules=rules)

    async def run(self, *, follows: bool = True, has_peer: bool = False) -> RunSummary:
        wishes = self.wishes(has_peer=has_peer)
        async with serve(self.sim), serve(self.feed), serve(self.peer):
            wishes = self.wishes(has_peer=has_peer)
            if follows:
                return await run_follow(wishes, SilentProgress(), shard=WHOLE, is_once=True)
            return await run_sync(wishes, SilentProgress())

    def sent(self) -> int:
        return len(self.sim.requests) + len(self.feed.requests)

    def taken(self) -> int:
        month = datetime.now(UTC).strftime("%Y-%m")
        record: dict[str, Any] = json.loads(self.folder.joinpath(f"state/budget/{month}.json").read_bytes())
        return int(record.get("taken", 0))

    def cursor(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.folder.joinpath("state/cursor/1-of-1.json").read_bytes())
        return found


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Nine packages; one is signed, attested, answered with 503 once, and redirected once."""
    site = Site(tmp_path)
    for name in NAMES:
        site.sim.publish(name, "1.0.0")
    attested = {"attestations": {"url": "https://registry.example/x", "provenance": {"predicateType": "x"}}}
    site.sim.publish("left", "1.0.0", signer=Signer(), dist=attested)
    site.sim.attestations["left@1.0.0"] = b'{"attestations": []}'
    return site


@pytest.mark.slow
async def test_p9_every_request_is_counted(site: Site) -> None:
    """Feed, keys, packuments, tarballs, attestations, tries after a failure and hops of redirects: one each."""
    site.sim.fail("p1", Fault.status(500), times=1)
    site.sim.fail("/p2/-/p2-1.0.0.tgz", Fault.redirect("/p3/-/p3-1.0.0.tgz"), times=1)
    summary = await site.run()
    targets = {request.target for request in site.sim.requests}
    assert {"/-/npm/v1/keys", "/left", "/left/-/left-1.0.0.tgz", "/-/npm/v1/attestations/left@1.0.0"} <= targets
    assert len([request for request in site.sim.requests if request.target == "/p1"]) == 2
    assert len([request for request in site.sim.requests if request.target == "/p2/-/p2-1.0.0.tgz"]) >= 2
    assert {request.target.partition("?")[0] for request in site.feed.requests} == {"/", "/_changes"}
    assert site.taken() == site.sent()
    assert summary.counts["packages_updated"] + summary.counts["packages_diverged"] == 9


@pytest.mark.slow
@pytest.mark.parametrize("allowed", [1, 2, 6, 11, 17])
async def test_p9_a_used_up_budget_ends_a_follower_and_loses_nothing(site: Site, allowed: int) -> None:
    """Exit 3, never a request too many, and with a larger budget the next run brings everything."""
    site.limits["requests_per_month"] = allowed
    summary = await site.run()
    assert summary.exit_code() is ExitCode.PARTIAL
    assert isinstance(summary.fatal, BudgetExhaustedError)
    if allowed > 2:
        assert site.cursor()["alarms"][-1]["kind"] == "budget"
    assert site.sent() == site.taken() == allowed
    site.limits["requests_per_month"] = 1000
    summary = await site.run()
    assert (summary.exit_code(), summary.fatal) == (ExitCode.COMPLETE, None)
    stored = sorted(path.name for path in site.folder.joinpath("npm").iterdir())
    assert stored == ["left", *NAMES]


@pytest.mark.slow
async def test_p9_a_used_up_budget_ends_a_pass_over_names(site: Site) -> None:
    """Without a feed too; no package gets a note for what is not its fault."""
    site.limits |= {"requests_per_month": 6, "packages": 1}
    summary = await site.run(follows=False)
    assert summary.exit_code() is ExitCode.PARTIAL
    assert site.sent() == 6
    assert not list(site.folder.glob("state/unfinished/*"))


@pytest.mark.slow
async def test_no_budget_is_kept_where_none_is_wished_for(site: Site) -> None:
    """0 requests a month means: do not count."""
    site.limits["requests_per_month"] = 0
    assert (await site.run()).exit_code() is ExitCode.COMPLETE
    assert not site.folder.joinpath("state/budget").exists()


@pytest.mark.slow
async def test_peers_cost_the_registrys_budget_nothing(site: Site) -> None:
    """A second registry's requests are its own; the origin of the registry and of its feed is never free."""
    async with serve(site.sim), serve(site.feed), serve(site.peer):
        free = find_free_origins(site.config(has_peer=True))
        assert free == {site.peer.base}
        both = site.config(has_peer=True)
        assert find_free_origins(site.config()) == frozenset()
        site.peer.base = site.sim.base
        assert find_free_origins(site.config(has_peer=True)) == frozenset()
        assert len(both.registries) == 2


@pytest.mark.slow
async def test_p9_a_job_that_was_sent_away_tells_the_next_one(site: Site) -> None:
    """A scheduled run ends with the 429 it got; the one after it asks that host for nothing until the pause is over."""
    site.limits |= {"packages": 1, "retries": 0}
    site.sim.fail("p7", Fault.status(429, retry_after="120"), times=1)  # the last name of all
    async with serve(site.sim):
        wishes = site.wishes()
        assert (await run_sync(wishes, SilentProgress())).exit_code() is not ExitCode.COMPLETE
        before = site.sent()
        async with open_upstream(wishes, storage=MemoryStorage()) as stranger:
            assert (await stranger.authority.packument(PackageName("p7"))).body is not None
        async with open_mirror(wishes.config) as storage, open_upstream(wishes, storage=storage) as upstream:
            with trio.move_on_after(0.5) as scope:
                await upstream.authority.packument(PackageName("p7"))
            assert scope.cancelled_caught
            (paused,) = upstream.gate.pauses().values()
            assert 60 < paused <= 132
    assert site.sent() == before + 1


@pytest.mark.slow
async def test_p9_shards_divide_the_rate(site: Site) -> None:
    """Of 10 requests per second each of 4 shards sends 2.5: the fifth begins after 1.6 s, not after 0.4 s."""
    site.limits["requests_per_second"] = 10
    starts: list[float] = []

    async def one(upstream: Any) -> None:
        async with upstream.gate.slot("https://a.example:443"):
            starts.append(trio.current_time())

    async with open_upstream(site.wishes(), storage=None, shards=Shard(2, 4).total) as upstream:
        assert upstream.lease is None
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(partial(one, upstream))
    assert starts[2] - starts[0] == pytest.approx(0.8, abs=0.3)
