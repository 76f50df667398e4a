"""A cache bounded in bytes, and work that is done once however many ask for it at the same time.

Rules:

- `ByteCache` never holds more than its capacity, by the sizes its callers give; the least recently used goes first,
  and what is larger than the whole cache is not kept.
- `Flights.run` calls one maker per key at a time. Whoever comes while it runs waits and shares the result or the error;
  nothing is remembered afterwards. A maker that is cancelled leaves its work to one of those that wait.

Neither is shared between threads; both are used from one Trio run.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

__all__ = ["ByteCache", "CacheStatistics", "Flights"]

K = TypeVar("K", bound="Hashable")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class CacheStatistics:
    """What a cache holds now, and how it has served.

    Attributes:
        entries: how many values it holds.
        size: their sizes together.
        hits: look-ups that found something.
        misses: look-ups that found nothing.
    """

    entries: int
    size: int
    hits: int
    misses: int


class ByteCache(Generic[K, V]):
    """Keeps the most recently used values, up to `capacity` bytes."""

    def __init__(self, *, capacity: int) -> None:
        self._capacity = capacity
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()
        self._size = 0
        self._hits = 0
        self._misses = 0

    def __repr__(self) -> str:
        return f"<ByteCache {len(self._entries)} entries, {self._size} of {self._capacity} bytes>"

    def get(self, key: K) -> V | None:
        """Return the value under the key, None where there is none, and count it as used now."""
        entry = self._entries.get(key)
        if entry is None:
            self._misses += 1
            return None
        self._hits += 1
        self._entries.move_to_end(key)
        return entry[0]

    def put(self, key: K, value: V, *, size: int) -> None:
        """Keep a value under the key, in place of the one before; `size` is what it costs in bytes."""
        self.drop(key)
        if size > self._capacity:
            return
        self._entries[key] = (value, size)
        self._size += size
        while self._size > self._capacity:
            _, (_, freed) = self._entries.popitem(last=False)
            self._size -= freed

    def drop(self, key: K) -> None:
        """Forget the key."""
        _, freed = self._entries.pop(key, (None, 0))
        self._size -= freed

    def statistics(self) -> CacheStatistics:
        """Return a snapshot."""
        return CacheStatistics(len(self._entries), self._size, self._hits, self._misses)


@dataclass(slots=True)
class _Flight(Generic[V]):
    landed: trio.Event = field(default_factory=trio.Event)
    result: list[V] = field(default_factory=list)
    error: Exception | None = None


class Flights(Generic[K, V]):
    """Runs at most one maker per key at a time."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __repr__(self) -> str:
        return f"<Flights {len(self._flights)} in the air>"

    async def run(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        """Return what `make` returns, called by us or by somebody who was first.

        Args:
            key: what is made; equal keys must mean equal results.
            make: makes it.

        Returns:
            The result, shared: treat it as read-only.

        Raises:
            Exception: what the maker raised, for everyone who waited for it.
        """
        while True:
            flight = self._flights.get(key)
            if flight is None:
                return await self._lead(key, make)
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.result:
                return flight.result[0]
            # The leader was cancelled; the first of us to get here leads the next flight.

    async def _lead(self, key: K, make: Callable[[], Awaitable[V]]) -> V:
        flight = self._flights[key] = _Flight[V]()
        try:
            value = await make()
        except Exception as error:
            flight.error = error
            raise
        else:
            flight.result.append(value)
            return value
        finally:
            del self._flights[key]
            flight.landed.set()
