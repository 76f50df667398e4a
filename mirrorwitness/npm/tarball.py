"""The package.json inside a tarball, as npm finds it there, without unpacking anything to a disk.

npm takes the first component of every name away (whatever it is called) and writes files in the order of the archive,
so of several files of one name the last one stays. Links are never written. So:

- The first component counts for nothing; empty and ``.`` components neither; a name with ``..`` behind the first is no
  file. Of what is then called ``package.json`` the last one is it. `TarballManifest.count` says how many there were,
  also in other capitals or with backslashes, which some file systems take for the same: more than one is an attack.
- A directory of that name is refused, and what `mirrorwitness.npm.archive` refuses. There is one error,
  `UpstreamProtocolError`, whatever the bytes are.

What it does not do: verify the bytes (`mirrorwitness.npm.spool`), or judge what the file says
(`mirrorwitness.npm.confusion`). It blocks: call it in a thread.

SPEC: npm's ``pacote`` and ``tar`` with ``strip: 1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.npm.archive import Archive, refuse

if TYPE_CHECKING:
    from mirrorwitness.storage import Body

__all__ = ["TarballManifest", "read_tarball"]

MAX_MANIFEST_BYTES: Final = 16 * 1024 * 1024
"""Largest package.json; real ones with a bundled readme have some hundred kilobytes."""

_NAME: Final = b"package.json"


@dataclass(frozen=True, slots=True)
class TarballManifest:
    """What a tarball has for a package.json.

    Attributes:
        text: the file's bytes; None where there is none.
        count: how many files could be it; more than one is an attack on those who read another one.
        members: how many members the archive has.
        has_gyp: there is a ``*.gyp`` file beside it, which npm builds where there is no install script.
    """

    text: bytes | None
    count: int
    members: int
    has_gyp: bool = False


def read_tarball(body: Body) -> TarballManifest:
    """Find package.json in a tarball.

    Args:
        body: the tarball, or the path of one.

    Raises:
        UpstreamProtocolError: it is no archive that every reader reads in the same way, or it is beyond a limit.
    """
    archive = Archive(body)
    text, count, has_gyp = None, 0, False
    for header in archive.headers():
        if not header.is_file and not header.is_directory:
            continue
        parts = _parts_of(header.name)
        if parts[:1] == [_NAME] and (header.is_directory or len(parts) > 1):
            raise refuse("package.json is a directory in it")
        if header.is_directory:
            continue
        file = parts[0] if len(parts) == 1 else b""
        has_gyp = has_gyp or file.endswith(b".gyp")
        count += _could_be_manifest(header.name.lower())
        if file == _NAME:
            if header.size > MAX_MANIFEST_BYTES:
                raise refuse(f"package.json has {header.size} bytes, more than {MAX_MANIFEST_BYTES}")
            text = archive.take_content(header)
    return TarballManifest(text, count, archive.members, has_gyp)


def _parts_of(name: bytes) -> list[bytes]:
    """Return a name's components without the first; none for one that leads out of the package."""
    parts = [part for part in name.split(b"/")[1:] if part not in {b"", b"."}]
    return [] if b".." in parts else parts


def _could_be_manifest(name: bytes) -> bool:
    """Say whether a name, in small letters, is that of package.json on some file system."""
    return _parts_of(name) == [_NAME] or (b"\\" in name and _parts_of(name.replace(b"\\", b"/")) == [_NAME])
