"""What a mirror publishes of itself while it runs, at its end, and when the storage fails or a signal comes."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import HeldVersion, PackageRecord
from mirrorwitness.mirror.cursor import CursorRecord
from mirrorwitness.mirror.keeper import SummaryKeeper
from mirrorwitness.mirror.nodes import NodeStore
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.select import make_selection, parse_rule
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy
from mirrorwitness.run.describe import make_summarizer, read_lag
from mirrorwitness.run.mirroring import DESCRIBE_EVERY, STOPPED_SECONDS, Mirroring, keep_described, record_run
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.summaries import sri

if TYPE_CHECKING:
    from trio.testing import MockClock

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def cursor(**known: Any) -> bytes:
    return msgspec.json.encode(CursorRecord(feed="http://feed.example", selection="s", position="1", **known))


async def test_the_lag_is_that_of_the_slowest_shard() -> None:
    """None without a feed, None where one shard has not caught up or cannot be read; never below zero."""
    storage = MemoryStorage()
    assert await read_lag(storage, at=NOW) is None
    storage.set_bytes(f"{layout.CURSOR_PREFIX}1-of-2.json", cursor(caught_up=NOW.timestamp() - 5))
    storage.set_bytes(f"{layout.CURSOR_PREFIX}2-of-2.json", cursor(caught_up=NOW.timestamp() - 60))
    assert await read_lag(storage, at=NOW) == 60
    assert await read_lag(storage, at=NOW - timedelta(hours=1)) == 0
    storage.set_bytes(f"{layout.CURSOR_PREFIX}1-of-1.json", cursor(caught_up=1.0))
    for shard in ("1-of-2", "2-of-2"):
        known = cursor(caught_up=NOW.timestamp() - 60, saved="2026-01-01T00:00:00Z")
        storage.set_bytes(f"{layout.CURSOR_PREFIX}{shard}.json", known)
    assert await read_lag(storage, at=NOW) == 60  # that of an earlier division into shards counts for nothing
    storage.set_bytes(f"{layout.CURSOR_PREFIX}1-of-2.json", cursor(saved="2026-01-01T00:00:00Z"))
    assert await read_lag(storage, at=NOW) is None
    storage.set_bytes(f"{layout.CURSOR_PREFIX}1-of-2.json", b"{")
    assert await read_lag(storage, at=NOW) is None


class World:
    """A run in progress of which only what it learned and what it publishes matters."""

    def __init__(self) -> None:
        self.storage = MemoryStorage()
        self.keeper = SummaryKeeper(summarizer=make_summarizer(self.storage))
        self.summary = RunSummary()

        async def save_change() -> None:
            await trio.lowlevel.checkpoint()

        self.mirroring = Mirroring(
            wishes=cast("Any", SimpleNamespace(config=SimpleNamespace(contact=None))),
            selection=make_selection([parse_rule("p1", origin="a test")]),
            storage=self.storage,
            upstream=cast("Any", SimpleNamespace(sources=())),
            terms=cast("Any", SimpleNamespace(policy=SignaturePolicy.OFF, keys=KeyRing())),
            packages=cast("Any", None),
            attempts=cast("Any", SimpleNamespace(summary=self.summary, save_change=save_change)),
            keeper=self.keeper,
            mirror_key=None,
            before=None,
            storage_check={},
            started=NOW,
        )

    async def learn(self, name: str) -> None:
        """Let the run bring a package up to date."""
        held = HeldVersion(file="f", size=1, sri=sri(name))
        record = PackageRecord(name=PackageName(name), versions={Version("1.0.0"): held})
        self.storage.set_bytes(layout.record_key(record.name), msgspec.json.encode(record))
        await self.keeper.note(record)

    def published(self) -> Any:
        """Return how many versions the published summary has; None where nothing is published, or no summary."""
        body = self.storage.objects.get(layout.MIRROR_KEY)
        summary = json.loads(body)["summary"] if body else None
        return summary and summary["versions"]


async def test_a_follower_publishes_every_ten_minutes(autojump_clock: MockClock) -> None:
    """Also after a time at which the storage failed: what was learned then is not lost, and the alarm says so."""
    world = World()
    with world.keeper:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_described, world.mirroring)
            await world.learn("p1")
            await trio.sleep(DESCRIBE_EVERY - 1)
            assert world.published() is None
            await trio.sleep(2)
            assert world.published() == 1
            await world.learn("p2")
            world.storage.fail_before("put", f"{layout.NODE_PREFIX}*", StorageUnavailableError("gone"))
            await trio.sleep(DESCRIBE_EVERY)
            assert world.published() == 1
            assert ["older than this run: gone" in alarm for alarm in world.summary.alarms] == [True]
            await world.learn("p3")
            assert "1 owed" in repr(world.keeper)
            world.storage.fail_before("put", layout.MIRROR_KEY, StorageUnavailableError("gone again"))
            await trio.sleep(DESCRIBE_EVERY)
            assert ["gone again" in alarm for alarm in world.summary.alarms] == [False, True]
            await trio.sleep(DESCRIBE_EVERY)
            assert world.published() == 3
            nursery.cancel_scope.cancel()


async def test_a_run_that_was_stopped_does_not_wait_for_the_summary(
    autojump_clock: MockClock, monkeypatch: Any
) -> None:
    """Whoever sent the signal waits some seconds and kills: the older summary stays, the run is recorded."""
    world = World()
    await world.learn("p1")

    async def hang(*_anything: object) -> None:
        await trio.sleep(math.inf)

    monkeypatch.setattr(NodeStore, "write_nodes", hang)
    began = trio.current_time()
    with world.keeper:
        await record_run(world.mirroring, is_stopped=True)
    assert trio.current_time() - began == STOPPED_SECONDS
    assert (world.published(), layout.LAST_RUN_KEY in world.storage.objects) == (None, True)
    assert ["which was stopped" in alarm for alarm in world.summary.alarms] == [True]


async def test_a_damaged_summary_ends_no_run() -> None:
    """The description then names none, an alarm says what to do, and the run is recorded."""
    world = World()
    world.storage.set_bytes(layout.SUMMARY_HEAD_KEY, b"{")
    with world.keeper:
        await record_run(world.mirroring, is_stopped=False)
    assert (world.published(), layout.LAST_RUN_KEY in world.storage.objects) == (None, True)
    assert all("mirrorwitness summarize" in alarm for alarm in world.summary.alarms)
    assert len(world.summary.alarms) == 2
