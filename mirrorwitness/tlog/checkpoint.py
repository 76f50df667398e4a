"""Checkpoints: the tree head of a log at one size, as a signed note.

    <origin>
    <tree size>
    <base64 of the root hash>
    <extension lines, if any>

Rules:

- Parsing is strict: canonical decimals and base64, non-empty lines, nothing else. `Checkpoint.text` of what was parsed
  is what was signed, byte for byte.
- A checkpoint is opened under an origin: the keys that are trusted for it, and no other origin line.
- A log signs the whole text (Ed25519) or, as a cosigner does, its tree (ML-DSA-44); a cosignature key of Ed25519 is no
  log's. Every line of a trusted key has to verify; of others nothing is believed, and they are not kept.

What it does not do: compare checkpoints (`mirrorwitness.tlog.merkle`), or say who may be trusted.

SPEC: C2SP tlog-checkpoint v1.0.0.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, fits_cosignature, make_line
from mirrorwitness.tlog.keys import KeyType, decode_base64
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_SIZE, Hash
from mirrorwitness.tlog.note import Note, Signature, check_lines, describe_lines, format_note, parse_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

__all__ = [
    "GO_ORIGIN",
    "LOG_KEYS",
    "Checkpoint",
    "OpenedCheckpoint",
    "open_checkpoint",
    "origin_hash",
    "parse_checkpoint",
    "parse_size",
    "sign_checkpoint",
]

GO_ORIGIN: Final = "go.sum database tree"
"""The origin of Go's checksum database, which its code has for every one; no other log may have it beside Go's."""

LOG_KEYS: Final = (KeyType.ED25519, KeyType.ML_DSA_44)
"""Types of keys that a log can have."""

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head.

    Attributes:
        origin: which log.
        size: how many entries.
        root: the tree's hash.
        extension: further lines, on which nothing is known.
    """

    origin: str
    size: int
    root: Hash
    extension: tuple[str, ...] = ()

    @property
    def text(self) -> bytes:
        """The text of the note, with the final newline."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extension)
        return "".join(f"{line}\n" for line in lines).encode()

    def __str__(self) -> str:
        """Return the tree head in one line, for people."""
        return f"{self.origin} at {self.size}, root {base64.b64encode(self.root).decode()}"


@dataclass(frozen=True, slots=True)
class OpenedCheckpoint:
    """A checkpoint that a trusted key of the log signed.

    Attributes:
        checkpoint: the tree head.
        note: the note as it came, with lines that nobody checked.
        signed: the lines that verified, each with its key.
    """

    checkpoint: Checkpoint
    note: Note
    signed: tuple[tuple[VerifierKey, Signature], ...]

    def format(self, *more: Signature) -> bytes:
        """Write the checkpoint with the lines that verified and `more`: nothing that nobody checked is passed on."""
        lines = dict.fromkeys([*(line for _, line in self.signed), *more])
        return format_note(Note(self.note.text, tuple(lines)))


def origin_hash(origin: str) -> str:
    """Return the hex SHA-256 of an origin, by which witnesses and log mirrors are asked for its checkpoints."""
    return hashlib.sha256(origin.encode()).hexdigest()


def parse_size(text: str, what: str) -> int:
    """Read a size or an index; `what` names it in the message.

    Raises:
        UpstreamProtocolError: it is not a canonical decimal of at most `MAX_SIZE`.
    """
    if not _DECIMAL.fullmatch(text) or (value := int(text)) > MAX_SIZE:
        raise UpstreamProtocolError(f"{what} {text[:_SHOWN]!r}: expected a decimal without leading zeros, below 2^63")
    return value


def parse_hash(text: str, what: str) -> Hash:
    """Read a hash; `what` names it in the message.

    Raises:
        UpstreamProtocolError: it is not canonical base64 of 32 bytes.
    """
    value = decode_base64(text)
    if value is None or len(value) != HASH_BYTES:
        raise UpstreamProtocolError(f"{what} {text[:_SHOWN]!r}: expected base64 of {HASH_BYTES} bytes")
    return Hash(value)


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Read the text of a checkpoint; `Checkpoint.text` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not a checkpoint; the message says what is wrong.
    """
    lines = text.decode().split("\n") if text.isascii() else _decode(text).split("\n")
    if lines.pop() or len(lines) < 3 or not all(lines):  # noqa: PLR2004 - origin, size, root
        raise UpstreamProtocolError("checkpoint: expected an origin, a size and a root hash, each on a line of its own")
    origin, size, root, *extension = lines
    return Checkpoint(
        origin, parse_size(size, "checkpoint: tree size"), parse_hash(root, "checkpoint: root hash"), tuple(extension)
    )


def open_checkpoint(body: bytes, keys: Sequence[VerifierKey], *, origin: str) -> OpenedCheckpoint:
    """Read a checkpoint and check the log's signatures.

    Args:
        body: the note.
        keys: the keys of the log.
        origin: which log it has to be of.

    Raises:
        UpstreamProtocolError: it is not a checkpoint, or one of another origin.
        SignatureError: a line of one of the keys does not verify, or there is none.
        ConfigurationError: two of the keys have one name and one ID.
    """
    note = parse_note(body)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != origin:
        raise UpstreamProtocolError(
            f"checkpoint: the origin is {checkpoint.origin[:_SHOWN]!r}, expected {origin[:_SHOWN]!r}"
        )
    return check_checkpoint(note, checkpoint, keys)


def check_checkpoint(note: Note, checkpoint: Checkpoint, keys: Sequence[VerifierKey]) -> OpenedCheckpoint:
    """Check the log's signatures of a checkpoint that was read from a note.

    Raises:
        SignatureError: a line of one of the keys does not verify, or there is none.
        ConfigurationError: two of the keys have one name and one ID.
    """
    signed = check_lines(note.signatures, keys, lambda key, line: _fits(key, line, note, checkpoint))
    if not signed:
        raise SignatureError(
            f"no trusted key signed the checkpoint of {checkpoint.origin[:_SHOWN]!r}: "
            f"{describe_lines(note.signatures, keys)}"
        )
    return OpenedCheckpoint(checkpoint, note, signed)


def sign_checkpoint(checkpoint: Checkpoint, keys: Sequence[SignerKey], *, timestamp: int) -> bytes:
    """Sign a tree head as its log, and return the note.

    Args:
        checkpoint: the tree head.
        keys: the log's keys, at least one, each of a type of `LOG_KEYS`.
        timestamp: seconds since 1970, for those whose signatures say a time (ML-DSA-44).

    Raises:
        ConfigurationError: no log can sign so: the text is no checkpoint, or a key is not a log's.
    """
    lines = tuple([_sign(checkpoint, key, timestamp) for key in keys])
    body = format_note(Note(checkpoint.text, lines))
    try:
        opened = open_checkpoint(body, [key.verifier for key in keys], origin=checkpoint.origin)
    except (UpstreamProtocolError, SignatureError) as error:
        raise ConfigurationError(f"{checkpoint!s:.300} cannot be signed: {error}") from error
    if opened.checkpoint != checkpoint:
        raise ConfigurationError(f"{checkpoint!s:.300} cannot be signed: read again, it is {opened.checkpoint!s:.300}")
    return body


def _sign(checkpoint: Checkpoint, key: SignerKey, timestamp: int) -> Signature:
    if key.verifier.kind is KeyType.ED25519:
        return Signature(key.name, key.verifier.key_id, key.sign(checkpoint.text))
    if key.verifier.kind is not KeyType.ML_DSA_44:
        raise ConfigurationError(f"the key {key.name} is of type {key.verifier.kind.title}, and is no log's")
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, checkpoint.text)
    return make_line(key.verifier, timestamp, key.sign(cosigned_message(key.verifier, timestamp, statement)))


def _fits(key: VerifierKey, line: Signature, note: Note, checkpoint: Checkpoint) -> bool:
    if key.kind is KeyType.ED25519:
        return key.fits(line.value, note.text)
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, note.text)
    return key.kind is KeyType.ML_DSA_44 and fits_cosignature(key, line, statement)


def _decode(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise UpstreamProtocolError(f"checkpoint: byte {error.start} is not UTF-8") from error
