"""Private keys as PEM: examples of the standards, files of OpenSSL, and what is no key."""

from __future__ import annotations

import base64
import functools
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, x25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.pem import (
    KDF_ROUNDS,
    MAX_PASSPHRASE_BYTES,
    SALT_BYTES,
    PemKey,
    encrypt_pem,
    is_pem,
    make_pem,
    open_pem,
    parse_pem,
    parse_public_der,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

    from mirrorwitness.tlog.keys import SignerKey

DATA = Path(__file__).parents[2] / "data" / "tlog" / "pem"
NAME = "witness.example/w1"
SALT = bytes(range(SALT_BYTES))

# RFC 8410, section 10.3 and appendix A.
RFC_BLOCK = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
"""
RFC_PUBLIC = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE="
RFC_SEED = bytes.fromhex("d4ee72dbf913584ad5b6d8f1f769f8ad3afe7c28cbf1d4fbe097a88f44755842")
RFC_VERSION_2 = """-----BEGIN PRIVATE KEY-----
MHICAQEwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
oB8wHQYKKoZIhvcNAQkJFDEPDA1DdXJkbGUgQ2hhaXJzgSEAGb9ECWmEzf6FQbrB
Z9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PRIVATE KEY-----
"""
RFC_KEY = make_signer_key(NAME, RFC_SEED, KeyType.COSIGNATURE)

# The same key, written by `openssl pkcs8 -topk8 -passout pass:abc`, and with -scrypt (OpenSSL 3.0.19).
OPENSSL_BLOCKS = (
    """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAg1JSmppsFdQQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEED29Jjy2nCrllUwwaI0powcEQFUq
w8YeiFkd7l7RAhwN3XQBJrgGGYJ3KvDVh8XOwsTVELY3L2UihH5XrlRpgU4SnSTw
tikj4biRz99CVVVBNt4=
-----END ENCRYPTED PRIVATE KEY-----
""",
    """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGTME8GCSqGSIb3DQEFDTBCMCEGCSsGAQQB2kcECzAUBAgFFs+bnalf8AICQAAC
AQgCAQEwHQYJYIZIAWUDBAEqBBARELI1i2GcDxMNXyl8gr2DBEDcHigb9m1wplPn
WwfhbIYcGb8PgKU568KAQrAnglJsViukgu5yC+5rHApefNOr2eefoUehWJ2mwMqp
i2J/VtGp
-----END ENCRYPTED PRIVATE KEY-----
""",
)
# The same with the passphrase caf\xe9, in Latin-1.
OPENSSL_LATIN_1 = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiSJ+V3diO/rwICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEA/Gu82SCj/vsestXGDQYSgEQKUK
E4PplUKG/wmB5WcHALR1ItxCxh2utkaGJeMRpKgXQGjncmYCMSJWEP07HZEOZUjj
EdPJJRfD1Ezx8fSeUKw=
-----END ENCRYPTED PRIVATE KEY-----
"""
UNKNOWN_CIPHER = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIGbMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAifMHkmb327QQICCAAw
DAYIKoZIhvcNAgkFADAdBgkqgxqMmm4BAQwEEA8gWGi3Rpv9tsQCGnPKTUIEQK5b
6+zWP0fIBTsbiH/lFSatkQmCnK2WRha8sl4sVdSV4AT/XSZnbznBUHfR21X7JKFv
3svWQllfxp6AhcB5UTY=
-----END ENCRYPTED PRIVATE KEY-----
"""

KEYS = [make_signer_key(NAME, bytes(range(32)), kind) for kind in (KeyType.COSIGNATURE, KeyType.ML_DSA_44)]


def named(block: str) -> str:
    return f"name: {NAME}\n{block}"


@functools.cache
def sealed() -> PemKey:
    """Encrypt once for all tests that want the same; it takes 0.1 s."""
    return encrypt_pem(make_pem(RFC_KEY), "abc", salt=SALT)


def pem_of(private: PrivateKeyTypes) -> PemKey:
    return PemKey(NAME, private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()))


def test_the_standard_s_ed25519_key() -> None:
    """The example of RFC 8410 gives its public key, and is written as it was."""
    key = open_pem(parse_pem(named(RFC_BLOCK)))
    assert key == RFC_KEY
    assert key.verifier == parse_public_der(base64.b64decode(RFC_PUBLIC), name=NAME)
    assert make_pem(key).format() == named(RFC_BLOCK)


def test_an_ml_dsa_key_of_others() -> None:
    """A published private key in its seed form gives its public key, and is written as it was."""
    private, public = ((DATA / f"mldsa44_{half}.der").read_bytes() for half in ("priv", "pub"))
    key = open_pem(PemKey(NAME, private))
    assert key.verifier == parse_public_der(public, name=NAME)
    assert (key.seed, key.verifier.kind) == (bytes([42]) * 32, KeyType.ML_DSA_44)
    assert make_pem(key).der == private


@pytest.mark.parametrize("has_seed", [False, True])
def test_ml_dsa_is_read_as_its_seed_alone(has_seed: bool) -> None:  # noqa: FBT001
    """The other forms that PKCS#8 has for it (expanded, or both) are refused, with a word about which one is read."""
    expanded = b"\x04\x82\x0a\x00" + bytes(2560)
    both = b"\x30\x82\x0a\x26\x04\x20" + bytes(32) + expanded
    inner = both if has_seed else expanded
    algorithm = bytes.fromhex("300b0609608648016503040311")
    body = b"\x02\x01\x00" + algorithm + b"\x04\x82" + len(inner).to_bytes(2) + inner
    with pytest.raises(ConfigurationError, match="or ML-DSA-44 as its seed alone"):
        open_pem(PemKey(NAME, b"\x30\x82" + len(body).to_bytes(2) + body))


@pytest.mark.parametrize("block", OPENSSL_BLOCKS, ids=["pbkdf2", "scrypt"])
def test_what_openssl_encrypts_is_read(block: str) -> None:
    """Its default, and scrypt; an operator makes a key with the tool at hand and adds the name."""
    pem = parse_pem(named(block))
    assert (pem.name, pem.is_encrypted) == (NAME, True)
    assert open_pem(pem, "abc") == RFC_KEY


@pytest.mark.parametrize("key", KEYS, ids=["ed25519", "ml-dsa-44"])
def test_an_encrypted_key_comes_back(key: SignerKey) -> None:
    """With its passphrase, which may be of any text."""
    plain = make_pem(key)
    made = encrypt_pem(plain, "Grüße \N{SNOWMAN}", salt=SALT)
    assert parse_pem(made.format()) == made
    assert open_pem(made, "Grüße \N{SNOWMAN}") == key
    assert key.seed not in made.der


@pytest.mark.skipif(shutil.which("openssl") is None, reason="there is no openssl here")
def test_openssl_reads_what_we_encrypt(tmp_path: Path) -> None:
    """An operator who wants to leave can."""
    file = tmp_path / "w1.pem"
    file.write_text(sealed().format(), encoding="ascii")
    command = ["openssl", "pkey", "-in", str(file), "-passin", "pass:abc", "-pubout", "-outform", "DER"]
    done = subprocess.run(command, check=True, capture_output=True, timeout=30)
    assert done.stdout == base64.b64decode(RFC_PUBLIC)


def test_a_guess_costs_600_000_rounds() -> None:
    """OpenSSL's own default would be tried a million times in a second."""
    assert KDF_ROUNDS == 600_000
    assert bytes.fromhex("0203") + KDF_ROUNDS.to_bytes(3) in sealed().der
    assert bytes.fromhex("0410") + SALT[:16] in sealed().der
    assert bytes.fromhex("0410") + SALT[16:] in sealed().der


def test_another_salt_makes_another_file() -> None:
    """Two files of one key and passphrase do not say that they are."""
    other = encrypt_pem(make_pem(RFC_KEY), "abc", salt=SALT[::-1])
    assert sealed().der[-64:] != other.der[-64:]


@pytest.mark.parametrize("passphrase", ["ab", "abcd", "Abc", " abc", "a" * MAX_PASSPHRASE_BYTES])
def test_a_wrong_passphrase_is_named_and_not_shown(passphrase: str) -> None:
    """The message says what is wrong, and neither it nor what caused it shows the guess."""
    pem = parse_pem(named(OPENSSL_BLOCKS[0]))
    with pytest.raises(ConfigurationError, match="the passphrase is wrong, or the file is damaged") as caught:
        open_pem(pem, passphrase)
    assert passphrase not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("passphrase", "reason"),
    [
        (None, "the key is encrypted, and there is no passphrase"),
        ("", f"the passphrase has 0 bytes, expected 1 to {MAX_PASSPHRASE_BYTES}"),
        ("a" * (MAX_PASSPHRASE_BYTES + 1), "the passphrase has 1024 bytes"),
        ("\ud800", "the passphrase is not text"),
    ],
    ids=["none", "empty", "long", "no-text"],
)
def test_what_cannot_be_a_passphrase(passphrase: str | None, reason: str) -> None:
    """It is said before anything is tried, and when a file is written."""
    with pytest.raises(ConfigurationError, match=reason):
        open_pem(parse_pem(named(OPENSSL_BLOCKS[0])), passphrase)
    if passphrase is not None:
        with pytest.raises(ConfigurationError, match=reason):
            encrypt_pem(make_pem(RFC_KEY), passphrase, salt=SALT)


def test_a_passphrase_of_a_variable_that_is_not_utf_8() -> None:
    """Python has its bytes as surrogates; they are bytes again for the key."""
    made = encrypt_pem(make_pem(RFC_KEY), "caf\udce9", salt=SALT)
    assert load_der_private_key(made.der, b"caf\xe9") is not None
    assert open_pem(parse_pem(named(OPENSSL_LATIN_1)), "caf\udce9") == RFC_KEY


def test_a_passphrase_is_of_no_use_to_a_key_that_is_not_encrypted() -> None:
    """One variable serves several keys, of which some may be encrypted."""
    assert open_pem(parse_pem(named(RFC_BLOCK)), "abc") == RFC_KEY


def test_the_label_has_to_fit_the_block() -> None:
    """An encrypted key that says it is none, and the other way round."""
    with pytest.raises(ConfigurationError, match="its block is no PKCS#8 key that can be read"):
        open_pem(PemKey(NAME, sealed().der), "abc")
    with pytest.raises(ConfigurationError, match="the passphrase is wrong, or the file is damaged"):
        open_pem(PemKey(NAME, make_pem(RFC_KEY).der, is_encrypted=True), "abc")


def test_remarks_stand_before_the_block() -> None:
    """As other tools write them, and people."""
    text = f"Bag Attributes: <none>\nname: {NAME}\n# w1, made 2026-10-01\n\n{RFC_BLOCK}\n\n"
    assert open_pem(parse_pem(text)) == RFC_KEY
    assert open_pem(parse_pem(named(RFC_BLOCK).removesuffix("\n"))) == RFC_KEY


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "expected one block"),
        (f"name: {NAME}\n", "expected one block"),
        (RFC_BLOCK, "0 lines before the block begin with `name: `"),
        (f"Name: {NAME}\n{RFC_BLOCK}", "0 lines before"),
        (f"name:{NAME}\n{RFC_BLOCK}", "0 lines before"),
        (named(named(RFC_BLOCK)), "2 lines before"),
        (f"{RFC_BLOCK}name: {NAME}\n", "expected one block"),
        (named(RFC_BLOCK + RFC_BLOCK), "expected one block"),
        (named(RFC_BLOCK) + "x", "expected one block"),
        (named(RFC_BLOCK).replace("\n", "\r\n"), "expected one block"),
        (named(RFC_BLOCK).replace("VhC\n", "VhC"), "expected one block"),
        (named(RFC_BLOCK).replace("VhC\n", "Vh\n"), "expected one block"),
        (named(RFC_BLOCK).replace("VhC\n", "V h\n"), "expected one block"),
        (named(RFC_BLOCK).replace("END PRIVATE", "END PUBLIC"), "expected one block"),
        (named(RFC_BLOCK).replace("\n-----BEGIN", " -----BEGIN"), "expected one block"),
        (named(RFC_BLOCK).replace("PRIVATE", "EC PRIVATE"), "its block is EC PRIVATE KEY, expected PRIVATE KEY or ENC"),
        (named(RFC_BLOCK).replace("PRIVATE", "PUBLIC"), "its block is PUBLIC KEY"),
        (named("-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n"), "expected one block"),
    ],
)
def test_malformed(text: str, reason: str) -> None:
    """What only resembles a key file is not read; the message shows nothing of it."""
    with pytest.raises(ConfigurationError, match=reason) as caught:
        parse_pem(text)
    assert "MC4C" not in str(caught.value)


def test_a_text_that_is_meant_to_be_pem() -> None:
    """Whether it is one or not."""
    assert is_pem(named(RFC_BLOCK))
    assert is_pem("-----BEGIN nonsense")
    assert not is_pem("PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz")


@pytest.mark.parametrize("name", ["", " w1", "w1\t", "a+b", "w1\r"])
def test_the_name_has_to_be_a_key_s(name: str) -> None:
    """It becomes part of each signature line."""
    with pytest.raises(ConfigurationError, match="key name"):
        open_pem(parse_pem(f"name: {name}\n{RFC_BLOCK}"))
    with pytest.raises(ConfigurationError, match="key name"):
        parse_public_der(base64.b64decode(RFC_PUBLIC), name=name)


@pytest.mark.parametrize(
    "block",
    [RFC_VERSION_2, RFC_BLOCK.replace("K2Vw", "K2Vv"), RFC_BLOCK.replace("MC4C", "MC4D")],
    ids=["version-2", "bad-length", "no-version"],
)
def test_a_block_that_is_no_key(block: str) -> None:
    """Version 2 of PKCS#8, a key of X448 with 32 bytes (which `cryptography` calls an error of its own), nonsense."""
    with pytest.raises(ConfigurationError, match="its block is no PKCS#8 key that can be read"):
        open_pem(parse_pem(named(block)))


def test_a_cipher_that_is_not_known() -> None:
    """ARIA, of OpenSSL."""
    with pytest.raises(ConfigurationError, match="cannot be decrypted"):
        open_pem(parse_pem(named(UNKNOWN_CIPHER)), "abc")


@pytest.mark.parametrize(
    ("private", "kind"),
    [
        (ec.generate_private_key(ec.SECP256R1()), "EC"),
        (ed448.Ed448PrivateKey.generate(), "Ed448"),
        (x25519.X25519PrivateKey.generate(), "X25519"),
    ],
    ids=["ec", "ed448", "x25519"],
)
def test_a_key_of_another_kind(private: PrivateKeyTypes, kind: str) -> None:
    """It is named, private and public."""
    with pytest.raises(ConfigurationError, match=f"a key of type {kind}\\w*, expected Ed25519 or ML-DSA-44"):
        open_pem(pem_of(private))
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(ConfigurationError, match=f"its type is {kind}\\w*, expected Ed25519 or ML-DSA-44"):
        parse_public_der(public, name=NAME)


def test_a_public_key_that_is_none() -> None:
    """Cut, lengthened, empty, and a point of small order."""
    der = base64.b64decode(RFC_PUBLIC)
    for bad in (der[:-1], der + b"\0", b"", b"0"):
        with pytest.raises(ConfigurationError, match=f"{len(bad)} bytes that are no known public key"):
            parse_public_der(bad, name=NAME)
    with pytest.raises(ConfigurationError, match="proves nothing"):
        parse_public_der(der[:12] + bytes(32), name=NAME)


def test_the_key_of_a_log_is_not_written() -> None:
    """It would come back as a cosigner's key, which signs something else."""
    with pytest.raises(ConfigurationError, match="is of type Ed25519, which PEM cannot tell"):
        make_pem(make_signer_key("log.example", bytes(32), KeyType.ED25519))


def test_encryption_wants_a_plain_file_and_a_whole_salt() -> None:
    """Encrypted twice it would not be read; half a salt is a mistake."""
    plain = make_pem(RFC_KEY)
    with pytest.raises(ConfigurationError, match=f"the PEM file of {NAME} is encrypted already"):
        encrypt_pem(sealed(), "abc", salt=SALT)
    for salt in (b"", SALT[1:], SALT + b"\0"):
        with pytest.raises(ConfigurationError, match=f"has 32 bytes, not {len(salt)}"):
            encrypt_pem(plain, "abc", salt=salt)


def test_secrets_do_not_stand_in_a_repr() -> None:
    """Where a file's key is logged by mistake, its name is."""
    assert repr(make_pem(RFC_KEY)) == f"PemKey(name='{NAME}', is_encrypted=False)"


@given(st.data())
def test_a_damaged_file_gives_one_error_or_a_key(data: st.DataObject) -> None:
    """One changed byte of the DER, or of the text, is a key or a `ConfigurationError`, never anything else."""
    der = bytearray(make_pem(data.draw(st.sampled_from(KEYS))).der)
    der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    text = list(PemKey(NAME, bytes(der)).format())
    text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.characters(codec="utf-8"))
    try:
        key = open_pem(parse_pem("".join(text)))
    except ConfigurationError:
        return
    assert key.verifier.kind in {KeyType.COSIGNATURE, KeyType.ML_DSA_44}
