"""What is done with each package that a feed or a list names: the one thing in which followers differ.

A mirror brings tarballs and documents into a storage (`mirrorwitness.mirror.package`), a checksum database logs what it
saw (`mirrorwitness.run.logging_work`). Following, sweeping, counting, noting and repeating are the same for both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.result import PackageResult
    from mirrorwitness.npm.names import PackageName

__all__ = ["PackageWork"]


class PackageWork(Protocol):
    """Brings single packages up to date.

    Every implementation is idempotent, may be killed anywhere and begun anew, and works on several packages at once;
    of one package the caller has one in work at a time.
    """

    async def run(self, name: PackageName) -> PackageResult:
        """Bring a package up to date.

        Raises:
            UpstreamNotFoundError: the registry does not have it; whether that is a deletion is the caller's to judge.
            MirrorWitnessError: nothing is said of it; it is as it was, or further.
        """
        ...

    async def withdraw(self, record: PackageRecord) -> PackageResult:
        """Handle a deletion that was confirmed.

        Args:
            record: what is known of the package.

        Raises:
            MirrorWitnessError: the next attempt goes on.
        """
        ...

    def fingerprint(self, name: PackageName) -> str:
        """Return what changes when the work on a package has to be done anew although nothing changed upstream."""
        ...
