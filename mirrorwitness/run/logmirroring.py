"""Run a log mirror: serve it to logs, fill it from logs that do not come to it, and push a log to another one.

Rules:

- `serve` and `poll` may run at once over one storage, and several of each.
- What a machine without power took of what was published is published again, by `serve` as soon as it runs and by each
  poll (ADR 0023).
- A key that is retired while they run signs nothing more, half a minute later at most (`mirrorwitness.run.watching`).
- A poll of a log has no deadline of its own: each request of it has one, and filling a log of a hundred million entries
  takes hours. What one log does stays with that log.

What it does not do: decide (`mirrorwitness.logmirror.decision`), or look at tarballs (`mirrorwitness.run.attesting`).
"""

from __future__ import annotations

import logging
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError, MirrorWitnessError
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.logmirror.puller import Puller
from mirrorwitness.logmirror.roles import LOG_MIRROR, in_role
from mirrorwitness.logmirror.service import LogMirror
from mirrorwitness.logmirror.state import MirrorState
from mirrorwitness.logmirror.upload import Uploader
from mirrorwitness.run.cosigners import open_cosigner, seconds
from mirrorwitness.run.polling import PATIENCE, REQUESTS_AT_ONCE, REQUESTS_PER_SECOND, PollResult, next_delay
from mirrorwitness.run.serve import format_address, parse_listen
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.watching import watch_keys
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.sumdb.logclient import TRIES, LogClient
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.feeder import Action
from mirrorwitness.witness.logs import LogSet, parse_log_flags

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.logmirror.upload import Uploaded
    from mirrorwitness.run.cosigners import CosignerWishes, OpenedCosigner
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.witness.feeder import Polled
    from mirrorwitness.witness.logs import WitnessedLog

__all__ = [
    "PullWishes",
    "PushWishes",
    "follow_pulls",
    "open_log_mirror",
    "publish_again",
    "pull_once",
    "push_log",
    "serve_log_mirror",
]

SECONDS: Final = 1.0

LOGS_AT_ONCE: Final = 4
"""Logs filled at a time: each holds some megabytes of entries on their way."""

_FAILED: Final = frozenset({Action.REFUSED, Action.UNREAD})
_DIVERGED: Final = frozenset({Action.FORKED, Action.OLDER_HEAD, Action.UNVERIFIED, Action.ROLLED_BACK})

_log = logging.getLogger("mirrorwitness.logmirror")


@dataclass(frozen=True, slots=True, kw_only=True)
class PullWishes:
    """What the operator asks of a log mirror that fills itself.

    Attributes:
        mirror: whose it is, and which logs.
        refresh: seconds after which an unchanged head is cosigned again.
        every: seconds between two polls of a log.
        contact: how an operator of a log reaches ours.
        tries: repetition of requests.
    """

    mirror: CosignerWishes
    refresh: float = 3600 * SECONDS
    every: float = 60 * SECONDS
    contact: str | None = None
    tries: Backoff = TRIES


@dataclass(frozen=True, slots=True, kw_only=True)
class PushWishes:
    """What the operator asks of an upload.

    Attributes:
        log: the vkeys of the log, one of them with its URL.
        to: the mirror's submission prefix.
        mirror_keys: the mirror's vkeys.
        contact: how the mirror's operator reaches ours.
    """

    log: tuple[str, ...]
    to: str
    mirror_keys: tuple[str, ...]
    contact: str | None = None


@asynccontextmanager
async def open_log_mirror(wishes: CosignerWishes) -> AsyncGenerator[tuple[LogMirror, OpenedCosigner], None]:
    """Open a log mirror that may sign; as `open_cosigner`."""
    async with open_cosigner(wishes, LOG_MIRROR) as opened:
        state = MirrorState(storage=opened.storage, cosigner=opened.cosigner)
        mirror = LogMirror(
            logs=opened.logs, storage=opened.storage, state=state, cosigner=opened.cosigner, on_fork=opened.on_fork
        )
        yield mirror, opened


async def serve_log_mirror(wishes: CosignerWishes, *, listen: str, ready: Callable[[str], None]) -> None:
    """Serve a log mirror until a signal arrives.

    Args:
        wishes: what the operator asks.
        listen: host and port.
        ready: told the address once requests are accepted.

    Raises:
        ConfigurationError: keys, logs, the storage or the address do not fit; or a key was retired meanwhile.
        RolledBackError: state was lost, before or meanwhile, or is older than what was published.
        StorageError: the storage failed before requests were accepted.
    """
    host, port = parse_listen(listen)
    shutdown = trio.Event()
    async with open_log_mirror(wishes) as (mirror, opened):
        app = LogMirrorApp(mirror=mirror, storage=opened.storage)

        async def work() -> None:
            async with trio.open_nursery() as beside:
                beside.start_soon(partial(_watch, opened, stop=shutdown.set))
                beside.start_soon(publish_again, mirror)
                async with trio.open_nursery() as nursery:
                    start = partial(serve_app, app, host=host, port=port, shutdown=shutdown)
                    ready(format_address(await nursery.start(start)))
                beside.cancel_scope.cancel()

        await run_until_signal(work, stop=shutdown.set)
    opened.check_not_stopped()


async def pull_once(wishes: PullWishes) -> PollResult:
    """Bring the copies of all logs with a URL up to their heads.

    Raises:
        ConfigurationError: keys, logs, URLs or the storage do not fit, or no log has a URL.
        RolledBackError: state was lost, or is older than what was published.
        StorageError: the storage failed before any log was polled.
    """
    async with _open_pullers(wishes) as (pullers, _):
        found: dict[int, Polled] = {}

        async def work(item: tuple[int, Puller]) -> None:
            found[item[0]] = await _pull(item[1])

        await for_each(enumerate(pullers), work, at_once=LOGS_AT_ONCE)
    return PollResult(tuple([found[number] for number in range(len(pullers))]), ())


async def follow_pulls(wishes: PullWishes, *, jitter: Callable[[], float] = random.random) -> bool:  # noqa: S311
    """Bring the copies up again and again until a signal arrives; return whether what was under way was finished.

    Raises:
        ConfigurationError: keys, logs, URLs or the storage do not fit, or no log has a URL; or a key was retired
            meanwhile.
        RolledBackError: state was lost, before or meanwhile, or is older than what was published.
        StorageError: the storage failed before any log was polled.
    """
    stop, is_finished = trio.Event(), False
    async with _open_pullers(wishes) as (pullers, opened):
        places = trio.Semaphore(LOGS_AT_ONCE)

        async def follow(puller: Puller) -> None:
            failures = 0
            while not stop.is_set():
                async with places:
                    action = (await _pull(puller)).action if not stop.is_set() else Action.UNCHANGED
                failures = failures + 1 if action is Action.UNREAD else 0
                with trio.move_on_after(next_delay(wishes.every, failures, jitter())):
                    await stop.wait()

        async def work() -> None:
            nonlocal is_finished
            async with trio.open_nursery() as beside:
                beside.start_soon(partial(_watch, opened, stop=stop.set))
                async with trio.open_nursery() as nursery:
                    for puller in pullers:
                        nursery.start_soon(follow, puller)
                is_finished = True
                beside.cancel_scope.cancel()

        await run_until_signal(work, stop=stop.set)
    opened.check_not_stopped()
    return is_finished


async def push_log(wishes: PushWishes) -> tuple[Checkpoint, Uploaded]:
    """Bring the head of a log, and all entries that are missing, to a mirror; return the head and what came of it.

    Raises:
        ConfigurationError: keys or URLs do not fit.
        SignatureError: the log did not sign its head, or the mirror not what it answers.
        ProofError: what the log serves is not its head's tree.
        UpstreamError: log or mirror cannot be reached, or the mirror says no.
    """
    logs = parse_log_flags(wishes.log)
    if len(logs) != 1 or logs[0].url is None:
        raise ConfigurationError(f"--log: {len(logs)} logs, expected the keys of one, and VKEY=URL for one of them")
    keys = [parse_verifier_key(text, *COSIGNER_KEYS) for text in wishes.mirror_keys]
    LogSet(logs, cosigners=keys)
    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    async with open_fetcher(_options(wishes.contact)) as fetcher:
        source = _client(logs[0], fetcher, gate, TRIES)
        head = await source.open_head()
        uploader = Uploader(source=source, url=wishes.to, keys=keys, fetcher=fetcher, gate=gate)
        return head.checkpoint, await uploader.push(head)


@asynccontextmanager
async def _open_pullers(wishes: PullWishes) -> AsyncGenerator[tuple[list[Puller], OpenedCosigner], None]:
    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE, max_rate=REQUESTS_PER_SECOND)
    async with open_fetcher(_options(wishes.contact)) as fetcher, open_log_mirror(wishes.mirror) as (mirror, opened):
        pullers = [
            Puller(
                mirror=mirror,
                log=log,
                source=_client(log, fetcher, gate, wishes.tries),
                refresh=wishes.refresh,
                now=seconds,
                on_fork=opened.on_fork,
            )
            for log in mirror.logs
            if log.url is not None
        ]
        if not pullers:
            raise ConfigurationError("no log to poll: give --log VKEY=URL, the URL being what comes before /checkpoint")
        yield pullers, opened


async def _watch(opened: OpenedCosigner, *, stop: Callable[[], None]) -> None:
    await watch_keys(opened.cosigner, look=opened.check_kept, stop=stop, event="logmirror_stopped")


async def publish_again(mirror: LogMirror) -> None:
    """Publish what a machine that lost power, or a process that died, left unpublished, log by log.

    *Errors*: logged; such a log's next request is told the same. *Cancellation*: at any time.
    """
    for log in mirror.logs:
        try:
            await mirror.publish_again(log)
        except MirrorWitnessError as error:
            mirror.fail(log.origin, error)


async def _pull(puller: Puller) -> Polled:
    polled = await puller.poll()
    polled = replace(polled, text=in_role(polled.text, LOG_MIRROR))
    level = (
        logging.ERROR if polled.action in _DIVERGED else logging.WARNING if polled.action in _FAILED else logging.INFO
    )
    extra = {"origin": polled.origin, "before": polled.before, "after": polled.after, "reason": polled.text}
    _log.log(level, "log_pulled", extra={**extra, "action": polled.action.value})
    return polled


def _client(log: WitnessedLog, fetcher: Fetcher, gate: HostGate, tries: Backoff) -> LogClient:
    url = log.url or ""
    return LogClient(log=log, url=url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate, tries=tries)


def _options(contact: str | None) -> FetchOptions:
    return FetchOptions(patience=PATIENCE, user_agent=make_user_agent(contact))
