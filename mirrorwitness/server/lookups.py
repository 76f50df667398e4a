"""Look-ups in a checksum database: find the record, prove it, and where it is not logged yet, have it logged.

    index -> leaf -> record and proof, under the published checkpoint or in a tree that the client names
         '-> not there: have it logged -> wait until it is published -> once more

Rules:

- What is served lies in a published tree. A version that is logged and not published yet is waited for, up to
  `LOOKUP_SECONDS`; then the client is told to come back (503).
- A look-up is the only thing by which a client makes the log grow, and all that it can say is a name and a version:
  what is logged is what the registry says of them.
- A version that is new in a tree that the client names is had logged as well; the answer is a 404 that says so, because
  that tree will never have it.
- The index leads to a record; that it is one of this version is looked at before it is served.
- At most `MAX_WAITING` look-ups wait for something to be logged; further ones are told to come back.

What it does not do: HTTP (`mirrorwitness.server.sumdb`), or ask a registry: that is a callback's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    ObjectMissingError,
    SecurityError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
)
from mirrorwitness.server.faults import DamagedObjectError, RequestError
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.earlier import EarlierLog
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.lookups import MAX_PACKAGE_BYTES, IndexedRecord, Lookup, format_lookup, format_package
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.records import Event, is_recorded_version, parse_record
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.note import parse_note

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.index import IndexLine, PackageIndex
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["LOOKUP_SECONDS", "RETRY_SECONDS", "Bring", "Found", "Lookups", "Published"]

SECONDS: Final = 1.0

LOOKUP_SECONDS: Final = 20 * SECONDS
"""How long a look-up may take that has to be logged first: a packument, a tarball, a batch and a round of witnesses."""

RETRY_SECONDS: Final = 5
"""What clients are told to wait for what is logged and not published yet."""

MAX_WAITING: Final = 256
"""Most look-ups that wait for something to be logged; each has a connection and some kilobytes."""

FRESH_SECONDS: Final = 1 * SECONDS
"""How long the published checkpoint is believed unchanged before the storage is asked again."""

RECORDS_AT_ONCE: Final = 8
"""Bundles that one look-up of a package reads at once."""

Bring: TypeAlias = "Callable[[PackageName, Version], Awaitable[str]]"
"""Has a version logged. Returns why there is nothing to log, for people; nothing where it is logged."""

_log = logging.getLogger("mirrorwitness.sumdb")


@dataclass(frozen=True, slots=True)
class Published:
    """The published checkpoint, as it is stored; clients check its signatures.

    Attributes:
        note: as it was signed and cosigned.
        tree: what it says.
    """

    note: bytes
    tree: Checkpoint


@dataclass(frozen=True, slots=True)
class Found:
    """What a look-up answers.

    Attributes:
        body: its text (`mirrorwitness.sumdb.lookups`).
        is_conflict: whether the version is in conflict, so that nothing of it may be used.
        is_fixed: whether the same look-up answers the same for ever.
    """

    body: bytes
    is_conflict: bool = False
    is_fixed: bool = False


class Lookups:
    """Answers look-ups of one log. May be used by many tasks at once.

    Args:
        storage: where the log is.
        bring: has a version logged; None where this process only reads.
        wait_published: waits until a tree of at least so many records is published; None where this process does not
            publish.
        deadline: seconds that a look-up may take that has to be logged first.
    """

    def __init__(
        self,
        *,
        storage: Storage,
        bring: Bring | None = None,
        wait_published: Callable[[int], Awaitable[None]] | None = None,
        deadline: float = LOOKUP_SECONDS,
    ) -> None:
        self._storage = storage
        self._bring = bring
        self._wait_published = wait_published
        self._deadline = deadline
        self._source = StoredLog(storage)
        self._prover = Prover(EarlierLog(self._source, size=lambda: self._size))
        self._held: tuple[Published, float] | None = None
        self._size = 0
        self._waiting = 0

    def __repr__(self) -> str:
        return f"<Lookups at size {self._size}, {self._waiting} waiting, {self._prover!r}>"

    async def published(self, *, is_fresh: bool = False) -> Published:
        """Return the published checkpoint, which may be `FRESH_SECONDS` old.

        Args:
            is_fresh: read it now.

        Raises:
            RequestError: nothing is published yet.
            UpstreamProtocolError: what is there is no checkpoint.
            StorageError: the storage failed.
        """
        now = trio.current_time()
        if self._held is not None and not is_fresh and now - self._held[1] < FRESH_SECONDS:
            return self._held[0]
        try:
            note = await self._source.read_head()
        except ObjectMissingError as error:
            raise RequestError(404, "nothing is published yet") from error
        published = Published(note, parse_checkpoint(parse_note(note).text))
        self._held = published, now
        self._size = published.tree.size
        return published

    async def version(self, name: PackageName, version: Version, *, size: int | None, at: int | None) -> Found:
        """Look the newest record of a version up.

        Args:
            name: the package.
            version: the version.
            size: the tree that the client asks for; None for the published one.
            at: the tree that is shown at all; None for the published one. Nothing is logged for such a look-up.

        Raises:
            RequestError: there is none (404), or there may be one soon (503).
            MirrorWitnessError: the storage failed, or something in it is damaged.
        """
        if not is_recorded_version(version):
            raise RequestError(404, f"{name}: no log has a record of such a version")
        published = await self.published()
        limit = _limit(published, size, at)
        line = (await read_index(self._storage, name)).latest(version, below=limit)
        if line is None and at is None:
            published, line = await self._have_logged(name, version, size)
            limit = published.tree.size
        if line is None:
            raise RequestError(404, f"{name}@{version} is not in the tree of {limit} records")
        record, proof = await self._read_proven(line, name, published.tree.size, limit)
        is_newest = size is None and at is None
        found = Lookup(line.index, record, tuple(proof), published.note if is_newest else None)
        return Found(format_lookup(found), line.event is Event.CONFLICT, is_fixed=not is_newest)

    async def package(self, name: PackageName, *, size: int | None, at: int | None) -> Found:
        """Look all records of a package up; nothing is logged for it.

        Raises:
            RequestError: there are none (404), or more than fit into an answer (400).
            MirrorWitnessError: the storage failed, or something in it is damaged.
        """
        published = await self.published()
        limit = _limit(published, size, at)
        lines = [line for line in (await read_index(self._storage, name)).lines if line.index < limit]
        if not lines:
            raise RequestError(404, f"the tree of {limit} records has none of {name}")
        records: dict[int, bytes] = {}
        total = 0

        async def read(line: IndexLine) -> None:
            nonlocal total
            records[line.index] = record = await self._read(line, name, published.tree.size)
            total += len(record)
            if total > MAX_PACKAGE_BYTES:
                raise RequestError(400, f"{name} has too many records for one answer; read its index and the tiles")

        await for_each(lines, read, at_once=RECORDS_AT_ONCE)
        body = format_package([IndexedRecord(index, records[index]) for index in sorted(records)])
        return Found(body, is_fixed=size is not None or at is not None)

    async def index(self, name: PackageName, *, at: int | None) -> PackageIndex:
        """Return which leaves of the published tree, or of the one that is shown, are about a package.

        Raises:
            RequestError: none is (404).
            MirrorWitnessError: the storage failed, or the index is damaged.
        """
        published = await self.published()
        limit = _limit(published, None, at)
        index = await read_index(self._storage, name)
        shown = type(index)(name, tuple([line for line in index.lines if line.index < limit]))
        if not shown.lines:
            raise RequestError(404, f"the tree of {limit} records has none of {name}")
        return shown

    async def _have_logged(
        self, name: PackageName, version: Version, size: int | None
    ) -> tuple[Published, IndexLine | None]:
        """Have a version logged, wait until it is published, and return the checkpoint that has it."""
        if self._waiting >= MAX_WAITING:
            raise _later("too many look-ups wait for versions to be logged")
        self._waiting += 1
        try:
            with trio.move_on_after(self._deadline):
                known = (await read_index(self._storage, name)).latest(version)
                if known is None:
                    known = await self._log_now(name, version)
                return await self._await_published(name, known, size)
        finally:
            self._waiting -= 1
        raise _later(f"{name}@{version} is being logged, and witnesses are asked")

    async def _log_now(self, name: PackageName, version: Version) -> IndexLine:
        reason = "this server only reads"
        if self._bring is not None:
            try:
                reason = await self._bring(name, version)
            except UpstreamNotFoundError as error:
                reason = str(error)
            except (UpstreamError, BudgetExhaustedError) as error:
                raise _later(f"{name}@{version} is not logged, and the registry cannot be asked: {error}") from error
            except SecurityError as error:  # reported and kept by whoever was to log it; nothing of it is served
                _log.error("not_logged", extra={"package": name, "version": version, "reason": str(error)})
                reason = str(error)
        found = (await read_index(self._storage, name)).latest(version)
        if found is None:
            raise RequestError(404, f"{name}@{version} is not logged: {reason or 'the registry does not have it'}")
        return found

    async def _await_published(
        self, name: PackageName, known: IndexLine, size: int | None
    ) -> tuple[Published, IndexLine | None]:
        if self._wait_published is not None:
            await self._wait_published(known.index + 1)
        published = await self.published(is_fresh=True)
        if known.index >= published.tree.size:
            raise _later(f"{name}@{known.version} is logged, and not published yet")
        if size is not None:
            raise RequestError(
                404,
                f"{name}@{known.version} was logged as entry {known.index}, which the tree of {size} records does not "
                "have; read the checkpoint again, and ask for its size",
            )
        return published, (await read_index(self._storage, name)).latest(known.version, below=published.tree.size)

    async def _read_proven(
        self, line: IndexLine, name: PackageName, size: int, limit: int
    ) -> tuple[bytes, Sequence[Hash]]:
        """Read a record and prove it, side by side: each waits for a disk or a bucket."""
        records: list[bytes] = []
        proofs: list[Sequence[Hash]] = []

        async def read() -> None:
            records.append(await self._read(line, name, size))

        async def prove() -> None:
            proofs.append(await self._prover.inclusion(line.index, limit))

        await for_each((read, prove), lambda work: work(), at_once=2)
        return records[0], proofs[0]

    async def _read(self, line: IndexLine, name: PackageName, size: int) -> bytes:
        """Read the record that a line of an index leads to."""
        try:
            entry = await self._prover.entry(line.index, size)
            record = parse_record(entry)
        except (ObjectMissingError, UpstreamProtocolError) as error:
            raise DamagedObjectError(f"entry {line.index} of the log cannot be read: {error}") from error
        if (record.name, record.version, record.event) != (name, line.version, line.event):
            raise DamagedObjectError(
                f"entry {line.index} is the {record.event} of {record.name}@{record.version}, the index of {name} says "
                f"{line.event} of {line.version}; `mirrorwitness sumdb fsck` says more"
            )
        return entry


def _limit(published: Published, size: int | None, at: int | None) -> int:
    """Return the size of the tree that is looked at."""
    for wanted, most in ((at, published.tree.size), (size, published.tree.size if at is None else at)):
        if wanted is not None and wanted > most:
            raise RequestError(404, f"no tree of {wanted} records is here; the newest has {most}")
    return next((wanted for wanted in (size, at) if wanted is not None), published.tree.size)


def _later(message: str) -> RequestError:
    return RequestError(503, f"{message}; try again later", headers={"retry-after": str(RETRY_SECONDS)})
