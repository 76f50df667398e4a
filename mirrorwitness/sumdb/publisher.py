"""Publisher: the way of a head from the sequencer to readers: head -> cosignatures -> quorum -> ``log/checkpoint``.

Rules:

- What is published meets the quorum, checked as a client checks it (`mirrorwitness.tlog.policy.check_policy`). Until a
  newer head does, the older checkpoint stays: readers never see one that they would have to refuse.
- The newest head is asked for, never one after the other: heads that grew meanwhile are published together.
- An attempt that fails is repeated, with growing delays and jitter. An unchanged head is cosigned again after
  `refresh`, so that its cosignatures stay young.
- A witness that saw more of our log than there is, or another history of it, stops everything where it *proves* it:
  our storage was restored from an older copy, or somebody else signs with our key, and to go on would sign a second
  history. What it showed is kept. Where there is its word alone, that stops a process that found its head in the
  storage: an older copy is the likeliest reason, and nobody else can know. A process that made its head itself, by
  compare-and-swap, knows better: there it is an alarm, the witness counts as silent, and the quorum decides.
- Until this process has extended the log all witnesses are heard, the slow ones as well.

*Errors*: a storage that does not answer and a quorum that is not met are tried again; all others go up, and end the
log's process. *Cancellation*: at any point; what is published stays whole.

What it does not do: make heads (`mirrorwitness.sumdb.log`), or ask (`mirrorwitness.sumdb.cosign`).
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import RolledBackError, SignatureError, StorageError, StorageUnavailableError
from mirrorwitness.fetch import Backoff, backoff
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.note import Note, format_note, parse_note
from mirrorwitness.tlog.policy import check_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mirrorwitness.sumdb.contradiction import Contradiction
    from mirrorwitness.sumdb.cosign import Cosigner
    from mirrorwitness.tlog.policy import Policy

__all__ = ["REFRESH_SECONDS", "TRIES", "Growing", "Publication", "Publisher"]

SECONDS: Final = 1.0

REFRESH_SECONDS: Final = 3600 * SECONDS
"""After which an unchanged head is cosigned again. Policies that look at the age of cosignatures allow days."""

TRIES: Final = Backoff(attempts=1, base=1 * SECONDS, cap=30 * SECONDS)
"""Delays between attempts; there is no last one. Look-ups wait for the next, so they stay short."""

_log = logging.getLogger("mirrorwitness.sumdb")


class Growing(Protocol):
    """A log that grows, as far as it is published."""

    @property
    def head(self) -> bytes:
        """The newest head, signed by the log."""
        ...

    @property
    def is_own_head(self) -> bool:
        """Whether this process made the head, and did not find it."""
        ...

    async def check_newest(self) -> None:
        """Check that no other process has extended the log.

        Raises:
            LogLostError: one has.
            MirrorWitnessError: the head cannot be read, or is none.
        """
        ...

    async def keep_shown(self, note: bytes) -> str:
        """Keep a checkpoint that contradicts the head, and return its key.

        Raises:
            StorageError: it could not be kept.
        """
        ...

    async def publish(self, note: bytes) -> bool:
        """Put a checkpoint in the place of the one that is published, and say whether it is there now.

        Raises:
            StorageError: it could not be put.
        """
        ...


@dataclass(frozen=True, slots=True)
class Publication:
    """How the publication of a log stands.

    Attributes:
        size: of the published tree; None where nothing is published, as far as this process knows.
        published: when this process last published, in seconds since 1970; None: never.
        head: size of the newest tree.
        failures: attempts that failed since the last one that did not.
        missing: why the last one failed; empty where it did not.
        waiting: seconds for which the newest tree waits to be published; 0 where it is.
    """

    size: int | None
    published: float | None
    head: int
    failures: int
    missing: str
    waiting: float


class Publisher:
    """Publishes one log.

    Args:
        log: grows.
        cosigner: asks the witnesses.
        policy: what has to be fulfilled; its logs are this one.
        now: seconds since 1970.
        size: of the tree that is published already; None where none is.
        refresh: seconds after which an unchanged head is cosigned again.
        tries: delays between attempts.
        jitter: gives numbers from 0 up to 1.
        on_published: told each checkpoint that was published; must return at once.
    """

    def __init__(
        self,
        *,
        log: Growing,
        cosigner: Cosigner,
        policy: Policy,
        now: Callable[[], float],
        size: int | None = None,
        refresh: float = REFRESH_SECONDS,
        tries: Backoff = TRIES,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
        on_published: Callable[[bytes], object] = len,
    ) -> None:
        self._log = log
        self._cosigner = cosigner
        self._policy = policy
        self._now = now
        self._size = size
        self._refresh = refresh
        self._tries = tries
        self._jitter = jitter
        self._on_published = on_published
        self._published: float | None = None
        self._failures = 0
        self._missing = ""
        self._behind_since: float | None = None
        self._woken = trio.Event()
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<Publisher of {self._log!r}, published {self._size}, {self._failures} failures>"

    def statistics(self) -> Publication:
        """Return a snapshot."""
        since = self._behind_since
        waiting = 0.0 if since is None else trio.current_time() - since
        return Publication(
            self._size, self._published, _size_of(self._log.head), self._failures, self._missing, waiting
        )

    @property
    def counts(self) -> Mapping[tuple[str, str], int]:
        """How often each witness answered how; see `Cosigner`."""
        return self._cosigner.counts

    def wake(self) -> None:
        """Say that there is a newer head."""
        self._note_behind()
        self._woken.set()

    async def wait_published(self, size: int) -> None:
        """Wait until a tree of at least so many records is published; for how long is the caller's."""
        while self._size is None or self._size < size:
            await self._changed.wait()

    async def wait_agreed(self) -> None:
        """Wait until this process has published a head: the quorum has agreed to what there is."""
        while self._published is None:
            await self._changed.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish every head, as soon as the quorum is met; never returns.

        Raises:
            RolledBackError: a witness saw more of the log than there is, or another history of it: it proves that, or
                this process found its head and did not make it.
            MirrorWitnessError: the log lost its storage to somebody else, or is damaged.
        """
        task_status.started()
        is_published = self._published is not None and self._behind_since is None
        while True:
            if is_published:
                with trio.move_on_after(self._refresh):
                    await self._woken.wait()
            elif self._failures:
                tries = self._tries
                await trio.sleep(backoff(self._failures, base=tries.base, cap=tries.cap, jitter=self._jitter()))
            self._woken = trio.Event()
            is_published = await self.attempt()

    async def attempt(self) -> bool:
        """Try once to publish the newest head, and say whether it is published.

        Raises:
            RolledBackError: a witness saw more of the log than there is, or another history of it: it proves that, or
                this process found its head and did not make it.
            MirrorWitnessError: the log lost its storage to somebody else, or is damaged.
        """
        head = self._log.head
        size = _size_of(head)
        if size != self._size:
            self._note_behind()
        try:
            self._missing = await self._publish(head)
        except StorageUnavailableError as error:
            self._missing = str(error)
        if self._missing:
            self._failures += 1
            _log.warning("not_published", extra={"failures": self._failures, "reason": self._missing})
            return False
        self._failures = 0
        self._size = size
        self._published = self._now()
        self._behind_since = None if _size_of(self._log.head) == size else trio.current_time()
        changed, self._changed = self._changed, trio.Event()
        changed.set()
        _log.info("published", extra={"size": self._size})
        return True

    def _note_behind(self) -> None:
        if self._behind_since is None:
            self._behind_since = trio.current_time()

    async def _publish(self, head: bytes) -> str:
        """Publish a head; return why not, or nothing."""
        gathered = await self._cosigner.gather(
            head, is_enough=self._policy.is_met, is_patient=not self._log.is_own_head
        )
        if gathered.contradictions:
            await self._judge(head, gathered.contradictions)
        signed = parse_note(head)
        lines = dict.fromkeys([*signed.signatures, *(each.line for each in gathered.cosignatures)])
        note = format_note(Note(signed.text, tuple(lines)))
        found = [each.key for each in gathered.cosignatures]
        if not self._policy.is_met(found):
            reasons = "; ".join([*self._policy.missing(found), *gathered.failures.values()])
            return f"the quorum is not met: {reasons}"
        try:
            check_policy(note, self._policy)
        except SignatureError as error:  # the log's own lines; to publish them would lock readers out
            raise SignatureError(f"the log's own head does not verify, nothing is published: {error}") from error
        if not await self._log.publish(note):
            return "somebody else published a larger tree of this log"
        self._on_published(note)
        return ""

    async def _judge(self, head: bytes, found: Sequence[Contradiction]) -> None:
        """Stop where what witnesses say against our head is proven, or cannot be ruled out."""
        await self._log.check_newest()  # what they saw may be the head of another process over the same storage
        for each in found:
            if each.shown is not None:
                raise RolledBackError(
                    f"{_say(head, each)}, and it shows a checkpoint that this log's own keys signed"
                    f" ({await self._keep(each.shown)}): the storage was restored from an older copy, or somebody else"
                    " signs with the log's keys. Nothing more is signed: find the newest copy of the storage"
                )
        if not self._log.is_own_head:
            raise RolledBackError(
                f"{_say(head, found[0])}, and does not prove it. Most likely the log's storage was restored from an"
                " older copy, so nothing is added: find the newest copy. Where you know that the witness is wrong, go"
                " on without it: take it out of --witness and --policy"
            )

    async def _keep(self, note: bytes) -> str:
        try:
            return f"kept as {await self._log.keep_shown(note)}"
        except StorageError as error:
            return f"which could not be kept: {error}"


def _say(head: bytes, found: Contradiction) -> str:
    tree = parse_checkpoint(parse_note(head).text)
    return f"the log {tree.origin!r} is at size {tree.size}, and its witness {found.witness} {found.what}"


def _size_of(note: bytes) -> int:
    return parse_checkpoint(parse_note(note).text).size
