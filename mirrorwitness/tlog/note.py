"""Signed notes: text that one or more keys signed, and the keys themselves. Ed25519 (type 0x01) only.

    <text, one or more lines>
    <an empty line>
    — <key name> <base64 of key ID and signature>

Rules:

- The last empty line ends the text; the text keeps its final newline, and exactly its bytes are signed.
- A note is UTF-8 without control characters but the newline, of at most `MAX_NOTE_BYTES`, with 1 to `MAX_SIGNATURES`
  signature lines. A key name has no space and no plus. Base64 is canonical.
- A signature counts only where name *and* key ID are those of a key that the caller trusts; all others are passed over.
  One that counts must verify: a note with one good and one bad line of trusted keys is refused, and so is one with two
  lines of one key. Without any line that counts a note is refused.
- Public keys under which a signature proves nothing (points of small order, second spellings) are refused when they are
  read.

What it does not do: other types of signature (cosignatures, ML-DSA), read or write files, or decide whom to trust.

SPEC: C2SP signed-note v1.0.0; the private form of a key is that of Go's ``sumdb/note``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "SEED_BYTES",
    "KeyId",
    "Note",
    "Signature",
    "SignerKey",
    "VerifierKey",
    "format_note",
    "format_signer_key",
    "make_signer_key",
    "open_note",
    "parse_note",
    "parse_signer_key",
    "parse_verifier_key",
    "sign_note",
]

KeyId = NewType("KeyId", bytes)
"""Four bytes that, with the name, say which key a signature claims to be of. They identify, they prove nothing."""

MAX_NOTE_BYTES: Final = 1_000_000
"""Largest note in bytes; Go's own limit."""

MAX_SIGNATURES: Final = 64
"""Most signature lines: the specification wants at least 16 accepted, Go stops at 100."""

SEED_BYTES: Final = 32
"""Length of an Ed25519 seed in bytes."""

_ED25519: Final = b"\x01"
_PUBLIC_BYTES: Final = 32
_ID_BYTES: Final = 4
_PRIVATE: Final = "PRIVATE+KEY+"
_DASH: Final = "\N{EM DASH} "
_ID: Final = re.compile(r"[0-9a-f]{8}")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")
_SHOWN: Final = 100

_FIELD: Final = 2**255 - 19
_SMALL_ORDER: Final = frozenset({
    0,
    1,
    _FIELD - 1,
    int.from_bytes(bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"),
    int.from_bytes(bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"),
})
"""y of the eight points whose order divides 8. Under such a key one signature fits many texts."""


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


@dataclass(frozen=True, slots=True)
class Note:
    """A note as it was read; nothing of it is trusted.

    Attributes:
        text: the signed bytes, with the final newline.
        signatures: the lines, in order.
    """

    text: bytes
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name.

    Attributes:
        name: who signs.
        public: 32 bytes.
    """

    name: str
    public: bytes

    @property
    def key_id(self) -> KeyId:
        """The key's ID."""
        return KeyId(hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.public).digest()[:_ID_BYTES])

    def __str__(self) -> str:
        """Return the key as people exchange it (a *vkey*)."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A private key with its name.

    Attributes:
        name: who signs.
        seed: 32 secret bytes.
        verifier: its public half.
    """

    name: str
    seed: bytes = field(repr=False)
    verifier: VerifierKey


def parse_note(body: bytes) -> Note:
    """Read a note; `format_note` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is not a note; the message says what is wrong.
    """
    if len(body) > MAX_NOTE_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_NOTE_BYTES}")
    try:
        decoded = body.decode()
    except UnicodeDecodeError as error:
        raise _malformed(f"byte {error.start} is not UTF-8") from error
    found = _CONTROL.search(decoded)
    if found:
        raise _malformed(f"has the control character {found.group()!r}")
    text, separator, rest = decoded.rpartition("\n\n")
    if not separator or not rest.endswith("\n"):
        raise _malformed("expected text, an empty line, and signature lines that each end in a newline")
    lines = rest[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"has {len(lines)} signatures, more than {MAX_SIGNATURES}")
    return Note(f"{text}\n".encode(), tuple([_parse_line(line) for line in lines]))


def format_note(note: Note) -> bytes:
    """Write a note."""
    lines = [f"{_DASH}{line.name} {base64.b64encode(line.key_id + line.value).decode()}\n" for line in note.signatures]
    return note.text + b"\n" + "".join(lines).encode()


def open_note(body: bytes, keys: Sequence[VerifierKey]) -> tuple[Note, tuple[VerifierKey, ...]]:
    """Read a note and check its signatures.

    Args:
        body: the note.
        keys: the keys that are trusted.

    Returns:
        The note, and those of the keys that signed it: at least one.

    Raises:
        UpstreamProtocolError: it is not a note.
        SignatureError: a signature of a trusted key does not verify or is there twice, or no trusted key signed it.
        ConfigurationError: two of the keys have one name and one ID.
    """
    trusted = {(key.name, key.key_id): key for key in keys}
    if len(trusted) != len(keys):
        raise ConfigurationError("two of the trusted keys have the same name and the same ID")
    note = parse_note(body)
    signed: list[VerifierKey] = []
    for line in note.signatures:
        key = trusted.get((line.name, line.key_id))
        if key is None:
            continue
        if key in signed:
            raise SignatureError(f"the note has two signatures of the key {key}")
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(line.value, note.text)
        except InvalidSignature as error:
            raise SignatureError(f"the note's signature of the key {key} does not verify") from error
        signed.append(key)
    if not signed:
        found = ", ".join(f"{line.name}+{line.key_id.hex()}" for line in note.signatures)
        wanted = ", ".join(f"{key.name}+{key.key_id.hex()}" for key in keys) or "none"
        raise SignatureError(f"no trusted key signed the note: trusted are {wanted}, it has {found[:500]}")
    return note, tuple(signed)


def sign_note(text: bytes, keys: Sequence[SignerKey]) -> bytes:
    """Sign a text and return the note.

    Args:
        text: UTF-8 that ends in a newline.
        keys: who signs, at least one.

    Raises:
        ConfigurationError: the text cannot stand in a note.
    """
    if not text.endswith(b"\n"):
        raise ConfigurationError("the text of a note ends in a newline; this one does not")
    lines = tuple([
        Signature(key.name, key.verifier.key_id, Ed25519PrivateKey.from_private_bytes(key.seed).sign(text))
        for key in keys
    ])
    body = format_note(Note(text, lines))
    try:
        parse_note(body)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"this text cannot be signed: {error}") from error
    return body


def parse_verifier_key(text: str) -> VerifierKey:
    """Read a public key; `str` of the result gives back the same text.

    Raises:
        ConfigurationError: it is not an Ed25519 verifier key, or one that proves nothing.
    """
    name, material = _parse_key(text, "verifier key")
    key = VerifierKey(name, material)
    y = int.from_bytes(material, "little") & (2**255 - 1)
    if y >= _FIELD or y in _SMALL_ORDER:
        raise _bad_key("verifier key", text, "its point proves nothing (small order, or a second spelling)")
    _check_id(text, key, "verifier key")
    return key


def make_signer_key(name: str, seed: bytes) -> SignerKey:
    """Make a private key of a name and 32 random bytes.

    Raises:
        ConfigurationError: the name cannot be a key's, or the seed has another length.
    """
    if not _is_name(name):
        raise ConfigurationError(
            f"key name {name[:_SHOWN]!r}: expected text without spaces, plus or control characters"
        )
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"the seed of a key has {SEED_BYTES} bytes, not {len(seed)}")
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    return SignerKey(name, seed, VerifierKey(name, public))


def parse_signer_key(text: str) -> SignerKey:
    """Read a private key; `format_signer_key` gives back the same text. Messages never show it.

    Raises:
        ConfigurationError: it is not an Ed25519 signer key.
    """
    if not text.startswith(_PRIVATE):
        raise _bad_key("signer key", "", f"expected {_PRIVATE}NAME+ID+BASE64")
    name, seed = _parse_key(text.removeprefix(_PRIVATE), "signer key")
    key = make_signer_key(name, seed)
    _check_id(text.removeprefix(_PRIVATE), key.verifier, "signer key")
    return key


def format_signer_key(key: SignerKey) -> str:
    """Write a private key; the result is as secret as the key."""
    material = base64.b64encode(_ED25519 + key.seed).decode()
    return f"{_PRIVATE}{key.name}+{key.verifier.key_id.hex()}+{material}"


def _parse_line(line: str) -> Signature:
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    value = _decode(encoded)
    if not line.startswith(_DASH) or not space or not _is_name(name) or value is None or len(value) <= _ID_BYTES:
        raise _malformed(f"{line[:_SHOWN]!r} is not a signature line")
    return Signature(name, KeyId(value[:_ID_BYTES]), value[_ID_BYTES:])


def _parse_key(text: str, kind: str) -> tuple[str, bytes]:
    """Return the name and the 32 bytes of a key of either half."""
    shown = text if kind == "verifier key" else ""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    value = _decode(encoded)
    if not _is_name(name) or not _ID.fullmatch(key_id) or not value:
        raise _bad_key(kind, shown, "expected NAME+ID+BASE64, the ID being 8 lower-case hex digits")
    if value[:1] != _ED25519:
        raise _bad_key(kind, shown, f"its type is 0x{value[0]:02x}, expected 0x01 (Ed25519)")
    if len(value) != 1 + _PUBLIC_BYTES:
        raise _bad_key(kind, shown, f"it has {len(value) - 1} bytes, expected {_PUBLIC_BYTES}")
    return name, value[1:]


def _check_id(text: str, key: VerifierKey, kind: str) -> None:
    found = text.partition("+")[2][: 2 * _ID_BYTES]
    if found != key.key_id.hex():
        raise ConfigurationError(f"{kind} of {key.name!r}: its ID is {key.key_id.hex()}, the text says {found}")


def _is_name(name: str) -> bool:
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name) and _is_utf8(name)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _decode(text: str) -> bytes | None:
    """Return the bytes of canonical base64, None for anything else."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return value if base64.b64encode(value).decode() == text else None


def _malformed(reason: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"signed note: {reason}")


def _bad_key(kind: str, shown: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{kind} {shown[:_SHOWN]!r}: {reason}" if shown else f"{kind}: {reason}")
