"""What the tests of the simulators share: asking without sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.fakes.registry import RecordedRequest, Reply

if TYPE_CHECKING:
    from tests.fakes.feed import FeedSimulator
    from tests.fakes.registry import RegistrySimulator

__all__ = ["ask", "names", "packument", "reply"]

_FULL = {"accept": "application/json"}


def reply(feed: FeedSimulator, target: str = "/_changes", **headers: str) -> Reply:
    """Return the feed's reply."""
    return feed.answer(RecordedRequest("GET", target, headers))


def ask(feed: FeedSimulator, target: str = "/_changes") -> dict[str, Any]:
    """Return the feed's answer; it must be a good one."""
    found = reply(feed, target)
    assert found.status == 200, found.body
    parsed: dict[str, Any] = json.loads(found.body)
    return parsed


def names(feed: FeedSimulator, since: int | str = 0) -> list[str]:
    """Return the names of the rows after a position."""
    return [row["id"] for row in ask(feed, f"/_changes?since={since}")["results"]]


def packument(sim: RegistrySimulator, name: str) -> tuple[int, str]:
    """Return status and revision of the registry's answer."""
    found = sim.answer(RecordedRequest("GET", f"/{name}", _FULL))
    if isinstance(found, bytes):
        head, _, body = found.partition(b"\r\n\r\n")
        return int(head.split()[1]), json.loads(body)["_rev"]
    return found.status, json.loads(found.body).get("_rev", "")
