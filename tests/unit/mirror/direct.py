"""A fetcher that asks simulators directly: the real clients of registry and feed over no sockets at all.

Nothing here waits for the outside, so tests may use ``autojump_clock``, and a request costs microseconds.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import UpstreamUnreachableError
from mirrorwitness.fetch import Fetcher, Response
from tests.fakes.registry import RecordedRequest, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from tests.fakes.serving import Simulator

__all__ = ["PIECE_BYTES", "DirectFetcher"]

PIECE_BYTES = 32 * 1024
"""Largest piece of a body, in bytes: bodies of tests come in more than one."""


class DirectFetcher(Fetcher):
    """Gives each request to the simulator whose base URL it begins with."""

    def __init__(self, *sims: Simulator) -> None:
        self._sims = sims

    def __repr__(self) -> str:
        return f"<DirectFetcher of {len(self._sims)} simulators>"

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | Path | None = None,  # noqa: ARG002 - nothing is uploaded here
        public_only: bool = False,  # noqa: ARG002 - there are no addresses here
    ) -> AsyncGenerator[Response, None]:
        """Answer from the simulator's state; as `Fetcher.request`."""
        await trio.lowlevel.checkpoint()
        sim = next((sim for sim in self._sims if url.startswith(sim.base)), None)
        if sim is None:
            raise UpstreamUnreachableError(f"{method} {url}: there is no such host")
        # Compressing costs more than everything else here, so nobody asks for it.
        sent = {name: value for name, value in (headers or {}).items() if name != "accept-encoding"}
        target = url.removeprefix(sim.base.removesuffix(sim.prefix))
        reply = sim.answer(RecordedRequest(method, target, sent))
        if isinstance(reply, bytes):
            reply = _parse(reply)
        if reply.hang or reply.reset is not None:
            raise UpstreamUnreachableError(f"{method} {url}: connection reset by the simulator")
        fields = {**dict(reply.headers), "content-length": str(len(reply.body))}
        stream = _Pieces(b"" if method == "HEAD" else reply.body, reply.cut, reply.drip)
        yield Response(status=reply.status, headers=fields, url=url, method=method, stream=stream)


class _Pieces:
    """A body that ends, or breaks off, or comes byte by byte."""

    def __init__(self, body: bytes, cut: int | None, drip: float | None) -> None:
        self._rest = body if cut is None else body[:cut]
        self._is_cut = cut is not None
        self._drip = drip

    async def receive_some(self) -> bytes:
        await trio.sleep(self._drip or 0)
        if not self._rest and self._is_cut:
            raise UpstreamUnreachableError("the body was cut short")
        size = PIECE_BYTES if self._drip is None else 1
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _parse(message: bytes) -> Reply:
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = tuple((name, value) for name, _, value in (line.partition(": ") for line in lines))
    return Reply(int(first.split()[1]), fields, body)
