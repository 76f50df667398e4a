"""What a run leaves in a package's record, and what it says of the package at its end.

This module does no I/O; `mirrorwitness.mirror.package` writes what it returns.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mirrorwitness.errors import SecurityError
from mirrorwitness.mirror.catalogue import PackageRecord
from mirrorwitness.mirror.result import PackageResult, Status

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from mirrorwitness.mirror.catalogue import HeldVersion
    from mirrorwitness.mirror.gate import Decision
    from mirrorwitness.mirror.tarballs import TarballsResult
    from mirrorwitness.npm.names import Version

__all__ = ["describe_package", "merge_held", "settle"]


def merge_held(
    before: Mapping[Version, HeldVersion], wrong: Collection[Version], sound: Mapping[Version, HeldVersion]
) -> dict[Version, HeldVersion]:
    """Return all that is remembered of tarballs: damaged ones keep their digest, so that P5 outlives a repair."""
    known = {
        version: msgspec.structs.replace(item, damaged=True) if version in wrong else item
        for version, item in before.items()
    }
    return {**known, **{version: _keep_leaf(item, before.get(version)) for version, item in sound.items()}}


def _keep_leaf(item: HeldVersion, old: HeldVersion | None) -> HeldVersion:
    """Return a tarball that is stored anew with the leaf of the same bytes: they were vouched for before."""
    if old is None or old.leaf is None or old.sri != item.sri or item.leaf is not None:
        return item
    return msgspec.structs.replace(item, leaf=old.leaf, tree=old.tree)


def describe_package(
    record: PackageRecord,
    decision: Decision,
    shown: Sequence[Version],
    known: Mapping[Version, HeldVersion],
    *,
    log: str = "",
) -> PackageRecord:
    """Return the record of what is stored now, not yet claiming that it is everything."""
    in_view = frozenset(shown)
    signatures = {item.version: str(item.signature) for item in decision.wanted}
    versions = {
        version: msgspec.structs.replace(
            item, served=version in in_view, signature=signatures.get(version, item.signature)
        )
        for version, item in known.items()
    }
    return PackageRecord(
        name=record.name,
        versions=versions,
        log=log,
        blocked={block.subject: f"{block.kind}: {block.reason}" for block in decision.blocks},
    )


def settle(
    result: PackageResult, decision: Decision, brought: TarballsResult, evidence: Sequence[str]
) -> PackageResult:
    """Say how a package ended, and add to its result what became of its tarballs."""
    result.blocks = decision.blocks
    result.withheld = brought.withheld
    result.downloaded, result.downloaded_bytes = brought.downloaded, brought.downloaded_bytes
    result.received, result.received_as = brought.received, brought.received_as
    result.alarms += brought.alarms
    result.evidence = (*evidence, *brought.evidence)
    is_security = any(isinstance(error, SecurityError) for error in brought.withheld.values())
    if result.evidence or is_security or any(block.kind.is_divergence for block in decision.blocks):
        result.status = Status.DIVERGED
    elif brought.withheld or result.owed or any(block.kind.is_unfinished for block in decision.blocks):
        result.status = Status.UNFINISHED
    return result
