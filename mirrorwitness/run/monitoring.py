"""Run a monitor of a checksum database: once, or until a signal arrives."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.config import parse_sumdb_flag
from mirrorwitness.errors import ConfigurationError, ExitCode, UpstreamError
from mirrorwitness.fetch import FetchOptions, HostGate, make_user_agent, open_fetcher
from mirrorwitness.run.files import read_file
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.storage.local import open_local
from mirrorwitness.sumdb.authority import make_authority, registry_of
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.sumdb.monitor import AHEAD_FOR, Monitor
from mirrorwitness.sumdb.ratchet import Ratchet
from mirrorwitness.sumdb.seenclient import SeenClient
from mirrorwitness.sumdb.served import TRIES
from mirrorwitness.sumdb.terms import make_terms, parse_keys
from mirrorwitness.sumdb.trust import TrustStore
from mirrorwitness.sumdb.watching import Kind, News, make_watch
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from mirrorwitness.fetch import Backoff
    from mirrorwitness.sumdb.authority import Authority
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["MonitorReport", "MonitorWishes", "follow_log", "monitor_once"]

REQUESTS_AT_ONCE: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitorWishes:
    """What is watched, and whom to believe.

    Attributes:
        sumdb: keys and address of the log, each ``VKEY[,VKEY]=URL``; several keys of one log.
        watch: names, patterns, and files of them, a line each.
        state: the directory that remembers how far was read.
        policy: who has to have cosigned; None where the log's own signature is enough.
        witnesses: whom to ask what they saw: monitoring prefixes.
        registry: the registry of all names that `authority` says nothing of; None: not judged.
        authority: ``NAME=URL``.
        is_from_now: where nothing was read yet, begin with the present tree.
        ahead_for: seconds after which a witness that is ahead is an alarm.
        every: seconds between two passes.
        contact: for the User-Agent.
        tries: repetition of requests.
    """

    sumdb: tuple[str, ...]
    watch: tuple[str, ...]
    state: Path
    policy: bytes | None = None
    witnesses: tuple[str, ...] = ()
    registry: str | None = None
    authority: tuple[str, ...] = ()
    is_from_now: bool = False
    ahead_for: float = AHEAD_FOR
    every: float = 60.0
    contact: str | None = None
    tries: Backoff = field(default=TRIES)


@dataclass(slots=True)
class MonitorReport:
    """What was read and told.

    Attributes:
        origin: the log.
        asks_witnesses: whether a policy asks for cosignatures.
        size: the newest tree that was read.
        entries: how many entries were read.
        news: what was told, newest last, at most `NEWS_KEPT`.
        counts: how often each kind was told.
        alarms: how many of these were alarms.
    """

    origin: str
    asks_witnesses: bool
    size: int = 0
    entries: int = 0
    news: list[News] = field(default_factory=list[News])
    counts: dict[Kind, int] = field(default_factory=dict[Kind, int])
    alarms: int = 0

    def add(self, news: News) -> None:
        """Count and keep one piece of news."""
        self.counts[news.kind] = self.counts.get(news.kind, 0) + 1
        self.alarms += news.is_alarm
        if len(self.news) < NEWS_KEPT:
            self.news.append(news)

    def exit_code(self) -> ExitCode:
        """Return what the command exits with (P3)."""
        if self.alarms:
            return ExitCode.DIVERGENCE
        return ExitCode.PARTIAL if any(kind.is_doubt for kind in self.counts) else ExitCode.COMPLETE

    def document(self) -> dict[str, object]:
        """Return it as plain data, without its exit code."""
        return {
            "origin": self.origin,
            "asks_witnesses": self.asks_witnesses,
            "size": self.size,
            "entries": self.entries,
            "alarms": self.alarms,
            "counts": {str(kind): self.counts[kind] for kind in Kind if kind in self.counts},
            "news": [item.document() for item in self.news],
        }


NEWS_KEPT: Final = 10_000
"""News that is listed; more is counted only. All of it goes to `told` as it comes."""


async def monitor_once(wishes: MonitorWishes, told: Callable[[News], None]) -> MonitorReport:
    """Read what is new once.

    Raises:
        ConfigurationError: a key, the policy, a pattern or what is remembered cannot be read.
        ForkError: the log signed two histories; the message says where the evidence is.
        SecurityError: a checkpoint or an entry is not what it has to be.
        UpstreamError: the log cannot be read.
        StorageError: the directory failed.
    """
    async with _open_monitor(wishes, told) as (monitor, report):
        await _pass(monitor, report)
    return report


async def follow_log(
    wishes: MonitorWishes, told: Callable[[News], None], failed: Callable[[UpstreamError], None]
) -> MonitorReport:
    """Read what is new again and again, until a signal arrives.

    Args:
        wishes: what is watched.
        told: gets the news.
        failed: gets what kept a pass from being read; the next one may succeed.

    Raises:
        ForkError: the log signed two histories; the message says where the evidence is.
        SecurityError: a checkpoint or an entry is not what it has to be.
        StorageError: the directory failed.
    """
    async with _open_monitor(wishes, told) as (monitor, report):
        stop = trio.Event()

        async def work() -> None:
            while not stop.is_set():
                try:
                    await _pass(monitor, report)
                except UpstreamError as error:
                    failed(error)
                with trio.move_on_after(wishes.every):
                    await stop.wait()

        await run_until_signal(work, stop=stop.set)
    return report


async def _pass(monitor: Monitor, report: MonitorReport) -> None:
    done = await monitor.run()
    report.size = done.head.tree.size
    report.entries += done.entries


@asynccontextmanager
async def _open_monitor(
    wishes: MonitorWishes, told: Callable[[News], None]
) -> AsyncGenerator[tuple[Monitor, MonitorReport]]:
    terms, url = _read_log(wishes)
    watch = make_watch(_read_names(wishes.watch))
    authority = _read_authority(wishes)
    report = MonitorReport(terms.origin, terms.asks_witnesses)

    def tell(news: News) -> None:
        report.add(news)
        told(news)

    gate = HostGate(max_in_flight=REQUESTS_AT_ONCE)
    options = FetchOptions(user_agent=make_user_agent(wishes.contact))
    async with open_fetcher(options) as fetcher, open_local(wishes.state) as storage:
        source = LogClient(log=terms, url=url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate, tries=wishes.tries)
        trust = TrustStore(storage, place=str(wishes.state))
        views = [SeenClient(url=item, fetcher=fetcher, gate=gate, tries=wishes.tries) for item in wishes.witnesses]
        monitor = Monitor(
            terms=terms,
            source=source,
            ratchet=Ratchet(terms=terms, source=source, trust=trust, now=_now),
            trust=trust,
            watch=watch,
            authority=authority,
            witnesses=views,
            told=tell,
            now=_now,
            is_from_now=wishes.is_from_now,
            ahead_for=wishes.ahead_for,
        )
        yield monitor, report


def _read_log(wishes: MonitorWishes) -> tuple[Terms, str]:
    flags = [parse_sumdb_flag(text) for text in wishes.sumdb]
    urls = sorted({flag.url.rstrip("/") for flag in flags})
    if len(urls) != 1:
        raise ConfigurationError(f"--sumdb: {len(urls)} addresses, expected that of one log: {', '.join(urls)[:300]}")
    policy = None if wishes.policy is None else parse_policy(wishes.policy)
    return make_terms(parse_keys([vkey for flag in flags for vkey in flag.vkeys]), policy), urls[0]


def _read_names(given: tuple[str, ...]) -> list[str]:
    """Return names and patterns; what is a file stands for its lines."""
    found: list[str] = []
    for text in given:
        path = Path(text)
        if not path.is_file():
            found.append(text)
            continue
        lines = read_file(path).decode("utf-8", "replace").splitlines()
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return found


def _read_authority(wishes: MonitorWishes) -> Authority | None:
    if wishes.registry is None and not wishes.authority:
        return None
    entries: list[tuple[str, str]] = []
    for text in wishes.authority:
        name, sign, registry = text.partition("=")
        if not sign:
            raise ConfigurationError(f"--authority {text[:100]!r}: expected NAME=URL")
        entries.append((name, registry))
    return make_authority(entries, default=None if wishes.registry is None else registry_of(wishes.registry))


def _now() -> datetime:
    return datetime.now(UTC)
