"""Documents that look-ups share: one question for all who ask at about the same time, and no more kept than is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import StorageUnavailableError, UpstreamUnreachableError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.packument import parse_packument
from mirrorwitness.sumdb import documents as module
from mirrorwitness.sumdb.documents import Document, Documents
from tests.fakes.registry import Signer
from tests.unit.sumdb.ingest_world import make_world

if TYPE_CHECKING:
    from trio.testing import MockClock

LEFT = PackageName("left")


class Reader:
    """Reads documents of a size, each in a second; or fails."""

    def __init__(self, size: int = 100, *failures: Exception) -> None:
        self.asked: list[str] = []
        self.failures = list(failures)
        self.size = size
        self.documents = Documents(self.read)

    async def read(self, name: PackageName) -> Document:
        self.asked.append(name)
        await trio.sleep(1)
        if self.failures:
            raise self.failures.pop()
        body = b'{"name":"%b","pad":"%b","versions":{}}' % (name.encode(), b"x" * self.size)
        return Document("registry.example", parse_packument(body, name=name), {}, frozenset())

    async def use(self, name: PackageName = LEFT, seconds: float = 0.0) -> Document:
        async with self.documents.borrow(name) as document:
            await trio.sleep(seconds)
            return document


async def test_a_document_is_read_once_for_all_who_need_it(autojump_clock: MockClock) -> None:
    """Those who come while it is read, and shortly after; a moment later it is read again."""
    reader = Reader()
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(reader.use)
    await trio.sleep(module.KEPT - 0.1)
    await reader.use()
    assert reader.asked == ["left"]
    await trio.sleep(0.2)
    await reader.use()
    assert reader.asked == ["left", "left"]
    assert repr(reader.documents) == "<Documents 0 in use, 1 kept>"


async def test_one_that_is_used_for_long_is_read_anew_for_others(autojump_clock: MockClock) -> None:
    """A slow tarball does not make a document older than it may be; the first keeps what it has."""
    reader = Reader()
    found: list[Document] = []

    async def use_for_long() -> None:
        found.append(await reader.use(seconds=20))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use_for_long)
        await trio.sleep(10)
        assert repr(reader.documents) == "<Documents 1 in use, 0 kept>"
        other = await reader.use()
    assert (len(reader.asked), found[0] is other) == (2, False)
    assert repr(reader.documents) == "<Documents 0 in use, 0 kept>"


async def test_attack_large_documents_are_not_held(autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of those that nobody uses no more is kept than is said, the oldest goes first."""
    monkeypatch.setattr(module, "MAX_KEPT_BYTES", 2_500)
    reader = Reader(1_000)
    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(reader.use, PackageName(f"p{number}"))
    assert repr(reader.documents) == "<Documents 0 in use, 2 kept>"
    reader.size = 10_000
    await reader.use()
    assert repr(reader.documents) == "<Documents 0 in use, 0 kept>"


async def test_a_registry_that_cannot_be_asked_is_asked_once(autojump_clock: MockClock) -> None:
    """Whoever waited gets the same error, without another question; then it is tried again."""
    reader = Reader(100, UpstreamUnreachableError("no answer"))
    errors: list[str] = []

    async def use() -> None:
        with pytest.raises(UpstreamUnreachableError, match="no answer") as caught:
            await reader.use()
        errors.append(str(caught.value))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(use)
    assert (len(errors), reader.asked) == (10, ["left"])
    assert repr(reader.documents) == "<Documents 0 in use, 0 kept>"
    await reader.use()


async def test_who_is_cancelled_leaves_it_to_the_next(autojump_clock: MockClock) -> None:
    """Nothing is remembered of a question that was not answered, nor of an error of our own."""
    reader = Reader(100, StorageUnavailableError("gone"))
    with trio.move_on_after(0.5):
        await reader.use()
    with pytest.raises(StorageUnavailableError):
        await reader.use()
    await reader.use()
    assert reader.asked == ["left", "left", "left"]


async def test_many_new_versions_of_one_package_cost_one_document() -> None:
    """They are logged side by side, each once, as a client that checks a lockfile asks for them."""
    world = await make_world()
    versions = [Version(f"1.0.{number}") for number in range(40)]
    for version in versions:
        world.sim.publish("left", version, signer=Signer())
    async with world.ingesting() as ingest, trio.open_nursery() as nursery:
        for version in versions:
            nursery.start_soon(ingest.run_version, LEFT, version)
            nursery.start_soon(ingest.run_version, LEFT, version)
    assert sorted(await world.events("left")) == sorted(f"publish {version}" for version in versions)
    assert [request.target for request in world.sim.requests].count("/left") == 1
