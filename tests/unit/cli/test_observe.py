"""`sync --follow --metrics` and its log, as a process that somebody watches (P9; STYLE 43, 44)."""

from __future__ import annotations

import json
import re
import urllib.request
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from mirrorwitness.cli.options import Options
from mirrorwitness.cli.sync import _Job
from mirrorwitness.config import Config, Observe
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.shards import WHOLE, parse_shard
from mirrorwitness.run.session import Wishes
from tests.fakes.feed_process import Workplace, end, run_feed, wait_until

if TYPE_CHECKING:
    from pathlib import Path


def wishes(metrics: str | None) -> Wishes:
    return Wishes(config=Config(observe=Observe(metrics=metrics)))


def test_each_process_takes_the_next_port() -> None:
    """Of shard 2/4 in three processes: the port itself, and the two behind it; 0 stays 0; nothing where none is set."""
    part = parse_shard("2/4")
    job = _Job(Options({}), part, is_once=False, is_json=False)
    found = [job._find_listen(wishes("127.0.0.1:9464"), shard) for shard in part.split(3)]
    assert found == [("127.0.0.1", 9464), ("127.0.0.1", 9465), ("127.0.0.1", 9466)]
    assert job._find_listen(wishes("[::1]:0"), part.split(3)[2]) == ("::1", 0)
    assert job._find_listen(wishes(None), part) is None
    with pytest.raises(ConfigurationError):
        job._find_listen(wishes("nowhere"), part)
    assert _Job(Options({}), WHOLE, is_once=True, is_json=False)._find_listen(wishes("127.0.0.1:1"), WHOLE) is None


@pytest.mark.slow
def test_a_follower_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says where, answers Prometheus and probes, and logs JSON lines: start, each package, end; and nothing else."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    place = Workplace(tmp_path)
    with run_feed("--demo", "5") as feed:
        place.configure(registry=feed.registry, feed=feed.feed)
        process = place.start("sync", "--follow", "--metrics", "127.0.0.1:0", "--json")
        assert process.stderr is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("metrics at "):
            lines.append(process.stderr.readline())
        base = lines.pop().removeprefix("metrics at ").strip().removesuffix("/metrics")

        def ask(path: str) -> str:
            with urllib.request.urlopen(f"{base}{path}", timeout=20) as answer:
                return str(answer.read().decode())

        wait_until(
            lambda: 'mirrorwitness_sync_packages_total{outcome="updated"} 5.0' in ask("/metrics"),
            what="the metrics never show five packages",
            process=process,
        )
        assert json.loads(ask("/healthz")) == {"status": "ok"}
        assert json.loads(ask("/readyz")) == {"status": "ready"}
        assert re.search(r"mirrorwitness_budget_left_requests 4\.4\d+e\+06", ask("/metrics"))
        code, out, err = end(process)
    assert (code, json.loads(out)["counts"]["packages_updated"]) == (0, 5)
    events: list[dict[str, Any]] = [json.loads(line) for line in (*lines, *err.splitlines())]
    assert [event["event"] for event in events] == ["run_started", *["package_finished"] * 5, "run_finished"]
    assert len({event["package"] for event in events[1:-1]}) == 5
    assert (events[-1]["exit_code"], events[-1]["counts"]["packages_updated"]) == (0, 5)


@pytest.mark.parametrize(
    ("level", "is_service", "is_terminal", "expected"),
    [
        (None, True, False, "info"),
        (None, True, True, "warning"),
        (None, False, False, "error"),
        ("debug", False, True, "debug"),
    ],
)
def test_levels(
    level: str | None,
    *,
    is_service: bool,
    is_terminal: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the operator says, or else what fits who reads it."""
    from mirrorwitness.cli.options import log_level  # noqa: PLC0415 - beside its only test

    monkeypatch.setattr("sys.stderr", cast("Any", SimpleNamespace(isatty=lambda: is_terminal)))
    observe = Observe(log_level=cast("Any", level))
    found = log_level(Config(observe=observe), is_service=is_service)
    monkeypatch.undo()
    assert found == expected
