"""Read what the mirror holds again and check every byte: documents, tarballs, signatures. Optionally repair it.

What is checked, for every package or a random sample:

1. the full document parses, is the package's own, and its digest is the recorded one;
2. the abbreviated document is exactly what the full one gives (npm.abbreviated);
3. every version that it names has its tarball under the key that its URL says, with the promised digest (P1, P2);
4. where a document is not the recorded one, the tarballs that the record says are served, too: a repair writes the
   documents anew, and must not name what is wrong because a damaged or forged document did not say so;
5. where a log is asked, the proof beside each tarball verifies under the policy, offline, and is about these bytes and
   this document (`mirrorwitness.mirror.voucher.check_proof`);
6. every version's registry signature is acceptable under the policy, with the keys that the mirror serves;
7. tarballs that no document names are counted: no harm, they are not served (two-door gate);
8. a package with a document but without a record, or the other way round, is reported.

`repair` brings a package with findings up to date again: wrong tarballs are fetched, verified and overwritten,
documents are written anew; what upstream no longer has is withdrawn from the documents, so that P2 holds.

What this does not do: trust the records. They are compared, never believed.

Cancellation: at any time; findings so far are kept by the caller's `Audit.findings`.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    IntegrityMismatchError,
    MirrorWitnessError,
    ObjectMissingError,
    SecurityError,
    UpstreamError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.coverage import Coverage, measure
from mirrorwitness.mirror.tarballs import check_stored
from mirrorwitness.mirror.voucher import Claim, check_proof
from mirrorwitness.npm.abbreviated import render_abbreviated
from mirrorwitness.npm.integrity import Verifier, make_expectation
from mirrorwitness.npm.offloop import PACKUMENT_LIMIT, parse_off_loop
from mirrorwitness.npm.signatures import SignaturePolicy, check_manifest, is_accepted
from mirrorwitness.tlog.proof import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mirrorwitness.mirror.catalogue import Catalogue, PackageRecord
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Manifest, Packument
    from mirrorwitness.npm.signatures import KeyRing
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["Audit", "Finding", "FindingKind", "ProofTerms"]

FINDINGS_KEPT: Final = 10_000
"""Findings listed; more are counted only."""


class FindingKind(StrEnum):
    """What an audit can find."""

    WRONG_BYTES = "wrong-bytes"
    MISSING_TARBALL = "missing-tarball"
    WRONG_PROOF = "wrong-proof"
    MISSING_PROOF = "missing-proof"
    DAMAGED_DOCUMENT = "damaged-document"
    MISSING_DOCUMENT = "missing-document"
    BAD_SIGNATURE = "bad-signature"
    UNRECORDED = "unrecorded"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        kind: what sort of thing.
        name: the package.
        version: the version, where it concerns one.
        key: the storage key concerned.
        reason: a sentence with the value expected and the value found.
    """

    kind: FindingKind
    name: str
    version: str | None
    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class ProofTerms:
    """What the proofs beside the tarballs have to show.

    Attributes:
        terms: whom to believe about the log.
        log: the log and the policy, as records name them.
        is_required: whether every version that is served has to have one.
        registry: whose names the records have to be, as records write it; None for any registry's.
    """

    terms: Terms
    log: str
    is_required: bool
    registry: str | None = None


@dataclass(slots=True)
class Audit:
    """An audit in progress and its result.

    Args:
        storage: the mirror.
        catalogue: its records.
        keys: the registry's signing keys.
        policy: what a signature must be.
        concurrency: tarballs read at once.
        progress: told of every package and byte.
        proofs: what proofs have to show; None where no log is asked.

    Attributes:
        findings: what was wrong.
        counts: what was checked.
        coverage: what the records of the checked packages say is served.
    """

    storage: Storage
    catalogue: Catalogue
    keys: KeyRing
    policy: SignaturePolicy
    concurrency: int
    progress: Progress
    proofs: ProofTerms | None = None
    findings: list[Finding] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    coverage: Coverage = field(default_factory=Coverage)
    _first: dict[str, Finding] = field(default_factory=dict[str, Finding])
    _trees: dict[int, tuple[bytes, str]] = field(default_factory=dict[int, tuple[bytes, str]])

    def __repr__(self) -> str:
        return f"<Audit {self.counts['packages']} packages, {self.counts['findings']} findings>"

    async def run(self, names: Iterable[PackageName]) -> None:
        """Check every named package; `findings` and `counts` grow as it goes."""
        limiter = trio.CapacityLimiter(self.concurrency)
        work = iter(names)
        async with trio.open_nursery() as nursery:
            for _ in range(self.concurrency):
                nursery.start_soon(self._work, work, limiter)

    async def check_package(self, name: PackageName, limiter: trio.CapacityLimiter) -> Finding | None:
        """Check one package completely.

        Returns:
            Its first finding; None where all is well. `findings` has all of them.
        """
        self.counts["packages"] += 1
        await self._check_all(name, limiter)
        return self._first.pop(name, None)

    async def _check_all(self, name: PackageName, limiter: trio.CapacityLimiter) -> None:
        record = await self.catalogue.read_record(name)
        self.coverage = self.coverage.plus(measure(record))
        packument = await self._check_documents(name, record)
        is_doubtful = name in self._first
        if packument is not None:
            manifests = iter(packument.versions.values())
            async with trio.open_nursery() as nursery:
                for _ in range(min(len(packument.versions), self.concurrency)):
                    nursery.start_soon(self._check_versions, packument, record, manifests, limiter)
            await self._count_unnamed(name, packument)
        if is_doubtful and record is not None:
            await self._check_recorded(name, record, limiter)

    async def _work(self, work: Iterator[PackageName], limiter: trio.CapacityLimiter) -> None:
        for name in work:
            first = await self.check_package(name, limiter)
            self.progress.package_finished(name, problem=None if first is None else f"{first.kind}: {first.reason}")

    async def _check_documents(self, name: PackageName, record: PackageRecord | None) -> Packument | None:
        key = layout.packument_key(name)
        body = await self._read(key)
        if body is None:
            if record is not None and record.packument_sha256 is not None:
                self._find(FindingKind.MISSING_DOCUMENT, name, None, key, "the record says that it is stored")
            return None
        if record is None:
            self._find(FindingKind.UNRECORDED, name, None, key, "stored without a record; the next sync makes one")
        digest = hashlib.sha256(body).hexdigest()
        if record is not None and record.packument_sha256 != digest:
            reason = f"sha256 is {digest}, the record says {record.packument_sha256}"
            self._find(FindingKind.DAMAGED_DOCUMENT, name, None, key, reason)
        try:
            packument = await parse_off_loop(body, name)
        except MirrorWitnessError as error:
            self._find(FindingKind.DAMAGED_DOCUMENT, name, None, key, str(error))
            return None
        await self._check_abbreviated(packument)
        return packument

    async def _check_abbreviated(self, packument: Packument) -> None:
        name, key = packument.name, layout.install_key(packument.name)
        body = await self._read(key)
        if body is None:
            self._find(FindingKind.MISSING_DOCUMENT, name, None, key, "the full document is there, this one is not")
            return
        urls = {version: manifest.tarball for version, manifest in packument.versions.items()}
        expected = render_abbreviated(packument, versions=frozenset(urls), tarball_url=urls.__getitem__)
        if body != expected:
            self._find(FindingKind.DAMAGED_DOCUMENT, name, None, key, "it is not what the full document gives")

    async def _check_versions(
        self,
        packument: Packument,
        record: PackageRecord | None,
        manifests: Iterator[Manifest],
        limiter: trio.CapacityLimiter,
    ) -> None:
        for manifest in manifests:
            self.counts["versions"] += 1
            async with limiter:
                sri = await self._check_tarball(packument.name, manifest)
                if sri is not None and self.proofs is not None:
                    await self._check_proof(packument.name, manifest, sri, record, self.proofs)
            self._check_signature(packument, manifest)

    async def _check_tarball(self, name: PackageName, manifest: Manifest) -> str | None:
        """Return the SHA-512 of the stored bytes where they are right."""
        file = layout.file_of_url(manifest.tarball)
        expectation = make_expectation(manifest.integrity, manifest.shasum)
        if manifest.refused is not None or file is None or expectation.strength == "none":
            reason = manifest.refused or f"tarball {manifest.tarball!r}, integrity {manifest.integrity!r}"
            self._find(FindingKind.DAMAGED_DOCUMENT, name, manifest.version, layout.packument_key(name), reason)
            return None
        return await self._check_bytes(name, manifest.version, file, Verifier(expectation), "the packument names it")

    async def _check_proof(
        self, name: PackageName, manifest: Manifest, sri: str, record: PackageRecord | None, proofs: ProofTerms
    ) -> None:
        version, file = manifest.version, layout.file_of_url(manifest.tarball)
        assert file is not None  # noqa: S101 - its bytes were read
        key = layout.proof_key(name, file)
        item = None if record is None or record.log != proofs.log else record.versions.get(version)
        body = await self._read_proof(key)
        if body is None:
            if proofs.is_required or (item is not None and item.leaf is not None):
                reason = "no proof that the log has these bytes is stored"
                self._find(FindingKind.MISSING_PROOF, name, version, key, reason)
            return
        self.counts["proofs"] += 1
        try:
            claim = Claim(version, manifest.integrity, manifest.shasum, sri)
            checked = check_proof(body, name=name, claim=claim, terms=proofs.terms, registry=proofs.registry)
        except (SecurityError, UpstreamError) as error:
            self._find(FindingKind.WRONG_PROOF, name, version, key, str(error))
            return
        root, first = self._trees.setdefault(checked.size, (checked.root, key))
        if root != checked.root:
            reason = f"the log signed two trees of size {checked.size}, here and in {first}: it forked, keep both files"
            self._find(FindingKind.WRONG_PROOF, name, version, key, reason)

    async def _check_recorded(self, name: PackageName, record: PackageRecord, limiter: trio.CapacityLimiter) -> None:
        """Check what the record says is served, one after another: a doubtful package is rare."""
        found = {finding.version for finding in self.findings if finding.name == name}
        for version, item in record.versions.items():
            if item.served and version not in found:
                async with limiter:
                    verifier = Verifier(make_expectation(item.sri, None))
                    await self._check_bytes(name, version, item.file, verifier, "the record says that it is served")

    async def _check_bytes(
        self, name: PackageName, version: Version, file: str, verifier: Verifier, why: str
    ) -> str | None:
        """Return the SHA-512 of the stored bytes where they are right."""
        key = layout.tarball_key(name, file)
        is_right = False
        try:
            await check_stored(self.storage, key, verifier)
        except IntegrityMismatchError as error:
            self._find(FindingKind.WRONG_BYTES, name, version, key, str(error))
        except ObjectMissingError:
            self._find(FindingKind.MISSING_TARBALL, name, version, key, why)
        else:
            is_right = True
        self.counts["bytes"] += verifier.size
        self.counts["tarballs"] += 1
        self.progress.bytes_checked(verifier.size)
        return verifier.sri() if is_right else None

    def _check_signature(self, packument: Packument, manifest: Manifest) -> None:
        if self.policy is SignaturePolicy.OFF:
            return
        published = packument.time.get(manifest.version)
        outcome = check_manifest(manifest, name=packument.name, published=published, keys=self.keys)
        self.counts[f"signature_{outcome}"] += 1
        if not is_accepted(outcome, self.policy):
            key = layout.packument_key(packument.name)
            reason = f"signature {outcome}, the policy is {self.policy}"
            self._find(FindingKind.BAD_SIGNATURE, packument.name, manifest.version, key, reason)

    async def _count_unnamed(self, name: PackageName, packument: Packument) -> None:
        prefix = layout.tarball_prefix(name)
        named = {
            layout.tarball_key(name, file)
            for manifest in packument.versions.values()
            if (file := layout.file_of_url(manifest.tarball)) is not None
        }
        after: str | None = ""
        while after is not None:
            page = await self.storage.list(prefix, after=after)
            tarballs = [info.key for info in page.objects if not info.key.endswith(layout.PROOF_SUFFIX)]
            self.counts["tarballs_not_served"] += sum(1 for key in tarballs if key not in named)
            after = page.more_after

    async def _read(self, key: str) -> bytes | None:
        try:
            return (await self.storage.read(key, limit=PACKUMENT_LIMIT))[0]
        except ObjectMissingError:
            return None

    async def _read_proof(self, key: str) -> bytes | None:
        """Return a proof, None where there is none; of one that is too large to be one, nothing."""
        body = bytearray()
        try:
            async with self.storage.open(key) as reader:
                if reader.info.size <= MAX_FILE_BYTES:
                    while chunk := await reader.receive_some():
                        body += chunk
        except ObjectMissingError:
            return None
        return bytes(body)

    def _find(self, kind: FindingKind, name: PackageName, version: Version | None, key: str, reason: str) -> None:
        self.counts["findings"] += 1
        self.counts[f"findings_{kind}"] += 1
        finding = Finding(kind, name, version, key, reason)
        self._first.setdefault(name, finding)
        if len(self.findings) < FINDINGS_KEPT:
            self.findings.append(finding)
