"""The logs that a witness knows from lists, and those that are disabled, in its storage.

    state/witness/logs.txt         every log that a list ever added, in the format of lists; swapped
    state/witness/disabled.json    origins that are not cosigned, whoever names them; swapped

Rules:

- The first only grows. Another key for an origin that is known is a sentence for a person, and changes nothing.
- A log is taken in after it was written: of two replicas whose lists contradict each other the slower one takes what
  the other one wrote.
- A listed log that breaks a rule of `mirrorwitness.witness.logs.LogSet` is left out, with a sentence: what somebody
  else lists never stops a witness. What an operator's flag says comes first, and is not written here.
- Sentences are told once in the life of a process.
- What is disabled is read at each refresh, and nothing is cosigned before the first one. Damaged, it is an error: none
  of them is enabled by accident.

A known hole: whoever restores an older copy of the storage enables what was disabled since, and forgets logs that were
listed since, until the list is read again. Neither lets the witness contradict itself: records are checked apart.

*Concurrency*: other processes are met by the swap; of the tasks that refresh one `Roster` one does at a time.

What it does not do: read files of lists, or wait (`mirrorwitness.run.witnessing`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from mirrorwitness.errors import (
    UNREADABLE_JSON,
    ConfigurationError,
    MirrorWitnessError,
    ObjectMissingError,
    PreconditionFailedError,
)
from mirrorwitness.storage.walk import list_keys
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.witness.loglist import MAX_LIST_BYTES, ListedLog, format_log_list, merge_lists, parse_log_list
from mirrorwitness.witness.records import RECORD_PREFIX, LogRecord, parse_record, record_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.logs import LogSet, WitnessedLog

__all__ = [
    "DISABLED_KEY",
    "LISTED_KEY",
    "KnownLog",
    "Refreshed",
    "Roster",
    "find_known",
    "list_known",
    "set_disabled",
]

LISTED_KEY: Final = "state/witness/logs.txt"
DISABLED_KEY: Final = "state/witness/disabled.json"

DISABLED_LIMIT: Final = 16 * 1024 * 1024
"""Bytes: 40,000 of the longest origins, and some."""

RECORD_LIMIT: Final = 2 * MAX_NOTE_BYTES
READS_AT_ONCE: Final = 16
SWAP_TRIES: Final = 10
"""Other processes write these objects a few times in the life of a witness."""

_FORMAT: Final = 1


class _DisabledLogs(msgspec.Struct, frozen=True, kw_only=True):
    """What is written: origins, in order."""

    disabled: tuple[str, ...]
    format: int = _FORMAT


@dataclass(frozen=True, slots=True)
class KnownLog:
    """What a storage knows of one log.

    Attributes:
        origin: the log.
        keys: those that a list gave it; none where only a flag ever named it.
        is_disabled: whether it is not cosigned.
        size: of the tree that was cosigned last; None where none was.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    is_disabled: bool
    size: int | None


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What a refresh did.

    Attributes:
        added: origins that were not known in this process.
        disabled: origins that were cosigned until now.
        enabled: origins that are cosigned from now on, and were disabled.
        complaints: sentences for the operator that were not told yet.
    """

    added: tuple[str, ...] = ()
    disabled: tuple[str, ...] = ()
    enabled: tuple[str, ...] = ()
    complaints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Plan:
    """What a refresh will do.

    Attributes:
        added: logs to take in.
        body: what is to be written; None where nothing is new.
        complaints: sentences.
    """

    added: tuple[WitnessedLog, ...]
    body: bytes | None
    complaints: tuple[str, ...]


class Roster:
    """Keeps the logs of a running witness as flags, lists and its operator want them.

    Args:
        storage: the state of the witness.
        logs: those of flags; grows.
        refuses_extensions: whether checkpoints of listed logs may have extension lines.
    """

    def __init__(self, *, storage: Storage, logs: LogSet, refuses_extensions: bool = False) -> None:
        self._storage = storage
        self._logs = logs
        self._refuses_extensions = refuses_extensions
        self._told: set[str] = set()
        self._lock = trio.Lock()
        # 40,000 logs take a second to read; requests are answered meanwhile.
        self._threads = trio.CapacityLimiter(1)

    def __repr__(self) -> str:
        return f"<Roster of {self._logs!r}, {len(self._told)} complaints>"

    async def refresh(self, listed: Sequence[ListedLog] = (), *, writes: bool = True) -> Refreshed:
        """Take in what lists name now and named ever, and disable what is to be disabled.

        Args:
            listed: what the lists name now.
            writes: whether what is new is written; not by a command that may find the state in disorder.

        Raises:
            ConfigurationError: what is stored is damaged, or would be too large.
            StorageError: the storage failed; nothing was taken in.
        """
        async with self._lock:
            plan = await self._take(listed, writes=writes)
            disabled, _ = await _read_disabled(self._storage)
            # From here on in one step: no request sees a disabled log that is not disabled yet.
            for log in plan.added:
                self._logs.add(log)
            changed = self._logs.disable(disabled)
        fresh = [text for text in dict.fromkeys(plan.complaints) if text not in self._told]
        self._told.update(fresh)
        return _refreshed(changed, added=tuple([log.origin for log in plan.added]), complaints=tuple(fresh))

    async def refresh_disabled(self) -> Refreshed:
        """Disable what is to be disabled now, and nothing else; one read.

        Raises:
            ConfigurationError: what is stored is damaged.
            StorageError: the storage failed; nothing changed.
        """
        async with self._lock:
            disabled, _ = await _read_disabled(self._storage)
            return _refreshed(self._logs.disable(disabled))

    async def _take(self, listed: Sequence[ListedLog], *, writes: bool) -> _Plan:
        for _ in range(SWAP_TRIES):
            body, etag = await _read(self._storage, LISTED_KEY, MAX_LIST_BYTES)
            work = partial(_plan, self._logs.copy(), body, listed, refuses_extensions=self._refuses_extensions)
            plan = await trio.to_thread.run_sync(work, limiter=self._threads)
            if plan.body is None or not writes:
                return plan
            try:
                await _swap(self._storage, LISTED_KEY, plan.body, etag, kind="text/plain; charset=utf-8")
            except PreconditionFailedError:
                continue
            return plan
        raise PreconditionFailedError(f"{LISTED_KEY}: other processes changed it {SWAP_TRIES} times meanwhile")


async def set_disabled(storage: Storage, origin: str, *, is_disabled: bool) -> None:
    """Disable a log or enable it; idempotent.

    Raises:
        ConfigurationError: what is stored is damaged.
        StorageError: the storage failed.
    """
    for _ in range(SWAP_TRIES):
        before, etag = await _read_disabled(storage)
        after = before | {origin} if is_disabled else before - {origin}
        if after == before:
            return
        body = msgspec.json.encode(_DisabledLogs(disabled=tuple(sorted(after))))
        try:
            await _swap(storage, DISABLED_KEY, body, etag, kind="application/json")
        except PreconditionFailedError:
            continue
        return
    raise PreconditionFailedError(f"{DISABLED_KEY}: other processes changed it {SWAP_TRIES} times meanwhile")


async def find_known(storage: Storage, origin: str) -> KnownLog | None:
    """Return what a storage knows of one log; None where no list named it, and nothing was cosigned.

    Raises:
        ConfigurationError: what is stored is damaged.
        RolledBackError: its record is damaged.
        StorageError: the storage failed.
    """
    listed, disabled = await _read_known(storage)
    body, _ = await _read(storage, record_key(origin), RECORD_LIMIT)
    record = None if body is None else parse_record(body, origin=origin)
    if record is None and origin not in listed and origin not in disabled:
        return None
    return _known(origin, listed, disabled, record)


async def list_known(storage: Storage) -> tuple[KnownLog, ...]:
    """Return what a storage knows of logs: those that lists named, those that are disabled, and all that were cosigned.

    Raises:
        ConfigurationError: what is stored is damaged.
        RolledBackError: a record is damaged.
        StorageError: the storage failed.
    """
    listed, disabled = await _read_known(storage)
    records = await _read_records(storage, {origin_hash(origin): origin for origin in (*listed, *disabled)})
    names = dict.fromkeys((*listed, *sorted({*disabled, *records})))
    return tuple([_known(origin, listed, disabled, records.get(origin)) for origin in names])


def _plan(logs: LogSet, stored: bytes | None, listed: Sequence[ListedLog], *, refuses_extensions: bool) -> _Plan:
    """Decide what to take in and what to write; `logs` is a copy, to try things with."""
    before = () if stored is None else parse_log_list(stored, name=LISTED_KEY)
    written = {item.log.origin: item for item in before}
    complaints: list[str] = []
    added: list[WitnessedLog] = []
    for more in (before, listed):
        merged, sentences = merge_lists(map(ListedLog, logs), more)
        complaints += sentences
        for item in merged[len(logs) :]:  # what is known stands first
            log = replace(item.log, refuses_extensions=refuses_extensions)
            try:
                logs.add(log)
            except ConfigurationError as error:
                complaints.append(f"{error}; not taken in")
            else:
                added.append(log)
    new: dict[str, ListedLog] = {}
    for item in listed:
        log_or_none = logs.get(item.log.origin)
        if item.log.origin not in written and log_or_none is not None and set(item.log.keys) <= set(log_or_none.keys):
            new.setdefault(item.log.origin, item)
    if not new:
        return _Plan(tuple(added), None, tuple(complaints))
    body = format_log_list((*before, *new.values()))
    if len(body) > MAX_LIST_BYTES:
        raise ConfigurationError(f"{LISTED_KEY} would have {len(body)} bytes, expected at most {MAX_LIST_BYTES}")
    return _Plan(tuple(added), body, tuple(complaints))


def _refreshed(
    changed: Sequence[WitnessedLog], *, added: tuple[str, ...] = (), complaints: tuple[str, ...] = ()
) -> Refreshed:
    return Refreshed(
        added=added,
        disabled=tuple([log.origin for log in changed if log.is_disabled]),
        enabled=tuple([log.origin for log in changed if not log.is_disabled]),
        complaints=complaints,
    )


def _known(
    origin: str, listed: Mapping[str, ListedLog], disabled: frozenset[str], record: LogRecord | None
) -> KnownLog:
    keys = listed[origin].log.keys if origin in listed else ()
    return KnownLog(origin, keys, origin in disabled, None if record is None else record.size)


async def _read_known(storage: Storage) -> tuple[dict[str, ListedLog], frozenset[str]]:
    body, _ = await _read(storage, LISTED_KEY, MAX_LIST_BYTES)
    listed = () if body is None else parse_log_list(body, name=LISTED_KEY)
    disabled, _ = await _read_disabled(storage)
    return {item.log.origin: item for item in listed}, disabled


async def _read_disabled(storage: Storage) -> tuple[frozenset[str], str | None]:
    body, etag = await _read(storage, DISABLED_KEY, DISABLED_LIMIT)
    if body is None:
        return frozenset(), etag
    try:
        found = msgspec.json.decode(body, type=_DisabledLogs)
    except UNREADABLE_JSON as error:
        raise ConfigurationError(
            f"{DISABLED_KEY} is damaged: {error}; restore it from a copy, or delete it and disable those logs again"
        ) from error
    if found.format != _FORMAT:
        raise ConfigurationError(f"{DISABLED_KEY}: its format is {found.format}, expected {_FORMAT}")
    return frozenset(found.disabled), etag


async def _read_records(storage: Storage, names: Mapping[str, str]) -> dict[str, LogRecord]:
    """Read all records, by origin; `names` gives the origin of a hash where it is known."""
    found: dict[str, LogRecord] = {}
    failed: list[MirrorWitnessError] = []
    waiting = iter(await list_keys(storage, RECORD_PREFIX))

    async def work() -> None:
        for key in waiting:
            try:
                body, _ = await _read(storage, key, RECORD_LIMIT)
                if body is not None:
                    name = key.removeprefix(RECORD_PREFIX).removesuffix(".json")
                    record = parse_record(body, origin=names.get(name) or _origin_of(body))
                    found[record.origin] = record
            except MirrorWitnessError as error:
                failed.append(error)
                nursery.cancel_scope.cancel()
                return

    async with trio.open_nursery() as nursery:
        for _ in range(READS_AT_ONCE):
            nursery.start_soon(work)
    if failed:
        raise failed[0]
    return found


def _origin_of(body: bytes) -> str:
    """Return whose record it says to be; a damaged one is refused by `parse_record` all the same."""
    try:
        return msgspec.json.decode(body, type=LogRecord).origin
    except UNREADABLE_JSON:
        return ""


async def _read(storage: Storage, key: str, limit: int) -> tuple[bytes | None, str | None]:
    try:
        body, info = await storage.read(key, limit=limit)
    except ObjectMissingError:
        return None, None
    return body, info.etag


async def _swap(storage: Storage, key: str, body: bytes, etag: str | None, *, kind: str) -> None:
    """Replace an object under a condition; never without one, whatever the storage says."""
    await storage.put(key, body, if_match=etag, if_absent=etag is None, content_type=kind)
