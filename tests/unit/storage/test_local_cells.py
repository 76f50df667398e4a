"""Objects in cells: whoever reads, lists, replaces or copies a directory storage need not know of them."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError, StorageError, StorageRefusedError
from mirrorwitness.storage import ObjectInfo, Put
from mirrorwitness.storage.cell import SLOT_BYTES
from mirrorwitness.storage.local import LocalStorage, open_local
from mirrorwitness.storage.local_cells import name_of_cell, overwrite_cell, read_cell
from mirrorwitness.storage.local_files import put_files
from mirrorwitness.storage.local_names import Names
from mirrorwitness.storage.local_tree import Tree, close_tree, open_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SHOWN = Put("shown", b"")


async def _swap(storage: LocalStorage, key: str, body: bytes, etag: str | None) -> str:
    info, _ = await storage.put_pair(Put(key, body, if_match=etag, if_absent=etag is None), SHOWN)
    return info.etag


async def _stream(storage: LocalStorage, key: str, **where: int) -> bytes:
    pieces: list[bytes] = []
    async with storage.open(key, **where) as reader:
        while piece := await reader.receive_some():
            pieces.append(piece)
    return b"".join(pieces)


@pytest.mark.parametrize("names", Names)
async def test_it_is_an_object_like_any_other(names: Names, tmp_path: Path) -> None:
    """Read whole, in part and in pieces, looked at, listed in order under its name, and removed."""
    async with open_local(tmp_path, fsync=False, names=names) as storage:
        for key in ("a/B", "a/b-c", "a/b/c"):
            await storage.put(key, b"file")
        etag = await _swap(storage, "a/b.d", b"0123456789" * 200_000, None)
        info = ObjectInfo("a/b.d", 2_000_000, etag)
        assert await storage.stat("a/b.d") == info
        assert await storage.read("a/b.d", limit=2_000_000) == (b"0123456789" * 200_000, info)
        assert await _stream(storage, "a/b.d") == b"0123456789" * 200_000
        assert await _stream(storage, "a/b.d", start=3, length=4) == b"3456"
        with pytest.raises(StorageError, match="2,000,000 bytes, so nothing starts"):
            await _stream(storage, "a/b.d", start=2_000_000)
        with pytest.raises(StorageError, match="more than the limit of 9"):
            await storage.read("a/b.d", limit=9)
        found = [await storage.list("a/", limit=1, after=after) for after in ("", "a/B", "a/b-c", "a/b.d")]
        assert [[each.key for each in page.objects] for page in found] == [["a/B"], ["a/b-c"], ["a/b.d"], ["a/b/c"]]
        assert found[2].objects == (info,)
        await storage.delete("a/b.d")
        assert await storage.stat("a/b.d") is None
        with pytest.raises(ObjectMissingError):
            await storage.read("a/b.d", limit=9)


async def test_its_etags_never_come_back(tmp_path: Path) -> None:
    """P7: as a cell, made anew as one, as a file, as a cell again: none is seen twice, and old ones match nothing."""
    async with open_local(tmp_path, fsync=False) as storage:
        seen = [await _swap(storage, "k", b"", None)]
        for body in (b"1", b"2", bytes(5000), b"3", b"2"):
            seen.append(await _swap(storage, "k", body, seen[-1]))
            if body == b"3":
                seen.append((await storage.put("k", b"3", if_match=seen[-1])).etag)
        assert len(set(seen)) == len(seen)
        for etag in seen[:-1]:
            with pytest.raises(PreconditionFailedError, match="k should have etag"):
                await _swap(storage, "k", b"x", etag)
        with pytest.raises(PreconditionFailedError, match="k exists already"):
            await _swap(storage, "k", b"x", None)
        assert (await storage.read("k", limit=9))[0] == b"2"


async def test_a_longer_version_gets_a_new_cell(tmp_path: Path) -> None:
    """It grows as far as it has to, and keeps its room when the next one is short."""
    async with open_local(tmp_path, fsync=False) as storage:
        etag = None
        for size, slots in ((10, 1), (SLOT_BYTES - 36, 1), (SLOT_BYTES - 35, 2), (10, 2)):
            etag = await _swap(storage, "k", bytes(size), etag)
            assert (tmp_path / ".k.mwcell").stat().st_size == 2 * slots * SLOT_BYTES
            assert await storage.stat("k") == ObjectInfo("k", size, etag)


async def test_a_copy_made_of_hard_links_stays_as_it_was(tmp_path: Path) -> None:
    """A snapshot by `cp -al` shares the file: it is made anew, and not written over."""
    async with open_local(tmp_path, fsync=False) as storage:
        etag = await _swap(storage, "k", b"1", None)
        (tmp_path / "snapshot").mkdir()
        (tmp_path / "snapshot/.k.mwcell").hardlink_to(tmp_path / ".k.mwcell")
        await _swap(storage, "k", b"2", etag)
        assert (await storage.read("k", limit=9))[0] == b"2"
        assert (await storage.read("snapshot/k", limit=9))[0] == b"1"


async def test_a_file_beside_a_cell_counts(tmp_path: Path) -> None:
    """Whether a crash left the cell or somebody put the file back: it is read, listed once, and replaced by a cell."""
    async with open_local(tmp_path, fsync=False) as storage:
        await _swap(storage, "k", b"cell", None)
        (tmp_path / "k").write_bytes(b"file")
        body, info = await storage.read("k", limit=9)
        assert body == b"file"
        assert [each for each in (await storage.list("")).objects if each.key == "k"] == [info]
        await _swap(storage, "k", b"new", info.etag)
        assert (await storage.read("k", limit=9))[0] == b"new"
        assert not (tmp_path / "k").exists()
        (tmp_path / "k").write_bytes(b"file")
        await storage.delete("k")
        assert await storage.stat("k") is None


@pytest.mark.parametrize("body", [b"", b"{}", bytes(2 * SLOT_BYTES)])
async def test_a_damaged_cell_is_shown_as_it_is(body: bytes, tmp_path: Path) -> None:
    """P7: it is no object that is missing: whoever reads it sees that it is wrong, and may replace it by its etag."""
    async with open_local(tmp_path, fsync=False) as storage:
        await _swap(storage, "k", b"1", None)
        (tmp_path / ".k.mwcell").write_bytes(body)
        found, info = await storage.read("k", limit=10_000)
        assert (found, info.size) == (body, len(body))
        await _swap(storage, "k", b"2", info.etag)
        assert (await storage.read("k", limit=9))[0] == b"2"


async def test_a_name_without_room_for_a_cells(tmp_path: Path) -> None:
    """The first of a pair is kept as a file then."""
    key = "x" * 250
    async with open_local(tmp_path) as storage:
        etag = await _swap(storage, key, b"1", None)
        await _swap(storage, key, b"2", etag)
        assert (await storage.read(key, limit=9))[0] == b"2"
        assert (tmp_path / key).read_bytes() == b"2"


async def test_a_copy_of_the_directory_has_it(tmp_path: Path) -> None:
    """P8: a copied tree says the same."""
    async with open_local(tmp_path / "one", fsync=False) as storage:
        await _swap(storage, "state/k", b"1", None)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    async with open_local(tmp_path / "two") as storage:
        assert (await storage.read("state/k", limit=9))[0] == b"1"


async def test_a_directory_that_is_read_only(tmp_path: Path) -> None:
    """Nothing is written over there either."""
    async with open_local(tmp_path, fsync=False) as storage:
        etag = await _swap(storage, "k", b"1", None)
    tree = Tree(tmp_path, Names.PLAIN, fsync=True, session=None, session_lock=None)
    reading = LocalStorage(tree, trio.CapacityLimiter(1))
    with pytest.raises(StorageRefusedError, match=r"cannot write k in .*: the directory is read-only for us"):
        await _swap(reading, "k", b"2", etag)
    assert (await reading.read("k", limit=9))[0] == b"1"


def test_p7_a_reader_never_sees_an_older_version_than_before(tmp_path: Path) -> None:
    """While one thread goes on from version to version, another one reads: whole ones, and never backwards."""
    tree = open_tree(tmp_path, fsync=False, names=None)
    path, seen, done = tree.path("k"), [0], threading.Event()

    def format_number(number: int) -> bytes:
        return b"%06d" % number * 600

    (tmp_path / ".k.mwcell").write_bytes(b"")

    def read() -> None:
        while not done.is_set():
            found = read_cell("k", path)
            assert found is not None
            if found[0]:
                number = int(found[0][:6])
                assert found[0] == format_number(number)
                seen.append(number)

    put_files(tree, Put("k", format_number(0)), SHOWN)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in itertools.count(1):
            assert overwrite_cell(tree, path, Put("k", format_number(number))) is not None
            if number >= 3000 and len(seen) > 100:
                break
    finally:
        done.set()
        reader.join()
        close_tree(tree)
    assert seen == sorted(seen)
    assert seen[-1] > 0


async def test_a_key_that_is_a_directory(tmp_path: Path) -> None:
    """No key is the directory of another, whichever came first, and however it is kept."""
    async with open_local(tmp_path, fsync=False) as storage:
        await storage.put("d/x", b"1")
        with pytest.raises(StorageRefusedError, match="a directory stands where the object belongs"):
            await _swap(storage, "d", b"2", None)
        await _swap(storage, "c", b"3", None)
        with pytest.raises(StorageRefusedError, match="a file stands where a directory belongs"):
            await storage.put("c/x", b"4")
        await storage.put("c", b"5")
        assert [each.key for each in (await storage.list("")).objects] == ["c", "d/x", "shown"]


async def test_names_that_only_look_like_cells(tmp_path: Path) -> None:
    """A directory of such a name is nobody's object, and in nobody's way."""
    async with open_local(tmp_path, fsync=False) as storage:
        (tmp_path / ".k.mwcell").mkdir()
        assert (await storage.list("")).objects == ()
        assert await storage.stat("k") is None
        await storage.put("k", b"1")
        assert (await storage.read("k", limit=9))[0] == b"1"


async def test_a_cell_that_somebody_else_owns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Restored by root, say: it is made anew, as a file would be."""
    async with open_local(tmp_path, fsync=False) as storage:
        etag = await _swap(storage, "k", b"1", None)
        work = os.open

        def refuse(path: str, flags: int, *rest: int) -> int:
            if path.endswith(".mwcell") and flags == os.O_RDWR:
                raise PermissionError(13, "Permission denied")
            return work(path, flags, *rest)

        monkeypatch.setattr(os, "open", refuse)
        await _swap(storage, "k", b"2", etag)
        assert (await storage.read("k", limit=9))[0] == b"2"


async def test_a_disk_that_allows_shorter_names_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name of a cell is too long, and the key's is not, the first of a pair is kept as a file."""
    for name in ("open", "unlink", "rename"):
        work = getattr(os, name)

        def limited(*args: object, work: Callable[..., object] = work) -> object:
            if any(str(each).endswith(".mwcell") for each in args):
                raise OSError(36, "File name too long")
            return work(*args)

        monkeypatch.setattr(os, name, limited)
    async with open_local(tmp_path, fsync=False) as storage:
        assert await storage.stat("k") is None
        etag = await _swap(storage, "k", b"1", None)
        await _swap(storage, "k", b"2", etag)
        assert (await storage.read("k", limit=9))[0] == b"2"
        await storage.delete("k")
        assert await storage.stat("k") is None
        monkeypatch.undo()


async def test_p7_times_that_go_backwards(tmp_path: Path) -> None:
    """The kernel's time of a write may lie before the one that the file was given: it is moved up then."""
    async with open_local(tmp_path, fsync=False) as storage:
        etag = await _swap(storage, "k", b"1", None)
        ahead = (tmp_path / ".k.mwcell").stat().st_mtime_ns + 10**12
        os.utime(tmp_path / ".k.mwcell", ns=(ahead, ahead))
        info = await storage.stat("k")
        assert info is not None
        seen = [etag, info.etag]
        for number in range(4):
            seen.append(await _swap(storage, "k", b"%d" % number, seen[-1]))
        seen.append((await storage.put("k", b"file")).etag)
        times = [int(each.partition("-")[0], 16) for each in seen[1:]]
        assert times == sorted(times)
        assert times[0] == ahead
        assert len(set(seen)) == len(seen)


def test_names_of_cells() -> None:
    """Only what `cell_path` makes is one."""
    assert name_of_cell(".a.mwcell") == "a"
    assert name_of_cell("..a.mwcell.mwcell") == ".a.mwcell"
    for name in ("a", ".mwcell", "a.mwcell", ".a", ".a.mwcells", ""):
        assert name_of_cell(name) is None
