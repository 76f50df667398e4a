"""Health, readiness and metrics of `serve`: what a stuck mirror answers, and what nobody is told."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.errors import StorageRefusedError, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.cursor import CursorRecord
from mirrorwitness.mirror.health import HealthTerms
from mirrorwitness.server import ServeOptions, make_app
from mirrorwitness.server.ops import make_ops_app
from mirrorwitness.server.watch import SNAPSHOT_SECONDS, TROUBLES_SECONDS
from mirrorwitness.telemetry import Sample, metrics
from tests.fakes.status_example import fill
from tests.fakes.storage import MemoryStorage
from tests.unit.server.asgi_client import AsgiClient
from tests.unit.server.mirror_builder import store_package

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trio.testing import MockClock

BEGIN = datetime(2026, 9, 17, 14, 0, 0, tzinfo=UTC)
TERMS = HealthTerms(saved_within=3600, lag_most=600)


def now() -> datetime:
    return BEGIN + timedelta(seconds=trio.current_time())


async def client_of(storage: MemoryStorage, *, is_filled: bool = True) -> AsgiClient:
    if is_filled:
        await fill(storage, now=BEGIN)
    options = ServeOptions(budget=4_500_000, health=TERMS)
    return AsgiClient(make_app(storage=storage, options=options, now=now))


async def test_a_mirror_that_is_followed_is_ready(autojump_clock: MockClock) -> None:
    """And is not any more when nobody saved a cursor for longer than the option says; health does not care."""
    client = await client_of(MemoryStorage())
    assert (await client.get("/-/readyz")).json() == {"status": "ready"}
    await trio.sleep(3700)
    answer = await client.get("/-/readyz")
    assert (answer.status, answer.headers["content-type"]) == (503, "application/json")
    assert answer.headers["cache-control"] == "no-store"
    document = answer.json()
    assert document["status"] == "stuck"
    assert [trouble[:9] for trouble in document["troubles"]] == ["shard 1/2", "shard 1/2", "shard 2/2", "shard 2/2"]
    assert "nobody follows" in document["error"]
    assert "lags 62 min behind its feed" in document["error"]
    assert (await client.get("/-/healthz")).status == 200
    assert (await client.get("/-/status")).status == 200


async def test_a_head_regression_that_is_not_resolved(autojump_clock: MockClock) -> None:
    """Says no until all names were compared again."""
    storage = MemoryStorage()
    client = await client_of(storage)
    key = layout.cursor_key("1-of-2")
    body = storage.objects[key]
    storage.set_bytes(key, body[:-1] + b',"sweep":{"reason":"head-regression","started":1,"listed":40}}')
    answer = await client.get("/-/readyz")
    assert answer.status == 503
    assert "all names are being compared again (40 so far)" in answer.json()["error"]
    storage.set_bytes(key, body)
    await trio.sleep(TROUBLES_SECONDS)
    assert (await client.get("/-/readyz")).status == 200


async def test_an_unreadable_storage_is_not_ready(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    """What it says of itself is for the log; whoever asks learns that it cannot be read."""
    storage = MemoryStorage()
    client = await client_of(storage)
    storage.fail_before("list", "state/cursor/", StorageRefusedError("the key AKIA may not list bucket b"))
    with caplog.at_level(logging.ERROR):
        answer = await client.get("/-/readyz")
    assert answer.status == 503
    assert answer.json()["troubles"] == ["the storage cannot be read; the log says why"]
    assert "AKIA" not in answer.body.decode()
    assert [record.message for record in caplog.records] == ["storage_unreadable"]
    storage.fail_before("list", "state/cursor/", StorageUnavailableError("down"))
    assert (await client.get("/-/readyz")).status == 503
    assert (await client.get("/-/readyz")).status == 200


async def test_metrics(autojump_clock: MockClock) -> None:
    """What the storage says and what this server answered, as Prometheus reads it."""
    storage = MemoryStorage()
    objects: dict[str, bytes] = {}
    store_package(objects, "n", {"1.0.0": b"bytes"})
    for key, body in objects.items():
        storage.set_bytes(key, body)
    client = await client_of(storage)
    await client.get("/n")
    await client.get("/n/-/n-1.0.0.tgz")
    await client.get("/absent")
    await client.head("/n/-/n-1.0.0.tgz")
    await client.request("POST", "/-/npm/v1/security/audits")
    answer = await client.get("/-/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }
    assert found["mirrorwitness_feed_lag_seconds", "1/2"] == pytest.approx(9)
    assert found["mirrorwitness_budget_left_requests",] == 3_295_130
    requests = {key[1:]: value for key, value in found.items() if key[0] == "mirrorwitness_http_requests_total"}
    assert requests == {
        ("packument", "200"): 1,
        ("packument", "404"): 1,
        ("tarball", "200"): 2,
        ("none", "404"): 1,
    }
    assert found["mirrorwitness_http_sent_bytes_total",] > 5


async def test_reloading_costs_the_storage_little(autojump_clock: MockClock) -> None:
    """A hundred people who look at once, again and again, cause one reading in some seconds."""
    storage = MemoryStorage()
    client = await client_of(storage)
    before = len(storage.operations)
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(client.get, "/-/status")
            nursery.start_soon(client.get, "/-/metrics")
    once = len(storage.operations) - before
    assert once < 20
    await client.get("/-/status")
    assert len(storage.operations) - before == once
    await trio.sleep(SNAPSHOT_SECONDS)
    await client.get("/-/status")
    assert len(storage.operations) - before == 2 * once


async def test_an_empty_mirror_is_ready_and_has_a_page(autojump_clock: MockClock) -> None:
    """It answers 404 for everything, truly."""
    client = await client_of(MemoryStorage(), is_filled=False)
    assert (await client.get("/-/readyz")).status == 200
    assert (await client.get("/-/status")).status == 200
    assert (await client.get("/-/metrics")).status == 200


class Fixed:
    """A watch that says what it is told."""

    def __init__(self, *troubles: str) -> None:
        self._troubles = troubles

    async def troubles(self) -> tuple[str, ...]:
        await trio.lowlevel.checkpoint()
        return self._troubles

    async def samples(self) -> Iterable[Sample]:
        await trio.lowlevel.checkpoint()
        return [Sample(metrics.SYNC_SWEEPS, 3)]


@pytest.mark.parametrize(
    ("path", "status"), [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 404), ("/-/status", 404)]
)
async def test_what_a_follower_answers(path: str, status: int) -> None:
    """Three paths, and a sentence for all others."""
    client: Any = AsgiClient(make_ops_app(Fixed()))
    assert (await client.get(path)).status == status
    assert (await client.request("POST", path)).status == 405


async def test_a_follower_that_is_stuck() -> None:
    """Says no and why; it is still alive."""
    client = AsgiClient(make_ops_app(Fixed("one", "two")))
    answer = await client.get("/readyz")
    assert (answer.status, answer.json()["troubles"]) == (503, ["one", "two"])
    assert (await client.get("/healthz")).status == 200
    assert b"mirrorwitness_sync_sweeps_total 3.0" in (await client.get("/metrics")).body


def test_a_cursor_keeps_what_older_ones_did_not_have() -> None:
    """Counts that a record lacks are 0."""
    assert (CursorRecord(feed="", selection="", position="").owed) == 0
