"""Cosignatures: what a cosigner says of a tree, and when.

    signature line = key ID, then u64 timestamp (big-endian, seconds since 1970), then the signature

Rules:

- **Ed25519** (0x04) signs ``cosignature/v1``, ``time <timestamp>`` and the checkpoint's text, extension lines included,
  each on a line. It means: at that time this was the largest tree of that origin that the cosigner had seen.
- **ML-DSA-44** (0x06) signs the cosigner's name, the timestamp, the origin and a tree or subtree, not the extension
  lines. A timestamp of 0 says nothing about the largest; it is the only one for a subtree that does not begin at 0.
- A timestamp is at most 2^63-1. Timestamps in the future are the caller's to judge.

What it does not do: decide what may be signed (`mirrorwitness.witness`).

SPEC: C2SP tlog-cosignature v1.1.0-rc.1.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.merkle import MAX_SIZE
from mirrorwitness.tlog.note import Signature, check_lines

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash

__all__ = [
    "COSIGNER_KEYS",
    "MAX_NAME_BYTES",
    "Cosignature",
    "Statement",
    "check_cosignatures",
    "cosigned_message",
    "fits_cosignature",
    "make_line",
]

COSIGNER_KEYS: Final = (KeyType.COSIGNATURE, KeyType.ML_DSA_44)
"""Types of keys that a cosigner can have."""

MAX_NAME_BYTES: Final = 255
"""Longest origin and cosigner's name in bytes that an ML-DSA-44 message can hold."""

MAX_TIMESTAMP: Final = 2**63 - 1

_TIMESTAMP: Final = struct.Struct(">Q")
_RANGE: Final = struct.Struct(">QQ")
_LABEL: Final = b"subtree/v1\n\0"


@dataclass(frozen=True, slots=True)
class Statement:
    """What is cosigned.

    Attributes:
        origin: which log.
        start: first entry of the tree; 0 for a checkpoint.
        end: one past the last; the size of a checkpoint.
        root: the tree's hash.
        text: the text of the checkpoint; empty for a subtree.
    """

    origin: str
    start: int
    end: int
    root: Hash
    text: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that verified.

    Attributes:
        key: whose it is.
        timestamp: seconds since 1970; 0 where it says nothing about the largest tree.
        line: the signature line.
    """

    key: VerifierKey
    timestamp: int
    line: Signature


def cosigned_message(key: VerifierKey, timestamp: int, statement: Statement) -> bytes:
    """Return the bytes that a cosigner signs.

    Raises:
        ConfigurationError: this key, time and statement make no cosignature.
    """
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        raise ConfigurationError(f"timestamp {timestamp}: expected 0 to 2^63-1")
    if key.kind is KeyType.COSIGNATURE:
        if not statement.text or statement.start:
            raise ConfigurationError(f"the key {key.name} (Ed25519) cosigns checkpoints only, not subtrees")
        return b"cosignature/v1\ntime %d\n%b" % (timestamp, statement.text)
    if key.kind is not KeyType.ML_DSA_44:
        raise ConfigurationError(f"the key {key.name} is of type {key.kind.title}, and cosigns nothing")
    if not 0 <= statement.start <= statement.end <= MAX_SIZE:
        raise ConfigurationError(f"[{statement.start}, {statement.end}) is not a tree or subtree")
    if statement.start and timestamp:
        raise ConfigurationError("a subtree that does not begin at 0 is cosigned without a timestamp")
    tree = _RANGE.pack(statement.start, statement.end) + statement.root
    name, origin = _opaque(key.name), _opaque(statement.origin)
    return _LABEL + name + _TIMESTAMP.pack(timestamp) + origin + tree


def make_line(key: VerifierKey, timestamp: int, signature: bytes) -> Signature:
    """Return the signature line of a cosigner's signature of `cosigned_message`."""
    return Signature(key.name, key.key_id, _TIMESTAMP.pack(timestamp) + signature)


def fits_cosignature(key: VerifierKey, line: Signature, statement: Statement) -> bool:
    """Say whether a line is this key's cosignature of the statement, whatever its timestamp."""
    if not line.is_of(key) or len(line.value) != _TIMESTAMP.size + key.kind.signature_bytes:
        return False
    timestamp = timestamp_of(line)
    try:
        message = cosigned_message(key, timestamp, statement)
    except ConfigurationError:
        return False
    return key.fits(line.value[_TIMESTAMP.size :], message)


def check_cosignatures(
    lines: Iterable[Signature], keys: Sequence[VerifierKey], statement: Statement
) -> tuple[Cosignature, ...]:
    """Return the cosignatures of trusted cosigners; there may be none.

    Args:
        lines: what a checkpoint carries.
        keys: the cosigners that are trusted, each of a type of `COSIGNER_KEYS`.
        statement: what they have to have signed.

    Raises:
        SignatureError: a line of one of the keys does not verify.
        ConfigurationError: two of the keys have one name and one ID.
    """
    found = check_lines(lines, keys, lambda key, line: fits_cosignature(key, line, statement))
    return tuple([Cosignature(key, timestamp_of(line), line) for key, line in found])


def timestamp_of(line: Signature) -> int:
    """Return what a line of a cosigner says of the time; it has at least 8 bytes."""
    return int.from_bytes(line.value[: _TIMESTAMP.size])


def _opaque(text: str) -> bytes:
    value = text.encode()
    if not 1 <= len(value) <= MAX_NAME_BYTES:
        raise ConfigurationError(f"{text[:100]!r} has {len(value)} bytes, expected 1 to {MAX_NAME_BYTES}")
    return bytes([len(value)]) + value
