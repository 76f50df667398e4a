"""Exporter: write what a mirror serves into a bundle, without what an earlier bundle carried.

    for each package, by name: record and document ──> each tarball, read and verified ──> its proof, its attestations
    the manifest ──> its digest ──> its signature

Rules:

- Nothing goes out that is not what it is said to be: a document whose digest is not the recorded one, a tarball whose
  bytes are not the recorded ones, end the export. `audit --repair` mends the mirror.
- What is the same as in the earlier bundle (the same tarball, by its SHA-512) is listed and not read again.
- Only what the record says is there is asked for: a bucket answers some 50 requests a second to one reader.
- A worker may change the mirror meanwhile. A package whose record and document do not fit is read again, `TRIES` times.
- The same mirror gives the same bytes.

What it does not do: ask the log (the caller gives its checkpoint and proof), or open files.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    ObjectMissingError,
    StorageError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundle import (
    MANIFEST,
    NOTE,
    SUM,
    BundledFile,
    BundledLog,
    BundledPackage,
    Manifest,
    format_manifest,
    format_sum,
    id_of,
    object_path,
    sign_id,
)
from mirrorwitness.npm.integrity import make_expectation
from mirrorwitness.npm.offloop import PACKUMENT_LIMIT, parse_off_loop
from mirrorwitness.npm.registry import MAX_ATTESTATIONS_BYTES
from mirrorwitness.npm.spool import MemoryBudget, Spool
from mirrorwitness.tlog.proof import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mirrorwitness.mirror.bundlefile import BundleWriter
    from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion, PackageRecord
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Manifest as VersionManifest
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import SignerKey

__all__ = ["Exporter", "Previous"]

TRIES: Final = 5
"""How often a package that a worker changes at the same time is read."""

WAIT_SECONDS: Final = 0.5
"""Between two of these: documents and record of a package are written within some milliseconds."""

KEYS_LIMIT: Final = 1024 * 1024


class Previous:
    """The bundle that another one goes on from.

    Args:
        bundle: its id.
        manifest: its manifest.
    """

    def __init__(self, bundle: str, manifest: Manifest) -> None:
        self.id = bundle
        self.manifest = manifest
        self.objects = frozenset(manifest.needed())
        self._tarballs = {file.integrity: file for package in manifest.packages for file in package.files}

    def __repr__(self) -> str:
        return f"<Previous {self.id}, {len(self.objects)} objects>"

    @property
    def checkpoint(self) -> bytes | None:
        """The log's checkpoint that it had, as it was signed; nobody has checked it."""
        log = self.manifest.log
        return None if log is None else log.checkpoint.encode("utf-8", "surrogatepass")

    def find(self, integrity: str) -> BundledFile | None:
        """Return what it says of a tarball; None where it has none with this SHA-512."""
        return self._tarballs.get(integrity)


class Exporter:
    """Writes one bundle.

    Args:
        storage: the mirror.
        catalogue: its records.
        writer: the bundle.
        previous: what it goes on from; None for one that stands alone.
        progress: told of every package and tarball.
        memory: bytes of tarballs that are held in memory.
        size_limit: bytes of the largest tarball.
        directory: where larger ones are spooled.

    Attributes:
        counts: packages, versions, tarballs and bytes that were written.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        catalogue: Catalogue,
        writer: BundleWriter,
        previous: Previous | None,
        progress: Progress,
        memory: int,
        size_limit: int,
        directory: Path | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self._storage = storage
        self._catalogue = catalogue
        self._writer = writer
        self._previous = previous
        self._progress = progress
        self._budget = MemoryBudget(memory)
        self._limit = size_limit
        self._directory = directory
        self._objects: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<Exporter {dict(self.counts)}>"

    async def run(
        self, names: Iterable[PackageName], *, log: BundledLog | None, key: SignerKey | None
    ) -> tuple[str, Manifest]:
        """Write the bundle, and return its id and manifest.

        Args:
            names: the packages.
            log: the log's newest checkpoint; None where the mirror asks none, and no proofs are exported.
            key: signs the bundle; None for one without a signature.

        Raises:
            ConfigurationError: nothing is served of a package, or the bundle would be too large.
            IntegrityMismatchError: stored bytes are not the recorded ones.
            StorageError: something is missing, or the storage failed.
        """
        keys = await self._read(layout.KEYS_KEY, KEYS_LIMIT)
        packages = [await self._export(name, has_log=log is not None) for name in sorted(set(names))]
        digest = None if keys is None else await self._add(keys)
        manifest = Manifest(
            packages=tuple(packages),
            objects=self._objects,
            previous=None if self._previous is None else self._previous.id,
            keys=digest,
            log=log,
            signer=None if key is None else str(key.verifier),
        )
        body = format_manifest(manifest)
        bundle = id_of(body)
        if key is not None:
            await self._writer.put(NOTE, sign_id(bundle, key))
        await self._writer.put(MANIFEST, body)
        await self._writer.put(SUM, format_sum(bundle))
        return bundle, manifest

    async def _export(self, name: PackageName, *, has_log: bool) -> BundledPackage:
        record, packument = await self._read_package(name)
        files = [await self._export_file(record, manifest, has_log=has_log) for manifest in _sorted(packument)]
        self.counts["packages"] += 1
        self.counts["versions"] += len(files)
        self._progress.package_finished(name, problem=None)
        return BundledPackage(name=name, packument=await self._add(packument.body), files=tuple(files))

    async def _read_package(self, name: PackageName) -> tuple[PackageRecord, Packument]:
        for is_last in [False] * (TRIES - 1) + [True]:
            record = await self._catalogue.read_record(name)
            body = await self._read(layout.packument_key(name), PACKUMENT_LIMIT)
            if record is None or body is None:
                raise ConfigurationError(f"{name}: the mirror serves nothing of it; sync it first, or leave it out")
            if hashlib.sha256(body).hexdigest() == record.packument_sha256:
                return record, await parse_off_loop(body, name)
            if not is_last:
                await trio.sleep(WAIT_SECONDS)
        raise StorageError(
            f"{name}: its document is not the recorded one; `mirrorwitness audit --repair` writes it again"
        )

    async def _export_file(self, record: PackageRecord, manifest: VersionManifest, *, has_log: bool) -> BundledFile:
        name, version = record.name, manifest.version
        held = record.versions.get(version)
        file = layout.file_of_url(manifest.tarball)
        if held is None or file is None or file != held.file:
            raise StorageError(f"{name}@{version}: the document names it and the record does not: `audit --repair`")
        key = layout.tarball_key(name, file)
        proof = attested = None
        if has_log and held.leaf is not None:
            proof = await self._read(layout.proof_key(name, file), MAX_FILE_BYTES)
        if held.attested:
            attested = await self._read(layout.attestations_key(name, version), MAX_ATTESTATIONS_BYTES)
        known = None if self._previous is None else self._previous.find(held.sri)
        return BundledFile(
            version=version,
            file=file,
            sha256=await self._copy(key, held, f"{name}@{version}") if known is None else known.sha256,
            size=held.size,
            integrity=held.sri,
            proof=None if proof is None else await self._add(proof),
            attestations=None if attested is None else await self._add(attested),
        )

    async def _copy(self, key: str, held: HeldVersion, what: str) -> str:
        """Write a tarball, once it was read and verified; return its digest."""
        digest = hashlib.sha256()
        with Spool(
            expectation=make_expectation(held.sri, None),
            budget=self._budget,
            limit=self._limit,
            what=what,
            directory=self._directory,
        ) as spool:
            try:
                async with self._storage.open(key) as reader:
                    while chunk := await reader.receive_some():
                        digest.update(chunk)
                        await spool.write(chunk)
                body, verifier = await spool.finish()
            except IntegrityMismatchError as error:
                raise IntegrityMismatchError(f"{what}: {key}: {error}; `audit --repair` fetches it again") from error
            found = digest.hexdigest()
            if found not in self._objects:
                await self._writer.put(object_path(found), body)
                self._count(found, verifier.size)
                self.counts["tarballs"] += 1
                self._progress.tarball_stored(verifier.size)
        return found

    async def _add(self, body: bytes) -> str:
        """Write a small object, where the bundle before has none like it; return its digest."""
        digest = hashlib.sha256(body).hexdigest()
        is_known = self._previous is not None and digest in self._previous.objects
        if not is_known and digest not in self._objects:
            await self._writer.put(object_path(digest), body)
            self._count(digest, len(body))
        return digest

    def _count(self, digest: str, size: int) -> None:
        self._objects[digest] = size
        self.counts["objects"] += 1
        self.counts["bytes"] += size

    async def _read(self, key: str, limit: int) -> bytes | None:
        try:
            return (await self._storage.read(key, limit=limit))[0]
        except ObjectMissingError:
            return None


def _sorted(packument: Packument) -> list[VersionManifest]:
    return [packument.versions[version] for version in sorted(packument.versions)]
