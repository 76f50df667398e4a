"""A front that holds every byte of an answer back for some milliseconds: a network's latency on loopback.

    python -m bench.delay PORT TARGET_PORT MILLISECONDS

The delay is a pipe, not a queue: many pieces wait at once, so it limits no throughput.
"""

from __future__ import annotations

import asyncio
import sys
from functools import partial


class _Back(asyncio.Protocol):
    def __init__(self, front: asyncio.Transport, delay: float) -> None:
        self._front = front
        self._delay = delay
        self._later = asyncio.get_running_loop().call_later

    def data_received(self, data: bytes) -> None:
        self._later(self._delay, self._front.write, data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._later(self._delay, self._front.close)


class _Front(asyncio.Protocol):
    def __init__(self, target: int, delay: float) -> None:
        self._target = target
        self._delay = delay
        self._back: asyncio.Transport | None = None
        self._early: list[bytes] = []
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._task = asyncio.create_task(self._connect(transport))

    async def _connect(self, front: asyncio.Transport) -> None:
        loop = asyncio.get_running_loop()
        self._back, _ = await loop.create_connection(partial(_Back, front, self._delay), "127.0.0.1", self._target)
        for data in self._early:
            self._back.write(data)

    def data_received(self, data: bytes) -> None:
        if self._back is None:
            self._early.append(data)
        else:
            self._back.write(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self._back is not None:
            self._back.close()


async def serve(port: int, target: int, milliseconds: int) -> None:
    """Listen until killed."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(partial(_Front, target, milliseconds / 1000), "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(*(int(text) for text in sys.argv[1:4])))
