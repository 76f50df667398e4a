"""Take a whole package out of the mirror after upstream deleted it, and it was confirmed. Idempotent, safe to kill.

Order (P2): tombstones, which are true whatever comes next; then the documents, so that nothing names a version any
more; then the record, which keeps the digest of every byte for ever (P5). The bytes stay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from mirrorwitness.mirror import layout
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from mirrorwitness.mirror.catalogue import Catalogue, PackageRecord
    from mirrorwitness.storage import Storage

__all__ = ["withdraw_package"]


async def withdraw_package(
    storage: Storage, catalogue: Catalogue, record: PackageRecord, *, event: str, seen: str
) -> PackageRecord:
    """Stop serving a package.

    Args:
        storage: the mirror.
        catalogue: its records.
        record: what is known of the package.
        event: one lower-case word for the tombstones, such as ``deleted``.
        seen: when it was confirmed, ISO 8601.

    Returns:
        The new record.

    Raises:
        StorageError: the storage failed; the next attempt goes on.
    """
    name = PackageName(record.name)
    for version, item in record.versions.items():
        if item.served:
            await catalogue.add_tombstone(name, version, event=event, seen=seen, held=item)
    await storage.delete(layout.install_key(name))
    await storage.delete(layout.packument_key(name))
    versions = {version: msgspec.structs.replace(item, served=False) for version, item in record.versions.items()}
    gone = msgspec.structs.replace(
        record,
        versions=versions,
        blocked={},
        fingerprint="",
        etag=None,
        last_modified=None,
        source_sha256=None,
        packument_sha256=None,
        checked=seen,
    )
    await catalogue.write_record(gone)
    return gone
