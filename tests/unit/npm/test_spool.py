"""Spools: order, bounds, memory given back, and nothing left behind (P1, P10)."""

from __future__ import annotations

import hashlib
import random
import resource
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import IntegrityMismatchError, StorageRefusedError, UpstreamProtocolError
from mirrorwitness.npm.integrity import Expectation, make_expectation
from mirrorwitness.npm.spool import MEMORY_PER_SPOOL, WRITE_PIECE, MemoryBudget, Spool

if TYPE_CHECKING:
    from collections.abc import Iterator

KIB = 1024


def expect(body: bytes) -> Expectation:
    return make_expectation(None, hashlib.sha1(body, usedforsecurity=False).hexdigest())


def make_spool(body: bytes, budget: MemoryBudget, directory: Path, *, limit: int = 10**9) -> Spool:
    return Spool(expectation=expect(body), budget=budget, limit=limit, what="left-pad@1.0.0", directory=directory)


def content(found: bytes | Path) -> bytes:
    return found if isinstance(found, bytes) else found.read_bytes()


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let writes beyond `size` bytes of a file fail, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_small_tarball_stays_in_memory(tmp_path: Path) -> None:
    """In pieces or whole, empty or not: bytes, and no file; the memory is given back at the end."""
    for pieces in ([b"abc", b"", b"def"], [b"abcdef"], []):
        body, budget = b"".join(pieces), MemoryBudget(100)
        with make_spool(body, budget, tmp_path) as spool:
            for piece in pieces:
                await spool.write(piece)
            found, verifier = await spool.finish()
            assert (found, verifier.size, spool.size) == (body, len(body), len(body))
            assert repr(budget) == f"<MemoryBudget {len(body)} of 100 bytes taken>"
            assert files_in(tmp_path) == []
        assert repr(budget) == "<MemoryBudget 0 of 100 bytes taken>"


async def test_a_large_tarball_goes_to_disk_and_leaves_nothing(tmp_path: Path) -> None:
    """Beyond `MEMORY_PER_SPOOL` the body is a path that is gone when the block is left."""
    body = random.Random(1).randbytes(MEMORY_PER_SPOOL + 3 * WRITE_PIECE + 7)  # noqa: S311 - the same in each run
    budget = MemoryBudget(10**9)
    with make_spool(body, budget, tmp_path) as spool:
        for start in range(0, len(body), 64 * KIB):
            await spool.write(body[start : start + 64 * KIB])
        found, _ = await spool.finish()
        assert isinstance(found, Path)
        assert found.read_bytes() == body
        assert budget.take(10**9)
        budget.give_back(10**9)
    assert files_in(tmp_path) == []


async def test_p1_pieces_of_any_size_keep_their_order(tmp_path: Path) -> None:
    """A small piece behind one that did not fit must not overtake it: the stored bytes would not be the checked ones.

    Found by reading: the verifier saw the right order, the file had another.
    """
    chance = random.Random(7)  # noqa: S311 - the same in each run
    body = chance.randbytes(MEMORY_PER_SPOOL + 2 * WRITE_PIECE)
    with make_spool(body, MemoryBudget(10**9), tmp_path) as spool:
        start = 0
        while start < len(body):
            size = chance.choice([1, 100, 16 * KIB, 700 * KIB])
            await spool.write(body[start : start + size])
            start += size
        found, _ = await spool.finish()
        assert content(found) == body


async def test_p1_memory_that_becomes_free_changes_no_order(tmp_path: Path) -> None:
    """The same where another spool gives memory back in between."""
    body, budget = b"aabbcc", MemoryBudget(4)
    assert budget.take(2)
    with make_spool(body, budget, tmp_path) as spool:
        await spool.write(b"aa")
        await spool.write(b"bb")
        budget.give_back(2)
        await spool.write(b"cc")
        found, _ = await spool.finish()
        assert content(found) == body


async def test_reset_starts_over(tmp_path: Path) -> None:
    """Both from memory and from disk; digest and size begin anew."""
    for budget in (MemoryBudget(100), MemoryBudget(0)):
        with make_spool(b"good", budget, tmp_path) as spool:
            await spool.write(b"x" * WRITE_PIECE)
            await spool.reset()
            assert spool.size == 0
            await spool.write(b"good")
            found, _ = await spool.finish()
            assert content(found) == b"good"
        assert files_in(tmp_path) == []


async def test_row_08_other_bytes_never_leave(tmp_path: Path) -> None:
    """P1: `finish` raises, from memory and from disk."""
    for budget in (MemoryBudget(100), MemoryBudget(0)):
        with make_spool(b"good", budget, tmp_path) as spool:
            await spool.write(b"evil")
            with pytest.raises(IntegrityMismatchError):
                await spool.finish()


async def test_attack_oversized(tmp_path: Path) -> None:
    """P10: a tarball beyond the limit ends at the limit."""
    with make_spool(b"", MemoryBudget(100), tmp_path, limit=5) as spool:
        await spool.write(b"12345")
        with pytest.raises(UpstreamProtocolError, match="larger than the limit of 5 bytes"):
            await spool.write(b"6")


async def test_a_directory_that_is_not_there_refuses(tmp_path: Path) -> None:
    """The message says where and what to do."""
    gone = tmp_path / "gone"
    with make_spool(b"x", MemoryBudget(0), gone) as spool:
        await spool.write(b"x")
        with pytest.raises(StorageRefusedError, match=f"cannot spool to {gone}: No such file or directory; free"):
            await spool.finish()


async def test_a_full_disk_refuses_and_leaves_nothing(tmp_path: Path) -> None:
    """Also where closing the file fails once more for what it still holds."""
    budget = MemoryBudget(0)
    with largest_file(WRITE_PIECE // 2):
        with pytest.raises(StorageRefusedError, match="cannot spool to"), make_spool(b"", budget, tmp_path) as spool:
            await spool.write(b"x" * (WRITE_PIECE + 1))
        assert files_in(tmp_path) == []
