"""Probes below the `Storage` Protocol: single S3 requests with a wrong checksum, a wrong secret, or no credentials.

The Protocol cannot say these things, on purpose; `RequestSender` can, and only the check uses it
(`mirrorwitness.storage.s3_probe` makes one for a bucket; a directory has none, and these probes are left out).

A 5xx says nothing about the promise, so it is reported as `FAILED`. Upload framing (aws-chunked) is never sent: some
services store it as content (research/E 0, finding 3), and nothing of ours needs it.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.storage.probe_verdict import Capability, Observation, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from mirrorwitness.storage.probe_scratch import Scratch

__all__ = ["REQUEST_PROBES", "Answer", "RequestSender", "Signing", "probe_anonymous_write", "probe_clock"]

CLOCK_SECONDS: Final = 60
"""Largest difference between the clocks that is not worth a word; the protocol's limit is 900 s."""

_BODY: Final = b"what the check of a storage sends\n"
_OTHER: Final = b"other bytes\n"
_CONTENT_TYPE: Final = "application/vnd.npm.install-v1+json"


class Signing(Enum):
    """How a request is signed."""

    RIGHT = "right"
    WRONG_SECRET = "wrong-secret"  # noqa: S105 - a name, not a secret
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for one request; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class RequestSender(Protocol):
    """Sends one request about one key, exactly as told: no retries, no checks of its own."""

    async def send(
        self,
        method: str,
        key: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        payload: bytes | None = None,
        signing: Signing = Signing.RIGHT,
    ) -> Answer:
        """Send a request and return the whole answer, whatever its status.

        Args:
            method: GET, HEAD, PUT or DELETE.
            key: the object's key in the storage.
            headers: further header fields; they are signed too.
            body: what is sent.
            payload: what the signature says is sent; None for `body`.
            signing: how the request is signed.

        Raises:
            StorageUnavailableError: no answer.
        """
        ...


async def probe_checksum_checked(scratch: Scratch, sender: RequestSender) -> Observation:
    """Upload with a SHA-256 checksum of other bytes (with the algorithm's name: one service looks only then)."""
    headers = _checksum_headers(_OTHER)
    answer = await sender.send("PUT", scratch.key("wrong-checksum"), headers=headers, body=_BODY)
    return _refusal(Capability.CHECKSUM_CHECKED, answer, accepted=Outcome.IGNORED)


async def probe_checksum_echoed(scratch: Scratch, sender: RequestSender) -> Observation:
    """Upload with the right checksum, and look for it in the answer."""
    capability = Capability.CHECKSUM_ECHOED
    headers = _checksum_headers(_BODY)
    answer = _successful(await sender.send("PUT", scratch.key("checksum"), headers=headers, body=_BODY))
    found = answer.headers.get("x-amz-checksum-sha256")
    if found is None:
        return Observation(capability, Outcome.MISSING, "no checksum in the answer")
    if found != headers["x-amz-checksum-sha256"]:
        return Observation(capability, Outcome.BROKEN, f"another checksum in the answer: {found}")
    return Observation(capability, Outcome.HOLDS, "the checksum is in the answer")


async def probe_payload_hash_checked(scratch: Scratch, sender: RequestSender) -> Observation:
    """Upload bytes that are not those the signature covers."""
    answer = await sender.send("PUT", scratch.key("wrong-payload"), body=_BODY, payload=_OTHER)
    return _refusal(Capability.PAYLOAD_HASH_CHECKED, answer, accepted=Outcome.IGNORED)


async def probe_delete_if_match(scratch: Scratch, sender: RequestSender) -> Observation:
    """Delete with an etag that the object never had."""
    capability = Capability.DELETE_IF_MATCH
    key = scratch.key("delete-if-match")
    await scratch.storage.put(key, _BODY)
    old = '"' + hashlib.md5(_OTHER, usedforsecurity=False).hexdigest() + '"'
    answer = await sender.send("DELETE", key, headers={"If-Match": old})
    if await scratch.storage.stat(key) is None:
        return Observation(capability, Outcome.IGNORED, f"deleted all the same, with status {answer.status}")
    if answer.status == 412:  # noqa: PLR2004 - Precondition Failed
        return Observation(capability, Outcome.HOLDS, "refused with status 412")
    return Observation(capability, Outcome.UNSUPPORTED, f"not deleted, status {answer.status}")


async def probe_content_type(scratch: Scratch, sender: RequestSender) -> Observation:
    """Put with a content type, and look for it."""
    key = scratch.key("content-type")
    await scratch.storage.put(key, _BODY, content_type=_CONTENT_TYPE)
    found = _successful(await sender.send("HEAD", key)).headers.get("content-type", "none")
    outcome = Outcome.HOLDS if found == _CONTENT_TYPE else Outcome.MISSING
    return Observation(Capability.CONTENT_TYPE, outcome, f"sent {_CONTENT_TYPE}, found {found}")


async def probe_metadata(scratch: Scratch, sender: RequestSender) -> Observation:
    """Put with user metadata, and look for it."""
    key = scratch.key("metadata")
    _successful(await sender.send("PUT", key, headers={"x-amz-meta-probe": "kept"}, body=_BODY))
    found = _successful(await sender.send("HEAD", key)).headers.get("x-amz-meta-probe", "nothing")
    outcome = Outcome.HOLDS if found == "kept" else Outcome.MISSING
    return Observation(Capability.METADATA, outcome, f"sent x-amz-meta-probe: kept, found {found}")


async def probe_anonymous_read(scratch: Scratch, sender: RequestSender) -> Observation:
    """Read an object without credentials."""
    key = scratch.key("anonymous-read")
    await scratch.storage.put(key, _BODY)
    answer = await sender.send("GET", key, signing=Signing.NONE)
    is_open = _is_success(answer.status) and answer.body == _BODY
    seen = f"{'allowed' if is_open else 'refused'} with status {answer.status}"
    return Observation(Capability.ANONYMOUS_READ, Outcome.BROKEN if is_open else Outcome.HOLDS, seen)


async def probe_anonymous_write(scratch: Scratch, sender: RequestSender) -> Observation:
    """Write an object without credentials."""
    answer = await sender.send("PUT", scratch.key("anonymous-write"), body=_BODY, signing=Signing.NONE)
    return _refusal(Capability.ANONYMOUS_WRITE, answer, accepted=Outcome.BROKEN)


async def probe_secret_checked(scratch: Scratch, sender: RequestSender) -> Observation:
    """Write an object with a signature that only a wrong secret makes."""
    answer = await sender.send("PUT", scratch.key("wrong-secret"), body=_BODY, signing=Signing.WRONG_SECRET)
    return _refusal(Capability.SECRET_CHECKED, answer, accepted=Outcome.IGNORED)


async def probe_clock(scratch: Scratch, sender: RequestSender, *, now: Callable[[], datetime]) -> Observation:
    """Compare the Date of an answer with our clock."""
    capability = Capability.CLOCK
    answer = await sender.send("HEAD", scratch.key("clock"))
    text = answer.headers.get("date", "")
    try:
        found = parsedate_to_datetime(text)
        seconds = (found - now()).total_seconds()
    except (ValueError, TypeError):
        return Observation(capability, Outcome.MISSING, f"no usable Date header ({text[:40]!r})")
    if abs(seconds) > CLOCK_SECONDS:
        way = "ahead of" if seconds > 0 else "behind"
        return Observation(capability, Outcome.BROKEN, f"{abs(seconds):.0f} s {way} our clock")
    return Observation(capability, Outcome.HOLDS, f"within {CLOCK_SECONDS} s of our clock")


REQUEST_PROBES: Final[Mapping[Capability, Callable[[Scratch, RequestSender], Awaitable[Observation]]]] = {
    Capability.CHECKSUM_CHECKED: probe_checksum_checked,
    Capability.CHECKSUM_ECHOED: probe_checksum_echoed,
    Capability.PAYLOAD_HASH_CHECKED: probe_payload_hash_checked,
    Capability.DELETE_IF_MATCH: probe_delete_if_match,
    Capability.CONTENT_TYPE: probe_content_type,
    Capability.METADATA: probe_metadata,
    Capability.ANONYMOUS_READ: probe_anonymous_read,
    Capability.ANONYMOUS_WRITE: probe_anonymous_write,
    Capability.SECRET_CHECKED: probe_secret_checked,
}
"""The probes of the long form that need a sender and nothing else."""


def _refusal(capability: Capability, answer: Answer, *, accepted: Outcome) -> Observation:
    """Judge a request that must be refused."""
    if _is_success(answer.status):
        return Observation(capability, accepted, f"accepted with status {answer.status}")
    if answer.status >= 500:  # noqa: PLR2004 - a fault of the service, not an answer
        return Observation(capability, Outcome.FAILED, f"status {answer.status}")
    return Observation(capability, Outcome.HOLDS, f"refused with status {answer.status}")


def _successful(answer: Answer) -> Answer:
    if not _is_success(answer.status):
        raise StorageUnavailableError(f"a request of the check got status {answer.status}, expected success")
    return answer


def _is_success(status: int) -> bool:
    return 200 <= status <= 299  # noqa: PLR2004 - the class of statuses


def _checksum_headers(content: bytes) -> dict[str, str]:
    digest = base64.b64encode(hashlib.sha256(content).digest()).decode("ascii")
    return {"x-amz-sdk-checksum-algorithm": "SHA256", "x-amz-checksum-sha256": digest}
