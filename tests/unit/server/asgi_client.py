"""Calls an ASGI application directly, as a server would, and collects what it answers.

It holds the application to the protocol: one start, no body after the last, headers as lower-case bytes, and a body of
exactly the length that ``Content-Length`` says.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    from mirrorwitness.server.asgi import App

__all__ = ["Answer", "AsgiClient"]


@dataclass(slots=True)
class Answer:
    """A whole answer; `pieces` are the body as it was sent."""

    status: int
    headers: dict[str, str]
    pieces: list[bytes] = field(default_factory=list)

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    def json(self) -> Any:
        return json.loads(self.body)


class AsgiClient:
    """Sends requests to one application; `host` is what clients call it."""

    def __init__(self, app: App, *, host: str | None = "mirror.example") -> None:
        self._app = app
        self._host = host

    async def get(self, path: str, **headers: str) -> Answer:
        return await self.request("GET", path, headers)

    async def head(self, path: str, **headers: str) -> Answer:
        return await self.request("HEAD", path, headers)

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        lines: list[tuple[bytes, bytes]] | None = None,
    ) -> Answer:
        """Send one request; names of headers may have ``_`` for ``-``, and `lines` are added as they are."""
        named = {name.replace("_", "-"): value for name, value in (headers or {}).items()}
        if self._host is not None:
            named.setdefault("host", self._host)
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in named.items()]
        return await self.send_raw(method, path.encode(), [*encoded, *(lines or [])])

    async def send_raw(self, method: str, raw_path: bytes, lines: list[tuple[bytes, bytes]]) -> Answer:
        """Send one request of exactly these bytes; what stands behind a question mark is its query."""
        raw_path, _, query = raw_path.partition(b"?")
        scope: MutableMapping[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": raw_path.decode("latin-1"),
            "raw_path": raw_path,
            "query_string": query,
            "headers": lines,
        }
        sent: list[Mapping[str, Any]] = []

        async def receive() -> MutableMapping[str, Any]:
            raise AssertionError("a read-only mirror never reads a body")

        async def send(message: MutableMapping[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await self._app(scope, receive, send)
        return _collect(method, sent)


def _collect(method: str, sent: list[Mapping[str, Any]]) -> Answer:
    start, *bodies = sent
    assert start["type"] == "http.response.start"
    assert [message["type"] for message in bodies] == ["http.response.body"] * len(bodies)
    assert [message["more_body"] for message in bodies] == [True] * (len(bodies) - 1) + [False]
    lines = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
    headers = dict(lines)
    assert len(headers) == len(lines), "a header is there twice"
    assert all(name == name.lower() for name in headers)
    assert all(character >= " " for value in headers.values() for character in value)
    answer = Answer(start["status"], headers, [message["body"] for message in bodies if message["body"]])
    if method == "HEAD" or answer.status == 304:
        assert answer.body == b""
    else:
        assert headers["content-length"] == str(len(answer.body))
    return answer
