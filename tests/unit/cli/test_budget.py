"""The month's budget as a user meets it: exit code 3, which budget, how much of it, when it renews (P3, P9)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from mirrorwitness.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry


@pytest.mark.parametrize("allowed", ["1", "2"])
def test_p9_a_used_up_budget_says_so(
    allowed: str, tmp_path: Path, registry: ThreadedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it ends the run in its middle or before its beginning; upstream gets no request beyond it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIRRORWITNESS_LIMITS_REQUESTS_PER_MONTH", allowed)
    registry.sim.publish("left", "1.0.0")
    for _ in range(2):
        done = CliRunner().invoke(
            main, ("sync", "--once", "left", "--storage", "file:mirror", "--registry", registry.url, "--json")
        )
        assert done.exit_code == 3
        json.loads(done.stdout)
        assert f"the budget of {allowed} requests for 20" in done.stderr
        assert "limits.requests_per_month" in done.stderr
        assert len(registry.sim.requests) == int(allowed)
