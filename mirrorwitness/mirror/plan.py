"""What a sync would do, before it does it: packages, versions, files, bytes, and what is blocked and why.

Rules:

- The plan prints the decision that `sync` takes, made by the same function (`mirrorwitness.mirror.gate.decide`).
- Bytes are exact where they are known (the tarball is stored, or upstream was asked for its size) and estimated
  otherwise, and the two are never added up without saying so. npm's documents hold the *unpacked* size only.

This module is pure; `mirrorwitness.mirror.planner` asks upstream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.names import Version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.mirror.gate import Block, Decision, Wanted
    from mirrorwitness.npm.names import PackageName

__all__ = ["PackagePlan", "Plan", "Size", "estimate_size", "make_package_plan"]

PACKED_PER_UNPACKED: Final = 0.27
"""Tarball bytes per unpacked byte, for estimates: the median over the 44 packages of examples/app."""

BYTES_WITHOUT_HINT: Final = 14_000
"""Estimate where upstream gives no unpacked size (before 2018): the median of real tarballs (research/F 0)."""


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes, and what it rests on.

    Attributes:
        size: bytes.
        is_exact: known, not guessed.
        is_blind: guessed without any hint from upstream.
    """

    size: int
    is_exact: bool
    is_blind: bool = False


@dataclass(frozen=True, slots=True)
class PackagePlan:
    """What a sync would do about one package.

    Attributes:
        name: the package.
        versions: versions it would serve.
        held: how many of them are stored already.
        held_bytes: their bytes, exact.
        fetch: sizes of the tarballs it would download, by version.
        blocks: what it would not serve, and why.
        problem: why nothing could be planned, where that is so.
    """

    name: PackageName
    versions: tuple[Version, ...] = ()
    held: int = 0
    held_bytes: int = 0
    fetch: Mapping[Version, Size] = field(default_factory=dict[Version, Size])
    blocks: tuple[Block, ...] = ()
    problem: str | None = None


@dataclass(slots=True)
class Plan:
    """The whole plan: one entry per package, and sums."""

    packages: list[PackagePlan] = field(default_factory=list)

    def totals(self) -> dict[str, int]:
        """Return packages, versions, files and bytes; exact and estimated bytes apart."""
        sizes = [size for package in self.packages for size in package.fetch.values()]
        return {
            "packages": sum(1 for package in self.packages if package.versions),
            "versions": sum(len(package.versions) for package in self.packages),
            "files_held": sum(package.held for package in self.packages),
            "bytes_held": sum(package.held_bytes for package in self.packages),
            "files_to_fetch": len(sizes),
            "bytes_to_fetch_exact": sum(size.size for size in sizes if size.is_exact),
            "bytes_to_fetch_estimated": sum(size.size for size in sizes if not size.is_exact),
            "files_estimated": sum(1 for size in sizes if not size.is_exact),
            "files_without_size": sum(1 for size in sizes if size.is_blind),
            "blocked": sum(len(package.blocks) for package in self.packages),
            "problems": sum(1 for package in self.packages if package.problem is not None),
        }

    @property
    def has_divergence(self) -> bool:
        """Whether something disagrees: a sync would exit with 4."""
        return any(block.kind.is_divergence for package in self.packages for block in package.blocks)

    @property
    def has_gap(self) -> bool:
        """Whether something that was asked for by name is not to be had: a sync would exit with 3."""
        return any(
            package.problem is not None or any(block.kind.is_unfinished for block in package.blocks)
            for package in self.packages
        )


def estimate_size(item: Wanted) -> Size:
    """Guess a tarball's size from upstream's unpacked size."""
    if item.size_hint is None:
        return Size(BYTES_WITHOUT_HINT, is_exact=False, is_blind=True)
    return Size(max(1, round(item.size_hint * PACKED_PER_UNPACKED)), is_exact=False)


def make_package_plan(
    name: PackageName,
    decision: Decision,
    *,
    exact: Mapping[Version, int] | None = None,
    withdrawn: Mapping[Version, int] | None = None,
) -> PackagePlan:
    """Put a decision into numbers.

    Args:
        name: the package.
        decision: what a sync would do.
        exact: sizes that upstream was asked for, by version.
        withdrawn: sizes of what is served although upstream does not list it, by version.
    """
    exact = exact or {}
    withdrawn = withdrawn or {}
    held = [item.held for item in decision.wanted if item.held is not None]
    fetch = {
        item.version: Size(exact[item.version], is_exact=True) if item.version in exact else estimate_size(item)
        for item in decision.missing
    }
    return PackagePlan(
        name=name,
        versions=(*(item.version for item in decision.wanted), *decision.kept, *withdrawn),
        held=len(held) + len(decision.kept) + len(withdrawn),
        held_bytes=sum(item.size for item in held) + sum(withdrawn.values()),
        fetch=fetch,
        blocks=decision.blocks,
    )
