"""The witness's HTTP interface, as an ASGI application.

    POST /add-checkpoint                      GET /<hex SHA-256 of the origin>/checkpoint
    POST /sign-subtree, where it is offered   GET /healthz   GET /readyz   GET /metrics

Rules:

- A body is read up to `MAX_BODY_BYTES` within `BODY_SECONDS`, whatever a client does; more is a 413.
- Every outcome has its count from the start, 0 included: of a series that begins with its first event Prometheus sees
  no increase.
- What is published is read from the storage each time; a log that was never cosigned is a 404, a storage that does not
  answer a 503.

SPEC: C2SP tlog-witness, "HTTP Interface".
"""

from __future__ import annotations

import logging
import re
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, StorageError
from mirrorwitness.server.answers import BODY_SECONDS, CHECKPOINT_MAX_AGE, respond, route, say_healthy, say_ready
from mirrorwitness.telemetry import CONTENT_TYPE, Sample, format_metrics, metrics
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, OUTCOMES, Answer, Reason, answer
from mirrorwitness.witness.records import IDENTITY_KEY, public_key
from mirrorwitness.witness.service import RETRY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.server.answers import Given
    from mirrorwitness.server.asgi import Receive, Scope, Send
    from mirrorwitness.storage import Storage
    from mirrorwitness.witness.service import Witness

__all__ = ["WitnessApp"]

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
        self._posts = {"/add-checkpoint": partial(_take, witness.add_checkpoint)}
        if signs_subtrees:
            self._posts["/sign-subtree"] = partial(_take, witness.sign_subtree)

    def __repr__(self) -> str:
        return f"<WitnessApp {self._witness!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await respond(scope, receive, send, find=self._answer, note_bug=_note_bug)

    async def _answer(self, scope: Scope, receive: Receive) -> Given:
        return await route(scope, receive, posts=self._posts, gets=self._gets)

    def _gets(self, path: str) -> Callable[[], Awaitable[Given]] | None:
        found = _MONITORING.fullmatch(path)
        if found:
            return lambda: self._show(found[1])
        return {"/healthz": say_healthy, "/readyz": self._readyz, "/metrics": self._metrics}.get(path)

    async def _show(self, digest: str) -> Given:
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

    async def _readyz(self) -> Given:
        return await say_ready(self._storage, IDENTITY_KEY)

    async def _metrics(self) -> Given:
        await trio.lowlevel.checkpoint()
        counts = self._witness.counts
        samples = [Sample(metrics.WITNESS_REQUESTS, counts[outcome], (outcome,)) for outcome in OUTCOMES]
        samples.append(Sample(metrics.WITNESS_LOGS, len(self._witness.logs)))
        samples.append(Sample(metrics.WITNESS_FORKS, self._witness.forks))
        return Answer(200, format_metrics(samples), CONTENT_TYPE), {}


async def _take(post: Callable[[bytes], Awaitable[Answer]], _scope: Scope, receive: Receive) -> Given:
    """Read a body, and give it to who answers it."""
    with trio.fail_after(BODY_SECONDS):
        body = await _read_body(receive)
    return await post(body), {}


async def _read_body(receive: Receive) -> bytes:
    """Return the body; of one that is too large only as much as shows it."""
    pieces: list[bytes] = []
    left = MAX_BODY_BYTES
    while left >= 0:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionAbortedError("the client left before its body was here")
        piece: bytes = message.get("body", b"")
        left -= len(piece)
        pieces.append(piece)
        if not message.get("more_body", False):
            break
    return b"".join(pieces)


def _note_bug(path: str) -> bytes:
    _log.exception("witness_failed", extra={"path": path})
    return b"internal error, the witness's log says more\n"
