"""The abbreviated document, which installers ask for, and the document of a single version.

Rules (research/B 2.2; found from 1,123 recorded pairs and equal to npm's own in each of 27,735 versions):

- The document: ``name``, ``dist-tags``, ``versions``, ``modified`` (``time.modified``), nothing else.
- A version: the members of `KEPT_MEMBERS`, in that order, with their own bytes, but only where they are not empty
  (``{}``, ``[]``, ``""``, ``null``, ``false``). ``dist`` is copied whole.
- ``hasInstallScript: true`` is added where ``scripts`` has ``preinstall``, ``install`` or ``postinstall``; the key is
  left away otherwise, whatever the full document says under that name.
- Not ``bundledDependencies`` (the other spelling), ``scripts``, ``workspaces`` or ``exports``.

What this module does not do: choose versions, or negotiate which form a client gets.
"""

from __future__ import annotations

from io import BytesIO
from operator import attrgetter
from typing import TYPE_CHECKING, Final

import msgspec
from msgspec import Raw

from mirrorwitness.npm.json_text import (
    ABSENT,
    encode_key,
    is_empty_value,
    is_object,
    split_members,
)
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.packument import render_dist_tags, rewrite_dist, rewrite_manifest, select_versions

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mirrorwitness.npm.packument import Packument

__all__ = ["KEPT_MEMBERS", "render_abbreviated", "render_version"]


class _Version(msgspec.Struct, gc=False, omit_defaults=True, rename="camel"):
    """The members of a version that an installer gets to see, in the order in which they are written."""

    name: Raw = ABSENT
    version: Raw = ABSENT
    deprecated: Raw = ABSENT
    dependencies: Raw = ABSENT
    optional_dependencies: Raw = ABSENT
    dev_dependencies: Raw = ABSENT
    bundle_dependencies: Raw = ABSENT
    peer_dependencies: Raw = ABSENT
    peer_dependencies_meta: Raw = ABSENT
    bin: Raw = ABSENT
    directories: Raw = ABSENT
    dist: Raw = ABSENT
    engines: Raw = ABSENT
    has_shrinkwrap: Raw = msgspec.field(default=ABSENT, name="_hasShrinkwrap")
    funding: Raw = ABSENT
    os: Raw = ABSENT
    cpu: Raw = ABSENT
    libc: Raw = ABSENT
    accept_dependencies: Raw = ABSENT


class _Document(msgspec.Struct, gc=False):
    dist_tags: Raw = msgspec.field(default=ABSENT, name="dist-tags")
    versions: dict[str, _Version] = {}


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_ENCODER: Final = msgspec.json.Encoder()
_get_members: Final = attrgetter(*_Version.__struct_fields__)
"""All members of a version at once; a loop over getattr takes a third of the whole rendering."""

KEPT_MEMBERS: Final = _Version.__struct_encode_fields__
"""What an installer gets to see of a version, beside ``hasInstallScript``."""


def render_abbreviated(
    packument: Packument, *, versions: Collection[Version], tarball_url: Callable[[Version], str]
) -> bytes:
    """Write the abbreviated form of a document with some of its versions.

    Args:
        packument: the full document.
        versions: the versions to keep; those that it does not have, or that are refused, are ignored.
        tarball_url: the URL to write into ``dist.tarball`` of a version.

    Returns:
        The document; its type is ``application/vnd.npm.install-v1+json``.
    """
    selected = select_versions(packument, versions)
    document = _read_document(packument.body, selected)
    out = BytesIO()
    out.write(b'{"name":' + encode_key(packument.name))
    out.write(b',"dist-tags":' + render_dist_tags(packument, document.dist_tags, selected))
    out.write(b',"versions":')
    separator = b"{"
    for key in list(document.versions):
        text = document.versions.pop(key)  # memory goes as the output grows
        found = selected.get(Version(key))
        if found is not None:
            text.dist = rewrite_dist(text.dist, tarball_url(found.version))
            out.write(separator + encode_key(key) + b":")
            out.write(_abbreviate(text))
            # dist is always there, so there is a member in front of the comma.
            out.write(b',"hasInstallScript":true}' if found.has_install_script else b"}")
            separator = b","
    out.write(b"{}" if separator == b"{" else b"}")
    modified = packument.time.get("modified")
    if modified is not None:
        out.write(b',"modified":' + encode_key(modified))
    out.write(b"}")
    return out.getvalue()


def render_version(packument: Packument, version: Version, *, tarball_url: Callable[[Version], str]) -> bytes:
    """Write the document of one version: its full manifest with ``dist.tarball`` rewritten.

    Args:
        packument: the full document.
        version: one of its versions.
        tarball_url: the URL to write into ``dist.tarball`` of a version.

    Returns:
        The manifest; all members keep their order and bytes.

    Raises:
        KeyError: the document has no such version, or it is refused.
    """
    if version not in select_versions(packument, (version,)):
        raise KeyError(version)
    return rewrite_manifest(split_members(split_members(packument.body)["versions"])[version], tarball_url(version))


def _read_document(body: bytes, selected: Collection[Version]) -> _Document:
    try:
        return _DOCUMENT.decode(body)
    except msgspec.DecodeError:  # a version that is no object, or a lone surrogate somewhere
        members = split_members(body)
    raw = members.get("versions", ABSENT)
    texts = split_members(raw) if is_object(raw) else {}
    versions = {key: _read_version(text) for key, text in texts.items() if key in selected}
    return _Document(dist_tags=members.get("dist-tags", ABSENT), versions=versions)


def _read_version(text: Raw) -> _Version:
    members = split_members(text)
    return _Version(*(members.get(key, ABSENT) for key in KEPT_MEMBERS))


def _abbreviate(text: _Version) -> memoryview:
    members: tuple[Raw, ...] = _get_members(text)
    for attribute, raw in zip(_Version.__struct_fields__, members, strict=True):
        if raw is not ABSENT and is_empty_value(raw):
            setattr(text, attribute, ABSENT)
    return memoryview(_ENCODER.encode(text))[:-1]  # all but the closing brace
