"""Open what a command works with: the storage, the registries, the keys. The composition root's first half.

Rules:

- Components get values and collaborators here; none of them knows `mirrorwitness.config` (STYLE 38).
- One `HostGate` for all registries of a process, so that hosts they share are paused and bounded together (P9); pauses
  are shared with the other workers of the mirror as well. Each
  of N shards has an N-th of the rate, and takes its requests from the month's budget that all of them share.
- Signing keys only ever accumulate: the stored set and the registry's are merged, and a registry that shows other
  bytes under a known keyid stops the command (`SignatureError`). An unreachable keys endpoint changes nothing.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ConfigurationError, UpstreamError
from mirrorwitness.fetch import Backoff, FetchOptions, HostGate, Patience, make_user_agent, open_fetcher
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue
from mirrorwitness.mirror.pauses import SharedPauses
from mirrorwitness.mirror.select import expand, make_selection
from mirrorwitness.mirror.terms import PackageTerms
from mirrorwitness.mirror.voucher import LogCheck
from mirrorwitness.npm.registry import Registry, RegistryOptions
from mirrorwitness.npm.signatures import KeyRing, SignaturePolicy, format_keys, parse_keys
from mirrorwitness.run.budgeting import find_free_origins, open_lease, worker_name
from mirrorwitness.run.scopes import Home, is_same_registry, keep_home
from mirrorwitness.run.voucher import name_terms
from mirrorwitness.storage.address import open_storage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Mapping

    from mirrorwitness.config import Config
    from mirrorwitness.config import Registry as RegistrySettings
    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.mirror.lease import Lease
    from mirrorwitness.mirror.select import Rule, Selection
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.terms import Terms

__all__ = ["Upstream", "Wishes", "now", "open_mirror", "open_upstream", "refresh_keys"]

TELL_SECONDS: Final = 5.0
"""How long an ending run tries to tell others of pauses."""

PEER_TRIES: Final = 2
PEER_PAUSE: Final = 10.0
"""Seconds of the longest pause that a peer can ask for: the authority has the same bytes, and waits behind it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the operator asks a command for, read and checked.

    Attributes:
        config: the merged configuration.
        rules: what is selected; empty where the command selects nothing.
        names: the names that globs choose from; None where no list was given.
        skipped: lockfile entries that no registry has, as sentences.
        tokens: registry URL → access token.
        feed_token: the feed's access token, or None.
        homes: scope → the registry that it is at home at.
    """

    config: Config
    rules: tuple[Rule, ...] = ()
    names: tuple[PackageName, ...] | None = None
    skipped: tuple[str, ...] = ()
    tokens: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    feed_token: str | None = field(default=None, repr=False)
    homes: Mapping[str, Home] = field(default_factory=dict[str, Home])

    def selection(self) -> Selection:
        """Return the selection.

        Raises:
            SelectionError: it is empty or contradicts itself.
        """
        return make_selection(self.rules, self.config.denied)

    def packages(self, selection: Selection) -> tuple[list[PackageName], list[str]]:
        """Return the concrete packages of the selection, and sentences about those that are left out.

        Raises:
            ConfigurationError: a package's scope is at home at another registry than the one that would be asked.
            SelectionError: a glob has nothing to choose from.
        """
        return self.at_home(expand(selection, self.names), selection)

    def at_home(self, names: Iterable[PackageName], selection: Selection) -> tuple[list[PackageName], list[str]]:
        """Return those of the names that the authority may be asked for, as `mirrorwitness.run.scopes.keep_home`."""
        return keep_home(names, selection, self.homes, authority=self.config.registries[0].url)

    def wants(self, selection: Selection) -> Callable[[str], bool]:
        """Return what says whether a package that the feed names is wanted, and the authority may be asked for it."""
        authority = self.config.registries[0].url
        foreign = {scope for scope, home in self.homes.items() if not is_same_registry(home.url, authority)}
        if not foreign:
            return selection.matches
        return lambda name: selection.matches(name) and name.partition("/")[0] not in foreign

    def terms(self, selection: Selection, keys: KeyRing, log: Terms | None = None) -> PackageTerms:
        """Return what every package is judged by; `log` is whom to believe about the log that is asked."""
        config = self.config
        base = config.public_url or layout.STORED_BASE
        return PackageTerms(
            selection=selection,
            keys=keys,
            policy=config.signatures,
            public_base=base,
            withdrawn=config.withdrawn,
            check=LogCheck.OFF if log is None else config.log.check,
            log=name_terms(log),
            confusion=config.log.confusion,
        )


@dataclass(frozen=True, slots=True)
class Upstream:
    """The registries of a run.

    Attributes:
        sources: the authority first.
        fetcher: the door to HTTP that they share.
        gate: the manners that they share.
        lease: this process's part of the month's budget; None where none is kept.
    """

    sources: tuple[Registry, ...]
    fetcher: Fetcher
    gate: HostGate = field(default_factory=HostGate)
    lease: Lease | None = None

    @property
    def authority(self) -> Registry:
        """The registry that metadata comes from."""
        return self.sources[0]


def now() -> datetime:
    """Return the time, in UTC. The one clock that commands hand to components."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_mirror(config: Config) -> AsyncGenerator[Storage, None]:
    """Open the configured storage.

    Raises:
        ConfigurationError: none is configured, or its address is wrong.
        StorageError: it cannot be opened.
    """
    if config.storage is None:
        raise ConfigurationError(
            "no storage: give --storage file:DIR or s3://BUCKET/PREFIX?endpoint=URL, or write one with"
            " `mirrorwitness init`"
        )
    async with open_storage(config.storage) as storage:
        yield storage


@asynccontextmanager
async def open_upstream(wishes: Wishes, *, storage: Storage | None, shards: int = 1) -> AsyncGenerator[Upstream, None]:
    """Open the configured registries over one set of connections.

    Args:
        wishes: what the operator asked for.
        storage: the mirror, which keeps the budget; None for a plan without one.
        shards: how many workers like this one share the rate.
    """
    limits = wishes.config.limits
    options = FetchOptions(
        patience=Patience(
            connect=limits.connect_timeout,
            head=limits.head_timeout,
            grace=limits.body_grace,
            min_rate=limits.min_rate,
        ),
        max_connections=limits.connections,
        user_agent=make_user_agent(wishes.config.contact),
    )
    rate = limits.requests_per_second / shards
    async with open_lease(wishes.config, storage, now=now) as lease, open_fetcher(options) as fetcher:
        free = find_free_origins(wishes.config)
        board = None
        if storage is not None:
            board = SharedPauses(storage=storage, worker=worker_name(), now=now, most=limits.retry_after_max)
        gate = HostGate(max_in_flight=limits.connections, max_rate=rate or None, budget=lease, free=free, board=board)
        try:
            yield Upstream(_make_registries(wishes, fetcher, gate), fetcher, gate, lease)
        finally:
            if board is not None:  # a job that starts in a minute is told too
                with trio.move_on_after(TELL_SECONDS, shield=True):
                    await board.exchange(gate)


def _make_registries(wishes: Wishes, fetcher: Fetcher, gate: HostGate) -> tuple[Registry, ...]:
    limits = wishes.config.limits
    return tuple(
        Registry(
            base=registry.url,
            fetcher=fetcher,
            gate=gate,
            options=RegistryOptions(
                token=wishes.tokens.get(registry.url),
                allowed_hosts=registry.tarball_hosts,
                tries=Backoff(attempts=_tries(registry, limits.retries)),
                max_pause=min(limits.retry_after_max, PEER_PAUSE)
                if registry.role == "peer"
                else limits.retry_after_max,
                max_packument_bytes=limits.packument_max,
                max_tarball_bytes=limits.tarball_max,
            ),
        )
        for registry in wishes.config.registries
    )


def _tries(registry: RegistrySettings, retries: int) -> int:
    """Return how often a request is tried: a peer less often, because the authority comes after it."""
    return min(retries + 1, PEER_TRIES) if registry.role == "peer" else retries + 1


async def refresh_keys(
    storage: Storage | None, upstream: Upstream, policy: SignaturePolicy
) -> tuple[KeyRing, list[str]]:
    """Merge the registry's signing keys into the stored ones (research/B 7 row 13).

    Args:
        storage: the mirror; None for a plan without one.
        upstream: the registries; the authority is asked.
        policy: with ``off`` nothing is asked.

    Returns:
        The keys, and sentences for the operator.

    Raises:
        SignatureError: the registry shows other bytes under a known keyid.
    """
    stored = KeyRing() if storage is None else await Catalogue(storage).read_keys()
    if policy is SignaturePolicy.OFF:
        return stored, []
    try:
        body = await upstream.authority.keys()
        found = KeyRing() if body is None else parse_keys(body)
    except UpstreamError as error:
        return stored, [
            f"the registry's signing keys could not be read, the {len(stored.keys)} known ones are used: {error}"
        ]
    merged = stored.merge(found)
    if storage is not None and merged != stored:
        await storage.put(layout.KEYS_KEY, format_keys(merged), content_type="application/json")
    return merged, []
