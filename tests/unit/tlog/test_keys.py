"""Keys: vectors of others, one spelling for each key, and keys that nobody may have."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import (
    ID_BYTES,
    SEED_BYTES,
    KeyType,
    SignerKey,
    VerifierKey,
    decode_base64,
    format_signer_key,
    is_key_name,
    make_signer_key,
    parse_signer_key,
    parse_verifier_key,
)

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "notes"

# C2SP signed-note, "Example".
SPEC_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

# golang.org/x/mod sumdb/note, package documentation and tests.
GO_SIGNER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
GO_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

# golang.org/x/mod sumdb/note: a wrong length and an unknown type, each with the ID that belongs to it.
GO_BAD_LENGTH = "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY=="
GO_BAD_TYPE = "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"

# PyPI cryptography-vectors 50.0.2, MLDSA/kat_MLDSA_44_det_pure.rsp, count 0: the seed, and the hash of its public key.
KAT_SEED = bytes.fromhex("f696484048ec21f96cf50a56d0759c448f3779752f0383d37449690694cf7a68")
KAT_PUBLIC_SHA256 = "18288249b90bcbd48d473d2a507cc3c1e95e040f639ac3333a8ed1891de14552"

SEED = bytes(range(SEED_BYTES))
ALICE = make_signer_key("alice.example", SEED)
TYPES = tuple(KeyType)


def published_keys() -> list[str]:
    """Return every verifier key of the vectors."""
    return [text for path in sorted(VECTORS.glob("*.vkeys")) for text in path.read_text().split()]


@pytest.mark.parametrize("text", [SPEC_KEY, GO_KEY, *published_keys()], ids=lambda text: text.partition("+")[0])
def test_published_keys_are_written_as_they_were_read(text: str) -> None:
    """Of every type; the ID that each one says is worked out here."""
    key = parse_verifier_key(text, *TYPES)
    assert str(key) == text
    assert key == VerifierKey(key.name, key.public, key.kind)
    assert (len(key.public), len(key.key_id)) == (key.kind.public_bytes, ID_BYTES)


def test_the_vectors_have_keys_of_every_type() -> None:
    """What is tested on them is tested for all three."""
    assert {parse_verifier_key(text, *TYPES).kind for text in published_keys()} == set(KeyType)


def test_go_s_private_key_is_written_as_it_was_read() -> None:
    """And its public half is the published one."""
    key = parse_signer_key(GO_SIGNER)
    assert (str(key.verifier), format_signer_key(key)) == (GO_KEY, GO_SIGNER)


def test_a_published_ml_dsa_seed_gives_its_key() -> None:
    """FIPS 204 makes one key of a seed, whoever computes it."""
    key = make_signer_key("log.example/a", KAT_SEED, KeyType.ML_DSA_44).verifier
    assert hashlib.sha256(key.public).hexdigest() == KAT_PUBLIC_SHA256


@pytest.mark.parametrize("kind", TYPES)
def test_the_id_is_that_of_the_specification(kind: KeyType) -> None:
    """The first four bytes of the hash of the name, a newline, the type and the public key; also in the text."""
    key = make_signer_key("log.example/\u00e9", SEED, kind).verifier
    material = {1: b"\x01", 4: b"\x04", 6: b"\x06"}[kind] + key.public
    expected = hashlib.sha256(b"log.example/\xc3\xa9\x0a" + material).digest()[:4]
    assert key.key_id == expected
    assert str(key) == f"log.example/\u00e9+{expected.hex()}+{base64.b64encode(material).decode()}"


@pytest.mark.parametrize("kind", TYPES)
def test_signatures_are_those_of_the_library(kind: KeyType) -> None:
    """Bare RFC 8032, and pure FIPS 204 with an empty context: each side verifies what the other signed."""
    key = make_signer_key("log.example/a", SEED, kind)
    private: Ed25519PrivateKey | MLDSA44PrivateKey
    if kind is KeyType.ML_DSA_44:
        private = MLDSA44PrivateKey.from_seed_bytes(SEED)
        context = private.sign(b"message", b"a context")
        assert not key.verifier.fits(context, b"message")
    else:
        private = Ed25519PrivateKey.from_private_bytes(SEED)
        assert key.sign(b"message") == private.sign(b"message")
    assert private.public_key().public_bytes_raw() == key.verifier.public
    assert key.verifier.fits(private.sign(b"message"), b"message")
    private.public_key().verify(key.sign(b"message"), b"message")


def test_the_sizes_of_each_type() -> None:
    """RFC 8032 and FIPS 204; and what people call them."""
    assert [(kind, kind.public_bytes, kind.signature_bytes, kind.title) for kind in KeyType] == [
        (1, 32, 64, "Ed25519"),
        (4, 32, 64, "Ed25519 cosignature"),
        (6, 1312, 2420, "ML-DSA-44"),
    ]


def test_one_seed_makes_three_keys() -> None:
    """Each type has an ID of its own; the two of Ed25519 share the public key, which can be seen."""
    plain, cosigner, ml_dsa = (make_signer_key("alice.example", SEED, kind).verifier for kind in TYPES)
    assert len({plain.key_id, cosigner.key_id, ml_dsa.key_id}) == 3
    assert plain.public == cosigner.public
    assert cosigner.public != ml_dsa.public
    assert len({plain, cosigner, ml_dsa}) == 3


@pytest.mark.parametrize("kind", TYPES)
def test_keys_of_every_type_round_trip_and_sign(kind: KeyType) -> None:
    """Both texts are read again as the same key, and signatures fit the message and the key alone."""
    key = make_signer_key("alice.example", SEED, kind)
    assert parse_signer_key(format_signer_key(key), kind) == key
    assert parse_verifier_key(str(key.verifier), kind) == key.verifier
    signature = key.sign(b"message")
    assert len(signature) == kind.signature_bytes
    assert key.verifier.fits(signature, b"message")
    assert not key.verifier.fits(signature, b"massage")
    assert not make_signer_key("alice.example", bytes(32), kind).verifier.fits(signature, b"message")
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature)), signature[1:] + signature[:1]):
        assert not key.verifier.fits(wrong, b"message")


@pytest.mark.parametrize("kind", TYPES)
def test_a_key_of_another_type_than_is_of_use_is_refused(kind: KeyType) -> None:
    """The message says which type it is, and which are expected."""
    key = make_signer_key("alice.example", SEED, kind)
    others = [other for other in TYPES if other is not kind]
    expected = rf"0x0{kind:x}, expected 0x0{others[0]:x} \({others[0].title}\) or 0x0{others[1]:x} "
    with pytest.raises(ConfigurationError, match=expected):
        parse_verifier_key(str(key.verifier), *others)
    with pytest.raises(ConfigurationError, match=expected):
        parse_signer_key(format_signer_key(key), *others)


def test_without_a_type_plain_ed25519_is_meant() -> None:
    """Nobody reads a cosigner's key by accident."""
    cosigner = make_signer_key("alice.example", SEED, KeyType.COSIGNATURE)
    assert parse_verifier_key(str(ALICE.verifier)) == ALICE.verifier
    assert parse_signer_key(format_signer_key(ALICE)) == ALICE
    with pytest.raises(ConfigurationError, match="0x04, expected 0x01"):
        parse_verifier_key(str(cosigner.verifier))
    with pytest.raises(ConfigurationError, match="0x04, expected 0x01"):
        parse_signer_key(format_signer_key(cosigner))


@pytest.mark.parametrize("text", [GO_BAD_LENGTH, GO_BAD_TYPE])
def test_go_s_bad_keys_are_refused(text: str) -> None:
    """A wrong length (its base64 is not canonical either) and an unknown type, although their IDs are right."""
    with pytest.raises(ConfigurationError, match=r"expected (NAME|0x01)"):
        parse_verifier_key(text)


@pytest.mark.parametrize("text", [GO_KEY, GO_SIGNER])
def test_every_mangled_key_is_refused(text: str) -> None:
    """No part of a key and no key with one other character is a key."""
    parse = parse_signer_key if text == GO_SIGNER else parse_verifier_key
    parts = {text[start:end] for start in range(len(text)) for end in range(start, len(text) + 1)} - {text}
    parts |= {text[:at] + chr(ord(text[at]) + 1) + text[at + 1 :] for at in range(len(text))}
    for part in parts:
        with pytest.raises(ConfigurationError):
            parse(part)


def test_the_id_in_a_text_is_the_key_s() -> None:
    """A key under a foreign ID would be looked for in vain."""
    with pytest.raises(ConfigurationError, match=r"'PeterNeumann': its ID is c74f20a3, the text says c74f20a4"):
        parse_verifier_key(GO_KEY.replace("c74f20a3", "c74f20a4"))
    with pytest.raises(ConfigurationError, match="8 lower-case hex digits"):
        parse_verifier_key(GO_KEY.replace("c74f20a3", "C74F20A3"))


def test_messages_about_a_private_key_do_not_show_it() -> None:
    """Neither its `repr` nor the refusal of a damaged one."""
    secret = GO_SIGNER.rpartition("+")[2]
    other_type = format_signer_key(
        replace(parse_signer_key(GO_SIGNER), verifier=VerifierKey("a", b"", KeyType.COSIGNATURE))
    )
    other_id = GO_SIGNER.replace("c74f20a3", "c74f20a4")
    damaged = [other_type, other_id, GO_SIGNER[:-1], GO_SIGNER[:-4], GO_SIGNER[8:], f"{GO_SIGNER}AAAA", f" {GO_SIGNER}"]
    for text in damaged:
        with pytest.raises(ConfigurationError) as caught:
            parse_signer_key(text)
        assert secret[2:20] not in str(caught.value)
    key = parse_signer_key(GO_SIGNER)
    assert "seed" not in repr(key)
    assert repr(key.seed) not in repr(key)


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_seed_has_32_bytes(size: int) -> None:
    """Nothing is padded or cut, whether a key is made or read."""
    with pytest.raises(ConfigurationError, match=f"32 bytes, not {size}"):
        make_signer_key("a", bytes(size))
    with pytest.raises(ConfigurationError, match=f"it has {size} bytes, expected 32"):
        parse_signer_key(format_signer_key(SignerKey("a", bytes(size), ALICE.verifier)))


@pytest.mark.parametrize(
    ("kind", "size"), [(KeyType.ED25519, 33), (KeyType.COSIGNATURE, 31), (KeyType.ML_DSA_44, 1311)]
)
def test_a_public_key_has_the_length_of_its_type(kind: KeyType, size: int) -> None:
    """The ID in the text is right, so nothing else refuses it."""
    with pytest.raises(ConfigurationError, match=f"it has {size} bytes, expected {kind.public_bytes}"):
        parse_verifier_key(str(VerifierKey("a", bytes([9]) * size, kind)), kind)


def test_a_key_is_canonical_base64() -> None:
    """Padding and second spellings are no part of it."""
    text = str(ALICE.verifier)
    assert text.endswith(base64.b64encode(b"\x01" + ALICE.verifier.public).decode())
    for wrong in (
        f"{text}=",
        text.replace("+", "-"),
        f"{text} ",
        f"{text}\n",
        f"{text[:-1]}é",
        f"{text}+",
    ):
        with pytest.raises(ConfigurationError, match=r"NAME\+ID\+BASE64"):
            parse_verifier_key(wrong)


@pytest.mark.parametrize(
    "name", ["", "a b", "a+b", "a\u00a0b", "a\u2003b", "a\u3000b", "a\u0085b", "a\nb", "a\0b", "a\x1fb", "a\ud800b"]
)
def test_names_that_no_key_has(name: str) -> None:
    """Spaces, plus, control characters and lone surrogates would not survive a note."""
    assert not is_key_name(name)
    with pytest.raises(ConfigurationError, match="key name"):
        make_signer_key(name, bytes(32))


@pytest.mark.parametrize("name", ["a", "example.com/log42", "oid/1.3.6.1.4.1", "☃", "a\u200bb", "é" * 200])
def test_names_that_a_key_can_have(name: str) -> None:
    """A schema-less URL is recommended, not required; a space of no width is no space to Unicode."""
    assert is_key_name(name)
    key = make_signer_key(name, SEED)
    assert parse_signer_key(format_signer_key(key)) == key


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", b""),
        ("AA==", b"\0"),
        ("+/8=", b"\xfb\xff"),
        ("-_8=", None),  # the alphabet of URLs
        ("AB==", None),  # bits that are left over
        ("AA=", None),
        ("AA", None),
        ("AA==\n", None),
        ("AA==AA==", None),
        ("A A=", None),
        ("ÀA==", None),
        ("\ud800", None),
    ],
)
def test_base64_has_one_spelling(text: str, value: bytes | None) -> None:
    """RFC 4648, section 4, and nothing that means the same."""
    assert decode_base64(text) == value


P = 2**255 - 19
D = -121665 * pow(121666, -1, P) % P


def _add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
    """Add two points of the curve."""
    product = D * a[0] * b[0] * a[1] * b[1]
    x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + product, -1, P) % P
    return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - product, -1, P) % P


def _find_x(y: int) -> int:
    """Return an x of a point of the curve."""
    square = (y * y - 1) * pow(D * y * y + 1, -1, P) % P
    x = pow(square, (P + 3) // 8, P)
    return x if x * x % P == square else x * pow(2, (P - 1) // 4, P) % P


def _is_on_curve(y: int) -> bool:
    return pow(_find_x(y), 2, P) * (D * y * y + 1) % P == (y * y - 1) % P


def _torsion(y: int) -> list[tuple[int, int]]:
    """Return what is left of a point when its part in the large subgroup is multiplied away, and its multiples."""
    point, base, left = (0, 1), (_find_x(y), y), 2**252 + 27742317777372353535851937790883648493
    while left:
        point, base, left = (_add(point, base) if left & 1 else point), _add(base, base), left >> 1
    points = [(0, 1)]
    while (following := _add(points[-1], point)) != (0, 1):
        points.append(following)
    return points


@pytest.mark.parametrize("kind", [KeyType.ED25519, KeyType.COSIGNATURE])
def test_keys_of_small_order_and_second_spellings_are_refused(kind: KeyType) -> None:
    """All eight points whose order divides 8, in every spelling; the list is derived here from the curve itself."""
    torsion = next(points for y in range(2, 100) if _is_on_curve(y) and len(points := _torsion(y)) == 8)
    spellings = {y for _, y in torsion} | {y + P for _, y in torsion if y + P < 2**255} | {P + 2, P + 3}
    for y in spellings:
        for sign in (0, 1 << 255):
            with pytest.raises(ConfigurationError, match="proves nothing"):
                parse_verifier_key(str(VerifierKey("mallory", (y | sign).to_bytes(32, "little"), kind)), kind)


def test_the_last_y_below_the_field_s_order_is_no_second_spelling() -> None:
    """P - 1 has order 2; P - 2 is a number like any other."""
    last = VerifierKey("a", (P - 2).to_bytes(32, "little"))
    assert parse_verifier_key(str(last)) == last


def test_ml_dsa_keys_have_no_small_order() -> None:
    """The rule about points is not applied to what is none: any 1312 bytes are a key, if nobody's."""
    key = VerifierKey("a", bytes(1312), KeyType.ML_DSA_44)
    assert parse_verifier_key(str(key), KeyType.ML_DSA_44) == key
    assert not key.fits(bytes(2420), b"message")


def test_bytes_that_are_no_point_fit_nothing() -> None:
    """Such a key is read, and no signature is its."""
    y = next(y for y in range(2, 100) if not _is_on_curve(y))
    key = parse_verifier_key(str(VerifierKey("a", y.to_bytes(32, "little"))))
    assert not key.fits(ALICE.sign(b"message"), b"message")
