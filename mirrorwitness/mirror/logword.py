"""LogVoucher: ask a checksum database over the network what it says of the versions of a package.

    the published checkpoint, on one line with the newest that this mirror ever saw (`mirrorwitness.sumdb.ratchet`)
      ──> a look-up for each claim in that tree ──> proven ──> Vouched or Contradiction
      ──> not there: once more in a newer tree, if there is one ──> NotLogged

Rules:

- All look-ups are in a tree that was verified first, at a size that we name; so a proof needs no further trust.
- A package's claims are asked side by side, `AT_ONCE` of them over all packages.
- A log that does not answer is left alone for `QUIET_SECONDS`: meanwhile every claim is `Silent`, so a log that is down
  costs a run one wait and not one for each version. The same holds for a checkpoint that lacks its quorum.
- After a fork nothing is asked any more: every further question raises the same `ForkError`.

*Cancellation*: at any point. *Deadlines* are those of the fetcher.

What this does not do: decide what an answer means for what is served (`mirrorwitness.mirror.gate`), or notice that a
newer record of a version is withheld: that is what monitors read the whole log for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ForkError, SecurityError, UpstreamError, UpstreamNotFoundError
from mirrorwitness.mirror.voucher import Answer, CheckedProof, Claim, NotLogged, Silent, answer_of, check_proof
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.found import Found, check_lookup
from mirrorwitness.sumdb.lookups import parse_lookup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.ratchet import Head, Ratchet
    from mirrorwitness.sumdb.source import LookupSource
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["AT_ONCE", "QUIET_SECONDS", "LogVoucher"]

AT_ONCE: Final = 16
"""Look-ups on the wire at once, over all packages: at 20 ms each, 800 versions a second."""

QUIET_SECONDS: Final = 5.0
"""How long a checkpoint is taken for the newest where nothing is missing in it, and a log that failed is left alone. A
published checkpoint may be as old as that in a cache."""


class LogVoucher:
    """Asks one checksum database. May be used by several tasks at once.

    Args:
        terms: whom to believe.
        ratchet: reads and verifies its checkpoints.
        lookups: looks versions up.
        registry: whose names the records have to be, as records write it; None for any registry's.
    """

    def __init__(self, *, terms: Terms, ratchet: Ratchet, lookups: LookupSource, registry: str | None = None) -> None:
        self._terms = terms
        self._registry = registry
        self._ratchet = ratchet
        self._lookups = lookups
        self._places = trio.CapacityLimiter(AT_ONCE)
        self._advancing = trio.Lock()
        self._head: Head | None = None
        self._read_at = -QUIET_SECONDS
        self._failure: UpstreamError | SecurityError | None = None
        self._failed_at = 0.0

    def __repr__(self) -> str:
        size = "not read" if self._head is None else f"at {self._head.tree.size}"
        return f"<LogVoucher of {self.origin!r}, {size}>"

    @property
    def origin(self) -> str:
        """Which log."""
        return self._terms.origin

    def check(self, body: bytes, name: PackageName, claim: Claim) -> CheckedProof:
        """Check a stored proof as `mirrorwitness.mirror.voucher.check_proof` does, under this log's terms."""
        return check_proof(body, name=name, claim=claim, terms=self._terms, registry=self._registry)

    async def start(self) -> list[str]:
        """Read the published checkpoint, and return sentences for the operator.

        Raises:
            SecurityError: the log forked, or its checkpoint is not acceptable.
            StorageError: what is remembered of the log cannot be read or written.
        """
        try:
            head = await self.advance()
        except UpstreamError as error:
            return [f"the log {self.origin!r} cannot be read, nothing new is vouched for: {error}"]
        told: list[str] = []
        if not self._terms.asks_witnesses:
            told.append(f"no witness vouches for the log {self.origin!r}: it could show others another one (--policy)")
        if head.shown is not None:
            more = "" if head.is_compared else ", and it does not serve what it takes to compare the two"
            told.append(
                f"the log shows an older checkpoint than it did: {head.shown}; {head.tree.size} was seen before{more}"
            )
        return told

    async def vouch(self, name: PackageName, claims: Sequence[Claim]) -> dict[Version, Answer]:
        """Ask about versions of one package; see `mirrorwitness.mirror.voucher.Voucher.vouch`."""
        answers: dict[Version, Answer] = {}
        try:
            head = await self.advance()  # what is in the log may be in conflict by now
            await self._ask(head, name, claims, answers)
            absent = [claim for claim in claims if isinstance(answers[claim.version], NotLogged)]
            if absent:
                # Asking may have made the log grow by what it did not have; no tree from before can have that.
                newer = await self.advance(since=trio.current_time())
                if newer.tree.size > head.tree.size:
                    await self._ask(newer, name, absent, answers)
        except UpstreamError as error:
            answers = {claim.version: Silent(error) for claim in claims} | answers
        return answers

    async def _ask(
        self, head: Head, name: PackageName, claims: Sequence[Claim], answers: dict[Version, Answer]
    ) -> None:
        async def ask(claim: Claim) -> None:
            async with self._places:
                answers[claim.version] = await self._look_up(head, name, claim)

        await for_each(claims, ask, at_once=min(AT_ONCE, len(claims)))

    async def _look_up(self, head: Head, name: PackageName, claim: Claim) -> Answer:
        if (failure := self._is_quiet()) is not None:
            if isinstance(failure, SecurityError):
                raise type(failure)(str(failure)) from failure
            return Silent(failure)
        try:
            body = await self._lookups.read_lookup(name, claim.version, size=head.tree.size)
            lookup = parse_lookup(body, has_checkpoint=False)
            record = check_lookup(lookup, head.tree, name=name, version=claim.version)
        except UpstreamNotFoundError as error:
            return NotLogged(str(error))
        except UpstreamError as error:
            self._note(error)
            return Silent(error)
        found = Found(record, lookup, head.tree, head.note)
        return answer_of(
            record,
            claim,
            index=found.index,
            size=head.tree.size,
            proof=found.format_proof(),
            registry=self._registry,
        )

    async def advance(self, *, since: float | None = None) -> Head:
        """Return the newest head: the one that we have where it is young, or else what the log shows now.

        Args:
            since: it was read no earlier than that, on trio's clock; None: it may be `QUIET_SECONDS` old.

        Raises:
            SecurityError: the log forked, or its checkpoint is not acceptable.
            StorageError: what is remembered of the log cannot be read or written.
            UpstreamError: the log cannot be read.
        """
        async with self._advancing:
            if (failure := self._is_quiet()) is not None:
                raise type(failure)(str(failure)) from failure
            began = trio.current_time()
            oldest = began - QUIET_SECONDS if since is None else since
            if self._head is not None and self._read_at > oldest:
                return self._head
            try:
                self._head = await self._ratchet.advance()
            except (UpstreamError, SecurityError) as error:
                self._note(error)
                raise
            self._read_at = began
            return self._head

    def _is_quiet(self) -> UpstreamError | SecurityError | None:
        """Return why the log is not asked now; None where it may be."""
        is_final = isinstance(self._failure, ForkError)
        if not is_final and trio.current_time() >= self._failed_at + QUIET_SECONDS:
            self._failure = None
        return self._failure

    def _note(self, error: UpstreamError | SecurityError) -> None:
        self._failure, self._failed_at = error, trio.current_time()
