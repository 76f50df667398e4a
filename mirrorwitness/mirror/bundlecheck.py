"""BundleCheck: verify a whole bundle before anything of it is visible.

    files and sizes ──> digest and signature of the manifest ──> its place in the chain ──> the log's checkpoint
      ──> every object ──> every document, against its files ──> every tarball: digest, integrity, registry, log

Rules:

- Nothing is written but evidence. What fails here leaves the mirror as it was (P1).
- Complete: each version that a document names is in the bundle, or is held here with the same bytes (P2).
- Under keys that this mirror has, never under keys that only the bundle has: neither the registry's nor the log's.
- Each object is as large as things of its kind may be, and no larger, before a byte of it is read (P10).
- A ratchet: the checkpoint has to go on from the newest that was verified here, and no document may be older than the
  one that is here. The proof of a step is the bundle's; the tree that it starts from is ours.
- A proof beside a tarball is of a tree that is not larger than the checkpoint's.

Known hole: a bundle cannot show that it is the newest. A carrier who keeps bundles back keeps a mirror old; the age of
the checkpoint's cosignatures says how old.

*Cancellation*: at any point.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    EquivocationError,
    IntegrityMismatchError,
    ObjectMissingError,
    ProofError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundle import (
    Imported,
    Link,
    check_listing,
    judge_order,
    object_path,
)
from mirrorwitness.mirror.bundlelog import BundleLogCheck
from mirrorwitness.mirror.bundlereading import open_manifest, read_object
from mirrorwitness.mirror.stale import check_not_stale
from mirrorwitness.mirror.voucher import Claim, check_proof
from mirrorwitness.mirror.withdrawal import Place
from mirrorwitness.npm.integrity import Verifier, is_same_content, make_expectation
from mirrorwitness.npm.offloop import PACKUMENT_LIMIT, parse_off_loop
from mirrorwitness.npm.registry import MAX_ATTESTATIONS_BYTES
from mirrorwitness.npm.signatures import (
    MAX_KEYS_BYTES,
    SignaturePolicy,
    check_manifest,
    is_accepted,
    parse_keys,
)
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.tlog.proof import MAX_FILE_BYTES, parse_proof

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.mirror.bundle import BundledFile, BundledPackage, Manifest
    from mirrorwitness.mirror.bundlefile import BundleFile
    from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion, PackageRecord
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.npm.integrity import Expectation
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Manifest as VersionManifest
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.npm.signatures import KeyRing
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import Trusted, TrustStore
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["BundleCheck", "BundleTerms", "Verified"]

AT_ONCE: Final = 4
"""Packages checked at once: a document has up to 128 MB, and hashing one tarball keeps one core busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleTerms:
    """What a bundle is held to.

    Attributes:
        keys: the registry's signing keys that are trusted here.
        policy: what a signature must be.
        log: whom to believe about the log; None where its word is not asked.
        registry: whose names the log's records have to be, as records write it; None for any registry's.
        signer: who has to have signed the bundle; None for anybody, or nobody.
        size_limit: bytes of the largest tarball.
    """

    keys: KeyRing
    policy: SignaturePolicy
    log: Terms | None
    registry: str | None = None
    signer: VerifierKey | None = None
    size_limit: int = 2 * 1024**3


@dataclass(slots=True)
class Verified:
    """A bundle that may be imported.

    Attributes:
        bundle: its id.
        manifest: what it lists.
        link: how it belongs to what was imported before.
        tree: the log's newest tree; None where the log is not asked.
        known: the newest checkpoint that was verified here before.
        changed: the packages to bring up to date, in order.
        urls: where the documents say that tarballs are.
        counts: packages, versions, objects, bytes; those that are new; signatures by outcome.
    """

    bundle: str
    manifest: Manifest
    link: Link
    tree: Checkpoint | None = None
    known: Trusted | None = None
    changed: list[PackageName] = field(default_factory=list["PackageName"])
    urls: dict[str, BundledFile] = field(default_factory=dict[str, "BundledFile"])
    counts: Counter[str] = field(default_factory=Counter)


class BundleCheck:
    """Checks one bundle against one mirror.

    Args:
        file: the bundle.
        storage: the mirror.
        catalogue: its records.
        trust: what was verified of the log before.
        terms: what the bundle is held to.
        progress: told of every package and byte.
        now: the clock, for evidence.
    """

    def __init__(
        self,
        *,
        file: BundleFile,
        storage: Storage,
        catalogue: Catalogue,
        trust: TrustStore,
        terms: BundleTerms,
        progress: Progress,
        now: Callable[[], datetime],
    ) -> None:
        self._file = file
        self._storage = storage
        self._catalogue = catalogue
        self._terms = terms
        self._progress = progress
        self._log: BundleLogCheck | None = None
        if terms.log is not None:
            self._log = BundleLogCheck(terms=terms.log, trust=trust, now=now, what=str(file.path))

    def __repr__(self) -> str:
        return f"<BundleCheck of {self._file!r}>"

    async def run(self, imported: Imported | None) -> Verified:
        """Verify everything.

        Raises:
            ConfigurationError: the bundle has a gap before it, or is older than what was imported.
            ForkError: the log signed two histories; the message says where the evidence is.
            SecurityError: something is not what it is said to be.
            UpstreamError: the bundle is damaged, incomplete, or older than what is here.
            StorageError: the storage failed.
        """
        bundle, manifest = await open_manifest(self._file)
        signer = self._terms.signer
        if signer is not None and manifest.signer != str(signer):
            raise SignatureError(f"{self._file.path}: signed by {manifest.signer or 'nobody'}, expected {signer}")
        done = Verified(bundle, manifest, judge_order(bundle, manifest.previous, imported))
        if self._log is not None:
            done.tree, done.known = await self._log.run(manifest.log)
        self._progress.started(len(manifest.packages))
        if manifest.keys in manifest.objects:
            body = await self._read(manifest, manifest.keys, MAX_KEYS_BYTES, "the keys document")
            self._terms.keys.merge(parse_keys(body))  # another key under a keyid that we know is an attack

        async def check(package: BundledPackage) -> None:
            await self._check_package(done, package)
            self._progress.package_finished(package.name, problem=None)

        await for_each(manifest.packages, check, at_once=AT_ONCE)
        done.changed.sort()
        done.counts["proofs"] += 0  # told also where there are none
        done.counts["objects"] = len(manifest.objects)
        done.counts["bytes"] = sum(manifest.objects.values())
        return done

    # ---- packages

    async def _check_package(self, done: Verified, package: BundledPackage) -> None:
        record = await self._catalogue.read_record(package.name)
        done.counts["packages"] += 1
        done.counts["versions"] += len(package.files)
        if package.packument not in done.manifest.objects:
            self._check_unchanged(package, record)
            for file in package.files:
                await self._check_held(package, file, record)
                await self._check_proof(done, package, file, Claim(file.version, file.integrity, None, file.integrity))
            return
        body = await self._read(done.manifest, package.packument, PACKUMENT_LIMIT, f"the document of {package.name}")
        packument = await parse_off_loop(body, package.name)
        check_listing(package, packument)
        await check_not_stale(
            self._storage, packument, recorded=None if record is None else record.rev, is_forced=False
        )
        for file in package.files:
            await self._check_version(done, package, packument, file, record)
        done.changed.append(package.name)

    def _check_unchanged(self, package: BundledPackage, record: PackageRecord | None) -> None:
        found = None if record is None else record.source_sha256
        if found != package.packument:
            raise UpstreamProtocolError(
                f"{self._file.path}: incomplete: the document of {package.name} that an earlier bundle had is not the "
                f"one that was imported here (SHA-256 {found}, expected {package.packument})"
            )

    async def _check_version(
        self,
        done: Verified,
        package: BundledPackage,
        packument: Packument,
        file: BundledFile,
        record: PackageRecord | None,
    ) -> None:
        manifest = packument.versions[file.version]
        what = f"{package.name}@{file.version}"
        if layout.file_of_url(manifest.tarball) != file.file:
            raise UpstreamProtocolError(f"{self._file.path}: {what}: the document names another file than {file.file}")
        if file.sha256 in done.manifest.objects:
            await self._check_tarball(done, file, make_expectation(manifest.integrity, manifest.shasum), what)
            await self._check_not_other(package, file, record)
        else:
            await self._check_held(package, file, record)
            if manifest.integrity is not None and is_same_content(manifest.integrity, file.integrity) is False:
                raise EquivocationError(f"{what}: its document promises {manifest.integrity}, held is {file.integrity}")
        self._check_signature(done, packument, manifest)
        done.urls[manifest.tarball] = file
        claim = Claim(file.version, manifest.integrity, manifest.shasum, file.integrity)
        await self._check_proof(done, package, file, claim)
        if file.attestations in done.manifest.objects:
            await self._read(done.manifest, file.attestations, MAX_ATTESTATIONS_BYTES, f"the attestations of {what}")

    def _check_signature(self, done: Verified, packument: Packument, manifest: VersionManifest) -> None:
        if self._terms.policy is SignaturePolicy.OFF:
            return
        published = packument.time.get(manifest.version)
        outcome = check_manifest(manifest, name=packument.name, published=published, keys=self._terms.keys)
        done.counts[f"signature_{outcome}"] += 1
        if not is_accepted(outcome, self._terms.policy):
            raise SignatureError(
                f"{packument.name}@{manifest.version}: the registry's signature is {outcome}, the policy is "
                f"{self._terms.policy}. Keys that only the bundle has do not count; --keys FILE adds those that came "
                "another way"
            )

    async def _check_tarball(self, done: Verified, file: BundledFile, expectation: Expectation, what: str) -> None:
        size = done.manifest.objects[file.sha256]
        self._check_size(size, self._terms.size_limit, what)
        digest, verifier = hashlib.sha256(), Verifier(expectation)
        async with self._file.open(object_path(file.sha256)) as reader:
            while piece := await reader.receive_some():
                digest.update(piece)
                verifier.update(piece)
        found = (digest.hexdigest(), verifier.size, verifier.sri())
        expected = (file.sha256, file.size, file.integrity)
        if found != expected:
            raise IntegrityMismatchError(f"{self._file.path}: {what}: found {found}, the manifest says {expected}")
        try:
            verifier.check()
        except IntegrityMismatchError as error:
            raise IntegrityMismatchError(f"{self._file.path}: {what}: {error}") from error
        done.counts["tarballs"] += 1
        self._progress.bytes_checked(size)

    async def _check_not_other(self, package: BundledPackage, file: BundledFile, record: PackageRecord | None) -> None:
        """Check that no other bytes of the version are held: the first ones win (P5)."""
        held = None if record is None else record.versions.get(file.version)
        if held is not None and held.sri != file.integrity:
            raise await self._tell_other(package, file, held)

    async def _check_held(self, package: BundledPackage, file: BundledFile, record: PackageRecord | None) -> None:
        """Check that what the bundle leaves out is here."""
        held = None if record is None else record.versions.get(file.version)
        if held is not None and held.sri != file.integrity:
            raise await self._tell_other(package, file, held)
        what = f"{package.name}@{file.version}"
        info = None if held is None else await self._storage.stat(layout.tarball_key(package.name, held.file))
        is_sound = held is not None and held.place is Place.PUBLIC and not held.damaged
        if not is_sound or info is None or info.size != file.size:
            raise UpstreamProtocolError(
                f"{self._file.path}: incomplete: {what} is not in it, and not here either, although an earlier bundle "
                "had it: export one that stands alone (without --since)"
            )

    async def _tell_other(self, package: BundledPackage, file: BundledFile, held: HeldVersion) -> EquivocationError:
        reason = f"{held.sri} is held, the bundle has {file.integrity}"
        key = layout.tarball_key(package.name, held.file)
        content = {"kind": "stored-bytes", "key": key, "url": object_path(file.sha256), "reason": reason}
        place = await self._catalogue.add_evidence(package.name, file.version, content)
        return EquivocationError(
            f"{package.name}@{file.version}: {reason}; nothing was imported, the evidence is {place}"
        )

    async def _check_proof(self, done: Verified, package: BundledPackage, file: BundledFile, claim: Claim) -> None:
        terms, tree = self._terms.log, done.tree
        if terms is None or tree is None or self._log is None:
            if file.proof in done.manifest.objects:
                await self._read_proof(done.manifest, package, file, file.proof)
            return
        what = f"{package.name}@{file.version}"
        if file.proof is None:
            raise ProofError(f"{what}: the bundle has no proof that {terms.origin!r} has it")
        body = await self._read_proof(done.manifest, package, file, file.proof)
        try:
            checked = check_proof(body, name=package.name, claim=claim, terms=terms, registry=self._terms.registry)
        except ProofError as error:
            raise ProofError(f"{what}: {error}") from error
        if checked.size > tree.size:
            raise ProofError(f"{what}: its proof is in a tree of {checked.size}, larger than the bundle's {tree.size}")
        await self._log.check_beside(parse_proof(body).checkpoint)
        done.counts["proofs"] += 1

    async def _read_proof(self, manifest: Manifest, package: BundledPackage, file: BundledFile, digest: str) -> bytes:
        if digest in manifest.objects:
            return await self._read(manifest, digest, MAX_FILE_BYTES, f"the proof of {package.name}@{file.version}")
        key = layout.proof_key(package.name, file.file)
        try:
            return (await self._storage.read(key, limit=MAX_FILE_BYTES))[0]
        except ObjectMissingError as error:
            raise UpstreamProtocolError(
                f"{self._file.path}: incomplete: the proof of {package.name}@{file.version} is not in it, and {key} is "
                "not here"
            ) from error

    async def _read(self, manifest: Manifest, digest: str, limit: int, what: str) -> bytes:
        """Return an object, verified, whose size is within what things of its kind have."""
        self._check_size(manifest.objects[digest], limit, what)
        return await read_object(self._file, manifest, digest)

    def _check_size(self, size: int, limit: int, what: str) -> None:
        if size > limit:
            raise UpstreamProtocolError(f"{self._file.path}: {what} has {size:,} bytes, more than {limit:,}")
