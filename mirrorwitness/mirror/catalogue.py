"""What a mirror remembers beside its documents: one record per package, unfinished work, tombstones, evidence, runs.

Rules:

- A package's record is written last, after tarballs and documents: a record that names an upstream ETag says that
  everything it describes is stored (P2). A missing or older record only costs work, never truth.
- Records remember every tarball ever stored with the digest of its bytes, also of versions that are no longer served,
  so that other bytes under a known version are noticed (P5).
- Unfinished notes outlive the worker that wrote them (P8); they are removed when the package completes.
- Tombstones, releases and evidence are only ever added, never changed.

What this does not do: decide anything (`mirrorwitness.mirror.gate`) or touch the public documents
(`mirrorwitness.mirror.package`).
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import msgspec

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    ObjectMissingError,
    PreconditionFailedError,
    StorageError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.withdrawal import Event, Place
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.signatures import KeyRing, parse_keys
from mirrorwitness.storage.walk import list_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.mirror.withdrawal import Release
    from mirrorwitness.storage import Storage

__all__ = [
    "RECORD_LIMIT",
    "Catalogue",
    "HeldVersion",
    "PackageRecord",
    "ReleaseNote",
    "RunRecord",
    "Tombstone",
    "Unfinished",
]

RECORD_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of the largest record read: about 200 per version, so 37,000 versions need 8 MB."""

KEYS_LIMIT: Final = 1024 * 1024
"""Bytes of the stored keys document."""

FORMAT: Final = 1

_Record = TypeVar("_Record", bound=msgspec.Struct)
_Content: TypeAlias = "Mapping[str, object]"


class HeldVersion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One tarball that is stored.

    Attributes:
        file: its file name; `layout.tarball_key` makes the key.
        size: bytes.
        sri: SHA-512 of the stored bytes as Subresource-Integrity text, computed by us.
        integrity: what upstream promised when it was stored, or None.
        shasum: the same for the SHA-1 in hex.
        url: where upstream had it, for repair.
        signature: outcome of the signature check (`mirrorwitness.npm.signatures.SignatureOutcome`).
        weak: stored on the strength of a SHA-1 alone.
        served: named by the stored packument.
        attested: attestations are stored beside it.
        damaged: its stored bytes were found wrong or missing and could not be replaced yet; never served.
        withdrawn: the stone of its withdrawal (`mirrorwitness.mirror.withdrawal`), empty where upstream lists it.
        released: whether the operator lifted that stone.
        place: where its bytes are.
        leaf: where the log has its record; None where the log does not vouch for these bytes, or was not asked.
        tree: the size of the tree in which the stored proof shows it.
        confused: fields in which the tarball's package.json was another than the registry's document, when it came.
    """

    file: str
    size: int
    sri: str
    integrity: str | None = None
    shasum: str | None = None
    url: str = ""
    signature: str = "unsigned"
    weak: bool = False
    served: bool = True
    attested: bool = False
    damaged: bool = False
    withdrawn: str = ""
    released: bool = False
    place: Place = Place.PUBLIC
    leaf: int | None = None
    tree: int = 0
    confused: tuple[str, ...] = ()


class PackageRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What we know of one package.

    Attributes:
        name: the package.
        fingerprint: selection and rendering options under which the documents were made.
        etag: upstream's ETag of the packument, for a conditional request; None where upstream sends none.
        last_modified: the same for Last-Modified.
        rev: upstream's ``_rev``.
        source_sha256: hex digest of upstream's packument as received.
        packument_sha256: hex digest of the stored full document; None where nothing is served.
        versions: every tarball ever stored, by version.
        blocked: versions that are not served, with the reason, as of the last run.
        checked: when it was last brought up to date (ISO 8601, UTC).
        deleted: upstream's deletion was confirmed, and handled under this fingerprint; empty otherwise.
        documents: the storage's tokens of the full and the abbreviated document; None where none are known.
        written: drawn anew for each write, so that no two records are the same.
        log: the log whose leaves `HeldVersion.leaf` counts, and the policy; empty where none was ever asked.
    """

    name: PackageName
    format: int = FORMAT
    fingerprint: str = ""
    etag: str | None = None
    last_modified: str | None = None
    rev: str | None = None
    source_sha256: str | None = None
    packument_sha256: str | None = None
    versions: dict[Version, HeldVersion] = {}
    blocked: dict[str, str] = {}
    checked: str = ""
    deleted: str = ""
    documents: tuple[str, str] | None = None
    written: str = ""
    log: str = ""


class Unfinished(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a package is not complete.

    Attributes:
        name: the package.
        reason: one sentence for a person.
        kind: the class of the error.
        versions: versions that are withheld, with the reason of each.
        attempts: runs that tried and failed.
        first: when it failed first (ISO 8601, UTC).
        last: when it failed last.
        expected: the newest revision that the feed announced and the registry did not show yet.
        deleted: whether the feed said that the package is gone, which a second look has to confirm.
        next_try: when a follower tries again (ISO 8601, UTC); a scheduled run tries each time.
    """

    name: str
    reason: str
    kind: str
    versions: dict[str, str] = {}
    attempts: int = 1
    first: str = ""
    last: str = ""
    expected: str | None = None
    deleted: bool = False
    next_try: str = ""


class Tombstone(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened to a version that we hold. Kept for ever.

    Attributes:
        name: the package.
        version: the version.
        event: what happened.
        seen: when we saw it (ISO 8601, UTC).
        policy: the operator's policy at that time (`mirrorwitness.mirror.withdrawal.WithdrawnPolicy`).
        upstream: what upstream said, cut to a bound; for a release the operator's reason.
        held: what the record said of it, with the digests of its bytes.
        published: upstream's time of publication, where known.
        manifest: the manifest as it was served last, so that a release can serve it again; unset where it is too large.
    """

    name: PackageName
    version: Version
    event: Event
    seen: str
    policy: str = ""
    upstream: dict[str, msgspec.Raw] = {}
    held: HeldVersion | None = None
    published: str | None = None
    manifest: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class ReleaseNote(msgspec.Struct, frozen=True, kw_only=True):
    """One tombstone that the operator lifted. Kept for ever.

    Attributes:
        name: the package.
        version: the version.
        stone: the tombstone's name.
        seen: when it was lifted (ISO 8601, UTC).
        reason: why.
    """

    name: PackageName
    version: Version
    stone: str
    seen: str
    reason: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The last finished run of `sync`.

    Attributes:
        started: ISO 8601, UTC.
        finished: ISO 8601, UTC.
        exit_code: what it exited with (P3).
        last_complete: when a run last finished with exit code 0, or None.
        counts: the run's counters.
        storage_check: what the short storage probe found, or None where it has not run.
    """

    started: str
    finished: str
    exit_code: int
    last_complete: str | None
    counts: dict[str, int]
    storage_check: dict[str, str] | None = None


class Catalogue:
    """Typed access to the records of one mirror; holds no state of its own."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def __repr__(self) -> str:
        return f"<Catalogue over {self._storage!r}>"

    async def read_record(self, name: PackageName) -> PackageRecord | None:
        """Return a package's record, or None where there is none or it is damaged (which only costs work)."""
        return (await self.find_record(name))[0]

    async def find_record(self, name: PackageName) -> tuple[PackageRecord | None, str | None]:
        """Return a package's record as `read_record` does, and the storage's token of whatever object is there."""
        return await self._find(layout.record_key(name), PackageRecord)

    async def read_unfinished(self, name: PackageName) -> Unfinished | None:
        """Return a package's note of unfinished work, if any."""
        return await self._read(layout.unfinished_key(name), Unfinished)

    async def write_unfinished(self, note: Unfinished) -> None:
        """Write a package's note, in the place of an earlier one; the caller counts attempts."""
        await self._write(layout.unfinished_key(PackageName(note.name)), note)

    async def clear_unfinished(self, name: PackageName) -> None:
        """Forget a package's note."""
        await self._storage.delete(layout.unfinished_key(name))

    async def unfinished_page(self, *, after: str = "", limit: int = 1000) -> tuple[list[Unfinished], str | None]:
        """Return a page of unfinished notes and where the next page starts."""
        listing = await self._storage.list(layout.UNFINISHED_PREFIX, after=after, limit=limit)
        notes = [await self._read(info.key, Unfinished) for info in listing.objects]
        return [note for note in notes if note is not None], listing.more_after

    async def record_page(self, *, after: str = "", limit: int = 1000) -> tuple[list[str], str | None]:
        """Return a page of the keys of package records and where the next page starts."""
        listing = await self._storage.list(layout.RECORD_PREFIX, after=after, limit=limit)
        return [info.key for info in listing.objects], listing.more_after

    async def read_record_key(self, key: str) -> PackageRecord | None:
        """Return the record under a key of `record_page`."""
        return await self._read(key, PackageRecord)

    async def name_of(self, key: str) -> PackageName | None:
        """Return the package of a key of `record_page`: from the key alone, where the name is not hashed in it."""
        name = layout.name_of_record_key(key, prefix=layout.RECORD_PREFIX)
        if name is None:
            record = await self.read_record_key(key)
            name = None if record is None else record.name
        return None if name is None else PackageName(name)

    async def read_keys(self) -> KeyRing:
        """Return the registry's signing keys that the mirror holds.

        Raises:
            SignatureError: they contradict each other.
            UpstreamProtocolError: the object is damaged.
        """
        try:
            body, _ = await self._storage.read(layout.KEYS_KEY, limit=KEYS_LIMIT)
        except ObjectMissingError:
            return KeyRing()
        return parse_keys(body)

    async def read_run(self) -> RunRecord | None:
        """Return the last finished run, if any."""
        return await self._read(layout.LAST_RUN_KEY, RunRecord)

    async def write_run(self, run: RunRecord) -> None:
        """Record a finished run."""
        await self._write(layout.LAST_RUN_KEY, run)

    async def add_tombstone(self, tombstone: Tombstone, stone: str) -> None:
        """Record what happened to a version that we hold; the first one under a stone wins."""
        key = layout.tombstone_key(tombstone.name, tombstone.version, stone)
        await self._add(key, msgspec.json.encode(tombstone))

    async def read_tombstones(self, name: PackageName, version: Version | None = None) -> list[tuple[str, Tombstone]]:
        """Return all tombstones of a package, or of one version of it, with their keys, the oldest first."""
        found: list[tuple[str, Tombstone]] = []
        for key in await self.keys(layout.tombstone_prefix(name, version)):
            tombstone = await self._read(key, Tombstone)
            if tombstone is not None:
                found.append((key, tombstone))
        return sorted(found, key=lambda item: item[1].seen)

    async def read_tombstone(self, name: PackageName, version: Version, stone: str) -> Tombstone | None:
        """Return one tombstone, or None where there is none or it is damaged."""
        return await self._read(layout.tombstone_key(name, version, stone), Tombstone)

    async def add_release(self, name: PackageName, version: Version, stone: str, *, seen: str, reason: str) -> None:
        """Record that the operator lifted a tombstone: the decision and its reason, in one object."""
        note = ReleaseNote(name=name, version=version, stone=stone, seen=seen, reason=reason)
        await self._add(layout.release_key(name, version, stone), msgspec.json.encode(note))

    async def read_release_notes(self, name: PackageName) -> list[ReleaseNote]:
        """Return everything that the operator lifted of a package."""
        keys = await self.keys(layout.release_prefix(name))
        return [note for key in keys if (note := await self._read(key, ReleaseNote)) is not None]

    async def read_releases(self, record: PackageRecord) -> frozenset[Release]:
        """Return what the operator lifted of a package and its record does not say yet.

        Costs nothing where nothing of the package is withdrawn, and one listing otherwise.
        """
        withdrawn = {
            (version, item.withdrawn)
            for version, item in record.versions.items()
            if item.withdrawn and not item.released
        }
        if not withdrawn:
            return frozenset()
        name = record.name
        lifted = frozenset(await self.keys(layout.release_prefix(name)))
        return frozenset(item for item in withdrawn if layout.release_key(name, *item) in lifted)

    async def keys(self, prefix: str) -> list[str]:
        """Return all keys that begin with a prefix; for prefixes below which there are few."""
        return await list_keys(self._storage, prefix)

    async def add_evidence(
        self, name: PackageName, version: Version, content: _Content, *, beside: _Content | None = None
    ) -> str:
        """Keep a piece of evidence, and return its key. Adding the same twice adds it once.

        Args:
            name: the package.
            version: the version.
            content: what the evidence is; the key is its digest.
            beside: what belongs to it and differs from time to time; that of the first time stays.
        """
        digest = hashlib.sha256(msgspec.json.encode(dict(content), order="sorted")).hexdigest()
        key = layout.evidence_key(name, version, digest)
        await self._add(key, msgspec.json.encode({**content, **(beside or {})}, order="sorted"))
        return key

    async def _add(self, key: str, body: bytes) -> None:
        try:
            await self._storage.put(key, body, if_absent=True, content_type="application/json")
        except PreconditionFailedError:
            return
        except UnsupportedConditionError:
            if await self._storage.stat(key) is None:
                await self._storage.put(key, body, content_type="application/json")

    async def _read(self, key: str, kind: type[_Record]) -> _Record | None:
        return (await self._find(key, kind))[0]

    async def _find(self, key: str, kind: type[_Record]) -> tuple[_Record | None, str | None]:
        try:
            body, info = await self._storage.read(key, limit=RECORD_LIMIT)
        except ObjectMissingError:
            return None, None
        try:
            return msgspec.json.decode(body, type=kind), info.etag
        except UNREADABLE_JSON as error:
            if kind is RunRecord:
                raise StorageError(f"{key} is damaged: {error}; remove it, the next sync writes it again") from error
            return None, info.etag

    async def _write(self, key: str, record: msgspec.Struct) -> None:
        await self._storage.put(key, msgspec.json.encode(record), content_type="application/json")
