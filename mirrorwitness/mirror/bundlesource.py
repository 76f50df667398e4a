"""BundleSource: a bundle that was verified, in the place of a registry and of a log.

Rules:

- It answers from the bundle alone. What it gives is verified once more on its way, like everything that comes from a
  registry: the file may have been changed since it was checked.
- A version whose bytes were imported before is vouched for by the proof in the bundle, or else by the one that is
  stored beside it.

What it does not do: verify the bundle first (`mirrorwitness.mirror.bundlecheck`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.errors import (
    EquivocationError,
    ObjectMissingError,
    SecurityError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.bundle import object_path
from mirrorwitness.mirror.bundlereading import read_object
from mirrorwitness.mirror.voucher import Contradiction, NotLogged, Vouched, check_proof
from mirrorwitness.npm.registry import PackumentAnswer
from mirrorwitness.tlog.proof import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.mirror.bundle import BundledFile, BundledPackage, Manifest
    from mirrorwitness.mirror.bundlefile import BundleFile
    from mirrorwitness.mirror.voucher import Answer, CheckedProof, Claim
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.registry import TarballSink
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["BundleSource"]

_SHOWN = 16


class BundleSource:
    """A `mirrorwitness.mirror.supplier.Supplier` and a `mirrorwitness.mirror.voucher.Voucher`.

    Args:
        bundle: its id.
        manifest: what it has.
        file: where.
        storage: the mirror, which has what was imported before.
        terms: whom to believe about the log; None where none is asked.
        registry: whose names its records have to be; None for any registry's.

    Attributes:
        base: what people call it.
    """

    def __init__(
        self,
        *,
        bundle: str,
        manifest: Manifest,
        file: BundleFile,
        storage: Storage,
        terms: Terms | None,
        registry: str | None = None,
    ) -> None:
        self.base = f"bundle:{bundle[:_SHOWN]}"
        self._manifest = manifest
        self._file = file
        self._storage = storage
        self._terms = terms
        self._registry = registry
        self._packages = {package.name: package for package in manifest.packages}
        self._urls: dict[str, BundledFile] = {}

    def __repr__(self) -> str:
        return f"<BundleSource {self.base}, {len(self._packages)} packages>"

    async def packument(
        self,
        name: PackageName,
        *,
        etag: str | None = None,  # noqa: ARG002 - a bundle has none
        last_modified: str | None = None,  # noqa: ARG002 - a bundle has none
    ) -> PackumentAnswer:
        """Return a package's document; see `mirrorwitness.mirror.supplier.Supplier.packument`."""
        package = self._packages.get(name)
        if package is None:
            raise UpstreamNotFoundError(f"{self.base}: {name} is not in it")
        body = await self._read_document(package)
        return PackumentAnswer(body, None, None)

    def note_urls(self, urls: dict[str, BundledFile]) -> None:
        """Take what the documents say of where tarballs are: URL → tarball."""
        self._urls |= urls

    async def tarball(self, url: str, sink: TarballSink) -> int:
        """Stream a tarball; see `mirrorwitness.mirror.supplier.Supplier.tarball`."""
        file = self._urls.get(url)
        if file is None or file.sha256 not in self._manifest.objects:
            raise UpstreamNotFoundError(f"{self.base}: no tarball of {url} is in it")
        size = 0
        async with self._file.open(object_path(file.sha256)) as reader:
            while piece := await reader.receive_some():
                size += len(piece)
                await sink.write(piece)
        return size

    async def attestations(self, name: PackageName, version: Version) -> bytes | None:
        """Return attestations; see `mirrorwitness.mirror.supplier.Supplier.attestations`."""
        file = self._find(name, version)
        if file is None or file.attestations is None or file.attestations not in self._manifest.objects:
            return None
        return await read_object(self._file, self._manifest, file.attestations)

    async def vouch(self, name: PackageName, claims: Sequence[Claim]) -> dict[Version, Answer]:
        """Say what the proofs at hand say; see `mirrorwitness.mirror.voucher.Voucher.vouch`."""
        return {claim.version: await self._vouch(name, claim) for claim in claims}

    def check(self, body: bytes, name: PackageName, claim: Claim) -> CheckedProof:
        """Check a stored proof; see `mirrorwitness.mirror.voucher.Voucher.check`."""
        if self._terms is None:
            raise UpstreamProtocolError(f"{name}@{claim.version}: no log is asked")
        return check_proof(body, name=name, claim=claim, terms=self._terms, registry=self._registry)

    async def _vouch(self, name: PackageName, claim: Claim) -> Answer:
        body = await self._read_proof(name, claim.version)
        if body is None:
            return NotLogged("no proof of it is in the bundle, or was imported before")
        try:
            checked = self.check(body, name, claim)
        except EquivocationError as error:
            return Contradiction(str(error), body)
        except (SecurityError, UpstreamProtocolError) as error:
            return NotLogged(f"its proof does not hold: {error}")
        return Vouched(checked.index, checked.size, checked.record, body)

    async def _read_proof(self, name: PackageName, version: Version) -> bytes | None:
        file = self._find(name, version)
        if file is None or file.proof is None:
            return None
        if file.proof in self._manifest.objects:
            return await read_object(self._file, self._manifest, file.proof)
        try:
            return (await self._storage.read(layout.proof_key(name, file.file), limit=MAX_FILE_BYTES))[0]
        except ObjectMissingError:
            return None

    async def _read_document(self, package: BundledPackage) -> bytes:
        if package.packument in self._manifest.objects:
            return await read_object(self._file, self._manifest, package.packument)
        raise UpstreamNotFoundError(f"{self.base}: the document of {package.name} was imported before")

    def _find(self, name: PackageName, version: Version) -> BundledFile | None:
        package = self._packages.get(name)
        files = () if package is None else package.files
        return next((file for file in files if file.version == version), None)
