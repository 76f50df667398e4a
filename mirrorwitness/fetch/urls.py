"""URLs in messages. Pure."""

from __future__ import annotations

from typing import Final

__all__ = ["MAX_URL_SHOWN", "shorten_url"]

MAX_URL_SHOWN: Final = 300
"""Most characters of a URL in a message."""


def shorten_url(url: str) -> str:
    """Return a URL for messages: without user and password or query (either may hold secrets), and not endless."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return shown if len(shown) <= MAX_URL_SHOWN else shown[:MAX_URL_SHOWN] + "…"
