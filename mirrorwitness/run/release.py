"""Let withdrawn versions in again, because a person said so: lift their tombstones, then bring the package up to date.

A source that was dropped for wrong bytes is let in again the same way: by its URL.

Order (P8): the release is written first, one object for one tombstone; whichever run comes next acts on it, also where
this one dies or cannot reach upstream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, ExitCode, MirrorWitnessError, UpstreamNotFoundError, exit_code
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.coverage import CoverageStore, change_of
from mirrorwitness.mirror.result import PackageResult, Status
from mirrorwitness.mirror.sources import restore_source
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.describe import find_signer, take_in
from mirrorwitness.run.mirroring import prepare_packages
from mirrorwitness.run.session import now, open_mirror, open_upstream
from mirrorwitness.run.why import parse_subject

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.mirror.catalogue import PackageRecord
    from mirrorwitness.mirror.package import PackageSync
    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.run.session import Wishes
    from mirrorwitness.storage import Storage

__all__ = ["ReleaseSummary", "run_release"]


@dataclass(slots=True)
class ReleaseSummary:
    """What was released.

    Attributes:
        released: ``name@version`` → whether it is served now.
        sources: dropped sources that are asked again.
        problems: package → why it could not be brought up to date.
        code: what the command exits with.
    """

    released: dict[str, bool] = field(default_factory=dict[str, bool])
    sources: list[str] = field(default_factory=list[str])
    problems: dict[str, str] = field(default_factory=dict[str, str])
    code: ExitCode = ExitCode.COMPLETE


async def run_release(wishes: Wishes, subjects: Sequence[str], *, reason: str) -> ReleaseSummary:
    """Release versions, or all withdrawn versions of packages.

    Raises:
        ConfigurationError: a subject names nothing that is withdrawn, or the key that signs the mirror's description is
            not configured; nothing was released then.
        StorageError: the storage failed.
    """
    summary = ReleaseSummary()
    urls = [subject.rstrip("/") for subject in subjects if subject.startswith(("http://", "https://"))]
    async with open_mirror(wishes.config) as storage:
        catalogue = Catalogue(storage)
        names = [subject for subject in subjects if subject.rstrip("/") not in urls]
        chosen = [await _find(catalogue, subject) for subject in names]
        signer = await find_signer(wishes.config, storage)
        summary.sources = [url for url in urls if await restore_source(storage, url) is not None]
        if not chosen:
            return summary
        for record, versions in chosen:
            await _lift(catalogue, record, versions, reason)
        async with open_upstream(wishes, storage=storage) as upstream:
            packages = await prepare_packages(wishes, storage, upstream)
            brought = [await _apply(packages, storage, record, versions, summary) for record, versions in chosen]
        await take_in(storage, brought, key=signer, directory=wishes.config.spool_directory)
    return summary


async def _find(catalogue: Catalogue, subject: str) -> tuple[PackageRecord, list[Version]]:
    name, wanted = parse_subject(subject)
    record = await catalogue.read_record(name)
    versions = [] if record is None else [v for v, item in record.versions.items() if item.withdrawn]
    chosen = versions if wanted is None else [version for version in versions if version == wanted]
    if record is None or not chosen:
        raise ConfigurationError(
            f"{subject}: nothing of it is withdrawn here; `mirrorwitness status --why {subject}` says how it stands"
        )
    return record, chosen


async def _lift(catalogue: Catalogue, record: PackageRecord, versions: Sequence[Version], reason: str) -> None:
    name = record.name
    for version in versions:
        stone = record.versions[version].withdrawn
        await catalogue.add_release(name, version, stone, seen=format_time(now()), reason=reason)


async def _apply(
    packages: PackageSync,
    storage: Storage,
    record: PackageRecord,
    versions: Sequence[Version],
    summary: ReleaseSummary,
) -> PackageRecord:
    name = record.name
    try:
        result = await _bring(packages, name, record)
        await CoverageStore(storage).add(change_of(result.before, result.record), now=format_time(now()))
    except MirrorWitnessError as error:
        summary.problems[name] = f"released, and to be brought up to date by the next run: {error}"
        summary.code = max(summary.code, exit_code(error) or ExitCode.PARTIAL)
        result = PackageResult(name, Status.UNFINISHED)
    if result.problem() is not None:
        summary.problems[name] = str(result.problem())
        is_diverged = result.status is Status.DIVERGED
        summary.code = max(summary.code, ExitCode.DIVERGENCE if is_diverged else ExitCode.PARTIAL)
    after = await Catalogue(storage).read_record(name) or record
    for version in versions:
        item = after.versions.get(version)
        summary.released[f"{name}@{version}"] = item is not None and item.served
    return after


async def _bring(packages: PackageSync, name: PackageName, record: PackageRecord) -> PackageResult:
    try:
        return await packages.run(name, is_forced=True)
    except UpstreamNotFoundError:
        if not record.deleted:
            raise
        return await packages.withdraw(record)
