"""Killed at any instant (P2, P8; row 36): SIGKILL at random points of real runs, then the invariants, then a next run.

Seeds are printed by the test's name; the moments are random in effect because several processes race. The same trials
against a real S3 server are in `tests/real/test_kill.py`.

The numbers are those of `make fuzz`; `make test` plays a part of them (`tests.fault.killing.rounds`).
"""

from __future__ import annotations

import itertools
import random
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.fakes.hostile_s3 import HostileS3, serve_s3
from tests.fakes.thread import run_in_thread
from tests.fault.killing import rounds
from tests.fault.places import Bucket, Directory, open_client
from tests.fault.trials import kill_first_runs, kill_repairs, kill_updates
from tests.real.servers import moto

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry
    from tests.fault.places import Place, Places

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]

BUCKET = "bkt"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def directories(tmp_path: Path) -> Places:
    """Make directory storages, all empty."""
    numbers = itertools.count()
    return lambda: Directory(tmp_path / f"storage-{next(numbers)}")


@pytest.fixture(params=["hostile"])
def buckets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Places]:
    """Make storages in a bucket of a server that answers in a millisecond, or of moto, all empty."""
    with _SERVERS[request.param]() as endpoint, open_client(endpoint, access_key="any", secret_key="any") as client:
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)

        def make() -> Place:
            prefix = secrets.token_hex(6)
            address = f"s3://{BUCKET}/{prefix}?endpoint={endpoint}&region=us-east-1"
            return Bucket(client, bucket=BUCKET, prefix=prefix, address=address)

        yield make


@contextmanager
def _hostile() -> Iterator[str]:
    with run_in_thread(serve_s3(HostileS3())) as address:
        yield address.partition("?endpoint=")[2].partition("&")[0]


@contextmanager
def _moto() -> Iterator[str]:
    with moto() as server, open_client(server.endpoint, access_key="any", secret_key="any") as client:
        client.create_bucket(Bucket=BUCKET)
        yield server.endpoint


_SERVERS = {"hostile": _hostile, "moto": _moto}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_row_36_first_runs_into_a_directory_are_killed_anywhere(
    seed: int, directories: Places, registry: ThreadedRegistry
) -> None:
    """225 kills: no document ever names a missing or wrong object, and the next run ends as if nothing had happened."""
    chance = random.Random(seed)  # noqa: S311
    kill_first_runs(directories, registry, chance, versions=3, trials=rounds(25), kills=3)


@pytest.mark.parametrize("seed", [4, 5, 6, 7])
def test_row_36_first_runs_into_a_bucket_are_killed_anywhere(
    seed: int, buckets: Places, registry: ThreadedRegistry
) -> None:
    """The same with 200 kills against S3."""
    chance = random.Random(seed)  # noqa: S311
    kill_first_runs(buckets, registry, chance, versions=2, trials=rounds(10), kills=5)


@pytest.mark.parametrize("buckets", ["moto"], indirect=True)
def test_row_36_first_runs_into_moto_are_killed_anywhere(buckets: Places, registry: ThreadedRegistry) -> None:
    """The same with 20 kills against a server whose threads work on when their client is dead."""
    kill_first_runs(buckets, registry, random.Random(12), versions=2, trials=rounds(4), kills=5)  # noqa: S311


def test_row_36_updates_of_a_directory_are_killed_anywhere(directories: Places, registry: ThreadedRegistry) -> None:
    """100 kills over 25 days of an upstream that changes and contradicts itself; a twin nobody killed is the judge."""
    kill_updates(directories, directories(), registry, random.Random(8), days=rounds(25), kills=4)  # noqa: S311


def test_row_36_updates_of_a_bucket_are_killed_anywhere(
    buckets: Places, directories: Places, registry: ThreadedRegistry
) -> None:
    """The same with 50 kills over 10 days against S3; the twin is a directory."""
    kill_updates(buckets, directories(), registry, random.Random(9), days=rounds(10), kills=5)  # noqa: S311


def test_row_36_repairs_of_a_directory_are_killed_anywhere(directories: Places, registry: ThreadedRegistry) -> None:
    """60 kills: what was sound is never touched, what was damaged is as it was or right, the next repair completes."""
    kill_repairs(directories, registry, random.Random(10), trials=rounds(20), kills=3)  # noqa: S311


def test_row_36_repairs_of_a_bucket_are_killed_anywhere(buckets: Places, registry: ThreadedRegistry) -> None:
    """The same with 40 kills against S3."""
    kill_repairs(buckets, registry, random.Random(11), trials=rounds(10), kills=4)  # noqa: S311
