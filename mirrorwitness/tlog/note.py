"""Signed notes: text that one or more keys signed.

    <text, one or more lines>
    <an empty line>
    — <key name> <base64 of key ID and signature>

Rules:

- The last empty line ends the text; the text keeps its final newline, and exactly its bytes are signed.
- A note is UTF-8 without control characters but the newline, of at most `MAX_NOTE_BYTES`, with 1 to `MAX_SIGNATURES`
  signature lines. A key name has no space and no plus. Base64 is canonical.
- A signature counts only where name *and* key ID are those of a key that the caller trusts; all others are passed over.
  One that counts must verify: a note with one good and one bad line of trusted keys is refused. A line may be there
  twice. Without any line that counts a note is refused.

What it does not do: keys (`mirrorwitness.tlog.keys`), checkpoints and cosignatures, or decide whom to trust.

SPEC: C2SP signed-note v1.0.0.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.keys import ID_BYTES, KeyId, KeyType, decode_base64, is_key_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Note",
    "Signature",
    "check_lines",
    "format_lines",
    "format_note",
    "open_note",
    "parse_lines",
    "parse_note",
    "sign_note",
]

MAX_NOTE_BYTES: Final = 1_000_000
"""Largest note in bytes; Go's own limit."""

MAX_SIGNATURES: Final = 64
"""Most signature lines: the specification wants at least 16 accepted, Go stops at 100."""

_DASH: Final = "\N{EM DASH} "
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line, not yet judged.

    Attributes:
        name: the key's name.
        key_id: what it says of the key.
        value: the signature itself, in whatever form the key's type has.
    """

    name: str
    key_id: KeyId
    value: bytes

    def is_of(self, key: VerifierKey) -> bool:
        """Say whether the line claims to be of this key."""
        return (self.name, self.key_id) == (key.name, key.key_id)


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read; nothing of it is trusted.

    Attributes:
        text: the signed bytes, with the final newline.
        signatures: the lines, in order.
    """

    text: bytes
    signatures: tuple[Signature, ...]


def parse_note(body: bytes) -> Note:
    """Read a note; `format_note` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not a note; the message says what is wrong.
    """
    decoded = _decode(body, "signed note")
    text, separator, rest = decoded.rpartition("\n\n")
    if not separator or not rest.endswith("\n"):
        raise _malformed("expected text, an empty line, and signature lines that each end in a newline")
    return Note(f"{text}\n".encode(), _parse_lines(rest))


def format_note(note: Note) -> bytes:
    """Write a note."""
    return note.text + b"\n" + format_lines(note.signatures)


def parse_lines(body: bytes) -> tuple[Signature, ...]:
    """Read signature lines alone, as witnesses answer them.

    Raises:
        UpstreamProtocolError: they are not signature lines.
    """
    decoded = _decode(body, "signature lines")
    if not decoded.endswith("\n"):
        raise _malformed("expected signature lines that each end in a newline")
    return _parse_lines(decoded)


def format_lines(lines: Iterable[Signature]) -> bytes:
    """Write signature lines alone."""
    return "".join(
        f"{_DASH}{line.name} {base64.b64encode(line.key_id + line.value).decode()}\n" for line in lines
    ).encode()


def check_lines(
    lines: Iterable[Signature],
    keys: Sequence[VerifierKey],
    fits: Callable[[VerifierKey, Signature], bool],
) -> tuple[tuple[VerifierKey, Signature], ...]:
    """Return the lines of trusted keys, each with its key; all of them verify. There may be none.

    Args:
        lines: what a note carries.
        keys: the keys that are trusted.
        fits: says whether a line that claims to be of a key is its signature.

    Raises:
        SignatureError: a line of a trusted key does not verify.
        ConfigurationError: two of the keys have one name and one ID.
    """
    trusted = {(key.name, key.key_id): key for key in keys}
    if len(trusted) != len(keys):
        raise ConfigurationError("two of the trusted keys have the same name and the same ID")
    found: list[tuple[VerifierKey, Signature]] = []
    for line in lines:
        key = trusted.get((line.name, line.key_id))
        if key is None:
            continue
        if not fits(key, line):
            raise SignatureError(f"a signature of the key {_short(key)} does not verify")
        found.append((key, line))
    return tuple(found)


def open_note(body: bytes, keys: Sequence[VerifierKey]) -> tuple[Note, tuple[VerifierKey, ...]]:
    """Read a note and check its signatures.

    Args:
        body: the note.
        keys: the keys that are trusted, all of type `KeyType.ED25519`.

    Returns:
        The note, and those of the keys that signed it: at least one, each once.

    Raises:
        UpstreamProtocolError: it is not a note.
        SignatureError: a signature of a trusted key does not verify, or no trusted key signed it.
        ConfigurationError: two of the keys have one name and one ID, or one has another type.
    """
    _check_kinds(keys)
    note = parse_note(body)
    signed = check_lines(note.signatures, keys, lambda key, line: key.fits(line.value, note.text))
    if not signed:
        raise SignatureError(f"no trusted key signed the note: {describe_lines(note.signatures, keys)}")
    return note, tuple(dict.fromkeys(key for key, _ in signed))


def describe_lines(lines: Iterable[Signature], keys: Iterable[VerifierKey]) -> str:
    """Say which keys are trusted and which signed, for messages."""
    found = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in lines)
    wanted = ", ".join(_short(key) for key in keys) or "none"
    return f"trusted are {wanted}, it has {found[:500]}"


def sign_note(text: bytes, keys: Sequence[SignerKey]) -> bytes:
    """Sign a text and return the note.

    Args:
        text: UTF-8 that ends in a newline.
        keys: who signs, at least one, all of type `KeyType.ED25519`.

    Raises:
        ConfigurationError: the text cannot stand in a note, or one of the keys has another type.
    """
    _check_kinds([key.verifier for key in keys])
    if not text.endswith(b"\n"):
        raise ConfigurationError("the text of a note ends in a newline; this one does not")
    lines = tuple([Signature(key.name, key.verifier.key_id, key.sign(text)) for key in keys])
    body = format_note(Note(text, lines))
    try:
        parse_note(body)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"this text cannot be signed: {error}") from error
    return body


def _check_kinds(keys: Iterable[VerifierKey]) -> None:
    """Refuse the keys of cosigners: what they sign as the text of a note could be read as a cosignature."""
    other = next((key for key in keys if key.kind is not KeyType.ED25519), None)
    if other is not None:
        raise ConfigurationError(f"the key {_short(other)} is of type {other.kind.title}, and signs no notes")


def _decode(body: bytes, what: str) -> str:
    if len(body) > MAX_NOTE_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_NOTE_BYTES}", what)
    try:
        decoded = body.decode()
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8", what) from error
    found = _CONTROL.search(decoded)
    if found:
        raise _malformed(f"has the control character {found.group()!r}", what)
    return decoded


def _parse_lines(text: str) -> tuple[Signature, ...]:
    lines = text[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    return tuple([_parse_line(line) for line in lines])


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    value = decode_base64(encoded)
    if not line.startswith(_DASH) or not space or not is_key_name(name) or value is None or len(value) <= ID_BYTES:
        raise _malformed(f"{line[:_SHOWN]!r} is not a signature line")
    return Signature(name, KeyId(value[:ID_BYTES]), value[ID_BYTES:])


def _short(key: VerifierKey) -> str:
    return f"{key.name}+{key.key_id.hex()}"


def _malformed(reason: str, what: str = "signed note") -> UpstreamProtocolError:
    return UpstreamProtocolError(f"{what}: {reason}")
