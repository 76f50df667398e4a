"""Log: the sequencer of a checksum database, over a storage and without a database.

    evidence -> stage the new records -> swap the head -> bundles, tiles, indexes -> remove what was staged -> answer

Rules:

- A batch is logged when the swap of the head was won, and not before. So of two sequencers one loses and stops
  (`LogLostError`), and no tile or bundle is ever written for a tree that did not come to be.
- An answer means: durable, in the tree, in the index. A failure means nothing: the records may be logged. Whoever
  offers them again is told that they are known.
- After a failure or a cancellation the state is read anew, and the last batch completed (`mirrorwitness.sumdb.state`),
  before anything is appended. A head that is neither the one before nor one that was tried is somebody else's.
- A head that is signed never goes back: behind the published checkpoint the log does not open (`RolledBackError`).
- Nothing is ever swapped without a condition, whatever the storage says.
- Partial tiles and bundles are removed once the published tree has the full ones (`mirrorwitness.sumdb.pruning`).

What it does not do: gather proposals of many tasks (`mirrorwitness.sumdb.pool`), check records against a registry
(`mirrorwitness.sumdb.ingest`), or ask witnesses (`mirrorwitness.sumdb.publisher`).

*Concurrency*: all methods may be called by many tasks; batches are appended one after the other.
*Cancellation*: a batch that is cancelled may be logged; nothing is lost or half-way.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    LogLostError,
    PreconditionFailedError,
    RolledBackError,
    StorageUnavailableError,
    UpstreamProtocolError,
)
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.batch import Batch
from mirrorwitness.sumdb.fates import Fate, Proposal, Sequenced
from mirrorwitness.sumdb.growth import format_staged, grow
from mirrorwitness.sumdb.head import format_head, parse_head
from mirrorwitness.sumdb.indexes import read_known
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY, evidence_key, shown_head_key, staged_key
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.pruning import Partials
from mirrorwitness.sumdb.state import (
    AT_ONCE,
    LogState,
    apply,
    create_log,
    read_head,
    read_identity,
    read_published,
    read_state,
)
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.merkle import MAX_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.growth import Growth
    from mirrorwitness.sumdb.head import Identity
    from mirrorwitness.sumdb.state import Known
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

__all__ = ["MAX_BATCH", "MAX_BATCH_BYTES", "Fate", "Log", "Proposal", "Sequenced", "create_log", "open_log"]

MAX_BATCH: Final = 16_384
"""Most records that one swap logs; hashing them takes some 30 ms, in which nothing else is done."""

MAX_BATCH_BYTES: Final = 32 * 1024 * 1024
"""Most bytes of records that one swap logs: they are held in memory three times."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"


async def open_log(storage: Storage, *, origin: str, keys: Sequence[SignerKey], now: Callable[[], float]) -> Log:
    """Open a log to append to it, and complete its last batch where a sequencer was killed.

    Args:
        storage: where it is.
        origin: which log it has to be.
        keys: its keys, all that it was begun with.
        now: seconds since 1970.

    Raises:
        ConfigurationError: there is no log, it is another one, or it has other keys.
        RolledBackError: its state is lost, or older than what is published.
        SecurityError: its tiles, records and signatures do not fit together; `sumdb fsck` says where.
        UpstreamProtocolError: an object is not what its key says.
        StorageError: the storage failed.
    """
    identity = await read_identity(storage)
    if identity.origin != origin:
        raise ConfigurationError(f"the storage has the log {identity.origin!r}, expected {origin!r}")
    given = {key.verifier for key in keys}
    if given != set(identity.keys):
        expected = ", ".join(str(key) for key in identity.keys)
        found = ", ".join(str(key) for key in given) or "none"
        raise ConfigurationError(f"the log {origin!r} has the keys {expected}; those given are {found}")
    state, partials = await read_state(storage, identity), Partials(storage)
    await partials.find(state.head.size)
    return Log(storage, identity=identity, keys=keys, now=now, state=state, partials=partials)


class Log:
    """Appends to one log; made by `open_log`.

    Args:
        storage: where it is.
        identity: whose it is.
        keys: its keys.
        now: seconds since 1970.
        state: as it was found.
        partials: partial tiles that were found.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        identity: Identity,
        keys: Sequence[SignerKey],
        now: Callable[[], float],
        state: LogState,
        partials: Partials,
    ) -> None:
        self._storage = storage
        self._identity = identity
        self._keys = tuple(keys)
        self._now = now
        self._state = state
        self._prover = Prover(StoredLog(storage))
        self._partials = partials
        self._partials.note(state.head.size)
        self._lock = trio.Lock()
        self._tried: set[bytes] = set()  # heads whose swap may yet turn out to have been won
        self._is_certain = True
        self._has_grown = False
        self._lost: str | None = None

    def __repr__(self) -> str:
        return f"<Log {self.origin!r} of {self.size} entries{', lost' if self._lost else ''}>"

    @property
    def origin(self) -> str:
        """The first line of its checkpoints."""
        return self._identity.origin

    @property
    def verifiers(self) -> tuple[VerifierKey, ...]:
        """Its keys, as those that read it need them."""
        return self._identity.keys

    @property
    def size(self) -> int:
        """How many entries are logged, all of them durable and complete."""
        return self._state.head.size

    @property
    def head(self) -> bytes:
        """The newest checkpoint, with the log's own signatures."""
        return self._state.head.note

    @property
    def is_own_head(self) -> bool:
        """Whether this process made the head, and did not find it in the storage."""
        return self._has_grown

    async def append(self, proposals: Sequence[Proposal]) -> tuple[Sequenced, ...]:
        """Log what is new of some proposals, in their order.

        They are logged by one swap of the head, or by several where they are more than `MAX_BATCH`.

        Returns:
            What became of each; it is durable, in the tree and in the index.

        Raises:
            LogLostError: another sequencer extended the log; this one is of no use any more.
            RolledBackError: the state was restored from an older copy under our hands.
            StorageError: the storage failed; the proposals may be logged or not.
            UpstreamProtocolError: an index is damaged; the message names it.
        """
        done: list[Sequenced] = []
        async with self._lock:
            await self._make_certain()
            for part in _parts(proposals):
                done += await self._append(part)
        return tuple(done)

    async def publish(self, note: bytes) -> bool:
        """Make a checkpoint of this log the published one, unless a larger one is.

        Args:
            note: the checkpoint, with the log's signature and those of witnesses.

        Returns:
            Whether it is published now.

        Raises:
            SignatureError: the log did not sign it.
            UpstreamProtocolError: it is no checkpoint of this log.
            ConfigurationError: it is of a tree that this log does not have (yet).
            RolledBackError: another tree of the same size is published.
            StorageError: the storage failed; it may be published. The same call again is no harm.
        """
        opened = open_checkpoint(note, self.verifiers, origin=self.origin)
        await self._check_own(opened.checkpoint)
        while True:
            published = await read_published(self._storage, self._identity)
            etag = None
            if published is not None:
                there, etag = published[0].checkpoint, published[1]
                if there.size > opened.checkpoint.size:
                    return False
                if there.size == opened.checkpoint.size and there.root != opened.checkpoint.root:
                    raise RolledBackError(f"{CHECKPOINT_KEY} says {there}, this log has {opened.checkpoint}")
            try:
                await self._storage.put(CHECKPOINT_KEY, note, if_match=etag, if_absent=etag is None, content_type=_TEXT)
            except PreconditionFailedError:
                continue  # another publisher of this log; the larger one stays
            await self._partials.prune(opened.checkpoint.size)
            return True

    async def check_newest(self) -> None:
        """Check that no other sequencer has extended the log.

        Raises:
            LogLostError: one has.
            RolledBackError: the head is lost.
            StorageError: the storage failed.
            UpstreamProtocolError: the head is none that this version reads.
            SignatureError: the log did not sign it.
        """
        async with self._lock:
            await self._make_certain()
            head, _ = await read_head(self._storage, self._identity)
            if head.size > self.size:
                raise self._lose(f"{HEAD_KEY} is at {head.checkpoint}, and not by this sequencer")

    async def keep_shown(self, note: bytes) -> str:
        """Keep a checkpoint that a witness showed and that the head does not go on from, and return its key.

        Raises:
            StorageError: it could not be kept.
        """
        key = shown_head_key(note)
        await self._storage.put(key, note, content_type=_TEXT)
        return key

    async def _check_own(self, checkpoint: Checkpoint) -> None:
        """Check that a tree is this log's: whoever has the key could sign others."""
        if checkpoint.size > self.size:
            raise ConfigurationError(f"{checkpoint} cannot be published: this log has {self.size} entries")
        state = self._state
        root = state.edge.root if state.edge.size == checkpoint.size else await self._prover.root(checkpoint.size)
        if checkpoint.root != root or checkpoint.extension:
            raise ConfigurationError(f"{checkpoint} cannot be published: this log has the root {root.hex()} there")

    async def _append(self, proposals: Sequence[Proposal]) -> list[Sequenced]:
        known = await self._read_indexes(proposals)
        await self._check_indexes(known)
        batch = Batch(self.size, {name: index for name, (index, _) in known.items()})
        done = [batch.add(proposal, await self._read_known(batch, proposal)) for proposal in proposals]
        if batch.entries:
            await self._keep_evidence(batch)
            self._is_certain = False
            self._state = await self._commit(batch, known)
            self._has_grown = True
            self._tried.clear()  # not before: a head that was won, and is not complete, is ours all the same
            self._partials.note(self.size)
            self._is_certain = True
        return done

    async def _commit(self, batch: Batch, known: dict[PackageName, Known]) -> LogState:
        before = self._state
        if before.head.size + len(batch.entries) > MAX_SIZE:  # pragma: no cover - in 100,000 years
            raise ConfigurationError("the log is full")
        growth = grow(before.edge, batch.entries)
        size, root = growth.edge.size, growth.edge.root
        # Before the swap: a head is of no use without its records. Under the same key there is always the same.
        staged = staged_key(size, root)
        await self._storage.put(staged, format_staged(batch.entries))
        # Later trees never say an earlier time. SPEC: tlog-cosignature: it is the largest tree seen at that time.
        time = max(int(self._now()), before.head.timestamp)
        note = sign_checkpoint(Checkpoint(self.origin, size, root), self._keys, timestamp=time)
        etag = await self._swap(note, before)
        await apply(self._storage, growth, batch.lines, known)
        await self._storage.delete(staged)
        return self._made(note, etag, growth, before)

    def _made(self, note: bytes, etag: str, growth: Growth, before: LogState) -> LogState:
        head = parse_head(format_head(note, before.head.size), self._identity)
        return LogState(head, etag, growth.edge)

    async def _swap(self, note: bytes, before: LogState) -> str:
        """Make a signed checkpoint the head; what is returned is the storage's token of it."""
        self._tried.add(note)
        body = format_head(note, before.head.size)
        try:
            return (await self._storage.put(HEAD_KEY, body, if_match=before.etag, content_type=_JSON)).etag
        except PreconditionFailedError as error:
            return await self._look_again(note, error)

    async def _look_again(self, note: bytes, error: PreconditionFailedError) -> str:
        """Find out who won the swap that was lost: a head of ours that was on its way for long, or somebody else's.

        Two sequencers may make the very same head, of the same records in the same second. Then both have won: both
        write the same, and both answer what is true.
        """
        head, etag = await read_head(self._storage, self._identity)
        if head.note == note:
            return etag
        if head.note in self._tried:
            raise StorageUnavailableError(f"{HEAD_KEY}: an earlier swap, given up for lost, arrived late") from error
        raise self._lose(f"{HEAD_KEY} is at {head.checkpoint}, and not by this sequencer") from error

    def _lose(self, reason: str) -> LogLostError:
        self._lost = (
            f"{reason}: another one extends the log {self.origin!r}, and there can be one only. This one stops; what "
            "it was asked to log is to be offered to the other"
        )
        return LogLostError(self._lost)

    async def _make_certain(self) -> None:
        if self._lost is not None:
            raise LogLostError(self._lost)
        if self._is_certain:
            return
        state = await read_state(self._storage, self._identity)
        if state.head.size < self.size:
            raise RolledBackError(f"{HEAD_KEY} had {self.size} entries, and has {state.head.size}")
        if state.head.note not in {self.head, *self._tried}:
            raise self._lose(f"{HEAD_KEY} is at {state.head.checkpoint}, and not by this sequencer")
        if state.head.note != self.head:
            self._tried.clear()
        self._state = state
        self._is_certain = True

    async def _read_indexes(self, proposals: Sequence[Proposal]) -> dict[PackageName, Known]:
        known: dict[PackageName, Known] = {}

        async def read(name: PackageName) -> None:
            known[name] = await read_known(self._storage, name)

        names = dict.fromkeys(proposal.record.name for proposal in proposals)
        await for_each(names, read, at_once=min(AT_ONCE, len(names)))
        return known

    async def _check_indexes(self, known: dict[PackageName, Known]) -> None:
        """Check that no index knows more than we: only a log that has grown without us has leaves behind our last."""
        beyond = [name for name, (index, _) in known.items() if index.lines and index.lines[-1].index >= self.size]
        if not beyond:
            return
        head, _ = await read_head(self._storage, self._identity)
        if head.note != self.head:
            raise self._lose(f"{HEAD_KEY} is at {head.checkpoint}, and not by this sequencer")
        last = known[beyond[0]][0].lines[-1]
        raise UpstreamProtocolError(f"index of {beyond[0]}: has {last}, and the log has {self.size} entries")

    async def _read_known(self, batch: Batch, proposal: Proposal) -> bytes | None:
        """Read the record that a proposal has to be compared with; almost none has one."""
        index = batch.question(proposal)
        if index is None:
            return None
        entry = batch.entry(index)
        return await self._prover.entry(index, self.size) if entry is None else entry

    async def _keep_evidence(self, batch: Batch) -> None:
        for record, document in batch.evidence:
            key = evidence_key(record.name, record.version, hashlib.sha256(document).hexdigest())
            await self._storage.put(key, document, content_type=_JSON)


def _parts(proposals: Sequence[Proposal]) -> Iterator[list[Proposal]]:
    """Cut proposals into what one swap logs."""
    part: list[Proposal] = []
    size = 0
    for proposal in proposals:
        if part and (len(part) == MAX_BATCH or size + len(proposal.body) > MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(proposal)
        size += len(proposal.body)
    if part:
        yield part
