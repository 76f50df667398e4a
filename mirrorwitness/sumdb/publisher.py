"""Publisher: the way of a head from the sequencer to readers: head -> cosignatures -> quorum -> ``log/checkpoint``.

Rules:

- What is published meets the quorum, checked as a client checks it (`mirrorwitness.tlog.policy.check_policy`). Until a
  newer head does, the older checkpoint stays: readers never see one that they would have to refuse.
- The newest head is asked for, never one after the other: heads that grew meanwhile are published together.
- An attempt that fails is repeated, with growing delays and jitter. An unchanged head is cosigned again after
  `refresh`, so that its cosignatures stay young.
- A witness that saw more of our log than we have stops everything (`mirrorwitness.sumdb.cosign`).

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

from mirrorwitness.errors import SignatureError, StorageUnavailableError
from mirrorwitness.fetch import Backoff, backoff
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.note import Note, format_note, parse_note
from mirrorwitness.tlog.policy import check_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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
    ) -> None:
        self._log = log
        self._cosigner = cosigner
        self._policy = policy
        self._now = now
        self._size = size
        self._refresh = refresh
        self._tries = tries
        self._jitter = jitter
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

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Publish every head, as soon as the quorum is met; never returns.

        Raises:
            RolledBackError: a witness saw more of the log than we have, or another history of it.
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
            RolledBackError: a witness saw more of the log than we have, or another history of it.
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
        gathered = await self._cosigner.gather(head, is_enough=self._policy.is_met)
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
        return "" if await self._log.publish(note) else "somebody else published a larger tree of this log"


def _size_of(note: bytes) -> int:
    return parse_checkpoint(parse_note(note).text).size
