"""Killed between the two objects of a pair, and everywhere else (P7): what is shown is never ahead of its record."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.storage.local import open_local
from tests.fault.pair_worker import RECORD, SHOWN, format_number

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(120)]

KILLS = 12
PAIRS = 60
"""Most pairs that a process writes before it is killed; where in the next one depends on the machine."""


def _run_and_kill(folder: Path, pairs: int) -> int:
    """Let a process write, kill it after so many answers, and return the last number that it answered."""
    words = [sys.executable, "-m", "tests.fault.pair_worker", str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        answers = [process.stdout.readline() for _ in range(pairs)]
        process.kill()
        answers += process.stdout.readlines()
    return int(answers[-1]) if answers[-1].endswith(b"\n") else int(answers[-2])


async def _read(folder: Path) -> tuple[int, int]:
    """Return the numbers of record and what shows it, which have to be whole."""
    numbers: list[int] = []
    async with open_local(folder) as storage:
        for key in (RECORD, SHOWN):
            body, _ = await storage.read(key, limit=100_000)
            numbers.append(int(body[:10]))
            assert body == format_number(numbers[-1])
    return numbers[0], numbers[1]


@pytest.mark.parametrize("seed", range(3))
def test_p7_a_pair_survives_kills(seed: int, tmp_path: Path) -> None:
    """After each kill both are whole, what was answered is in both, and one is at most one step ahead: the record."""
    chance = random.Random(seed)  # noqa: S311 - a test
    folder = tmp_path / "storage"
    for _ in range(KILLS):
        answered = _run_and_kill(folder, chance.randint(1, PAIRS))
        record, shown = trio.run(_read, folder)
        assert answered <= shown <= record <= answered + 1
