"""The log mirror itself: takes checkpoints and entries of logs, keeps them, and cosigns what it holds.

    add-checkpoint: the pending checkpoint moves      add-entries: proven, stored, committed, cosigned

Rules:

- A pending checkpoint is judged as a witness would (`mirrorwitness.witness.decision`), against the newest one before
  it; the mirror's key signs nothing then.
- Packages are stored one by one as they come, each after its proof. A client that stalls or leaves keeps nobody
  waiting: no lock is held while its bytes are awaited, and what it brought stays.
- A checkpoint is signed only when its tree was computed from what is stored, with the root that the log signed.
- A signature of ours that the state does not know halts the log for good (P7).
- Of the places for uploads none is held by a client that brings nothing: where all are taken, and one brought no
  package for `SLOW_SECONDS`, it is given to the next one. SPEC: "This avoids a denial-of-service attack if one client
  begins an add-entries stream but pauses it partway through".
- A mirror whose cosigner was stopped takes nothing and signs nothing (`mirrorwitness.run.watching`).

*Errors*: none go up but bugs, and `OSError` where a client left; a storage that fails is a 503.

What it does not do: HTTP (`mirrorwitness.server.logmirror`), or fetching (`mirrorwitness.logmirror.puller`).

SPEC: C2SP tlog-mirror, main as of July 2026.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    MirrorWitnessError,
    PreconditionFailedError,
    RolledBackError,
    SecurityError,
    SignatureError,
)
from mirrorwitness.logmirror.copy import LogCopy
from mirrorwitness.logmirror.cosigner import Overtaken
from mirrorwitness.logmirror.decision import Pending, offer
from mirrorwitness.logmirror.protocol import INFO_TYPE, MirrorInfo, format_info
from mirrorwitness.logmirror.receiving import Upload
from mirrorwitness.logmirror.record import add_pending, raise_next
from mirrorwitness.logmirror.roles import LOG_MIRROR, in_role
from mirrorwitness.logmirror.ticket import make_ticket
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.note import format_lines
from mirrorwitness.tlog.witnessing import SIZE_TYPE
from mirrorwitness.witness.decision import Refused, decide
from mirrorwitness.witness.protocol import Answer, Reason, answer, parse_add_checkpoint, read_request
from mirrorwitness.witness.records import format_cosigned
from mirrorwitness.witness.service import RETRY_SECONDS, Fork

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.logmirror.cosigner import Cosigned, Cosigner
    from mirrorwitness.logmirror.decision import Known
    from mirrorwitness.logmirror.receiving import ReceiveBytes
    from mirrorwitness.logmirror.record import PendingRecord
    from mirrorwitness.logmirror.state import MirrorState
    from mirrorwitness.storage import Storage
    from mirrorwitness.witness.logs import LogSet, WitnessedLog
    from mirrorwitness.witness.protocol import AddCheckpoint

__all__ = ["SLOW_SECONDS", "STATUSES", "UPLOADS_AT_ONCE", "LogMirror"]

UPLOADS_AT_ONCE: Final = 32
"""Uploads at once: each may hold one package of up to 16.8 MB twice, as it came and parsed, so 1.1 GB at worst where
somebody means it, and some 10 MB with usual entries."""

SLOW_SECONDS: Final = 10.0
"""Time without a package after which an upload makes way for another one: 256 entries of 1 KB at 26 KB/s."""

STATUSES: Final = {
    "add-checkpoint": (200, 400, 403, 404, 409, 413, 422, 503),
    "add-entries": (200, 202, 400, 404, 409, 422, 429, 503),
}
"""Request → what it may be answered with; counted from 0 on: of a series that begins with its first event Prometheus
sees no increase."""

DECIDE_TRIES: Final = 3
"""How often a checkpoint is judged anew because another replica moved the state meanwhile."""

_log = logging.getLogger("mirrorwitness.logmirror")


class LogMirror:
    """Mirrors logs.

    Args:
        logs: whom it knows.
        storage: where the copies are.
        state: what is pending.
        cosigner: signs, with a key that has no other role.
        on_fork: told of every proof of a fork, before the answer; must not fail.

    Attributes:
        logs: whom it knows.
        counts: answers given, by request and status; all of `STATUSES` from the start.
        entries: how many were proven and stored in this process.
        forks: how many proofs of a fork were seen.
    """

    def __init__(
        self,
        *,
        logs: LogSet,
        storage: Storage,
        state: MirrorState,
        cosigner: Cosigner,
        on_fork: Callable[[Fork], Awaitable[None]],
    ) -> None:
        self.logs = logs
        self.counts = Counter({(request, status): 0 for request in STATUSES for status in STATUSES[request]})
        self.entries = 0
        self.forks = 0
        self._storage = storage
        self._state = state
        self._cosigner = cosigner
        self._on_fork = on_fork
        self._copies: dict[str, LogCopy] = {}
        self._uploads: set[Upload] = set()

    def __repr__(self) -> str:
        return f"<LogMirror of {len(self.logs)} logs, {len(self._copies)} in use, {len(self._uploads)} uploads>"

    @property
    def stopped(self) -> MirrorWitnessError | None:
        """Why it signs nothing more; None while it does."""
        return self._cosigner.stopped

    async def add_checkpoint(self, body: bytes) -> Answer:
        """Answer an ``add-checkpoint``: 200 without a body where the pending checkpoint moved."""
        return self._counted("add-checkpoint", await self._add_checkpoint(body))

    async def add_entries(self, receive: ReceiveBytes) -> Answer:
        """Answer an ``add-entries``.

        Args:
            receive: gives the next bytes of the body, none at its end.

        Raises:
            OSError: the client left; what it brought is kept.
        """
        if len(self._uploads) >= UPLOADS_AT_ONCE and not self._make_room():
            full = answer(Reason.RATE, f"{UPLOADS_AT_ONCE} uploads are under way", retry_after=RETRY_SECONDS)
            return self._counted("add-entries", full)
        upload = Upload(self, receive)
        self._uploads.add(upload)
        try:
            return self._counted("add-entries", await upload.run())
        finally:
            self._uploads.discard(upload)

    async def submit(self, request: AddCheckpoint) -> Answer:
        """Judge a checkpoint that was read already, and make it the pending one."""
        log = self.logs.get(request.checkpoint.origin)
        if log is None:
            return answer(Reason.UNKNOWN_LOG, "this log mirror does not know the log of that origin")
        if self.stopped is not None:
            return self.refuse_all()
        try:
            for number in range(DECIDE_TRIES):
                given = await self._judge(request, log, anew=number > 0)
                if given is not None:
                    return given
        except (MirrorWitnessError, SignatureError) as error:
            return self.fail(log.origin, error)
        return answer(Reason.STORAGE, "other replicas are faster, try again", retry_after=1)

    async def know(self, log: WitnessedLog, *, anew: bool = False) -> tuple[PendingRecord, Known]:
        """Return what is known of a log; what this process has stored is known first.

        Raises:
            RolledBackError: the state is behind what was cosigned.
            StorageError: the storage failed, or the record is damaged.
        """
        record, known = await self._state.find(log.origin, anew=anew)
        copy = self._copies.get(log.origin)
        if copy is None:
            copy = self._copies[log.origin] = LogCopy(self._storage, log.origin, stored=record.next)
            copy.note(0 if known.mirror is None else known.mirror.size)
        elif record.next > copy.size:
            await copy.learn(record.next)
        elif copy.size > record.next:
            record = raise_next(record, copy.size)
            known = record.known(known.mirror)
        return record, known

    async def signed_at(self, log: WitnessedLog) -> int:
        """Return when a log was cosigned last, in seconds since 1970; 0 where it never was.

        Raises:
            RolledBackError: the state is behind what was cosigned.
            StorageError: the storage failed.
        """
        return (await self._cosigner.find(log.origin)).timestamp

    async def publish_again(self, log: WitnessedLog) -> None:
        """Publish what was cosigned of a log last, where a crash took it or came before it was published.

        Raises:
            RolledBackError: the state is behind what was cosigned.
            StorageError: it cannot be read, or not published.
        """
        await self._cosigner.publish_again(log.origin)

    def copy_of(self, log: WitnessedLog) -> LogCopy:
        """Return the copy of a log; it is known already."""
        return self._copies[log.origin]

    async def store(self, log: WitnessedLog, index: int, entries: Sequence[bytes]) -> int:
        """Store proven entries from the beginning of a bundle on, and return the next entry.

        Raises:
            IntegrityMismatchError: what is stored already is something else.
            StorageError: the storage failed, or entries before these are missing.
        """
        copy = self._copies[log.origin]
        before = copy.size
        after = await copy.store(index, entries)
        self.entries += max(0, after - before)
        return after

    async def settle(self, log: WitnessedLog) -> None:
        """Remember how far the copy goes, so that after a restart nobody has to bring it again.

        Raises:
            StorageError: the storage failed.
        """
        stored = self._copies[log.origin].size
        await self._state.change(log.origin, lambda record: raise_next(record, stored))

    async def commit(self, log: WitnessedLog, pending: Pending) -> Answer:
        """Finish the tree of a pending checkpoint, and cosign it; 200 with our lines, or 409 where it is too old."""
        try:
            done = await self.finish(log, pending)
            if isinstance(done, Overtaken):
                return await self.conflict(log, anew=True)
        except MirrorWitnessError as error:
            return self.fail(log.origin, error)
        return Answer(200, format_lines(done.lines))

    async def finish(self, log: WitnessedLog, pending: Pending) -> Cosigned | Overtaken:
        """Finish the tree of a pending checkpoint, and cosign it where no larger one was cosigned meanwhile.

        Raises:
            SignatureError: no key of the log signed it.
            SecurityError: what is stored is not the tree that the log signed.
            RolledBackError: the state is behind what was cosigned.
            ConfigurationError: the cosigner was stopped.
            StorageError: storage or key failed, or entries are missing.
        """
        opened = open_checkpoint(pending.note, log.keys, origin=log.origin)
        _, known = await self.know(log)
        copy = self._copies[log.origin]
        if known.mirror is None or (known.mirror.size, known.mirror.root) != (pending.size, pending.root):
            root = await copy.cut(pending.size)
            if root != pending.root:
                raise SecurityError(
                    f"{log.origin}: what is stored has the root {root.hex()} at size {pending.size}, the log "
                    f"signed {pending.root.hex()}; the storage is damaged, and nothing is signed"
                )
        await self.settle(log)
        done = await self._cosigner.cosign(opened)
        if isinstance(done, Overtaken):
            return done
        _log.info("log_mirrored", extra={"origin": log.origin, "size": pending.size})
        try:
            await copy.prune(pending.size)
        except MirrorWitnessError as error:
            self.fail(log.origin, error)  # of no matter to anybody: the next commit goes on
        return done

    async def conflict(
        self, log: WitnessedLog, wanted: Pending | None = None, *, status: int = 409, anew: bool = False
    ) -> Answer:
        """Return a 409, or a 202, that says where to go on: towards `wanted` as long as that makes sense.

        Raises:
            RolledBackError: the state is behind what was cosigned.
            StorageError: the storage failed.
        """
        record, known = await self.know(log, anew=anew)
        target = known.current if wanted is None else offer(wanted, known)
        if target is None:
            return answer(Reason.PROOF, "no checkpoint of this log was submitted yet (add-checkpoint)")
        ticket = make_ticket(record.ticket_secret, log.origin, target.note)
        info = MirrorInfo(target.size, known.next_entry, ticket)
        return Answer(status, format_info(info), INFO_TYPE, Reason.STALE if status == 409 else None)  # noqa: PLR2004

    def fail(self, origin: str, error: MirrorWitnessError) -> Answer:
        """Return what is answered for an error of ours, and log it."""
        if self.stopped is not None:
            return self.refuse_all()
        text = in_role(str(error), LOG_MIRROR)
        if isinstance(error, RolledBackError):
            _log.error("logmirror_rolled_back", extra={"origin": origin, "error": text})
            return answer(Reason.ROLLED_BACK, text)
        _log.error("logmirror_failed", extra={"origin": origin, "error": text})
        if isinstance(error, SecurityError):  # it does not help to try again, and details are for the operator
            return answer(Reason.STORAGE, "what the log mirror has stored of this log is damaged; nothing is signed")
        return answer(Reason.STORAGE, "the log mirror's storage or key does not answer", retry_after=RETRY_SECONDS)

    def refuse_all(self) -> Answer:
        """Return what is answered by a log mirror that was stopped."""
        return answer(Reason.STOPPED, f"this log mirror signs nothing more: {in_role(str(self.stopped), LOG_MIRROR)}")

    def _make_room(self) -> bool:
        """End the upload that has waited for its client longest; say whether one did so for long enough."""
        slowest = min(filter(lambda each: each.waits, self._uploads), key=lambda each: each.since, default=None)
        if slowest is None or trio.current_time() - slowest.since < SLOW_SECONDS:
            return False
        slowest.give_up()
        self._uploads.discard(slowest)
        return True

    def _counted(self, request: str, given: Answer) -> Answer:
        self.counts[request, given.status] += 1
        return given

    async def _add_checkpoint(self, body: bytes) -> Answer:
        request = read_request(body, parse_add_checkpoint)
        if isinstance(request, Answer):
            return request
        return await self.submit(request)

    async def _judge(self, request: AddCheckpoint, log: WitnessedLog, *, anew: bool) -> Answer | None:
        """Judge a checkpoint; None where what was known is not enough, and it has to be read anew."""
        held = await self._cosigner.find(log.origin, anew=anew)
        _, known = await self.know(log, anew=anew)
        verdict = decide(request, log, known.latest, self._cosigner.own, timestamp=held.timestamp)
        if isinstance(verdict, Refused):
            if verdict.reason in {Reason.STALE, Reason.ROLLED_BACK} and not anew:
                if verdict.ours is not None:  # it counts, also where what follows fails
                    self._cosigner.suspect(log.origin, verdict.text, verdict.ours)
                return None
            return await self._refuse(verdict, request, log, known)
        tree = verdict.opened.checkpoint
        pending = Pending(tree.size, tree.root, format_cosigned(verdict.opened, ()))
        return await self._advance(log, known, pending)

    async def _advance(self, log: WitnessedLog, known: Known, pending: Pending) -> Answer | None:
        above = 0 if known.mirror is None else known.mirror.size

        def work(record: PendingRecord) -> PendingRecord:
            if record.known(known.mirror).latest != known.latest:
                raise PreconditionFailedError(f"{log.origin}: another replica took a checkpoint")
            return add_pending(record, pending, above=above)

        try:
            await self._state.change(log.origin, work)
        except PreconditionFailedError:
            return None
        return Answer(200, b"")

    async def _refuse(self, verdict: Refused, request: AddCheckpoint, log: WitnessedLog, known: Known) -> Answer:
        if verdict.fork is not None and known.current is not None:
            _log.error("log_forked", extra={"origin": log.origin, "size": known.current.size})
            self.forks += 1
            await self._on_fork(Fork(log.origin, known.current.note, verdict.fork.format(), request.proof))
        if verdict.reason is Reason.STALE:
            return Answer(409, b"%d\n" % known.latest.size, SIZE_TYPE, Reason.STALE)
        return answer(verdict.reason, in_role(verdict.text, LOG_MIRROR))
