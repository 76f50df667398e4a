"""Histories are the same for a seed, possible at each step, and hold every kind of operation."""

from __future__ import annotations

from collections import Counter

from tests.fakes.feed_history import FeedHistory, Kind, Life

NAMES = ["a", "b", "@s/c"]


def _run(seed: int, count: int) -> FeedHistory:
    history = FeedHistory(seed=seed, names=NAMES)
    for _ in range(count):
        history.next()
    return history


def test_same_seed_same_history() -> None:
    """A history is a function of seed and names."""
    assert _run(1, 80).operations == _run(1, 80).operations != _run(2, 80).operations


def test_every_kind_happens() -> None:
    """In a hundred histories of fifty operations, each kind occurs at least a hundred times."""
    kinds = Counter(operation.kind for seed in range(100) for operation in _run(seed, 50).operations)
    assert set(kinds) == set(Kind)
    assert min(kinds.values()) >= 100


def test_most_packages_live() -> None:
    """At the end of histories, more than half of the packages that were published are alive."""
    lives = Counter(package.life for seed in range(100) for package in _run(seed, 50).packages.values())
    assert lives[Life.LIVE] > sum(lives.values()) / 2
    assert set(lives) >= {Life.UNPUBLISHED, Life.DELETED, Life.HOLDER}


def test_no_version_is_published_twice() -> None:
    """Version numbers of a package are never used again."""
    for seed in range(20):
        published = [
            (operation.name, operation.version)
            for operation in _run(seed, 100).operations
            if operation.kind in {Kind.PUBLISH, Kind.NEW_VERSION, Kind.REPUBLISH}
        ]
        assert len(set(published)) == len(published)
