"""Deadline: the one cancel scope of a transfer and what it is waiting for now.

Rules:

- One scope per transfer, opened by `mirrorwitness.fetch.client`; each phase only moves its deadline. A scope costs
  6 us and ``trio.fail_after`` 11 us, moving a deadline 2 us, so nothing here is opened for each read.
- The clock runs only while we wait for the peer. It stands still while we wait for a free connection and while the
  caller handles what it got (a slow storage is not the upstream's fault).
- The total grows with the bytes: grace + length / min_rate, where the length is what the peer announced, or what has
  arrived where it announced nothing. A peer that drips one byte a second is cut off (research/B 7 row 16).

It does not map errors; the transfer asks `expired` and reports `phase`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import trio

__all__ = ["KIB", "SECONDS", "Deadline", "Patience"]

SECONDS: Final = 1.0
KIB: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each phase of a transfer may take.

    Attributes:
        connect: seconds for name resolution, TCP and TLS together.
        head: seconds from the request's last byte to the response's head; registries build large documents on demand.
        grace: seconds that every body may take whatever its length.
        min_rate: bytes per second below which a body is given up, in either direction.
    """

    connect: float = 15 * SECONDS
    head: float = 60 * SECONDS
    grace: float = 30 * SECONDS
    min_rate: float = 16 * KIB


class Deadline:
    """The scope of one transfer. Used by the task that opened it only."""

    __slots__ = ("_allowance", "_length", "_patience", "_received", "_since", "phase", "scope")

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._allowance = 0.0
        self._length: int | None = None
        self._received = 0
        self._since = 0.0
        self.phase = "waiting for a free connection"
        self.scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<Deadline {self.phase}, at {self.scope.deadline:.3f}>"

    @property
    def expired(self) -> bool:
        """Whether this scope, and not one of the caller's, ended the transfer."""
        return self.scope.cancelled_caught

    def start_connect(self) -> None:
        """Count name resolution, TCP and TLS."""
        self._start("connecting", self._patience.connect)

    def start_send(self, length: int) -> None:
        """Count sending a request body of `length` bytes, and then the wait for the head."""
        self._start(
            "sending the request", self._patience.head + self._patience.grace + length / self._patience.min_rate
        )

    def start_head(self) -> None:
        """Count the wait for the response's head."""
        self._start("waiting for the response head", self._patience.head)

    def stop(self) -> None:
        """Stop the clock: the head is here, or there is nothing to wait for."""
        self.scope.deadline = math.inf

    def expect_body(self, length: int | None) -> None:
        """Begin the body's account; `length` is what the peer announced."""
        self._length = length
        self._allowance = self._patience.grace + (length or 0) / self._patience.min_rate

    def start_read(self) -> None:
        """Count one wait for more of the body."""
        self._since = trio.current_time()
        self.phase = "receiving the body"
        self.scope.deadline = self._since + self._allowance

    def stop_read(self, received: int) -> None:
        """Stop the clock after `received` more bytes of the body."""
        self._allowance -= trio.current_time() - self._since
        self._received += received
        if self._length is None:
            self._allowance += received / self._patience.min_rate
        self.scope.deadline = math.inf

    def describe(self) -> str:
        """Say what took too long, for a message."""
        body = self.phase == "receiving the body"
        limit = f" below {self._patience.min_rate:.0f} bytes/s" if body else ""
        return f"deadline passed while {self.phase}{limit} ({self._received} bytes of the body came)"

    def _start(self, phase: str, seconds: float) -> None:
        self.phase = phase
        self.scope.deadline = trio.current_time() + seconds
