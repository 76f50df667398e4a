"""Writing one object to a bucket so that what is there is what was given, whatever the service or the network does.

    send ──200──> echoed checksum or MD5 as ETag? ──no──> read back and hash ──other bytes──> remove, StorageError
      │ ├─412──> lost; but after an unknown outcome first: is it ours?
      │ ├─409, 429, 5xx──> pause, send again; from now on the outcome is unknown
      │ └─501──> UnsupportedConditionError
      └─no answer──> as 5xx

Rules:

- The body goes plain (no chunk framing, which some services store as content), with its length, with its SHA-256 as
  signed payload hash, and with the checksum *and* the header that makes the service look at it (research/E 0).
- A put is sent again after any unknown outcome: the same bytes under the same condition. A conditional one carries a
  token in its metadata, so that a later 412 can be told from another writer's victory with the very same bytes. Where a
  service loses metadata, equal bytes count as ours.
- A put under ``if_match`` that had an unknown outcome and then finds another object may have won and been replaced. It
  ends in `StorageUnavailableError`: nobody can say more.
- Ceph RGW 16 answers 412 to every quoted ETag. So a 412 is checked: where the object has the very ETag that was asked
  for, the put is sent once more without quotes, and the client remembers.

Known hole: one PUT takes at most `MAX_PUT_BYTES`; larger objects are refused (multipart uploads cannot be conditional
on most services).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    PreconditionFailedError,
    StorageError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamError,
)
from mirrorwitness.storage import ObjectInfo
from mirrorwitness.storage.s3_client import Retries, S3Request, encode_sha256

if TYPE_CHECKING:
    from mirrorwitness.storage import Body
    from mirrorwitness.storage.s3_client import Answer, S3Client

__all__ = ["MAX_PUT_BYTES", "Putter"]

MAX_PUT_BYTES: Final = 5 * 1024**3
"""Largest body of one PUT: S3's limit. The largest npm tarball known has under 1 GB."""

_INLINE_HASH_BYTES: Final = 256 * 1024
"""Bodies up to this size are hashed without a thread: 0.2 ms against a hop of 0.05 ms and its wake-ups."""

_PIECE_BYTES: Final = 1024 * 1024
_TOKEN: Final = "x-amz-meta-mirrorwitness-write"  # noqa: S105 - the name of a header
_CHECKSUM: Final = "x-amz-checksum-sha256"
_WRITTEN: Final = frozenset({200, 201, 204})


@dataclass(frozen=True, slots=True)
class _Put:
    """One put, whatever number of tries it takes."""

    name: str
    key: str
    body: Body
    size: int
    sha256: str
    content_type: str
    if_absent: bool
    if_match: str | None
    token: str

    @property
    def is_conditional(self) -> bool:
        return self.if_absent or self.if_match is not None

    def is_refused_by(self, answer: Answer) -> bool:
        """Tell whether an answer says that the condition does not hold (404: there is nothing to match)."""
        if answer.status == HTTPStatus.NOT_FOUND:
            return self.if_match is not None and answer.failure.code != "NoSuchBucket"
        return answer.status == HTTPStatus.PRECONDITION_FAILED and self.is_conditional

    def request(self, *, quoted: bool) -> S3Request:
        headers = {
            "content-type": self.content_type,
            "x-amz-sdk-checksum-algorithm": "SHA256",
            _CHECKSUM: encode_sha256(self.sha256),
        }
        if self.is_conditional:
            headers[_TOKEN] = self.token
        if self.if_absent:
            headers["if-none-match"] = "*"
        if self.if_match is not None:
            headers["if-match"] = f'"{self.if_match}"' if quoted else self.if_match
        return S3Request("PUT", self.key, headers=headers, body=self.body, payload_hash=self.sha256)


class Putter:
    """Writes objects to one bucket; remembers which form of ``If-Match`` its service understands."""

    def __init__(self, client: S3Client) -> None:
        self._client = client
        self._quoted = True

    async def put(
        self, name: str, key: str, body: Body, *, if_absent: bool, if_match: str | None, content_type: str
    ) -> ObjectInfo:
        """Write an object; see `mirrorwitness.storage.Storage.put`.

        Args:
            name: the key as the storage's user knows it, for the returned info.
            key: the key in the bucket.
            body: what to write.
            if_absent: only where there is none.
            if_match: only where the object has this ETag.
            content_type: what the service is told of it.
        """
        size, sha256 = await _measure(body)
        if size > MAX_PUT_BYTES:
            raise StorageRefusedError(f"{name} has {size:,} bytes; one PUT takes at most {MAX_PUT_BYTES:,}")
        put = _Put(name, key, body, size, sha256, content_type, if_absent, if_match, secrets.token_hex(16))
        answer = await self._send(put)
        if answer is not None and answer.headers.get(_CHECKSUM) != encode_sha256(sha256):
            await self._verify(put, answer)
        if answer is None or not _etag(answer):
            answer = await self._head(put)
        return ObjectInfo(name, size, _etag(answer))

    async def _send(self, put: _Put) -> Answer | None:
        """Send until it is written; None where an earlier try turns out to have written it."""
        quoted, is_unknown = self._quoted, False
        retries = Retries(self._client, put.request(quoted=quoted))
        while True:
            try:
                answer = await self._client.ask_once(put.request(quoted=quoted))
            except StorageUnavailableError as error:
                is_unknown = True
                await retries.after_error(error)
                continue
            if answer.status in _WRITTEN:
                self._quoted = quoted
                return answer
            if not put.is_refused_by(answer):
                is_unknown = is_unknown or answer.status >= 500  # noqa: PLR2004 - a fault, at any point of its work
                await retries.after_answer(answer)
            elif await self._is_ours(put, quoted=quoted, is_unknown=is_unknown):
                return None
            else:
                quoted = False

    async def _is_ours(self, put: _Put, *, quoted: bool, is_unknown: bool) -> bool:
        """Find out why a condition failed: True where an earlier try of ours had won, False where quotes are at fault.

        Raises:
            PreconditionFailedError: somebody else was first.
            StorageUnavailableError: nobody can say; see the module's rules.
        """
        may_be_quirk = quoted and put.if_match is not None
        if not is_unknown and not may_be_quirk:
            raise PreconditionFailedError(f"{put.name}: somebody else was first")
        found = await self._head(put)
        if is_unknown and found.status == HTTPStatus.OK:
            token = found.headers.get(_TOKEN)
            if token == put.token or (token is None and await self._is_stored(put, found)):
                return True
        etag = _etag(found)
        if may_be_quirk and etag == put.if_match:
            return False
        if is_unknown and put.if_match is not None:
            raise StorageUnavailableError(
                f"{put.name}: an earlier try had no answer, and the object is another now; ours may have been replaced"
            )
        expected = put.if_match or "no object"
        raise PreconditionFailedError(f"{put.name} should have etag {expected}, has {etag or 'no object'}")

    async def _verify(self, put: _Put, answer: Answer) -> None:
        """Make sure that the service holds what was given, where it did not echo the checksum."""
        if await self._is_stored(put, answer):
            return
        if _etag(await self._head(put)) != _etag(answer):
            raise StorageUnavailableError(f"{put.name} was replaced by somebody else before it could be verified")
        if put.if_match is None:
            await self._client.ask(S3Request("DELETE", put.key), accept=frozenset({200, 202, 204, 404}))
        raise StorageError(
            f"{put.name}: the service stored other bytes than were sent: expected SHA-256 {encode_sha256(put.sha256)}, "
            f"it says {answer.headers.get(_CHECKSUM, 'nothing')}" + ("; removed again" if put.if_match is None else "")
        )

    async def _is_stored(self, put: _Put, found: Answer) -> bool:
        """Tell whether the object is what was given: by its ETag where that is an MD5, else by reading it back."""
        if _etag(found) == await _hash_body(put.body, "md5"):
            return True
        digest = hashlib.sha256()
        async with self._client.stream(S3Request("GET", put.key), accept=frozenset({200, 404})) as response:
            if response.status != HTTPStatus.OK:
                return False
            try:
                while piece := await response.receive_some():
                    digest.update(piece)
            except UpstreamError as error:
                raise StorageUnavailableError(f"{put.name} cannot be read back: {error}") from error
        return digest.hexdigest() == put.sha256

    async def _head(self, put: _Put) -> Answer:
        return await self._client.ask(S3Request("HEAD", put.key), accept=frozenset({200, 404}))


def _etag(answer: Answer) -> str:
    return answer.headers.get("etag", "").strip('"') if answer.status in _WRITTEN else ""


async def _measure(body: Body) -> tuple[int, str]:
    if isinstance(body, bytes):
        return len(body), await _hash_body(body, "sha256")
    try:
        status = await trio.to_thread.run_sync(body.stat)
    except OSError as error:
        raise StorageError(f"cannot read the body {body}: {error.strerror}") from error
    return status.st_size, await _hash_body(body, "sha256")


async def _hash_body(body: Body, algorithm: str) -> str:
    if isinstance(body, bytes) and len(body) <= _INLINE_HASH_BYTES:
        await trio.lowlevel.checkpoint()
        return hashlib.new(algorithm, body, usedforsecurity=False).hexdigest()
    return await trio.to_thread.run_sync(_hash_blocking, body, algorithm)


def _hash_blocking(body: Body, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    if isinstance(body, bytes):
        digest.update(body)
        return digest.hexdigest()
    try:
        with body.open("rb", buffering=0) as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                trio.from_thread.check_cancelled()
    except OSError as error:
        raise StorageError(f"cannot read the body {body}: {error.strerror}") from error
    return digest.hexdigest()
