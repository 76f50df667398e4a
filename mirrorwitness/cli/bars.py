"""Progress of long commands on standard error: bars on a terminal, plain lines elsewhere.

Plain lines come at most every `LINE_EVERY` seconds, and one for each problem, so that a job's log stays short and says
what went wrong. Nothing here decides anything.
"""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.output import format_bytes
from mirrorwitness.mirror.progress import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from mirrorwitness.mirror.progress import Progress as ProgressSink
    from mirrorwitness.npm.names import PackageName

__all__ = ["LINE_EVERY", "Counts", "Pace", "show_progress"]

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
        from mirrorwitness.cli.richbars import Bars  # noqa: PLC0415 - slow to import, and jobs have no terminal

        with Bars(verb, counts_tarballs=counts_tarballs) as bars:
            yield bars
    else:
        lines = _Lines(verb, counts_tarballs=counts_tarballs)
        yield lines
        lines.finish()


class Counts(SilentProgress):
    """Counts what is done, and tells problems as they come."""

    def __init__(self, verb: str, *, counts_tarballs: bool = True) -> None:
        self.verb = verb
        self._counts_tarballs = counts_tarballs
        self.total = 0
        self.packages = 0
        self.problems = 0
        self.tarballs = 0
        self.size = 0

    def started(self, packages: int) -> None:
        """Take how many there are."""
        self.total = packages

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        """Count one, and tell what is wrong with it."""
        self.packages += 1
        if problem is not None:
            self.problems += 1
            if self.problems <= PROBLEM_LINES:
                self.say(f"{name}: {problem}")
            elif self.problems == PROBLEM_LINES + 1:
                self.say("further problems are in the summary only")

    def tarball_stored(self, size: int) -> None:
        """Count a tarball."""
        self.tarballs += 1
        self.size += size

    def bytes_checked(self, size: int) -> None:
        """Count a tarball that was read."""
        self.tarballs += 1
        self.size += size

    def say(self, text: str) -> None:
        """Tell a person something."""
        click.echo(text, err=True)

    def detail(self) -> str:
        """Return what stands beside the count of packages."""
        return f"{self.tarballs} tarballs, {format_bytes(self.size)}" if self._counts_tarballs else ""


class Pace:
    """When another plain line is due: every `LINE_EVERY` seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + LINE_EVERY

    def is_due(self) -> bool:
        """Say whether a line is due; the next one then is so much later."""
        if self._clock() < self._next:
            return False
        self._next = self._clock() + LINE_EVERY
        return True


class _Lines(Counts):
    def __init__(self, verb: str, *, counts_tarballs: bool = True) -> None:
        super().__init__(verb, counts_tarballs=counts_tarballs)
        self._pace = Pace()

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        super().package_finished(name, problem=problem)
        if self._pace.is_due():
            self.finish()

    def finish(self) -> None:
        of = f" of {self.total}" if self.total else ""
        detail = self.detail()
        self.say(f"{self.verb}: {self.packages}{of} packages" + (f", {detail}" if detail else ""))
