"""Served: what one log serves below one URL, read over HTTP with manners and limits.

Rules:

- Nothing larger than the caller's limit is read, and nothing is unpacked.
- A log is read at its own origin (scheme, host, port), redirects included: a log cannot send us elsewhere.
- What cannot be used is asked for again, a few times; an answer that means no is final at once.
- Bytes and requests are counted, for all tasks together.

What it does not do: look into bodies, or wait for longer than the fetcher's own deadlines: an overall one is the
caller's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.fetch import MAX_PAUSE, Backoff, Session, SickAnswerError, make_policy, make_status_error, origin_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from mirrorwitness.fetch import Fetcher, HostGate, Response

__all__ = ["TRIES", "Served", "Traffic", "check_base"]

SECONDS: Final = 1.0

TRIES: Final = Backoff(attempts=3, base=0.5 * SECONDS, cap=5 * SECONDS)
"""Three tries fit into a minute; the next poll is a try too."""

_OK: Final = frozenset({200})
_NOT_FOUND: Final = 404
_SHOWN: Final = 300
_REASON_BYTES: Final = 4096
"""Most bytes of an answer that says why there is nothing."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """What was read so far.

    Attributes:
        requests: answers that were read to their end.
        size: bytes of their bodies.
    """

    requests: int = 0
    size: int = 0

    def __add__(self, other: Traffic) -> Traffic:
        return Traffic(self.requests + other.requests, self.size + other.size)


class Served:
    """One log's address. May be used by several tasks at once.

    Args:
        url: where it serves, with or without a slash at the end.
        owner: what it is called in messages.
        fetcher: the door to HTTP.
        gate: manners, shared with others.
        tries: repetition.
        max_pause: longest pause in seconds that it can ask for with 429 or 503.

    Attributes:
        base: the URL without a slash at the end.
        traffic: what was read so far.

    Raises:
        ConfigurationError: no path can be added to the URL.
    """

    def __init__(
        self,
        *,
        url: str,
        owner: str,
        fetcher: Fetcher,
        gate: HostGate,
        tries: Backoff = TRIES,
        max_pause: float = MAX_PAUSE,
    ) -> None:
        self.base = check_base(url, owner)
        self.traffic = Traffic()
        self._session = Session(
            fetcher=fetcher,
            gate=gate,
            policy=make_policy(self.base),
            home=self.base,
            tries=tries,
            max_pause=max_pause,
        )

    def __repr__(self) -> str:
        return f"<Served {self.base}, {self.traffic.requests} answers>"

    async def get(self, path: str, limit: int) -> bytes:
        """Return a body of at most `limit` bytes.

        Raises:
            UpstreamError: it cannot be had, or is larger.
        """
        return await self._get(path, limit, _OK, is_told=False)

    async def ask(self, path: str, limit: int, statuses: Collection[int]) -> bytes:
        """Return the body of an answer that has one of these statuses, of at most `limit` bytes.

        Raises:
            UpstreamNotFoundError: there is nothing; the message is what the log says of it, where it says something.
            UpstreamError: it cannot be had, or is larger.
        """
        return await self._get(path, limit, statuses, is_told=True)

    async def _get(self, path: str, limit: int, statuses: Collection[int], *, is_told: bool) -> bytes:
        url = f"{self.base}/{path}"

        async def once() -> bytes:
            async with self._session.request("GET", url, headers={"accept-encoding": "identity"}) as response:
                if response.status not in statuses:
                    said = await _reason(response) if is_told and response.status == _NOT_FOUND else ""
                    raise make_status_error(response.status, said or f"{url[:_SHOWN]}: status {response.status}")
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise SickAnswerError(f"{url[:_SHOWN]}: Content-Encoding that was not asked for")
                body = await response.read(limit)
                self.traffic += Traffic(1, len(body))
                return body

        return await self._session.repeat(once)


def check_base(url: str, owner: str) -> str:
    """Return a URL to which a path can be added."""
    base = url.rstrip("/")
    try:
        origin_of(base)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"{owner}: {error}") from error
    if "?" in base or "#" in base:
        raise ConfigurationError(f"{owner}: URL {base[:_SHOWN]!r}: expected no query and no fragment")
    return base


async def _reason(response: Response) -> str:
    """Return what an answer says in its first line; nothing where it is not plain text."""
    if not response.headers.get("content-type", "").startswith("text/plain"):
        return ""
    try:
        body = await response.read(_REASON_BYTES)
    except UpstreamProtocolError:
        return ""
    text = body.decode("utf-8", "replace").strip().partition("\n")[0][:_SHOWN]
    return text if text.isprintable() else ""
