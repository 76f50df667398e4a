"""The witness itself: takes requests of logs, decides, remembers, and answers with cosignatures.

Rules:

- All of a request between the look at the state and the answer happens under the log's lock; other processes are met by
  the compare-and-swap (`mirrorwitness.witness.state`). A cosignature is answered only after everything was written.
- The time is taken under that lock, and never goes back: a clock that stepped back by up to `CLOCK_STEP` signs with the
  time before, a longer step is refused until the clock has caught up.
- A cosignature of ours on a tree that the state does not know halts the log for good (P7).
- A witness that was stopped (`Witness.stop`) signs nothing more, for no log and no request that is in work.
- A log's rate is counted after its signature was checked: nobody else can use it up.
- What is passed on and stored of a note is the log's lines that verified and our own.

*Errors*: none go up but bugs; a storage that fails is a 503.

What it does not do: HTTP, or fetching (`mirrorwitness.witness.feeder`).
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import (
    PreconditionFailedError,
    ProofError,
    RolledBackError,
    SignatureError,
    StorageError,
)
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.merkle import check_subtree
from mirrorwitness.tlog.note import format_lines
from mirrorwitness.witness.decision import Accepted, Refused, decide
from mirrorwitness.witness.protocol import (
    COSIGNED,
    SIZE_TYPE,
    Answer,
    Reason,
    answer,
    parse_add_checkpoint,
    parse_sign_subtree,
    read_request,
)
from mirrorwitness.witness.records import format_cosigned, make_record

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.decision import Latest
    from mirrorwitness.witness.logs import LogSet, WitnessedLog
    from mirrorwitness.witness.protocol import AddCheckpoint, SignSubtree
    from mirrorwitness.witness.rates import Rates
    from mirrorwitness.witness.records import LogRecord
    from mirrorwitness.witness.signer import Signer
    from mirrorwitness.witness.state import Held, WitnessState

__all__ = ["CLOCK_STEP", "Fork", "Witness"]

CLOCK_STEP: Final = 5
"""Seconds that the clock may step back unnoticed, as time services do; the cosignature then has the time before."""

RETRY_SECONDS: Final = 5
"""What clients are told to wait where the storage does not answer."""

SWAP_TRIES: Final = 3
"""How often a request is decided anew because another replica was faster, before the client is told the new size."""

_OF_REPLICAS: Final = frozenset({Reason.STALE, Reason.ROLLED_BACK})
"""What is only said after the state was read anew: another process may have signed what this one does not know."""

_NOT_COUNTED: Final = frozenset({Reason.NOT_SIGNED, Reason.ROLLED_BACK})

_log = logging.getLogger("mirrorwitness.witness")


@dataclass(frozen=True, slots=True)
class Fork:
    """Proof that a log forked: it signed two trees that contradict each other (`mirrorwitness.tlog.evidence`).

    Attributes:
        origin: the log.
        ours: the note that we cosigned.
        theirs: the note that was sent, with the log's lines that verified.
        proof: the hashes that came with it.
    """

    origin: str
    ours: bytes
    theirs: bytes
    proof: tuple[bytes, ...]


class Witness:
    """Answers logs.

    Args:
        logs: whom it knows.
        state: what it remembers.
        signers: who signs; the order of the lines in an answer.
        own: all keys that ever signed for this witness, those of the signers included.
        now: seconds since 1970.
        rates: how often a log may ask.
        on_fork: told of every proof of a fork, before the answer; must not fail.

    Attributes:
        logs: whom it knows.
        counts: answers given, by what came of the request (`mirrorwitness.witness.protocol.OUTCOMES`).
        forks: how many proofs of a fork were seen.
        stopped: why it signs nothing more; None while it does.
    """

    def __init__(
        self,
        *,
        logs: LogSet,
        state: WitnessState,
        signers: Sequence[Signer],
        own: Sequence[VerifierKey],
        now: Callable[[], float],
        rates: Rates,
        on_fork: Callable[[Fork], Awaitable[None]],
    ) -> None:
        self.logs = logs
        self.counts: Counter[str] = Counter()
        self.forks = 0
        self.stopped: MirrorWitnessError | None = None
        self._state = state
        self._signers = signers
        self._own = own
        self._now = now
        self._rates = rates
        self._on_fork = on_fork

    def __repr__(self) -> str:
        return f"<Witness of {len(self.logs)} logs, {dict(self.counts)}>"

    def stop(self, why: MirrorWitnessError) -> None:
        """Sign nothing more in this process: its keys were given up, or nobody can say what they signed."""
        self.stopped = why

    async def add_checkpoint(self, body: bytes) -> Answer:
        """Answer an ``add-checkpoint``."""
        return self._counted(await self._add_checkpoint(body))

    async def sign_subtree(self, body: bytes) -> Answer:
        """Answer a ``sign-subtree``: a cosignature without a time on a part of a tree that we cosigned."""
        return self._counted(await self._sign_subtree(body))

    async def submit(self, request: AddCheckpoint) -> Answer:
        """Decide about a checkpoint that was read already, as a feeder has it."""
        return self._counted(await self._submit(request))

    async def latest(self, log: WitnessedLog) -> Latest:
        """Return the latest tree of a log that we cosigned.

        Raises:
            RolledBackError: the state is behind what we signed.
            StorageError: it cannot be read.
        """
        async with self._state.lock(log.origin):
            return (await self._state.find(log.origin)).latest

    async def publish_again(self, log: WitnessedLog) -> bool:
        """Publish the latest checkpoint of a log where a crash took it, or came before it was published.

        Returns:
            Whether it was not published.

        Raises:
            RolledBackError: the state is behind what we signed.
            StorageError: it cannot be read, or not published.
        """
        async with self._state.lock(log.origin):
            is_known = self._state.is_known(log.origin)
            found = await self._state.publish_again(log.origin)
            if not is_known:  # of many logs not all are kept in memory for this
                self._state.forget(log.origin)
        return found

    @property
    def own(self) -> tuple[VerifierKey, ...]:
        """All keys that ever signed for this witness."""
        return tuple(self._own)

    async def record(self, log: WitnessedLog) -> LogRecord | None:
        """Return what is remembered of a log: tree, time and checkpoint; None where nothing was cosigned.

        Raises:
            RolledBackError: the state is behind what we signed.
            StorageError: it cannot be read.
        """
        async with self._state.lock(log.origin):
            return (await self._state.find(log.origin)).record

    def _counted(self, given: Answer) -> Answer:
        self.counts[str(given.reason.value) if given.reason else COSIGNED] += 1
        return given

    async def _add_checkpoint(self, body: bytes) -> Answer:
        request = read_request(body, parse_add_checkpoint)
        if isinstance(request, Answer):
            return request
        return await self._submit(request)

    async def _submit(self, request: AddCheckpoint) -> Answer:
        origin = request.checkpoint.origin
        log = self.logs.get(origin)
        if log is None or log.is_disabled:
            return _not_cosigned(log)
        if self.stopped is not None:
            return _stopped(self.stopped)
        try:
            async with self._state.lock(origin):
                for number in range(SWAP_TRIES):
                    try:
                        return await self._judge(request, log, is_again=number > 0)
                    except PreconditionFailedError:
                        continue  # another replica was faster; its tree is ours to go on from
                return answer(Reason.STORAGE, "other replicas are faster, try again", retry_after=1)
        except RolledBackError as error:
            _log.error("witness_rolled_back", extra={"origin": origin, "error": str(error)})
            return answer(Reason.ROLLED_BACK, str(error))
        except (StorageError, SignatureError) as error:  # of the storage, or of whoever has the key
            _log.error("witness_storage", extra={"origin": origin, "error": str(error)})
            return answer(Reason.STORAGE, "the witness's storage does not answer", retry_after=RETRY_SECONDS)

    async def _judge(self, request: AddCheckpoint, log: WitnessedLog, *, is_again: bool) -> Answer:
        is_known = self._state.is_known(log.origin)
        held = await self._state.find(log.origin)
        verdict = decide(request, log, held.latest, self._own, timestamp=held.timestamp)
        if is_known and isinstance(verdict, Refused) and verdict.reason in _OF_REPLICAS:
            if verdict.ours is not None:
                self._state.suspect(log.origin, verdict.text, verdict.ours)
            self._state.forget(log.origin)  # another replica may have gone on
            held = await self._state.find(log.origin)
            verdict = decide(request, log, held.latest, self._own, timestamp=held.timestamp)
        # What shows that the state is too old is heard however often the log asks.
        is_free = isinstance(verdict, Refused) and verdict.reason in _NOT_COUNTED
        wait = 0.0 if is_free or is_again else self._rates.take(log.origin, self._now())
        if wait:
            return answer(Reason.RATE, "this log asks too often", retry_after=max(1, round(wait)))
        if isinstance(verdict, Accepted):
            return await self._cosign(verdict.opened, held)
        return await self._refuse(verdict, request, held)

    async def _refuse(self, verdict: Refused, request: AddCheckpoint, held: Held) -> Answer:
        if verdict.ours is not None:
            await self._state.halt(held.origin, verdict.text, verdict.ours)
            _log.error("witness_rolled_back", extra={"origin": held.origin, "error": verdict.text})
        if verdict.fork is not None and held.record is not None:
            _log.error("log_forked", extra={"origin": held.origin, "size": held.latest.size})
            self.forks += 1
            ours = held.record.checkpoint.encode()
            await self._on_fork(Fork(held.origin, ours, verdict.fork.format(), request.proof))
        if verdict.reason is Reason.STALE:
            return Answer(409, f"{held.latest.size}\n".encode(), SIZE_TYPE, Reason.STALE)
        return answer(verdict.reason, verdict.text)

    async def _cosign(self, opened: OpenedCheckpoint, held: Held) -> Answer:
        now = int(self._now())
        if now < held.timestamp - CLOCK_STEP:
            behind = held.timestamp - now
            return answer(
                Reason.CLOCK,
                f"the witness's clock is {behind} s behind its latest cosignature of this log",
                retry_after=min(behind, 3600),
            )
        timestamp = max(now, held.timestamp, 1)
        checkpoint = opened.checkpoint
        statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, checkpoint.text)
        if self.stopped is not None:  # while the state was read
            return _stopped(self.stopped)
        lines = [await _sign(signer, timestamp, statement) for signer in self._signers]
        before = (held.latest.size, held.timestamp)
        record = make_record(checkpoint, timestamp=timestamp, note=format_cosigned(opened, lines), before=before)
        await self._state.advance(held, record)
        return Answer(200, format_lines(lines))

    async def _sign_subtree(self, body: bytes) -> Answer:
        request = read_request(body, parse_sign_subtree)
        if isinstance(request, Answer):
            return request
        refused = self._judge_subtree(request)
        if refused is not None:
            return refused
        part = Statement(request.checkpoint.origin, request.start, request.end, request.subtree)
        able = [signer for signer in self._signers if signer.verifier.kind is KeyType.ML_DSA_44]
        if not able:
            return answer(Reason.NOT_SIGNED, "this witness has no key that cosigns subtrees")
        try:
            return Answer(200, format_lines([await _sign(signer, 0, part) for signer in able]))
        except (StorageError, SignatureError) as error:
            _log.error("witness_storage", extra={"origin": part.origin, "error": str(error)})
            return answer(Reason.STORAGE, "the witness's key does not answer", retry_after=RETRY_SECONDS)

    def _judge_subtree(self, request: SignSubtree) -> Answer | None:
        checkpoint = request.checkpoint
        log = self.logs.get(checkpoint.origin)
        if log is None or log.is_disabled:
            return _not_cosigned(log)
        if self.stopped is not None:
            return _stopped(self.stopped)
        whole = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, request.note.text)
        try:
            # Not all of our keys: what a retired one says now may be somebody else's word.
            active = [signer.verifier for signer in self._signers]
            if not check_cosignatures(request.note.signatures, active, whole):
                return answer(Reason.NOT_SIGNED, "the checkpoint carries no cosignature of this witness")
            check_subtree(
                request.proof,
                start=request.start,
                end=request.end,
                subtree=request.subtree,
                size=checkpoint.size,
                root=checkpoint.root,
            )
        except SignatureError as error:
            return answer(Reason.NOT_SIGNED, str(error))
        except ProofError as error:
            return answer(Reason.PROOF, str(error))
        return None


def _not_cosigned(log: WitnessedLog | None) -> Answer:
    if log is None:
        return answer(Reason.UNKNOWN_LOG, "this witness does not know the log of that origin")
    return answer(Reason.DISABLED_LOG, "this witness does not cosign the log of that origin any more")


def _stopped(why: MirrorWitnessError) -> Answer:
    return answer(Reason.STOPPED, f"this witness signs nothing more: {why}")


async def _sign(signer: Signer, timestamp: int, statement: Statement) -> Signature:
    key = signer.verifier
    return make_line(key, timestamp, await signer.sign(cosigned_message(key, timestamp, statement)))
