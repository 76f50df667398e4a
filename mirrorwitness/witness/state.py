"""The state of a witness, in its storage: what was cosigned, by compare-and-swap (P7, P8).

    swap the record, durably -> write the anchor -> publish the checkpoint -> only then is the cosignature answered

Rules:

- Of two replicas that go on from one record one wins the swap; the other forgets what it had and reads anew. What it
  signed is never given to anybody.
- An anchor or a published checkpoint is replaced only by a newer one; of two replicas the slower one finds it done.
- State is read with all anchors before it is used for the first time, and again after every failure. Behind any of them
  (`check_not_behind`) nothing is signed.
- Without an anchor the disk is waited for once: the checkpoint is published when the record is durable, and whoever
  reads sees it before the answer, but a crash of the *machine* may take it back (`Storage.put_pair`; ADR 0023). A
  server publishes it again when it starts (`publish_again`). What is published and is only a beginning of the record's
  own checkpoint counts as nothing; what is damaged in any other way is refused.
- Unknown outcomes of the storage are read anew, not guessed.
- What this process once read or wrote is an anchor too: a storage that is older than that was restored under it.
- A newer line of ours that was shown is not forgotten before the state was read; a halt that could not be written holds
  in this process, and is written before anything else is done for the log.
- Nothing is ever written without a condition, whatever the storage says.

What stays undetected: the whole storage, and the anchor, restored from copies of one age while no process runs, and
nobody who shows us a newer cosignature of ours. Keep the anchor where it is not restored together with the storage. And
without an anchor: a machine that loses power, and whose state is restored before any process was started on it again,
from a copy of any age that lacks nothing but what was signed in the half minute before.

*Concurrency*: callers hold the log's lock (`WitnessState.lock`); other processes are met by the swap.
"""

from __future__ import annotations

import base64
import secrets
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    ObjectMissingError,
    PreconditionFailedError,
    RolledBackError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.storage import Put
from mirrorwitness.storage.pair import put_one
from mirrorwitness.tlog.checkpoint import open_checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.note import MAX_NOTE_BYTES, parse_note
from mirrorwitness.witness.decision import is_news
from mirrorwitness.witness.held import Held, Place
from mirrorwitness.witness.records import (
    LogRecord,
    Published,
    check_not_behind,
    check_not_older,
    is_cut,
    is_older,
    lags_behind,
    make_newest,
    open_published,
    parse_record,
    public_key,
    record_key,
    remember,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.checkpoint import Checkpoint, OpenedCheckpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.logs import LogSet

__all__ = ["Held", "WitnessState"]

_Shown: TypeAlias = "tuple[OpenedCheckpoint, tuple[Cosignature, ...]]"
"""A checkpoint, and our own lines on it."""

RECORD_LIMIT: Final = 2 * MAX_NOTE_BYTES
"""Bytes of the largest record read: it holds a note."""

_TEXT: Final = "text/plain; charset=utf-8"
_JSON: Final = "application/json"
_EMPTY: Final = base64.b64encode(EMPTY_ROOT).decode()


class WitnessState:
    """The only writer of a witness's records.

    Args:
        storage: records and published checkpoints.
        anchor: a second place for published checkpoints, which fails and is restored differently; None: none.
        own: our keys, retired ones included.
    """

    def __init__(self, *, storage: Storage, anchor: Storage | None, own: Sequence[VerifierKey]) -> None:
        self._storage = storage
        self._anchor = anchor
        self._own = own
        self._held: dict[str, Held] = {}
        self._certain: dict[str, Published] = {}  # the newest record that was read or written; never forgotten
        self._suspects: dict[str, tuple[str, _Shown]] = {}  # newer lines of ours, seen while memory was all we had
        self._halting: dict[str, tuple[str, _Shown]] = {}  # halts that are not written yet
        self._locks: dict[str, trio.Lock] = {}

    def __repr__(self) -> str:
        return f"<WitnessState of {len(self._held)} logs{', with an anchor' if self._anchor else ''}>"

    def lock(self, origin: str) -> trio.Lock:
        """Return the lock of a log: whoever decides about it holds it until the answer."""
        return self._locks.setdefault(origin, trio.Lock())

    async def find(self, origin: str) -> Held:
        """Return what is known of a log, read anew where it is not known for certain.

        Raises:
            RolledBackError: the state is behind what we signed, damaged or halted.
            StorageError: it cannot be read.
        """
        if origin in self._halting:
            await self.halt(origin, *self._halting[origin])
        held = self._held.get(origin)
        if held is None:
            held = self._held[origin] = await self._read(origin)
        suspect = self._suspects.pop(origin, None)
        if suspect is not None and _is_news(suspect[1], held):
            await self.halt(origin, *suspect)
            return await self.find(origin)  # says so
        return held

    def is_known(self, origin: str) -> bool:
        """Say whether `find` would answer from memory."""
        return origin in self._held

    def forget(self, origin: str) -> None:
        """Let the next `find` read anew."""
        self._held.pop(origin, None)

    def suspect(self, origin: str, reason: str, shown: _Shown) -> None:
        """Let the next `find` halt the log, where the state does not know a checkpoint with our own lines either."""
        self._suspects[origin] = (reason, shown)

    async def advance(self, held: Held, record: LogRecord) -> None:
        """Make a checkpoint the latest one: when this returns, its cosignatures may be given away.

        Raises:
            PreconditionFailedError: another replica went on from the same record; nothing of ours is valid.
            RolledBackError: somewhere our own cosignature on a newer tree turned up.
            StorageError: the storage failed; the record may be replaced, and the cosignature must not be given away.
        """
        del self._held[held.origin]  # whatever happens in between, what is known must be read anew
        etag = await (self._swap_and_show if self._anchor is None else self._swap_then_show)(held, record)
        held = Held(held.origin, record.latest, record.timestamp, record, etag, held.places)
        self._held[held.origin] = held

    async def publish_again(self, origin: str) -> bool:
        """Publish the latest checkpoint of a log where a crash took it, or came before it was published.

        Returns:
            Whether it was not published.

        Raises:
            RolledBackError: the state is behind what we signed, damaged or halted.
            StorageError: it cannot be read, or not published.
        """
        held = await self.find(origin)
        place = held.places[-1]
        if held.record is None or not place.lags:
            return False
        place.etag = await self._show(place, held.record)
        place.lags = False
        return True

    async def halt(self, origin: str, reason: str, shown: _Shown) -> None:
        """Sign nothing more for a log, also after a restart, and after another restore of the state.

        Args:
            origin: the log.
            reason: one sentence for a person.
            shown: a checkpoint with our own lines that the state does not know; it is published, as it once was.

        Raises:
            RolledBackError: something that contradicts it is published, too.
            StorageError: it could not be written; nothing is signed before it is, and the next request tries again.
        """
        self._halting[origin] = (reason, shown)
        self.forget(origin)
        while True:
            record, etag = await self._read_record(origin)
            record = record or LogRecord(origin=origin, size=0, root=_EMPTY, timestamp=0)
            if record.halted:
                break
            try:
                await self._swap(msgspec.structs.replace(record, halted=reason), etag)
            except PreconditionFailedError:
                continue  # another replica goes on from the state that is too old
            break
        newest = make_newest(*shown)
        for place in self._places():
            published = await self._read_published(place, origin)
            if published is None or is_older(published, newest):
                await self._show(place, newest)
        del self._halting[origin]

    async def adopt(self, body: bytes, logs: LogSet) -> Checkpoint:
        """Make a checkpoint that we cosigned the state of its log, in the place of one that was lost or rolled back.

        Raises:
            ConfigurationError: the log is not known.
            RolledBackError: a newer cosignature of ours is known, or one that contradicts it.
            SignatureError: the log, or this witness, did not sign it.
            UpstreamProtocolError: it is no checkpoint.
        """
        record = self._open_own(body, logs)
        origin, timestamp = record.origin, record.timestamp
        shown = [(place, await self._read_replaceable(place, origin)) for place in self._places()]
        for _, published in shown:
            # A later line of ours on this very tree is no reason to refuse it, and its time is kept.
            if published is not None and published.checkpoint.text == remember(record).checkpoint.text:
                timestamp = max(timestamp, published.timestamp)
        newest = msgspec.structs.replace(record, timestamp=timestamp, before=(record.size, timestamp))
        for _, published in shown:
            check_not_behind(newest, published, origin=origin)
        outdated = [place for place, published in shown if published is None or is_older(published, record)]
        found, etag = await self._read_object(origin)
        if found is not None:
            check_not_older(record, found)
            timestamp = max(timestamp, found.timestamp)
        newest = msgspec.structs.replace(record, timestamp=timestamp, before=(record.size, timestamp))
        await self._swap(newest, etag)
        for place in outdated:
            await self._show(place, newest)
        self.forget(origin)
        return remember(record).checkpoint

    def _open_own(self, body: bytes, logs: LogSet) -> LogRecord:
        """Return the record of a checkpoint that its log and we signed; a cosignature without a time is not enough."""
        origin = parse_checkpoint(parse_note(body).text).origin
        log = logs.get(origin)
        if log is None:
            raise ConfigurationError(f"the log {origin[:200]!r} is not among those given with --log or --log-list")
        opened = open_checkpoint(body, log.keys, origin=origin)
        tree = opened.checkpoint
        statement = Statement(origin, 0, tree.size, tree.root, opened.note.text)
        ours = [item for item in check_cosignatures(opened.note.signatures, self._own, statement) if item.timestamp]
        if not ours:
            raise SignatureError(f"the checkpoint of {origin!r} carries no cosignature of this witness")
        return make_newest(opened, ours)

    async def _swap_and_show(self, held: Held, record: LogRecord) -> str:
        """Swap a record and publish its checkpoint behind it, with one wait for the disk."""
        (place,) = held.places
        swapped, shown = await self._storage.put_pair(_put_record(record, held.etag), _put_shown(record, place.etag))
        self._certain[held.origin] = remember(record)
        # A condition that did not hold: another replica published meanwhile, or a restore brought something else.
        place.etag = await self._show(place, record) if shown is None else shown.etag
        return swapped.etag

    async def _swap_then_show(self, held: Held, record: LogRecord) -> str:
        """Swap a record, then show its checkpoint in the anchor and here, each durably before the next one."""
        etag = await self._swap(record, held.etag)
        self._certain[held.origin] = remember(record)
        for place in held.places:
            place.etag = await self._show(place, record)
        return etag

    async def _swap(self, record: LogRecord, etag: str | None) -> str:
        return (await put_one(self._storage, _put_record(record, etag))).etag

    async def _show(self, place: Place, record: LogRecord) -> str | None:
        """Show a record's checkpoint in one place, where nothing newer is shown already."""
        while True:
            try:
                return (await put_one(place.storage, _put_shown(record, place.etag))).etag
            except PreconditionFailedError:
                found = await self._read_published(place, record.origin)
            if found is None:
                continue
            if is_older(found, record):
                check_not_behind(record, found, origin=record.origin)
                continue
            # Another replica went on from our record meanwhile, or the record is older than what was signed.
            after, _ = await self._read_record(record.origin)
            check_not_behind(after, found, origin=record.origin)
            return place.etag

    async def _read(self, origin: str) -> Held:
        places = self._places()
        bodies = [await self._read_body(place, origin) for place in places]
        # Read last: another replica writes it first, so it is never older than what was shown.
        record, etag = await self._read_record(origin)
        latest = check_not_behind(record, None, origin=origin)
        shown = [self._open(place, body, record, origin) for place, body in zip(places, bodies, strict=True)]
        found = [item for item in (self._certain.get(origin), *shown) if item is not None]
        for item in found:
            check_not_behind(record, item, origin=origin)
        timestamp = max([item.timestamp for item in (record, *found) if item is not None], default=0)
        if record is not None:
            places[-1].lags = lags_behind(shown[-1], record)
            self._certain[origin] = remember(record)
        return Held(origin, latest, timestamp, record, etag, tuple(places))

    def _open(self, place: Place, body: bytes | None, record: LogRecord | None, origin: str) -> Published | None:
        """Read what one place shows; what the power took from it is nothing, where it can be made again."""
        if body is None or (place.storage is self._storage and record is not None and is_cut(body, record)):
            return None
        return open_published(body, origin=origin, where=place.name, own=self._own)

    def _places(self) -> list[Place]:
        places = [Place(self._storage, "the monitoring part of the storage")]
        return places if self._anchor is None else [Place(self._anchor, "the anchor"), *places]

    async def _read_object(self, origin: str) -> tuple[LogRecord | None, str | None]:
        """Return a record, None where it is damaged or not there, and the token of whatever is there."""
        try:
            body, info = await self._storage.read(record_key(origin), limit=RECORD_LIMIT)
        except ObjectMissingError:
            return None, None
        try:
            return parse_record(body, origin=origin), info.etag
        except RolledBackError:
            return None, info.etag

    async def _read_record(self, origin: str) -> tuple[LogRecord | None, str | None]:
        try:
            body, info = await self._storage.read(record_key(origin), limit=RECORD_LIMIT)
        except ObjectMissingError:
            return None, None
        return parse_record(body, origin=origin), info.etag

    async def _read_replaceable(self, place: Place, origin: str) -> Published | None:
        """Read what is shown in one place; what is no checkpoint at all may be replaced, and counts as nothing."""
        body = await self._read_body(place, origin)
        if body is None:
            return None
        try:
            parse_checkpoint(parse_note(body).text)
        except UpstreamProtocolError:
            return None
        return open_published(body, origin=origin, where=place.name, own=self._own)

    async def _read_published(self, place: Place, origin: str) -> Published | None:
        body = await self._read_body(place, origin)
        return None if body is None else open_published(body, origin=origin, where=place.name, own=self._own)

    async def _read_body(self, place: Place, origin: str) -> bytes | None:
        """Read what one place shows, and take its token."""
        try:
            body, info = await place.storage.read(public_key(origin), limit=RECORD_LIMIT)
        except ObjectMissingError:
            place.etag = None
            return None
        place.etag = info.etag
        return body


def _put_record(record: LogRecord, etag: str | None) -> Put:
    """Return what replaces the record of a token, or none where that is None."""
    body = msgspec.json.encode(msgspec.structs.replace(record, written=secrets.token_hex(8)))
    return Put(record_key(record.origin), body, if_match=etag, if_absent=etag is None, content_type=_JSON)


def _put_shown(record: LogRecord, etag: str | None) -> Put:
    """Return what replaces the checkpoint of a token, or none where that is None, wherever it is shown."""
    body = record.checkpoint.encode()
    return Put(public_key(record.origin), body, if_match=etag, if_absent=etag is None, content_type=_TEXT)


def _is_news(shown: _Shown, held: Held) -> bool:
    opened, ours = shown
    return is_news(opened.checkpoint, ours, held.latest, timestamp=held.timestamp)
