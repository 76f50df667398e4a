"""Monitor: read everything that a log gains, and ask witnesses whether they saw the same log.

    the published checkpoint, on one line with the newest that was verified (`mirrorwitness.sumdb.ratchet`)
      ──> each witness's newest checkpoint, compared with it
      ──> every entry from the cursor on ──> news (`mirrorwitness.sumdb.watching`) ──> what is known ──> the cursor

    monitor/<hash of the origin>/cursor.json           how far it has read, and which witnesses are ahead since when
    monitor/<hash of the origin>/names/<name>.json     what the newest record of each version of a watched name said

Rules:

- Every entry is read, and none is believed before the tree vouches for it. Somebody has to: a log cannot prove what it
  does not show to those who look single versions up.
- News is told at least once: it is told first, and the cursor is moved then. A run that died tells some of it again.
- A witness that saw another tree of a size, or one that does not lead to ours, shows a fork: both checkpoints are kept.
- A witness cosigns a tree before the log publishes it, so one that is ahead is in doubt for `ahead_for` only. After
  that the log hides something from us, and the checkpoint that it hides is kept.

*Cancellation*: at any point; what is kept stays consistent.

What it does not do: follow a log (the caller asks again), or say which of two histories is right.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import msgspec

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    ConfigurationError,
    ObjectMissingError,
    SignatureError,
    UpstreamError,
    UpstreamProtocolError,
)
from mirrorwitness.npm.times import MINUTES, format_time
from mirrorwitness.storage.components import component_path
from mirrorwitness.storage.swap import swap
from mirrorwitness.sumdb.comparison import plan_comparison
from mirrorwitness.sumdb.entrytail import EntryTail
from mirrorwitness.sumdb.records import parse_record
from mirrorwitness.sumdb.watching import Kind, Known, News, find_stranger, judge_record
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.evidence import make_evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.ratchet import Head, Ratchet
    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.sumdb.source import LogSource
    from mirrorwitness.sumdb.terms import Terms
    from mirrorwitness.sumdb.trust import TrustStore
    from mirrorwitness.sumdb.watching import Watch
    from mirrorwitness.tlog.checkpoint import Checkpoint

__all__ = ["AHEAD_FOR", "Monitor", "Pass", "WitnessView"]

AHEAD_FOR: Final = 10 * MINUTES
"""How long a witness may be ahead of what the log publishes: a log asks all witnesses, and caches hold a checkpoint for
some seconds; an hour-old one would hide an hour of records."""

STATE_LIMIT: Final = 64 * 1024 * 1024
"""Bytes of what is known of one name: 37,000 versions of 250 bytes have 9 MB."""


_Kind = TypeVar("_Kind")


class WitnessView(Protocol):
    """What one witness saw of a log."""

    url: str

    async def read_seen(self, origin: str) -> bytes:
        """Return the newest checkpoint that it cosigned, as it is.

        Raises:
            UpstreamError: it cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Pass:
    """What one pass did.

    Attributes:
        head: the tree that was read.
        start: where reading began.
        entries: how many entries were read.
    """

    head: Head
    start: int
    entries: int


class _Cursor(msgspec.Struct, frozen=True, omit_defaults=True):
    size: int
    ahead: dict[str, tuple[int, float]] = {}


class _Names:
    """What is known of watched names, while one batch is judged."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._known: dict[PackageName, dict[str, Known]] = {}
        self._changed: set[PackageName] = set()

    async def judge(self, record: Record, index: int) -> News | None:
        if record.name not in self._known:
            self._known[record.name] = await self._monitor.read_known(record.name)
        known = self._known[record.name]
        identity = f"{record.version} {record.registry}"
        news, now = judge_record(record, index, known.get(identity))
        if now is not None and now != known.get(identity):
            known[identity] = now
            self._changed.add(record.name)
        return news

    async def save(self) -> None:
        for name in sorted(self._changed):
            await self._monitor.write_known(name, self._known[name])


class Monitor:
    """Watches one log.

    Args:
        terms: whom to believe.
        source: reads the log.
        ratchet: verifies its checkpoints.
        trust: where evidence goes, and what the monitor remembers.
        watch: the names.
        authority: which registry each name belongs to; None where that is not judged.
        witnesses: whom to ask.
        told: gets the news.
        now: the clock.
        is_from_now: where nothing was read yet, begin with the present tree.
        ahead_for: seconds after which a witness that is ahead is an alarm.
    """

    def __init__(
        self,
        *,
        terms: Terms,
        source: LogSource,
        ratchet: Ratchet,
        trust: TrustStore,
        watch: Watch,
        told: Callable[[News], None],
        now: Callable[[], datetime],
        authority: Authority | None = None,
        witnesses: Sequence[WitnessView] = (),
        is_from_now: bool = False,
        ahead_for: float = AHEAD_FOR,
    ) -> None:
        self._terms = terms
        self._source = source
        self._ratchet = ratchet
        self._trust = trust
        self._storage = trust.storage
        self._watch = watch
        self._authority = authority
        self._witnesses = witnesses
        self._told = told
        self._now = now
        self._is_from_now = is_from_now
        self._ahead_for = ahead_for
        self._tail = EntryTail(source)
        self._prefix = f"monitor/{origin_hash(terms.origin)}"

    def __repr__(self) -> str:
        return f"<Monitor of {self._terms.origin!r}, {len(self._witnesses)} witnesses>"

    async def run(self) -> Pass:
        """Read what is new once.

        Raises:
            ForkError: the log signed two histories; the message says where the evidence is.
            SecurityError: its checkpoint or its entries are not what they have to be.
            UpstreamError: the log cannot be read.
            ConfigurationError: what is remembered is damaged.
            PreconditionFailedError: another monitor uses the same state.
            StorageError: the storage failed.
        """
        head = await self._ratchet.advance()
        if head.shown is not None:
            reason = f"it shows {head.shown.size} entries, {head.tree.size} were verified before"
            self._told(News(Kind.OLDER_HEAD, self._terms.origin, reason))
        cursor, etag = await self._read_cursor()
        head, ahead = await self._ask_witnesses(head, {} if cursor is None else cursor.ahead)
        start = (head.tree.size if self._is_from_now else 0) if cursor is None else cursor.size
        at = start
        if at > head.tree.size:
            raise ConfigurationError(
                f"{self._trust!r}: {at} entries were read before, and the newest tree that was verified has "
                f"{head.tree.size}: the state was put together from two places; use a new one"
            )
        for batch in self._tail.batches(at, head.tree):
            entries = await self._tail.read(batch, at, head.tree)
            await self._judge(entries)
            at += len(entries)
            etag = await self._write_cursor(_Cursor(at, ahead), etag)
        if cursor is None or ahead != cursor.ahead:
            await self._write_cursor(_Cursor(at, ahead), etag)
        return Pass(head, start, at - start)

    async def _judge(self, entries: Sequence[tuple[int, bytes]]) -> None:
        names = _Names(self)
        for index, entry in entries:
            try:
                record = parse_record(entry)
            except UpstreamProtocolError as error:
                self._told(News(Kind.UNREADABLE, f"entry {index}", str(error), index=index))
                continue
            stranger = find_stranger(record, index, self._authority)
            news = await names.judge(record, index) if self._watch.has(record.name) else None
            for item in (stranger, news):
                if item is not None:
                    self._told(item)
        await names.save()

    # ---- witnesses

    async def _ask_witnesses(
        self, head: Head, before: dict[str, tuple[int, float]]
    ) -> tuple[Head, dict[str, tuple[int, float]]]:
        """Compare what witnesses saw; return the newest head, and who is ahead since when."""
        ahead: dict[str, tuple[int, float]] = {}
        for witness in self._witnesses:
            try:
                note = await witness.read_seen(self._terms.origin)
                tree = open_checkpoint(note, self._terms.keys, origin=self._terms.origin).checkpoint
            except (UpstreamError, SignatureError) as error:
                self._told(News(Kind.WITNESS_SILENT, witness.url, str(error)))
                continue
            if tree.size > head.tree.size:
                head = await self._ratchet.advance()  # the log may have grown meanwhile
            if await self._is_fork(witness, (note, tree), head) or tree.size <= head.tree.size:
                continue
            since = before[witness.url][1] if witness.url in before else self._now().timestamp()
            ahead[witness.url] = (tree.size, since)
            await self._tell_ahead(witness, note, tree, head, since)
        return head, ahead

    async def _is_fork(self, witness: WitnessView, seen: tuple[bytes, Checkpoint], head: Head) -> bool:
        """Say whether a witness saw another history, and tell it."""
        older, newer = sorted((seen, (head.note, head.tree)), key=lambda item: item[1].size)
        comparison = plan_comparison(older[1], newer[1])
        try:
            tiles = await self._source.read_tiles(comparison.tiles) if comparison.tiles else {}
        except UpstreamError:
            if newer is not seen:
                raise
            return False  # the log does not serve a tree that it does not show
        proof = comparison.find_fork(tiles)
        if proof is None:
            return False
        evidence = make_evidence(
            log_keys=self._terms.keys,
            witness_keys=[item.key for item in self._terms.policy.witnesses],
            origin=self._terms.origin,
            ours=older[0],
            theirs=newer[0],
            proof=proof,
            seen=format_time(self._now()),
        )
        place = await self._trust.keep_evidence(self._terms.origin, evidence)
        reason = f"it saw {seen[1]}, which does not belong to {head.tree}: the log signed two histories"
        self._told(News(Kind.FORK, witness.url, reason, evidence=place))
        return True

    async def _tell_ahead(self, witness: WitnessView, note: bytes, tree: Checkpoint, head: Head, since: float) -> None:
        age = self._now().timestamp() - since
        is_old, key = age >= self._ahead_for, ""
        if is_old:
            digest = hashlib.sha256(tree.text).hexdigest()
            key = f"evidence/{origin_hash(self._terms.origin)}/hidden-{digest}.note"
            await self._storage.put(key, note, content_type="text/plain; charset=utf-8")
        reason = f"it saw {tree}, the log shows {head.tree.size} here, for {age:.0f} s by now"
        self._told(News(Kind.WITNESS_AHEAD, witness.url, reason, evidence=key, is_old=is_old))

    # ---- what is remembered

    async def read_known(self, name: PackageName) -> dict[str, Known]:
        """Return what the newest records of a name said, by version and registry."""
        try:
            body, _ = await self._storage.read(self._name_key(name), limit=STATE_LIMIT)
        except ObjectMissingError:
            return {}
        return self._decode(body, self._name_key(name), dict[str, Known])

    async def write_known(self, name: PackageName, known: dict[str, Known]) -> None:
        """Remember what the newest records of a name said."""
        await self._storage.put(self._name_key(name), msgspec.json.encode(known), content_type="application/json")

    async def _read_cursor(self) -> tuple[_Cursor | None, str | None]:
        key = f"{self._prefix}/cursor.json"
        try:
            body, info = await self._storage.read(key, limit=STATE_LIMIT)
        except ObjectMissingError:
            return None, None
        return self._decode(body, key, _Cursor), info.etag

    async def _write_cursor(self, cursor: _Cursor, etag: str | None) -> str:
        info = await swap(self._storage, f"{self._prefix}/cursor.json", msgspec.json.encode(cursor), etag=etag)
        return info.etag

    def _name_key(self, name: PackageName) -> str:
        return f"{self._prefix}/names/{component_path(f'{name}.json')}"

    def _decode(self, body: bytes, key: str, kind: type[_Kind]) -> _Kind:
        try:
            return msgspec.json.decode(body, type=kind)
        except UNREADABLE_JSON as error:
            raise ConfigurationError(
                f"{self._trust!r}: {key} is damaged: {error}; remove it, and what it said is not compared with any more"
            ) from error
