"""Progress of long commands on standard error: bars on a terminal, plain lines elsewhere.

Plain lines come at most every `LINE_EVERY` seconds, and one for each problem, so that a job's log stays short and says
what went wrong. Nothing here decides anything.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Self

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mirrorwitness.cli.output import format_bytes
from mirrorwitness.mirror.progress import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mirrorwitness.mirror.progress import Progress as ProgressSink
    from mirrorwitness.npm.names import PackageName

__all__ = ["show_progress"]

LINE_EVERY: Final = 5.0
"""Seconds between plain progress lines."""

PROBLEM_LINES: Final = 20
"""Problems told at once while running; the summary and the storage have them all."""


@contextmanager
def show_progress(verb: str, *, is_quiet: bool, counts_tarballs: bool = True) -> Generator[ProgressSink]:
    """Show a command's progress while the block runs.

    Args:
        verb: what is being done, for example ``mirroring``.
        is_quiet: show nothing.
        counts_tarballs: show also how many tarballs, and how large.
    """
    if is_quiet:
        yield SilentProgress()
    elif sys.stderr.isatty():
        with _Bars(verb, counts_tarballs=counts_tarballs) as bars:
            yield bars
    else:
        lines = _Lines(verb, time.monotonic, counts_tarballs=counts_tarballs)
        yield lines
        lines.finish()


class _Counts(SilentProgress):
    def __init__(self, verb: str, *, counts_tarballs: bool = True) -> None:
        self.verb = verb
        self._counts_tarballs = counts_tarballs
        self.total = 0
        self.packages = 0
        self.problems = 0
        self.tarballs = 0
        self.size = 0

    def started(self, packages: int) -> None:
        self.total = packages

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        self.packages += 1
        if problem is not None:
            self.problems += 1
            if self.problems <= PROBLEM_LINES:
                self.say(f"{name}: {problem}")
            elif self.problems == PROBLEM_LINES + 1:
                self.say("further problems are in the summary only")

    def tarball_stored(self, size: int) -> None:
        self.tarballs += 1
        self.size += size

    def bytes_checked(self, size: int) -> None:
        self.tarballs += 1
        self.size += size

    def say(self, text: str) -> None:
        click.echo(text, err=True)

    def detail(self) -> str:
        return f"{self.tarballs} tarballs, {format_bytes(self.size)}" if self._counts_tarballs else ""


class _Lines(_Counts):
    def __init__(self, verb: str, clock: Callable[[], float], *, counts_tarballs: bool = True) -> None:
        super().__init__(verb, counts_tarballs=counts_tarballs)
        self._clock = clock
        self._next = clock() + LINE_EVERY

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        super().package_finished(name, problem=problem)
        if self._clock() >= self._next:
            self._next = self._clock() + LINE_EVERY
            self.finish()

    def finish(self) -> None:
        of = f" of {self.total}" if self.total else ""
        detail = self.detail()
        self.say(f"{self.verb}: {self.packages}{of} packages" + (f", {detail}" if detail else ""))


class _Bars(_Counts):
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
        super().started(packages)
        self._bars.update(self._task, total=packages)

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        super().package_finished(name, problem=problem)
        self._bars.update(self._task, completed=self.packages, detail=self.detail())

    def tarball_stored(self, size: int) -> None:
        super().tarball_stored(size)
        self._bars.update(self._task, detail=self.detail())

    def bytes_checked(self, size: int) -> None:
        super().bytes_checked(size)
        self._bars.update(self._task, detail=self.detail())

    def say(self, text: str) -> None:
        self._bars.console.print(text, markup=False, highlight=False)
