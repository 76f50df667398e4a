"""Directories list in the order of the keys' bytes, which buckets need not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.storage.local import open_local
from mirrorwitness.storage.local_names import Names

if TYPE_CHECKING:
    from pathlib import Path

KEYS = ("a", "b-c", "b.d", "b/a", "b/z/y", "b0", "c", "d/\u00e9", "d/e", "d/\U00010000", "d/\uffee")


async def test_byte_order_with_any_page_size(tmp_path: Path) -> None:
    """A directory sorts as its name with a slash: among the bytes, '-' and '.' come before it and '0' after."""
    for names in Names:
        async with open_local(tmp_path / names, fsync=False, names=names) as storage:
            for key in reversed(KEYS):
                await storage.put(key, b"x")
            for limit in (1, 2, 3, 100):
                found: list[str] = []
                after: str | None = ""
                while after is not None:
                    page = await storage.list("", after=after, limit=limit)
                    found += [each.key for each in page.objects]
                    after = page.more_after
                assert found == sorted(KEYS, key=str.encode)


async def test_after_a_directorys_name(tmp_path: Path) -> None:
    """`after` may be the name of a directory: what is in it comes after it."""
    async with open_local(tmp_path, fsync=False) as storage:
        for key in KEYS:
            await storage.put(key, b"x")
        found = [each.key for each in (await storage.list("", after="b")).objects]
    assert found == [key for key in sorted(KEYS, key=str.encode) if key > "b"]
