"""Take single versions out of one document and put them into another, as the bytes they are.

Used where upstream's manifest of a version is refused and the one that was stored before goes on being served (P5),
and where a version that upstream withdrew is served all the same.
The result is parsed again, so everything that holds for a document from upstream holds for a spliced one.

What this does not do: decide which versions; check anything but what parsing checks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Raw

from mirrorwitness.npm.json_text import ABSENT, encode_key, is_object, join_members, split_members
from mirrorwitness.npm.packument import Packument, parse_packument

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from mirrorwitness.npm.names import Version

__all__ = ["keep_times", "read_version_text", "restore_versions", "splice_versions", "version_texts"]

_NO_VERSIONS: Final = frozenset({"created", "modified"})
"""What ``time`` tells beside versions."""


def read_version_text(packument: Packument, version: Version) -> bytes:
    """Return the JSON text of one version's manifest, exactly as received.

    Raises:
        KeyError: the document does not have that version.
    """
    return bytes(version_texts(packument)[version])


def splice_versions(packument: Packument, *, stored: Packument, versions: Collection[Version]) -> Packument:
    """Return the document with some versions' manifests taken from another document of the same package.

    Args:
        packument: the document to change; versions keep their places.
        stored: where the manifests come from.
        versions: which; those that `stored` does not have are left as they are.
    """
    before, texts = version_texts(stored), version_texts(packument)
    texts.update({version: before[version] for version in versions if version in before})
    members = split_members(packument.body)
    members["versions"] = Raw(join_members(texts))
    return parse_packument(join_members(members), name=packument.name)


def restore_versions(
    packument: Packument, *, listed: Collection[Version], manifests: Mapping[Version, bytes], times: Mapping[str, str]
) -> Packument:
    """Return the document with versions that it does not list, as if they had never been withdrawn.

    Args:
        packument: upstream's document, or an older one where upstream's has nothing but a stub.
        listed: which of its own versions stay.
        manifests: the manifests to add, behind those.
        times: their times of publication, for those that the document has lost. Nothing else in ``time`` changes but
            that ``unpublished`` goes: with it npm would say that there is no such package.
    """
    texts = {version: text for version, text in version_texts(packument).items() if version in listed}
    texts.update({version: Raw(text) for version, text in manifests.items()})
    members = split_members(packument.body)
    members["versions"] = Raw(join_members(texts))
    raw = members.get("time", ABSENT)
    known = split_members(raw) if is_object(raw) else {}
    lost = {key: Raw(encode_key(time)) for key, time in times.items() if key not in known}
    if lost or "unpublished" in known:
        known.pop("unpublished", None)
        members["time"] = Raw(join_members({**known, **lost}))
    return parse_packument(join_members(members), name=packument.name)


def keep_times(body: bytes, *, versions: Collection[Version]) -> bytes:
    """Return a document without the times of versions other than these; all else keeps its bytes."""
    members = split_members(body)
    raw = members.get("time", ABSENT)
    if not is_object(raw):
        return body
    times = {key: time for key, time in split_members(raw).items() if key in _NO_VERSIONS or key in versions}
    members["time"] = Raw(join_members(times))
    return join_members(members)


def version_texts(packument: Packument) -> dict[str, Raw]:
    """Return the JSON text of every version's manifest, for who needs many of them."""
    raw = split_members(packument.body).get("versions", ABSENT)
    return split_members(raw) if is_object(raw) else {}
