"""Session: requests to one upstream with manners: gate, redirects, credentials, repetition.

Rules:

- Each hop of a redirect takes its own place at its host's gate; 429 and 503 pause that host for everybody.
- The token goes to the origin it belongs to, on every hop that is that origin, and to no other.
- `repeat` runs an operation again while `is_retried` says so; only `UpstreamError` is looked at, everything else
  (cancellation, `SecurityError`, errors of the storage behind a sink, a budget that is used up) passes at once.

What it does not do: look at bodies.
"""

from __future__ import annotations

import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

import trio

from mirrorwitness.errors import ConfigurationError, UpstreamError
from mirrorwitness.fetch.politeness import MAX_PAUSE, PAUSING, Backoff, backoff, is_retried, pause_for
from mirrorwitness.fetch.redirects import REDIRECTS, check_url, follow, origin_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from mirrorwitness.fetch.client import Fetcher, Response
    from mirrorwitness.fetch.gate import HostGate
    from mirrorwitness.fetch.redirects import RedirectPolicy

__all__ = ["Session"]

_T = TypeVar("_T")


class Session:
    """Requests to one upstream.

    Args:
        fetcher: the door to HTTP; shared.
        gate: the manners towards hosts; shared by all sessions of the process.
        policy: where requests may go.
        home: a URL of the origin that gets the token.
        token: a bearer token, or None.
        tries: how often and after which delays to repeat.
        max_pause: longest pause that the host may order, in seconds.
        jitter: gives numbers from 0 up to 1.
        now: gives the time of day.
    """

    def __init__(
        self,
        *,
        fetcher: Fetcher,
        gate: HostGate,
        policy: RedirectPolicy,
        home: str,
        token: str | None = None,
        tries: Backoff | None = None,
        max_pause: float = MAX_PAUSE,
        jitter: Callable[[], float] = random.random,  # noqa: S311 - spreads load, protects nothing
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if token is not None and (not token or not token.isascii() or not token.isprintable() or " " in token):
            raise ConfigurationError("the registry token has characters that a header cannot carry")
        self._fetcher = fetcher
        self._gate = gate
        self._policy = policy
        self._home = origin_of(home)
        self._token = token
        self._tries = tries or Backoff()
        self._max_pause = max_pause
        self._jitter = jitter
        self._now = now

    def __repr__(self) -> str:
        token = "with a token" if self._token else "without a token"
        return f"<Session of {self._home}, {token}, {self._gate!r}>"

    @asynccontextmanager
    async def request(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AsyncGenerator[Response, None]:
        """Send a request without body, follow redirects, and give the block the final response, whatever its status.

        Raises:
            UpstreamRefusedError: the URL, or one it redirects to, is not where we go.
            UpstreamError: as `Fetcher.request`.
        """
        public_only = check_url(url, self._policy)
        chain = [url]
        while True:
            async with self._hop(method, chain[-1], headers or {}, public_only=public_only) as response:
                if response.status not in REDIRECTS:
                    yield response
                    return
                location = response.headers.get("location")
            target, public_only = follow(chain, location, self._policy)
            chain.append(target)

    async def repeat(self, operation: Callable[[], Awaitable[_T]]) -> _T:
        """Run an operation until it succeeds, its failure is final, or the tries are used up.

        Raises:
            UpstreamError: the last failure.
        """
        attempt = 1
        while True:
            try:
                return await operation()
            except UpstreamError as error:
                if attempt >= self._tries.attempts or not is_retried(error):
                    raise
            delay = backoff(attempt, base=self._tries.base, cap=self._tries.cap, jitter=self._jitter())
            await trio.sleep(delay)
            attempt += 1

    @asynccontextmanager
    async def _hop(
        self, method: str, url: str, headers: Mapping[str, str], *, public_only: bool
    ) -> AsyncGenerator[Response, None]:
        origin = origin_of(url)
        if self._token is not None and origin == self._home:
            headers = {**headers, "authorization": f"Bearer {self._token}"}
        async with (
            self._gate.slot(origin) as slot,
            self._fetcher.request(method, url, headers=headers, public_only=public_only) as response,
        ):
            slot.status = response.status
            if response.status in PAUSING:
                seconds = pause_for(
                    response.headers.get("retry-after"),
                    now=self._now(),
                    jitter=self._jitter(),
                    failures=self._gate.failures(origin) + 1,
                    cap=self._max_pause,
                )
                self._gate.pause(origin, seconds)
            else:
                self._gate.record_success(origin)
            yield response
