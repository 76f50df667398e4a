"""The registry's signatures over ``name@version:integrity``, and the keys that verify them.

Rules:

- ECDSA over P-256 with SHA-256; the signature is DER in base64; the message is the UTF-8 text
  ``name@version:integrity`` with the integrity exactly as it stands in the document.
- A key is valid for a version published *before* it expires. A version without a publish time counts as published on
  2015-01-01, as in npm's client.
- An entry under a keyid that we do not know makes the whole answer UNKNOWN_KEY, as in npm's client; a bad or expired
  entry beside it is worse and wins.
- A keyid is a label to look up by. Two different keys under one keyid are an attack and raise; keys are never dropped
  when key sets are merged, because old versions stay signed with old keys.
- A key of another type or scheme is kept and passed on, and verifies nothing.
- A signature over an integrity that the document no longer has is bad: stripping the integrity is an attack.

Known hole: ``time`` is not signed. Who serves the document can date a version before a stolen key's expiry; only a log
of what was published when closes that.

What this module does not do: fetch keys, or judge Sigstore attestations. Signatures prove who published, not that the
code is harmless.

SPEC: npm documentation, "ECDSA registry signatures"; research/B 2.6.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from mirrorwitness.errors import SignatureError, UpstreamProtocolError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.npm.manifest import Manifest

__all__ = [
    "MAX_KEYS_BYTES",
    "KeyRing",
    "RegistryKey",
    "SignatureOutcome",
    "SignaturePolicy",
    "check_manifest",
    "check_signatures",
    "fingerprint",
    "format_keys",
    "is_accepted",
    "parse_keys",
    "parse_time",
]

MAX_KEYS_BYTES: Final = 1 << 20
"""Largest keys document that is read; the real one has two keys in 500 bytes."""

_SCHEME: Final = "ecdsa-sha2-nistp256"
_UNKNOWN_PUBLISH_TIME: Final = datetime(2015, 1, 1, tzinfo=UTC)
_PARSED_KEYS: Final = 256
"""How many parsed keys are kept; a registry has two."""

_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(?:\.\d{1,9})?(?:Z|[+-]\d{2}:\d{2})", re.ASCII)


class SignatureOutcome(StrEnum):
    """What the signatures of one version say. Each has its own count."""

    VERIFIED = "verified"
    """Every entry is good."""
    UNSIGNED = "unsigned"
    """There is no entry."""
    NO_KEYS = "no-keys"
    """There are entries, and the registry has no keys."""
    UNKNOWN_KEY = "unknown-key"
    """An entry's keyid is not among the keys."""
    EXPIRED_KEY = "expired-key"
    """An entry verifies under a key that had expired when the version was published."""
    BAD = "bad"
    """An entry does not verify."""


class SignaturePolicy(StrEnum):
    """What a mirror wants of signatures."""

    REQUIRE = "require"
    """Only verified versions."""
    VERIFY = "verify"
    """Everything but what is bad or under an expired key."""
    OFF = "off"
    """Nothing is refused for its signatures."""


_VERIFY_REFUSES: Final = frozenset({SignatureOutcome.BAD, SignatureOutcome.EXPIRED_KEY})
_WORST_FIRST: Final = (SignatureOutcome.BAD, SignatureOutcome.EXPIRED_KEY, SignatureOutcome.UNKNOWN_KEY)


@dataclass(frozen=True, slots=True)
class RegistryKey:
    """One signing key as the registry publishes it.

    Attributes:
        keyid: the label that signatures name; on the public registry the key's OpenSSH fingerprint.
        keytype: for example ``ecdsa-sha2-nistp256``.
        scheme: the same.
        key: base64 of the DER public key, as received.
        expires: versions published from then on are not validly signed with it; None for never.
    """

    keyid: str
    keytype: str
    scheme: str
    key: str
    expires: datetime | None


@dataclass(frozen=True, slots=True)
class KeyRing:
    """Keys by keyid, in the order in which they were first seen."""

    keys: tuple[RegistryKey, ...] = ()

    def find(self, keyid: str) -> RegistryKey | None:
        """Return the key of that keyid, or None."""
        return next((key for key in self.keys if key.keyid == keyid), None)

    def merge(self, other: KeyRing) -> KeyRing:
        """Return the keys of both. Of one key in both, the description of `other` (the newer) holds.

        Raises:
            SignatureError: one keyid stands for two different keys.
        """
        merged = {key.keyid: key for key in self.keys}
        for key in other.keys:
            known = merged.get(key.keyid)
            if known is not None and known.key != key.key:
                raise SignatureError(f"keyid {key.keyid} was the key {known.key} and is now the key {key.key}")
            merged[key.keyid] = key
        return KeyRing(tuple(merged.values()))


def parse_keys(body: bytes) -> KeyRing:
    """Read a keys document.

    Args:
        body: the answer to ``/-/npm/v1/keys``.

    Returns:
        Its keys; entries of unknown type included.

    Raises:
        UpstreamProtocolError: not JSON of that shape, too large, or an entry lacks a member.
        SignatureError: one keyid stands for two different keys.
    """
    if len(body) > MAX_KEYS_BYTES:
        raise UpstreamProtocolError(f"keys document has {len(body)} bytes, more than {MAX_KEYS_BYTES}")
    try:
        document: object = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UpstreamProtocolError(f"keys document is not JSON; it begins with {body[:40]!r}") from error
    entries = cast("dict[str, object]", document).get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise UpstreamProtocolError("keys document has no list of keys")
    return KeyRing().merge(KeyRing(tuple([_read_key(entry) for entry in cast("list[object]", entries)])))


def format_keys(keys: KeyRing) -> bytes:
    """Write a keys document as npm's clients read it; `parse_keys` gives back the same keys."""
    document = {
        "keys": [
            {
                "expires": None if key.expires is None else _format_time(key.expires),
                "keyid": key.keyid,
                "keytype": key.keytype,
                "scheme": key.scheme,
                "key": key.key,
            }
            for key in keys.keys
        ]
    }
    return json.dumps(document, indent=2).encode() + b"\n"


def fingerprint(key: RegistryKey) -> str:
    """Return the OpenSSH fingerprint of a P-256 key: what the public registry uses as keyid.

    Raises:
        SignatureError: it is no P-256 key.
    """
    parsed = _load_key(key.key)
    if parsed is None:
        raise SignatureError(f"keyid {key.keyid}: not a P-256 public key")
    encoded = parsed.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[1]
    digest = hashlib.sha256(base64.b64decode(encoded)).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def check_signatures(
    *,
    name: str,
    version: str,
    integrity: str | None,
    signatures: Sequence[tuple[str, str]],
    published: datetime | None,
    keys: KeyRing,
) -> SignatureOutcome:
    """Judge the signatures of one version.

    Args:
        name: the package.
        version: the version.
        integrity: ``dist.integrity`` exactly as in the document.
        signatures: (keyid, sig) of each entry.
        published: when, by the document's ``time``; None where it does not say.
        keys: the registry's keys.

    Returns:
        The worst that any entry says.
    """
    if not signatures:
        return SignatureOutcome.UNSIGNED
    if not keys.keys:
        return SignatureOutcome.NO_KEYS
    message = f"{name}@{version}:{integrity or ''}".encode("utf-8", "surrogatepass")
    when = published or _UNKNOWN_PUBLISH_TIME
    outcomes = {_check_entry(message, keys.find(keyid), sig, when) for keyid, sig in signatures}
    return next((outcome for outcome in _WORST_FIRST if outcome in outcomes), SignatureOutcome.VERIFIED)


def check_manifest(manifest: Manifest, *, name: str, published: str | None, keys: KeyRing) -> SignatureOutcome:
    """Judge the signatures of a version as its document has them; see `check_signatures`.

    Args:
        manifest: the version.
        name: the package.
        published: what the document's ``time`` says of the version; None where it says nothing.
        keys: the registry's.
    """
    return check_signatures(
        name=name,
        version=manifest.version,
        integrity=manifest.integrity,
        signatures=manifest.signatures,
        published=None if published is None else parse_time(published),
        keys=keys,
    )


def is_accepted(outcome: SignatureOutcome, policy: SignaturePolicy) -> bool:
    """Return whether a policy lets a version with that outcome pass."""
    if policy is SignaturePolicy.OFF:
        return True
    if policy is SignaturePolicy.REQUIRE:
        return outcome is SignatureOutcome.VERIFIED
    return outcome not in _VERIFY_REFUSES


def parse_time(text: str) -> datetime | None:
    """Read a time as registries write it (``2018-05-31T20:04:53.306Z``); None for anything else."""
    if not _TIME.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _format_time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_key(entry: object) -> RegistryKey:
    members = cast("dict[str, object]", entry) if isinstance(entry, dict) else {}
    keyid, keytype, scheme, key = [_read_member(members, member) for member in ("keyid", "keytype", "scheme", "key")]
    expires = members.get("expires")
    if expires is None:
        return RegistryKey(keyid, keytype, scheme, key, None)
    moment = parse_time(expires) if isinstance(expires, str) else None
    if moment is None:  # an expiry that we cannot read must not become "never"
        raise UpstreamProtocolError(f"keys document: expires of {keyid[:100]!r} is not a time: {ascii(expires)[:100]}")
    return RegistryKey(keyid, keytype, scheme, key, moment)


def _read_member(members: dict[str, object], member: str) -> str:
    value = members.get(member)
    if not isinstance(value, str) or not value.isascii() or not value.isprintable() or not value:
        raise UpstreamProtocolError(f"keys document: an entry's {member} is not text: {ascii(value)[:100]}")
    return value


def _check_entry(message: bytes, key: RegistryKey | None, sig: str, published: datetime) -> SignatureOutcome:
    if key is None or key.scheme != _SCHEME or key.keytype != _SCHEME:
        return SignatureOutcome.UNKNOWN_KEY
    parsed = _load_key(key.key)
    if parsed is None:
        return SignatureOutcome.UNKNOWN_KEY
    try:
        parsed.verify(base64.b64decode(sig, validate=True), message, ec.ECDSA(SHA256()))
    except (InvalidSignature, ValueError):  # ValueError: not base64, or not ASCII
        return SignatureOutcome.BAD
    if key.expires is not None and published >= key.expires:
        return SignatureOutcome.EXPIRED_KEY
    return SignatureOutcome.VERIFIED


@lru_cache(maxsize=_PARSED_KEYS)
def _load_key(text: str) -> ec.EllipticCurvePublicKey | None:
    try:
        key = load_der_public_key(base64.b64decode(text, validate=True))
    except (ValueError, UnsupportedAlgorithm):
        return None
    return key if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1) else None
