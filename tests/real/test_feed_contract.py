"""The contract suite of all feeds, against a real database: the same tests, other walls.

The tests are those of `tests/contract/test_feed.py`; only the fixture is another. The first test here is the reverse:
the simulator and the database, after the same history, have the same documents.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.contract import test_feed as suite
from tests.fakes.feed_history import FeedHistory, Life, apply
from tests.fakes.registry import RegistrySimulator
from tests.real.pouchdb import open_pouchdb
from tests.real.servers import NotInstalledError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.real.pouchdb import PouchUpstream

# Each test of the suite becomes one of this module, where `subject` is the fixture below.
globals().update({name: test for name, test in vars(suite).items() if name.startswith("test_")})


@pytest.fixture(scope="module")
def running() -> Iterator[PouchUpstream]:
    try:
        with open_pouchdb() as upstream:
            yield upstream
    except NotInstalledError as error:
        pytest.skip(str(error))


@pytest.fixture
def pouchdb(running: PouchUpstream) -> PouchUpstream:
    running.reset()
    return running


@pytest.fixture
def subject(pouchdb: PouchUpstream) -> suite.Subject:
    return suite.Subject(pouchdb, suite.get, pouchdb.feed_base, pouchdb.registry_base)


@pytest.mark.parametrize("seed", range(10, 13))
def test_simulator_has_the_same_documents(pouchdb: PouchUpstream, seed: int) -> None:
    """After the same history, simulator and database serve the same documents and bytes, but for revisions' hashes."""
    history = FeedHistory(seed=seed, names=suite.NAMES)
    sim = RegistrySimulator()
    sim.base = pouchdb.registry_base
    for _ in range(60):
        operation = history.next()
        apply(operation, sim)
        apply(operation, pouchdb)
    for name, package in history.packages.items():
        if package.life in {Life.UNKNOWN, Life.DELETED}:
            continue
        expected, found = sim.packument(name), pouchdb.packument(name)
        assert _without_hashes(found) == _without_hashes(expected)
        for version in package.versions:
            assert pouchdb.tarball(name, version) == sim.tarball(name, version)


def _without_hashes(document: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in document.items() if key != "_attachments"}
    return {**kept, "_rev": document["_rev"].partition("-")[0]}
