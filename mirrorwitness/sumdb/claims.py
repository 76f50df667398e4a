"""Claims: what a registry's document says of one version, judged before a byte of it is fetched. Pure.

A claim is refused, with a reason that has a count of its own, where

- the document contradicts itself, or says what no record can hold (``malformed``);
- it has no SHA-512 (``no-sha512``), or several digests of one algorithm, so that more than one content would fit, or it
  is signed in another spelling than the record's, so that nobody could check the signature (``ambiguous``);
- a signature does not verify, or its key had expired (``signature``), or is one that the registry does not publish
  (``unknown-key``); or it has none, and one is required or was there before (``unsigned``);
- its bytes, once they are there, are not what they should be (``bytes``).

What is left is fetched and verified (`mirrorwitness.sumdb.tarballs`); `make_record` then writes down what was claimed
and found. Only a claim that would be logged can put the log in conflict with what it says: otherwise anybody between
the registry and us could take a version away from everyone with a few bytes of JSON.

SPEC: research/A 2.3, research/B 2.5, 2.6.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.npm.canonical import hash_manifest
from mirrorwitness.npm.integrity import parse_integrity
from mirrorwitness.npm.signatures import SignatureOutcome, check_manifest
from mirrorwitness.sumdb.records import Event, Record, is_recorded_version, is_time, normalize_integrity

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Manifest, Packument
    from mirrorwitness.npm.signatures import KeyRing

__all__ = ["Claim", "Refusal", "Refused", "make_claim", "make_evidence", "make_record"]

_SHASUM: Final = re.compile(r"[0-9a-f]{40}")


class Refusal(StrEnum):
    """Why a version is not logged."""

    MALFORMED = "malformed"
    NO_SHA512 = "no-sha512"
    AMBIGUOUS = "ambiguous"
    SIGNATURE = "signature"
    UNKNOWN_KEY = "unknown-key"
    UNSIGNED = "unsigned"
    BYTES = "bytes"

    @property
    def is_divergence(self) -> bool:
        """Whether something was found that disagrees, and not only something that is missing (P3)."""
        return self in {Refusal.SIGNATURE, Refusal.BYTES}


@dataclass(frozen=True, slots=True)
class Refused:
    """A version that is not logged.

    Attributes:
        kind: why, as a word.
        reason: why, as a sentence.
    """

    kind: Refusal
    reason: str


@dataclass(frozen=True, slots=True)
class Claim:
    """What is said of one version, and may be logged once its bytes are seen.

    Attributes:
        registry: who says it.
        name: the package.
        version: the version.
        integrity: what the bytes are, as records have it.
        shasum: their SHA-1 as the registry says it, None where it does not.
        url: where they are.
        signatures: of the registry, all verified.
        published: when, None where it does not say so in a form that records have.
        is_attested: whether there is a document of attestations.
        text: the version's object as it stands in the document.
    """

    registry: str
    name: PackageName
    version: Version
    integrity: str
    shasum: str | None
    url: str
    signatures: tuple[tuple[str, str], ...]
    published: str | None
    is_attested: bool
    text: bytes = field(repr=False)

    def __str__(self) -> str:
        """Return the version's name, for messages."""
        return f"{self.name}@{self.version}"


def make_claim(
    packument: Packument, version: Version, text: bytes, *, registry: str, keys: KeyRing, must_be_signed: bool
) -> Claim | Refused:
    """Judge what a document says of a version.

    Args:
        packument: the registry's document.
        version: one of its versions.
        text: the version's object in it.
        registry: who says it, as records have it.
        keys: its keys.
        must_be_signed: unsigned versions are refused.
    """
    manifest = packument.versions[version]
    if manifest.refused is not None:
        return Refused(Refusal.MALFORMED, manifest.refused)
    if not is_recorded_version(version):
        return Refused(Refusal.MALFORMED, "its version has characters that no record has, or too many")
    published = packument.time.get(version)
    refused = _judge_integrity(manifest) or _judge_signature(packument.name, manifest, published, keys, must_be_signed)
    if refused is not None:
        return refused
    shasum = (manifest.shasum or "").lower()
    return Claim(
        registry=registry,
        name=packument.name,
        version=version,
        integrity=normalize_integrity(manifest.integrity or ""),
        shasum=shasum if _SHASUM.fullmatch(shasum) else None,
        url=manifest.tarball,
        signatures=tuple(sorted(set(manifest.signatures))),
        published=published if published is not None and is_time(published) else None,
        is_attested=manifest.has_attestations,
        text=text,
    )


def make_record(
    claim: Claim, *, tarball_size: int, tarball_manifest: bytes | None, attestations: bytes | None
) -> Record:
    """Write down what was claimed, and found.

    Args:
        claim: what the registry says.
        tarball_size: how many bytes came.
        tarball_manifest: SHA-256 of the package.json in them.
        attestations: SHA-256 of the attestations.
    """
    return Record(
        registry=claim.registry,
        name=claim.name,
        version=claim.version,
        integrity=claim.integrity,
        tarball_size=tarball_size,
        shasum=claim.shasum,
        manifest=hash_manifest(claim.text),
        tarball_manifest=tarball_manifest,
        published=claim.published,
        signatures=claim.signatures,
        attestations=attestations,
        event=Event.PUBLISH,
    )


def make_evidence(claim: Claim, known: bytes, *, seen: str) -> bytes:
    """Return the document that shows that a registry says another integrity than it did.

    Args:
        claim: what it says now, word for word.
        known: the record of what it said.
        seen: when we saw it.
    """
    content: dict[str, object] = {
        "kind": "npm-sumdb-conflict/1",
        "registry": claim.registry,
        "package": str(claim),
        "known": known.decode(),
        "upstream": msgspec.Raw(claim.text),
        "published": claim.published,
        "seen": seen,
    }
    return msgspec.json.encode(content)


def _judge_integrity(manifest: Manifest) -> Refused | None:
    parsed = parse_integrity(manifest.integrity or "")
    if not parsed.digests("sha512"):
        return Refused(Refusal.NO_SHA512, f"its integrity is {ascii(manifest.integrity)[:200]}, without a SHA-512")
    if any(len(parsed.digests(found.algorithm)) > 1 for found in parsed.hashes):
        return Refused(Refusal.AMBIGUOUS, "its integrity has several digests of one algorithm: which bytes it is of?")
    if manifest.signatures and normalize_integrity(manifest.integrity or "") != manifest.integrity:
        return Refused(
            Refusal.AMBIGUOUS, "its integrity is signed in another spelling than <strongest> <weaker>, without options"
        )
    return None


def _judge_signature(
    name: PackageName,
    manifest: Manifest,
    published: str | None,
    keys: KeyRing,
    must_be_signed: bool,  # noqa: FBT001 - private
) -> Refused | None:
    outcome = check_manifest(manifest, name=name, published=published, keys=keys)
    if outcome is SignatureOutcome.UNSIGNED and must_be_signed:
        return Refused(Refusal.UNSIGNED, "the registry did not sign it")
    return _REFUSED.get(outcome)


_REFUSED: Final = {
    SignatureOutcome.BAD: Refused(Refusal.SIGNATURE, "a signature over name, version and integrity does not verify"),
    SignatureOutcome.EXPIRED_KEY: Refused(Refusal.SIGNATURE, "it was published after the key that signed it expired"),
    SignatureOutcome.UNKNOWN_KEY: Refused(Refusal.UNKNOWN_KEY, "signed with a key that the registry does not publish"),
    SignatureOutcome.NO_KEYS: Refused(Refusal.UNKNOWN_KEY, "signed, but the registry publishes no keys"),
}
