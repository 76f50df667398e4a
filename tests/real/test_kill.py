"""Killed at any instant against a real S3 server (P2, P8; row 36): the trials of `tests/fault`, other walls.

The server goes on with requests whose sender is dead, from many threads, and writes to a disk.
"""

from __future__ import annotations

import random
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.fault.places import Bucket, Directory, open_client
from tests.fault.trials import kill_first_runs, kill_repairs, kill_updates
from tests.real.conftest import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.fakes.thread import ThreadedRegistry
    from tests.fault.places import Place, Places
    from tests.real.servers import S3Server


@pytest.fixture
def buckets(start_server: Callable[[str], S3Server], use_credentials: Callable[[S3Server], None]) -> Iterator[Places]:
    """Make storages in a bucket of SeaweedFS, all empty."""
    server = start_server("seaweedfs")
    use_credentials(server)
    with open_client(server.endpoint, access_key=server.access_key, secret_key=server.secret_key) as client:

        def make() -> Place:
            prefix = secrets.token_hex(6)
            return Bucket(client, bucket=BUCKET, prefix=prefix, address=server.address(BUCKET, prefix))

        yield make


def test_row_36_first_runs_into_seaweedfs_are_killed_anywhere(buckets: Places, registry: ThreadedRegistry) -> None:
    """100 kills: no document ever names a missing or wrong object, and the next run ends as if nothing had happened."""
    kill_first_runs(buckets, registry, random.Random(20), versions=3, trials=20, kills=5)  # noqa: S311


def test_row_36_updates_of_seaweedfs_are_killed_anywhere(
    buckets: Places, registry: ThreadedRegistry, tmp_path: Path
) -> None:
    """50 kills over 10 days of an upstream that changes and contradicts itself; a twin nobody killed is the judge."""
    kill_updates(buckets, Directory(tmp_path / "twin"), registry, random.Random(21), days=10, kills=5)  # noqa: S311


def test_row_36_repairs_of_seaweedfs_are_killed_anywhere(buckets: Places, registry: ThreadedRegistry) -> None:
    """40 kills: what was sound is never touched, what was damaged is as it was or right, the next repair completes."""
    kill_repairs(buckets, registry, random.Random(22), trials=10, kills=4)  # noqa: S311
