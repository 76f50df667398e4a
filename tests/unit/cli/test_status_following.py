"""`status` of a mirror that follows a feed: shards, alarms, budget, and why it is stuck; every field as documented."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio
from click.testing import CliRunner

from mirrorwitness.cli import main
from mirrorwitness.mirror.layout import UNFINISHED_PREFIX
from mirrorwitness.storage.address import open_storage
from tests.docs.test_reference import FOLLOWING, read_table
from tests.fakes.status_example import fill

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The example, as of now, in a directory."""
    monkeypatch.chdir(tmp_path)

    async def write() -> None:
        async with open_storage("file:mirror") as storage:
            await fill(storage, now=datetime.now(UTC))

    trio.run(write)
    return "file:mirror"


def run(*arguments: str, expect: int = 3) -> str:
    done = CliRunner().invoke(main, ("status", *arguments))
    assert done.exit_code == expect, (done.output, done.exception)
    return done.stdout


def document(*arguments: str, expect: int = 3) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(*arguments, "--json", expect=expect))
    return found


def test_the_document(mirror: str) -> None:
    """Each shard, the budget and the alarms, with exactly the fields that the reference lists."""
    found = document("--storage", mirror)
    first, second = found["shards"]
    assert (first["shard"], first["owed"], first["unfinished"], first["sweep"]) == ("1/2", 1, 2, None)
    assert 9 <= first["lag_seconds"] < 60
    assert (second["sweep"]["reason"], second["sweep"]["listed"], second["sweep"]["behind"]) == ("periodic", 12_400, 3)
    assert (found["budget"]["allowed"], found["budget"]["left"]) == (4_500_000, 3_295_130)
    assert [alarm["kind"] for alarm in found["alarms"]] == ["owed", "feed", "feed"]
    assert found["troubles"] == []
    assert found["exit_code"] == 3
    documented = {row for row in read_table("json.md", "status") if FOLLOWING.match(row)}
    shown = {"troubles[]", *(f"alarms[].{key}" for alarm in found["alarms"] for key in alarm)}
    for shard in found["shards"]:
        shown |= {f"shards[].{key}" for key in shard} | {f"shards[].sweep.{key}" for key in shard["sweep"] or ()}
    assert shown == documented


def test_the_tables(mirror: str) -> None:
    """One row for each shard and alarm; what is left of the month beside it."""
    text = " ".join(run("--storage", mirror).split())
    assert "budget 3,295,130 requests of 4,500,000 left for" in text
    assert "shard position lag owed unfinished comparing all names saved" in text
    assert "1/2 140233411 " in text
    assert "periodic: 12,400 so far, 3 behind" in text
    assert "left-pad: revision 12-5f was announced and never showed; given up" in text
    assert "48210 packages, 731455 versions" in text


def test_a_stuck_mirror_is_not_complete(mirror: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing is unfinished, a run was complete, and the exit code is 3 all the same: it lags."""
    for path in (tmp_path / "mirror" / UNFINISHED_PREFIX).rglob("*.json"):
        path.unlink()
    assert document("--storage", mirror, expect=0)["troubles"] == []
    monkeypatch.setenv("MIRRORWITNESS_OBSERVE_LAG_MOST", "1 s")
    found = document("--storage", mirror)
    assert [trouble[:15] for trouble in found["troubles"]] == ["shard 1/2: lags", "shard 2/2: lags"]
    done = CliRunner().invoke(main, ("status", "--storage", mirror))
    assert "warning: stuck: shard 1/2: lags" in done.stderr


def test_a_follower_that_caught_up_makes_a_mirror_complete(mirror: str, tmp_path: Path) -> None:
    """It never ends, so no run is recorded; what it handled counts."""
    for path in (tmp_path / "mirror" / UNFINISHED_PREFIX).rglob("*.json"):
        path.unlink()
    (tmp_path / "mirror/state/run/last.json").unlink()
    assert document("--storage", mirror, expect=0)["last_run"] is None
    (tmp_path / "mirror/state/cursor/1-of-2.json").unlink()
    (tmp_path / "mirror/state/cursor/2-of-2.json").unlink()
    assert document("--storage", mirror)["shards"] == []


def test_no_budget(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none is kept, none is shown."""
    monkeypatch.setenv("MIRRORWITNESS_LIMITS_REQUESTS_PER_MONTH", "0")
    assert document("--storage", mirror)["budget"] is None
    assert "budget" not in run("--storage", mirror)


def test_metrics_go_with_follow(mirror: str) -> None:
    """A run that ends at once has nobody who would ask it."""
    done = CliRunner().invoke(main, ("sync", "--once", "left", "--storage", mirror, "--metrics", "127.0.0.1:0"))
    assert done.exit_code == 2
    assert "--metrics goes with --follow" in done.stderr


def test_a_month_ago(mirror: str) -> None:
    """The example's times are its own: nothing of it is in the future."""
    found = document("--storage", mirror)
    for shard in found["shards"]:
        assert datetime.fromisoformat(shard["saved"]) <= datetime.now(UTC) + timedelta(seconds=1)
