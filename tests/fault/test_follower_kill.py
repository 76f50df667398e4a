"""Followers killed at any instant (P2, P8): SIGKILL at 200 random points, over a directory, S3 in memory, and moto.

The numbers are those of `make fuzz`; `make test` plays a part of them (`tests.fault.killing.rounds`).
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import serve
from tests.fakes.thread import run_in_thread
from tests.fault.follow_trials import kill_followers
from tests.fault.killing import rounds
from tests.fault.test_kill import buckets, directories

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fakes.thread import ThreadedRegistry
    from tests.fault.places import Places

__all__ = ["buckets", "directories"]

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def feed(registry: ThreadedRegistry) -> Iterator[FeedSimulator]:
    simulator = FeedSimulator(registry.sim, record=False)
    with run_in_thread(serve(simulator)):
        yield simulator


@pytest.mark.parametrize("seed", [1, 2])
def test_p8_followers_over_a_directory_are_killed_anywhere(
    seed: int,
    directories: Places,
    registry: ThreadedRegistry,
    feed: FeedSimulator,
) -> None:
    """120 kills: no document names what is missing, no cursor passes what is unfinished, and a last run catches up."""
    kill_followers(directories, registry.sim, feed, random.Random(seed), trials=rounds(10), kills=6)  # noqa: S311


@pytest.mark.parametrize("buckets", ["hostile", "moto"], indirect=True)
def test_p8_followers_over_a_bucket_are_killed_anywhere(
    buckets: Places,
    registry: ThreadedRegistry,
    feed: FeedSimulator,
) -> None:
    """The same with 80 kills against S3."""
    kill_followers(buckets, registry.sim, feed, random.Random(3), trials=rounds(5), kills=8)  # noqa: S311
