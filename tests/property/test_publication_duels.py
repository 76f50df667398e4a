"""Two workers on one package, in every order of their operations: a record never tells of documents that are not there.

The workers are as `mirrorwitness.mirror.package` is: who loses begins anew, who finds a newer revision leaves it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from mirrorwitness.errors import PackageLostError, StorageUnavailableError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue, PackageRecord
from mirrorwitness.mirror.publication import open_publication
from mirrorwitness.npm.names import PackageName
from tests.fakes.storage import MemoryStorage

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from mirrorwitness.storage import Body, Listing, ObjectInfo

NAME = PackageName("left-pad")
RECORD, FULL, SHORT = layout.record_key(NAME), layout.packument_key(NAME), layout.install_key(NAME)


class TurnStorage(MemoryStorage):
    """One worker's way to a shared storage: each operation waits until the worker has its turn."""

    def __init__(self, shared: MemoryStorage, turns: trio.MemoryReceiveChannel[None]) -> None:
        super().__init__()
        self._shared, self._turns = shared, turns

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        await self._turns.receive()
        return await self._shared.read(key, limit=limit)

    async def stat(self, key: str) -> ObjectInfo | None:
        await self._turns.receive()
        return await self._shared.stat(key)

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        await self._turns.receive()
        return await self._shared.put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)

    async def delete(self, key: str) -> None:
        await self._turns.receive()
        await self._shared.delete(key)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        raise NotImplementedError  # no publication lists


@dataclass
class Worker:
    """Brings the package to the revision that it was shown first, or, begun anew, to the newest."""

    rev: int
    newest: int
    hidden: Collection[int] = ()
    """Revisions that show nothing."""
    lives: int = 1000
    """How many turns it has before it is killed."""
    is_done: bool = field(default=False, init=False)

    async def run(self, storage: TurnStorage) -> None:
        while not self.is_done:
            publication = await open_publication(storage, Catalogue(storage), NAME)
            found = publication.found
            if int(found.rev or 0) > self.rev or (found.fingerprint and int(found.rev or 0) == self.rev):
                break
            try:
                if self.rev in self.hidden:
                    await publication.hide()
                else:
                    await publication.show(b"full %d" % self.rev, b"short %d" % self.rev)
                await publication.note(PackageRecord(name=NAME, rev=str(self.rev), fingerprint="wishes"))
                break
            except PackageLostError:
                self.rev = self.newest
        self.is_done = True


async def fight(shared: MemoryStorage, workers: Sequence[Worker], order: Sequence[int]) -> None:
    """Give the workers turns in the given order; then each in turn until it is done or dead."""
    async with trio.open_nursery() as nursery:
        turns: list[Callable[[], Awaitable[None]]] = []
        for worker in workers:
            sender, receiver = trio.open_memory_channel[None](0)
            nursery.start_soon(worker.run, TurnStorage(shared, receiver))

            async def turn(worker: Worker = worker, sender: trio.MemorySendChannel[None] = sender) -> None:
                if not worker.is_done and worker.lives > 0:
                    worker.lives -= 1
                    await sender.send(None)
                    await trio.testing.wait_all_tasks_blocked()

            turns.append(turn)
        await trio.testing.wait_all_tasks_blocked()
        for number in order:
            await turns[number]()
        for number, worker in enumerate(workers):
            while not worker.is_done and worker.lives > 0:
                await turns[number]()
        nursery.cancel_scope.cancel()


def check(shared: MemoryStorage, hidden: Collection[int] = ()) -> PackageRecord | None:
    """Documents are those of the record, where it says that some terms fit; return the record."""
    body = shared.objects.get(RECORD)
    record = None if body is None else msgspec.json.decode(body, type=PackageRecord)
    if record is not None and record.fingerprint:
        rev = int(record.rev or 0)
        expected = (None, None) if rev in hidden else (b"full %d" % rev, b"short %d" % rev)
        assert (shared.objects.get(FULL), shared.objects.get(SHORT)) == expected
    return record


async def make_shared(before: str) -> MemoryStorage:
    """Return a storage as an earlier run left it: with nothing, whole, without a record, or with other documents."""
    shared = MemoryStorage()
    if before != "nothing":
        publication = await open_publication(shared, Catalogue(shared), NAME)
        await publication.show(b"full 1", b"short 1")
        await publication.note(PackageRecord(name=NAME, rev="1", fingerprint="wishes"))
    if before == "no record":
        shared.remove(RECORD)
    elif before == "other documents":
        shared.set_bytes(FULL, b"copied or damaged")
        shared.set_bytes(SHORT, b"copied or damaged")
    elif before == "a damaged record":
        shared.set_bytes(RECORD, b"{")
    return shared


states = st.sampled_from(["nothing", "whole", "no record", "other documents", "a damaged record"])
orders = st.lists(st.integers(0, 1), max_size=30)


@settings(max_examples=500)
@given(before=states, order=orders, hidden=st.sets(st.sampled_from([2, 3])))
async def test_p8_of_two_workers_the_newer_revision_stays_whole(
    before: str, order: list[int], hidden: set[int]
) -> None:
    """In whatever order: at the end there are the documents of the newer revision, and the record says so."""
    shared = await make_shared(before)
    workers = [Worker(2, 3, hidden), Worker(3, 3, hidden)]
    await fight(shared, workers, order)
    record = check(shared, hidden)
    assert record is not None
    assert (record.rev, record.fingerprint) == ("3", "wishes")


@settings(max_examples=500)
@given(before=states, order=orders, lives=st.integers(0, 12), victim=st.integers(0, 1))
async def test_p3_a_worker_that_is_killed_in_a_duel_leaves_no_record_that_lies(
    before: str, order: list[int], lives: int, victim: int
) -> None:
    """A record that says that terms fit has its documents, also where the other worker died in between."""
    shared = await make_shared(before)
    workers = [Worker(2, 3), Worker(3, 3)]
    workers[victim].lives = lives
    await fight(shared, workers, order)
    check(shared)
    later = Worker(4, 4)
    await fight(shared, [later], [])
    record = check(shared)
    assert record is not None
    assert (record.rev, record.fingerprint) == ("4", "wishes")


@given(
    before=st.sampled_from(["nothing", "whole", "no record"]),
    key=st.sampled_from([RECORD, FULL, SHORT]),
    times=st.integers(1, 3),
    is_late=st.booleans(),
)
async def test_p3_a_write_whose_outcome_is_unknown_costs_work_only(
    before: str,
    key: str,
    times: int,
    is_late: bool,  # noqa: FBT001
) -> None:
    """The next attempt finds whatever took effect, and ends with documents and record that fit."""
    shared = await make_shared(before)
    (shared.fail_after if is_late else shared.fail_before)("put", key, StorageUnavailableError("503"), times=times)
    for _ in range(times):
        with pytest.raises(StorageUnavailableError):
            await bring_to_2(shared)
        check(shared)
    await bring_to_2(shared)
    record = check(shared)
    assert record is not None
    assert (record.rev, record.fingerprint) == ("2", "wishes")


async def bring_to_2(shared: MemoryStorage) -> None:
    """Bring the package to revision 2, alone."""
    publication = await open_publication(shared, Catalogue(shared), NAME)
    await publication.show(b"full 2", b"short 2")
    await publication.note(PackageRecord(name=NAME, rev="2", fingerprint="wishes"))
