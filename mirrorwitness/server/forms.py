"""From a stored packument to what a client gets: the forms of a document, and the files they name.

Rules (P2, P4):

- Both doors come from one function: `make_index` says which versions of a stored document can be installed and which
  file each one has. Documents are rendered with exactly those versions, and a tarball is answered only where the index
  names its file; so what is named can be fetched, and nothing else can.
- A version that the parser refused, or whose file name is not safe as a key, is left out at both doors.
- A view of a tree size is the same document with the versions of that size, and without the times of later ones.
- Rendering changes ``dist.tarball`` only (`mirrorwitness.npm.packument` keeps the rest as it was).

This module does no I/O.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mirrorwitness.mirror.layout import tarball_url
from mirrorwitness.npm.abbreviated import render_abbreviated, render_version
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.packument import render_full, repair_dist_tags
from mirrorwitness.npm.splice import keep_times

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.server.views import View

__all__ = ["Form", "Index", "find_file", "make_index", "render_form"]

_SAFE_FILE: Final = re.compile(r"(?!\.)[A-Za-z0-9._~!()*'@+=-]{1,255}", re.ASCII)
_ENTRY_OVERHEAD: Final = 300
"""Bytes that a version costs in an `Index` beside its text: two strings, a dictionary and a set entry (measured)."""


class Form(StrEnum):
    """The forms in which a package is described."""

    FULL = "full"
    ABBREVIATED = "abbreviated"
    VERSION = "version"
    DIST_TAGS = "dist-tags"


@dataclass(frozen=True, slots=True)
class Index:
    """Which versions of a package can be installed, and the files that hold them.

    Attributes:
        source: the storage's tag of the document this was made from.
        files: each version's file.
        tags: the dist-tags, repaired for these versions as in the rendered documents.
        names: the same files as a set.
    """

    source: str
    files: Mapping[Version, str]
    tags: Mapping[str, str]
    names: frozenset[str]

    @property
    def size(self) -> int:
        """About how many bytes of memory this takes."""
        return sum(len(version) + len(file) + _ENTRY_OVERHEAD for version, file in self.files.items()) + _ENTRY_OVERHEAD

    def resolve(self, wanted: str) -> Version | None:
        """Return the version that a version or dist-tag means, None where it means none."""
        version = Version(wanted if wanted in self.files else self.tags.get(wanted, ""))
        return version if version in self.files else None


def make_index(packument: Packument, *, source: str, view: View | None = None) -> Index:
    """Say which versions of a stored document can be installed, at some tree size where there is a view."""
    found = {
        version: find_file(manifest.tarball)
        for version, manifest in packument.versions.items()
        if manifest.refused is None and (view is None or version in view.versions)
    }
    files = {version: file for version, file in found.items() if file is not None}
    tags = repair_dist_tags(packument.dist_tags, files)
    return Index(source=source, files=files, tags=tags, names=frozenset(files.values()))


def render_form(
    packument: Packument, index: Index, *, form: Form, base: str, wanted: str = "", view: View | None = None
) -> bytes | None:
    """Render one form of a package for clients that know us as `base`.

    Args:
        packument: the stored document.
        index: what `make_index` made of it.
        form: which form.
        base: the base URL, no trailing slash.
        wanted: the version or tag, for `Form.VERSION`.
        view: the package at the tree size that the index is of; None for now.

    Returns:
        The JSON, or None where there is no such version, or at that size no package.
    """

    def make_url(version: Version) -> str:
        return tarball_url(base, name, index.files[version])

    name: PackageName = packument.name
    if view is not None and not index.files:
        return None
    match form:
        case Form.FULL:
            full = render_full(packument, versions=index.files.keys(), tarball_url=make_url)
            return full if view is None else keep_times(full, versions=view.known)
        case Form.ABBREVIATED:
            return render_abbreviated(packument, versions=index.files.keys(), tarball_url=make_url)
        case Form.VERSION:
            version = index.resolve(wanted)
            return None if version is None else render_version(packument, version, tarball_url=make_url)
        case _:
            return json.dumps(dict(index.tags)).encode()


def find_file(url: str) -> str | None:
    """Return the file name that a stored ``dist.tarball`` ends in, None where it cannot be one of a mirror's files."""
    try:
        file = unquote(urlsplit(url).path.rpartition("/")[2])
    except ValueError:
        return None
    return file if _SAFE_FILE.fullmatch(file) else None
