"""The only door to HTTP as a client: connections, deadlines, redirects and manners.

What lies behind it: `client` (one exchange), `transport` over `connection` over `head` (the bytes), `deadline`,
`failures` (the table of errors); and `session` with `politeness`, `gate`, `redirects`, `addresses` and `urls` (how to
behave towards a host). No other package imports httpx or httptools, and nothing of theirs gets out.
"""

from __future__ import annotations

from mirrorwitness.fetch.client import Fetcher, FetchOptions, Response, make_user_agent, open_fetcher
from mirrorwitness.fetch.deadline import Patience
from mirrorwitness.fetch.gate import HostGate, HostStatistics, RequestBudget
from mirrorwitness.fetch.politeness import (
    MAX_PAUSE,
    Backoff,
    SickAnswerError,
    backoff,
    is_retried,
    make_status_error,
    parse_retry_after,
    pause_for,
)
from mirrorwitness.fetch.redirects import Origin, RedirectPolicy, make_policy, origin_of
from mirrorwitness.fetch.session import Session
from mirrorwitness.fetch.transport import TransportStatistics

__all__ = [
    "MAX_PAUSE",
    "Backoff",
    "FetchOptions",
    "Fetcher",
    "HostGate",
    "HostStatistics",
    "Origin",
    "Patience",
    "RedirectPolicy",
    "RequestBudget",
    "Response",
    "Session",
    "SickAnswerError",
    "TransportStatistics",
    "backoff",
    "is_retried",
    "make_policy",
    "make_status_error",
    "make_user_agent",
    "open_fetcher",
    "origin_of",
    "parse_retry_after",
    "pause_for",
]
