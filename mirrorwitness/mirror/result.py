"""What became of one package."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from mirrorwitness.errors import MirrorWitnessError
from mirrorwitness.npm.names import Version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.gate import Block
    from mirrorwitness.npm.names import PackageName

__all__ = ["PackageResult", "Status"]


class Status(StrEnum):
    """How a package ended."""

    UNCHANGED = "unchanged"
    UPDATED = "updated"
    UNFINISHED = "unfinished"
    DIVERGED = "diverged"


@dataclass(slots=True)
class PackageResult:
    """What became of one package.

    Attributes:
        name: the package.
        status: how it ended.
        record: what is known of it now.
        before: what was known before, where it was changed.
        blocks: versions that are not served by decision.
        withheld: versions whose bytes could not be had, with the reason.
        error: what kept the whole package from being brought up to date.
        downloaded: tarballs downloaded.
        downloaded_bytes: their size.
        received: bytes that each source sent, by its base URL.
        received_as: bytes by the source's role.
        evidence: keys of evidence written.
        owed: what beside tarballs could not be copied now, as sentences; the versions concerned are served.
        unvouched: how many versions are served although the log was asked and does not vouch for them.
        confused: how many tarballs came whose package.json is another than their document.
        alarms: sentences that an operator should read although nothing failed.
    """

    name: PackageName
    status: Status = Status.UPDATED
    record: PackageRecord | None = None
    before: PackageRecord | None = None
    blocks: Sequence[Block] = ()
    withheld: Mapping[Version, MirrorWitnessError] = field(default_factory=dict[Version, MirrorWitnessError])
    error: MirrorWitnessError | None = None
    downloaded: int = 0
    downloaded_bytes: int = 0
    received: Mapping[str, int] = field(default_factory=dict[str, int])
    received_as: Mapping[str, int] = field(default_factory=dict[str, int])
    evidence: Sequence[str] = ()
    unvouched: int = 0
    confused: int = 0
    owed: list[str] = field(default_factory=list[str])
    alarms: list[str] = field(default_factory=list)

    def problem(self) -> str | None:
        """Return one sentence for a person where the package is not complete or something disagreed."""
        if self.error is not None:
            return str(self.error)
        if self.withheld:
            version, error = next(iter(self.withheld.items()))
            return f"{len(self.withheld)} withheld, {self.name}@{version}: {error}"
        for block in self.blocks:
            if block.kind.is_divergence or block.kind.is_unfinished:
                return f"{self.name}@{block.subject}: {block.reason}"
        if self.evidence:
            return f"{self.name}: a source disagreed, the evidence is {self.evidence[0]}"
        return self.owed[0] if self.owed else None
