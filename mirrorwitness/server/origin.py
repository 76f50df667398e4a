"""The base URL that clients know us by, which stands in every ``dist.tarball``.

Rules:

- A configured public URL wins over everything a request says.
- Otherwise it is the connection's scheme and the ``Host`` header, and both come from the client: a host is only a
  name, an IPv4 address or a bracketed IPv6 address with an optional port, in lower case. Anything else is refused with
  400, so that no header can put a path, a user, a query or a second line into a document (host header injection).
- ``X-Forwarded-Proto``, ``-Host`` and ``-Prefix`` count only where the operator says that a proxy in front sets them;
  of a list the last value counts, the one the nearest proxy wrote.

What it does not do: limit which hosts may be named. Documents differ by base URL, so shared caches must keep the host
in their key; all do.

This module is pure.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv6Address
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["FORWARDED_HEADERS", "MAX_PREFIX_LENGTH", "find_base", "parse_host", "parse_public_url"]

FORWARDED_HEADERS: Final = ("x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")

MAX_PREFIX_LENGTH: Final = 256
"""Longest path prefix in characters; it stands in every tarball URL of a document."""

_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9_-]|\.(?!\.)){0,252}", re.ASCII)
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}", re.ASCII)
_PREFIX: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._~@+-]+)+", re.ASCII)
_MAX_PORT: Final = 65_535


def find_base(*, headers: Mapping[str, str], scheme: str, public_url: str | None, trust_forwarded: bool) -> str | None:
    """Find the base URL of a request, without a trailing slash.

    Args:
        headers: the request's headers by lower-case name.
        scheme: the connection's own scheme.
        public_url: what `parse_public_url` returned, where one is configured.
        trust_forwarded: whether a proxy in front sets the ``X-Forwarded`` headers.

    Returns:
        The base URL, or None where the request names no valid host.
    """
    if public_url is not None:
        return public_url
    prefix = ""
    host = headers.get("host", "")
    if trust_forwarded:
        scheme = _last(headers.get("x-forwarded-proto")) or scheme
        host = _last(headers.get("x-forwarded-host")) or host
        prefix = _last(headers.get("x-forwarded-prefix")).rstrip("/")
    checked = parse_host(host)
    if checked is None or scheme not in {"http", "https"} or not _is_prefix(prefix):
        return None
    return f"{scheme}://{checked}{prefix}"


def parse_host(text: str) -> str | None:
    """Return a ``Host`` value in lower case, or None where it is not a plain host with an optional port."""
    text = text.lower()
    bracket, closing, rest = text.partition("]")
    if closing:
        host, colon, port = bracket + closing, rest[:1], rest[1:]
        is_host = bracket.startswith("[") and _is_ipv6(bracket[1:])
    else:
        host, colon, port = text.partition(":")
        is_host = bool(_NAME.fullmatch(host))
    is_port = colon == ":" and _PORT.fullmatch(port) and int(port) <= _MAX_PORT
    return text if is_host and (is_port or not (colon or port)) else None


def parse_public_url(text: str) -> str:
    """Check the configured public URL of a mirror.

    Args:
        text: for example ``https://npm.example.org`` or ``https://example.org/npm/``.

    Returns:
        The URL without a trailing slash.

    Raises:
        ConfigurationError: it is not an http or https URL of a host and an optional path.
    """
    try:
        parts = urlsplit(text)
    except ValueError as error:
        raise ConfigurationError(f"public URL {text[:200]!r} cannot be read: {error}") from error
    path = parts.path.rstrip("/")
    host = parse_host(parts.netloc)
    plain = f"{parts.scheme}://{parts.netloc}{path}"
    if parts.scheme not in {"http", "https"} or host is None or not _is_prefix(path) or text.rstrip("/") != plain:
        raise ConfigurationError(
            f"public URL {text[:200]!r} is not of the form http(s)://HOST[:PORT][/PATH] without user, query or fragment"
        )
    return f"{parts.scheme}://{host}{path}"


def _is_prefix(text: str) -> bool:
    return not text or (len(text) <= MAX_PREFIX_LENGTH and bool(_PREFIX.fullmatch(text)))


def _is_ipv6(text: str) -> bool:
    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    # A zone (fe80::1%eth0) means nothing to anybody else.
    return "%" not in text


def _last(value: str | None) -> str:
    return (value or "").rpartition(",")[2].strip()
