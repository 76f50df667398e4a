"""Run a checksum database: begin one, serve it, check it.

Rules:

- A storage that does not do compare-and-swap is no place for a log (DESIGN 4): it is raced before it is trusted.
- Nothing is added before the quorum has cosigned what there is: a log that was restored from an older copy is told so
  before it signs anything (`mirrorwitness.sumdb.publisher`).
- What only reads needs no key and no registry, and any number of it may run beside the one that adds.
- Look-ups are answered while witnesses are down; what is new waits for them.

What it does not do: fill the log from a feed or by names (`mirrorwitness.run.ingesting`).
"""

from __future__ import annotations

import logging
import secrets
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    ConfigurationError,
    StorageUnavailableError,
    UpstreamError,
    leaves_of,
)
from mirrorwitness.mirror.progress import SilentProgress
from mirrorwitness.run.ingesting import follow_feed, log_when_agreed, open_ingesting, run_ingest
from mirrorwitness.run.publishing import PublishWishes, open_publisher, read_quorum, sample_publication
from mirrorwitness.run.pushing import open_pushes, sample_pushes
from mirrorwitness.run.relying import check_reliable
from mirrorwitness.run.serve import format_address, parse_listen
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.session import now, open_mirror, open_upstream
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.signers import read_log_keys
from mirrorwitness.server.lookups import Lookups
from mirrorwitness.server.sumdb import make_sumdb_app
from mirrorwitness.server.traffic import Traffic
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.probe_verdict import Role
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.head import Identity
from mirrorwitness.sumdb.log import create_log, open_log
from mirrorwitness.sumdb.paths import IDENTITY_KEY
from mirrorwitness.sumdb.pool import Pool
from mirrorwitness.sumdb.state import read_identity, read_published
from mirrorwitness.tlog.keys import SEED_BYTES, KeyType, format_signer_key, make_signer_key

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence

    from mirrorwitness.mirror.outcome import RunSummary
    from mirrorwitness.mirror.progress import Progress
    from mirrorwitness.run.ingesting import Ingesting
    from mirrorwitness.run.pushing import MirrorPush
    from mirrorwitness.run.session import Wishes
    from mirrorwitness.server.asgi import App
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.faults import Fault, Report
    from mirrorwitness.sumdb.log import Log
    from mirrorwitness.sumdb.publisher import Publisher
    from mirrorwitness.telemetry import Sample
    from mirrorwitness.tlog.keys import SignerKey

__all__ = ["OpenedLog", "SumdbWishes", "check_log", "ingest_log", "init_log", "open_for_writing", "serve_sumdb"]

_log = logging.getLogger("mirrorwitness.sumdb")

KEY_KINDS: Final = (KeyType.ED25519, KeyType.ML_DSA_44)
"""The keys of a new log. SPEC: tlog-tiles: a log that uses the witness network has a key of Ed25519; the other one
withstands quantum computers, and is there from the first head on."""


FOLLOW_AGAIN_SECONDS: Final = 60.0
"""How long the feed is left alone after it could not be followed in spite of all tries."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SumdbWishes:
    """What the operator asks of a checksum database.

    Attributes:
        session: storage, registries and feed.
        keys: where the log's keys are, as `mirrorwitness.run.signers.read_log_keys` reads them.
        authority: (name, pattern or scope, registry): which registry has the word on which names; the first of the
            session has it on all others.
        publishing: witnesses and quorum.
        at: the size of the tree that is shown, None for the published one; such a server only reads.
        is_read_only: whether nothing is added.
    """

    session: Wishes
    keys: tuple[str, ...] = ()
    authority: tuple[tuple[str, str], ...] = ()
    publishing: PublishWishes = field(default_factory=PublishWishes)
    at: int | None = None
    is_read_only: bool = False

    def read_authority(self) -> Authority:
        """Return which registry has the word on which names.

        Raises:
            ConfigurationError: it contradicts itself.
        """
        return make_authority(self.authority, default=registry_of(self.session.config.registries[0].url))


@dataclass(frozen=True, slots=True)
class OpenedLog:
    """A log to which may be added.

    Attributes:
        log: appends.
        publisher: publishes what was appended.
        storage: where it is.
        notes: sentences for the operator.
        pushes: bring the log to mirrors.
    """

    log: Log
    publisher: Publisher
    storage: Storage
    notes: tuple[str, ...] = ()
    pushes: tuple[MirrorPush, ...] = ()

    def samples(self) -> Iterator[Sample]:
        """Yield the metrics of what publishes it."""
        yield from sample_publication(self.publisher)
        yield from sample_pushes(self.pushes)


async def init_log(address: str, *, name: str, keep: Callable[[str], None]) -> Identity:
    """Begin a log, with new keys.

    Args:
        address: its storage.
        name: its origin.
        keep: keeps the text of the keys, a line for each, where nobody else can read them.

    Raises:
        ConfigurationError: the storage has a log, or is no place for one; the name cannot be an origin; or the keys
            cannot be kept.
        StorageError: the storage failed. What was kept are the log's keys where the log is there all the same.
    """
    keys = tuple([make_signer_key(name, secrets.token_bytes(SEED_BYTES), kind) for kind in KEY_KINDS])
    async with open_storage(address) as storage:
        await check_reliable(storage, address, flag="--storage", role=Role.SUMDB, who="a log")
        if await storage.stat(IDENTITY_KEY) is not None:
            raise ConfigurationError(f"{address}: has a log already, and a log is never begun anew")
        keep("\n".join(map(format_signer_key, keys)))
        return await create_log(storage, origin=name, keys=keys, now=now().timestamp())


async def check_log(
    address: str, *, on_fault: Callable[[Fault], None], on_progress: Callable[[int, int], None]
) -> Report:
    """Recompute a log from its records, and tell what is wrong with it.

    Raises:
        ConfigurationError: there is no log.
        StorageError: the storage failed.
    """
    async with open_storage(address) as storage:
        return await fsck(storage, on_fault=on_fault, on_progress=on_progress)


async def ingest_log(wishes: SumdbWishes, progress: Progress, *, is_once: bool, is_named: bool) -> RunSummary:
    """Bring a log up to what registries say, of selected packages or by the feed.

    Args:
        wishes: what the operator asks.
        progress: told of every finished package.
        is_once: end when everything that the feed shows now is done; otherwise only on a signal.
        is_named: of the packages that the wishes select, without a feed.

    Raises:
        ConfigurationError: keys, witnesses, policy, registries or storage do not fit, or there is no feed.
        LogLostError: another sequencer extended the log.
        RolledBackError: the log's state is older than what it published, or than what a witness saw.
        MirrorWitnessError: what ended the run.
    """
    session = wishes.session
    names, left_out = session.packages(session.selection()) if is_named else (None, [])
    async with open_for_writing(wishes) as opened:
        ingest = partial(run_ingest, session, progress, opened=opened, names=names, is_once=is_once)
        summary = await ingest(authority=wishes.read_authority())
    for sentence in (*session.skipped, *left_out):
        summary.alarm(sentence)
    return summary


async def serve_sumdb(
    wishes: SumdbWishes, *, listen: str, ready: Callable[[str], None], told: Callable[[str], None]
) -> None:
    """Serve a checksum database until a signal arrives.

    Args:
        wishes: what the operator asks.
        listen: host and port.
        ready: told the address once requests are accepted.
        told: told sentences for the operator.

    Raises:
        ConfigurationError: keys, witnesses, policy or storage do not fit.
        LogLostError: another sequencer extended the log.
        RolledBackError: the log's state is older than what it published, or than what a witness saw.
        MirrorWitnessError: what ended the server.
    """
    host, port = parse_listen(listen)
    shutdown = trio.Event()
    serve = partial(_serve, host=host, port=port, ready=ready, shutdown=shutdown)
    if wishes.is_read_only or wishes.at is not None:
        work = partial(_serve_reading, wishes, serve)
    else:
        work = partial(_serve_growing, wishes, serve, told)
    await run_until_signal(work, stop=shutdown.set)


@asynccontextmanager
async def open_for_writing(wishes: SumdbWishes) -> AsyncGenerator[OpenedLog, None]:
    """Open a log to add to it, and everything that publishes it.

    Raises:
        ConfigurationError: keys, witnesses, policy or storage do not fit.
        RolledBackError: the log's state is older than what it published.
        SecurityError: what is stored of the log does not fit together.
        StorageError: the storage failed.
    """
    keys = read_log_keys(wishes.keys)
    quorum = read_quorum(wishes.publishing, [key.verifier for key in keys])
    async with AsyncExitStack() as stack:
        storage = await stack.enter_async_context(open_mirror(wishes.session.config))
        address = wishes.session.config.storage or ""
        await check_reliable(storage, address, flag="--storage", role=Role.SUMDB, who="a log")
        log = await _open_log(storage, keys)
        published = await read_published(storage, Identity(log.origin, log.verifiers))
        size = None if published is None else published[0].checkpoint.size
        # Last, as errors that pass through these come in a group.
        pushes = await stack.enter_async_context(
            open_pushes(
                quorum.mirrors,
                log=log,
                storage=storage,
                tries=wishes.publishing.tries,
                contact=wishes.publishing.contact,
            )
        )
        publisher = await stack.enter_async_context(
            open_publisher(wishes.publishing, quorum, log=log, storage=storage, size=size, pushes=pushes)
        )
        yield OpenedLog(log, publisher, storage, quorum.notes(), pushes)


async def _open_log(storage: Storage, keys: Sequence[SignerKey]) -> Log:
    return await open_log(storage, origin=keys[0].name, keys=keys, now=lambda: now().timestamp())


async def _serve_reading(wishes: SumdbWishes, serve: Callable[[App], Awaitable[None]]) -> None:
    async with open_mirror(wishes.session.config) as storage:
        published = await read_published(storage, await read_identity(storage))
        newest = 0 if published is None else published[0].checkpoint.size
        if wishes.at is not None and wishes.at > newest:
            raise ConfigurationError(f"--at {wishes.at}: the newest tree that is published has {newest} records")
        app = make_sumdb_app(storage=storage, lookups=Lookups(storage=storage), at=wishes.at, traffic=Traffic())
        await serve(app)


async def _serve_growing(
    wishes: SumdbWishes, serve: Callable[[App], Awaitable[None]], told: Callable[[str], None]
) -> None:
    async with open_for_writing(wishes) as opened, AsyncExitStack() as stack:
        for note in opened.notes:
            told(note)
        # A witness that saw more of the log than we have says so now.
        if not await opened.publisher.attempt():
            missing = opened.publisher.statistics().missing
            told(f"the newest tree is not published yet, and nothing is added until it is: {missing}")
        pool = Pool(opened.log, after_batch=opened.publisher.wake)
        upstream = await stack.enter_async_context(open_upstream(wishes.session, storage=opened.storage))
        ingesting = await stack.enter_async_context(
            open_ingesting(
                wishes.session,
                SilentProgress(),
                storage=opened.storage,
                upstream=upstream,
                log=opened.log,
                sink=pool,
                authority=wishes.read_authority(),
            )
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log_when_agreed, opened.publisher, pool)
            await nursery.start(opened.publisher.run)
            for push in opened.pushes:
                nursery.start_soon(push.run)
            if wishes.session.config.feed.url is not None:
                nursery.start_soon(_follow, ingesting)
            await serve(_make_app(opened, ingesting))
            nursery.cancel_scope.cancel()


async def _follow(ingesting: Ingesting) -> None:
    """Follow the feed; where the registry cannot be asked for long, look-ups of what is logged go on meanwhile."""
    while True:
        try:
            await follow_feed(ingesting, is_once=False)
        except* (UpstreamError, BudgetExhaustedError, StorageUnavailableError) as group:
            reasons = "; ".join(str(error) for error in leaves_of(group))
            _log.error("feed_stopped", extra={"reason": reasons, "seconds": FOLLOW_AGAIN_SECONDS})
        await trio.sleep(FOLLOW_AGAIN_SECONDS)


def _make_app(opened: OpenedLog, ingesting: Ingesting) -> App:
    lookups = Lookups(
        storage=opened.storage,
        bring=ingesting.demand.ingest_version,
        wait_published=opened.publisher.wait_published,
    )
    return make_sumdb_app(
        storage=opened.storage,
        lookups=lookups,
        samples=opened.samples,
        traffic=Traffic(),
    )


async def _serve(app: App, *, host: str, port: int, ready: Callable[[str], None], shutdown: trio.Event) -> None:
    async with trio.open_nursery() as nursery:
        ready(format_address(await nursery.start(partial(serve_app, app, host=host, port=port, shutdown=shutdown))))
