"""P7: a witness never contradicts itself, whatever happens to its processes, its storage, its backups and its clock.

The histories of `tests.property.witness_world`, over every kind of storage: most in memory, where they are quick, the
others over a directory, and over buckets that are asked through HTTP and hang up. `tests/real` plays them over a real
bucket service.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import pytest
from trio.testing import MockClock

from tests.property.witness_places import open_directories, open_hostile_buckets, open_memory
from tests.property.witness_world import play

if TYPE_CHECKING:
    from pathlib import Path

    from tests.property.witness_places import Place

HISTORIES: Final = int(os.environ.get("FUZZ_EXAMPLES") or 2000)
"""How many are played in memory; `make fuzz` asks for 20 times its number of examples."""

IN_DIRECTORIES: Final = HISTORIES // 10
IN_BUCKETS: Final = HISTORIES // 20
"""Fewer, as each takes longer by as much."""

PARTS: Final = max(8, HISTORIES // 1000)
"""Of each kind, for processes to share; each is done in ten seconds, long before a test that hangs would be told of."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600), pytest.mark.parametrize("part", range(PARTS))]


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Made-up credentials in the environment, and none anywhere else."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


@pytest.fixture
def clock() -> MockClock:
    """Jump over the pauses before a request is tried again, once nothing has moved for 20 ms: sockets are real."""
    return MockClock(autojump_threshold=0.02)


async def play_all(part: int, place: Place, *, count: int) -> None:
    """Play some histories, others for each part."""
    signed = 0
    for number in range(count):
        seed = part * 1_000_000 + number
        try:
            world = await play(seed, place)
        except BaseException as error:
            error.add_note(f"history {seed}")
            raise
        signed += len(world.given)
    assert signed > count, "histories in which nothing is signed prove nothing"


async def test_p7_no_history_makes_a_witness_contradict_itself(part: int) -> None:
    """Forks, races, faults, kills, late puts, restores and clock steps: no two inconsistent cosignatures."""
    async with open_memory() as place:
        await play_all(part, place, count=HISTORIES // PARTS)


async def test_p7_no_history_in_a_directory(part: int, tmp_path: Path) -> None:
    """The same with real files, threads and tokens that are made of times."""
    async with open_directories(tmp_path) as place:
        await play_all(part, place, count=max(1, IN_DIRECTORIES // PARTS))


@pytest.mark.usefixtures("credentials")
async def test_p7_no_history_in_a_bucket(part: int, clock: MockClock) -> None:
    """The same through HTTP, where answers are lost below the storage too, and requests are tried again."""
    async with open_hostile_buckets() as place:
        await play_all(part, place, count=max(1, IN_BUCKETS // PARTS))
