"""Examination: look at single versions of one package, and say of each what can be offered to the log, or why not.

Rules:

- A claim is judged first, then compared with what the log has, and only then are bytes fetched.
- The same integrity as ever, of a version that was withdrawn: its bytes are looked at again like new ones.
- Another integrity: a conflict is offered, without asking for the other bytes. But a version that was signed is not
  brought into conflict by an unsigned claim: that is refused.
- What a registry cannot give now (bytes, attestations, keys) is withheld: tried again, and in no way judged.
- A storage that fails, and a budget that is used up, end everything.

*Cancellation*: at any point; nothing is written.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, IntegrityMismatchError, MirrorWitnessError, UpstreamError
from mirrorwitness.npm.integrity import is_same_content
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.times import format_time
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.claims import Claim, Refusal, Refused, make_claim, make_evidence, make_record
from mirrorwitness.sumdb.fates import Proposal, make_conflict
from mirrorwitness.sumdb.records import Event, parse_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.npm.registry import Registry
    from mirrorwitness.sumdb.index import IndexLine
    from mirrorwitness.sumdb.logged import Logged
    from mirrorwitness.sumdb.registry_keys import RegistryKeys
    from mirrorwitness.sumdb.tarballs import Tarballs

__all__ = ["Examination", "Examiner", "Offer", "Upstream"]

AT_ONCE: Final = 16
"""Versions of one package in work at once; the tarballs of all packages have a limit of their own."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """One registry that records come from.

    Attributes:
        prefix: its name in records.
        registry: its client.
        keys: its signing keys.
    """

    prefix: str
    registry: Registry
    keys: RegistryKeys


@dataclass(frozen=True, slots=True)
class Offer:
    """Something that can be logged.

    Attributes:
        version: of which version.
        proposal: what to log.
        reason: of a conflict, why.
    """

    version: Version
    proposal: Proposal
    reason: str = ""


@dataclass(slots=True)
class Examination:
    """What was found, of one version or of many.

    Attributes:
        offers: what can be logged, in the document's order.
        refused: what must not be logged.
        withheld: what could not be had.
        downloaded: tarballs that were read.
        downloaded_bytes: their size.
    """

    offers: list[Offer] = field(default_factory=list[Offer])
    refused: dict[Version, Refused] = field(default_factory=dict[Version, Refused])
    withheld: dict[Version, MirrorWitnessError] = field(default_factory=dict[Version, MirrorWitnessError])
    downloaded: int = 0
    downloaded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Question:
    """What there is to say of one version."""

    packument: Packument
    version: Version
    text: bytes
    line: IndexLine | None
    upstream: Upstream


class Examiner:
    """Looks at single versions.

    Args:
        logged: what the log has.
        tarballs: looks at bytes.
        must_be_signed: unsigned versions are refused.
        now: the clock.
    """

    def __init__(
        self, *, logged: Logged, tarballs: Tarballs, must_be_signed: bool, now: Callable[[], datetime]
    ) -> None:
        self._logged = logged
        self._tarballs = tarballs
        self._must_be_signed = must_be_signed
        self._now = now

    def __repr__(self) -> str:
        return f"<Examiner {self._tarballs!r}>"

    async def examine(
        self,
        packument: Packument,
        texts: Mapping[Version, bytes],
        *,
        latest: Mapping[Version, IndexLine],
        upstream: Upstream,
    ) -> Examination:
        """Look at some versions of a package.

        Args:
            packument: the registry's document.
            texts: the versions to look at, with their objects in it.
            latest: the newest record of each version that the log has.
            upstream: the registry.

        Raises:
            SignatureError: the registry shows other bytes under a known keyid.
            StorageError: the storage failed.
            BudgetExhaustedError: nothing may be asked any more.
        """
        found = Examination()
        offers: dict[Version, Offer] = {}

        async def look(version: Version) -> None:
            question = _Question(packument, version, texts[version], latest.get(version), upstream)
            try:
                answer = await self._judge(question)
                if isinstance(answer, Claim):
                    answer = await self._fetch(answer, upstream.registry, found)
            except UpstreamError as error:
                found.withheld[version] = error
                return
            except IntegrityMismatchError as error:
                found.withheld[version] = error
                answer = Refused(Refusal.BYTES, str(error))
            if isinstance(answer, Refused):
                found.refused[version] = answer
            elif answer is not None:
                offers[version] = answer

        await for_each(texts, look, at_once=min(AT_ONCE, len(texts)))
        found.offers = [offers[version] for version in texts if version in offers]
        return found

    async def _judge(self, question: _Question) -> Claim | Offer | Refused | None:
        """Judge a version by what is said of it and what the log has; a claim still needs its bytes seen."""
        packument, version = question.packument, question.version
        keyids = [keyid for keyid, _ in packument.versions[version].signatures]
        claim = make_claim(
            packument,
            version,
            question.text,
            registry=question.upstream.prefix,
            keys=await question.upstream.keys.find(keyids),
            must_be_signed=self._must_be_signed,
        )
        if isinstance(claim, Refused) or question.line is None:
            return claim
        return await self._compare(claim, question.line)

    async def _compare(self, claim: Claim, line: IndexLine) -> Claim | Offer | Refused | None:
        """Compare a claim with the newest record: the claim, where its bytes are to be fetched; None: it is known."""
        body = await self._logged.record(line.index)
        known = parse_record(body)
        if is_same_content(known.integrity, claim.integrity):
            return None if known.event is Event.PUBLISH else claim
        if known.signatures and not claim.signatures:
            return Refused(
                Refusal.UNSIGNED, f"another integrity than the logged {known.integrity}, and the signature is gone"
            )
        evidence = make_evidence(claim, body, seen=format_time(self._now()))
        reason = f"{claim}: {claim.registry} says {claim.integrity} now, and said {known.integrity} (leaf {line.index})"
        return Offer(claim.version, make_conflict(known, claim.integrity, evidence), reason)

    async def _fetch(self, claim: Claim, registry: Registry, found: Examination) -> Offer | Refused:
        seen = await self._tarballs.look(claim, registry)
        found.downloaded += 1
        found.downloaded_bytes += seen.size
        attestations = await registry.attestations(claim.name, claim.version) if claim.is_attested else None
        record = make_record(
            claim,
            tarball_size=seen.size,
            tarball_manifest=seen.manifest,
            attestations=None if attestations is None else hashlib.sha256(attestations).digest(),
        )
        try:
            return Offer(claim.version, Proposal(record))
        except ConfigurationError as error:
            return Refused(Refusal.MALFORMED, str(error))
