"""Killed at any instant (P2, P8; row 36): SIGKILL at random points of real syncs, then the invariants, then a next run.

Seeds are printed by the test's name; the moments are random in effect because two processes race.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import pytest

from tests.fault.invariants import check_invariants

if TYPE_CHECKING:
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry

NAMES = ["left", "right", "@scope/middle", "Upper"]
TRIALS = 25
"""Storages filled from nothing in each of the parametrized tests."""

KILLS_PER_TRIAL = 3
"""Kills in a row on one storage before the run that has to complete: 3 x 25 x 3 seeds = 225 kill points."""


@dataclass(slots=True)
class Worker:
    """The forking process."""

    process: subprocess.Popen[str]

    @classmethod
    def start(cls) -> Self:
        """Start it and wait for nothing: the first line waits."""
        command = [sys.executable, "-m", "tests.fault.kill_worker"]
        return cls(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))

    def run(self, storage: Path, registry: str, *, kill_after: float | None) -> int | None:
        """Run one sync and return its exit code, or None where it was killed."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        wanted = {
            "storage": f"file:{storage}?fsync=off",
            "registry": registry,
            "names": NAMES,
            "kill_after": kill_after,
        }
        self.process.stdin.write(json.dumps(wanted) + "\n")
        self.process.stdin.flush()
        status = int(self.process.stdout.readline())
        return None if os.WIFSIGNALED(status) else os.waitstatus_to_exitcode(status)

    def stop(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()


def read_objects(storage: Path) -> dict[str, bytes]:
    """Read what is visible in a directory storage, with code that shares nothing with the product.

    What a killed storage probe leaves below ``state/probe/`` is passed over: nothing ever reads it.
    """
    return {
        key: path.read_bytes()
        for path in storage.rglob("*")
        if path.is_file() and not (key := path.relative_to(storage).as_posix()).startswith((".", "state/probe/"))
    }


def fill(registry: ThreadedRegistry) -> set[bytes]:
    """Publish four packages of three versions, one tarball larger than a pipe's buffer."""
    published: set[bytes] = set()
    for name in NAMES:
        for number in range(3):
            size = 300_000 if (name, number) == ("left", 1) else 2_000
            registry.sim.publish(
                name,
                f"1.{number}.0",
                files={"data": random.Random(f"{name}{number}").randbytes(size)},  # noqa: S311 - the same bytes in each run
            )
            published.add(registry.sim.tarball(name, f"1.{number}.0"))
    return published


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_row_36_killed_anywhere_a_mirror_is_consistent_and_the_next_run_completes(
    seed: int, registry: ThreadedRegistry, tmp_path: Path
) -> None:
    """After each kill no document names a missing or wrong object; after the last the next run is complete."""
    published = fill(registry)
    chance = random.Random(seed)  # noqa: S311
    worker = Worker.start()
    try:
        assert worker.run(tmp_path / "warm", registry.url, kill_after=None) == 0
        begin = time.monotonic()
        assert worker.run(tmp_path / "clean", registry.url, kill_after=None) == 0
        whole = time.monotonic() - begin
        expected = {key for key in read_objects(tmp_path / "clean") if key.startswith("npm/")}
        killed = 0
        for trial in range(TRIALS):
            storage = tmp_path / f"trial-{trial}"
            for _ in range(KILLS_PER_TRIAL):
                killed += worker.run(storage, registry.url, kill_after=chance.uniform(0, whole)) is None
                if storage.exists():
                    check_invariants(read_objects(storage), published=published)
            assert worker.run(storage, registry.url, kill_after=None) == 0
            objects = read_objects(storage)
            check_invariants(objects, published=published)
            assert {key for key in objects if key.startswith("npm/")} == expected
    finally:
        worker.stop()
    assert killed > TRIALS  # most kills met a living run
