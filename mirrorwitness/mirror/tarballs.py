"""Bring the missing tarballs of one package into the storage: download, verify, store.

Rules:

- A tarball's final key is written once, with bytes that matched their digest (P1); never overwritten (P5) unless an
  audit found the stored bytes wrong and asks for it.
- Tarballs that are stored already but not recorded (a run died in between) are read and verified, not downloaded.
- Sources are tried in the order of `mirrorwitness.mirror.sources`; bytes are verified, so anybody may supply them.
  Wrong bytes are fetched once more, then told in evidence; the source is dropped and the next one is asked.
- One version's failure never stops another's: it is withheld with its reason (research/B 7, rows 7 and 8).
- A storage that refuses (full, read-only, credentials) ends the package: trying on would only repeat it.

Concurrency: at most the limiter's tokens are in flight over all packages; within a package at most as many tasks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    EquivocationError,
    IntegrityMismatchError,
    MirrorWitnessError,
    PreconditionFailedError,
    StorageRefusedError,
    UnsupportedConditionError,
    UpstreamError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import HeldVersion
from mirrorwitness.npm.integrity import Verifier, make_expectation
from mirrorwitness.npm.spool import MemoryBudget, Spool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from pathlib import Path

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.gate import Wanted
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.mirror.sources import Source, Sources
    from mirrorwitness.npm.integrity import Expectation
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.storage import Body, Storage

_Look: TypeAlias = "Callable[[Wanted, Body], Awaitable[tuple[str, ...]]]"

__all__ = ["TarballOptions", "Tarballs", "TarballsResult", "check_stored"]

ATTEMPTS_ON_MISMATCH: Final = 2
"""Downloads of one tarball from one source whose bytes are wrong: once more, in case it was a broken transfer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TarballOptions:
    """Limits of downloads.

    Attributes:
        concurrency: tarballs in flight over all packages.
        size_limit: bytes of the largest tarball accepted.
        memory: bytes of tarballs held in memory at once, over all in flight.
        spool_directory: where larger ones are spooled; None for the system's temporary directory.
        authority_only: scopes whose packages no other source may hear of.
    """

    concurrency: int = 64
    size_limit: int = 2 * 1024**3
    memory: int = 32 * 1024**2
    spool_directory: Path | None = None
    authority_only: frozenset[str] = frozenset()


@dataclass(slots=True)
class TarballsResult:
    """What became of one package's missing tarballs.

    Attributes:
        stored: the tarballs that are stored now.
        withheld: why the others are not.
        downloaded: how many were downloaded, as opposed to found in the storage.
        downloaded_bytes: their size.
        received: bytes that each source sent, by its base URL.
        received_as: bytes by the source's role.
        evidence: keys of evidence written.
        alarms: sentences about sources, for the operator.
    """

    stored: dict[Version, HeldVersion] = field(default_factory=dict)
    withheld: dict[Version, MirrorWitnessError] = field(default_factory=dict)
    downloaded: int = 0
    downloaded_bytes: int = 0
    received: Counter[str] = field(default_factory=Counter)
    received_as: Counter[str] = field(default_factory=Counter)
    evidence: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """One tarball to bring."""

    name: PackageName
    item: Wanted
    key: str
    is_present: bool
    is_replaced: bool
    result: TarballsResult
    look: _Look | None

    @property
    def what(self) -> str:
        return f"{self.name}@{self.item.version}"


class Tarballs:
    """Fetches and stores tarballs for all packages of a run.

    Args:
        storage: where to.
        catalogue: for evidence.
        sources: where from.
        options: limits.
        progress: told of every stored tarball.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        catalogue: Catalogue,
        sources: Sources,
        options: TarballOptions,
        progress: Progress,
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._sources = sources
        self._options = options
        self._progress = progress
        self._limiter = trio.CapacityLimiter(options.concurrency)
        self._budget = MemoryBudget(options.memory)

    def __repr__(self) -> str:
        return f"<Tarballs {self._limiter.borrowed_tokens}/{self._options.concurrency} in flight, {self._budget!r}>"

    async def bring(
        self,
        name: PackageName,
        missing: Sequence[Wanted],
        *,
        replace: frozenset[Version] = frozenset(),
        look: _Look | None = None,
    ) -> TarballsResult:
        """Store every tarball of `missing` that can be had.

        Args:
            name: the package.
            missing: what is wanted and not recorded as stored.
            replace: versions whose stored bytes an audit found wrong; they are overwritten.
            look: is shown each verified tarball before it is stored; what it returns is `HeldVersion.confused`.

        Raises:
            StorageRefusedError: the storage takes nothing any more.
            BudgetExhaustedError: nothing may be asked any more; what was stored is found again by the next run.
        """
        result = TarballsResult()
        if not missing:
            return result
        await self._sources.load()
        present = await self._files(name)
        jobs = (
            _Job(
                name=name,
                item=item,
                key=layout.tarball_key(name, item.file),
                is_present=item.file in present,
                is_replaced=item.version in replace,
                result=result,
                look=look,
            )
            for item in missing
        )
        refused: list[StorageRefusedError | BudgetExhaustedError] = []
        async with trio.open_nursery() as nursery:
            for _ in range(min(len(missing), self._options.concurrency)):
                nursery.start_soon(self._work, jobs, refused)
        if refused:
            raise refused[0]
        result.alarms += self._sources.take_notices()
        return result

    async def move(self, source: str, target: str, item: HeldVersion, *, what: str) -> None:
        """Move a stored tarball to another key, verifying it on the way; nothing is overwritten.

        Raises:
            IntegrityMismatchError: its bytes are not those of the record; nothing was moved.
            ObjectMissingError: there is nothing to move.
            StorageError: the storage failed; moving again goes on.
        """
        with self._make_spool(make_expectation(item.sri, None), what) as spool:
            async with self._storage.open(source) as reader:
                while chunk := await reader.receive_some():
                    await spool.write(chunk)
            body, _ = await spool.finish()
            if await self._storage.stat(target) is None:
                await self._storage.put(target, body)
        await self._storage.delete(source)

    async def _files(self, name: PackageName) -> set[str]:
        """The files stored for a package, recorded or not: one listing, only made when something is missing."""
        prefix = layout.tarball_prefix(name)
        files: set[str] = set()
        after: str | None = ""
        while after is not None:
            page = await self._storage.list(prefix, after=after)
            files.update(info.key.removeprefix(prefix) for info in page.objects)
            after = page.more_after
        return files

    async def _work(self, jobs: Iterator[_Job], refused: list[StorageRefusedError | BudgetExhaustedError]) -> None:
        for job in jobs:
            if refused:
                return
            async with self._limiter:
                try:
                    stored = await self._one(job)
                except (StorageRefusedError, BudgetExhaustedError) as error:
                    refused.append(error)
                    return
                except MirrorWitnessError as error:
                    job.result.withheld[job.item.version] = error
                else:
                    job.result.stored[job.item.version] = stored

    async def _one(self, job: _Job) -> HeldVersion:
        if job.is_present and not job.is_replaced:
            return await self._adopt(job)
        problems: list[UpstreamError | IntegrityMismatchError] = []
        is_private = job.name.partition("/")[0] in self._options.authority_only
        for source in self._sources.usable(is_private=is_private):
            try:
                return await self._download(job, source)
            except UpstreamError as error:
                self._sources.note_failure(source, error)
                # What the authority says counts; that a peer has not got a file says nothing.
                problems.insert(0 if source is self._sources.authority else len(problems), error)
            except IntegrityMismatchError as error:
                problems.append(error)
        # Wrong bytes weigh more than an absent file: the run must end as a divergence, not as a mere gap.
        problems.sort(key=lambda error: not isinstance(error, IntegrityMismatchError))
        raise problems[0]

    async def _download(self, job: _Job, source: Source) -> HeldVersion:
        with self._make_spool(job.item.expectation, job.what) as spool:
            body, verifier = await self._receive(job, source, spool)
            self._sources.note_success(source)
            confused = () if job.look is None else await job.look(job.item, body)
            stored = await self._put(job, body, verifier, confused)
        job.result.downloaded += 1
        job.result.downloaded_bytes += stored.size
        job.result.received[source.registry.base] += stored.size
        job.result.received_as[source.role] += stored.size
        self._progress.tarball_stored(stored.size)
        return stored

    async def _receive(self, job: _Job, source: Source, spool: Spool) -> tuple[Body, Verifier]:
        """Download until the bytes match, `ATTEMPTS_ON_MISMATCH` times at most; then the source is dropped."""
        url = source.url_of(job.name, job.item.file, upstream=job.item.url)
        attempts_left = ATTEMPTS_ON_MISMATCH
        while True:
            attempts_left -= 1
            await spool.reset()
            await source.registry.tarball(url, spool)
            try:
                return await spool.finish()
            except IntegrityMismatchError as error:
                mismatch = error
            if not attempts_left:
                key = await self._keep_evidence(job, "wrong-bytes", url, mismatch)
                await self._sources.drop(source, reason=f"{job.what}: {mismatch}", evidence=key)
                raise mismatch

    async def _put(self, job: _Job, body: Body, verifier: Verifier, confused: tuple[str, ...]) -> HeldVersion:
        try:
            await self._storage.put(job.key, body, if_absent=not job.is_replaced)
        except PreconditionFailedError:
            return await self._adopt(job)
        except UnsupportedConditionError:
            # A storage without conditional writes (store-check says so): two workers may both get here, each with
            # bytes that it verified; the later put wins. Only an equivocating upstream makes that a difference.
            if await self._storage.stat(job.key) is not None:
                return await self._adopt(job)
            await self._storage.put(job.key, body)
        return _held(job.item, verifier, confused)

    async def _adopt(self, job: _Job) -> HeldVersion:
        """Verify a tarball that is stored but not recorded, and take it as it is (P5: first bytes win)."""
        try:
            if job.look is not None:
                return await self._adopt_looking(job, job.look)
            return _held(job.item, await check_stored(self._storage, job.key, Verifier(job.item.expectation)))
        except IntegrityMismatchError as error:
            mismatch = error
        await self._keep_evidence(job, "stored-bytes", job.item.url, mismatch)
        raise EquivocationError(
            f"{job.what}: other bytes are stored under {job.key} already: {mismatch};"
            " the evidence has both digests; if the stored object is the wrong one, remove it: the next run fetches it"
        ) from mismatch

    async def _adopt_looking(self, job: _Job, look: _Look) -> HeldVersion:
        """Verify a stored tarball, and look into it."""
        with self._make_spool(job.item.expectation, job.what) as spool:
            async with self._storage.open(job.key) as reader:
                while chunk := await reader.receive_some():
                    await spool.write(chunk)
            body, verifier = await spool.finish()
            return _held(job.item, verifier, await look(job.item, body))

    def _make_spool(self, expectation: Expectation, what: str) -> Spool:
        return Spool(
            expectation=expectation,
            budget=self._budget,
            limit=self._options.size_limit,
            what=what,
            directory=self._options.spool_directory,
        )

    async def _keep_evidence(self, job: _Job, kind: str, url: str, error: IntegrityMismatchError) -> str:
        content = {"kind": kind, "key": job.key, "url": url, "reason": str(error)}
        key = await self._catalogue.add_evidence(job.name, job.item.version, content)
        job.result.evidence.append(key)
        return key


async def check_stored(storage: Storage, key: str, verifier: Verifier) -> Verifier:
    """Read a stored object through a verifier.

    Raises:
        IntegrityMismatchError: the stored bytes are not the expected ones.
        ObjectMissingError: nothing is stored there.
    """
    async with storage.open(key) as reader:
        while chunk := await reader.receive_some():
            verifier.update(chunk)
    verifier.check()
    return verifier


def _held(item: Wanted, verifier: Verifier, confused: tuple[str, ...] = ()) -> HeldVersion:
    return HeldVersion(
        file=item.file,
        size=verifier.size,
        sri=verifier.sri(),
        integrity=item.integrity,
        shasum=item.shasum,
        url=item.url,
        signature=item.signature,
        weak=item.expectation.strength == "weak",
        confused=confused,
    )
