"""Progress of long commands as bars on a terminal; what is told, and when, is `mirrorwitness.cli.bars`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mirrorwitness.cli.bars import Counts

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName

__all__ = ["Bars"]


class Bars(Counts):
    """Bars on standard error for the length of a block."""

    def __init__(self, verb: str, *, counts_tarballs: bool = True) -> None:
        super().__init__(verb, counts_tarballs=counts_tarballs)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("packages · {task.fields[detail]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._bars.add_task(verb, total=None, detail="")

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def started(self, packages: int) -> None:
        """Take how many there are."""
        super().started(packages)
        self._bars.update(self._task, total=packages)

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        """Count one, and tell what is wrong with it."""
        super().package_finished(name, problem=problem)
        self._bars.update(self._task, completed=self.packages, detail=self.detail())

    def tarball_stored(self, size: int) -> None:
        """Count a tarball."""
        super().tarball_stored(size)
        self._bars.update(self._task, detail=self.detail())

    def bytes_checked(self, size: int) -> None:
        """Count a tarball that was read."""
        super().bytes_checked(size)
        self._bars.update(self._task, detail=self.detail())

    def say(self, text: str) -> None:
        """Tell a person something, above the bars."""
        self._bars.console.print(text, markup=False, highlight=False)
