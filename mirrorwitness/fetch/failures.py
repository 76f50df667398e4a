"""Failures: the one table from what can go wrong below to this project's errors.

Nothing of httpx, trio or ssl leaves `mirrorwitness.fetch`; the original is the ``__cause__``.
"""

from __future__ import annotations

import ssl
from typing import Final

import httpx
import trio

from mirrorwitness.errors import (
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch.politeness import SickAnswerError
from mirrorwitness.fetch.transport import PrivateAddressError
from mirrorwitness.fetch.urls import shorten_url

__all__ = ["FAILURES", "make_failure"]

_CUT_SHORT: Final = ("peer closed connection", "Server disconnected")
"""How httpx's stock transport (used for proxies) words a body or head that was cut short."""

FAILURES: Final[tuple[tuple[type[Exception], type[UpstreamError]], ...]] = (
    (PrivateAddressError, UpstreamRefusedError),
    (httpx.UnsupportedProtocol, UpstreamProtocolError),
    (httpx.InvalidURL, UpstreamProtocolError),
    (httpx.LocalProtocolError, UpstreamProtocolError),
    (httpx.RemoteProtocolError, SickAnswerError),
    (httpx.TransportError, UpstreamUnreachableError),
    (httpx.StreamError, UpstreamUnreachableError),
    (ssl.SSLError, UpstreamUnreachableError),
    (OSError, UpstreamUnreachableError),
    (trio.BrokenResourceError, UpstreamUnreachableError),
    (trio.ClosedResourceError, UpstreamUnreachableError),
)
"""First match wins."""

CAUGHT: Final[tuple[type[Exception], ...]] = tuple(kind for kind, _ in FAILURES)


def make_failure(error: Exception, *, method: str, url: str) -> UpstreamError:
    """Return the error to raise ``from`` one of `CAUGHT`.

    Args:
        error: what happened.
        method: the request's method, for the message.
        url: the request's URL, for the message.
    """
    kind = next((ours for theirs, ours in FAILURES if isinstance(error, theirs)), UpstreamUnreachableError)
    if isinstance(error, httpx.RemoteProtocolError) and str(error).startswith(_CUT_SHORT):
        kind = UpstreamUnreachableError
    return kind(f"{method} {shorten_url(url)}: {str(error) or type(error).__name__}")
