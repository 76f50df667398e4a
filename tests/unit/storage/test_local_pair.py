"""A pair in a directory: what waits for the disk, and what does not."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.storage import Put, local_files
from mirrorwitness.storage.local import open_local

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return what is asked of the disk, as it is asked."""
    told: list[str] = []

    def record(name: str, tell: Callable[..., str]) -> None:
        work = getattr(os, name)

        def recording(*args: object, **options: object) -> object:
            told.append(tell(*args))
            return work(*args, **options)

        monkeypatch.setattr(os, name, recording)

    def tell_fsync(descriptor: int) -> str:
        return "fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file"

    def where(path: str) -> str:
        return os.path.relpath(path, tmp_path)

    record("fsync", tell_fsync)
    record("fdatasync", lambda _: "fdatasync")
    record("pwrite", lambda _, data, at: f"write {len(data)} at {at}")
    record("rename", lambda _, target: f"rename {where(target)}")
    record("unlink", lambda path: f"unlink {where(path)}")
    return told


SHOW = "rename shown/b"


async def test_the_second_is_written_when_the_first_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    """P7: the bytes go over an older version, one wait, and only then the second, for which nothing waits."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
        calls.clear()
        await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        await storage.put_pair(Put("state/a", b"3"), Put("shown/b", b"3"))
        told = list(calls)
    assert told == ["write 37 at 4096", "fdatasync", SHOW, "write 37 at 0", "fdatasync", SHOW]


async def test_a_new_one_is_written_as_a_file_is(tmp_path: Path, calls: list[str]) -> None:
    """P8: bytes, name, and only then the second."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
        calls.clear()
        await storage.put_pair(Put("state/c", b"1", if_absent=True), Put("shown/b", b"2"))
        told = list(calls)
    assert told == ["fsync file", "rename state/.c.mwcell", "fsync directory", SHOW]


async def test_a_file_goes_when_its_cell_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    """P8: one of the two is there for certain; and that the file is gone is certain before anything is answered."""
    async with open_local(tmp_path) as storage:
        info = await storage.put("state/a", b"1")
        await storage.put("shown/b", b"1")
        calls.clear()
        await storage.put_pair(Put("state/a", b"2", if_match=info.etag), Put("shown/b", b"2"))
        told = list(calls)
    change = ["fsync file", "rename state/.a.mwcell", "fsync directory", "unlink state/a", "fsync directory"]
    assert told == [*change, SHOW]


async def test_a_cell_goes_when_its_file_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    """P8: as the other way round; that the cell is gone need not be certain, as it does not count beside a file."""
    async with open_local(tmp_path) as storage:
        info, _ = await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
        calls.clear()
        await storage.put("state/a", b"2", if_match=info.etag)
        told = list(calls)
        assert (await storage.read("state/a", limit=9))[0] == b"2"
    assert told == ["fsync file", "rename state/a", "fsync directory", "unlink state/.a.mwcell", "fsync directory"]


async def test_p7_who_takes_over_waits_for_what_it_goes_on_from(tmp_path: Path, calls: list[str]) -> None:
    """A process that was killed left a version to be seen: the one below goes when its bytes and name are certain.

    The bytes are written again, as a disk that refused them once says of the same ones later that they are there.
    """
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
    async with open_local(tmp_path) as storage:
        calls.clear()
        await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        await storage.put_pair(Put("state/a", b"3"), Put("shown/b", b"3"))
        told = [call for call in calls if call != SHOW]
    certain = ["write 37 at 0", "fdatasync", "fsync directory"]
    assert told == [*certain, "write 37 at 4096", "fdatasync", "write 37 at 0", "fdatasync"]


async def test_nothing_is_shown_where_the_disk_does_not_take_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    """P7: whether the first counts nobody knows, the second is as it was, and whoever goes on makes certain first."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))

        def fail(_: int) -> None:
            raise OSError(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            with pytest.raises(StorageUnavailableError, match="write state/a and shown/b"):
                await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        assert (await storage.read("shown/b", limit=9))[0] == b"1"
        found, after = await storage.read("state/a", limit=9)
        assert found == b"2"
        calls.clear()
        await storage.put_pair(Put("state/a", b"3", if_match=after.etag), Put("shown/b", b"3"))
        told = list(calls)
        assert [(await storage.read(key, limit=9))[0] for key in ("state/a", "shown/b")] == [b"3", b"3"]
    certain = ["write 37 at 4096", "fdatasync", "fsync directory"]
    assert told == [*certain, "write 37 at 0", "fdatasync", SHOW]


async def test_p7_a_new_cell_whose_name_was_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]
) -> None:
    """One failed call between rename and fsync is enough: the next swap is not answered before the name is certain."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/x", b"1"), Put("shown/b", b"1"))

        def fail(_: str) -> None:
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(local_files, "fsync_directory", fail)
            with pytest.raises(StorageUnavailableError):
                await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"2"))
        calls.clear()
        await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        told = list(calls)
    certain = ["write 37 at 0", "fdatasync", "fsync directory"]
    assert told == [*certain, "write 37 at 4096", "fdatasync", SHOW]


async def test_nothing_is_shown_where_the_disk_does_not_take_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory's fsync fails: the first may be there or not, the second is not."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/x", b"1"), Put("shown/y", b"1"))
        failing = iter([False, True])

        def fail(_: int) -> None:
            if next(failing):
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageUnavailableError, match="write state/a and shown/b"):
            await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        assert await storage.stat("shown/b") is None


async def test_nothing_waits_where_the_storage_does_not(tmp_path: Path, calls: list[str]) -> None:
    """`fsync=off` is the operator's word for both, and for new ones and later ones."""
    async with open_local(tmp_path, fsync=False) as storage:
        calls.clear()
        for body in (b"1", b"2"):
            await storage.put_pair(Put("state/a", body), Put("shown/b", body))
    assert [call for call in calls if "sync" in call] == []
