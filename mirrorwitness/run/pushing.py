"""Bring our own log to log mirrors, beside publishing it.

    a head that is published, or that a mirror is asked to cosign -> the mirror's push -> its cosignature

Rules:

- A mirror that the policy names is asked like a witness: its line counts once it has all entries. Every other mirror
  gets what was published, and publishing never waits for it.
- Of one mirror one push is under way; what is wanted next is the newest head, never one after the other.
- What fails is tried again with growing delays and jitter; the mirror keeps what it took.

*Errors*: none ends the log's process: a mirror is not needed to publish, or the quorum says that it is missing. That
our own tiles do not fit together is told here, and ends the process where they are proven for witnesses.
*Cancellation*: at any point.

What it does not do: speak the protocol (`mirrorwitness.logmirror.upload`), or say how many cosignatures are enough.
"""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import SecurityError, StorageError, UpstreamError
from mirrorwitness.fetch import FetchOptions, HostGate, Patience, backoff, make_user_agent, open_fetcher
from mirrorwitness.logmirror.upload import Uploader
from mirrorwitness.sumdb.earlier import EarlierLog
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.telemetry import Sample, metrics
from mirrorwitness.tlog.checkpoint import open_checkpoint

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence

    from mirrorwitness.fetch import Backoff
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.contradiction import Contradiction
    from mirrorwitness.sumdb.cosign import Prove
    from mirrorwitness.sumdb.log import Log
    from mirrorwitness.sumdb.quorum import KnownWitness
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.cosignature import Cosignature, Statement
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["MirrorPush", "open_pushes", "sample_pushes"]

SECONDS: Final = 1.0

PATIENCE: Final = Patience(connect=5 * SECONDS, head=60 * SECONDS, grace=60 * SECONDS)
"""A mirror answers after it has stored some thousand entries."""

FRESH_SECONDS: Final = 600 * SECONDS
"""How long a cosignature on an unchanged head is good enough; then it is asked for again, so that it stays young."""

_log = logging.getLogger("mirrorwitness.sumdb")


@dataclass(frozen=True, slots=True)
class _Done:
    head: OpenedCheckpoint
    cosignatures: tuple[Cosignature, ...]
    at: float


class MirrorPush:
    """Brings one log to one mirror; a `mirrorwitness.sumdb.cosign.Asked` where the policy names the mirror.

    Args:
        uploader: does it.
        keys: the mirror's keys, at least one.
        log: the keys of our log.
        tries: delays between attempts; there is no last one, and a newer head does not shorten them.
        jitter: gives numbers from 0 up to 1.
    """

    def __init__(
        self,
        *,
        uploader: Uploader,
        keys: Sequence[VerifierKey],
        log: Sequence[VerifierKey],
        tries: Backoff,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
    ) -> None:
        self._uploader = uploader
        self._keys = tuple(keys)
        self._log = tuple(log)
        self._tries = tries
        self._jitter = jitter
        self._lock = trio.Lock()
        self._woken = trio.Event()
        self._wanted: OpenedCheckpoint | None = None
        self._done: _Done | None = None

    def __repr__(self) -> str:
        return f"<MirrorPush to {self.name}, {self.size} entries>"

    @property
    def name(self) -> str:
        """The name of the mirror's keys."""
        return self._keys[0].name

    @property
    def size(self) -> int | None:
        """How many entries the mirror has, as this process knows; None: it does not."""
        return None if self._done is None else self._done.head.checkpoint.size

    def want(self, note: bytes) -> None:
        """Say that the mirror should have the tree of this head; a newer one takes its place."""
        self._wanted = open_checkpoint(note, self._log, origin=self._log[0].name)
        self._woken.set()

    async def ask(
        self,
        note: bytes,
        statement: Statement,
        prove: Prove,  # noqa: ARG002 - it proves entries as well, from tiles
    ) -> tuple[Cosignature, ...] | Contradiction:
        """Bring the tree of a head to the mirror, and return its cosignatures; as `WitnessClient.ask`.

        Where there is no time for it `run` goes on with it.

        Raises:
            SignatureError: what the mirror answers is no cosignature of its keys on the head.
            UpstreamError: it cannot be reached, says no, has a larger tree, or comes no further.
            StorageError: the log's own tiles cannot be read.
            ProofError: they are not those of the head.
        """
        self.want(note)
        return await self._push(open_checkpoint(note, self._log, origin=statement.origin))

    async def examine(self, found: Contradiction, statement: Statement, prove: Prove) -> Contradiction:  # noqa: ARG002
        """Return what it says: `ask` never does, a mirror that has more than we is one that cannot be pushed to."""
        await trio.lowlevel.checkpoint()
        return found

    async def run(self) -> None:
        """Push what is wanted, again and again where it fails; never returns."""
        failures = 0
        while True:
            if failures:
                await trio.sleep(backoff(failures, base=self._tries.base, cap=self._tries.cap, jitter=self._jitter()))
            else:
                await self._woken.wait()
            self._woken = trio.Event()
            failures = 0 if await self.settle() else failures + 1

    async def settle(self) -> bool:
        """Try once to bring what is wanted to the mirror, and say whether it is there."""
        if self._wanted is None:
            return True
        try:
            await self._push(self._wanted)
        except (UpstreamError, StorageError, SecurityError) as error:
            _log.warning("not_mirrored", extra={"mirror": self.name, "reason": str(error)})
            return False
        return True

    async def _push(self, head: OpenedCheckpoint) -> tuple[Cosignature, ...]:
        async with self._lock:
            done = self._done
            is_known = done is not None and done.head.note.text == head.note.text
            if done is not None and is_known and trio.current_time() - done.at < FRESH_SECONDS:
                return done.cosignatures
            found = await self._uploader.push(head)
            self._done = _Done(head, found.cosignatures, trio.current_time())
            size = head.checkpoint.size
            _log.info("mirrored", extra={"mirror": self.name, "size": size, "bytes": found.sent})
            return found.cosignatures


@asynccontextmanager
async def open_pushes(
    mirrors: Sequence[KnownWitness], *, log: Log, storage: Storage, tries: Backoff, contact: str | None
) -> AsyncGenerator[tuple[MirrorPush, ...], None]:
    """Open what brings a log to mirrors.

    Args:
        mirrors: the mirrors.
        log: the open log.
        storage: where it is.
        tries: delays between attempts.
        contact: how a mirror's operator reaches ours.

    *Resources*: connections to the mirrors, until the block ends.
    """
    source = EarlierLog(StoredLog(storage), size=lambda: log.size)
    options, gate = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(contact)), HostGate()
    async with open_fetcher(options) as fetcher:
        yield tuple([
            MirrorPush(
                uploader=Uploader(source=source, url=each.url, keys=each.keys, fetcher=fetcher, gate=gate),
                keys=each.keys,
                log=log.verifiers,
                tries=tries,
            )
            for each in mirrors
        ])


def sample_pushes(pushes: Iterable[MirrorPush]) -> Iterator[Sample]:
    """Yield the metrics of what brings a log to mirrors."""
    for push in pushes:
        if push.size is not None:
            yield Sample(metrics.SUMDB_MIRRORED, push.size, (push.name,))
