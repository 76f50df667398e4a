"""Importer: take a bundle in: all of it is verified first, then every package goes through the mirror's own steps.

    verify (`mirrorwitness.mirror.bundlecheck`) ──> the log's checkpoint ──> signing keys
      ──> each package as a sync would bring it (`mirrorwitness.mirror.package`), out of the bundle
      ──> the bundle's id

Rules:

- Tarballs first, then proofs, the document last: what a sync promises (P1, P2) holds here, by the same code.
- Safe to kill anywhere and to run again: the id is written last, and only where every package is complete. Until then
  the same bundle is verified anew and goes on where it stopped.
- Nothing is removed because a bundle does not name it. What a document of it does not name any more is withdrawn as
  the operator's policy says, like what a registry withdraws.

What it does not do: ask anybody over a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ExitCode, ObjectMissingError, StorageError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.bundle import IMPORTED_KEY, Imported
from mirrorwitness.mirror.bundlecheck import BundleCheck
from mirrorwitness.mirror.bundlesource import BundleSource
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.outcome import RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.package import PackageSync
from mirrorwitness.mirror.sources import Sources
from mirrorwitness.mirror.sync import SyncRun
from mirrorwitness.mirror.tarballs import Tarballs
from mirrorwitness.npm.signatures import format_keys
from mirrorwitness.storage.swap import swap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import datetime

    from mirrorwitness.mirror.bundlecheck import BundleTerms, Verified
    from mirrorwitness.mirror.bundlefile import BundleFile
    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.tarballs import TarballOptions
    from mirrorwitness.mirror.terms import PackageTerms
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.trust import TrustStore

__all__ = ["Importer", "read_imported"]

IMPORTED_LIMIT: Final = 4 * 1024 * 1024
"""Bytes of the list of imported bundles: 10,000 ids have 670 kB."""


class Importer:
    """Takes one bundle into one mirror.

    Args:
        storage: the mirror.
        file: the bundle.
        terms: what the bundle is held to.
        packages: what every package is judged by: every version of every package, under the same keys and log.
        tarballs: limits.
        trust: what was verified of the log.
        workers: packages in work at once.
        now: the clock.
        noted: told of every package's record.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        file: BundleFile,
        terms: BundleTerms,
        packages: PackageTerms,
        tarballs: TarballOptions,
        trust: TrustStore,
        workers: int,
        now: Callable[[], datetime],
        noted: Callable[[PackageRecord], Awaitable[None]] | None = None,
    ) -> None:
        self._storage = storage
        self._catalogue = Catalogue(storage)
        self._file = file
        self._terms = terms
        self._packages = packages
        self._options = tarballs
        self._trust = trust
        self._workers = workers
        self._now = now
        self._noted = noted

    def __repr__(self) -> str:
        return f"<Importer of {self._file!r} into {self._storage!r}>"

    async def verify(self, progress: Progress) -> Verified:
        """Verify the bundle, and change nothing; see `mirrorwitness.mirror.bundlecheck.BundleCheck.run`."""
        check = BundleCheck(
            file=self._file,
            storage=self._storage,
            catalogue=self._catalogue,
            trust=self._trust,
            terms=self._terms,
            progress=progress,
            now=self._now,
        )
        return await check.run((await read_imported(self._storage))[0])

    async def apply(self, verified: Verified, progress: Progress) -> RunSummary:
        """Take in what was verified.

        Raises:
            PreconditionFailedError: another import was faster.
            StorageError: the storage failed; the same bundle goes on where this stopped.
        """
        progress.started(len(verified.changed))
        await self._remember_log(verified)
        if self._terms.keys != await self._catalogue.read_keys():
            body = format_keys(self._terms.keys)
            await self._storage.put(layout.KEYS_KEY, body, content_type="application/json")
        attempts = self._make_attempts(verified, progress)
        summary = await SyncRun(attempts=attempts, workers=self._workers).run(verified.changed)
        await attempts.save_change()
        if summary.exit_code() is ExitCode.COMPLETE:
            before, etag = await read_imported(self._storage)
            body = msgspec.json.encode(Imported.after(verified.bundle, before))
            await swap(self._storage, IMPORTED_KEY, body, etag=etag)
        return summary

    async def _remember_log(self, verified: Verified) -> None:
        log, terms, tree, known = verified.manifest.log, self._terms.log, verified.tree, verified.known
        if log is None or terms is None or tree is None:
            return
        if known is None or known.tree.size < tree.size:
            await self._trust.write_head(terms.origin, log.checkpoint.encode(), replaces=known)

    def _make_attempts(self, verified: Verified, progress: Progress) -> Attempts:
        source = BundleSource(
            bundle=verified.bundle,
            manifest=verified.manifest,
            file=self._file,
            storage=self._storage,
            terms=self._terms.log,
            registry=self._terms.registry,
        )
        source.note_urls(verified.urls)
        tarballs = Tarballs(
            storage=self._storage,
            catalogue=self._catalogue,
            sources=Sources(authority=source, storage=self._storage, now=self._now),
            options=self._options,
            progress=progress,
        )
        packages = PackageSync(
            storage=self._storage,
            catalogue=self._catalogue,
            authority=source,
            tarballs=tarballs,
            terms=self._packages,
            now=self._now,
            voucher=None if self._terms.log is None else source,
        )
        return Attempts(
            storage=self._storage,
            packages=packages,
            catalogue=self._catalogue,
            terms=OwedTerms(),
            summary=RunSummary(),
            progress=progress,
            now=self._now,
            noted=self._noted,
        )


async def read_imported(storage: Storage) -> tuple[Imported | None, str | None]:
    """Return what a mirror remembers of bundles, and the storage's token of it.

    Raises:
        StorageError: it is damaged, or the storage failed.
    """
    try:
        body, info = await storage.read(IMPORTED_KEY, limit=IMPORTED_LIMIT)
    except ObjectMissingError:
        return None, None
    try:
        return msgspec.json.decode(body, type=Imported), info.etag
    except UNREADABLE_JSON as error:
        raise StorageError(
            f"{IMPORTED_KEY} is damaged: {error}; without it no bundle can be told new or old. Remove it, and import a "
            "bundle that stands alone"
        ) from error
