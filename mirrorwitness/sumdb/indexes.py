"""Indexes in a storage: read the index of a package, and add to it by compare-and-swap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError, UpstreamProtocolError
from mirrorwitness.sumdb.index import MAX_INDEX_BYTES, PackageIndex, format_index, merge, parse_index
from mirrorwitness.sumdb.paths import index_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.index import IndexLine

__all__ = ["add_lines", "read_index", "read_known"]

TEXT: Final = "text/plain; charset=utf-8"


async def read_index(storage: Storage, name: PackageName) -> PackageIndex:
    """Read the index of a package; one without lines where the log has nothing of it.

    Raises:
        UpstreamProtocolError: what is there is no index, or that of another package.
        StorageError: the storage failed.
    """
    return (await read_known(storage, name))[0]


async def read_known(storage: Storage, name: PackageName) -> tuple[PackageIndex, str | None]:
    """Read the index of a package, and the storage's token of it; None where there is none.

    Raises:
        UpstreamProtocolError: what is there is no index, or that of another package.
        StorageError: the storage failed.
    """
    key = index_key(name)
    try:
        body, info = await storage.read(key, limit=MAX_INDEX_BYTES)
    except ObjectMissingError:
        return PackageIndex(name), None
    index = parse_index(body)
    if index.name != name:
        raise UpstreamProtocolError(f"{key} is the index of {index.name}, expected {name}")
    return index, info.etag


async def add_lines(
    storage: Storage, name: PackageName, lines: Iterable[IndexLine], *, known: tuple[PackageIndex, str | None] | None
) -> None:
    """Add lines to the index of a package; those that are there already are no news.

    Args:
        storage: where.
        name: the package.
        lines: what to add.
        known: what `read_known` returned; None: it is read.

    Raises:
        UpstreamProtocolError: what is there is no index of this package.
        ConfigurationError: it contradicts the lines.
        StorageError: the storage failed; after a `StorageUnavailableError` the lines may be there.
    """
    added = tuple(lines)
    while True:
        index, etag = known or await read_known(storage, name)
        known = None
        merged = merge(index, added)
        if merged == index:
            return
        try:
            await storage.put(
                index_key(name), format_index(merged), if_match=etag, if_absent=etag is None, content_type=TEXT
            )
        except PreconditionFailedError:
            continue  # somebody else added something meanwhile
        return
