"""One add-entries request: read, proven and stored package by package, and committed where all of it is here.

Rules:

- The answers are those of the specification, and of its table of what comes first: `mirrorwitness.logmirror.decision`.
- What ends early ends well: whether a client sent the first packages only, stalled, or sent what is no package, what
  was proven before is kept, and 202 says where to go on. Where nothing was, it is a 400.
- A request has `REQUEST_SECONDS` in all and `IDLE_SECONDS` for each piece; time that our storage takes counts too, so
  that nobody holds a place for ever. Where all places are taken, one that brought no package for some time ends early
  (`Upload.give_up`), as if its client had stopped.
- Long packages are hashed in a thread: 16.8 MB take as long as many requests.

What it does not do: HTTP, or unpack.

SPEC: C2SP tlog-mirror, "add-entries".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

import trio

from mirrorwitness.errors import (
    MirrorWitnessError,
    ProofError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.logmirror.copy import is_long
from mirrorwitness.logmirror.decision import Admitted, Conflict, admit, check_package
from mirrorwitness.logmirror.protocol import UploadParser, bundle_start, package_spans
from mirrorwitness.logmirror.record import pending_of
from mirrorwitness.logmirror.ticket import open_ticket
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.witness.protocol import Answer, Reason, answer

if TYPE_CHECKING:
    from mirrorwitness.logmirror.decision import Pending
    from mirrorwitness.logmirror.protocol import Package, UploadHead
    from mirrorwitness.logmirror.record import PendingRecord
    from mirrorwitness.logmirror.service import LogMirror
    from mirrorwitness.witness.logs import WitnessedLog

__all__ = ["IDLE_SECONDS", "REQUEST_SECONDS", "ReceiveBytes", "Upload"]

SECONDS: Final = 1.0

REQUEST_SECONDS: Final = 300 * SECONDS
"""Longest request: 32 packages of usual size at 50 KB/s."""

IDLE_SECONDS: Final = 30 * SECONDS
"""Longest wait for the next piece of a body."""

ReceiveBytes: TypeAlias = Callable[[], Awaitable[bytes]]
"""Gives the next bytes of a body, none at its end.

Raises:
    UpstreamProtocolError: it cannot be unpacked.
    OSError: the client left.
"""

_EARLY: Final = "the body ends early"
_T = TypeVar("_T")


class Upload:
    """One request.

    Args:
        mirror: whose it is.
        receive: gives the body.

    Attributes:
        since: when it began, or brought its last package, on Trio's clock.
    """

    def __init__(self, mirror: LogMirror, receive: ReceiveBytes) -> None:
        self._mirror = mirror
        self._receive = receive
        self._parser = UploadParser()
        self.since = trio.current_time()
        self._deadline = self.since + REQUEST_SECONDS
        self._why = _EARLY
        self._waits: trio.CancelScope | None = None

    def __repr__(self) -> str:
        return f"<Upload {self._parser!r}>"

    @property
    def waits(self) -> bool:
        """Whether it waits for its client."""
        return self._waits is not None

    def give_up(self) -> None:
        """Wait for the client no longer: others do."""
        self._deadline = trio.current_time()
        self._why = "the body takes too long, and others wait"
        if self._waits is not None:
            self._waits.cancel()

    async def run(self) -> Answer:
        """Take the request and return the answer.

        Raises:
            OSError: the client left; what it brought is kept.
        """
        head = await self._next(self._parser.head)
        if head is None:
            return answer(Reason.MALFORMED, f"the head of the request: {self._why}")
        log = self._mirror.logs.get(head.origin.decode("utf-8", "replace"))
        if log is None:
            return answer(Reason.UNKNOWN_LOG, "this log mirror does not know the log of that origin")
        if self._mirror.stopped is not None:
            return self._mirror.refuse_all()
        try:
            verdict = await self._admit(log, head)
            return verdict if isinstance(verdict, Answer) else await self._take(log, head, verdict)
        except MirrorWitnessError as error:
            return self._mirror.fail(log.origin, error)

    async def _admit(self, log: WitnessedLog, head: UploadHead) -> Pending | Answer:
        """Judge the head; what says no is read anew first: another replica may be further."""
        wanted: Pending | None = None
        for anew in (False, True):
            record, known = await self._mirror.know(log, anew=anew)
            ticketed = _open_ticket(record, log, head)
            verdict = admit(head, known, ticketed, is_signed=lambda pending: _is_signed(pending, log))
            if isinstance(verdict, Admitted):
                return verdict.pending
            wanted = verdict.pending if isinstance(verdict, Conflict) else None
        return await self._mirror.conflict(log, wanted)

    async def _take(self, log: WitnessedLog, head: UploadHead, pending: Pending) -> Answer:
        taken, is_whole = 0, False
        ended: ProofError | OSError | None = None
        try:
            for span in package_spans(head.start, head.end):
                package = await self._next(partial(self._parser.package, span))
                if package is None:
                    break
                await self._store(log, package, pending)
                self.since = trio.current_time()
                taken += 1
            else:
                is_whole = True
        except (ProofError, OSError) as error:
            ended = error
        if is_whole:
            return await self._mirror.commit(log, pending)
        return await self._stop(log, pending, taken=taken, ended=ended)

    async def _stop(
        self, log: WitnessedLog, pending: Pending, *, taken: int, ended: ProofError | OSError | None
    ) -> Answer:
        """Remember what was taken of a request that did not come to its end, and say where to go on."""
        if not taken and ended is None:
            return answer(Reason.MALFORMED, f"no package was complete: {self._why}")
        await self._mirror.settle(log)
        if isinstance(ended, OSError):
            raise ended
        if ended is not None:
            return answer(Reason.PROOF, str(ended))
        return await self._mirror.conflict(log, pending, status=202)

    async def _store(self, log: WitnessedLog, package: Package, pending: Pending) -> None:
        start = bundle_start(package.span.start)
        kept = await self._mirror.copy_of(log).read_entries(start, package.span.start)
        check = partial(check_package, package, kept, pending)
        entries = await trio.to_thread.run_sync(check) if is_long(package.entries) else check()
        await self._mirror.store(log, start, entries)

    async def _next(self, take: Callable[[], _T | None]) -> _T | None:
        """Return what is parsed next, None where it does not come."""
        try:
            while (found := take()) is None:
                piece = b""
                with trio.move_on_at(min(self._deadline, trio.current_time() + IDLE_SECONDS)) as scope:
                    self._waits = scope
                    piece = await self._receive()
                self._waits = None
                if scope.cancelled_caught and self._why == _EARLY:
                    self._why = "the body takes too long"
                if not piece:
                    return None
                self._parser.receive(piece)
        except UpstreamProtocolError as error:
            self._why = str(error)
            return None
        return found


def _open_ticket(record: PendingRecord, log: WitnessedLog, head: UploadHead) -> Pending | None:
    note = open_ticket(record.ticket_secret, log.origin, head.ticket)
    return None if note is None else pending_of(note)


def _is_signed(pending: Pending, log: WitnessedLog) -> bool:
    """Say whether a key that the log has now signed it: one that was taken under an older key is not cosigned."""
    try:
        open_checkpoint(pending.note, log.keys, origin=log.origin)
    except SignatureError:
        return False
    return True
