"""Private keys as PEM files, and the public keys that services hand out.

    name: witness.example/w1
    -----BEGIN ENCRYPTED PRIVATE KEY-----           or BEGIN PRIVATE KEY
    <base64 of PKCS#8>
    -----END ENCRYPTED PRIVATE KEY-----

Rules:

- PKCS#8 has no place for a name. It stands in one line ``name: NAME`` before the block, where readers of PEM pass over
  text; other lines there are remarks. There is one block, and nothing behind it.
- PKCS#8 does not say either what a key signs: an Ed25519 key is read as a cosigner's (0x04). The key of a log (0x01) is
  not written, because it would come back as another one.
- ML-DSA-44 is read and written as its seed.
- Encrypted is PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC, which OpenSSL reads; read is also what OpenSSL writes.
- Messages show neither a passphrase nor anything of a key.

How much work an encrypted file makes its reader do is for the file to say, and has no limit: files are the operator's.

What it does not do: read or write files, ask for a passphrase, draw the salt.

SPEC: RFC 7468 (PEM), RFC 5958 (PKCS#8, of which version 1), RFC 8018 (PBES2), RFC 8410 (Ed25519), RFC 9881 (ML-DSA).
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InternalError, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_der_public_key,
)

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import (
    KeyType,
    SignerKey,
    VerifierKey,
    decode_base64,
    is_key_name,
    make_signer_key,
    parse_verifier_key,
)

__all__ = [
    "MAX_PASSPHRASE_BYTES",
    "SALT_BYTES",
    "PemKey",
    "encrypt_pem",
    "is_pem",
    "make_pem",
    "open_pem",
    "parse_pem",
    "parse_public_der",
]

KDF_ROUNDS: Final = 600_000
"""Rounds of PBKDF2-HMAC-SHA-256: OWASP's advice of 2023; 80 ms at each start. OpenSSL's own 2,048 cost a guesser
nothing."""

SALT_BYTES: Final = 32
"""Random bytes for one encryption: 16 for the key derivation, 16 for the first block."""

MAX_PASSPHRASE_BYTES: Final = 1023
"""What OpenSSL, and with it `cryptography`, takes at most."""

_HALF: Final = SALT_BYTES // 2
_AES_BYTES: Final = 32
_BLOCK_BITS: Final = 128
_LINE: Final = 64
_PLAIN: Final = "PRIVATE KEY"
_ENCRYPTED: Final = "ENCRYPTED PRIVATE KEY"
_BEGIN: Final = "-----BEGIN "
_BLOCK: Final = re.compile(
    r"(?P<head>.*?)^-----BEGIN (?P<label>[A-Z0-9 ]{1,64})-----\n"
    r"(?P<body>[A-Za-z0-9+/=\n]+)^-----END (?P=label)-----\n*",
    re.DOTALL | re.MULTILINE,
)
_NAME: Final = re.compile(r"^name: (.*)$", re.MULTILINE)
_REFUSALS: Final = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)
"""What `cryptography` raises for keys that it does not read; InternalError for a known algorithm with a bad length."""

_SEQUENCE: Final = 0x30
_OCTETS: Final = 0x04
_INTEGER: Final = 0x02
_PBES2: Final = bytes.fromhex("06092a864886f70d01050d")  # 1.2.840.113549.1.5.13
_PBKDF2: Final = bytes.fromhex("06092a864886f70d01050c")  # 1.2.840.113549.1.5.12
_HMAC_SHA256: Final = bytes.fromhex(
    "300c06082a864886f70d02090500"
)  # 1.2.840.113549.2.9, and the NULL of its parameters
_AES_256_CBC: Final = bytes.fromhex("060960864801650304012a")  # 2.16.840.1.101.3.4.1.42


@dataclass(frozen=True, slots=True)
class PemKey:
    """A private key as its file has it.

    Attributes:
        name: who signs.
        der: PKCS#8, as secret as the file.
        is_encrypted: whether it takes a passphrase.
    """

    name: str
    der: bytes = field(repr=False)
    is_encrypted: bool = False

    def format(self) -> str:
        """Write the file's text; `parse_pem` reads it."""
        label = _ENCRYPTED if self.is_encrypted else _PLAIN
        text = base64.b64encode(self.der).decode()
        lines = "\n".join(text[at : at + _LINE] for at in range(0, len(text), _LINE))
        return f"name: {self.name}\n{_BEGIN}{label}-----\n{lines}\n-----END {label}-----\n"


def is_pem(text: str) -> bool:
    """Say whether a text is meant to be PEM."""
    return _BEGIN in text


def parse_pem(text: str) -> PemKey:
    """Read the text of a file with one private key; the key in it is read by `open_pem`.

    Raises:
        ConfigurationError: it is not a PKCS#8 block with a name before it.
    """
    found = _BLOCK.fullmatch(text) if text.count(_BEGIN) == 1 else None
    der = decode_base64(found["body"].replace("\n", "")) if found else None
    if found is None or der is None:
        raise ConfigurationError(
            "PEM file: expected one block of base64, each line ending in a newline, nothing behind"
        )
    label = found["label"]
    if label not in {_PLAIN, _ENCRYPTED}:
        raise ConfigurationError(
            f"PEM file: its block is {label}, expected {_PLAIN} or {_ENCRYPTED}; `openssl pkcs8 -topk8` makes these"
        )
    names = _NAME.findall(found["head"])
    if len(names) != 1:
        raise ConfigurationError(
            f"PEM file: {len(names)} lines before the block begin with `name: `, expected one: name: witness.example/w1"
        )
    return PemKey(names[0], der, is_encrypted=label == _ENCRYPTED)


def open_pem(pem: PemKey, passphrase: str | None = None) -> SignerKey:
    """Read the key in a PEM file.

    Args:
        pem: the file.
        passphrase: for an encrypted one; of no use to another.

    Raises:
        ConfigurationError: the passphrase is missing or wrong, or it is no key that a cosigner can have.
    """
    if pem.is_encrypted and passphrase is None:
        raise ConfigurationError("PEM file: the key is encrypted, and there is no passphrase")
    password = _encode(passphrase) if pem.is_encrypted and passphrase is not None else None
    try:
        key = load_der_private_key(pem.der, password)
    except _REFUSALS:
        # Not `from` it: of a file decrypted to nonsense, the cause may quote some of it.
        raise _unreadable(pem) from None
    if isinstance(key, MLDSA44PrivateKey):
        return make_signer_key(pem.name, key.private_bytes_raw(), KeyType.ML_DSA_44)
    if isinstance(key, Ed25519PrivateKey):
        return make_signer_key(pem.name, key.private_bytes_raw(), KeyType.COSIGNATURE)
    raise ConfigurationError(f"PEM file: it has a key of type {_kind_of(key)}, expected Ed25519 or ML-DSA-44")


def make_pem(key: SignerKey) -> PemKey:
    """Make an unencrypted PEM file of a cosigner's key.

    Raises:
        ConfigurationError: it is the key of a log.
    """
    kind = key.verifier.kind
    if kind not in COSIGNER_KEYS:
        raise ConfigurationError(f"the key {key.name} is of type {kind.title}, which PEM cannot tell from a cosigner's")
    private = (
        MLDSA44PrivateKey.from_seed_bytes(key.seed)
        if kind is KeyType.ML_DSA_44
        else Ed25519PrivateKey.from_private_bytes(key.seed)
    )
    return PemKey(key.name, private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def encrypt_pem(pem: PemKey, passphrase: str, *, salt: bytes) -> PemKey:
    """Encrypt a PEM file that is not.

    Args:
        pem: the file.
        passphrase: what `open_pem` will want.
        salt: `SALT_BYTES` random bytes, never used twice.

    Raises:
        ConfigurationError: it is encrypted already, or passphrase or salt have a length that they cannot have.
    """
    if pem.is_encrypted:
        raise ConfigurationError(f"the PEM file of {pem.name} is encrypted already")
    if len(salt) != SALT_BYTES:
        raise ConfigurationError(f"the salt of a PEM file has {SALT_BYTES} bytes, not {len(salt)}")
    salt, first = salt[:_HALF], salt[_HALF:]
    derived = hashlib.pbkdf2_hmac("sha256", _encode(passphrase), salt, KDF_ROUNDS, _AES_BYTES)
    padder, encryptor = PKCS7(_BLOCK_BITS).padder(), Cipher(AES256(derived), CBC(first)).encryptor()
    secret = encryptor.update(padder.update(pem.der) + padder.finalize()) + encryptor.finalize()
    derivation = _der(_SEQUENCE, _PBKDF2, _der(_SEQUENCE, _der(_OCTETS, salt), _integer(KDF_ROUNDS), _HMAC_SHA256))
    scheme = _der(_SEQUENCE, _AES_256_CBC, _der(_OCTETS, first))
    algorithm = _der(_SEQUENCE, _PBES2, _der(_SEQUENCE, derivation, scheme))
    return PemKey(pem.name, _der(_SEQUENCE, algorithm, _der(_OCTETS, secret)), is_encrypted=True)


def parse_public_der(der: bytes, *, name: str) -> VerifierKey:
    """Read the public key (SubjectPublicKeyInfo) of a cosigner whose private key is elsewhere.

    Raises:
        ConfigurationError: it is none, one that proves nothing, or the name cannot be a key's.
    """
    if not is_key_name(name):
        raise ConfigurationError(f"key name {name!r}: expected text without spaces, plus or control characters")
    try:
        key = load_der_public_key(der)
    except _REFUSALS as error:
        raise ConfigurationError(f"public key of {name!r}: {len(der)} bytes that are no known public key") from error
    if isinstance(key, MLDSA44PublicKey):
        found = VerifierKey(name, key.public_bytes_raw(), KeyType.ML_DSA_44)
    elif isinstance(key, Ed25519PublicKey):
        found = VerifierKey(name, key.public_bytes_raw(), KeyType.COSIGNATURE)
    else:
        raise ConfigurationError(f"public key of {name!r}: its type is {_kind_of(key)}, expected Ed25519 or ML-DSA-44")
    return parse_verifier_key(str(found), *COSIGNER_KEYS)  # refuses points that prove nothing


def _unreadable(pem: PemKey) -> ConfigurationError:
    if pem.is_encrypted:
        return ConfigurationError("PEM file: cannot be decrypted: the passphrase is wrong, or the file is damaged")
    return ConfigurationError(
        "PEM file: its block is no PKCS#8 key that can be read; expected Ed25519, or ML-DSA-44 as its seed alone"
    )


def _encode(passphrase: str) -> bytes:
    """Return the bytes of a passphrase; those of a variable that is not UTF-8 stay what they are."""
    try:
        encoded = passphrase.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ConfigurationError("the passphrase is not text") from None
    if not 1 <= len(encoded) <= MAX_PASSPHRASE_BYTES:
        raise ConfigurationError(f"the passphrase has {len(encoded)} bytes, expected 1 to {MAX_PASSPHRASE_BYTES}")
    return encoded


def _kind_of(key: object) -> str:
    return re.sub("(Private|Public)Key$", "", type(key).__name__)


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1))


def _der(tag: int, *parts: bytes) -> bytes:
    """Return one DER value; what is written here has fewer than 256 bytes."""
    body = b"".join(parts)
    head = bytes([tag, len(body)]) if len(body) < 0x80 else bytes([tag, 0x81, len(body)])  # noqa: PLR2004 - X.690, 8.1.3
    return head + body
