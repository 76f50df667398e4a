"""Traffic: what a server answered, counted by kind of route and status, for its metrics."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from mirrorwitness.telemetry import Sample, metrics

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Traffic"]


class Traffic:
    """Counts the answers of one server; shared by all its requests."""

    def __init__(self) -> None:
        self._answers: Counter[tuple[str, int]] = Counter()
        self._sent = 0

    def __repr__(self) -> str:
        return f"<Traffic {self._answers.total()} answers, {self._sent} bytes>"

    def note(self, route: str, status: int, sent: int) -> None:
        """Count one answer.

        Args:
            route: the kind of its route, one of a few words.
            status: its status.
            sent: bytes of its body that went out.
        """
        self._answers[route, status] += 1
        self._sent += sent

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted."""
        for (route, status), count in sorted(self._answers.items()):
            yield Sample(metrics.HTTP_REQUESTS, count, (route, str(status)))
        yield Sample(metrics.HTTP_BYTES, self._sent)
