"""Lines on disk, in 256 temporary files by two hex digits: for sets that memory does not hold, used a part at a time.

Rules:

- No file exists before something is written, and all are removed when the owner is closed.
- Files are opened one after another, never together (P10).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import trio

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

__all__ = ["PART_DIGITS", "Digests", "PartFiles"]

PART_DIGITS: Final = 2
"""Hex digits that choose the file."""

IN_MEMORY: Final = 5000
"""Digests kept in memory before they go to disk: about 1 MB."""


class PartFiles:
    """Lines by part.

    Args:
        directory: where temporary files go; None: the system's choice.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writing = trio.Lock()

    def __repr__(self) -> str:
        return f"<PartFiles {'in use' if self._folder else 'empty'}>"

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return self._folder is None

    async def append(self, lines: Iterable[tuple[str, str]]) -> None:
        """Write lines, each given with the hex text whose first digits choose its part."""
        parts: dict[str, list[str]] = {}
        for place, line in lines:
            parts.setdefault(place[:PART_DIGITS], []).append(f"{line}\n")
        async with self._writing:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="mirrorwitness-", dir=self._directory)
            await trio.to_thread.run_sync(_append, Path(self._folder.name), parts)

    async def read(self, part: str) -> list[str]:
        """Return the lines of a part in the order in which they were written."""
        if self._folder is None:
            return []
        return await trio.to_thread.run_sync(_read, Path(self._folder.name, part))

    def close(self) -> None:
        """Remove the files."""
        if self._folder is not None:
            self._folder.cleanup()


class Digests:
    """A set of hex digests; use it as a context manager.

    Args:
        directory: where temporary files go; None: the system's choice.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._files = PartFiles(directory)
        self._recent: set[str] = set()

    def __repr__(self) -> str:
        return f"<Digests {len(self._recent)} in memory, {self._files!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._files.close()

    async def add(self, digest: str) -> None:
        """Take a digest in."""
        self._recent.add(digest)
        if len(self._recent) >= IN_MEMORY:
            recent, self._recent = self._recent, set()
            await self._files.append((found, found) for found in recent)

    async def part(self, part: str) -> frozenset[str]:
        """Return those that begin with two digits."""
        recent = {digest for digest in self._recent if digest.startswith(part)}
        return frozenset(recent.union(await self._files.read(part)))


def _append(folder: Path, parts: dict[str, list[str]]) -> None:
    for part, lines in parts.items():
        with (folder / part).open("a", encoding="ascii") as file:
            file.writelines(lines)


def _read(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split("\n")[:-1]
    except FileNotFoundError:
        return []
