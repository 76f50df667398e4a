"""A follower that is watched while it runs: its metrics, readiness, and log, over real sockets."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.config.layers import read_flags
from mirrorwitness.config.load import make_config
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror import bookmark
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.mirror.shards import WHOLE
from mirrorwitness.run.following import run_follow
from mirrorwitness.run.session import Wishes
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fakes.serving import serve

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


@dataclass
class Watched:
    """What was seen of a running follower."""

    address: str = ""
    started: trio.Event = field(default_factory=trio.Event)

    def ready(self, address: str) -> None:
        self.address = address
        self.started.set()

    async def ask(self, path: str) -> httpx.Response:
        await self.started.wait()
        async with httpx.AsyncClient(trust_env=False) as client:
            return await client.get(f"{self.address}{path}")

    async def metrics(self) -> dict[str, float]:
        text = (await self.ask("/metrics")).text
        return {
            ",".join((sample.name, *sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def wait(self, **wanted: float) -> dict[str, float]:
        """Ask until a metric has a value."""
        with trio.fail_after(20):
            while True:
                found = await self.metrics()
                if all(found.get(f"mirrorwitness_{name}") == value for name, value in wanted.items()):
                    return found
                await trio.sleep(0.05)


async def follow(folder: Path, watch: Any, sim: RegistrySimulator, **options: object) -> Watched:
    """Follow until `watch` has seen enough."""
    watched = Watched()
    feed = FeedSimulator(sim)
    async with serve(sim), serve(feed):
        flags = {
            "storage": f"file:{folder}",
            "registry": [{"url": sim.base}],
            "feed.url": feed.base,
            "limits.retries": 0,
            **options,
        }
        rules = tuple(parse_rule(name, origin="test") for name in ("left", "right", "absent"))
        wishes = Wishes(config=make_config(read_flags(flags)), rules=rules)
        run = partial(run_follow, wishes, SilentProgress(), shard=WHOLE, is_once=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(run, listen=("127.0.0.1", 0), ready=watched.ready))
            await watch(watched)
            nursery.cancel_scope.cancel()
    return watched


def registry() -> RegistrySimulator:
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    sim.publish("left", "1.1.0", dist={"integrity": None, "shasum": None})
    sim.publish("right", "1.0.0")
    sim.fail("/right/-/right-1.0.0.tgz", Fault.status(503), times=99)
    return sim


async def test_metrics_of_a_follower(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lag, owed, unfinished, budget, requests by host and status, bytes, outcomes, refusals, alarms, sweeps."""
    monkeypatch.setattr(bookmark, "SAVE_EVERY", 0.0)
    sim = registry()
    seen: list[dict[str, float]] = []

    async def watch(watched: Watched) -> None:
        await watched.wait(sync_sweeps_total=1)
        with trio.fail_after(20):
            while True:
                found = await watched.metrics()
                if "mirrorwitness_feed_lag_seconds,1/1" in found:
                    break  # the feed was read to its end, and the cursor saved
                await trio.sleep(0.05)
        seen.append(found)
        assert (await watched.ask("/healthz")).json() == {"status": "ok"}
        assert (await watched.ask("/readyz")).json() == {"status": "ready"}
        assert (await watched.ask("/left")).status_code == 404

    with caplog.at_level(logging.INFO, logger="mirrorwitness.run"):
        await follow(tmp_path, watch, sim)
    (found,) = seen
    assert 0 <= found["mirrorwitness_feed_lag_seconds,1/1"] < 30
    assert found["mirrorwitness_feed_unfinished_packages,1/1"] >= 1
    assert found["mirrorwitness_feed_owed_revisions,1/1"] == 0
    assert found["mirrorwitness_mirror_ready_status"] == 1
    assert found["mirrorwitness_budget_allowed_requests"] == 4_500_000
    assert found["mirrorwitness_budget_held_requests"] <= 50
    assert found[f"mirrorwitness_upstream_requests_total,{sim.base},2xx"] >= 3
    assert found[f"mirrorwitness_upstream_requests_total,{sim.base},5xx"] >= 1
    assert found[f"mirrorwitness_upstream_pauses_total,{sim.base}"] >= 1
    assert found["mirrorwitness_sync_packages_total,updated"] >= 1
    assert found["mirrorwitness_sync_packages_total,unfinished"] >= 1
    assert found["mirrorwitness_sync_refusals_total,no-digest"] >= 1
    assert found["mirrorwitness_sync_refusals_total,signature"] == 0
    assert found["mirrorwitness_sync_downloaded_bytes_total"] > 0
    assert found["mirrorwitness_sync_downloaded_tarballs_total"] == 1
    finished = {record.package: record for record in caplog.records if record.message == "package_finished"}  # type: ignore[attr-defined]
    assert (finished["left"].outcome, finished["left"].refused, finished["left"].levelname) == ("updated", 1, "INFO")  # type: ignore[attr-defined]
    assert finished["right"].levelname == "WARNING"
    assert "503" in finished["right"].reason  # type: ignore[attr-defined]


async def test_a_follower_whose_cursor_cannot_be_saved_is_stuck(tmp_path: Path) -> None:
    """The follower tries on; readiness says no after the time that the operator set."""
    cursor = tmp_path / "state" / "cursor" / "1-of-1.json"
    answers: list[httpx.Response] = []

    async def watch(watched: Watched) -> None:
        await watched.wait(sync_sweeps_total=1)
        with trio.fail_after(20):
            while not answers or answers[-1].status_code != 503:
                answers.append(await watched.ask("/readyz"))
                await trio.sleep(0.1)

    await follow(tmp_path, watch, registry(), **{"observe.saved_within": 1, "feed.idle_least": 4, "feed.idle_most": 5})
    assert json.loads(cursor.read_bytes())["position"]
    assert answers[-1].json()["status"] == "stuck"
    assert "nobody follows" in answers[-1].json()["error"]


async def test_an_address_that_is_taken(tmp_path: Path) -> None:
    """A configuration error before anything is followed, not a follower that nobody sees."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    port = listeners[0].socket.getsockname()[1]
    sim = RegistrySimulator()
    async with serve(sim):
        flags = {"storage": f"file:{tmp_path}", "registry": [{"url": sim.base}], "feed.url": sim.base}
        wishes = Wishes(config=make_config(read_flags(flags)), rules=(parse_rule("left", origin="test"),))
        with pytest.RaisesGroup(pytest.RaisesExc(ConfigurationError, match="cannot listen"), flatten_subgroups=True):
            await run_follow(wishes, SilentProgress(), shard=WHOLE, is_once=False, listen=("127.0.0.1", port))
    for listener in listeners:
        await listener.aclose()


async def test_alarms_of_packages_are_in_the_cursor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What upstream withdrew while nobody looked is on the status page, with its kind."""
    monkeypatch.setattr(bookmark, "SAVE_EVERY", 0.0)
    sim = RegistrySimulator()
    sim.publish("left", "1.0.0")
    sim.publish("left", "1.1.0")

    def kinds() -> list[str]:
        body = (tmp_path / "state" / "cursor" / "1-of-1.json").read_bytes()
        return [alarm["kind"] for alarm in json.loads(body).get("alarms", ())]

    async def watch(watched: Watched) -> None:
        await watched.wait(sync_sweeps_total=1)
        sim.unpublish("left", "1.0.0")
        with trio.fail_after(20):
            while True:
                if kinds():
                    break
                await trio.sleep(0.05)

    await follow(tmp_path, watch, sim, **{"feed.idle_least": 0.05, "feed.idle_most": 0.1})
    assert kinds() == ["package"]
