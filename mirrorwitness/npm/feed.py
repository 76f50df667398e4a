"""Feed: the client of a replication feed: its head, its changes, its list of all names.

Rules:

- Only ``since`` and ``limit`` are sent with changes, ``startkey``, ``endkey`` and ``limit`` with names: everything else
  is answered with 400 since 2025 (research/B 1.2).
- 400 is a `FeedDialectError` at once and is never tried again: waiting does not make a changed protocol understood.
- An answer that is no JSON, or JSON of another shape, is tried again, and then raises.
- One request at a time is all a follower needs; manners towards the host are the gate's.

What it does not do: remember a position, or judge what it was told (`mirrorwitness.mirror.follower`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import quote

import orjson

from mirrorwitness.errors import ConfigurationError, FeedDialectError, UpstreamProtocolError
from mirrorwitness.fetch import (
    MAX_PAUSE,
    Backoff,
    HostGate,
    Session,
    SickAnswerError,
    make_policy,
    origin_of,
)
from mirrorwitness.npm.answers import read_object, show_url
from mirrorwitness.npm.changes import parse_changes, parse_head, parse_names_page

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.fetch import Fetcher
    from mirrorwitness.npm.changes import ChangesPage, Head, NamesPage, Seq

__all__ = ["MAX_PAGE_ROWS", "Feed", "FeedOptions"]

MIB: Final = 1024 * 1024

MAX_PAGE_ROWS: Final = 10_000
"""Most rows of a page; the public service answers 400 to more (research/B 1.2)."""

MAX_PAGE_BYTES: Final = 64 * MIB
"""A page of 10,000 rows has about 1 MB; names can be 214 characters long."""

_BAD_REQUEST: Final = 400

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedOptions:
    """How to talk to a feed.

    Attributes:
        token: bearer token, sent to the feed's origin only.
        tries: repetition.
        max_pause: seconds; longest pause that ``Retry-After`` may order.
        max_page_bytes: largest page.
    """

    token: str | None = field(default=None, repr=False)
    tries: Backoff = field(default_factory=Backoff)
    max_pause: float = MAX_PAUSE
    max_page_bytes: int = MAX_PAGE_BYTES


class Feed:
    """The client of one feed.

    Args:
        base: the feed's URL: what answers with ``update_seq``, and below which ``_changes`` lies.
        fetcher: the door to HTTP.
        options: how to talk to it.
        gate: shared with the registries, so that common hosts are paused and bounded together (P9).

    Raises:
        ConfigurationError: the base is no http or https URL.
    """

    def __init__(
        self, *, base: str, fetcher: Fetcher, options: FeedOptions | None = None, gate: HostGate | None = None
    ) -> None:
        self.base = base.rstrip("/")
        self.options = options or FeedOptions()
        try:
            origin_of(self.base)
        except UpstreamProtocolError as error:
            raise ConfigurationError(f"feed {base!r}: {error}") from error
        self._session = Session(
            fetcher=fetcher,
            gate=gate or HostGate(),
            policy=make_policy(self.base),
            home=self.base,
            token=self.options.token,
            tries=self.options.tries,
            max_pause=self.options.max_pause,
        )

    def __repr__(self) -> str:
        return f"<Feed {self.base}, {self._session!r}>"

    async def head(self) -> Head:
        """Ask for the position of the newest change.

        Raises:
            FeedDialectError: the feed answers 400.
            UpstreamError: no usable answer to the last try.
        """
        return await self._ask(f"{self.base}/", parse_head)

    async def changes(self, since: Seq, *, limit: int) -> ChangesPage:
        """Ask for the page of changes behind a position.

        Raises:
            FeedDialectError: the feed answers 400.
            UpstreamError: no usable answer to the last try.
        """
        url = f"{self.base}/_changes?since={quote(since, safe='')}&limit={min(limit, MAX_PAGE_ROWS)}"
        return await self._ask(url, lambda body: parse_changes(body, since=since))

    async def names(self, start: str | None = None, *, limit: int, end: str | None = None) -> NamesPage:
        """Ask for a page of all names with their revisions.

        Args:
            start: the name to begin at: `NamesPage.next` of the page before; that name itself is left out. Also a text
                that is no name, to begin at the first name behind it.
            limit: rows of the page.
            end: a text behind which the list ends, for one scope's names.

        Raises:
            FeedDialectError: the feed answers 400.
            UpstreamError: no usable answer to the last try.
        """
        limit = min(limit, MAX_PAGE_ROWS)
        url = f"{self.base}/_all_docs?limit={limit}"
        for parameter, value in (("startkey", start), ("endkey", end)):
            if value is not None:
                url += f"&{parameter}={quote(orjson.dumps(value), safe='')}"
        return await self._ask(url, lambda body: parse_names_page(body, start=start, limit=limit))

    async def _ask(self, url: str, parse: Callable[[bytes], _Answer]) -> _Answer:
        headers = {"accept": "application/json", "accept-encoding": "gzip"}
        shown = show_url(url)

        async def once() -> _Answer:
            async with self._session.request("GET", url, headers=headers) as response:
                if response.status == _BAD_REQUEST:
                    raise FeedDialectError(
                        f"{shown}: the feed answers 400; it does not speak the protocol that this program follows. "
                        "Check `feed` in mirrorwitness.toml; if it is right, this program needs an update"
                    )
                body = await read_object(response, url, self.options.max_page_bytes)
            try:
                return parse(body)
            except UpstreamProtocolError as error:
                raise SickAnswerError(f"{shown}: {error}") from error

        return await self._session.repeat(once)
