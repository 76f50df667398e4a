"""The only door to HTTP as a client: connections, deadlines, redirects and manners.

What lies behind it: `client` (one exchange), `transport` over `connection` over `head` (the bytes), `deadline`,
`failures` (the table of errors), and `politeness`, `redirects`, `polite` (how to behave towards a host).
No other package imports httpx or httptools, and nothing of theirs gets out.
"""

from __future__ import annotations

from mirrorwitness.fetch.client import Fetcher, FetchOptions, Response, make_user_agent, open_fetcher
from mirrorwitness.fetch.deadline import Patience
from mirrorwitness.fetch.transport import TransportStatistics

__all__ = [
    "FetchOptions",
    "Fetcher",
    "Patience",
    "Response",
    "TransportStatistics",
    "make_user_agent",
    "open_fetcher",
]
