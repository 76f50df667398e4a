"""A package's full document: what it says of each version, and the same document with fewer versions.

Rules:

- Only what was decoded here is believed: `Manifest` is made from the very members that `render_full` writes.
- Version objects are opaque JSON but for ``name``, ``version`` and ``dist`` (and hints that decide nothing):
  dependencies may be arrays, licences of any shape, keys ``__proto__``. Bytes that are not concerned stay (P4):
  `render_full` leaves away versions, repairs ``dist-tags`` and rewrites ``dist.tarball``, nothing else. ``time`` stays
  whole; ``integrity`` and ``signatures`` are never touched, recomputed or invented.
- One bad version never spoils the others: it has `Manifest.refused` and is never rendered.
- The document's name and the key of ``versions`` are trusted; a version object that names another package or version
  is refused. Loose spellings of the same version are the same: the key ``1.0.0-beta`` holds ``1.0.0beta`` in documents
  of 2010.
- Odd JSON (row 25 of research/B 7): not UTF-8, malformed or nested too deeply refuses the document; duplicate keys:
  the last wins and alone is written; lone surrogates, ``-0``, ``1e400`` and numbers of any length are kept.
- ``latest`` always resolves: a document with versions has it, also where upstream's had none.

What this module does not do: verify bytes or signatures, or choose versions.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import BytesIO
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.npm.json_text import (
    ABSENT,
    check_utf8,
    encode_key,
    is_object,
    join_members,
    read_string,
    split_members,
)
from mirrorwitness.npm.manifest import Manifest, ManifestText, make_manifest, read_manifest
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.ranges import Order, is_prerelease, version_order

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

__all__ = [
    "Manifest",
    "Packument",
    "parse_packument",
    "render_dist_tags",
    "render_full",
    "repair_dist_tags",
    "rev_number",
    "rewrite_dist",
    "rewrite_manifest",
    "select_versions",
]

_MAX_REV_DIGITS: Final = 18
"""Longest revision number that is believed; CouchDB counts updates, and nobody makes 10^18 of them."""

_REV: Final = re.compile(rf"(0|[1-9][0-9]{{0,{_MAX_REV_DIGITS - 1}}})-.+", re.DOTALL)
_HOLDER_VERSION: Final = re.compile(r"0\.0\.1-security(\.[0-9]+)?")
_HOLDER_DESCRIPTION: Final = "security holding package"
_HOLDER_REPOSITORY: Final = "npm/security-holder"


@dataclass(frozen=True, slots=True)
class Packument:
    """A full document as received, and what was read out of it.

    Attributes:
        name: the package.
        rev: the document's ``_rev``, where it has one.
        dist_tags: tags that are strings, in order; they may point nowhere.
        versions: the versions in document order, bad ones with `Manifest.refused`.
        time: the entries of ``time`` that are strings, as upstream wrote them.
        unpublished: the whole package was unpublished (``time.unpublished``).
        security_holder: npm replaced the package by its placeholder; what we hold of it is suspect.
        size: length of the document in bytes.
        body: the document.
    """

    name: PackageName
    rev: str | None
    dist_tags: Mapping[str, str]
    versions: Mapping[Version, Manifest]
    time: Mapping[str, str]
    unpublished: bool
    security_holder: bool
    size: int
    body: bytes = field(repr=False)


class _Header(msgspec.Struct, gc=False, rename={"id": "_id", "rev": "_rev", "dist_tags": "dist-tags"}):
    name: Raw = ABSENT
    id: Raw = ABSENT
    rev: Raw = ABSENT
    dist_tags: Raw = ABSENT
    time: Raw = ABSENT
    description: Raw = ABSENT
    repository: Raw = ABSENT


class _Document(_Header, gc=False):
    versions: dict[str, ManifestText] = {}


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_STRINGS: Final = msgspec.json.Decoder(dict[str, str])


def parse_packument(body: bytes, *, name: PackageName) -> Packument:
    """Read a full packument.

    Args:
        body: the document, decompressed.
        name: the package that was asked for.

    Returns:
        What it says. `Packument.body` is `body`, not a copy.

    Raises:
        UpstreamProtocolError: not UTF-8, not JSON, not an object, nested too deeply, another package's document, or
            ``versions`` is not an object.
    """
    try:
        check_utf8(body)
        header, versions = _read_document(body, name)
    except UpstreamProtocolError as error:
        raise UpstreamProtocolError(f"packument of {name}: {error}; it begins with {body[:40]!r}") from error
    _check_name(header, name)
    time = _read_strings(header.time)
    return Packument(
        name=name,
        rev=_read_optional(header.rev),
        dist_tags=_read_strings(header.dist_tags),
        versions=versions,
        time=time,
        unpublished=not versions and is_object(_member(header.time, "unpublished")),
        security_holder=_is_security_holder(header, versions),
        size=len(body),
        body=body,
    )


def render_full(packument: Packument, *, versions: Collection[Version], tarball_url: Callable[[Version], str]) -> bytes:
    """Write the document again with some of its versions.

    Args:
        packument: the document.
        versions: the versions to keep; those that it does not have, or that are refused, are ignored.
        tarball_url: the URL to write into ``dist.tarball`` of a version.

    Returns:
        The document: members in their order with their bytes, but for ``versions``, ``dist-tags`` and the tarballs.
        A document without ``versions`` (an unpublished package) comes back unchanged.
    """
    members = split_members(packument.body)
    if not is_object(members.get("versions", ABSENT)):
        return packument.body
    selected = select_versions(packument, versions)
    tags = render_dist_tags(packument, members.get("dist-tags", ABSENT), selected)
    # BytesIO hands its buffer out without a copy, so the output is in memory once.
    out = BytesIO()
    separator = b"{"
    for key, raw in members.items():
        if key == "versions" and "dist-tags" not in members:
            out.write(separator + b'"dist-tags":' + tags)
            separator = b","
        out.write(separator + encode_key(key) + b":")
        if key == "versions":
            _write_versions(out, raw, selected, tarball_url)
        else:
            out.write(tags if key == "dist-tags" else raw)
        separator = b","
    out.write(b"}")
    return out.getvalue()


def repair_dist_tags(tags: Mapping[str, str], versions: Collection[Version]) -> dict[str, str]:
    """Drop the tags that point to no version of `versions`, and make ``latest`` resolve.

    Args:
        tags: the document's tags.
        versions: the versions that the document will have.

    Returns:
        The tags in order. ``latest`` stays where it points to one of `versions`; otherwise it is the highest that is
        not a prerelease, else the highest. It is there whenever there are versions, also where `tags` had none.
    """
    kept = {tag: version for tag, version in tags.items() if version in versions or tag == "latest"}
    if not versions:
        return {}
    if kept.get("latest") not in versions:
        kept["latest"] = max(versions, key=_rank)
    return kept


def select_versions(packument: Packument, versions: Collection[Version]) -> dict[Version, Manifest]:
    """Return those of `versions` that the document has and that are not refused, in document order."""
    wanted = frozenset(versions)
    return {key: found for key, found in packument.versions.items() if key in wanted and found.refused is None}


def render_dist_tags(packument: Packument, raw: Raw, selected: Collection[Version]) -> bytes:
    """Return the repaired ``dist-tags`` as JSON: the original bytes where nothing had to be repaired."""
    tags = repair_dist_tags(packument.dist_tags, selected)
    if tags == packument.dist_tags and is_object(raw) and len(split_members(raw)) == len(tags):
        return bytes(raw)
    return msgspec.json.encode(tags)


def rewrite_dist(raw: Raw, url: str) -> Raw:
    """Return the JSON of a ``dist`` with another ``tarball``; every other member keeps its bytes."""
    members = split_members(raw)
    members["tarball"] = Raw(encode_key(url))
    return Raw(join_members(members))


def rewrite_manifest(raw: Raw, url: str) -> bytes:
    """Return the JSON of a manifest with another ``dist.tarball``; everything else keeps its bytes."""
    members = split_members(raw)
    members["dist"] = rewrite_dist(members["dist"], url)
    return join_members(members)


def rev_number(rev: str | None) -> int | None:
    """Return the number in front of a revision (``125-492f…`` is 125), or None where there is none."""
    found = _REV.fullmatch(rev) if rev else None
    return int(found[1]) if found else None


def _rank(version: Version) -> tuple[bool, Order]:
    order = version_order(version)
    return order[0] == 1 and not is_prerelease(version), order


def _read_document(body: bytes, name: PackageName) -> tuple[_Header, dict[Version, Manifest]]:
    try:
        document = _DOCUMENT.decode(body)
    except RecursionError as error:
        raise UpstreamProtocolError("JSON is nested too deeply") from error
    except msgspec.DecodeError:
        return _read_leniently(body, name)
    return document, {Version(key): make_manifest(key, text, name) for key, text in document.versions.items()}


def _read_leniently(body: bytes, name: PackageName) -> tuple[_Header, dict[Version, Manifest]]:
    # One version of a shape that nobody expected, or a lone surrogate somewhere: each version is read for itself.
    members = split_members(body)
    header = _Header(*(members.get(key, ABSENT) for key in _Header.__struct_encode_fields__))
    raw = members.get("versions", ABSENT)
    if bytes(memoryview(raw)[:4]) in {b"", b"null"}:
        return header, {}
    return header, {Version(key): read_manifest(key, text, name) for key, text in split_members(raw).items()}


def _check_name(header: _Header, name: PackageName) -> None:
    found = [_read_optional(raw) for raw in (header.name, header.id) if raw is not ABSENT]
    if not found:
        raise UpstreamProtocolError(f"packument of {name}: it has neither name nor _id")
    for text in found:
        if text != name:
            raise UpstreamProtocolError(f"packument of {name}: it is the document of {ascii(text)[:100]}")


def _read_optional(raw: Raw) -> str | None:
    return None if raw is ABSENT else read_string(raw)


def _member(raw: Raw, key: str) -> Raw:
    return split_members(raw).get(key, ABSENT) if is_object(raw) else ABSENT


def _read_strings(raw: Raw) -> dict[str, str]:
    if not is_object(raw):
        return {}
    try:
        return _STRINGS.decode(raw)
    except msgspec.DecodeError:
        strings = {key: read_string(value) for key, value in split_members(raw).items()}
        return {key: text for key, text in strings.items() if text is not None}


def _is_security_holder(header: _Header, versions: Collection[Version]) -> bool:
    if not versions or not all(_HOLDER_VERSION.fullmatch(version) for version in versions):
        return False
    repository = header.repository
    address = _read_optional(_member(repository, "url") if is_object(repository) else repository) or ""
    return _read_optional(header.description) == _HOLDER_DESCRIPTION or _HOLDER_REPOSITORY in address


def _write_versions(
    out: BytesIO, raw: Raw, selected: Collection[Version], tarball_url: Callable[[Version], str]
) -> None:
    separator = b"{"
    for key, text in split_members(raw).items():
        version = Version(key)
        if version in selected:
            out.write(separator + encode_key(key) + b":")
            out.write(rewrite_manifest(text, tarball_url(version)))
            separator = b","
    out.write(b"{}" if separator == b"{" else b"}")
