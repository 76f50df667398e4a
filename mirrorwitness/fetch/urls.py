"""URLs: taken apart for a request, and shown in messages. Pure.

A URL of plain characters, as a registry's and a bucket's are, is taken apart by one regular expression; httpx's parser,
which looks at every character of every part, cost a fifth of a small GET. Everything else goes through httpx, and a
property test holds the two to the same answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import httpx

__all__ = [
    "DEFAULT_PORTS",
    "MAX_PORT",
    "MAX_URL_SHOWN",
    "Url",
    "convert_url",
    "match_plain",
    "parse_url",
    "shorten_url",
]

DEFAULT_PORTS: Final = {"http": 80, "https": 443}

MAX_PORT: Final = 65_535

MAX_URL_SHOWN: Final = 300
"""Most characters of a URL in a message."""

_PART: Final = r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*"
_PLAIN: Final = re.compile(
    rf"(https?)://([a-z0-9](?:[a-z0-9.-]*[a-z0-9])?)(?::([1-9][0-9]{{0,4}}))?(?:(/{_PART})(\?{_PART})?)?"
)


@dataclass(frozen=True, slots=True)
class Url:
    """Where a request goes.

    Attributes:
        scheme: ``http`` or ``https``.
        host: as it is resolved: ASCII, lower case, an IPv6 address without brackets.
        port: always given.
        authority: what the Host field says: the port only where it is not the scheme's own.
        target: path and query, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    authority: bytes
    target: bytes


def match_plain(url: str) -> tuple[str, str, int, str] | None:
    """Return scheme, host, port and target of a URL that every parser reads alike, None for any other."""
    found = _PLAIN.fullmatch(url)
    if found is None:
        return None
    scheme, host, digits, path, query = found.groups()
    port = int(digits) if digits else DEFAULT_PORTS[scheme]
    if port > MAX_PORT or (path and "/." in path):
        return None  # no port, and segments that a parser would resolve
    return scheme, host, port, (path or "/") + (query or "")


def parse_url(url: str) -> Url:
    """Take a URL apart.

    Raises:
        httpx.InvalidURL: it is none.
        httpx.UnsupportedProtocol: it is not one that is fetched.
    """
    plain = match_plain(url)
    if plain is not None:
        scheme, host, port, target = plain
        authority = host if port == DEFAULT_PORTS[scheme] else f"{host}:{port}"
        return Url(scheme, host, port, authority.encode(), target.encode())
    return convert_url(httpx.URL(url))


def convert_url(url: httpx.URL) -> Url:
    """Return where an httpx URL leads.

    Raises:
        httpx.UnsupportedProtocol: it is not one that is fetched.
    """
    if url.scheme not in DEFAULT_PORTS or not url.host:
        raise httpx.UnsupportedProtocol(f"cannot fetch {str(url)[:200]!r}: not an http or https URL")
    port = DEFAULT_PORTS[url.scheme] if url.port is None else url.port
    if not 0 < port <= MAX_PORT:
        raise httpx.UnsupportedProtocol(f"port {port}: expected 1 to {MAX_PORT}")
    return Url(url.scheme, url.raw_host.decode("ascii"), port, url.netloc, url.raw_path)


def shorten_url(url: str) -> str:
    """Return a URL for messages: without user and password or query (either may hold secrets), and not endless."""
    scheme, separator, rest = url.partition("?")[0].partition("://")
    authority, slash, path = rest.partition("/")
    shown = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return shown if len(shown) <= MAX_URL_SHOWN else shown[:MAX_URL_SHOWN] + "…"
