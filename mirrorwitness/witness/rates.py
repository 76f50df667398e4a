"""How often each log may ask: token buckets, pure but for what they remember."""

from __future__ import annotations

__all__ = ["Rates"]


class Rates:
    """One bucket for each log that was seen.

    Args:
        per_second: requests of a log in a second; 0 sets no limit.
        burst: requests that may come at once.
    """

    def __init__(self, *, per_second: float, burst: float = 10.0) -> None:
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._buckets: dict[str, tuple[float, float]] = {}

    def __repr__(self) -> str:
        return f"<Rates {self._per_second}/s, {len(self._buckets)} logs>"

    def take(self, origin: str, now: float) -> float:
        """Take one request; return 0, or the seconds to wait where there is none.

        Args:
            origin: the log, one that is configured: nobody else can make this grow.
            now: any clock, in seconds; one that goes back gives nothing.
        """
        if not self._per_second:
            return 0.0
        tokens, before = self._buckets.get(origin, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - before) * self._per_second)
        if tokens < 1:
            self._buckets[origin] = (tokens, now)
            return (1 - tokens) / self._per_second
        self._buckets[origin] = (tokens - 1, now)
        return 0.0
