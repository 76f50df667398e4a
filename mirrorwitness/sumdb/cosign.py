"""Cosigner: ask witnesses to cosign a head of our log, all at once, and believe nothing that does not verify.

    what the witness cosigned last -> the consistency proof from there -> POST <url>/add-checkpoint -> its lines

Rules:

- The size that a witness cosigned last is kept in memory. A new process begins at 0, and learns the size from the
  witness's 409, as the specification has it.
- A line counts only when it verifies under a key that is configured for this witness, and says a time. A witness whose
  line does not verify is as good as one that does not answer: its answer is counted, told, and passed over.
- Of each key one line counts, the newest: a witness that answers with many cannot make a checkpoint too long to read.
- Nobody waits for the slowest: there is a deadline for all, and a short grace once those that answered are enough. Only
  who asks patiently hears everybody out.
- A witness that says that it cosigned a *larger* tree of our log than we have, or another one (409 with our size or a
  larger one, 422), is asked for the checkpoint that it cosigned: `mirrorwitness.sumdb.contradiction` says what proves
  it. That it said so is never lost, also where there is no time left to ask.

What it does not do: say how many witnesses are enough, or what follows from a contradiction, repeat, or publish
(`mirrorwitness.sumdb.publisher`).

SPEC: C2SP tlog-witness, "add-checkpoint", and the monitoring GET at the submission prefix; C2SP tlog-cosignature.
Witnesses of version 1.0.0 answer another root of the same size with 409, later ones with 422.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeAlias

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    MirrorWitnessError,
    SignatureError,
    UpstreamError,
    UpstreamProtocolError,
)
from mirrorwitness.fetch import make_status_error, origin_of
from mirrorwitness.sumdb.contradiction import Contradiction, is_against, open_shown
from mirrorwitness.sumdb.served import check_base
from mirrorwitness.tlog.checkpoint import origin_hash, parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures
from mirrorwitness.tlog.note import MAX_NOTE_BYTES, parse_lines, parse_note
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_add_checkpoint, parse_known_size

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["ASK_SECONDS", "GRACE_SECONDS", "Asked", "Cosigner", "Gathered", "Prove", "WitnessClient"]

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
        contradictions: what some say against our head.
    """

    cosignatures: tuple[Cosignature, ...]
    failures: Mapping[str, str]
    contradictions: tuple[Contradiction, ...] = ()


class Asked(Protocol):
    """Who can be asked for a cosignature: `WitnessClient`, and a log mirror that a policy names."""

    @property
    def name(self) -> str:
        """The name of its keys."""
        ...

    async def ask(self, note: bytes, statement: Statement, prove: Prove) -> tuple[Cosignature, ...] | Contradiction:
        """Ask for a cosignature; as `WitnessClient.ask`."""
        ...

    async def examine(self, found: Contradiction, statement: Statement, prove: Prove) -> Contradiction:
        """Find out whether what it says against our head is proven; as `WitnessClient.examine`."""
        ...


class _Answer(NamedTuple):
    status: int
    kind: str
    body: bytes


class WitnessClient:
    """Asks one witness. One request at a time.

    Args:
        keys: its keys, at least one.
        log: the keys of our log.
        url: its submission prefix.
        fetcher: the door to HTTP.
        gate: manners, shared with others.

    Raises:
        ConfigurationError: the URL is none to which a path can be added.
    """

    def __init__(
        self, *, keys: Sequence[VerifierKey], log: Sequence[VerifierKey], url: str, fetcher: Fetcher, gate: HostGate
    ) -> None:
        self._keys = tuple(keys)
        self._log = tuple(log)
        self._base = check_base(url, f"witness {self.name}")
        self._origin = origin_of(self._base)
        self._fetcher = fetcher
        self._gate = gate
        self._size = 0

    def __repr__(self) -> str:
        return f"<WitnessClient of {self.name} at {self._base}, size {self._size}>"

    @property
    def name(self) -> str:
        """The name of its keys."""
        return self._keys[0].name

    async def ask(self, note: bytes, statement: Statement, prove: Prove) -> tuple[Cosignature, ...] | Contradiction:
        """Ask for a cosignature.

        Args:
            note: the checkpoint, signed by the log.
            statement: what it says.
            prove: makes proofs of consistency.

        Returns:
            The cosignatures of this witness, at least one and one of each key; or what it says against our head, which
            is not examined yet.

        Raises:
            SignatureError: what it answered is no cosignature of it.
            UpstreamError: it cannot be reached, or says no.
            StorageError: the log's own tiles cannot be read.
        """
        if self._size > statement.end:  # our head went back: let it say so
            self._size = 0
        for _ in range(TRIES):
            old = self._size
            proof = await prove(old, statement.end, statement.root) if 0 < old < statement.end else ()
            answer = await self._post(format_add_checkpoint(old, proof, note))
            if answer.status == _OK:
                found = self._check(answer, statement)
                self._size = statement.end
                return found
            if answer.status == _UNPROCESSABLE and old:
                return self._contradicts(f"does not find it consistent with its size {old}: {_show(answer)}", answer)
            known = self._learn(answer)
            if known > statement.end or known == old == statement.end:
                which = f"a tree of size {known}" if known > old else "another tree of this size"
                return self._contradicts(f"has cosigned {which}", answer)
            if known == old:
                raise UpstreamProtocolError(
                    f"witness {self.name}: its size is not {known}, it says, and that it is {known}"
                )
            self._size = known
        raise UpstreamProtocolError(f"witness {self.name}: moved to another size {TRIES} times meanwhile")

    async def examine(self, found: Contradiction, statement: Statement, prove: Prove) -> Contradiction:
        """Find out whether what this witness says against our head is proven: by its answer, or what it cosigned last.

        Returns:
            The same; with the checkpoint that proves it, where one does.

        Raises:
            StorageError: the log's own tiles cannot be read.
        """
        for body in (found.said, await self._read_cosigned(statement.origin)):
            shown = open_shown(body, self._log, statement.origin)
            if shown is None:
                continue
            is_earlier = 0 < shown.size < statement.end
            proof = await prove(shown.size, statement.end, statement.root) if is_earlier else ()
            if is_against(shown, statement, proof):
                return replace(found, shown=body)
        return found

    async def _read_cosigned(self, origin: str) -> bytes:
        """Return what the witness shows as cosigned; nothing where it shows nothing."""
        try:
            return (await self._request("GET", f"{origin_hash(origin)}/checkpoint", None, MAX_NOTE_BYTES)).body
        except UpstreamError:
            return b""

    def _contradicts(self, what: str, answer: _Answer) -> Contradiction:
        self._size = 0  # the next time it is asked from the beginning, and may agree
        return Contradiction(self.name, what, answer.body)

    def _learn(self, answer: _Answer) -> int:
        """Take the size of a 409; every other answer is a failure."""
        if answer.status != _CONFLICT or answer.kind != SIZE_TYPE:
            message = f"witness {self.name}: status {answer.status} ({answer.kind or 'no type'}): {_show(answer)}"
            raise make_status_error(answer.status, message)
        return parse_known_size(answer.body)

    def _check(self, answer: _Answer, statement: Statement) -> tuple[Cosignature, ...]:
        found = check_cosignatures(parse_lines(answer.body), self._keys, statement)
        if not found or not all(each.timestamp for each in found):
            what = "with no time" if found else "of none of its keys"
            raise SignatureError(f"witness {self.name}: its answer has lines {what}, expected a cosignature of ours")
        newest = {each.key: each for each in sorted(found, key=lambda each: each.timestamp)}
        return tuple([newest[key] for key in self._keys if key in newest])

    async def _post(self, body: bytes) -> _Answer:
        return await self._request("POST", "add-checkpoint", body, MAX_ANSWER_BYTES)

    async def _request(self, method: str, path: str, body: bytes | None, limit: int) -> _Answer:
        headers = {"accept-encoding": "identity"}
        if body is not None:
            headers["content-type"] = "text/plain; charset=utf-8"
        async with (
            self._gate.slot(self._origin) as slot,
            self._fetcher.request(method, f"{self._base}/{path}", headers=headers, body=body) as response,
        ):
            slot.status = response.status
            return _Answer(response.status, response.headers.get("content-type", ""), await response.read(limit))


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
        counts: (witness, outcome) → how often; outcomes are ``cosigned``, ``failed``, ``late``, ``wrong`` and
            ``contradicts``.
    """

    def __init__(
        self,
        *,
        witnesses: Sequence[Asked],
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

    async def gather(
        self, note: bytes, *, is_enough: Callable[[Sequence[VerifierKey]], bool], is_patient: bool = False
    ) -> Gathered:
        """Ask all witnesses for a cosignature of a head.

        Args:
            note: the head, signed by the log.
            is_enough: says whether cosignatures of these keys are enough.
            is_patient: hear all of them, up to the deadline, also where there are enough.

        Raises:
            StorageError: the log's own tiles cannot be read.
            ProofError: they are not those of the head.

        *Cancellation*: at any point; a witness may have cosigned all the same, and says so the next time.
        """
        tree = parse_checkpoint(parse_note(note).text)
        grace = self._deadline if is_patient else self._grace
        round_ = _Round(note, _statement_of(tree), self._prove, is_enough, grace)
        with trio.move_on_after(self._deadline) as scope:
            async with trio.open_nursery() as nursery:
                for witness in self.witnesses:
                    nursery.start_soon(partial(round_.ask, witness, scope))
        if round_.fatal and not round_.contradictions:  # a storage that failed is tried again, which would hide those
            raise round_.fatal[0]
        for witness in self.witnesses:
            if witness.name not in round_.outcomes:
                round_.end(witness, "late", f"no answer within {self._deadline:g} s, or a grace of {self._grace:g} s")
        self.counts.update(round_.outcomes.items())
        return Gathered(tuple(round_.found), round_.failures, tuple(round_.contradictions.values()))


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
        self.contradictions: dict[str, Contradiction] = {}
        self.fatal: list[MirrorWitnessError] = []
        self._note = note
        self._statement = statement
        self._prove = prove
        self._is_enough = is_enough
        self._grace = grace

    async def ask(self, witness: Asked, scope: trio.CancelScope) -> None:
        """Ask one witness; what goes wrong with it stays with it."""
        try:
            found = await witness.ask(self._note, self._statement, self._prove)
            if isinstance(found, Contradiction):
                await self._examine(witness, found, scope)
                return
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

    async def _examine(self, witness: Asked, found: Contradiction, scope: trio.CancelScope) -> None:
        """Keep what a witness says against our head before anything else is awaited, then look for its proof."""
        self.contradictions[witness.name] = found
        self.end(witness, "contradicts", found.what)
        self.contradictions[witness.name] = found = await witness.examine(found, self._statement, self._prove)
        if found.shown is not None:
            scope.cancel()

    def end(self, witness: Asked, outcome: str, text: str) -> None:
        """Note that there is no cosignature of a witness."""
        self.outcomes[witness.name] = outcome
        self.failures[witness.name] = text
        level = logging.ERROR if outcome in {"wrong", "contradicts"} else logging.WARNING
        _log.log(level, "not_cosigned", extra={"witness": witness.name, "outcome": outcome, "reason": text})


def _statement_of(tree: Checkpoint) -> Statement:
    return Statement(tree.origin, 0, tree.size, tree.root, tree.text)


def _show(answer: _Answer) -> str:
    """Return what a witness says, in a form that cannot harm a terminal."""
    return ascii(answer.body[:_SHOWN].decode("utf-8", "replace").strip())
