"""What is kept of verified answers: how much, and what becomes of it when it is damaged."""

from __future__ import annotations

import pytest
import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb import lookupcache
from mirrorwitness.sumdb.lookupcache import SHARDS, LookupCache, Remembered
from tests.fakes.storage import MemoryStorage

ONE = Version("1.0.0")


def answer(name: str, size: int = 7, body: str = "answer") -> Remembered:
    return Remembered(f"{name}@1.0.0", size, 1, body)


async def test_what_is_remembered_is_there_after_it_was_saved() -> None:
    """For another process too; before that it is in memory alone."""
    storage = MemoryStorage()
    cache, other = LookupCache(storage, "log"), LookupCache(storage, "log")
    for number in range(100):
        await cache.remember(answer(f"a{number}"), b"note\n")
    assert storage.objects == {}
    await cache.save()
    assert len(storage.objects) == SHARDS
    assert await other.find(PackageName("a7"), ONE) == (answer("a7"), b"note\n")
    assert await other.find(PackageName("b"), ONE) is None
    assert "100 answers" in repr(cache)


async def test_nothing_is_written_where_nothing_changed() -> None:
    """A warm run leaves the files as they are."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    await cache.remember(answer("a"), b"note\n")
    await cache.save()
    again = LookupCache(storage, "log")
    await again.find(PackageName("a"), ONE)
    await again.forget(answer("b"))
    await again.save()
    assert len(storage.keys_of("put")) == 1


async def test_logs_do_not_see_each_others_answers() -> None:
    """An origin has files of its own."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    await cache.remember(answer("a"), b"note\n")
    await cache.save()
    assert await LookupCache(storage, "other").find(PackageName("a"), ONE) is None


async def test_many_tasks_read_a_file_once() -> None:
    """Whoever comes while it is read waits for it."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(cache.find, PackageName("a"), ONE)
    assert len(storage.keys_of("read")) == 1


async def test_what_is_forgotten_is_gone() -> None:
    """And the checkpoint that nothing is under any more goes with it."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    await cache.remember(answer("a"), b"note\n")
    await cache.save()
    await cache.forget(answer("a"))
    await cache.save()
    (body,) = storage.objects.values()
    assert body == b'{"format":1,"notes":{},"answers":[]}'


async def test_the_oldest_answers_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shard has a limit; an answer that was renewed is a new one."""
    monkeypatch.setattr(lookupcache, "MAX_SHARD_BYTES", 55)
    monkeypatch.setattr(lookupcache, "SHARDS", 1)
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    for name in ("a", "b", "c"):
        await cache.remember(answer(name, body="x" * 15), b"note\n")
    await cache.remember(answer("a", body="y" * 15), b"note\n")
    await cache.save()
    monkeypatch.setattr(lookupcache, "MAX_SHARD_BYTES", 500)
    kept = LookupCache(storage, "log")
    found = [await kept.find(PackageName(name), ONE) is not None for name in ("a", "b", "c")]
    assert found == [True, False, True]


async def test_a_file_that_is_far_too_large_is_written_anew() -> None:
    """Nobody of ours wrote it; it is not read, and no reason to stop."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    await cache.remember(answer("a"), b"note\n")
    await cache.save()
    (key,) = storage.objects
    storage.set_bytes(key, bytes(2 * lookupcache.MAX_SHARD_BYTES + 1))
    again = LookupCache(storage, "log")
    assert await again.find(PackageName("a"), ONE) is None
    await again.remember(answer("a"), b"note\n")
    await again.save()
    assert len(storage.objects[key]) < 1000


async def test_a_storage_that_fails() -> None:
    """It is told, and what was not written is written the next time."""
    storage = MemoryStorage()
    cache = LookupCache(storage, "log")
    await cache.remember(answer("a"), b"note\n")
    storage.fail_before("put", "*", StorageUnavailableError("no disk"))
    with pytest.raises(StorageUnavailableError, match="no disk"):
        await cache.save()
    await cache.save()
    assert len(storage.objects) == 1
