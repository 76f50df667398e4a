"""Cosigner: signs the checkpoints of logs for one role, later ones only, and remembers before it answers.

Rules:

- The tree of a log that is signed never shrinks, and of one size there is one root. Whether two trees are consistent is
  for the caller to know; a log mirror computes both from one copy.
- The time is taken under the log's lock and never goes back (`mirrorwitness.witness.service.CLOCK_STEP`).
- What is signed is recorded, shown in the anchor and published before anybody gets it (P7): that is
  `mirrorwitness.witness.state`, which also refuses to go on from a state that was restored.
- What this process signed within the last `FRESH_SECONDS` is given again: an upload of nothing needs no signature of
  anybody, and must not cost us one, and writes, each time.
- A cosigner that was stopped (`Cosigner.stop`) signs nothing more, for no log and no request that is in work.

*Concurrency*: any number of tasks; of one log one signs at a time, and other processes are met by the swap.

What it does not do: judge what it signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, PreconditionFailedError, ProofError, StorageUnavailableError
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.witness.records import format_cosigned, make_record
from mirrorwitness.witness.service import CLOCK_STEP

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mirrorwitness.errors import MirrorWitnessError
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.decision import Latest
    from mirrorwitness.witness.signer import Signer
    from mirrorwitness.witness.state import Held, WitnessState

__all__ = ["Cosigned", "Cosigner", "Overtaken"]

FRESH_SECONDS: Final = 5
"""Age up to which a cosignature is as good as a new one: as long as caches may keep a checkpoint of ours."""

SWAP_TRIES: Final = 3
"""How often a signature is made anew because another replica was faster."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint that was signed and published.

    Attributes:
        lines: ours.
        note: the checkpoint with them and those of the log.
    """

    lines: tuple[Signature, ...]
    note: bytes


@dataclass(frozen=True, slots=True)
class Overtaken:
    """A larger tree of the log was signed meanwhile; nothing was.

    Attributes:
        latest: that tree.
    """

    latest: Latest


class Cosigner:
    """Signs for one role.

    Args:
        state: what was signed, in the view of the role (`mirrorwitness.logmirror.roles`).
        signers: who signs.
        own: all keys that ever signed for the role here.
        now: seconds since 1970.

    Attributes:
        own: all keys that ever signed for the role here.
        stopped: why it signs nothing more; None while it does.
    """

    def __init__(
        self, *, state: WitnessState, signers: Sequence[Signer], own: Sequence[VerifierKey], now: Callable[[], float]
    ) -> None:
        self.own = tuple(own)
        self.stopped: MirrorWitnessError | None = None
        self._state = state
        self._signers = signers
        self._now = now
        self._given: dict[str, Cosigned] = {}  # what this process signed last, each written to all places

    def __repr__(self) -> str:
        return f"<Cosigner {', '.join(signer.verifier.name for signer in self._signers)}>"

    def stop(self, why: MirrorWitnessError) -> None:
        """Sign nothing more in this process: its keys were given up, or nobody can say what they signed."""
        self.stopped = why

    async def find(self, origin: str, *, anew: bool = False) -> Held:
        """Return what was signed of a log, read anew where that is asked for or where it is not known.

        Raises:
            RolledBackError: the state is behind what was signed.
            StorageError: it cannot be read.
        """
        async with self._state.lock(origin):
            if anew:
                self._state.forget(origin)
            return await self._state.find(origin)

    def suspect(self, origin: str, reason: str, shown: tuple[OpenedCheckpoint, tuple[Cosignature, ...]]) -> None:
        """Let the next look at a log halt it, where the state does not know a signature of ours either."""
        self._state.suspect(origin, reason, shown)

    async def publish_again(self, origin: str) -> None:
        """Publish what was signed of a log last, where a crash took it or came before it was published.

        Raises:
            RolledBackError: the state is behind what was signed.
            StorageError: it cannot be read, or not published.
        """
        async with self._state.lock(origin):
            await self._state.publish_again(origin)

    async def cosign(self, opened: OpenedCheckpoint) -> Cosigned | Overtaken:
        """Sign a checkpoint, or the latest one again with a newer time.

        Raises:
            ProofError: another tree of its size was signed.
            RolledBackError: the state is behind what was signed.
            ConfigurationError: it was stopped.
            StorageError: storage or key failed, or the clock is behind; the state may have been written.
        """
        tree = opened.checkpoint
        async with self._state.lock(tree.origin):
            for _ in range(SWAP_TRIES):
                held = await self._state.find(tree.origin)
                if tree.size < held.latest.size:
                    self._state.forget(tree.origin)
                    return Overtaken(held.latest)
                if held.record is not None and tree.size == held.latest.size and tree.root != held.latest.root:
                    raise ProofError(
                        f"{tree}: the root {held.latest.root.hex()} of that size was signed, expected the same one"
                    )
                fresh = self._find_fresh(opened, held)
                if fresh is not None:
                    return fresh
                try:
                    return await self._sign(opened, held)
                except PreconditionFailedError:
                    continue  # another replica was faster; its tree is ours to go on from
        raise StorageUnavailableError(f"{tree.origin}: other replicas were faster {SWAP_TRIES} times, try again")

    async def _sign(self, opened: OpenedCheckpoint, held: Held) -> Cosigned:
        now = int(self._now())
        if now < held.timestamp - CLOCK_STEP:
            raise StorageUnavailableError(
                f"the clock is {held.timestamp - now} s behind the latest cosignature of {held.origin!r}"
            )
        timestamp = max(now, held.timestamp, 1)
        tree = opened.checkpoint
        statement = Statement(tree.origin, 0, tree.size, tree.root, tree.text)
        lines: list[Signature] = []
        for signer in self._signers:
            self._check_not_stopped()  # each time: a key may be a service far away
            key = signer.verifier
            lines.append(make_line(key, timestamp, await signer.sign(cosigned_message(key, timestamp, statement))))
        note = format_cosigned(opened, lines)
        record = make_record(tree, timestamp=timestamp, note=note, before=(held.latest.size, held.timestamp))
        self._check_not_stopped()
        await self._state.advance(held, record)
        done = self._given[tree.origin] = Cosigned(tuple(lines), note)
        return done

    def _find_fresh(self, opened: OpenedCheckpoint, held: Held) -> Cosigned | None:
        """Return what was signed of this very checkpoint a moment ago, and is still the latest."""
        self._check_not_stopped()
        given = self._given.get(held.origin)
        if given is None or held.record is None or held.record.checkpoint.encode() != given.note:
            return None
        is_same = parse_note(given.note).text == opened.note.text
        return given if is_same and 0 <= self._now() - held.timestamp < FRESH_SECONDS else None

    def _check_not_stopped(self) -> None:
        if self.stopped is not None:
            raise ConfigurationError(f"nothing more is signed in this process: {self.stopped}")
