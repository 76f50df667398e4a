"""Demand: have single versions logged because somebody looks them up, and keep what that costs bounded.

Rules:

- Of one version one look-up is in flight; others wait for it, and are answered by what it found. Several versions of
  one package are in flight at once, up to `AT_ONCE_EACH`, and share its document (`mirrorwitness.sumdb.documents`).
- What was found is remembered for `REMEMBERED`, and with it what the registry lists: a thousand clients that ask for
  versions that do not exist cost the registry one request a minute for each package. A registry that could not be asked
  is left alone for `FAILED`.
- At most `AT_ONCE` versions are in flight; at most `MOST_REMEMBERED` answers and `MOST_LISTED` packages are remembered.

Known hole: whoever makes up names of packages costs the registry one request for each. What bounds that is `AT_ONCE`,
and the rate and budget of requests that all of the process share.

*Concurrency*: may be called by any number of tasks. *Cancellation*: at any point; whoever waits next goes on.

What it does not do: look whether the log has the version: the caller did, and came here because it has not.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

import trio

from mirrorwitness.errors import ConfigurationError, UpstreamError, UpstreamNotFoundError
from mirrorwitness.npm.names import Version
from mirrorwitness.sumdb.ingested import Ingested

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.npm.names import PackageName

__all__ = ["Demand", "Ingesting"]

SECONDS: Final = 1.0

REMEMBERED: Final = 60 * SECONDS
FAILED: Final = 5 * SECONDS

AT_ONCE: Final = 32
"""Versions in flight, as many as a follower has packages. Each may hold a document of 128 MB; most have 100 kB."""

AT_ONCE_EACH: Final = 16
"""Versions of one package in flight: one whose registry is slow leaves room for others."""

MOST_REMEMBERED: Final = 10_000
"""Answers that are remembered, of some 300 bytes each."""

MOST_LISTED: Final = 1000
"""Packages whose list of versions is remembered, of mostly 10 kB each, at most 4 MB."""


class Ingesting(Protocol):
    """Brings single versions into the log: `mirrorwitness.sumdb.ingest.Ingest`."""

    async def run_version(self, name: PackageName, version: Version) -> Ingested:
        """Bring one version up to date."""
        ...


@dataclass(frozen=True, slots=True)
class _Answer:
    until: float
    reason: str
    error: UpstreamError | None = None


@dataclass(slots=True)
class _Flights:
    """Look-ups of one package: for each version its lock, and how many hold it or wait for it."""

    limiter: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE_EACH))
    locks: dict[Version, tuple[trio.Lock, int]] = field(default_factory=dict[Version, tuple[trio.Lock, int]])


class Demand:
    """Has versions logged on demand.

    Args:
        ingest: does it.
    """

    def __init__(self, ingest: Ingesting) -> None:
        self._ingest = ingest
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._flights: dict[PackageName, _Flights] = {}
        self._answers: OrderedDict[tuple[PackageName, Version], _Answer] = OrderedDict()
        self._listed: OrderedDict[PackageName, tuple[float, frozenset[Version]]] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Demand {len(self._flights)} packages in flight, {len(self._answers)} answers remembered>"

    async def ingest_version(self, name: PackageName, version: Version) -> str:
        """Have a version logged.

        Returns:
            Why it is not, for people; nothing where it is.

        Raises:
            UpstreamError: the registry cannot be asked, or its answer is of no use.
            SecurityError: the registry shows other bytes under a known keyid.
            BudgetExhaustedError: nothing may be asked any more this month.
            StorageError: the storage failed.
        """
        async with self._flight(name, version) as limiter:
            known = self._find(name, version)
            if known is None:
                async with limiter, self._limiter:
                    # What another version of the package found out meanwhile may be the answer.
                    known = self._find(name, version) or await self._ask(name, version)
                self._remember(name, version, known)
        if known.error is not None:
            # A new one for each task: two that raise one error would share its traceback.
            raise type(known.error)(*known.error.args) from known.error
        return known.reason

    def _find(self, name: PackageName, version: Version) -> _Answer | None:
        now = trio.current_time()
        known = self._answers.get((name, version))
        if known is not None and known.until > now:
            return known
        until, listed = self._listed.get(name, (now, frozenset[Version]()))
        return None if until <= now or version in listed else _Answer(until, _say_unlisted(name, version, listed))

    async def _ask(self, name: PackageName, version: Version) -> _Answer:
        try:
            found = await self._ingest.run_version(name, version)
        except ConfigurationError as error:
            return self._answer(str(error))
        except UpstreamNotFoundError:
            found = Ingested(name)
        except UpstreamError as error:
            return self._answer("", error)
        self._listed[name] = trio.current_time() + REMEMBERED, found.listed
        self._listed.move_to_end(name)
        if len(self._listed) > MOST_LISTED:
            self._listed.popitem(last=False)
        if version not in found.listed:
            return self._answer(_say_unlisted(name, version, found.listed))
        if version in found.refused:
            refused = found.refused[version]
            return self._answer(f"refused ({refused.kind}): {refused.reason}")
        withheld = found.withheld.get(version)
        return self._answer("", withheld if isinstance(withheld, UpstreamError) else None)

    def _answer(self, reason: str, error: UpstreamError | None = None) -> _Answer:
        return _Answer(trio.current_time() + (REMEMBERED if error is None else FAILED), reason, error)

    def _remember(self, name: PackageName, version: Version, answer: _Answer) -> None:
        self._answers[name, version] = answer
        self._answers.move_to_end((name, version))
        if len(self._answers) > MOST_REMEMBERED:
            self._answers.popitem(last=False)

    @asynccontextmanager
    async def _flight(self, name: PackageName, version: Version) -> AsyncGenerator[trio.CapacityLimiter, None]:
        """Wait until no other look-up of the version is in flight; what is given limits those of its package."""
        flights = self._flights.setdefault(name, _Flights())
        lock, users = flights.locks.get(version, (trio.Lock(), 0))
        flights.locks[version] = lock, users + 1
        try:
            async with lock:
                yield flights.limiter
        finally:
            lock, users = flights.locks.pop(version)
            if users > 1:
                flights.locks[version] = lock, users - 1
            if not flights.locks:
                del self._flights[name]


def _say_unlisted(name: PackageName, version: Version, listed: frozenset[Version]) -> str:
    return f"the registry has no version {version} of {name}" if listed else f"the registry has no package {name}"
