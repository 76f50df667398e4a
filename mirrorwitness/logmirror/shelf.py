"""The shelf: whether an npm mirror's storage holds the tarball that a record speaks of.

Rules:

- Bytes are held where the catalogue knows of them, also in quarantine: the statement is that they are held, not that
  they are served. Bytes that nobody recorded are not held.
- By default they are read to their end and hashed. With trust in the records, the digest that was computed when they
  were stored is compared, and the object's length: two small reads for a version instead of its tarball.
- The record's own size counts too: bytes of the right digest have it, or the record is wrong.

What it does not do: read documents, or repair (`mirrorwitness audit --repair`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import IntegrityMismatchError, ObjectMissingError
from mirrorwitness.logmirror.holdings import Gap
from mirrorwitness.mirror.layout import quarantine_key, tarball_key
from mirrorwitness.mirror.tarballs import check_stored
from mirrorwitness.mirror.withdrawal import Place
from mirrorwitness.npm.integrity import Verifier, is_same_content, make_expectation

if TYPE_CHECKING:
    from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.records import Record

__all__ = ["Shelf"]

_WHY_LENGTH: Final = 300


class Shelf:
    """Looks for tarballs.

    Args:
        storage: the mirror's.
        catalogue: what it says that it holds.
        trusts_records: whether the digests of the catalogue are believed.

    Attributes:
        read: bytes of tarballs that were read.
    """

    def __init__(self, *, storage: Storage, catalogue: Catalogue, trusts_records: bool = False) -> None:
        self.read = 0
        self._storage = storage
        self._catalogue = catalogue
        self._trusts_records = trusts_records

    def __repr__(self) -> str:
        return f"<Shelf over {self._storage!r}, {self.read} bytes read>"

    async def look(self, index: int, record: Record, text: bytes) -> Gap | None:
        """Return what is missing of a record's tarball, None where it is held.

        Raises:
            StorageError: the storage failed.
        """
        found = await self._catalogue.read_record(record.name)
        held = None if found is None else found.versions.get(record.version)
        if held is None or held.place is Place.PURGED:
            return _gap(index, text, "no tarball is held")
        if held.damaged:
            return _gap(index, text, "its tarball was found damaged, and not replaced yet")
        if self._trusts_records:
            return await self._compare(index, record, text, held)
        return await self._hash(index, record, text, held)

    async def _compare(self, index: int, record: Record, text: bytes, held: HeldVersion) -> Gap | None:
        if not is_same_content(held.sri, record.integrity) or held.size != record.tarball_size:
            return _gap(
                index, text, f"a tarball of {held.sri} is held, the record says {record.integrity}", differs=True
            )
        info = await self._storage.stat(_key(record, held))
        if info is None or info.size != held.size:
            return _gap(index, text, f"{_key(record, held)} is missing, or cut off")
        return None

    async def _hash(self, index: int, record: Record, text: bytes, held: HeldVersion) -> Gap | None:
        verifier = Verifier(make_expectation(record.integrity, None))
        try:
            await check_stored(self._storage, _key(record, held), verifier)
        except ObjectMissingError:
            return _gap(index, text, f"{_key(record, held)} is missing")
        except IntegrityMismatchError as error:
            return _gap(index, text, f"the tarball that is held is another one: {error}", differs=True)
        finally:
            self.read += verifier.size
        if verifier.size != record.tarball_size:
            what = f"the tarball has {verifier.size} bytes, the record says {record.tarball_size}"
            return _gap(index, text, what, differs=True)
        return None


def _key(record: Record, held: HeldVersion) -> str:
    key = quarantine_key if held.place is Place.QUARANTINE else tarball_key
    return key(record.name, held.file)


def _gap(index: int, text: bytes, why: str, *, differs: bool = False) -> Gap:
    return Gap(index=index, record=text.decode(), why=why[:_WHY_LENGTH], differs=differs)
