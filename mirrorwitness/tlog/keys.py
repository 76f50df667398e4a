"""Keys of logs and cosigners: their names, types, IDs and texts, and the signatures themselves.

    NAME+ID+BASE64                 a verifier key (*vkey*)
    PRIVATE+KEY+NAME+ID+BASE64     a signer key: the seed of the same key

Rules:

- A key has a type that says what its signatures mean: `KeyType.ED25519` signs the text of a note, the two others sign
  timestamped cosignatures (`mirrorwitness.tlog.cosignature`). The same 32 bytes under two types are two keys with two
  IDs; whoever configures keys refuses that (`VerifierKey.public` is equal).
- Texts are canonical: one spelling for each key. The ID in a text has to be the key's.
- Public keys under which a signature proves nothing (points of small order, second spellings) are refused when they are
  read. An ML-DSA key has no such values.

What it does not do: read or write files, or decide whom to trust.

SPEC: C2SP signed-note v1.0.0 ("Verifier keys", "Signature types"), tlog-cosignature v1.1.0-rc.1 ("Format"). The private
form is that of Go's ``sumdb/note``; for ML-DSA it holds the seed of FIPS 204, as transparency-dev/formats has it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache
from typing import Final, NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from mirrorwitness.errors import ConfigurationError

__all__ = [
    "ID_BYTES",
    "SEED_BYTES",
    "KeyId",
    "KeyType",
    "SignerKey",
    "VerifierKey",
    "decode_base64",
    "format_signer_key",
    "is_key_name",
    "make_signer_key",
    "parse_signer_key",
    "parse_verifier_key",
]

KeyId = NewType("KeyId", bytes)
"""Four bytes that, with the name, say which key a signature claims to be of. They identify, they prove nothing."""

ID_BYTES: Final = 4

SEED_BYTES: Final = 32
"""Length of a seed in bytes, of both algorithms."""

KEYS_CACHED: Final = 1024
"""Public keys that are kept ready for use; reading an ML-DSA key costs as much as a tenth of a verification."""

PRIVATE_CACHED: Final = 16
"""Private keys that are kept ready for use: a process has a few, and making one costs as much as a signature."""

_PRIVATE: Final = "PRIVATE+KEY+"
_ID: Final = re.compile(r"[0-9a-f]{8}")
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


class KeyType(IntEnum):
    """The type byte of a key and its signatures."""

    ED25519 = 0x01
    """Signs the text of a note, as logs do."""
    COSIGNATURE = 0x04
    """Ed25519 over a timestamp and the text of a checkpoint."""
    ML_DSA_44 = 0x06
    """ML-DSA-44 over a timestamp, the cosigner's name and a (sub)tree; of logs and of cosigners."""

    @property
    def public_bytes(self) -> int:
        """Length of a public key in bytes."""
        return 1312 if self is KeyType.ML_DSA_44 else 32

    @property
    def signature_bytes(self) -> int:
        """Length of a bare signature in bytes."""
        return 2420 if self is KeyType.ML_DSA_44 else 64

    @property
    def title(self) -> str:
        """What people call it."""
        return _TITLES[self]


_TITLES: Final = {
    KeyType.ED25519: "Ed25519",
    KeyType.COSIGNATURE: "Ed25519 cosignature",
    KeyType.ML_DSA_44: "ML-DSA-44",
}


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name.

    Attributes:
        name: who signs.
        public: the bare public key.
        kind: what its signatures mean.
        key_id: the key's ID.
    """

    name: str
    public: bytes = field(repr=False)
    kind: KeyType = KeyType.ED25519
    key_id: KeyId = field(init=False, compare=False)

    def __post_init__(self) -> None:
        """Work out the ID, which is looked at for every line of every note."""
        digest = hashlib.sha256(self.name.encode() + b"\n" + bytes([self.kind]) + self.public).digest()
        object.__setattr__(self, "key_id", KeyId(digest[:ID_BYTES]))

    def __str__(self) -> str:
        """Return the key as people exchange it (a *vkey*)."""
        material = base64.b64encode(bytes([self.kind]) + self.public).decode()
        return f"{self.name}+{self.key_id.hex()}+{material}"

    def fits(self, signature: bytes, message: bytes) -> bool:
        """Say whether a bare signature is this key's, of exactly these bytes."""
        try:
            _load_public(self.kind is KeyType.ML_DSA_44, self.public).verify(signature, message)
        except InvalidSignature:
            return False
        return True


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

    def sign(self, message: bytes) -> bytes:
        """Return the bare signature of these bytes; ML-DSA signatures of the same bytes differ."""
        return _load_private(self.verifier.kind is KeyType.ML_DSA_44, self.seed).sign(message)


def parse_verifier_key(text: str, *kinds: KeyType) -> VerifierKey:
    """Read a public key; `str` of the result gives back the same text.

    Args:
        text: the vkey.
        kinds: the types that are of use here; none: `KeyType.ED25519`.

    Raises:
        ConfigurationError: it is not a verifier key of these types, or one that proves nothing.
    """
    name, kind, material = _parse_key(text, "verifier key", kinds or (KeyType.ED25519,))
    if len(material) != kind.public_bytes:
        raise _bad_length("verifier key", text, material, kind.public_bytes)
    if kind is not KeyType.ML_DSA_44:
        y = int.from_bytes(material, "little") & (2**255 - 1)
        if y >= _FIELD or y in _SMALL_ORDER:
            raise _bad_key("verifier key", text, "its point proves nothing (small order, or a second spelling)")
    key = VerifierKey(name, material, kind)
    _check_id(text, key, "verifier key")
    return key


def make_signer_key(name: str, seed: bytes, kind: KeyType = KeyType.ED25519) -> SignerKey:
    """Make a private key of a name and 32 random bytes.

    Raises:
        ConfigurationError: the name cannot be a key's, or the seed has another length.
    """
    if not is_key_name(name):
        raise ConfigurationError(
            f"key name {name[:_SHOWN]!r}: expected text without spaces, plus or control characters"
        )
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"the seed of a key has {SEED_BYTES} bytes, not {len(seed)}")
    public = _load_private(kind is KeyType.ML_DSA_44, seed).public_key().public_bytes_raw()
    return SignerKey(name, seed, VerifierKey(name, public, kind))


def parse_signer_key(text: str, *kinds: KeyType) -> SignerKey:
    """Read a private key; `format_signer_key` gives back the same text. Messages never show it.

    Args:
        text: the key.
        kinds: the types that are of use here; none: `KeyType.ED25519`.

    Raises:
        ConfigurationError: it is not a signer key of these types.
    """
    if not text.startswith(_PRIVATE):
        raise _bad_key("signer key", "", f"expected {_PRIVATE}NAME+ID+BASE64")
    public = text.removeprefix(_PRIVATE)
    name, kind, seed = _parse_key(public, "signer key", kinds or (KeyType.ED25519,))
    if len(seed) != SEED_BYTES:
        raise _bad_length("signer key", "", seed, SEED_BYTES)
    key = make_signer_key(name, seed, kind)
    _check_id(public, key.verifier, "signer key")
    return key


def format_signer_key(key: SignerKey) -> str:
    """Write a private key; the result is as secret as the key."""
    material = base64.b64encode(bytes([key.verifier.kind]) + key.seed).decode()
    return f"{_PRIVATE}{key.name}+{key.verifier.key_id.hex()}+{material}"


def is_key_name(name: str) -> bool:
    """Say whether a key can have this name: not empty, no Unicode space, no plus, no control character."""
    return bool(name) and "+" not in name and not any(c.isspace() or c < " " for c in name) and _is_utf8(name)


def decode_base64(text: str) -> bytes | None:
    """Return the bytes of canonical base64, None for anything else."""
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: not ASCII
        return None
    return value if base64.b64encode(value).decode() == text else None


@lru_cache(KEYS_CACHED)
def _load_public(is_ml_dsa: bool, public: bytes) -> Ed25519PublicKey | MLDSA44PublicKey:  # noqa: FBT001 - private
    return MLDSA44PublicKey.from_public_bytes(public) if is_ml_dsa else Ed25519PublicKey.from_public_bytes(public)


@lru_cache(PRIVATE_CACHED)
def _load_private(is_ml_dsa: bool, seed: bytes) -> Ed25519PrivateKey | MLDSA44PrivateKey:  # noqa: FBT001 - private
    return MLDSA44PrivateKey.from_seed_bytes(seed) if is_ml_dsa else Ed25519PrivateKey.from_private_bytes(seed)


def _parse_key(text: str, what: str, kinds: tuple[KeyType, ...]) -> tuple[str, KeyType, bytes]:
    """Return the name, the type and the bytes of a key of either half."""
    shown = text if what == "verifier key" else ""
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    value = decode_base64(encoded)
    if not is_key_name(name) or not _ID.fullmatch(key_id) or not value:
        raise _bad_key(what, shown, "expected NAME+ID+BASE64, the ID being 8 lower-case hex digits")
    if value[0] not in kinds:
        wanted = " or ".join(f"0x{kind:02x} ({kind.title})" for kind in kinds)
        raise _bad_key(what, shown, f"its type is 0x{value[0]:02x}, expected {wanted}")
    return name, KeyType(value[0]), value[1:]


def _check_id(text: str, key: VerifierKey, what: str) -> None:
    found = text.partition("+")[2][: 2 * ID_BYTES]
    if found != key.key_id.hex():
        raise ConfigurationError(f"{what} of {key.name!r}: its ID is {key.key_id.hex()}, the text says {found}")


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bad_length(what: str, shown: str, material: bytes, expected: int) -> ConfigurationError:
    return _bad_key(what, shown, f"it has {len(material)} bytes, expected {expected}")


def _bad_key(what: str, shown: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"{what} {shown[:_SHOWN]!r}: {reason}" if shown else f"{what}: {reason}")
