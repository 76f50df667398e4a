"""Change one package's documents and record so that of two workers that do it at once only one says that it is done.

    found ──claim──> no terms fit ──show or hide──> documents ──note──> record
      every arrow replaces exactly what this worker has seen before; who finds something else begins anew

Rules:

- Before a document is touched the record says that no terms fit what is stored: a run that dies in between leaves a
  package that the next run goes through again, whatever upstream answers (P3).
- Each write of a record is unlike every other, so that one that another worker replaced is never taken for ours.
- Documents are replaced by compare-and-swap too. A document that is not the one that the record knows (damaged, copied
  to another storage, left by a run that died) is replaced only after a new claim, and only once.
- Who touched documents and then lost says in the other worker's record that no terms fit: it cannot know which of its
  writes came later than the other's.

So where a record says that terms fit, the documents are those of its worker: another one that touched them later has
claimed the record before, and earlier ones lost their right to the documents.

Known holes: without conditional writes (`mirrorwitness.storage.swap`) the later of two writers wins each object for
itself; `audit` finds what does not fit. And absence has no token: a worker that stands still for long between its claim
and a delete, or a first document, and is killed right after it, undoes what another one did meanwhile.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from mirrorwitness.errors import PackageLostError, PreconditionFailedError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import PackageRecord
from mirrorwitness.storage.swap import swap

if TYPE_CHECKING:
    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage

__all__ = ["Publication", "open_publication"]

_FULL = "application/json"
_SHORT = "application/vnd.npm.install-v1+json"


class Publication:
    """The documents and the record of one package, as they were found and as they are changed.

    Args:
        storage: the mirror.
        catalogue: its records.
        record: the package's record; an empty one where there was none.
        etag: the storage's token of it; None where there was none.

    Attributes:
        found: the record as it was found.
    """

    def __init__(self, *, storage: Storage, catalogue: Catalogue, record: PackageRecord, etag: str | None) -> None:
        self.found = record
        self._storage = storage
        self._catalogue = catalogue
        self._etag = etag
        self._documents = record.documents
        self._is_touched = False

    def __repr__(self) -> str:
        return f"<Publication of {self.found.name}, record {self._etag}>"

    async def claim(self) -> None:
        """Let the record say that no terms fit what is stored; again, where it was said.

        Raises:
            PackageLostError: another worker was here since the record was read, or claimed.
            StorageError: the storage failed.
        """
        await self._swap(_claimed(self.found))

    async def show(self, full: bytes, short: bytes) -> None:
        """Write both documents, the full one first; what they name has to be stored.

        Raises:
            PackageLostError: another worker writes them too.
            StorageError: the storage failed; one of them may be written.
        """
        if self._etag is not None:
            await self.claim()
        self._is_touched = True
        name = self.found.name
        known = self._documents or (None, None)
        self._documents = (
            await self._put(layout.packument_key(name), full, known[0], kind=_FULL),
            await self._put(layout.install_key(name), short, known[1], kind=_SHORT),
        )

    async def hide(self) -> None:
        """Remove both documents.

        Raises:
            PackageLostError: another worker was here since the record was read.
            StorageError: the storage failed; one of them may be gone.
        """
        await self.claim()
        self._is_touched = True
        name = self.found.name
        await self._storage.delete(layout.install_key(name))
        await self._storage.delete(layout.packument_key(name))
        self._documents = None

    async def note(self, record: PackageRecord) -> PackageRecord:
        """Write the record, and return it as it is stored.

        Raises:
            PackageLostError: another worker was here; what it wrote stays.
            StorageError: the storage failed; the record may be written.
        """
        return await self._swap(msgspec.structs.replace(record, documents=self._documents))

    async def _swap(self, record: PackageRecord) -> PackageRecord:
        try:
            return await self._replace(record)
        except PreconditionFailedError as error:
            raise await self._lose(error) from error

    async def _replace(self, record: PackageRecord) -> PackageRecord:
        record = msgspec.structs.replace(record, written=secrets.token_hex(8))
        body = msgspec.json.encode(record)
        info = await swap(self._storage, layout.record_key(record.name), body, etag=self._etag)
        self._etag = info.etag
        return record

    async def _lose(self, error: PreconditionFailedError) -> PackageLostError:
        """Make sure that the package is gone through again, and return what is to be raised."""
        while self._is_touched:
            self.found, self._etag = await _find(self._catalogue, self.found.name)
            with suppress(PreconditionFailedError):
                await self._replace(_claimed(self.found))
                self._is_touched = False
        return PackageLostError(
            f"{self.found.name}: another worker changes it at the same time ({error}). Two workers on one shard do "
            "everything twice: stop one of them, or give each a shard of its own (--shard I/N)"
        )

    async def _put(self, key: str, body: bytes, known: str | None, *, kind: str) -> str:
        """Replace a document, and return its token."""
        try:
            return (await swap(self._storage, key, body, etag=known, kind=kind)).etag
        except PreconditionFailedError:
            # Looked at before the claim: what another worker wrote after it, with a claim of its own, stays.
            there = await self._storage.stat(key)
        await self.claim()
        try:
            info = await swap(self._storage, key, body, etag=None if there is None else there.etag, kind=kind)
        except PreconditionFailedError as error:
            raise await self._lose(error) from error
        return info.etag


async def open_publication(storage: Storage, catalogue: Catalogue, name: PackageName) -> Publication:
    """Read the record of a package that is about to be changed.

    Raises:
        StorageError: it cannot be read.
    """
    record, etag = await _find(catalogue, name)
    return Publication(storage=storage, catalogue=catalogue, record=record, etag=etag)


async def _find(catalogue: Catalogue, name: PackageName) -> tuple[PackageRecord, str | None]:
    record, etag = await catalogue.find_record(name)
    return record or PackageRecord(name=name), etag


def _claimed(record: PackageRecord) -> PackageRecord:
    return msgspec.structs.replace(record, fingerprint="", deleted="")
