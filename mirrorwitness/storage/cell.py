"""A cell: a small file with room for two versions of an object, of which the newer one counts. Pure.

Replacing a file durably takes two waits for the disk, as its bytes and its name both change. A new version that is
written over the older one of two takes one, and a short one: nothing but bytes changes, at places that the file has.

    slot: magic (8), digest of the rest (16), serial (8), writer (8), length of the body (4), body, leftovers
    file: two slots of one size, a multiple of `SLOT_BYTES`

Rules:

- A version counts where its digest fits. A write that was cut anywhere leaves one that does not, and the version before
  it, which nobody touched, counts on.
- The serial says which of two is newer. It grows by one from version to version.
- The writer says who knows that a version is on the disk: the session that wrote it. Whoever else goes on from it waits
  for the disk before the version below it is overwritten: else both could be lost together.
- A file with no version that counts is not a cell: damage is for the reader of the object to find.

What it does not do: reading and writing files (`mirrorwitness.storage.local_cells`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

__all__ = [
    "FIRST_SERIAL",
    "SLOT_BYTES",
    "WRITER_BYTES",
    "Cell",
    "Version",
    "format_cell",
    "format_version",
    "parse_cell",
]

SLOT_BYTES: Final = 4096
"""A slot is a multiple of a page, so that two never share one: a page may be cut while it is written."""

WRITER_BYTES: Final = 8

FIRST_SERIAL: Final = 1

_MAGIC: Final = b"\x89mwcell\n"
_DIGEST_BYTES: Final = 16
_HEAD: Final = Struct(">QQI")
_HEAD_BYTES: Final = len(_MAGIC) + _DIGEST_BYTES + _HEAD.size
_ROOM: Final = 1.25
"""How much longer a later version may be before the file has to be made anew."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object.

    Attributes:
        serial: grows by one from version to version, from 1 on; less than 2**64.
        writer: `WRITER_BYTES` bytes that name the session that wrote it.
        body: the object.
    """

    serial: int
    writer: bytes
    body: bytes


@dataclass(frozen=True, slots=True)
class Cell:
    """A file as it was read.

    Attributes:
        newest: the version that counts.
        spare: the offset in bytes of the slot that the next version goes to.
        slot_bytes: the size of a slot.
    """

    newest: Version
    spare: int
    slot_bytes: int

    def fits(self, body: bytes) -> bool:
        """Tell whether there is room for a version."""
        return _HEAD_BYTES + len(body) <= self.slot_bytes


def format_cell(version: Version) -> bytes:
    """Return a new file with one version and some room."""
    slot_bytes = -(-int(_HEAD_BYTES + len(version.body) * _ROOM) // SLOT_BYTES) * SLOT_BYTES
    return format_version(version).ljust(2 * slot_bytes, b"\0")


def format_version(version: Version) -> bytes:
    """Return what is written at the beginning of a slot."""
    head = _HEAD.pack(version.serial, int.from_bytes(version.writer), len(version.body))
    return b"".join((_MAGIC, _digest(head + version.body), head, version.body))


def parse_cell(data: bytes) -> Cell | None:
    """Return what a file holds, or None where it holds no version that counts."""
    slot_bytes, odd = divmod(len(data), 2)
    if odd or slot_bytes % SLOT_BYTES:
        return None
    one, two = _parse_version(data[:slot_bytes]), _parse_version(data[slot_bytes:])
    if two is None or (one is not None and one.serial > two.serial):
        return None if one is None else Cell(one, slot_bytes, slot_bytes)
    return Cell(two, 0, slot_bytes)


def _parse_version(slot: bytes) -> Version | None:
    if not slot.startswith(_MAGIC):
        return None
    digest = slot[len(_MAGIC) : len(_MAGIC) + _DIGEST_BYTES]
    head = slot[len(_MAGIC) + _DIGEST_BYTES : _HEAD_BYTES]
    serial, writer, length = _HEAD.unpack(head)
    body = slot[_HEAD_BYTES : _HEAD_BYTES + length]
    if len(body) != length or _digest(head + body) != digest:
        return None
    return Version(serial, writer.to_bytes(WRITER_BYTES), body)


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_DIGEST_BYTES).digest()
