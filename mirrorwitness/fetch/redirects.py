"""Redirects: which URLs we follow, and where. Pure; research/B 7 rows 18 and 19.

Rules:

- A URL is fetched only where its origin (scheme, host, port; all compared exactly) is the registry's own or on the
  operator's list, or where the policy says ``public`` and the scheme is https. In that last case literal addresses
  that are not public are refused here, and names that resolve to such addresses when the connection is made
  (`Fetcher.request(public_only=True)`).
- From https never to http, not even on an allowed origin.
- At most `MAX_HOPS` hops, and no URL twice.
- Credentials: a token goes to the origin it was configured for and nowhere else; a URL that carries a user name or
  password is refused.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, NewType
from urllib.parse import urljoin, urlsplit

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError, UpstreamRefusedError
from mirrorwitness.fetch.addresses import is_public_address
from mirrorwitness.fetch.urls import DEFAULT_PORTS, match_plain, shorten_url

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "MAX_HOPS",
    "REDIRECTS",
    "Origin",
    "RedirectPolicy",
    "check_url",
    "follow",
    "make_policy",
    "origin_of",
]

Origin = NewType("Origin", str)
"""Scheme, host and port in one text, always with the port: ``https://registry.example:443``."""

MAX_HOPS: Final = 5
"""Most redirects for one request; npm's own client stops at 20, registries use one."""

MAX_URL: Final = 8192
"""Longest URL followed; common servers refuse longer request lines."""

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


_HOST: Final = re.compile(r"[a-z0-9._-]+|[0-9a-f:.]+(?:%[a-z0-9._-]+)?")
"""A name or an IPv4 address; or an IPv6 address, as `urlsplit` gives it: lower case, without brackets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RedirectPolicy:
    """Where we may go.

    Attributes:
        origins: the origins that are allowed by name, whatever address they have.
        public: whether any https origin with a public address is allowed too.
    """

    origins: frozenset[Origin]
    public: bool = False


def make_policy(base: str, *, allowed: Iterable[str] = (), public: bool = False) -> RedirectPolicy:
    """Return the policy for a registry: its own origin, and those that the operator allows.

    Args:
        base: the registry's URL.
        allowed: URLs, or hosts (then https on port 443), optionally with ``:PORT``.
        public: also allow every public https origin.

    Raises:
        ConfigurationError: one of them is no origin.
    """
    texts = [base, *(item if "://" in item else f"https://{item}" for item in allowed)]
    try:
        origins = frozenset(origin_of(text) for text in texts)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"allowed host: {error}") from error
    return RedirectPolicy(origins=origins, public=public)


def origin_of(url: str) -> Origin:
    """Return the origin of an absolute http or https URL.

    Raises:
        UpstreamProtocolError: it is not one, or carries a user name, a password, spaces or control characters.
    """
    plain = match_plain(url) if len(url) <= MAX_URL else None
    if plain is not None:
        return Origin(f"{plain[0]}://{plain[1]}:{plain[2]}")
    shown = shorten_url(url)
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise UpstreamProtocolError(f"URL {shown!r}: too long, or characters that a URL cannot have")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UpstreamProtocolError(f"URL {shown!r}: {error}") from error
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise UpstreamProtocolError(f"URL {shown!r}: expected an absolute http or https URL")
    if port == 0:
        raise UpstreamProtocolError(f"URL {shown!r}: port 0 cannot be connected to")
    if not _HOST.fullmatch(parts.hostname):
        raise UpstreamProtocolError(f"URL {shown!r}: characters that a host name cannot have")
    if "@" in parts.netloc:
        raise UpstreamProtocolError(f"URL {shown!r}: a user name or password in a URL is not accepted")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return Origin(f"{parts.scheme}://{host}:{port if port is not None else DEFAULT_PORTS[parts.scheme]}")


def check_url(url: str, policy: RedirectPolicy) -> bool:
    """Decide whether a URL may be fetched; return whether only at a public address.

    Raises:
        UpstreamRefusedError: the policy does not allow its origin.
        UpstreamProtocolError: it is no URL that we fetch.
    """
    origin = origin_of(url)
    if origin in policy.origins:
        return False
    if not policy.public:
        allowed = ", ".join(sorted(policy.origins))
        raise UpstreamRefusedError(f"URL {shorten_url(url)}: origin {origin} is not allowed; allowed: {allowed}")
    if not origin.startswith("https:"):
        raise UpstreamRefusedError(f"URL {shorten_url(url)}: expected https for an origin that is not on the list")
    if _is_literal(origin) and not is_public_address(urlsplit(origin).hostname):
        raise UpstreamRefusedError(f"URL {shorten_url(url)}: the address is not a public one")
    return True


def follow(chain: Sequence[str], location: str | None, policy: RedirectPolicy) -> tuple[str, bool]:
    """Decide where a redirect leads.

    Args:
        chain: the URLs fetched so far, the redirecting one last.
        location: the ``Location`` field.
        policy: where we may go.

    Returns:
        The next URL, and whether it may be fetched only at a public address.

    Raises:
        UpstreamProtocolError: no or a malformed location, a loop, or too many hops.
        UpstreamRefusedError: it leads where we do not go.
    """
    current = chain[-1]
    shown = shorten_url(current)
    if not location:
        raise UpstreamProtocolError(f"{shown}: a redirect without Location")
    try:
        target = urljoin(current, location).partition("#")[0]
    except ValueError as error:
        raise UpstreamProtocolError(f"{shown}: redirect to something that is no URL: {error}") from error
    public_only = check_url(target, policy)
    if current.startswith("https:") and not target.startswith("https:"):
        raise UpstreamRefusedError(f"{shown}: redirects from https to http ({shorten_url(target)})")
    if target in chain:
        raise UpstreamProtocolError(f"{shown}: redirects in a loop, back to {shorten_url(target)}")
    if len(chain) > MAX_HOPS:
        raise UpstreamProtocolError(f"{shorten_url(chain[0])}: more than {MAX_HOPS} redirects")
    return target, public_only


def _is_literal(origin: Origin) -> bool:
    host = urlsplit(origin).hostname or ""
    # "127.1", "0x7f000001" and "2130706433" are addresses to the resolver; the check at the connection sees through.
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
