"""Keep the summary of a mirror while packages are being worked on: collect notes, and take them in when asked to.

Rules:

- Notes that come while an update is under way wait for the next one. Those of an update that failed are kept and taken
  in again.
- Known hole: notes are in this process only. A run that is killed loses them, and its packages are noted again when
  they are looked at again: by the next run over a selection, or by a follower that reads its last hours again. A
  follower that is killed in its first pass over all names may have gone on behind packages of the last minutes; these
  stay out of the summary until they change, or `mirrorwitness summarize` writes it anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import trio

from mirrorwitness.mirror.notes import Notes

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.nodes import Head
    from mirrorwitness.mirror.summarize import Summarizer

__all__ = ["SummaryKeeper"]


class SummaryKeeper:
    """Collects notes for one summary; use it as a context manager.

    Args:
        summarizer: takes them in.
        directory: where notes go that are too many for memory; None: the system's choice.
    """

    def __init__(self, *, summarizer: Summarizer, directory: Path | None = None) -> None:
        self._summarizer = summarizer
        self._directory = directory
        self._notes = Notes(directory)
        self._owed: list[Notes] = []
        self._updating = trio.Lock()

    def __repr__(self) -> str:
        return f"<SummaryKeeper {self._notes!r}, {len(self._owed)} owed>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for notes in (*self._owed, self._notes):
            notes.close()

    async def note(self, record: PackageRecord) -> None:
        """Note a package as it is now."""
        await self._notes.add(record)

    async def update(self) -> Head:
        """Bring the summary up to date for everything noted so far.

        Raises:
            StorageError: the storage failed or the summary is damaged; the notes are kept.
        """
        async with self._updating:
            self._owed.append(self._notes)
            self._notes = Notes(self._directory)
            while True:
                head = await self._summarizer.update(self._owed[0])
                self._owed.pop(0).close()
                if not self._owed:
                    return head
