"""Bundles: what a mirror has, to be carried to one that no network reaches. Here is the manifest. Pure.

    manifest.json           what the mirror had, sorted, and which objects of it are in this bundle
    manifest.json.sha256    its SHA-256, as ``sha256sum`` writes it: the bundle's id
    manifest.json.note      the same, signed with the mirror's key, where it has one
    objects/<sha256>        documents, tarballs, proofs, attestations and signing keys, each once

Rules:

- Deterministic: one mirror at one state gives one manifest, byte for byte. No time and no name of a machine stands in
  it; the same text has one spelling (`parse_manifest` takes no other).
- It lists everything that the mirror serves of the packages in it, also what an earlier bundle carried. So a bundle can
  be told complete without its predecessors: each object is in it, or was imported before.
- ``previous`` is the id of the bundle whose objects are left out; None for one that stands alone.
- The signed text begins with what it is: a signature over a bundle is none over a checkpoint or a description.

Known limit: the manifest is held in memory, so it has at most `MAX_MANIFEST_BYTES`: some 200,000 versions. A larger
mirror is exported in several bundles, by names.

What it does not do: read or write files (`mirrorwitness.mirror.bundlefile`), or verify objects
(`mirrorwitness.mirror.bundlecheck`).
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version, parse_name
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.note import open_note, sign_note

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

__all__ = [
    "IMPORTED_KEY",
    "MANIFEST",
    "MAX_MANIFEST_BYTES",
    "NOTE",
    "SUM",
    "BundledFile",
    "BundledLog",
    "BundledPackage",
    "Imported",
    "Link",
    "LogStep",
    "Manifest",
    "check_listing",
    "check_note",
    "exported_key",
    "format_manifest",
    "format_sum",
    "id_of",
    "is_id",
    "judge_order",
    "object_path",
    "parse_manifest",
    "sign_id",
]

FORMAT: Final = "mirrorwitness-bundle/1"

MANIFEST: Final = "manifest.json"
SUM: Final = "manifest.json.sha256"
NOTE: Final = "manifest.json.note"

IMPORTED_KEY: Final = "state/bundle/imported.json"
"""Where a mirror remembers which bundles it took in."""

MAX_MANIFEST_BYTES: Final = 64 * 1024 * 1024
"""Largest manifest in bytes: 200,000 versions of 320 bytes each; read, it takes some 300 MB."""

CHAIN_KEPT: Final = 10_000
"""Ids of imported bundles that are remembered: one a day for 27 years, 660 kB."""

_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_SHOWN: Final = 16


class BundledFile(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One tarball.

    Attributes:
        version: whose it is.
        file: its name; the key is ``npm/<package>/-/<file>``.
        sha256: hex digest of its bytes: the name of its object.
        size: bytes.
        integrity: their SHA-512, as Subresource-Integrity text.
        proof: the object of the log's proof that lies beside it; None where there is none.
        attestations: the object of the registry's attestations; None where there are none.
    """

    version: Version
    file: str
    sha256: str
    size: int
    integrity: str
    proof: str | None = None
    attestations: str | None = None

    def objects(self) -> Iterator[str]:
        """Yield the digests of what belongs to it."""
        yield from (digest for digest in (self.sha256, self.proof, self.attestations) if digest is not None)


class BundledPackage(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One package.

    Attributes:
        name: the package.
        packument: the object of its full document; the abbreviated one is made from it.
        files: its tarballs, one for each version that the document names, by version.
    """

    name: PackageName
    packument: str
    files: tuple[BundledFile, ...] = ()


class LogStep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the log has grown since the bundle before.

    Attributes:
        size: the size of the tree that the bundle before had.
        root: base64 of the root that the newer tree has at that size.
        hashes: base64 of the consistency proof from there.
    """

    size: int
    root: str
    hashes: tuple[str, ...]


class BundledLog(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """The checksum database that the mirror checks against.

    Attributes:
        checkpoint: the newest one that the mirror verified, as it was signed and cosigned.
        since: how it goes on from that of the bundle before.
    """

    checkpoint: str
    since: LogStep | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a bundle has, and what it belongs to.

    Attributes:
        packages: the packages, by name.
        objects: digest → bytes, of every object that is in this bundle.
        previous: the bundle that it goes on from.
        keys: the object of the registry's signing keys.
        log: the checksum database; None where the mirror asks none.
        signer: the key that the id is signed with; None where it is not signed.
        format: `FORMAT`.
    """

    packages: tuple[BundledPackage, ...]
    objects: dict[str, int]
    previous: str | None = None
    keys: str | None = None
    log: BundledLog | None = None
    signer: str | None = None
    format: str = ""

    def needed(self) -> Iterator[str]:
        """Yield the digests of everything that it lists, in this bundle or not; some more than once."""
        if self.keys is not None:
            yield self.keys
        for package in self.packages:
            yield package.packument
            for file in package.files:
                yield from file.objects()


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """What a mirror remembers of the bundles that it took in.

    Attributes:
        id: the newest.
        chain: all of them, the oldest first.
    """

    id: str
    chain: tuple[str, ...]

    @staticmethod
    def after(bundle: str, before: Imported | None) -> Imported:
        """Return what is remembered once a bundle is imported."""
        chain = () if before is None else tuple([known for known in before.chain if known != bundle])
        return Imported(id=bundle, chain=(*chain, bundle)[-CHAIN_KEPT:])


class Link(StrEnum):
    """How a bundle belongs to what was imported before."""

    FIRST = "first"
    """Nothing was imported yet."""
    AGAIN = "again"
    """It is the newest that was imported: the work is gone through again, and goes on where it stopped."""
    NEXT = "next"
    """It goes on from a bundle that was imported."""
    ANEW = "anew"
    """It stands alone, after others."""


def format_manifest(manifest: Manifest) -> bytes:
    """Write a manifest.

    Raises:
        ConfigurationError: it is too large.
    """
    body = msgspec.json.encode(msgspec.structs.replace(manifest, format=FORMAT), order="sorted") + b"\n"
    if len(body) > MAX_MANIFEST_BYTES:
        raise ConfigurationError(
            f"the manifest has {len(body):,} bytes, more than {MAX_MANIFEST_BYTES:,}: export the packages in several "
            "bundles, by NAMES"
        )
    return body


def parse_manifest(body: bytes) -> Manifest:
    """Read a manifest; `format_manifest` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is none, or not as this program writes it.
    """
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
        is_same = format_manifest(manifest) == body
        fault = _find_fault(manifest)
    except (*UNREADABLE_JSON, ConfigurationError) as error:
        raise UpstreamProtocolError(f"{MANIFEST}: not a bundle's manifest: {error}") from error
    if fault is None and not is_same:
        fault = "it is not spelt as an export writes it"
    if fault is not None:
        raise UpstreamProtocolError(f"{MANIFEST}: {fault}")
    return manifest


def id_of(body: bytes) -> str:
    """Return the id of the bundle with this manifest."""
    return hashlib.sha256(body).hexdigest()


def is_id(text: str) -> bool:
    """Say whether a text can be the id of a bundle, or the digest of an object."""
    return _DIGEST.fullmatch(text) is not None


def object_path(digest: str) -> str:
    """Return where in a bundle an object is."""
    return f"objects/{digest}"


def exported_key(bundle: str) -> str:
    """Return where a mirror keeps the manifest of a bundle that it wrote, for the next one to go on from."""
    return f"state/bundle/exported/{bundle}.json"


def format_sum(bundle: str) -> bytes:
    """Write what `SUM` holds: ``sha256sum -c`` reads it."""
    return f"{bundle}  {MANIFEST}\n".encode()


def sign_id(bundle: str, key: SignerKey) -> bytes:
    """Return the note that signs a bundle."""
    return sign_note(f"{FORMAT}\n{bundle}\n".encode(), [key])


def check_note(bundle: str, note: bytes, key: VerifierKey) -> None:
    """Check that a key signed a bundle.

    Raises:
        UpstreamProtocolError: it is no note.
        SignatureError: the key did not sign it, or signed something else.
    """
    opened, _ = open_note(note, [key])
    expected = f"{FORMAT}\n{bundle}\n".encode()
    if opened.text != expected:
        raise SignatureError(f"{NOTE}: {key.name} signed {opened.text[:100]!r}, expected {expected!r}")


def judge_order(bundle: str, previous: str | None, imported: Imported | None) -> Link:
    """Say how a bundle belongs to what was imported before.

    Raises:
        ConfigurationError: there is a gap before it, or it is older than what was imported; nothing may be done.
    """
    if imported is not None and bundle == imported.id:
        return Link.AGAIN
    if imported is not None and bundle in imported.chain:
        raise ConfigurationError(
            f"the bundle {bundle} was imported before, and others after it; the newest is {imported.id}: nothing is "
            "taken from an older one"
        )
    if previous is None:
        return Link.FIRST if imported is None else Link.ANEW
    if imported is None or previous not in imported.chain:
        newest = "none was imported yet" if imported is None else f"the newest that was imported is {imported.id}"
        raise ConfigurationError(
            f"the bundle {bundle} goes on from {previous}, which was never imported here ({newest}): import that one "
            "first, or export one that stands alone (without --since)"
        )
    return Link.NEXT


def check_listing(package: BundledPackage, packument: Packument) -> None:
    """Check that a manifest lists exactly the versions that the package's document names.

    Raises:
        UpstreamProtocolError: it does not; the message names one that differs.
    """
    listed = {file.version for file in package.files}
    odd = sorted(listed ^ packument.versions.keys())
    if odd:
        where = "its files" if odd[0] in listed else "its document"
        raise UpstreamProtocolError(
            f"{MANIFEST}: {package.name}: {odd[0]} is in {where} alone, {len(odd)} versions differ; a document must "
            "name exactly what is there"
        )
    for file in package.files:
        refused = packument.versions[file.version].refused
        if refused is not None:
            raise UpstreamProtocolError(
                f"{MANIFEST}: {package.name}@{file.version}: the document is damaged: {refused}"
            )


def _find_fault(manifest: Manifest) -> str | None:
    """Return what is wrong with a manifest beyond its shape, None where nothing is."""
    if manifest.format != FORMAT:
        return f"its format is {manifest.format[:100]!r}, expected {FORMAT!r}"
    names = [package.name for package in manifest.packages]
    if names != sorted(set(names)):
        return "its packages are not in order, or one is there twice"
    needed = set(manifest.needed())
    odd = next((text for text in (*needed, *manifest.objects, manifest.previous or "0" * 64) if not is_id(text)), None)
    if odd is not None:
        return f"{odd[:100]!r} is no SHA-256"
    stray = manifest.objects.keys() - needed
    if stray:
        return f"object {min(stray)[:_SHOWN]}… belongs to nothing"
    if manifest.signer is not None:
        parse_verifier_key(manifest.signer)
    return next((fault for package in manifest.packages if (fault := _find_package_fault(package))), None)


def _find_package_fault(package: BundledPackage) -> str | None:
    parse_name(package.name)
    versions = [file.version for file in package.files]
    if versions != sorted(set(versions)):
        return f"{package.name}: its versions are not in order, or one is there twice"
    if len({file.file for file in package.files}) != len(versions):
        return f"{package.name}: two versions have one file"
    odd = next((file for file in package.files if file.size < 0 or "/" in file.file or not file.file), None)
    return None if odd is None else f"{package.name}@{odd.version}: file {odd.file[:100]!r} of {odd.size} bytes"
