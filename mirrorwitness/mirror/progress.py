"""What a long run tells whoever watches it: a small protocol that the command line implements as bars or lines.

Methods are called from inside the run, must not block and must not raise. What they show is never decided on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName

__all__ = ["Progress", "SilentProgress"]


class Progress(Protocol):
    """Told of everything that finishes."""

    def started(self, packages: int) -> None:
        """The run works on this many packages."""
        ...

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        """A package is done; `problem` is one sentence where it is not complete."""
        ...

    def tarball_stored(self, size: int) -> None:
        """A tarball of `size` bytes was downloaded, verified and stored."""
        ...

    def bytes_checked(self, size: int) -> None:
        """An audit re-read `size` bytes."""
        ...


class SilentProgress:
    """Tells nobody."""

    def started(self, packages: int) -> None:
        """Ignore it."""

    def package_finished(self, name: PackageName, *, problem: str | None) -> None:
        """Ignore it."""

    def tarball_stored(self, size: int) -> None:
        """Ignore it."""

    def bytes_checked(self, size: int) -> None:
        """Ignore it."""
