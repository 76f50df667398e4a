"""One bucket over HTTP: signed requests, answers read whole or streamed, and what is done about trouble.

Rules:

- All that leaves here is a `StorageError`; nothing of `mirrorwitness.fetch` does.
- Every request of `S3Client.ask` may be sent again: it only reads, or removes. Conditional writes have their own loop
  (`mirrorwitness.storage.s3_put`), built on `S3Client.ask_once`.
- A service that says 429 or 503 is left alone by all tasks for as long as it asks, or for our own pause.
- Expired credentials are loaded again once for each request, then they are the operator's matter.

*Cancellation*: at any await; a request that was on its way may have taken effect.
"""

from __future__ import annotations

import base64
import hashlib
import random
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import trio

from mirrorwitness.errors import StorageError, StorageUnavailableError, UpstreamError
from mirrorwitness.storage.s3_errors import TRIES, Verdict, backoff, judge, make_error
from mirrorwitness.storage.s3_xml import S3Failure, parse_failure

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from mirrorwitness.fetch import Fetcher, Response
    from mirrorwitness.storage import Body
    from mirrorwitness.storage.s3_sign import Signer

__all__ = ["Answer", "Retries", "S3Client", "S3Request", "encode_sha256"]

FAILURE_BYTES: Final = 64 * 1024
"""Longest body of an answer that is no success; S3's own are under 2 KB."""

_EMPTY_HASH: Final = hashlib.sha256(b"").hexdigest()

_PAUSING: Final = frozenset({429, 503})
"""Statuses that ask all of us to slow down."""

_SECONDS: Final = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class S3Request:
    """One request to the bucket.

    Attributes:
        method: GET, HEAD, PUT or DELETE.
        key: the key within the bucket; empty for the bucket itself.
        query: pairs, sorted by name; percent-encoded by us.
        headers: fields to send and sign.
        body: what is put.
        payload_hash: SHA-256 of the body in hexadecimal.
    """

    method: str
    key: str = ""
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    body: Body | None = None
    payload_hash: str = _EMPTY_HASH


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def failure(self) -> S3Failure:
        """What the body says, of an answer that is no success."""
        return parse_failure(self.body)


def encode_sha256(payload_hash: str) -> str:
    """Return a hexadecimal SHA-256 as the header ``x-amz-checksum-sha256`` has it."""
    return base64.b64encode(bytes.fromhex(payload_hash)).decode()


class Retries:
    """The tries of one request: counts, pauses, and gives up."""

    def __init__(self, client: S3Client, request: S3Request) -> None:
        self._client = client
        self._request = request
        self._failures = 0
        self._generation = client.signer.generation
        self._has_refreshed = False

    async def after_error(self, error: StorageUnavailableError) -> None:
        """Wait before the next try.

        Raises:
            StorageUnavailableError: the given one, where there is no next try.
        """
        await self._pause(error, None)

    async def after_answer(self, answer: Answer) -> None:
        """Do what makes the next try worth it, or raise what the answer means."""
        failure = answer.failure
        verdict = judge(answer.status, failure)
        # An answer to HEAD has no body that could say "expired".
        is_mute = self._request.method == "HEAD" and answer.status in {400, 403} and self._client.signer.is_temporary
        error = make_error(answer.status, failure, what=self._client.describe(self._request))
        if (verdict is Verdict.REFRESH or is_mute) and not self._has_refreshed:
            self._has_refreshed = True
            await self._client.signer.reload(self._generation)
        elif verdict is Verdict.RETRY:
            wish = answer.headers.get("retry-after", "")
            await self._pause(error, float(wish) if _SECONDS.fullmatch(wish) else None, status=answer.status)
        else:
            raise error

    async def _pause(self, error: StorageError, wish: float | None, *, status: int = 0) -> None:
        pause = backoff(self._failures, jitter=self._client.jitter(), wish=wish)
        self._failures += 1
        if self._failures >= TRIES:
            raise error
        if status in _PAUSING:
            self._client.leave_alone(pause)
        await trio.sleep(pause)


class S3Client:
    """Sends signed requests to one bucket. All methods may be called from any number of tasks.

    Attributes:
        signer: who we are.
        jitter: gives random numbers from 0 to 1 for the pauses.
    """

    def __init__(self, *, fetcher: Fetcher, signer: Signer, bucket: str, bucket_url: str) -> None:
        self.signer = signer
        self.jitter = random.SystemRandom().random
        self._fetcher = fetcher
        self._bucket = bucket
        self._bucket_url = bucket_url
        self._not_before = 0.0

    def __repr__(self) -> str:
        return f"<S3Client {self._bucket_url} {self._fetcher!r}>"

    def describe(self, request: S3Request) -> str:
        """Name a request for a message."""
        return f"{request.method} of {request.key or 'the bucket'} in bucket {self._bucket}"

    def leave_alone(self, seconds: float) -> None:
        """Let no task send anything for so long."""
        self._not_before = max(self._not_before, trio.current_time() + seconds)

    async def ask(self, request: S3Request, *, accept: frozenset[int], limit: int = FAILURE_BYTES) -> Answer:
        """Send an idempotent request until there is an answer that counts.

        Args:
            request: what to send.
            accept: the statuses that are answers; all others are errors.
            limit: most bytes of body of an accepted answer.

        Raises:
            StorageError: by the table of `mirrorwitness.storage.s3_errors`.
        """
        retries = Retries(self, request)
        while True:
            try:
                answer = await self.ask_once(request, limit=limit)
            except StorageUnavailableError as error:
                await retries.after_error(error)
                continue
            if answer.status in accept:
                return answer
            await retries.after_answer(answer)

    async def ask_once(self, request: S3Request, *, limit: int = FAILURE_BYTES) -> Answer:
        """Send a request once and read its answer.

        Raises:
            StorageUnavailableError: there was no usable answer; whether the request took effect is unknown.
        """
        async with self._exchange(request) as response:
            try:
                is_failure = response.status >= 300  # noqa: PLR2004 - no success
                body = await response.read(FAILURE_BYTES if is_failure else limit)
            except UpstreamError as error:
                raise StorageUnavailableError(f"{self.describe(request)}: {error}") from error
            return Answer(response.status, response.headers, body)

    @asynccontextmanager
    async def stream(self, request: S3Request, *, accept: frozenset[int]) -> AsyncGenerator[Response, None]:
        """Send a GET until there is an answer that counts; the block reads its body.

        Raises:
            StorageError: as `ask`, on entering.
            StorageUnavailableError: a deadline passed while the body was read.
        """
        retries = Retries(self, request)
        is_open = False
        while not is_open:
            try:
                async with self._exchange(request) as response:
                    if response.status in accept:
                        is_open = True
                        yield response
                        return
                    answer = Answer(response.status, response.headers, await _read_failure(response))
            except StorageUnavailableError as error:
                if is_open:
                    raise
                await retries.after_error(error)
            else:
                await retries.after_answer(answer)

    @asynccontextmanager
    async def _exchange(self, request: S3Request) -> AsyncGenerator[Response, None]:
        """Send a request. Errors of the transport are mapped, those of the block are not ours to touch."""
        url = self._url(request)
        if self._not_before > trio.current_time():
            await trio.sleep_until(self._not_before)
        if self.signer.is_stale:
            await self.signer.freshen()
        headers = self.signer.sign(request.method, url, request.headers, payload_hash=request.payload_hash)
        thrown: BaseException | None = None
        try:
            async with self._fetcher.request(request.method, url, headers=headers, body=request.body) as response:
                try:
                    yield response
                except BaseException as error:
                    thrown = error
                    raise
        except UpstreamError as error:
            if error is thrown:
                raise
            raise StorageUnavailableError(f"{self.describe(request)}: {error}") from error

    def _url(self, request: S3Request) -> str:
        url = self._bucket_url + quote(request.key, safe="/~") if request.key else self._bucket_url.removesuffix("/")
        if not request.query:
            return url
        pairs = (f"{name}={quote(value, safe='~')}" for name, value in request.query)
        return f"{url}?{'&'.join(pairs)}"


async def _read_failure(response: Response) -> bytes:
    try:
        return await response.read(FAILURE_BYTES)
    except UpstreamError as error:
        raise StorageUnavailableError(f"the answer {response.status} was cut: {error}") from error
