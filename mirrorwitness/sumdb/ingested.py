"""Ingested: what became of one package that was brought into the log."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.errors import MirrorWitnessError
from mirrorwitness.npm.names import Version
from mirrorwitness.sumdb.claims import Refused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.npm.names import PackageName

__all__ = ["Ingested", "Seen"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a registry showed of a package.

    Attributes:
        etag: of its document, None where there is none.
        last_modified: the same.
        rev: the document's revision.
        digest: hex SHA-256 of the document.
    """

    etag: str | None = None
    last_modified: str | None = None
    rev: str | None = None
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of one package.

    Attributes:
        name: the package.
        seen: what the registry showed.
        is_unchanged: nothing changed since it was seen before; nothing else was looked at.
        logged: versions that are logged as published now and were not before.
        known: versions that the log had.
        events: versions that are logged as withdrawn now.
        conflicts: versions that are in conflict now and were not before, and why.
        refused: versions that are not logged, and why.
        withheld: versions that could not be had or checked, and have to be tried again.
        listed: all versions that the registry lists, where a single one was asked for.
        waiting: logged versions that the registry does not list, which has to be confirmed.
        downloaded: tarballs that were read.
        downloaded_bytes: their size.
    """

    name: PackageName
    seen: Seen = field(default_factory=Seen)
    is_unchanged: bool = False
    logged: tuple[Version, ...] = ()
    known: int = 0
    events: tuple[Version, ...] = ()
    conflicts: Mapping[Version, str] = field(default_factory=dict[Version, str])
    refused: Mapping[Version, Refused] = field(default_factory=dict[Version, Refused])
    withheld: Mapping[Version, MirrorWitnessError] = field(default_factory=dict[Version, MirrorWitnessError])
    listed: frozenset[Version] = frozenset()
    waiting: tuple[Version, ...] = ()
    downloaded: int = 0
    downloaded_bytes: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether there is nothing to try again until the registry shows something else."""
        return not self.withheld and not self.waiting and not self.conflicts
