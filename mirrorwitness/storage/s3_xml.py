"""The two XML answers of S3 that we read: a page of a listing, and an error. Pure.

Rules:

- A listing is believed only in the one shape that was asked for: version 2, keys URL-encoded, under the prefix asked
  for, no key twice and not the one to start after. Anything else is an error and never a shorter list: some servers
  lose keys (research/E 1.3), and an object that is missing from a listing looks deleted.
- Document types and entities are refused unread.
- An error's body may be anything; what is not XML is an error without a code.

The format is that of Amazon's API reference, ListObjectsV2 and "Error responses".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes
from xml.etree import ElementTree as ET

from mirrorwitness.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ListedObject", "ListedPage", "S3Failure", "parse_failure", "parse_listing"]

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")
_MESSAGE_CHARACTERS: Final = 300
"""How much of a service's own words goes into our messages."""


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One object of a page, under its key in the bucket."""

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class ListedPage:
    """One page of a listing; `is_truncated` says that more follows its last object."""

    objects: tuple[ListedObject, ...]
    is_truncated: bool


@dataclass(frozen=True, slots=True)
class S3Failure:
    """What a service said of a request that it did not do; both are empty where it said nothing readable."""

    code: str = ""
    message: str = ""


def parse_listing(body: bytes, *, prefix: str, after: str) -> ListedPage:
    """Parse and check a page that was asked for with ``encoding-type=url``.

    Args:
        body: the answer.
        prefix: the prefix asked for.
        after: the key after which the page was to start.

    Raises:
        StorageError: it is not such a page; the message says where it differs.
    """
    root = _parse(body)
    if root is None or _name(root) != "ListBucketResult":
        raise StorageError(f"the listing of {prefix!r} is not a ListBucketResult: {body[:100]!r}")
    fields = _texts(root)
    if fields.get("EncodingType") != "url":
        raise StorageError(
            f"the listing of {prefix!r} is not URL-encoded, though it was asked for (EncodingType "
            f"{fields.get('EncodingType', 'missing')}): keys could be misread; this service cannot hold a mirror"
        )
    truncated = fields.get("IsTruncated")
    if truncated not in {"true", "false"}:
        raise StorageError(f"the listing of {prefix!r} has IsTruncated {truncated!r}, expected true or false")
    objects = tuple(_parse_object(item, prefix) for item in root if _name(item) == "Contents")
    _check_progress(objects, prefix=prefix, after=after)
    if truncated == "true" and not objects:
        raise StorageError(f"the listing of {prefix!r} says that more follows after nothing")
    return ListedPage(objects, is_truncated=truncated == "true")


def parse_failure(body: bytes) -> S3Failure:
    """Parse what came with a status that is no success."""
    root = _parse(body)
    if root is None or _name(root) not in {"Error", "ErrorResponse"}:
        return S3Failure()
    fields = _texts(root)
    return S3Failure(fields.get("Code", "")[:_MESSAGE_CHARACTERS], fields.get("Message", "")[:_MESSAGE_CHARACTERS])


def _parse(body: bytes) -> ET.Element | None:
    # A document type is the only way to define entities; without one, expat expands nothing.
    if b"<!" in body or b"\0" in body or not body.lstrip().startswith(b"<"):
        return None
    try:
        return ET.fromstring(body)  # noqa: S314 - see above
    except ET.ParseError:
        return None


def _name(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _texts(element: ET.Element) -> Mapping[str, str]:
    return {_name(child): child.text or "" for child in element}


def _parse_object(item: ET.Element, prefix: str) -> ListedObject:
    fields = _texts(item)
    encoded, size, etag = fields.get("Key", ""), fields.get("Size", ""), fields.get("ETag", "")
    try:
        # Services write a space as "+" or "%20"; a plus sign in a key is always "%2B" in this encoding.
        key = unquote_to_bytes(encoded.replace("+", " ")).decode()
    except UnicodeError:
        raise StorageError(f"the listing of {prefix!r} has the key {encoded[:300]!r}, which is not UTF-8") from None
    if not key or not _SIZE.fullmatch(size) or not etag:
        raise StorageError(f"the listing of {prefix!r} has an object without key, size or ETag: {dict(fields)!r:.300}")
    return ListedObject(key, int(size), etag.strip('"'))


def _check_progress(objects: tuple[ListedObject, ...], *, prefix: str, after: str) -> None:
    """Check that a page leads on: all below the prefix, nothing twice, not the key to start after.

    The order within a page is the service's own: SeaweedFS walks directories (``@s/x`` before ``@s-t/x``), and its
    ``start-after`` goes on in that same order. Whether paging is complete, and ends, is what `mirrorwitness
    store-check` tries; a single page cannot show it.
    """
    seen = {after}
    for found in objects:
        if not found.key.startswith(prefix):
            raise StorageError(f"the listing of {prefix!r} has the key {found.key!r}, which is not below it")
        if found.key in seen:
            raise StorageError(f"the listing of {prefix!r} does not lead on: {found.key!r} came again")
        seen.add(found.key)
