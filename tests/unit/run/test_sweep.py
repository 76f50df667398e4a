"""`sync` removes what storage checks that were killed left long ago, and a failure to do so stops nothing (P8)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.config import Config, Registry
from mirrorwitness.errors import ExitCode, StorageRefusedError
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.mirror.select import parse_rule
from mirrorwitness.run import mirroring
from mirrorwitness.run.session import Wishes
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry

LEFTOVER = "state/probe/20200101-000000-0123456789abcdef/first"


async def test_p8_each_sync_removes_what_killed_checks_left(registry: ThreadedRegistry, tmp_path: Path) -> None:
    """Also a sync that does not check the storage itself, because an earlier one has."""
    registry.sim.publish("left", "1.0.0")
    config = Config(storage=f"file:{tmp_path}/mirror?fsync=off", registries=(Registry(url=registry.url),))
    wishes = Wishes(config=config, rules=(parse_rule("left", origin="a test"),))
    path = tmp_path / "mirror" / LEFTOVER
    for _ in range(2):
        summary = await mirroring.run_sync(wishes, SilentProgress())
        assert (summary.exit_code(), summary.alarms) == (ExitCode.COMPLETE, [])
        assert not (tmp_path / "mirror/state/probe").exists()
        path.parent.mkdir(parents=True)
        path.write_bytes(b"left")


async def test_a_sweep_that_is_refused_is_an_alarm_and_no_more() -> None:
    """Leftovers harm nobody, so they never keep a mirror from its work."""
    storage = MemoryStorage({LEFTOVER: b"x"})
    storage.fail_before("delete", LEFTOVER, StorageRefusedError("403 AccessDenied"))
    (alarm,) = await mirroring._sweep_probes(storage)
    assert "state/probe/" in alarm
    assert "AccessDenied" in alarm
