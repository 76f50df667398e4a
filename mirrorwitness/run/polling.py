"""Poll logs that do not come to the witness: all of them once, or each again and again until a signal arrives.

Rules:

- Every poll of a log has a deadline, and what fails in it stays with that log: the others never wait for it longer, and
  never fail with it.
- At most `LOGS_AT_ONCE` logs are polled at a time. One that cannot be read is asked less and less often
  (`next_delay`), so that those which hang do not take all places.
- The witness publishes what it cosigned by itself. Distributors are told after it, under a deadline of their own; one
  that fails is a warning, and a follower tries it again with the log's next poll.
- A log that is disabled while a follower runs is not polled any more, and nobody is told of it, from the next look on
  (`mirrorwitness.run.watching`); enabled again it is polled again.
- Once: the exit code is 4 where a log contradicts itself or us, shows less than before for longer than caches do, or
  serves what does not verify; else 5 where none could be read, 3 where some could not be cosigned (named), 0 where all
  are cosigned, unchanged, or behind what they have pushed to us.

What it does not do: decide (`mirrorwitness.witness.decision`), or answer logs that push (`witness serve`; both may run
over one storage).
"""

from __future__ import annotations

import heapq
import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError, ExitCode, UpstreamError
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, Patience, make_user_agent, open_fetcher
from mirrorwitness.run.session import now
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.watching import keep_logs_fresh, watch_decisions
from mirrorwitness.run.witnessing import open_witness
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.logclient import TRIES, LogClient
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.distributor import Distributor
from mirrorwitness.witness.feeder import Action, Feeder

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.run.witnessing import RunningWitness, WitnessWishes
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.feeder import Polled

__all__ = ["POLL_SECONDS", "PollResult", "PollWishes", "Poller", "follow_logs", "next_delay", "poll_once"]

SECONDS: Final = 1.0

LOGS_AT_ONCE: Final = 16
"""Logs polled at a time: some hundred requests on their way, and a bucket's time for 16 swaps."""

POLL_SECONDS: Final = 60 * SECONDS
"""Longest poll of one log, its tiles and the witness's own writes included."""

DISTRIBUTE_SECONDS: Final = 15 * SECONDS
"""How long all distributors together may take for one checkpoint."""

LONGEST_DELAY: Final = 600 * SECONDS
"""Longest time for which a log that could not be read is left alone, where logs are not polled less often anyway."""

REQUESTS_PER_SECOND: Final = 100
"""To one host, which may serve many logs."""

REQUESTS_AT_ONCE: Final = 16
"""To one host."""

PATIENCE: Final = Patience(connect=10 * SECONDS, head=15 * SECONDS, grace=15 * SECONDS)
"""Shorter than a registry's: notes and tiles are small files, and three tries have to fit into a poll."""

_DIVERGED: Final = frozenset({Action.FORKED, Action.OLDER_HEAD, Action.UNVERIFIED, Action.ROLLED_BACK})
_FAILED: Final = frozenset({Action.REFUSED, Action.UNREAD})
_NEW: Final = frozenset({Action.COSIGNED, Action.REFRESHED})
_TOLD: Final = _NEW | {Action.BEHIND}

_log = logging.getLogger("mirrorwitness.witness")


@dataclass(frozen=True, slots=True, kw_only=True)
class PollWishes:
    """What the operator asks of a witness that polls.

    Attributes:
        witness: whose witness it is, and which logs.
        dialect: how the logs name what they serve; Go's own has its own dialect in any case.
        refresh: seconds after which an unchanged head is cosigned again.
        older_after: seconds for which a head may be older than what was cosigned before that is an alarm.
        every: seconds between two polls of a log.
        distributors: URLs of distributors that are told what was cosigned.
        contact: how an operator of a log reaches ours.
        deadline: seconds that a poll of one log may take.
        tries: repetition of requests.
    """

    witness: WitnessWishes
    dialect: Dialect = Dialect.TILES
    refresh: float = 3600 * SECONDS
    older_after: float = 600 * SECONDS
    every: float = 60 * SECONDS
    distributors: tuple[str, ...] = ()
    contact: str | None = None
    deadline: float = POLL_SECONDS
    tries: Backoff = TRIES


@dataclass(frozen=True, slots=True)
class PollResult:
    """What became of all logs, polled once.

    Attributes:
        logs: one for each, in the order in which they were configured.
        notes: sentences for the operator: distributors that failed, lists that contradict each other.
    """

    logs: tuple[Polled, ...]
    notes: tuple[str, ...]

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3)."""
        actions = {polled.action for polled in self.logs}
        if actions & _DIVERGED:
            return ExitCode.DIVERGENCE
        if actions == {Action.UNREAD}:
            return ExitCode.UPSTREAM
        return ExitCode.PARTIAL if actions & _FAILED else ExitCode.COMPLETE

    def document(self) -> dict[str, object]:
        """Return the JSON document ``witness-poll/1``, without its exit code."""
        return {"logs": [_document(polled) for polled in self.logs], "notes": list(self.notes)}


def next_delay(every: float, failures: int, jitter: float) -> float:
    """Return the seconds until a log is polled again: a quarter more or less, and doubled with each failure in a row.

    Args:
        every: seconds between two polls.
        failures: how often in a row it could not be read.
        jitter: from 0 up to 1.
    """
    full = min(max(every, LONGEST_DELAY), every * float(2 ** min(failures, 60)))
    return full * (0.75 + jitter / 2)


class Poller:
    """Polls the logs of one witness.

    Args:
        feeders: one for each log.
        distributors: who is told.
        own: keys of the witness.
        deadline: seconds that a poll of one log may take.
        told: gets a sentence for each distributor that failed; they are logged too.
    """

    def __init__(
        self,
        *,
        feeders: Sequence[Feeder],
        distributors: Sequence[Distributor],
        own: Sequence[VerifierKey],
        deadline: float,
        told: Callable[[str], None],
    ) -> None:
        self._feeders = tuple(feeders)
        self._distributors = tuple(distributors)
        # The distributor that is known reads cosignatures of Ed25519 only, and answers all others with 400.
        self._own = [key for key in own if key.kind is KeyType.COSIGNATURE]
        self._deadline = deadline
        self._told = told
        self._owed: dict[tuple[str, str], dict[str, bytes]] = {}

    def __repr__(self) -> str:
        return f"<Poller of {len(self._feeders)} logs, {len(self._distributors)} distributors>"

    async def poll_all(self) -> tuple[Polled, ...]:
        """Poll every log once, but those that are disabled."""
        feeders = [feeder for feeder in self._feeders if not feeder.is_disabled]
        found: dict[int, Polled] = {}

        async def work(item: tuple[int, Feeder]) -> None:
            number, feeder = item
            found[number] = await self.poll(feeder)

        await for_each(enumerate(feeders), work, at_once=LOGS_AT_ONCE)
        return tuple([found[number] for number in range(len(feeders))])

    async def follow(self, *, every: float, stop: trio.Event, jitter: Callable[[], float]) -> None:
        """Poll each log again and again.

        Args:
            every: seconds between two polls of a log.
            stop: ends it, as soon as the polls under way are done.
            jitter: gives numbers from 0 up to 1.

        *Errors*: none but bugs. *Cancellation*: at any point.
        """
        due = [(trio.current_time(), number) for number in range(len(self._feeders))]
        failures = dict.fromkeys(range(len(self._feeders)), 0)

        async def work() -> None:
            # Whoever puts a log back takes the earliest at once, so those that wait always wait for the earliest ones.
            while True:
                at, number = heapq.heappop(due)
                with trio.move_on_at(at):
                    await stop.wait()
                if stop.is_set():
                    return
                feeder = self._feeders[number]
                is_unread = not feeder.is_disabled and (await self.poll(feeder)).action is Action.UNREAD
                failures[number] = failures[number] + 1 if is_unread else 0
                heapq.heappush(due, (trio.current_time() + next_delay(every, failures[number], jitter()), number))

        async with trio.open_nursery() as nursery:
            for _ in range(min(LOGS_AT_ONCE, len(self._feeders))):
                nursery.start_soon(work)

    async def poll(self, feeder: Feeder) -> Polled:
        """Poll one log, and tell distributors what was cosigned."""
        polled: Polled | None = None
        with trio.move_on_after(self._deadline):
            polled = await feeder.poll()
        if polled is None:
            polled = feeder.end(Action.UNREAD, f"not done after {self._deadline:g} s")
        _log_polled(polled)
        if polled.action in _NEW:
            self._owe(polled)
        async with trio.open_nursery() as nursery:
            for distributor in self._distributors:
                nursery.start_soon(self._tell, distributor, polled.origin)
        return polled

    def _owe(self, polled: Polled) -> None:
        lines = parse_note(polled.checkpoint).signatures
        names = [key.name for key in self._own if any(line.is_of(key) for line in lines)]
        for distributor in self._distributors:
            self._owed[distributor.base, polled.origin] = dict.fromkeys(names, polled.checkpoint)

    async def _tell(self, distributor: Distributor, origin: str) -> None:
        """Tell a distributor what it is owed of a log; what it does not take stays owed."""
        owed = self._owed.get((distributor.base, origin))
        if not owed:
            return
        failed = f"not done after {DISTRIBUTE_SECONDS:g} s"
        with trio.move_on_after(DISTRIBUTE_SECONDS):
            try:
                for name in list(owed):
                    await distributor.put(owed[name], origin=origin, name=name)
                    del owed[name]
            except UpstreamError as error:
                failed = str(error)
        if owed:
            extra = {"origin": origin, "distributor": distributor.base, "reason": failed}
            _log.warning("distributor_failed", extra=extra)
            self._told(f"{distributor.base} was not told of the checkpoint of {origin!r}: {failed}")


async def poll_once(wishes: PollWishes) -> PollResult:
    """Poll all logs once.

    Raises:
        ConfigurationError: keys, logs, URLs or the storage do not fit, or no log has a URL.
        RolledBackError: state was lost, or is older than what was published.
        StorageError: a storage failed before any log was polled.
    """
    notes: list[str] = []
    async with _open_poller(wishes, told=notes.append) as (poller, running):
        logs = await poller.poll_all()
    return PollResult(logs, (*running.notes, *notes))


async def follow_logs(wishes: PollWishes, *, jitter: Callable[[], float] = random.random) -> bool:  # noqa: S311
    """Poll all logs again and again until a signal arrives, and log what becomes of it.

    Returns:
        Whether the polls that were under way then could be finished.

    Raises:
        ConfigurationError: keys, logs, URLs or the storage do not fit, or no log has a URL; or a key was retired
            meanwhile.
        RolledBackError: state was lost, before or meanwhile, or is older than what was published.
        StorageError: a storage failed before any log was polled.
    """
    stop = trio.Event()
    is_finished = False
    async with _open_poller(wishes, told=_say_nothing) as (poller, running):
        for complaint in running.notes:
            _log.warning("log_list", extra={"reason": complaint})

        async def work() -> None:
            nonlocal is_finished
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(keep_logs_fresh, running, wishes.witness, told=_say_nothing))
                nursery.start_soon(partial(watch_decisions, running, stop=stop.set))
                await poller.follow(every=wishes.every, stop=stop, jitter=jitter)
                is_finished = True
                nursery.cancel_scope.cancel()

        await run_until_signal(work, stop=stop.set)
    running.check_not_stopped()
    return is_finished


@asynccontextmanager
async def _open_poller(
    wishes: PollWishes, *, told: Callable[[str], None]
) -> AsyncGenerator[tuple[Poller, RunningWitness], None]:
    """Open what polls, and give it with the witness that it polls for."""
    options = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(wishes.contact))
    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    async with open_fetcher(options) as fetcher:
        make = partial(Distributor, fetcher=fetcher, gate=gate, tries=wishes.tries)
        distributors = [make(url=url) for url in dict.fromkeys(wishes.distributors)]
        async with open_witness(wishes.witness) as running:
            poller = Poller(
                feeders=_make_feeders(wishes, running, fetcher, gate),
                distributors=distributors,
                own=running.witness.own,
                deadline=wishes.deadline,
                told=told,
            )
            yield poller, running


def _make_feeders(wishes: PollWishes, running: RunningWitness, fetcher: Fetcher, gate: HostGate) -> list[Feeder]:
    witness = running.witness
    feeders = [
        Feeder(
            witness=witness,
            log=log,
            client=LogClient(
                log=log, url=log.url, dialect=wishes.dialect, fetcher=fetcher, gate=gate, tries=wishes.tries
            ),
            refresh=wishes.refresh,
            older_after=wishes.older_after,
            now=lambda: now().timestamp(),
            storage=running.storage,
            on_fork=running.on_fork,
        )
        for log in witness.logs
        if log.url is not None
    ]
    if all(feeder.is_disabled for feeder in feeders):
        hint = f"; all {len(feeders)} that have one are disabled" if feeders else ""
        raise ConfigurationError(
            f"no log to poll: give --log VKEY=URL, the URL being what comes before /checkpoint{hint}"
        )
    return feeders


def _say_nothing(_sentence: str) -> None:
    """Leave it to the log: nobody reads what a follower prints."""


def _log_polled(polled: Polled) -> None:
    failed = logging.ERROR if polled.action in _DIVERGED else logging.WARNING if polled.action in _FAILED else None
    level = failed or (logging.INFO if polled.action in _TOLD else logging.DEBUG)
    _log.log(level, "log_polled", extra=_document(polled))


def _document(polled: Polled) -> dict[str, object]:
    return {
        "origin": polled.origin,
        "before": polled.before,
        "after": polled.after,
        "action": polled.action.value,
        "reason": polled.text,
    }
