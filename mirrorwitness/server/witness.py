"""The witness's HTTP interface, as an ASGI application.

    POST /add-checkpoint                      GET /<hex SHA-256 of the origin>/checkpoint
    POST /sign-subtree, where it is offered   GET /healthz   GET /readyz   GET /metrics

Rules:

- A body is read up to `MAX_BODY_BYTES` within `BODY_SECONDS`, whatever a client does; more is a 413.
- An answer goes out as one piece: head and body apart cost 40 ms on a connection that is kept (research/A 0).
- What is published is read from the storage each time; a log that was never cosigned is a 404, a storage that does not
  answer a 503.
- A client that leaves is no error of ours, and gets no answer: `OSError` goes up to the server.

SPEC: C2SP tlog-witness, "HTTP Interface".
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, StorageError
from mirrorwitness.telemetry import CONTENT_TYPE, Sample, format_metrics, metrics
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, Answer, Reason, answer
from mirrorwitness.witness.records import IDENTITY_KEY, public_key
from mirrorwitness.witness.service import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.server.asgi import Message, Receive, Scope, Send
    from mirrorwitness.storage import Storage
    from mirrorwitness.witness.service import Witness

__all__ = ["BODY_SECONDS", "WitnessApp"]

BODY_SECONDS: Final = 10.0
"""How long a client may take to send a request of at most 256 KiB."""

READY_SECONDS: Final = 5.0

CHECKPOINT_MAX_AGE: Final = 5
"""Seconds that caches may keep a published checkpoint; the specification allows an hour of delay."""

_MONITORING: Final = re.compile(r"/([0-9a-f]{64})/checkpoint")
_log = logging.getLogger("mirrorwitness.witness")


class WitnessApp:
    """Answers logs and monitors.

    Args:
        witness: decides and signs.
        storage: what was published.
        signs_subtrees: whether ``sign-subtree`` is offered.
    """

    def __init__(self, *, witness: Witness, storage: Storage, signs_subtrees: bool) -> None:
        self._witness = witness
        self._storage = storage
        self._posts: dict[str, Callable[[bytes], Awaitable[Answer]]] = {"/add-checkpoint": witness.add_checkpoint}
        if signs_subtrees:
            self._posts["/sign-subtree"] = witness.sign_subtree

    def __repr__(self) -> str:
        return f"<WitnessApp {self._witness!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        try:
            given, headers = await self._answer(scope, receive)
        except trio.TooSlowError:
            given, headers = answer(Reason.MALFORMED, f"the body took more than {BODY_SECONDS:.0f} s"), {}
        except OSError:
            raise
        except Exception:  # noqa: BLE001 - whatever the bug is, a log is answered
            _log.exception("witness_failed", extra={"path": ascii(scope["path"][:200])})
            given, headers = Answer(500, b"internal error, the witness's log says more\n"), {}
        await _send(send, given, headers, is_head=scope["method"] == "HEAD")

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[Answer, dict[str, str]]:
        method, path = scope["method"], scope["path"]
        post = self._posts.get(path)
        if post is not None:
            if method != "POST":
                return Answer(405, b"POST only\n"), {"allow": "POST"}
            with trio.fail_after(BODY_SECONDS):
                body = await _read_body(receive)
            if body is None:
                return answer(Reason.TOO_LARGE, f"the request has more than {MAX_BODY_BYTES} bytes"), {}
            return await post(body), {}
        get = self._gets(path)
        if get is None:
            return Answer(404, b"nothing is here\n"), {}
        if method not in {"GET", "HEAD"}:
            return Answer(405, b"GET only\n"), {"allow": "GET, HEAD"}
        return await get()

    def _gets(self, path: str) -> Callable[[], Awaitable[tuple[Answer, dict[str, str]]]] | None:
        found = _MONITORING.fullmatch(path)
        if found:
            return lambda: self._show(found[1])
        return {"/healthz": _healthz, "/readyz": self._readyz, "/metrics": self._metrics}.get(path)

    async def _show(self, digest: str) -> tuple[Answer, dict[str, str]]:
        log = self._witness.logs.by_hash(digest)
        if log is None:
            return Answer(404, b"this witness knows no log of that origin\n"), {}
        try:
            body, _ = await self._storage.read(public_key(log.origin), limit=MAX_NOTE_BYTES)
        except ObjectMissingError:
            return Answer(404, b"no checkpoint of this log was cosigned yet\n"), {}
        except StorageError as error:
            _log.error("witness_storage", extra={"origin": log.origin, "error": str(error)})
            return answer(Reason.STORAGE, "the witness's storage does not answer", retry_after=RETRY_SECONDS), {}
        if not body.endswith(b"\n"):
            # The power took it; the next look at the log's state publishes it again.
            return answer(Reason.STORAGE, "the published checkpoint is cut", retry_after=RETRY_SECONDS), {}
        return Answer(200, body), {"cache-control": f"public, max-age={CHECKPOINT_MAX_AGE}"}

    async def _readyz(self) -> tuple[Answer, dict[str, str]]:
        try:
            with trio.fail_after(READY_SECONDS):
                await self._storage.stat(IDENTITY_KEY)
        except (StorageError, trio.TooSlowError):
            return Answer(503, b"the storage does not answer\n"), {}
        return Answer(200, b"ready\n"), {}

    async def _metrics(self) -> tuple[Answer, dict[str, str]]:
        await trio.lowlevel.checkpoint()
        samples = [
            Sample(metrics.WITNESS_REQUESTS, count, (outcome,))
            for outcome, count in sorted(self._witness.counts.items())
        ]
        samples.append(Sample(metrics.WITNESS_LOGS, len(self._witness.logs)))
        samples.append(Sample(metrics.WITNESS_FORKS, self._witness.forks))
        return Answer(200, format_metrics(samples), CONTENT_TYPE), {}


async def _healthz() -> tuple[Answer, dict[str, str]]:
    await trio.lowlevel.checkpoint()
    return Answer(200, b"ok\n"), {}


async def _read_body(receive: Receive) -> bytes | None:
    """Return the body, or None where it is too large."""
    pieces: list[bytes] = []
    left = MAX_BODY_BYTES
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client left before its body was here")
        piece: bytes = message.get("body", b"")
        left -= len(piece)
        if left < 0:
            return None
        pieces.append(piece)
        if not message.get("more_body", False):
            return b"".join(pieces)


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
