"""Redirects: where we go and where not (rows 18 and 19)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, UpstreamError, UpstreamProtocolError, UpstreamRefusedError
from mirrorwitness.fetch import RedirectPolicy, make_policy, origin_of
from mirrorwitness.fetch.addresses import is_public_address
from mirrorwitness.fetch.redirects import MAX_HOPS, MAX_URL, check_url, follow

HOME = "https://registry.example/npm"
STRICT = make_policy(HOME, allowed=("cdn.example", "cdn.example:8443", "http://old.example", "https://10.1.2.3:444/x"))
PUBLIC = make_policy(HOME, public=True)


def test_policy_names_whole_origins() -> None:
    """Scheme, host and port are all part of what is allowed."""
    assert (
        RedirectPolicy(
            origins=frozenset({
                origin_of("https://registry.example:443"),
                origin_of("https://cdn.example"),
                origin_of("https://cdn.example:8443"),
                origin_of("http://old.example:80/"),
                origin_of("https://10.1.2.3:444"),
            })
        )
        == STRICT
    )


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://Registry.Example/a", "https://registry.example:443"),
        ("HTTP://registry.example", "http://registry.example:80"),
        ("http://[::1]:8080/x", "http://[::1]:8080"),
    ],
)
def test_origin(url: str, origin: str) -> None:
    """An origin has its scheme and host in lower case, and always a port."""
    assert origin_of(url) == origin


@pytest.mark.parametrize(
    "url",
    [
        "/relative",
        "ftp://registry.example/",
        "file:///etc/passwd",
        "https://",
        "https://user@registry.example/",
        "https://registry.example@evil.example/",
        "https://registry.example:port/",
        "https://registry.example:99999/",
        "https://registry.example:0/",
        "https://registry<.example/",
        "https://registry.example%2f@evil.example/",
        "https://registry.example/a b",
        "https://registry.example\\@evil.example/",
        "https://registry.example/\n",
        "https://régistry.example/",
        "https://[::1/",
        "https://registry.example/" + "x" * MAX_URL,
    ],
)
def test_row_19_odd_urls_are_no_origin(url: str) -> None:
    """Attack: URLs that parsers read differently are refused before anything is compared."""
    with pytest.raises(UpstreamProtocolError):
        origin_of(url)


@pytest.mark.parametrize("url", [HOME, "https://cdn.example:8443/x", "http://old.example/x", "https://10.1.2.3:444/"])
def test_allowed_origins_may_have_any_address(url: str) -> None:
    """An origin on the list is fetched wherever it lies."""
    assert check_url(url, STRICT) is False


@pytest.mark.parametrize(
    "url",
    [
        "http://registry.example/npm",
        "https://registry.example:8443/npm",
        "https://registry.example.evil.example/",
        "https://evil-registry.example/",
        "https://old.example/",
        "http://example.com/x.tgz",
    ],
)
def test_row_19_other_origins_are_refused(url: str) -> None:
    """Attack: hosts are compared exactly, ports and schemes too."""
    with pytest.raises(UpstreamRefusedError, match="is not allowed") as caught:
        check_url(url, STRICT)
    assert caught.value.status is None


def test_row_18_public_policy() -> None:
    """Where every public host is allowed, the connection checks the address; literals are checked at once."""
    assert check_url("https://anything.example/", PUBLIC) is True
    assert check_url("https://9.9.9.9/", PUBLIC) is True
    for url in ("http://anything.example/", "https://127.0.0.1/", "https://[::1]/", "https://169.254.169.254/"):
        with pytest.raises(UpstreamRefusedError):
            check_url(url, PUBLIC)


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/x.tgz", "https://registry.example/x.tgz"),
        ("x.tgz#frag", "https://registry.example/npm/x.tgz"),
        ("https://cdn.example/y", "https://cdn.example/y"),
        ("//cdn.example/y", "https://cdn.example/y"),
    ],
)
def test_redirect_is_followed(location: str, target: str) -> None:
    """Relative and absolute locations on allowed origins lead on."""
    assert follow(["https://registry.example/npm/a"], location, STRICT) == (target, False)


@pytest.mark.parametrize(
    ("location", "expected", "message"),
    [
        (None, UpstreamProtocolError, "without Location"),
        ("", UpstreamProtocolError, "without Location"),
        ("http://[", UpstreamProtocolError, "no URL"),
        ("http://old.example/", UpstreamRefusedError, "from https to http"),
        ("https://evil.example/", UpstreamRefusedError, "is not allowed"),
        ("https://169.254.169.254/latest/meta-data", UpstreamRefusedError, "is not allowed"),
        ("/npm/a", UpstreamProtocolError, "in a loop"),
        ("file:///etc/passwd", UpstreamProtocolError, "http or https"),
    ],
)
def test_row_18_redirect_is_refused(location: str | None, expected: type[UpstreamError], message: str) -> None:
    """Attack: redirects elsewhere, to http, to an internal address, to a file, in a loop."""
    with pytest.raises(expected, match=message):
        follow(["https://registry.example/npm/a"], location, STRICT)


def test_row_18_hops_are_counted() -> None:
    """At most MAX_HOPS redirects."""
    chain = [f"https://registry.example/{n}" for n in range(MAX_HOPS)]
    assert follow(chain, "/next", STRICT)[0] == "https://registry.example/next"
    with pytest.raises(UpstreamProtocolError, match=f"more than {MAX_HOPS} redirects"):
        follow([*chain, "https://registry.example/one"], "/next", STRICT)


@given(st.text(max_size=60))
def test_any_location_leads_home_or_is_refused(location: str) -> None:
    """Attack: whatever the location says, the target's origin is on the list."""
    try:
        target, _ = follow(["https://registry.example/npm/a"], location, make_policy(HOME))
    except UpstreamError:
        return
    assert origin_of(target) == "https://registry.example:443"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("9.9.9.9", True),
        ("2620:fe::fe", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),  # noqa: S104 - not bound
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:9.9.9.9", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::909:909", True),
        ("ff02::1", False),
        ("localhost", False),
        (None, False),
    ],
)
def test_row_18_public_addresses(address: str | None, *, public: bool) -> None:
    """Attack: private addresses are seen through their disguises."""
    assert is_public_address(address) is public


def test_policy_that_cannot_be() -> None:
    """A host that is no host is the operator's error."""
    with pytest.raises(ConfigurationError, match="allowed host"):
        make_policy(HOME, allowed=("https://user@cdn.example",))
