"""Asks the witness's application as a server would, with requests that have bodies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import trio

from mirrorwitness.server.witness import WitnessApp
from mirrorwitness.tlog.checkpoint import origin_hash
from tests.unit.witness.world import LOG, World

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

MONITORED = f"/{origin_hash(LOG.origin)}/checkpoint"
"""Where monitors read the checkpoint of the tests' log."""


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Client:
    """Asks an application directly; what is sent has to be one head and one piece of body, of the length it says."""

    app: WitnessApp

    async def ask(self, method: str, path: str, *pieces: bytes) -> Reply:
        """Send a request whose body comes in pieces."""
        queue: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        return await self.send(method, path, [*queue, {"type": "http.request", "body": b""}])

    async def send(self, method: str, path: str, queue: Sequence[dict[str, Any]]) -> Reply:
        """Send a request, message by message."""
        sent: list[MutableMapping[str, Any]] = []
        waiting = list(queue)

        async def receive() -> MutableMapping[str, Any]:
            await trio.lowlevel.checkpoint()
            if not waiting:
                await trio.sleep_forever()
            return waiting.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await self.app({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
        start, body = sent
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        assert not body.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(headers) == len(start["headers"])
        if method != "HEAD":
            assert headers["content-length"] == str(len(body["body"]))
        return Reply(start["status"], headers, body["body"])

    async def post(self, body: bytes, path: str = "/add-checkpoint") -> Reply:
        """Post a request of one piece."""
        return await self.ask("POST", path, body)


async def make_client(world: World | None = None, *, signs_subtrees: bool = False) -> tuple[World, Client]:
    """Return a witness that cosigned nothing yet."""
    world = world or World()
    witness = await world.start()
    return world, Client(WitnessApp(witness=witness, storage=world.storage, signs_subtrees=signs_subtrees))
