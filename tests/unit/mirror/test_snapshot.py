"""Snapshot: what a storage says of its mirror, bounded, and honest about what is damaged; and the metrics of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.mirror import snapshot as module
from mirrorwitness.mirror.gate import BlockKind
from mirrorwitness.mirror.health import HealthTerms
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.result import Status
from mirrorwitness.mirror.samples import sample_run, sample_snapshot
from mirrorwitness.mirror.snapshot import MirrorSnapshot, read_snapshot
from mirrorwitness.telemetry import METRICS, metrics
from tests.fakes.status_example import fill
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from mirrorwitness.telemetry import Sample

NOW = datetime(2026, 9, 17, 14, 5, 9, tzinfo=UTC)


async def read(
    storage: MemoryStorage, *, notes: int = 20, allowed: int = 4_500_000, saved: float = 60
) -> MirrorSnapshot:
    terms = HealthTerms(saved_within=saved, lag_most=3600)
    return await read_snapshot(storage, at=NOW, allowed=allowed, terms=terms, notes=notes)


def values(samples: list[Sample]) -> dict[str, float]:
    found = {",".join((sample.metric.name, *sample.labels)): float(sample.value) for sample in samples}
    assert len(found) == len(samples)
    return found


async def test_an_empty_storage() -> None:
    """Nothing is there, nothing is wrong, and nothing is made up."""
    assert await read(MemoryStorage(), allowed=0) == MirrorSnapshot(at=NOW)


async def test_the_example() -> None:
    """Cursors, budget, run, counts, keys, and of the notes as many as asked for."""
    storage = MemoryStorage()
    await fill(storage, now=NOW)
    found = await read(storage, notes=2)
    assert [str(cursor.shard) for cursor in found.cursors] == ["1/2", "2/2"]
    assert found.budget is not None
    assert (found.budget.taken, found.budget.left) == (1_204_870, 3_295_130)
    assert found.coverage is not None
    assert found.coverage.packages == 48_210
    assert [note.name for note in found.unfinished] == ["@types/node", "left-pad"]
    assert (found.unfinished_total, found.is_total_exact, len(found.keys.keys)) == (3, True, 2)
    assert found.run is not None
    assert found.troubles == ()


async def test_what_is_damaged_is_a_trouble() -> None:
    """A cursor and keys that cannot be read are named; all else is shown."""
    storage = MemoryStorage()
    await fill(storage, now=NOW)
    storage.set_bytes("state/cursor/2-of-2.json", b"{")
    storage.set_bytes("state/cursor/nonsense.json", json.dumps({"feed": "", "selection": "", "position": ""}).encode())
    storage.set_bytes("about/keys.json", b"[]")
    found = await read(storage)
    assert len(found.cursors) == 1
    assert [trouble.partition(" ")[0] for trouble in found.troubles] == [
        "state/cursor/2-of-2.json",
        "state/cursor/nonsense.json",
        "about/keys.json",
    ]
    assert found.keys.keys == ()


async def test_counting_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A million unfinished packages cost no million keys; the number is told as "at least"."""
    monkeypatch.setattr(module, "_PAGE", 2)
    storage = MemoryStorage({f"state/unfinished/p{number}.json": b"{}" for number in range(9)})
    found = await read_snapshot(storage, at=NOW, allowed=0, terms=HealthTerms(), notes=1, counted=4)
    assert (found.unfinished_total, found.is_total_exact) == (4, False)
    exact = await read_snapshot(storage, at=NOW, allowed=0, terms=HealthTerms(), notes=1)
    assert (exact.unfinished_total, exact.is_total_exact) == (9, True)


async def test_a_cursor_that_goes_while_it_is_read() -> None:
    """Somebody removed it between the listing and the look: it is not there."""
    storage = MemoryStorage()
    await fill(storage, now=NOW)
    read_one = storage.read

    async def vanishing(key: str, *, limit: int) -> tuple[bytes, object]:
        if key.endswith("2-of-2.json") and key in storage.objects:
            storage.remove(key)
        return await read_one(key, limit=limit)

    storage.read = vanishing  # type: ignore[assignment, method-assign]
    assert [str(cursor.shard) for cursor in (await read(storage)).cursors] == ["1/2"]


async def test_a_storage_that_fails_is_an_error() -> None:
    """Nothing is shown in the place of what could not be read."""
    storage = MemoryStorage()
    storage.fail_before("list", "state/cursor/", StorageUnavailableError("down"))
    with pytest.raises(StorageUnavailableError):
        await read(storage)


async def test_metrics_of_a_snapshot() -> None:
    """Each number of the snapshot under its name, for each shard."""
    storage = MemoryStorage()
    await fill(storage, now=NOW)
    found = values(list(sample_snapshot(await read(storage))))
    assert found["mirrorwitness_feed_lag_seconds,1/2"] == pytest.approx(9)
    assert found["mirrorwitness_feed_owed_revisions,1/2"] == 1
    assert found["mirrorwitness_feed_unfinished_packages,2/2"] == 1
    assert found["mirrorwitness_sweep_listed_packages,2/2"] == 12_400
    assert "mirrorwitness_sweep_listed_packages,1/2" not in found
    assert found["mirrorwitness_budget_left_requests"] == 3_295_130
    assert found["mirrorwitness_mirror_served_versions"] == 731_455
    assert found["mirrorwitness_mirror_ready_status"] == 1
    stuck = values(list(sample_snapshot(await read(storage, saved=1))))
    assert stuck["mirrorwitness_mirror_ready_status"] == 0


def test_alarms_are_counted_by_kind_and_told_once() -> None:
    """Those of the run's own work are counted too, and are nobody's news on a status page."""
    summary = RunSummary()
    for text, kind in (("a", "feed"), ("b", "feed"), ("c", "package")):
        summary.alarm(text, kind=kind)
    summary.alarm("a lockfile's entry")
    found = values(list(sample_run(summary)))
    assert (found["mirrorwitness_sync_alarms_total,feed"], found["mirrorwitness_sync_alarms_total,run"]) == (2, 1)
    assert summary.take_alarms() == [("feed", "a"), ("feed", "b"), ("package", "c")]
    assert summary.take_alarms() == []
    total = RunSummary()
    total.merge(summary)
    assert total.alarm_kinds == summary.alarm_kinds


def test_metrics_of_a_run_have_every_word_from_the_beginning() -> None:
    """One series for each outcome and each reason, also where nothing happened yet."""
    found = values(list(sample_run(RunSummary())))
    assert {f"mirrorwitness_sync_packages_total,{outcome}" for outcome in Status} <= found.keys()
    assert {f"mirrorwitness_sync_refusals_total,{reason}" for reason in BlockKind} <= found.keys()
    assert set(found.values()) == {0.0}


def test_every_metric_is_read_somewhere() -> None:
    """What is declared is shown by a follower or by a server."""
    names = [name for name, value in vars(metrics).items() if value in METRICS]
    assert len(names) == len(METRICS)
    root = module.__file__.rpartition("/mirror/")[0]
    from pathlib import Path  # noqa: PLC0415 - only here

    text = "".join(path.read_text() for path in Path(root).rglob("*.py") if path.name != "metrics.py")
    assert [name for name in names if f"metrics.{name}" not in text] == []
