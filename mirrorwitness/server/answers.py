"""What the servers of cosigners share: one request in, one whole answer out, whatever happens on the way.

Rules:

- An answer goes out as one piece: head and body apart cost 40 ms on a connection that is kept (research/A 0).
- Whatever the bug is, a log is answered: 500, and the server's log says more.
- A client that leaves is no error of ours, and gets no answer: `OSError` goes up to the server.

What it does not do: read bodies, or know what is asked (`mirrorwitness.server.witness`,
`mirrorwitness.server.logmirror`).

SPEC: C2SP tlog-witness, "HTTP Interface".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

import trio

from mirrorwitness.errors import StorageError
from mirrorwitness.witness.protocol import Answer, Reason, answer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mirrorwitness.server.asgi import Message, Receive, Scope, Send
    from mirrorwitness.storage import Storage

__all__ = [
    "BODY_SECONDS",
    "CHECKPOINT_MAX_AGE",
    "READY_SECONDS",
    "Given",
    "nothing",
    "respond",
    "route",
    "say_healthy",
    "say_ready",
]

BODY_SECONDS: Final = 10.0
"""How long a client may take to send a request of at most 256 KiB."""

READY_SECONDS: Final = 5.0

CHECKPOINT_MAX_AGE: Final = 5
"""Seconds that caches may keep a published checkpoint; the specification allows an hour of delay."""

Given: TypeAlias = "tuple[Answer, dict[str, str]]"
"""An answer, and the headers that it has besides its own."""


async def respond(
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    find: Callable[[Scope, Receive], Awaitable[Given]],
    note_bug: Callable[[str], bytes],
) -> None:
    """Answer one request.

    Args:
        scope: the request.
        receive: gives its body.
        send: takes the answer.
        find: finds the answer.
        note_bug: called with the path where that raised what it must not; logs it, and returns what the client is told.
    """
    if scope["type"] != "http":
        return
    try:
        given, headers = await find(scope, receive)
    except trio.TooSlowError:
        given, headers = answer(Reason.MALFORMED, f"the body took more than {BODY_SECONDS:.0f} s"), {}
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - whatever the bug is, a log is answered
        given, headers = Answer(500, note_bug(ascii(scope["path"][:200]))), {}
    await _send(send, given, headers, is_head=scope["method"] == "HEAD")


async def route(
    scope: Scope,
    receive: Receive,
    *,
    posts: Mapping[str, Callable[[Scope, Receive], Awaitable[Given]]],
    gets: Callable[[str], Callable[[], Awaitable[Given]] | None],
) -> Given:
    """Let the one answer that a path belongs to: those that take a body, or those that are read."""
    method, path = scope["method"], scope["path"]
    post = posts.get(path)
    if post is not None:
        if method != "POST":
            return Answer(405, b"POST only\n"), {"allow": "POST"}
        return await post(scope, receive)
    get = gets(path)
    if get is None:
        return nothing()
    if method not in {"GET", "HEAD"}:
        return Answer(405, b"GET only\n"), {"allow": "GET, HEAD"}
    return await get()


def nothing() -> Given:
    """Return the answer of a path that is none."""
    return Answer(404, b"nothing is here\n"), {}


async def say_healthy() -> Given:
    """Answer that the process runs."""
    await trio.lowlevel.checkpoint()
    return Answer(200, b"ok\n"), {}


async def say_ready(storage: Storage, key: str) -> Given:
    """Answer whether the storage does, by a look at one of its keys."""
    try:
        with trio.fail_after(READY_SECONDS):
            await storage.stat(key)
    except (StorageError, trio.TooSlowError):
        return Answer(503, b"the storage does not answer\n"), {}
    return Answer(200, b"ready\n"), {}


async def _send(send: Send, given: Answer, headers: dict[str, str], *, is_head: bool) -> None:
    lines = {"content-type": given.content_type, "content-length": str(len(given.body)), **headers}
    if given.retry_after is not None:
        lines["retry-after"] = str(given.retry_after)
    start: Message = {
        "type": "http.response.start",
        "status": given.status,
        "headers": [(name.encode(), value.encode()) for name, value in lines.items()],
    }
    await send(start)
    await send({"type": "http.response.body", "body": b"" if is_head else given.body})
