"""News: what a registry's document lists that the log does not say yet. Pure.

A version is no news where its newest record is of the same integrity and says that it is published, or where it is in
conflict, which nothing ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.sumdb.index import content_of
from mirrorwitness.sumdb.records import Event, normalize_integrity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mirrorwitness.npm.names import Version
    from mirrorwitness.npm.packument import Manifest
    from mirrorwitness.sumdb.index import IndexLine, PackageIndex

__all__ = ["find_news", "latest_of"]


def latest_of(index: PackageIndex, registry: str) -> dict[Version, IndexLine]:
    """Return the newest record of each version that a registry published."""
    return {line.version: line for line in index.lines if line.registry == registry}


def find_news(manifests: Iterable[Manifest], latest: Mapping[Version, IndexLine]) -> tuple[Version, ...]:
    """Return the versions of a document that have to be looked at, in its order."""
    return tuple([found.version for found in manifests if not _is_known(found, latest.get(found.version))])


def _is_known(manifest: Manifest, line: IndexLine | None) -> bool:
    if line is None or line.event is Event.CONFLICT:
        return line is not None
    return line.event is Event.PUBLISH and line.content == content_of(normalize_integrity(manifest.integrity or ""))
