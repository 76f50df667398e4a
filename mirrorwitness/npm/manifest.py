"""One version's manifest: the few members that a mirror reads.

Rules:

- ``name``, ``version`` and ``dist`` are type-checked, and what is wrong with them is said in `Manifest.refused`.
- Everything else is a hint or opaque: a wrong type there is nobody's fault and refuses nothing.
- ``dist.integrity`` is None where it is missing, null or empty (npm's clients treat the three alike).
- A malformed entry of ``dist.signatures`` stays an entry, with an empty keyid or signature: it can never verify, and
  leaving it away would make a signed version look unsigned.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

import msgspec
from msgspec import Raw

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.json_text import ABSENT, is_encodable, is_object, read_string, read_value, split_members
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.ranges import normalize_version

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Manifest", "ManifestText", "has_install_script", "make_manifest", "read_manifest"]

_INSTALL_SCRIPTS: Final = ("preinstall", "install", "postinstall")
_SHOWN: Final = 100
"""Most characters of a wrong name or version that a reason repeats."""


class Manifest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What one version says of itself. A msgspec struct, because a document can have 37,000 of them.

    Attributes:
        version: the key in ``versions``.
        tarball: ``dist.tarball`` as upstream wrote it.
        integrity: ``dist.integrity``, None where there is none.
        shasum: ``dist.shasum``, None where there is none.
        signatures: (keyid, sig) of each entry of ``dist.signatures``.
        has_attestations: ``dist.attestations`` is an object.
        unpacked_size: ``dist.unpackedSize`` in bytes, a claim that nobody checked.
        deprecated: the message, None where the version is not deprecated.
        has_install_script: npm will run something on installation.
        refused: why this version cannot be trusted; None where it can be looked at further.
    """

    version: Version
    tarball: str
    integrity: str | None = None
    shasum: str | None = None
    signatures: tuple[tuple[str, str], ...] = ()
    has_attestations: bool = False
    unpacked_size: int | None = None
    deprecated: str | None = None
    has_install_script: bool = False
    refused: str | None = None


class _Signature(msgspec.Struct, gc=False):
    keyid: str
    sig: str


class DistText(msgspec.Struct, gc=False, rename="camel"):
    """``dist`` of the usual shape."""

    tarball: str
    integrity: str | None = None
    shasum: str | None = None
    signatures: list[_Signature] | None = None
    attestations: Raw = ABSENT
    unpacked_size: int | None = None


class ManifestText(msgspec.Struct, gc=False):
    """A manifest of the usual shape; any other goes through `read_manifest`."""

    dist: DistText
    name: str | None = None
    version: str | None = None
    deprecated: str | bool | None = None
    scripts: Raw = ABSENT


def make_manifest(key: str, text: ManifestText, name: PackageName) -> Manifest:
    """Judge a manifest that was decoded under its document's eyes.

    Args:
        key: its key in ``versions``.
        text: the manifest.
        name: the document's name.

    Returns:
        The manifest, refused where it is not about `key` and `name`.
    """
    dist, size = text.dist, text.dist.unpacked_size
    is_as_expected = text.version == key and text.name == name and dist.tarball
    return Manifest(
        version=Version(key),
        tarball=dist.tarball,
        integrity=dist.integrity or None,
        shasum=dist.shasum or None,
        signatures=tuple([(entry.keyid, entry.sig) for entry in dist.signatures]) if dist.signatures else (),
        has_attestations=dist.attestations is not ABSENT and is_object(dist.attestations),
        unpacked_size=None if size is None else _check_size(size),
        deprecated=text.deprecated if text.deprecated and isinstance(text.deprecated, str) else None,
        has_install_script=text.scripts is not ABSENT and has_install_script(text.scripts),
        refused=None if is_as_expected else _find_fault(key, text.name, text.version, name, dist.tarball),
    )


def read_manifest(key: str, raw: Raw, name: PackageName) -> Manifest:
    """Read a manifest of any shape, member by member.

    Args:
        key: its key in ``versions``.
        raw: its JSON.
        name: the document's name.

    Returns:
        The manifest; never raises, whatever is wrong is in `Manifest.refused`.
    """
    try:
        return make_manifest(key, _MANIFEST.decode(raw), name)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _read_slowly(key, split_members(raw), name)
    except UpstreamProtocolError as error:
        return Manifest(version=Version(key), tarball="", refused=str(error))


def has_install_script(scripts: Raw) -> bool:
    """Return whether ``scripts`` makes npm run something when the package is installed."""
    text = bytes(scripts)
    if b"install" not in text and b"\\u" not in text:
        return False  # the usual case, without decoding
    return is_object(scripts) and any(script in split_members(scripts) for script in _INSTALL_SCRIPTS)


_MANIFEST: Final = msgspec.json.Decoder(ManifestText)


def _read_slowly(key: str, members: Mapping[str, Raw], name: PackageName) -> Manifest:
    raw = members.get("dist", ABSENT)
    dist = split_members(raw) if is_object(raw) else {}
    tarball = read_string(dist.get("tarball", ABSENT)) or ""
    integrity = read_value(dist.get("integrity", ABSENT))
    fault = _find_fault(key, _read_claim(members, "name"), _read_claim(members, "version"), name, tarball)
    if not is_object(raw):
        fault = "it has no dist"
    elif integrity is not None and not isinstance(integrity, str):
        fault = "its dist.integrity is not a string"
    elif isinstance(integrity, str) and not is_encodable(integrity):
        fault = "its dist.integrity is not valid Unicode"
    return Manifest(
        version=Version(key),
        tarball=tarball,
        integrity=integrity or None if isinstance(integrity, str) and fault is None else None,
        shasum=read_string(dist.get("shasum", ABSENT)) or None,
        signatures=_read_signatures(read_value(dist.get("signatures", ABSENT))),
        has_attestations=is_object(dist.get("attestations", ABSENT)),
        unpacked_size=_check_size(read_value(dist.get("unpackedSize", ABSENT))),
        deprecated=read_string(members.get("deprecated", ABSENT)) or None,
        has_install_script=has_install_script(members.get("scripts", ABSENT)),
        refused=fault,
    )


def _read_claim(members: Mapping[str, Raw], key: str) -> str | None:
    raw = members.get(key, ABSENT)
    return None if read_value(raw) is None else read_string(raw) or ""


def _read_signatures(value: object) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, list):
        return ()
    return tuple([_read_signature(entry) for entry in cast("list[object]", value)])


def _read_signature(entry: object) -> tuple[str, str]:
    if not isinstance(entry, dict):
        return "", ""
    members = cast("dict[str, object]", entry)
    keyid, sig = members.get("keyid"), members.get("sig")
    return (
        keyid if isinstance(keyid, str) and is_encodable(keyid) else "",
        sig if isinstance(sig, str) and is_encodable(sig) else "",
    )


def _check_size(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _find_fault(key: str, name: str | None, version: str | None, expected: PackageName, tarball: str) -> str | None:
    if not is_encodable(key):
        return "its key is not valid Unicode"
    if name is not None and name != expected:
        return f"it names the package {ascii(name)[:_SHOWN]}"
    if version is not None and version != key and normalize_version(version) != key:
        return f"it names the version {ascii(version)[:_SHOWN]}"
    if not tarball:
        return "its dist.tarball is not a URL"
    return None
