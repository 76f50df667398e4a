"""A pair in a directory: what waits for the disk, and what does not."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.storage import Put
from mirrorwitness.storage.local import open_local

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Return what is asked of the disk, as it is asked: fsyncs and renames."""
    told: list[str] = []
    fsync, rename = os.fsync, os.rename

    def record_fsync(descriptor: int) -> None:
        told.append("fsync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "fsync file")
        fsync(descriptor)

    def record_rename(source: str, target: str) -> None:
        told.append(f"rename {os.path.relpath(target, tmp_path)}")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", record_fsync)
    monkeypatch.setattr(os, "rename", record_rename)
    return told


async def test_the_second_is_written_when_the_first_is_on_the_disk(tmp_path: Path, calls: list[str]) -> None:
    """P7: bytes, name, and only then the second, for which nothing waits."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
        calls.clear()
        await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
    assert calls == ["fsync file", "rename state/a", "fsync directory", "rename shown/b"]


async def test_nothing_is_shown_where_the_disk_does_not_take_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The directory's fsync fails: the first may be there or not, the second is as it was."""
    async with open_local(tmp_path) as storage:
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
        failing = iter([False, True])

        def fail(_: int) -> None:
            if next(failing):
                raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageUnavailableError, match="write state/a and shown/b"):
            await storage.put_pair(Put("state/a", b"2"), Put("shown/b", b"2"))
        assert (await storage.read("shown/b", limit=9))[0] == b"1"


async def test_nothing_waits_where_the_storage_does_not(tmp_path: Path, calls: list[str]) -> None:
    """`fsync=off` is the operator's word for both."""
    async with open_local(tmp_path, fsync=False) as storage:
        calls.clear()
        await storage.put_pair(Put("state/a", b"1"), Put("shown/b", b"1"))
    assert [call for call in calls if call.startswith("fsync")] == []
