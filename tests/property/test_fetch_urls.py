"""The two ways to take a URL apart agree, so that no URL is judged as one thing and fetched as another."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.fetch.redirects import origin_of
from mirrorwitness.fetch.urls import convert_url, match_plain, parse_url

HOSTS = st.from_regex(r"[a-z0-9.-]{1,20}", fullmatch=True)
TARGETS = st.text(alphabet="abzAZ09._~!$&'()*+,;=:@/-%?#\"<>[]^|{}`\\ é", max_size=30)
PORTS = st.sampled_from(["", ":", ":0", ":80", ":443", ":8080", ":65535", ":65536", ":080"])
URLS = st.builds("{}://{}{}{}".format, st.sampled_from(["http", "https", "HTTP", "ftp"]), HOSTS, PORTS, TARGETS)


@given(URLS)
def test_a_plain_url_is_what_httpx_makes_of_it(url: str) -> None:
    """The short way is taken only where httpx's parser gives the same host, port, Host field and target."""
    if match_plain(url) is not None:
        assert parse_url(url) == convert_url(httpx.URL(url))


@given(URLS)
@example("http://0:0")
@example("http://0<")
def test_the_origin_judged_is_the_origin_fetched(url: str) -> None:
    """Attack: a URL whose origin two parsers read differently. What the policy saw is where the request goes."""
    try:
        origin = origin_of(url)
        fetched = parse_url(url)
    except (UpstreamProtocolError, httpx.InvalidURL, httpx.UnsupportedProtocol):
        return
    parts = urlsplit(origin)
    assert (parts.scheme, parts.hostname, parts.port) == (fetched.scheme, fetched.host, fetched.port)
