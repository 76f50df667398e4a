"""Bring one package of the mirror up to date: the smallest unit of work, idempotent and safe to kill anywhere.

Order, and why a kill between any two steps leaves no lie behind (P2):

1. ask upstream for the packument, conditionally where nothing about our wishes changed;
2. decide (`mirrorwitness.mirror.withdrawal`, `mirrorwitness.mirror.gate`), writing nothing; tarballs that come back
   into view are read again (`mirrorwitness.mirror.reentry`), those that were released leave quarantine; where a log is
   configured, it is asked about what it has not vouched for (`mirrorwitness.mirror.vouching`);
3. tombstones for what upstream withdrew and evidence for what disagrees: facts, true whatever comes next;
4. tarballs, each verified before it is visible (P1), and then the log's proofs beside them;
5. a record that no longer says which wishes the documents fit; the full document, then the abbreviated one: both name
   stored tarballs only (`mirrorwitness.mirror.publication`);
6. where bytes have to go to quarantine or away, a record that no longer counts on them, and then they go;
7. the record, with upstream's ETag if and only if everything wanted is stored.

A kill after 4 leaves tarballs that nothing names; after 5, documents newer than the record. The next run finds a record
that fits no wishes and goes through the same steps, adopting what is stored. So does the slower one of two workers that
change a package at the same time: it finds the record changed, and begins anew with what the other one left.

What this does not do: choose packages, bound concurrency over packages, or count (`mirrorwitness.mirror.sync`).
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import EquivocationError, PackageLostError, UpstreamError
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.examiner import THREADS, Examination
from mirrorwitness.mirror.gate import BlockKind, Decision, decide, visible
from mirrorwitness.mirror.keep import carry_over
from mirrorwitness.mirror.publication import open_publication
from mirrorwitness.mirror.reentry import find_rotten
from mirrorwitness.mirror.result import PackageResult, Status
from mirrorwitness.mirror.select import choose
from mirrorwitness.mirror.settle import describe_package, merge_held, settle
from mirrorwitness.mirror.stale import check_not_stale
from mirrorwitness.mirror.vouching import Vouching, Word
from mirrorwitness.mirror.withdraw import Withdrawals
from mirrorwitness.mirror.withdrawal import Place
from mirrorwitness.npm.abbreviated import render_abbreviated
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.npm.offloop import parse_off_loop, run_off_loop
from mirrorwitness.npm.packument import Packument, render_full
from mirrorwitness.npm.splice import read_version_text
from mirrorwitness.npm.times import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime

    from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion, PackageRecord
    from mirrorwitness.mirror.publication import Publication
    from mirrorwitness.mirror.supplier import Supplier
    from mirrorwitness.mirror.tarballs import Tarballs
    from mirrorwitness.mirror.terms import PackageTerms
    from mirrorwitness.mirror.voucher import Voucher
    from mirrorwitness.mirror.withdrawal import Judgement, Release
    from mirrorwitness.storage import Storage

__all__ = ["PackageSync"]

DUEL_WAITS: Final = (0.1, 0.5, 2.5)
"""Longest waits before a package that another worker changes too is begun anew, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one run does about one package.

    Attributes:
        packument: upstream's document; an empty one where the package was deleted.
        releases: what the operator lifted.
        wrong: versions whose stored bytes are known to be damaged.
        unproven: versions whose stored proof is known to be wrong or missing.
        seal: what the record says where everything wanted is stored.
        is_deleted: whether upstream has no document any more, which was confirmed.
    """

    packument: Packument
    releases: frozenset[Release]
    wrong: frozenset[Version]
    seal: Mapping[str, str | None]
    unproven: frozenset[Version] = frozenset()
    is_deleted: bool = False


class PackageSync:
    """Brings single packages up to date under one set of terms.

    Args:
        storage: the mirror.
        catalogue: its records.
        authority: the registry that metadata comes from.
        tarballs: fetches and stores bytes.
        terms: what is wanted.
        now: the clock.
        voucher: asks the log; None where none is configured.
        jitter: numbers from 0 up to 1.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        catalogue: Catalogue,
        authority: Supplier,
        tarballs: Tarballs,
        terms: PackageTerms,
        now: Callable[[], datetime],
        voucher: Voucher | None = None,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
    ) -> None:
        self._storage = storage
        self._catalogue = catalogue
        self._authority = authority
        self._tarballs = tarballs
        self._terms = terms
        self._now = now
        self._jitter = jitter
        self._withdrawals = Withdrawals(
            storage=storage,
            catalogue=catalogue,
            tarballs=tarballs,
            policy=terms.withdrawn,
            stamp=lambda: format_time(now()),
        )
        self._threads = trio.CapacityLimiter(THREADS)
        self._vouching = Vouching(storage=storage, voucher=voucher, check=terms.check, log=terms.log)

    def fingerprint(self, name: PackageName) -> str:
        """Return `PackageTerms.fingerprint` of the present terms."""
        return self._terms.fingerprint(name)

    async def run(
        self,
        name: PackageName,
        *,
        is_forced: bool = False,
        replace_bytes: frozenset[Version] = frozenset(),
        renew_proofs: frozenset[Version] = frozenset(),
    ) -> PackageResult:
        """Bring one package up to date.

        Args:
            name: the package.
            is_forced: decide and write the documents anew even where upstream's document is the one we know.
            replace_bytes: versions whose stored bytes an audit found wrong; fetched again and overwritten.
            renew_proofs: versions whose stored proof it found wrong or missing; the log is asked again.

        Raises:
            PackageLostError: another worker changed the package each time that we were about to.
            StorageError: the storage failed; the package is as it was, or further.
            UpstreamError: the packument could not be had; the package is as it was.
        """
        attempt = partial(self._run, name, replace_bytes, renew_proofs, is_forced=is_forced)
        for wait in DUEL_WAITS:
            try:
                return await attempt()
            except PackageLostError:
                await trio.sleep(wait * self._jitter())
        return await attempt()

    async def _run(
        self, name: PackageName, wrong: frozenset[Version], unproven: frozenset[Version], *, is_forced: bool
    ) -> PackageResult:
        publication = await open_publication(self._storage, self._catalogue, name)
        record = publication.found
        releases = await self._catalogue.read_releases(record)
        fingerprint = self._terms.fingerprint(name)
        is_current = record.fingerprint == fingerprint and not (is_forced or wrong or unproven or releases)
        answer = await self._authority.packument(
            name,
            etag=record.etag if is_current else None,
            last_modified=record.last_modified if is_current else None,
        )
        digest = None if answer.body is None else hashlib.sha256(answer.body).hexdigest()
        if answer.body is None or (is_current and digest == record.source_sha256):
            return PackageResult(name, Status.UNCHANGED, record)
        packument = await parse_off_loop(answer.body, name)
        await check_not_stale(self._storage, packument, recorded=record.rev, is_forced=is_forced)
        work = _Work(
            packument=packument,
            releases=releases,
            unproven=unproven,
            wrong=wrong | {version for version, item in record.versions.items() if item.damaged},
            # Only now may a later run believe upstream's "not modified": everything wanted is stored.
            seal={
                "fingerprint": fingerprint,
                "etag": answer.etag,
                "last_modified": answer.last_modified,
                "source_sha256": digest,
            },
        )
        return await self._bring(work, publication)

    async def withdraw(self, record: PackageRecord) -> PackageResult:
        """Handle a deletion by upstream that was confirmed, under the operator's policy; idempotent.

        Raises:
            PackageLostError: the record is not `record` any more; somebody saw the package since.
            StorageError: the storage failed; the next attempt goes on.
        """
        name = record.name
        publication = await open_publication(self._storage, self._catalogue, name)
        if publication.found != record:
            raise PackageLostError(f"{name}: its record was changed while its deletion was confirmed; asked again")
        releases = await self._catalogue.read_releases(record)
        fingerprint = self._terms.fingerprint(name)
        if record.deleted == fingerprint and not releases:
            return PackageResult(name, Status.UNCHANGED, record)
        work = _Work(
            packument=await parse_off_loop(msgspec.json.encode({"_id": name, "name": name}), name),
            releases=releases,
            wrong=frozenset(version for version, item in record.versions.items() if item.damaged),
            is_deleted=True,
            seal={"deleted": fingerprint},
        )
        return await self._bring(work, publication)

    async def _bring(self, work: _Work, publication: Publication) -> PackageResult:
        """Do the steps from the decision to the record."""
        before = publication.found
        name = before.name
        result = PackageResult(name, record=before, before=before)
        judgement = self._withdrawals.judge(work.packument, before, work.releases, is_deleted=work.is_deleted)
        record = await self._withdrawals.restore(before, judgement)
        packument = await self._withdrawals.hold(work.packument, record, judgement)
        gone = {version for version, item in record.versions.items() if item.place is not Place.PUBLIC}
        wrong = set(work.wrong)
        decision = self._decide(packument, record, wrong | gone, judgement)
        rotten = await find_rotten(self._storage, name, decision)
        if rotten:
            wrong |= rotten
            decision = self._decide(packument, record, wrong | gone, judgement)
        if work.is_deleted:
            # A pin of a package that is gone for good will never be found; the tombstone and an alarm say so.
            left = tuple(block for block in decision.blocks if block.kind is not BlockKind.MISSING)
            decision = replace(decision, blocks=left)
        result.alarms += await self._withdrawals.bury(work.packument, before, judgement, is_deleted=work.is_deleted)
        word = await self._vouching.ask(decision, record, again=work.unproven)
        decision = word.admit(decision)
        evidence = await self._record_divergence(packument, decision, record, word)
        looking = Examination(packument, self._terms.confusion, word, self._threads)
        look = looking.look if looking.is_wanted else None
        brought = await self._tarballs.bring(name, decision.missing, replace=frozenset(wrong), look=look)
        decision = looking.judge(decision)
        changed = [*decision.kept, *(v for v, e in brought.withheld.items() if isinstance(e, EquivocationError))]
        packument, kept = await carry_over(self._storage, packument, changed, held=record.versions)
        shown = visible(decision, stored=brought.stored, kept=kept, vouched=word.vouched)
        known = merge_held(record.versions, wrong, {**brought.stored, **kept})
        known = await self._vouching.store(word, shown, known)
        result.alarms += [*word.alarms(shown), *await looking.tell(self._catalogue)]
        result.unvouched, result.confused = word.count_unvouched(shown), len(looking.found)
        await self._attest(decision, shown, known, result)
        written = await self._write_documents(publication, packument, shown, known)
        settled = settle(result, decision, brought, evidence)
        settled.record = msgspec.structs.replace(
            describe_package(before, decision, shown, known, log=self._terms.log or before.log),
            rev=work.packument.rev or before.rev,
            packument_sha256=written,
            checked=format_time(self._now()),
        )
        if judgement.places:
            # A run that dies between bytes and record must not leave a record that counts on them (P2).
            settled.record = await publication.note(settled.record)
            settled.record = await self._withdrawals.move(settled.record, judgement)
        if settled.status is Status.UPDATED:
            settled.record = msgspec.structs.replace(settled.record, **work.seal)
        settled.record = await publication.note(settled.record)
        return settled

    def _decide(
        self, packument: Packument, record: PackageRecord, wrong: Collection[Version], judgement: Judgement
    ) -> Decision:
        return decide(
            packument,
            choose(self._terms.selection, packument),
            held=record.versions,
            keys=self._terms.keys,
            policy=self._terms.policy,
            wrong=wrong,
            barred=judgement.barred,
            confusion=self._terms.confusion,
        )

    async def _record_divergence(
        self, packument: Packument, decision: Decision, record: PackageRecord, word: Word
    ) -> list[str]:
        """Keep both sides of every version that is refused, or only told of, because something disagrees (P5)."""
        keys: list[str] = []
        for block in dict.fromkeys((*decision.blocks, *word.contradictions())):
            version = Version(block.subject)
            if not block.kind.is_divergence or version not in packument.versions:
                continue
            mine = record.versions.get(version)
            content = {
                "kind": block.kind,
                "reason": block.reason,
                "upstream": msgspec.Raw(read_version_text(packument, version)),
                "published": packument.time.get(version),
                "held": msgspec.to_builtins(mine) if mine is not None else None,
            }
            # The proof is another one under each checkpoint; one piece of evidence is enough.
            beside = word.describe(version) if block.kind is BlockKind.CONTRADICTED else None
            keys.append(await self._catalogue.add_evidence(packument.name, version, content, beside=beside))
        return keys

    async def _attest(
        self,
        decision: Decision,
        shown: Sequence[Version],
        known: dict[Version, HeldVersion],
        result: PackageResult,
    ) -> None:
        """Copy attestations of shown versions; npm asks the mirror for them wherever the manifest names them."""
        for item in decision.wanted:
            if not item.attested or item.version not in shown or known[item.version].attested:
                continue
            try:
                body = await self._authority.attestations(result.name, item.version)
            except UpstreamError as error:
                result.owed.append(f"{result.name}@{item.version}: attestations not copied: {error}")
                continue
            if body is not None:
                key = layout.attestations_key(result.name, item.version)
                await self._storage.put(key, body, content_type="application/json")
                known[item.version] = msgspec.structs.replace(known[item.version], attested=True)

    async def _write_documents(
        self,
        publication: Publication,
        packument: Packument,
        shown: Sequence[Version],
        known: Mapping[Version, HeldVersion],
    ) -> str | None:
        """Write both documents, or remove them where nothing is left to serve. Return the full one's digest."""
        name = packument.name
        if not shown:
            await publication.hide()
            return None

        def url_of(version: Version) -> str:
            return layout.tarball_url(self._terms.public_base, name, known[version].file)

        full, short = await run_off_loop(packument.size, lambda: _render(packument, shown, url_of))
        # Never skipped because the record has the same digest: a run that died before its record was written may have
        # left another document.
        await publication.show(full, short)
        return hashlib.sha256(full).hexdigest()


def _render(packument: Packument, shown: Sequence[Version], url_of: Callable[[Version], str]) -> tuple[bytes, bytes]:
    versions = frozenset(shown)
    return (
        render_full(packument, versions=versions, tarball_url=url_of),
        render_abbreviated(packument, versions=versions, tarball_url=url_of),
    )
