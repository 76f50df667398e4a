"""SumdbClient: look versions up in a checksum database, and believe no more than what is shown.

    update: the published checkpoint goes on from the newest that was verified before (`mirrorwitness.sumdb.ratchet`)
    lookup: the answer for a version -> its proof leads to that tree's root -> the record is about that version

Rules:

- All look-ups of a run are in one tree, at a size that the client names: the checkpoint is read once. Only where the
  log grew by what was asked for is it read again, and the look-up repeated in the newer tree.
- A kept checkpoint of the head's size that has another root is a fork that the log signed, whoever kept it: evidence.
- What comes back is proven before it is read. What was kept from an earlier run is verified like the rest
  (`mirrorwitness.sumdb.lookupcache`), and asked for again once it is older than `max_age`.

*Concurrency*: many look-ups at once, `LOOKUPS_AT_ONCE` of them on the wire. *Cancellation*: at any point; what is kept
stays consistent. *Deadlines* are the caller's.

What it does not do: say what a record means for somebody's bytes (`mirrorwitness.sumdb.verdict`), or notice that a
newer record of a version is withheld: that is what monitors read the whole log for.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import SecurityError, UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.sumdb.found import Found, check_lookup
from mirrorwitness.sumdb.lookupcache import LookupCache, Remembered
from mirrorwitness.sumdb.lookups import parse_lookup
from mirrorwitness.sumdb.ratchet import Head, Ratchet
from mirrorwitness.sumdb.records import Event, is_recorded_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.sumdb.source import LogSource, LookupSource
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import TrustStore
    from mirrorwitness.tlog.checkpoint import Checkpoint

__all__ = ["LOOKUPS_AT_ONCE", "MAX_AGE", "Head", "SumdbClient"]

NEWER_TREES: Final = 4
"""How many newer trees one look-up follows: the log needs one to have a version logged, replicas behind caches more."""

LOOKUPS_AT_ONCE: Final = 16
"""Requests on the wire at once: at 20 ms each, 1,500 versions take two seconds."""

_SHOWN: Final = 100

MAX_AGE: Final = timedelta(hours=24)
"""How long an answer is good for before the log is asked again whether a newer record of the version followed."""


class SumdbClient:
    """A client of one checksum database. May be used by many tasks at once, after `update`.

    Args:
        terms: whom to believe.
        source: reads the log.
        lookups: looks versions up.
        trust: what was verified before.
        now: gives the time of day.
        max_age: how old a kept answer may be.

    Attributes:
        remembered: how many look-ups were answered by what was kept.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        source: LogSource,
        lookups: LookupSource,
        trust: TrustStore,
        now: Callable[[], datetime],
        max_age: timedelta = MAX_AGE,
    ) -> None:
        self.remembered = 0
        self._terms = terms
        self._lookups = lookups
        self._now = now
        self._max_age = max_age
        self._ratchet = Ratchet(terms=terms, source=source, trust=trust, now=now)
        self._cache = LookupCache(trust.storage, terms.origin)
        self._places = trio.Semaphore(LOOKUPS_AT_ONCE)
        self._head: Head | None = None
        self._updating = trio.Lock()
        self._updated = -math.inf  # on trio's clock, when the reading of the head began
        self._trees: dict[bytes, Checkpoint | None] = {}

    def __repr__(self) -> str:
        size = "not read" if self._head is None else f"at {self._head.tree.size}"
        return f"<SumdbClient of {self._terms.origin!r}, {size}>"

    @property
    def head(self) -> Head | None:
        """The tree of the latest `update`."""
        return self._head

    async def update(self) -> Head:
        """Read the published checkpoint, verify it, and compare it with the newest that was verified before.

        Look-ups are in this tree from then on.

        Raises:
            ForkError: the log signed two histories; the message says where the evidence is.
            SignatureError: the log's signature is missing or wrong, or the quorum is not met.
            ProofError: its tiles are not those of its checkpoint.
            UpstreamError: the log cannot be read, or serves no checkpoint.
            ConfigurationError: what was verified before is damaged.
            StorageError: the storage failed.
        """
        began = trio.current_time()
        self._head = await self._ratchet.advance()
        self._updated = began
        return self._head

    async def lookup(self, name: PackageName, version: Version) -> Found:
        """Look a version up in the tree of `update`, or where it is new in a newer one, and verify the answer.

        Returns:
            The record; also that of a conflict, and of a version that was withdrawn.

        Raises:
            UpstreamNotFoundError: the log has no record of it, as far as it says.
            ForkError: a newer tree, or one that was kept, contradicts the head.
            SignatureError: a newer tree is not signed, or not cosigned as the policy says.
            ProofError: the answer is not in the log, or about something else.
            UpstreamError: nobody can say.
            StorageError: the storage failed.
        """
        if not is_recorded_version(version):
            raise UpstreamNotFoundError(
                f"{name}@{version[:_SHOWN]!a} is not logged: no log has a record of such a version"
            )
        head = self._head or await self.update()
        kept = await self._find_kept(head, name, version)
        if kept is not None:
            self.remembered += 1
            return kept
        for _ in range(NEWER_TREES):
            try:
                return await self._ask(head, name, version)
            except UpstreamNotFoundError as error:
                missing = error
            newer = await self._newer_than(head, answered=trio.current_time())
            if newer is None:
                raise missing
            head = newer
        return await self._ask(head, name, version)

    async def _newer_than(self, head: Head, *, answered: float) -> Head | None:
        """Return a newer tree than that of a look-up that was answered then; None where there is none."""
        async with self._updating:
            newest = self._head or head
            if newest.tree.size <= head.tree.size and self._updated <= answered:
                newest = await self.update()
            return newest if newest.tree.size > head.tree.size else None

    async def _ask(self, head: Head, name: PackageName, version: Version) -> Found:
        async with self._places:
            body = await self._lookups.read_lookup(name, version, size=head.tree.size)
        found = _check(body, head.tree, head.note, name, version)
        if found.record.event is not Event.CONFLICT:
            seen = int(self._now().timestamp())
            answer = Remembered(f"{name}@{version}", head.tree.size, seen, body.decode())
            await self._cache.remember(answer, head.note)
        return found

    async def save(self) -> None:
        """Keep what was verified, so that the next run need not ask for it.

        Raises:
            StorageError: the storage failed.
        """
        await self._cache.save()

    async def _find_kept(self, head: Head, name: PackageName, version: Version) -> Found | None:
        """Return what was kept of a version where it is young, and as good as an answer that came now."""
        kept = await self._cache.find(name, version)
        if kept is None:
            return None
        answer, note = kept
        if not 0 <= int(self._now().timestamp()) - answer.seen < self._max_age.total_seconds():
            return None  # also where a clock was set back meanwhile
        tree = self._tree_of(note)
        if tree is not None and tree.size == head.tree.size and tree.root != head.tree.root:
            raise await self._ratchet.tell_fork((note, tree), (head.note, head.tree))
        try:
            if tree is not None and tree.size == answer.size <= head.tree.size:
                return _check(answer.body.encode(), tree, note, name, version)
        except (SecurityError, UpstreamProtocolError):
            pass  # somebody changed the file: it is evidence of nothing that the log did
        await self._cache.forget(answer)
        return None

    def _tree_of(self, note: bytes) -> Checkpoint | None:
        """Return the tree of a checkpoint that was kept; None where the present terms refuse it."""
        if note not in self._trees:
            try:
                self._trees[note] = self._terms.check(note).opened.checkpoint
            except (SecurityError, UpstreamProtocolError):
                self._trees[note] = None
        return self._trees[note]


def _check(body: bytes, tree: Checkpoint, note: bytes, name: PackageName, version: Version) -> Found:
    lookup = parse_lookup(body, has_checkpoint=False)
    return Found(check_lookup(lookup, tree, name=name, version=version), lookup, tree, note)
