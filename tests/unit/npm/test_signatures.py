"""Registry signatures: recorded vectors, times of expiry, unknown and contradicting keys."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mirrorwitness.errors import SignatureError, UpstreamProtocolError
from mirrorwitness.npm.signatures import (
    MAX_KEYS_BYTES,
    KeyRing,
    RegistryKey,
    SignatureOutcome,
    SignaturePolicy,
    check_signatures,
    fingerprint,
    format_keys,
    is_accepted,
    parse_keys,
    parse_time,
)

RECORDED: dict[str, Any] = json.loads((Path(__file__).parents[2] / "data/npm/signatures.json").read_bytes())
RECORDED_KEYS = parse_keys(json.dumps({"keys": RECORDED["keys"]}).encode())
VECTORS: list[dict[str, Any]] = RECORDED["signatures"]
SCHEME = "ecdsa-sha2-nistp256"
INTEGRITY = "sha512-" + base64.b64encode(bytes(64)).decode()
EXPIRY = datetime(2025, 1, 29, tzinfo=UTC)
PRIVATE = ec.derive_private_key(7, ec.SECP256R1())


def make_key(keyid: str = "ours", *, secret: int = 7, expires: datetime | None = None) -> RegistryKey:
    public = ec.derive_private_key(secret, ec.SECP256R1()).public_key()
    der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return RegistryKey(keyid, SCHEME, SCHEME, base64.b64encode(der).decode(), expires)


def sign(text: str, *, secret: int = 7) -> str:
    private = ec.derive_private_key(secret, ec.SECP256R1())
    return base64.b64encode(private.sign(text.encode(), ec.ECDSA(SHA256()))).decode()


GOOD = sign(f"a@1.0.0:{INTEGRITY}")


def judge(
    signatures: list[tuple[str, str]],
    *keys: RegistryKey,
    name: str = "a",
    integrity: str | None = INTEGRITY,
    published: datetime | None = None,
) -> SignatureOutcome:
    return check_signatures(
        name=name,
        version="1.0.0",
        integrity=integrity,
        signatures=signatures,
        published=published,
        keys=KeyRing(keys),
    )


def judge_recorded(vector: dict[str, Any], keys: KeyRing = RECORDED_KEYS) -> SignatureOutcome:
    return check_signatures(
        name=vector["name"],
        version=vector["version"],
        integrity=vector["integrity"],
        signatures=[(vector["keyid"], vector["sig"])],
        published=parse_time(vector["published"]) if vector["published"] else None,
        keys=keys,
    )


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: f"{vector['name']}@{vector['version']}")
def test_row_12_recorded_signatures_verify_and_any_change_is_bad(vector: dict[str, Any]) -> None:
    """P1, row 12: the registry's own signatures verify; another name, version, integrity or key does not."""
    other_key = next(key for key in RECORDED_KEYS.keys if key.keyid != vector["keyid"])
    swapped = KeyRing((replace(other_key, keyid=vector["keyid"], expires=None),))
    changed = [
        {**vector, "name": vector["name"] + "x"},
        {**vector, "version": vector["version"] + "0"},
        {**vector, "integrity": "sha512-" + base64.b64encode(bytes(64)).decode()},
        {**vector, "integrity": vector["integrity"] + " "},
    ]
    assert judge_recorded(vector) is SignatureOutcome.VERIFIED
    assert [judge_recorded(other) for other in changed] == [SignatureOutcome.BAD] * 4
    assert judge_recorded(vector, swapped) is SignatureOutcome.BAD


def test_the_recorded_table_is_complete() -> None:
    """Two keys and five signatures, so nothing was lost on the way."""
    assert (len(RECORDED_KEYS.keys), len(VECTORS)) == (2, 5)


@pytest.mark.parametrize("key", RECORDED_KEYS.keys, ids=lambda key: str(key.keyid))
def test_the_public_registrys_keyids_are_openssh_fingerprints(key: RegistryKey) -> None:
    """Research/B 2.6: the keyid is the hash of the SSH wire encoding."""
    assert fingerprint(key) == key.keyid


def test_a_fingerprint_of_another_kind_of_key_is_refused() -> None:
    """Only P-256 keys have one here."""
    with pytest.raises(SignatureError, match="not a P-256 public key"):
        fingerprint(replace(make_key(), key="AAAA"))


@pytest.mark.parametrize(
    ("signatures", "keys", "expected"),
    [
        ([], [make_key()], SignatureOutcome.UNSIGNED),
        ([], [], SignatureOutcome.UNSIGNED),
        ([("ours", GOOD)], [], SignatureOutcome.NO_KEYS),
        ([("ours", GOOD)], [make_key()], SignatureOutcome.VERIFIED),
        ([("ours", GOOD), ("ours", sign(f"a@1.0.0:{INTEGRITY}"))], [make_key()], SignatureOutcome.VERIFIED),
        ([("other", GOOD)], [make_key()], SignatureOutcome.UNKNOWN_KEY),
        ([("", "")], [make_key()], SignatureOutcome.UNKNOWN_KEY),
        ([("ours", GOOD), ("other", GOOD)], [make_key()], SignatureOutcome.UNKNOWN_KEY),
        ([("other", GOOD), ("ours", "AAAA")], [make_key()], SignatureOutcome.BAD),
        ([("ours", "")], [make_key()], SignatureOutcome.BAD),
        ([("ours", "not base64!")], [make_key()], SignatureOutcome.BAD),
        ([("ours", "é")], [make_key()], SignatureOutcome.BAD),
        ([("ours", GOOD + "AAAA")], [make_key()], SignatureOutcome.BAD),
        ([("ours", GOOD)], [make_key(secret=8)], SignatureOutcome.BAD),
        ([("ours", GOOD)], [replace(make_key(), scheme="rsa")], SignatureOutcome.UNKNOWN_KEY),
        ([("ours", GOOD)], [replace(make_key(), keytype="rsa")], SignatureOutcome.UNKNOWN_KEY),
        ([("ours", GOOD)], [replace(make_key(), key="AAAA")], SignatureOutcome.UNKNOWN_KEY),
    ],
)
def test_row_12_each_outcome_is_told_apart(
    signatures: list[tuple[str, str]], keys: list[RegistryKey], expected: SignatureOutcome
) -> None:
    """Row 12: missing, unknown, bad and good are different things, and the worst entry counts."""
    assert judge(signatures, *keys) is expected


def test_attack_stripped_integrity_is_bad() -> None:
    """P1: a signed version whose integrity was taken away does not become unsigned."""
    assert judge([("ours", GOOD)], make_key(), integrity=None) is SignatureOutcome.BAD


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        (EXPIRY - timedelta(milliseconds=1), SignatureOutcome.VERIFIED),
        (EXPIRY, SignatureOutcome.EXPIRED_KEY),
        (EXPIRY + timedelta(days=1), SignatureOutcome.EXPIRED_KEY),
        (None, SignatureOutcome.VERIFIED),
    ],
)
def test_row_12_a_key_counts_for_what_was_published_before_it_expired(
    published: datetime | None, expected: SignatureOutcome
) -> None:
    """Row 12: valid iff published < expires; no time means 2015-01-01."""
    assert judge([("ours", GOOD)], make_key(expires=EXPIRY), published=published) is expected


def test_a_version_without_time_is_after_a_key_that_expired_in_2014() -> None:
    """The stand-in for a missing time is a date, not a pardon."""
    key = make_key(expires=datetime(2014, 1, 1, tzinfo=UTC))
    assert judge([("ours", GOOD)], key) is SignatureOutcome.EXPIRED_KEY


@pytest.mark.parametrize(
    "other",
    [
        ec.derive_private_key(7, ec.SECP384R1()).public_key(),
        ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key(),
    ],
)
def test_a_key_that_is_not_what_its_scheme_says_verifies_nothing(
    other: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey,
) -> None:
    """A P-384 or Ed25519 key under the P-256 label is as good as unknown."""
    der = other.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key = replace(make_key(), key=base64.b64encode(der).decode())
    assert judge([("ours", GOOD)], key) is SignatureOutcome.UNKNOWN_KEY


def test_policies_accept_what_they_say() -> None:
    """REQUIRE takes verified ones only, VERIFY refuses what is wrong, OFF takes all."""
    accepted = {
        policy: {outcome for outcome in SignatureOutcome if is_accepted(outcome, policy)} for policy in SignaturePolicy
    }
    assert accepted == {
        SignaturePolicy.REQUIRE: {SignatureOutcome.VERIFIED},
        SignaturePolicy.VERIFY: set(SignatureOutcome) - {SignatureOutcome.BAD, SignatureOutcome.EXPIRED_KEY},
        SignaturePolicy.OFF: set(SignatureOutcome),
    }


def test_a_keys_document_round_trips() -> None:
    """What we serve is what we were told, expiry with milliseconds included."""
    written = format_keys(RECORDED_KEYS)
    assert parse_keys(written) == RECORDED_KEYS
    assert json.loads(written) == {"keys": RECORDED["keys"]}


def test_row_13_merging_never_drops_a_key_and_takes_the_newer_description() -> None:
    """Row 13: a rotated keys document keeps the key that signed old versions."""
    old, new = make_key("old"), make_key("new", secret=8)
    expired = replace(old, expires=EXPIRY)
    assert KeyRing((old,)).merge(KeyRing((new,))).keys == (old, new)
    assert KeyRing((old, new)).merge(KeyRing((expired,))).keys == (expired, new)
    assert KeyRing((old,)).merge(KeyRing()).keys == (old,)


def test_attack_the_same_keyid_with_another_key_is_evidence() -> None:
    """A keyid that changes its key raises, between documents and inside one."""
    first, second = make_key(), make_key(secret=8)
    with pytest.raises(SignatureError, match="keyid ours was the key"):
        KeyRing((first,)).merge(KeyRing((second,)))
    with pytest.raises(SignatureError, match="keyid ours was the key"):
        parse_keys(format_keys(KeyRing((first, second))))


ENTRY = {"keyid": "k", "keytype": SCHEME, "scheme": SCHEME, "key": "AAAA", "expires": None}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys":{}}',
        b'{"keys":[1]}',
        b"[" * 100_000,
        b"\xff",
        json.dumps({"keys": [{**ENTRY, "keyid": ""}]}).encode(),
        json.dumps({"keys": [{**ENTRY, "keyid": "a\nb"}]}).encode(),
        json.dumps({"keys": [{**ENTRY, "key": 5}]}).encode(),
        json.dumps({"keys": [{**ENTRY, "key": "\ud800"}]}).encode(),
        json.dumps({"keys": [{**ENTRY, "expires": "soon"}]}).encode(),
        json.dumps({"keys": [{**ENTRY, "expires": 5}]}).encode(),
        b" " * (MAX_KEYS_BYTES + 1),
    ],
)
def test_row_13_a_keys_document_of_another_shape_is_refused(body: bytes) -> None:
    """Row 13: an unreadable keys document is an upstream error, never an empty key set or an endless key."""
    with pytest.raises(UpstreamProtocolError, match="keys document"):
        parse_keys(body)


def test_an_empty_keys_document_has_no_keys() -> None:
    """No keys is an answer."""
    assert parse_keys(b'{"keys":[]}') == KeyRing()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2018-05-31T20:04:53.306Z", datetime(2018, 5, 31, 20, 4, 53, 306_000, tzinfo=UTC)),
        ("2018-05-31T20:04:53Z", datetime(2018, 5, 31, 20, 4, 53, tzinfo=UTC)),
        ("2018-05-31T20:04:53.3Z", datetime(2018, 5, 31, 20, 4, 53, 300_000, tzinfo=UTC)),
        ("2018-05-31T22:04:53+02:00", datetime(2018, 5, 31, 20, 4, 53, tzinfo=UTC)),
        ("2018-13-31T20:04:53Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("2018-05-31", None),
        ("2018-05-31T20:04:53", None),
        ("2018-05-31T20:04:53Z\n", None),
        ("٢٠١٨-05-31T20:04:53Z", None),
        ("", None),
    ],
)
def test_times_are_read_strictly(text: str, expected: datetime | None) -> None:
    """Only full times with a zone; anything else is no time."""
    assert parse_time(text) == expected


def test_a_name_that_is_no_text_is_judged_and_not_an_error() -> None:
    """Lone surrogates are what JSON can hold: the signature is bad, and nothing falls over (row 25)."""
    assert judge([("ours", GOOD)], make_key(), name="a\ud800") is SignatureOutcome.BAD


def test_a_signature_over_no_integrity_is_over_the_empty_one() -> None:
    """What is signed where the manifest has none: name, version, and nothing behind the colon."""
    assert judge([("ours", sign("a@1.0.0:"))], make_key(), integrity=None) is SignatureOutcome.VERIFIED
    assert judge([("ours", sign("a@1.0.0:None"))], make_key(), integrity=None) is SignatureOutcome.BAD


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/St_Johns"])
def test_times_do_not_depend_on_the_machines_zone(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stored keys document is the same wherever it was written, and so is an expiry."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        moment = parse_time("2025-01-29T00:00:00.000Z")
        assert moment is not None
        assert (moment, moment.utcoffset()) == (EXPIRY, timedelta(0))
        ours = EXPIRY.astimezone(timezone(timedelta(hours=-5)))
        assert b'"expires": "2025-01-29T00:00:00.000Z"' in format_keys(KeyRing((make_key(expires=ours),)))
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_largest_keys_document_is_still_read() -> None:
    """The bound is on what is longer; the message of what is not a list, or not a time, shows what was found."""
    body = b'{"keys": []}'
    assert parse_keys(body + b" " * (MAX_KEYS_BYTES - len(body))) == KeyRing()
    with pytest.raises(UpstreamProtocolError, match=r"^keys document has no list of keys$"):
        parse_keys(b'{"keys": {}}')
    entry = {"keyid": "k", "keytype": "t", "scheme": "s", "key": "x", "expires": "soon"}
    with pytest.raises(UpstreamProtocolError, match=r"^keys document: expires of 'k' is not a time: 'soon'$"):
        parse_keys(json.dumps({"keys": [entry]}).encode())
    with pytest.raises(UpstreamProtocolError, match=r"^keys document: an entry's scheme is not text: 5$"):
        parse_keys(json.dumps({"keys": [entry | {"scheme": 5}]}).encode())


def test_the_stored_keys_document_is_for_people_too() -> None:
    """Indented, with a newline at its end: whoever compares two mirrors' keys reads it."""
    assert format_keys(KeyRing((make_key(),))).startswith(b'{\n  "keys": [\n    {\n      "expires": null,\n')
