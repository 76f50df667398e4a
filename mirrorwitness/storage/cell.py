"""A cell: a small file with room for two versions of an object, of which the newer one counts. Pure.

Replacing a file durably takes two waits for the disk, as its bytes and its name both change. A new version that is
written over the older one of two takes one, and a short one: nothing but bytes changes, at places that the file has.

    slot: magic (8), digest of the rest (16), serial (8), length of the body (4), body, leftovers
    file: two slots of one size, a multiple of `SLOT_BYTES`

Rules:

- A version counts where its digest fits. A write that was cut anywhere leaves one that does not, and the version before
  it, which nobody touched, counts on.
- The serial says which of two is newer. It grows by one from version to version.
- A file with no version that counts is not a cell: damage is for the reader of the object to find.

What it does not do: reading and writing files, or knowing what the disk has (`mirrorwitness.storage.local_cells`).
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

__all__ = ["SLOT_BYTES", "Cell", "Version", "format_cell", "format_version", "parse_cell"]

SLOT_BYTES: Final = 4096
"""A slot is a multiple of a page, so that two never share one: a page may be cut while it is written."""


_MAGIC: Final = b"\x89mwcell\n"
_DIGEST_BYTES: Final = 16
_HEAD: Final = Struct(">QI")
_HEAD_BYTES: Final = len(_MAGIC) + _DIGEST_BYTES + _HEAD.size
_ROOM: Final = 1.25
"""How much longer a later version may be before the file has to be made anew."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object.

    Attributes:
        serial: grows by one from version to version; less than 2**64.
        body: the object.
    """

    serial: int
    body: bytes

    @property
    def tag(self) -> str:
        """What tells it from all other versions, of other cells too: its serial, and half of its digest."""
        return f"{self.serial:x}-{_digest(self)[: _DIGEST_BYTES // 2].hex()}"


@dataclass(frozen=True, slots=True)
class Cell:
    """A file as it was read.

    Attributes:
        newest: the version that counts.
        at: the offset in bytes of its slot.
        slot_bytes: the size of a slot.
        has_both: whether the other slot holds the version before it.
    """

    newest: Version
    at: int
    slot_bytes: int
    has_both: bool

    @property
    def spare(self) -> int:
        """The offset in bytes of the slot that the next version goes to."""
        return self.slot_bytes - self.at

    def fits(self, body: bytes) -> bool:
        """Tell whether there is room for a version."""
        return _HEAD_BYTES + len(body) <= self.slot_bytes


def format_cell(version: Version) -> bytes:
    """Return a new file with one version and some room."""
    slot_bytes = -(-int(_HEAD_BYTES + len(version.body) * _ROOM) // SLOT_BYTES) * SLOT_BYTES
    return format_version(version).ljust(2 * slot_bytes, b"\0")


def format_version(version: Version) -> bytes:
    """Return what is written at the beginning of a slot."""
    return b"".join((_MAGIC, _digest(version), _HEAD.pack(version.serial, len(version.body)), version.body))


def parse_cell(data: bytes) -> Cell | None:
    """Return what a file holds, or None where it holds no version that counts."""
    slot_bytes, odd = divmod(len(data), 2)
    if odd or slot_bytes % SLOT_BYTES:
        return None
    one, two = _parse_version(data[:slot_bytes]), _parse_version(data[slot_bytes:])
    has_both = one is not None and two is not None and abs(one.serial - two.serial) == 1
    if two is None or (one is not None and one.serial > two.serial):
        return None if one is None else Cell(one, 0, slot_bytes, has_both)
    return Cell(two, slot_bytes, slot_bytes, has_both)


def _parse_version(slot: bytes) -> Version | None:
    if not slot.startswith(_MAGIC):
        return None
    serial, length = _HEAD.unpack_from(slot, _HEAD_BYTES - _HEAD.size)
    body = slot[_HEAD_BYTES : _HEAD_BYTES + length]
    version = Version(serial, body)
    if len(body) != length or not slot.startswith(_digest(version), len(_MAGIC)):
        return None
    return version


def _digest(version: Version) -> bytes:
    head = _HEAD.pack(version.serial, len(version.body))
    return blake2b(head + version.body, digest_size=_DIGEST_BYTES).digest()
