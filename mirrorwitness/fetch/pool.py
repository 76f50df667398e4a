"""OriginPool: the connections to one scheme, host and port.

Rules:

- `slots` bounds the connections in exchanges and being opened; waiting for one is in order of arrival. Idle
  connections hold no slot, and there are never more of them than slots, because each was in an exchange before.
- `idle` is a stack: the connection used last is on top and most likely alive, and those at the bottom grow old.
- No method waits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from mirrorwitness.fetch.connection import Connection

__all__ = ["OriginPool"]


class OriginPool:
    """The connections to one origin; `total` at most."""

    __slots__ = ("closed", "host", "idle", "port", "scheme", "slots", "total")

    def __init__(self, scheme: str, host: str, port: int, total: int) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.total = total
        self.slots = trio.Semaphore(total, max_value=total)
        self.idle: list[Connection] = []
        self.closed = False

    def __repr__(self) -> str:
        where = f"{self.scheme}://{self.host}:{self.port}"
        return f"<OriginPool {where}, {len(self.idle)} idle, {self.in_use} in use, {self.waiting} waiting>"

    @property
    def in_use(self) -> int:
        """Connections in an exchange or being opened."""
        return self.total - self.slots.value

    @property
    def waiting(self) -> int:
        """Requests in line."""
        return self.slots.statistics().tasks_waiting

    def pop_idle(self, *, max_idle: float) -> Connection | None:
        """Return the best idle connection; those that are dead or too old are closed on the way."""
        now = trio.current_time()
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable(now=now, max_idle=max_idle):
                return connection
            connection.close()
        return None

    def give_back(self, connection: Connection, *, reusable: bool) -> None:
        """End an exchange: the connection goes on the stack or is closed, and the next in line gets the slot."""
        if reusable and not self.closed:
            connection.idle_since = trio.current_time()
            self.idle.append(connection)
        else:
            connection.close()
        self.slots.release()

    def close(self) -> None:
        """Close the idle connections; one in an exchange is closed when that ends."""
        self.closed = True
        while self.idle:
            self.idle.pop().close()
