"""Feeder: read the head of a log that does not come to us, prove that it grew, and hand both to the witness.

    what we cosigned -> the log's head -> the tiles that a proof needs -> their root -> the proof -> `Witness.submit`

Rules:

- The decision is the witness's, the same as for what logs push. This module only brings what a log would have brought.
- What we cosigned is looked up first and the head read after it: a log that also pushes is not ahead of us then.
- Only tiles of `plan_proof` are read, and believed from the signed root down. Tiles of another root are a fault of
  whoever serves them, and evidence of nothing: a log does not sign tiles.
- A head that is older than what we cosigned is never submitted. A cache shows one for a while, of a log that also
  pushes; where that lasts (`_Mark`) it is an alarm: the log, or the cache, shows us less than it showed before.
- Of a tree whose tiles have the signed root, the root at *our* size is known too. Where that is not what we cosigned,
  the log has signed two histories: a fork, as much as two roots of one size are.
- A fork is submitted once, and then remembered: nobody is served by the same evidence every minute.
- A witness that was cut off between its state and what it publishes is brought on: what it remembers is published
  before the log is asked, and an unchanged head cosigned again, since nobody may have got the last cosignature.

*Concurrency*: one poll of a log at a time. *Cancellation*: at any point; what the witness has written stays consistent.

What it does not do: wait, repeat on a schedule, or publish (`mirrorwitness.run.polling`).

SPEC: C2SP tlog-tiles; Go's checksum database; C2SP tlog-witness for what is submitted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    MirrorWitnessError,
    ObjectMissingError,
    ProofError,
    RolledBackError,
    SecurityError,
    UpstreamError,
)
from mirrorwitness.tlog.merkle import (
    Range,
    complete_ranges,
    make_proof,
    nodes_needed,
    plan_consistency,
    subtree_hash,
)
from mirrorwitness.tlog.note import MAX_NOTE_BYTES, parse_lines
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import tiles_to_trust
from mirrorwitness.witness.decision import NEVER, Latest
from mirrorwitness.witness.protocol import AddCheckpoint, Reason
from mirrorwitness.witness.records import format_cosigned, public_key
from mirrorwitness.witness.service import Fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.logclient import LogClient
    from mirrorwitness.tlog.checkpoint import Checkpoint, OpenedCheckpoint
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.tlog.tiles import Tile
    from mirrorwitness.witness.logs import WitnessedLog
    from mirrorwitness.witness.protocol import Answer
    from mirrorwitness.witness.records import LogRecord
    from mirrorwitness.witness.service import Witness

__all__ = ["Action", "Feeder", "Polled", "ProofPlan", "plan_proof"]

TRIES: Final = 3
"""How often a poll begins anew because another replica moved the state meanwhile; the next poll is soon enough."""


class Action(StrEnum):
    """What became of a poll."""

    COSIGNED = "cosigned"
    """The log grew, and its head was cosigned."""
    REFRESHED = "refreshed"
    """Nothing new; the same head was cosigned again, with a newer time."""
    UNCHANGED = "unchanged"
    """Nothing new, and the last cosignature is young."""
    REFUSED = "refused"
    """The witness, or its storage, does not cosign now."""
    UNREAD = "unread"
    """The head or a tile could not be read."""
    BEHIND = "behind"
    """The log shows a smaller tree than the one that we cosigned a short time ago, as a cache would."""
    OLDER_HEAD = "older-head"
    """The log has shown a smaller tree than the one that we cosigned for longer than caches do."""
    UNVERIFIED = "unverified"
    """A signature, or tiles, that do not verify."""
    FORKED = "forked"
    """The log signed two trees that contradict each other."""
    ROLLED_BACK = "rolled-back"
    """The state of the witness is older than what it signed (P7)."""


_ENDINGS: Final[tuple[tuple[type[MirrorWitnessError], Action], ...]] = (
    (RolledBackError, Action.ROLLED_BACK),
    (SecurityError, Action.UNVERIFIED),
    (UpstreamError, Action.UNREAD),
)
"""The one table from error to what became of a poll; first match wins, and all others are `Action.REFUSED`."""

_REFUSALS: Final = {
    Reason.NOT_SIGNED: Action.UNVERIFIED,
    Reason.EMPTY_ROOT: Action.UNVERIFIED,
    Reason.OTHER_ROOT: Action.FORKED,
    Reason.ROLLED_BACK: Action.ROLLED_BACK,
}
"""What the witness's refusals mean here; all others are `Action.REFUSED`."""


@dataclass(frozen=True, slots=True)
class Polled:
    """The result of one poll of one log.

    Attributes:
        origin: the log.
        action: what became of it.
        before: the size that was cosigned before; None where it is not known.
        after: the size that is cosigned now.
        text: one sentence for a person; empty where there is nothing to say.
        checkpoint: the note with the log's lines and ours, where it was cosigned now.
    """

    origin: str
    action: Action
    before: int | None
    after: int | None
    text: str = ""
    checkpoint: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class ProofPlan:
    """What a consistency proof is made of.

    Attributes:
        spans: the subtrees whose hashes are the proof.
        tiles: what has to be read for these, and to believe it; none where the proof is empty.
    """

    spans: tuple[Range, ...]
    tiles: tuple[Tile, ...]


@dataclass(frozen=True, slots=True)
class _Proven:
    """A proof, and the root that the new tree has at the old size."""

    proof: tuple[Hash, ...]
    old_root: Hash


@dataclass(frozen=True, slots=True)
class _Mark:
    """A tree that the log has to show within some time, because we have cosigned it.

    It is set when a head is older than what we cosigned, and stays until a head is as large: a log that is shown late,
    by whatever it is, comes to the mark later by as much, however often we cosign more of it meanwhile.

    Attributes:
        size: of the tree.
        timestamp: since when it is cosigned, at the latest.
    """

    size: int
    timestamp: int


@dataclass(frozen=True, slots=True)
class _KnownFork:
    """A fork that was submitted: what we cosigned, and the head that contradicts it."""

    latest: Latest
    head: Latest
    text: str


def plan_proof(old: int, new: int) -> ProofPlan:
    """Return what to read for the consistency proof from a size to another.

    Raises:
        ConfigurationError: the old size is larger than the new, or one is no size.
    """
    spans = plan_consistency(old, new)
    if not spans:
        return ProofPlan((), ())
    # The nodes of the old tree lie in tiles that the proof needs anyway.
    nodes = [*nodes_needed(spans), *complete_ranges(0, old)]
    return ProofPlan(tuple(spans), tuple(tiles_to_trust(nodes, new)))


class Feeder:
    """Feeds one log to a witness.

    Args:
        witness: decides and signs; it knows the log.
        log: the log.
        client: reads it.
        refresh: seconds after which an unchanged head is cosigned again.
        older_after: seconds for which a head may be older than what we cosigned before that is an alarm.
        now: seconds since 1970, the witness's clock.
        storage: where the witness publishes; only read.
        on_fork: told of a fork that the witness itself cannot see, once; must not fail. Its proof is the root that the
            new tree has at our size, and behind that the consistency proof from there.
    """

    def __init__(
        self,
        *,
        witness: Witness,
        log: WitnessedLog,
        client: LogClient,
        refresh: float,
        older_after: float,
        now: Callable[[], float],
        storage: Storage,
        on_fork: Callable[[Fork], Awaitable[None]],
    ) -> None:
        self.log = log
        self._witness = witness
        self._client = client
        self._refresh = refresh
        self._older_after = older_after
        self._now = now
        self._storage = storage
        self._on_fork = on_fork
        self._is_published = False  # whether that is certain
        self._was_cut_off = False  # behind the latest cosignature, which may not have reached anybody
        self._size: int | None = None
        self._fork: _KnownFork | None = None
        self._mark: _Mark | None = None

    def __repr__(self) -> str:
        return f"<Feeder of {self._client!r}, size {self._size}>"

    @property
    def is_disabled(self) -> bool:
        """Whether the witness does not cosign the log now."""
        log = self._witness.logs.get(self.log.origin)
        return log is None or log.is_disabled

    async def poll(self) -> Polled:
        """Read the log once, and let what is new be cosigned.

        *Errors*: none go up but bugs; what failed is in the result.
        """
        try:
            for _ in range(TRIES):
                polled = await self._poll()
                if polled is not None:
                    self._was_cut_off &= polled.action not in {Action.COSIGNED, Action.REFRESHED}
                    return polled
        except MirrorWitnessError as error:
            action = next((action for kind, action in _ENDINGS if isinstance(error, kind)), Action.REFUSED)
            return self.end(action, str(error))
        return self.end(Action.REFUSED, f"other replicas of this witness moved its state {TRIES} times meanwhile")

    def end(self, action: Action, text: str = "") -> Polled:
        """Return a result by which nothing was cosigned, as for a poll that was given up."""
        return Polled(self.log.origin, action, self._size, self._size, text)

    async def _poll(self) -> Polled | None:
        """Poll once; None where another replica moved the state meanwhile."""
        record = await self._witness.record(self.log)
        # Before the log is asked: one that is down, or shows less, must not keep what a crash took from being shown.
        self._was_cut_off |= await self._witness.publish_again(self.log)
        latest = NEVER if record is None else record.latest
        self._size = latest.size
        head = await self._client.open_head()
        is_same = record is not None and _is_same(head.checkpoint, latest)
        if record is not None and is_same and await self._is_settled(record):
            return self.end(Action.UNCHANGED)
        return self._find_alarm(record, head.checkpoint) or await self._submit(record, latest, head, is_same=is_same)

    async def _is_settled(self, record: LogRecord) -> bool:
        """Say whether a cosignature is young, and published; the storage is asked only until that is certain."""
        if self._was_cut_off or self._now() - record.timestamp >= self._refresh:
            return False
        if not self._is_published:
            with suppress(ObjectMissingError):
                body, _ = await self._storage.read(public_key(self.log.origin), limit=MAX_NOTE_BYTES)
                self._is_published = body == record.checkpoint.encode()
        return self._is_published

    def _find_alarm(self, record: LogRecord | None, tree: Checkpoint) -> Polled | None:
        """Return the result for a head that is not submitted at all, because it is older or a known fork."""
        if record is None:
            return None
        if tree.size < record.size:
            return self._judge_older(record, tree)
        if self._fork is not None and self._fork.latest == record.latest and _is_same(tree, self._fork.head):
            return self.end(Action.FORKED, self._fork.text)
        return None

    def _judge_older(self, record: LogRecord, tree: Checkpoint) -> Polled:
        """Tell a cache that is slow for a while from a log that goes back, by how long we know of a larger tree."""
        if self._mark is None or tree.size >= self._mark.size:
            self._mark = _mark(record, tree.size)
        age = max(0, int(self._now()) - self._mark.timestamp)
        text = f"the log shows an older head: size {tree.size}, and {self._mark.size} was cosigned {age} s ago"
        if age < self._older_after:
            return self.end(Action.BEHIND, f"{text}; a cache before it may be slow for {self._older_after:g} s")
        return self.end(Action.OLDER_HEAD, f"{text}; it, or a cache before it, was slowed down or rolled back")

    async def _submit(
        self, record: LogRecord | None, latest: Latest, head: OpenedCheckpoint, *, is_same: bool
    ) -> Polled | None:
        tree = head.checkpoint
        proven = await self._prove(latest, tree)
        self._is_published = False
        given = await self._witness.submit(AddCheckpoint(latest.size, proven.proof, head.note, tree))
        if given.reason is None:
            self._is_published = True
            action = Action.REFRESHED if is_same else Action.COSIGNED
            note = format_cosigned(head, parse_lines(given.body))
            return Polled(self.log.origin, action, latest.size, tree.size, checkpoint=note)
        if given.reason is Reason.STALE:
            return None
        if record is not None and given.reason is Reason.PROOF and proven.old_root != latest.root:
            return await self._tell_fork(record, head, proven)
        return self._refuse(given, given.reason, latest, tree)

    async def _prove(self, latest: Latest, tree: Checkpoint) -> _Proven:
        """Make the proof that a head goes on from what we cosigned.

        Raises:
            ProofError: the log's tiles are not those of its head.
            UpstreamError: one of them cannot be read.
        """
        plan = plan_proof(latest.size, tree.size)
        if not plan.spans:
            return _Proven((), latest.root)
        hashes = TileHashes(tree.size, await self._client.read_tiles(plan.tiles))
        try:
            hashes.check_root(tree.root)
        except SecurityError as error:
            raise ProofError(f"the log's tiles do not match its head of size {tree.size}: {error}") from error
        proof = make_proof(plan.spans, hashes.hash_of)
        return _Proven(tuple(proof), subtree_hash(Range(0, latest.size), hashes.hash_of))

    async def _tell_fork(self, record: LogRecord, head: OpenedCheckpoint, proven: _Proven) -> Polled:
        latest, tree = record.latest, head.checkpoint
        text = (
            f"the log signed a tree of size {tree.size} whose first {latest.size} entries have the root "
            f"{proven.old_root.hex()}, and {latest.root.hex()} was cosigned"
        )
        self._fork = _KnownFork(latest, Latest(tree.size, tree.root), text)
        proof = (proven.old_root, *proven.proof)
        await self._on_fork(Fork(self.log.origin, record.checkpoint.encode(), head.format(), proof))
        return self.end(Action.FORKED, text)

    def _refuse(self, given: Answer, reason: Reason, latest: Latest, tree: Checkpoint) -> Polled:
        action = _REFUSALS.get(reason, Action.REFUSED)
        text = given.body.decode().strip()
        if action is Action.FORKED:
            self._fork = _KnownFork(latest, Latest(tree.size, tree.root), text)
        return self.end(action, text)


def _mark(record: LogRecord, size: int) -> _Mark:
    """Return the oldest tree larger than a size that a record knows of."""
    before, timestamp = record.before
    return _Mark(before, timestamp) if before > size else _Mark(record.size, record.timestamp)


def _is_same(tree: Checkpoint, known: Latest) -> bool:
    return tree.size == known.size and tree.root == known.root
