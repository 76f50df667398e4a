"""How keys become file names: as they are, or escaped for disks that fold letters. Pure.

Some disks take ``Buffer`` and ``buffer`` for one file (macOS, SMB shares, FAT), some take composed and decomposed
accents for one, some refuse ``:`` or ``?``. npm has packages that differ only so. On such a disk every byte outside a
small safe set is written ``%xx``, in lower-case hexadecimal.

Rules:

- A tree has one format for its whole life. It stands in the marker file `MARKER_NAME` at the root, so that a tree that
  moves from one disk to another is understood or refused, and never misread.
- Escaping is a bijection between keys and the names it makes: `decode_component` refuses every other name.

Known hole: an escaped component is up to three times as long. Where it passes the disk's limit for names (usually 255
bytes), the put is refused with `StorageRefusedError`; that needs a name with more than about 80 upper-case letters.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Final

from mirrorwitness.errors import ConfigurationError

__all__ = ["MARKER_NAME", "Names", "decode_component", "encode_component", "format_marker", "parse_marker"]

MARKER_NAME: Final = ".mirrorwitness"
"""The file at the root of a directory storage that says which format its names have."""

_FORMAT: Final = 1
"""The layout of a directory storage: escaping, `.tmp`, `.lock`. Raised by one when an older program must keep out."""

_UNSAFE: Final = re.compile(rb"[^a-z0-9@+~!()_.-]|\.\Z")
"""What is escaped: folded letters, bytes that some disk refuses, and a final dot, which SMB drops."""

_ESCAPE: Final = re.compile(rb"%([0-9a-f]{2})")


class Names(StrEnum):
    """How the components of keys are written as file names."""

    PLAIN = "plain"
    """As they are; the disk must tell all of them apart."""
    ESCAPED = "escaped"
    """With ``%xx`` for everything that a disk may fold or refuse."""


def encode_component(component: str, names: Names) -> str:
    """Return the file name of one component of a key."""
    if names is Names.PLAIN:
        return component
    return _UNSAFE.sub(lambda found: b"%%%02x" % found.group()[0], component.encode()).decode()


def decode_component(name: str, names: Names) -> str | None:
    """Return the component that a file name stands for, or None where it is not one that we wrote."""
    if names is Names.PLAIN:
        return name
    try:
        component = _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), name.encode()).decode()
    except UnicodeError:
        return None
    return component if encode_component(component, names) == name else None


def format_marker(names: Names) -> bytes:
    """Return the marker of a tree whose names are written so."""
    return json.dumps({"storage": "mirrorwitness", "format": _FORMAT, "names": names}).encode() + b"\n"


def parse_marker(body: bytes, *, path: str) -> Names:
    """Return the format that a marker names.

    Raises:
        ConfigurationError: it is not a marker, or one of a format that this program does not know.
    """
    try:
        found: object = json.loads(body)
    except ValueError:
        found = None
    for names in Names:
        if found == {"storage": "mirrorwitness", "format": _FORMAT, "names": names}:
            return names
    raise ConfigurationError(
        f"{path} is not the marker of a mirrorwitness storage of format {_FORMAT}: found {body[:100]!r}; "
        "use the program that wrote it, or another directory"
    )
