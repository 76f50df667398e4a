"""Cosigner: ask witnesses to cosign a head of our log, all at once, and believe nothing that does not verify.

    what the witness cosigned last -> the consistency proof from there -> POST <url>/add-checkpoint -> its lines

Rules:

- The size that a witness cosigned last is kept in memory. A new process begins at 0, and learns the size from the
  witness's 409, as the specification has it.
- A line counts only when it verifies under a key that is configured for this witness, and says a time. A witness whose
  line does not verify is as good as one that does not answer: its answer is counted, told, and passed over.
- Nobody waits for the slowest: there is a deadline for all, and a short grace once those that answered are enough.
- A witness that cosigned a *larger* tree of our log than we have, or that finds no proof from what it saw to our head,
  is the one thing that is no fault of a witness until it is shown to be: most likely our storage was restored from an
  older copy, or somebody else signs with our key. To go on would sign a second history, which cannot be taken back, so
  the log stops (`RolledBackError`). A witness that lies about it stops the log as well; the operator then removes it
  from the configuration. A log that stands still can be mended, one that forked cannot.

What it does not do: say how many witnesses are enough, repeat, or publish (`mirrorwitness.sumdb.publisher`).

SPEC: C2SP tlog-witness, "add-checkpoint"; C2SP tlog-cosignature.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    RolledBackError,
    SignatureError,
    UpstreamError,
    UpstreamProtocolError,
)
from mirrorwitness.fetch import make_status_error, origin_of
from mirrorwitness.sumdb.served import check_base
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.note import parse_lines, parse_note
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_add_checkpoint, parse_known_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["ASK_SECONDS", "GRACE_SECONDS", "Cosigner", "Gathered", "Prove", "WitnessClient"]

SECONDS: Final = 1.0

ASK_SECONDS: Final = 15 * SECONDS
"""How long all witnesses together may take: two requests over a slow line, and a witness's durable writes."""

GRACE_SECONDS: Final = 1 * SECONDS
"""How long others are waited for once the quorum is met: more cosignatures are worth a second of delay, not more."""

MAX_ANSWER_BYTES: Final = 256 * 1024
"""Largest answer in bytes: 64 lines of post-quantum size fit."""

TRIES: Final = 3
"""How often a witness is asked anew because it cosigned another size meanwhile; others may feed it too."""

_OK: Final = 200
_CONFLICT: Final = 409
_UNPROCESSABLE: Final = 422
_SHOWN: Final = 200
_log = logging.getLogger("mirrorwitness.sumdb")

Prove: TypeAlias = "Callable[[int, int, Hash], Awaitable[Sequence[Hash]]]"
"""Gives the consistency proof from a size to another, and is told the root at that one. It is made of the log's own
tiles, checked against the root: no witness must be blamed, or feared, for a tile of ours that is damaged."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """What witnesses answered.

    Attributes:
        cosignatures: those that verified.
        failures: witness → why there is none of it, for people.
    """

    cosignatures: tuple[Cosignature, ...]
    failures: Mapping[str, str]


class _Answer(NamedTuple):
    status: int
    kind: str
    body: bytes


class WitnessClient:
    """Asks one witness. One request at a time.

    Args:
        keys: its keys, at least one.
        url: its submission prefix.
        fetcher: the door to HTTP.
        gate: manners, shared with others.

    Raises:
        ConfigurationError: the URL is none to which a path can be added.
    """

    def __init__(self, *, keys: Sequence[VerifierKey], url: str, fetcher: Fetcher, gate: HostGate) -> None:
        self.name = keys[0].name
        self.keys = tuple(keys)
        self._url = check_base(url, f"witness {self.name}") + "/add-checkpoint"
        self._origin = origin_of(self._url)
        self._fetcher = fetcher
        self._gate = gate
        self._size = 0

    def __repr__(self) -> str:
        return f"<WitnessClient of {self.name} at {self._url}, size {self._size}>"

    async def ask(self, note: bytes, statement: Statement, prove: Prove) -> tuple[Cosignature, ...]:
        """Ask for a cosignature.

        Args:
            note: the checkpoint, signed by the log.
            statement: what it says.
            prove: makes proofs of consistency.

        Returns:
            The cosignatures of this witness, at least one.

        Raises:
            RolledBackError: the witness saw more of our log than we have, or another history of it.
            SignatureError: what it answered is no cosignature of it.
            UpstreamError: it cannot be reached, or says no.
            StorageError: the log's own tiles cannot be read.
        """
        for _ in range(TRIES):
            if self._size > statement.end:
                raise self._alarm(statement, f"has cosigned a tree of size {self._size}")
            proof = await prove(self._size, statement.end, statement.root) if 0 < self._size < statement.end else ()
            answer = await self._post(format_add_checkpoint(self._size, proof, note))
            if answer.status == _OK:
                found = self._check(answer, statement)
                self._size = statement.end
                return found
            if answer.status == _UNPROCESSABLE:
                raise self._alarm(statement, f"does not find it consistent with its size {self._size}: {_show(answer)}")
            self._learn(answer)
        raise UpstreamProtocolError(f"witness {self.name}: moved to another size {TRIES} times meanwhile")

    def _learn(self, answer: _Answer) -> None:
        """Take the size of a 409; every other answer is a failure."""
        if answer.status != _CONFLICT or answer.kind != SIZE_TYPE:
            message = f"witness {self.name}: status {answer.status} ({answer.kind or 'no type'}): {_show(answer)}"
            raise make_status_error(answer.status, message)
        known = parse_known_size(answer.body)
        if known == self._size:
            raise UpstreamProtocolError(
                f"witness {self.name}: its size is not {known}, it says, and that it is {known}"
            )
        self._size = known

    def _check(self, answer: _Answer, statement: Statement) -> tuple[Cosignature, ...]:
        found = check_cosignatures(parse_lines(answer.body), self.keys, statement)
        if not found or not all(each.timestamp for each in found):
            what = "with no time" if found else "of none of its keys"
            raise SignatureError(f"witness {self.name}: its answer has lines {what}, expected a cosignature of ours")
        return found

    async def _post(self, body: bytes) -> _Answer:
        headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
        async with (
            self._gate.slot(self._origin) as slot,
            self._fetcher.request("POST", self._url, headers=headers, body=body) as response,
        ):
            slot.status = response.status
            kind = response.headers.get("content-type", "")
            return _Answer(response.status, kind, await response.read(MAX_ANSWER_BYTES))

    def _alarm(self, statement: Statement, what: str) -> RolledBackError:
        return RolledBackError(
            f"the log {statement.origin!r} is at size {statement.end}, and its witness {self.name} {what}. Either the "
            "log's storage was restored from an older copy, or somebody else signs with its key, or the witness lies. "
            "Nothing more is signed: find out which; where it is the witness, remove it from the configuration"
        )


class Cosigner:
    """Asks several witnesses at once. One head at a time.

    Args:
        witnesses: those that are asked; may be none.
        prove: makes proofs of consistency from the log's own tiles.
        deadline: seconds that all together may take.
        grace: seconds that the others may take once there are enough.

    Raises:
        ConfigurationError: two of them have one name.

    Attributes:
        counts: (witness, outcome) → how often; outcomes are ``cosigned``, ``failed``, ``late`` and ``wrong``.
    """

    def __init__(
        self,
        *,
        witnesses: Sequence[WitnessClient],
        prove: Prove,
        deadline: float = ASK_SECONDS,
        grace: float = GRACE_SECONDS,
    ) -> None:
        self.witnesses = tuple(witnesses)
        twice = [name for name, count in Counter(each.name for each in witnesses).items() if count > 1]
        if twice:
            raise ConfigurationError(f"witness {twice[0]}: given with two URLs, expected one")
        self.counts: Counter[tuple[str, str]] = Counter()
        self._prove = prove
        self._deadline = deadline
        self._grace = grace

    def __repr__(self) -> str:
        return f"<Cosigner with {len(self.witnesses)} witnesses>"

    async def gather(self, note: bytes, *, is_enough: Callable[[Sequence[VerifierKey]], bool]) -> Gathered:
        """Ask all witnesses for a cosignature of a head.

        Args:
            note: the head, signed by the log.
            is_enough: says whether cosignatures of these keys are enough.

        Raises:
            RolledBackError: a witness saw more of our log than we have, or another history of it.
            StorageError: the log's own tiles cannot be read.
            ProofError: they are not those of the head.

        *Cancellation*: at any point; a witness may have cosigned all the same, and says so the next time.
        """
        tree = parse_checkpoint(parse_note(note).text)
        round_ = _Round(note, _statement_of(tree), self._prove, is_enough, self._grace)
        with trio.move_on_after(self._deadline) as scope:
            async with trio.open_nursery() as nursery:
                for witness in self.witnesses:
                    nursery.start_soon(partial(round_.ask, witness, scope))
        if round_.fatal:
            # What cannot be taken back first: a storage that failed is tried again.
            raise min(round_.fatal, key=lambda error: not isinstance(error, RolledBackError))
        for witness in self.witnesses:
            if witness.name not in round_.outcomes:
                round_.end(witness, "late", f"no answer within {self._deadline:g} s, or a grace of {self._grace:g} s")
        self.counts.update(round_.outcomes.items())
        return Gathered(tuple(round_.found), round_.failures)


class _Round:
    """What becomes of one head at all witnesses."""

    def __init__(
        self,
        note: bytes,
        statement: Statement,
        prove: Prove,
        is_enough: Callable[[Sequence[VerifierKey]], bool],
        grace: float,
    ) -> None:
        self.found: list[Cosignature] = []
        self.outcomes: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        self.fatal: list[MirrorWitnessError] = []
        self._note = note
        self._statement = statement
        self._prove = prove
        self._is_enough = is_enough
        self._grace = grace

    async def ask(self, witness: WitnessClient, scope: trio.CancelScope) -> None:
        """Ask one witness; what goes wrong with it stays with it."""
        try:
            found = await witness.ask(self._note, self._statement, self._prove)
        except UpstreamError as error:
            self.end(witness, "failed", str(error))
        except SignatureError as error:
            # Only lines of the witness are checked in there: it is the witness whose word is worth nothing.
            self.end(witness, "wrong", str(error))
        except MirrorWitnessError as error:
            self.fatal.append(error)
            scope.cancel()
        else:
            self.outcomes[witness.name] = "cosigned"
            self.found += found
            if self._is_enough([each.key for each in self.found]):
                scope.deadline = min(scope.deadline, trio.current_time() + self._grace)

    def end(self, witness: WitnessClient, outcome: str, text: str) -> None:
        """Note that there is no cosignature of a witness."""
        self.outcomes[witness.name] = outcome
        self.failures[witness.name] = text
        level = logging.ERROR if outcome == "wrong" else logging.WARNING
        _log.log(level, "not_cosigned", extra={"witness": witness.name, "outcome": outcome, "reason": text})


def _statement_of(tree: Checkpoint) -> Statement:
    return Statement(tree.origin, 0, tree.size, tree.root, tree.text)


def _show(answer: _Answer) -> str:
    """Return what a witness says, in a form that cannot harm a terminal."""
    return ascii(answer.body[:_SHOWN].decode("utf-8", "replace").strip())
