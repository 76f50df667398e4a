"""What a conformance case is, and what it is given: a log of the lab, a connection, and what is known of the witness.

Rules:

- Nothing is remembered between runs. The size that a witness has for a log is learnt as the specification says: with an
  old size of 0, and from the 409. So a case goes on from whatever size it finds (`Trial.size`, `Trial.at_least`), or it
  needs a log that was never cosigned and says so (`Trial.first`).
- A witness that has another tree of the log than ours is not at fault: somebody raced two forks with this seed before.
  The case is skipped.
- 429 is waited out for a while: how fast a witness wants to be asked is no matter of conformance.

What it does not do: judge (`mirrorwitness.witness.finding`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import origin_hash, parse_checkpoint, parse_size
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.witness.finding import OK, Finding, Level
from mirrorwitness.witness.lab import MAX_LAB_SIZE, LabLog, make_log, statement_of
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.wire import Answer, Line, send_at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from mirrorwitness.tlog.cosignature import Statement
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.witness.wire import Prefix

__all__ = [
    "CONFLICT",
    "OWN",
    "SHARED",
    "Case",
    "CaseSkippedError",
    "Session",
    "Trial",
    "pause_of",
    "read_size",
    "statement_in",
]

SHARED: Final = "shared"
"""Name of the log of all cases that may find it at any size, and leave it as it was or grown in good order."""

OWN: Final = "own"

CONFLICT: Final = 409
TOO_MANY: Final = 429

_PAUSES: Final = 8
LONGEST_PAUSE: Final = 10.0
"""Seconds; eight of these outlast a budget that is renewed once a minute."""


class CaseSkippedError(Exception):
    """A case cannot be asked of this witness; the message says why."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is tested.

    Attributes:
        id: its stable name, in kebab case.
        title: what has to hold.
        level: how binding that is.
        source: the sentence that says so, and where it stands.
        run: tries it.
        log: name of the log that it uses; `OWN`: it has one to itself, named after it.
        kinds: types of that log's keys.
    """

    id: str
    title: str
    level: Level
    source: str
    run: Callable[[Trial], Awaitable[Finding]]
    log: str = SHARED
    kinds: tuple[KeyType, ...] = (KeyType.ED25519,)

    @property
    def log_name(self) -> str:
        """Name of the log."""
        return self.id if self.log == OWN else self.log


class Session:
    """One run of some cases against one witness.

    Args:
        seed: of the logs.
        keys: the witness's.
        submission: the submission prefix.
        monitoring: the monitoring prefix; None where nobody gave one, and the submission prefix is tried.
        patience: seconds for one exchange.
        clock: the time of day, in seconds since 1970.
    """

    def __init__(
        self,
        *,
        seed: bytes,
        keys: Sequence[VerifierKey],
        submission: Prefix,
        monitoring: Prefix | None,
        patience: float,
        clock: Callable[[], float],
    ) -> None:
        self.keys = tuple(keys)
        self.submission = submission
        self.monitoring = monitoring
        self.patience = patience
        self.clock = clock
        self.sizes: dict[str, int] = {}  # by origin: what the witness said last, or was brought to
        self._seed = seed
        self._logs: dict[str, LabLog] = {}

    def __repr__(self) -> str:
        return f"<Session with {self.submission}, {len(self.sizes)} logs in use>"

    def log(self, name: str, kinds: Sequence[KeyType] = (KeyType.ED25519,)) -> LabLog:
        """Return the log of a name, the same one each time, so that no hash is computed twice."""
        if name not in self._logs:
            self._logs[name] = make_log(self._seed, name, *kinds)
        return self._logs[name]

    def keys_of(self, kind: KeyType) -> list[VerifierKey]:
        """Return the witness's keys of a type."""
        return [key for key in self.keys if key.kind is kind]


class Trial:
    """What one case works with.

    Args:
        session: the run.
        log: the log.
        line: a connection of the case's own.
    """

    def __init__(self, session: Session, log: LabLog, line: Line) -> None:
        self.session = session
        self.log = log
        self.line = line

    def __repr__(self) -> str:
        return f"<Trial of {self.session.submission} with {self.log!r}>"

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The keys of the witness."""
        return self.session.keys

    async def ask(
        self, method: str, path: str, body: bytes | None = None, *, fields: Sequence[tuple[str, str]] = ()
    ) -> Answer:
        """Make one exchange with the submission prefix, and again after a pause where the witness is too busy."""
        return await _ask(self.line, method, path, body, fields)

    async def post(self, body: bytes, path: str = "/add-checkpoint") -> Answer:
        """POST a body, well-formed or not."""
        return await self.ask("POST", path, body)

    async def submit(self, note: bytes, *, old: int, proof: Iterable[Hash] = ()) -> Answer:
        """Ask for the cosignature of a well-formed checkpoint."""
        answer = await self.post(format_add_checkpoint(old, proof, note))
        if answer.status == OK:
            self.session.sizes[self.log.origin] = parse_checkpoint(parse_note(note).text).size
        return answer

    async def first(self, note: bytes, *, old: int = 0, proof: Iterable[Hash] = ()) -> Answer:
        """Ask for the cosignature of a log that was never cosigned.

        Raises:
            CaseSkippedError: the witness has cosigned the log before.
        """
        answer = await self.submit(note, old=old, proof=proof)
        if answer.status == CONFLICT and read_size(answer) not in {0, None}:
            raise CaseSkippedError(
                f"needs a fresh log: the witness has cosigned {self.log.origin} at {read_size(answer)} before; run "
                "with another --seed"
            )
        return answer

    async def size(self) -> int:
        """Return the size that the witness has for the log, at least 1: one that it never saw is begun.

        Raises:
            CaseSkippedError: it has another tree of the log.
            UpstreamProtocolError: it does not say.
        """
        known = self.session.sizes.get(self.log.origin)
        if known:
            return known
        answer = await self.submit(self.log.checkpoint(1, timestamp=self.now), old=0)
        if answer.status == OK:
            return 1
        size = read_size(answer) if answer.status == CONFLICT else None
        if not size or size > MAX_LAB_SIZE:
            raise UpstreamProtocolError(
                f"{self.log.origin}: a first checkpoint of size 1, to learn the witness's size, was answered with "
                f"{answer.status} {answer.body[:100]!r}"
            )
        again = await self.submit(self.log.checkpoint(size, timestamp=self.now), old=size)
        if again.status == OK:
            return size
        raise CaseSkippedError(
            f"the witness has size {size} of {self.log.origin} and answered {again.status} to our tree of that size: "
            "it may have cosigned a fork of an earlier run; run with another --seed"
        )

    async def at_least(self, size: int) -> int:
        """Return the size that the witness has for the log after letting it grow to `size`, where it is smaller."""
        found = await self.size()
        if found >= size:
            return found
        answer = await self.submit(
            self.log.checkpoint(size, timestamp=self.now), old=found, proof=self.log.proof(found, size)
        )
        if answer.status == OK:
            return size
        raise UpstreamProtocolError(
            f"{self.log.origin}: cannot begin, growth from {found} to {size} was answered with {answer.status} "
            f"{answer.body[:100]!r}"
        )

    async def refresh(self, size: int = 1) -> tuple[bytes, Answer]:
        """Submit the latest checkpoint once more, of at least some size; return it and the answer."""
        found = await self.at_least(size)
        note = self.log.checkpoint(found, timestamp=self.now)
        return note, await self.submit(note, old=found)

    async def race(self, bodies: Sequence[bytes]) -> list[Answer]:
        """POST several bodies at the same moment; whatever was known of the log's size is forgotten."""
        self.session.sizes.pop(self.log.origin, None)
        return await send_at_once(self.session.submission, "/add-checkpoint", bodies, patience=self.session.patience)

    async def monitor(self, method: str = "GET", *, upper: bool = False) -> Answer:
        """Ask the monitoring prefix for the checkpoint of the log; `upper` spells the hash in capitals."""
        digest = origin_hash(self.log.origin)
        prefix = self.session.monitoring or self.session.submission
        with Line(prefix, patience=self.session.patience) as line:
            return await _ask(line, method, f"/{digest.upper() if upper else digest}/checkpoint", None, ())

    @property
    def now(self) -> int:
        """The time of day, as timestamps count it."""
        return int(self.session.clock())


async def _ask(line: Line, method: str, path: str, body: bytes | None, fields: Sequence[tuple[str, str]]) -> Answer:
    for _ in range(_PAUSES):
        answer = await line.ask(method, path, body, fields=fields)
        if answer.status != TOO_MANY:
            return answer
        await trio.sleep(pause_of(answer))
    raise UpstreamProtocolError(f"the witness answered 429 {_PAUSES} times in a row")


def pause_of(answer: Answer) -> float:
    """Return for how many seconds a witness that is too busy is left alone, given that we would rather get on."""
    asked = answer.field("retry-after") or ""
    is_number = asked.isascii() and asked.isdigit()
    return min(float(asked[:6]), LONGEST_PAUSE) if is_number else 1.0


def read_size(answer: Answer) -> int | None:
    """Return the size that a 409 says, None where its body is none."""
    try:
        return parse_size(answer.body.decode("ascii", "replace").removesuffix("\n"), "size in the answer")
    except UpstreamProtocolError:
        return None


def statement_in(note: bytes) -> Statement:
    """Return what a cosigner says who cosigns a checkpoint."""
    return statement_of(parse_note(note).text)
