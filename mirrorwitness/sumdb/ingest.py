"""Ingest: bring what the log has of one package up to what its registry says. Idempotent, safe to kill anywhere.

    the registry's document ──> claims judged ──> bytes fetched and checked ──> records ──> the log's pool
                            └─> what it does not list any more ──> unpublish, security-hold

Rules:

- Nobody offers records but this: what is logged was said by the registry that has authority for the name, under a
  signature that verified where there is one, and its bytes were seen to be what it says.
- A version that is refused or cannot be had never stops another. Each has its reason.
- What the log has is not asked for again: a version that is listed with the integrity of its newest record costs
  nothing. With another integrity it becomes a conflict, with the record and the registry's own words as evidence.
- An older document than the last one is refused (`UpstreamStaleError`): caches go back in time.
- The log itself is what is remembered. Killed between any two steps, the next run finds what is missing; what was
  logged already is known, and nothing is logged twice.

What it does not do: choose packages, repeat what failed (`mirrorwitness.mirror.attempt`), or bound look-ups on demand
(`mirrorwitness.sumdb.demand`).

*Concurrency*: several packages at once, and several versions of one (`Ingest.run_version`), which share one document;
of one package one `Ingest.run` at a time, which is the caller's business. Two that bring one version log it once.
*Cancellation*: at any point; records that were offered may be logged.

SPEC: research/A 2.3, research/B 7.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Protocol

from mirrorwitness.errors import ConfigurationError, MirrorWitnessError, UpstreamProtocolError, UpstreamStaleError
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.offloop import parse_off_loop, run_off_loop
from mirrorwitness.npm.packument import rev_number
from mirrorwitness.npm.splice import version_texts
from mirrorwitness.npm.times import format_time
from mirrorwitness.sumdb.claims import Refused
from mirrorwitness.sumdb.documents import Document, Documents
from mirrorwitness.sumdb.fates import Fate, Proposal
from mirrorwitness.sumdb.ingested import Ingested, Seen
from mirrorwitness.sumdb.news import find_news, latest_of
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.sumdb.refusals import Refusals, RefusedVersion, read_refusals, write_refusals
from mirrorwitness.sumdb.withdrawals import find_withdrawals

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from datetime import datetime

    from msgspec import Raw

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.examination import Examination, Examiner, Offer, Upstream
    from mirrorwitness.sumdb.fates import Sequenced
    from mirrorwitness.sumdb.index import IndexLine
    from mirrorwitness.sumdb.logged import Logged

__all__ = ["Ingest", "Sink"]

CHUNK: Final = 256
"""Records of one package that are offered together: what a kill makes one do again."""


class Sink(Protocol):
    """Takes records: `mirrorwitness.sumdb.pool.Pool`."""

    async def add(self, proposals: Sequence[Proposal]) -> tuple[Sequenced, ...]:
        """Log proposals in their order, and say what became of each; returns when they are durable.

        Raises:
            LogLostError: another sequencer extended the log.
            StorageError: the storage failed; they may be logged.
        """
        ...


class Ingest:
    """Brings single packages up to date.

    Args:
        storage: where the log is; keeps refusals.
        logged: what the log has.
        sink: takes new records.
        authority: which registry a name belongs to.
        upstreams: the registries that can be asked, by their name in records.
        examiner: looks at single versions.
        confirm_after: seconds for which a version may be missing before that counts as withdrawn.
        now: the clock.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        logged: Logged,
        sink: Sink,
        authority: Authority,
        upstreams: Mapping[str, Upstream],
        examiner: Examiner,
        confirm_after: float,
        now: Callable[[], datetime],
    ) -> None:
        self._storage = storage
        self._logged = logged
        self._sink = sink
        self._authority = authority
        self._upstreams = upstreams
        self._examiner = examiner
        self._confirm_after = confirm_after
        self._now = now
        self._documents = Documents(self._read_document)

    def __repr__(self) -> str:
        return f"<Ingest from {', '.join(self._upstreams)}>"

    def registry_of(self, name: PackageName) -> str:
        """Return the registry that is asked for a name, as records have it.

        Raises:
            ConfigurationError: it belongs to nobody, or to a registry that is not among ours.
        """
        registry = self._authority.authority_of(name)
        if registry is None or registry not in self._upstreams:
            raise ConfigurationError(
                f"{name} is not logged here: it belongs to {registry or 'no registry'}, and asked are"
                f" {', '.join(self._upstreams)}; which registry has authority for which names is configured"
            )
        return registry

    async def run(
        self,
        name: PackageName,
        seen: Seen | None = None,
        *,
        wants: Callable[[Packument], Container[Version]] | None = None,
    ) -> Ingested:
        """Bring one package up to date.

        Args:
            name: the package.
            seen: what was seen of it last; with its ETag, where there was nothing left to do.
            wants: chooses which versions of the document are logged where they are new; None: all.

        Raises:
            ConfigurationError: the name is not for any of our registries.
            UpstreamNotFoundError: the registry does not have it.
            UpstreamStaleError: its document is older than the last one.
            UpstreamError: its document cannot be had.
            SignatureError: the registry shows other bytes under a known keyid.
            StorageError: the storage failed; what was offered may be logged.
            LogLostError: another sequencer extended the log.
        """
        seen = seen or Seen()
        work = await self._open(name, seen)
        if work is None:
            return Ingested(name, seen=seen, is_unchanged=True)
        before = await read_refusals(self._storage, name)
        gone = find_withdrawals(
            work.packument,
            work.latest,
            waiting={} if before is None else before.waiting,
            now=self._now(),
            confirm_after=self._confirm_after,
        )
        wanted = work.packument.versions if wants is None else wants(work.packument)
        if new := [version for version in work.news if version in wanted]:
            texts = await run_off_loop(work.packument.size, lambda: version_texts(work.packument))
            await self._bring(work, new, texts)
        events = await self._log_events(name, work.latest, gone.events)
        refusals = Refusals(
            name=name,
            seen=format_time(self._now()),
            versions={
                version: RefusedVersion(kind=found.kind, reason=found.reason) for version, found in work.refused.items()
            },
            waiting={str(version): since for version, since in gone.waiting.items()},
        )
        await write_refusals(self._storage, name, refusals, before=before)
        return work.finish(events=events, waiting=tuple(gone.waiting))

    async def run_version(self, name: PackageName, version: Version) -> Ingested:
        """Bring one version up to date, and leave everything else of the package as it is.

        Raises:
            MirrorWitnessError: as `run`.
        """
        async with self._documents.borrow(name) as document:
            packument = document.packument
            manifest = packument.versions.get(version)
            if manifest is None:
                return Ingested(name, listed=document.listed)
            line = (await self._logged.index(name)).latest(version, registry=document.registry)
            latest = {} if line is None else {version: line}
            news = find_news([manifest], latest)
            work = _Work(document.registry, packument, Seen(), latest, news)
            await self._bring(work, news, document.texts)
            return replace(work.finish(), known=1 - len(news), listed=document.listed)

    async def withdraw(self, name: PackageName) -> Ingested:
        """Log that a registry does not have a package any more, which was confirmed; idempotent.

        Raises:
            ConfigurationError: the name is not for any of our registries.
            StorageError: the storage failed.
            LogLostError: another sequencer extended the log.
        """
        latest = latest_of(await self._logged.index(name), self.registry_of(name))
        gone = {version: Event.UNPUBLISH for version, line in latest.items() if line.event is Event.PUBLISH}
        return Ingested(name, events=await self._log_events(name, latest, gone))

    async def _open(self, name: PackageName, seen: Seen) -> _Work | None:
        """Read the registry's document and the log's index; None where nothing changed."""
        registry = self.registry_of(name)
        client = self._upstreams[registry].registry
        answer = await client.packument(name, etag=seen.etag, last_modified=seen.last_modified)
        if answer.body is None:
            return None
        packument = await parse_off_loop(answer.body, name)
        _check_not_stale(packument, seen.rev)
        latest = latest_of(await self._logged.index(name), registry)
        news = await run_off_loop(packument.size, lambda: find_news(packument.versions.values(), latest))
        digest = hashlib.sha256(answer.body).hexdigest()
        seen = Seen(answer.etag, answer.last_modified, packument.rev or seen.rev, digest)
        return _Work(registry, packument, seen, latest, news)

    async def _read_document(self, name: PackageName) -> Document:
        """Read what the registry says of a package, for look-ups of its versions."""
        registry = self.registry_of(name)
        answer = await self._upstreams[registry].registry.packument(name)
        packument = await parse_off_loop(answer.body or b"", name)  # unasked, a 304 is an error before
        texts = await run_off_loop(packument.size, lambda: version_texts(packument))
        return Document(registry, packument, texts, frozenset(packument.versions))

    async def _bring(self, work: _Work, versions: Sequence[Version], texts: Mapping[str, Raw]) -> None:
        """Examine versions and offer what can be logged, a chunk at a time."""
        for start in range(0, len(versions), CHUNK):
            chunk = {version: bytes(texts[version]) for version in versions[start : start + CHUNK]}
            examined = await self._examiner.examine(
                work.packument, chunk, latest=work.latest, upstream=self._upstreams[work.registry]
            )
            work.add(examined)
            if examined.offers:
                done = await self._sink.add([offer.proposal for offer in examined.offers])
                work.note(examined.offers, done)

    async def _log_events(
        self, name: PackageName, latest: Mapping[Version, IndexLine], events: Mapping[Version, Event]
    ) -> tuple[Version, ...]:
        """Log what happened to versions, each by the lines of its newest record."""
        logged: list[Version] = []
        versions = list(events)
        for start in range(0, len(versions), CHUNK):
            chunk = versions[start : start + CHUNK]
            proposals: list[Proposal] = []
            for version in chunk:
                record = parse_record(await self._logged.record(latest[version].index))
                if (record.name, record.version) != (name, version):
                    raise UpstreamProtocolError(
                        f"the index of {name} calls leaf {latest[version].index} a record of"
                        f" {version}, and it is {record}: `mirrorwitness sumdb fsck` says what is damaged"
                    )
                proposals.append(Proposal(replace(record, event=events[version])))
            done = await self._sink.add(proposals)
            logged += [v for v, sequenced in zip(chunk, done, strict=True) if sequenced.fate is Fate.LOGGED]
        return tuple(logged)


@dataclass(slots=True)
class _Work:
    """One package while it is in work."""

    registry: str
    packument: Packument
    seen: Seen
    latest: Mapping[Version, IndexLine]
    news: Sequence[Version]
    logged: list[Version] = field(default_factory=list[Version])
    conflicts: dict[Version, str] = field(default_factory=dict[Version, str])
    refused: dict[Version, Refused] = field(default_factory=dict[Version, Refused])
    withheld: dict[Version, MirrorWitnessError] = field(default_factory=dict[Version, MirrorWitnessError])
    downloaded: int = 0
    downloaded_bytes: int = 0

    def add(self, examined: Examination) -> None:
        """Take in what was found."""
        self.refused |= examined.refused
        self.withheld |= examined.withheld
        self.downloaded += examined.downloaded
        self.downloaded_bytes += examined.downloaded_bytes

    def note(self, offers: Sequence[Offer], done: Sequence[Sequenced]) -> None:
        """Take in what became of what was offered."""
        for offer, sequenced in zip(offers, done, strict=True):
            if sequenced.fate is Fate.LOGGED:
                self.logged.append(offer.version)
            elif sequenced.fate is Fate.CONFLICT:
                self.conflicts[offer.version] = offer.reason or f"{offer.version}: logged with another integrity before"

    def finish(self, *, events: tuple[Version, ...] = (), waiting: tuple[Version, ...] = ()) -> Ingested:
        """Return what became of the package."""
        return Ingested(
            self.packument.name,
            seen=self.seen,
            logged=tuple(self.logged),
            known=len(self.packument.versions) - len(self.news),
            events=events,
            conflicts=self.conflicts,
            refused=self.refused,
            withheld=self.withheld,
            waiting=waiting,
            downloaded=self.downloaded,
            downloaded_bytes=self.downloaded_bytes,
        )


def _check_not_stale(packument: Packument, known: str | None) -> None:
    found, had = rev_number(packument.rev), rev_number(known)
    if found is not None and had is not None and found < had:
        raise UpstreamStaleError(
            f"{packument.name}: the registry answered revision {packument.rev}, older than {known} that was seen before"
        )
