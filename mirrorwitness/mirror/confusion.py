"""What a mirror makes of a tarball whose package.json is another than the registry's document (manifest confusion).

Rules:

- Four things are told apart from sameness: fields that differ (`mirrorwitness.npm.confusion`), an archive that readers
  do not agree on or that has no package.json, several files that could be it, and hashes that are not the log's.
- Fields are remembered with the stored tarball (`HeldVersion.confused`), so that a changed policy needs no download.
- It is no divergence: nobody's bytes are wrong. It says that a person was shown other dependencies or scripts than
  those that would run.

What this does not do: read tarballs (`mirrorwitness.mirror.examiner`). This module is pure.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mirrorwitness.npm.canonical import hash_manifest
from mirrorwitness.npm.confusion import Difference, compare_manifests

if TYPE_CHECKING:
    from mirrorwitness.npm.tarball import TarballManifest
    from mirrorwitness.sumdb.records import Record

__all__ = ["ConfusionPolicy", "find_confusion", "make_unreadable", "sum_up"]


class ConfusionPolicy(StrEnum):
    """What becomes of a version whose tarball says something else than its document."""

    REPORT = "report"
    """Served; told, and evidence is kept."""
    REFUSE = "refuse"
    """Not served; told, and evidence is kept."""
    OFF = "off"
    """Nobody looks."""


@dataclass(frozen=True, slots=True)
class _Hashes:
    """What the log says of document and package.json, against what is here."""

    field: str
    logged: bytes | None
    found: bytes | None

    def differ(self) -> Difference | None:
        if self.logged is None or self.found is None or self.logged == self.found:
            return None
        return Difference(self.field, f"sha256 {self.found.hex()}", f"sha256 {self.logged.hex()} (in the log)")


def find_confusion(manifest: bytes, read: TarballManifest, record: Record | None) -> tuple[Difference, ...]:
    """Compare what the registry says of a version with what its tarball and the log say.

    Args:
        manifest: the version's object in the registry's document.
        read: what the tarball has for a package.json.
        record: the log's record of the version, where it vouched for it now.

    Returns:
        The differences; none where all agree.
    """
    if read.text is None:
        return (make_unreadable("there is no package.json in it"),)
    found = list(compare_manifests(manifest, read.text, has_gyp=read.has_gyp))
    if read.count > 1:
        found.append(
            make_unreadable(f"{read.count} files in it could be its package.json; the last one counts for npm")
        )
    if record is not None:
        hashes = (
            _Hashes("manifest", record.manifest, hash_manifest(manifest)),
            _Hashes("package.json", record.tarball_manifest, hashlib.sha256(read.text).digest()),
        )
        found += [difference for pair in hashes if (difference := pair.differ()) is not None]
    return tuple(found)


def make_unreadable(reason: str) -> Difference:
    """Return the difference of a tarball in which not everybody finds the same package.json."""
    return Difference("archive", "a package.json", reason)


def sum_up(differences: tuple[Difference, ...]) -> tuple[str, ...]:
    """Return the fields that differ, each once, in order."""
    return tuple(dict.fromkeys(difference.field for difference in differences))
