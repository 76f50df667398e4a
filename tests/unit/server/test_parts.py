"""The small parts: the cache, shared work, hosts and public URLs, and what is compressed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.server.cache import ByteCache, CacheStatistics, Flights
from mirrorwitness.server.compress import compress
from mirrorwitness.server.negotiate import MAX_ITEMS, Coding, choose_coding, is_none_match
from mirrorwitness.server.origin import parse_host, parse_public_url


def test_cache_drops_the_least_recently_used() -> None:
    """P10: the sizes never add up to more than the capacity."""
    cache: ByteCache[str, str] = ByteCache(capacity=10)
    cache.put("a", "A", size=4)
    cache.put("b", "B", size=4)
    assert cache.get("a") == "A"
    cache.put("c", "C", size=4)
    assert [cache.get(key) for key in "abc"] == ["A", None, "C"]
    assert cache.statistics() == CacheStatistics(entries=2, size=8, hits=3, misses=1)
    assert repr(cache) == "<ByteCache 2 entries, 8 of 10 bytes>"


def test_cache_replaces_and_forgets() -> None:
    """A value in place of another costs only itself; what is too large replaces and is not kept."""
    cache: ByteCache[str, str] = ByteCache(capacity=10)
    cache.put("a", "A", size=9)
    cache.put("a", "B", size=2)
    assert cache.statistics().size == 2
    cache.put("a", "C", size=11)
    cache.drop("absent")
    assert cache.get("a") is None
    assert cache.statistics() == CacheStatistics(entries=0, size=0, hits=0, misses=1)


async def test_flights_show_their_state() -> None:
    """The representation counts what is in work."""
    flights: Flights[str, int] = Flights()
    gate = trio.Event()

    async def make() -> int:
        await gate.wait()
        return 7

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flights.run, "key", make)
        await trio.testing.wait_all_tasks_blocked()
        assert repr(flights) == "<Flights 1 in the air>"
        gate.set()
    assert repr(flights) == "<Flights 0 in the air>"


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Mirror.Example:8080", "mirror.example:8080"),
        ("localhost", "localhost"),
        ("mirror_1.local.", "mirror_1.local."),
        ("127.0.0.1:65535", "127.0.0.1:65535"),
        ("[::1]", "[::1]"),
        ("[2001:DB8::1]:80", "[2001:db8::1]:80"),
    ],
)
def test_hosts_that_are_hosts(text: str, host: str) -> None:
    """Names and addresses with an optional port pass, in lower case."""
    assert parse_host(text) == host


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("https://npm.example.org", "https://npm.example.org"),
        ("http://NPM.example.org:8080/", "http://npm.example.org:8080"),
        ("https://example.org/a/npm_1/", "https://example.org/a/npm_1"),
    ],
)
def test_public_urls(text: str, base: str) -> None:
    """A public URL loses its trailing slash and nothing else."""
    assert parse_public_url(text) == base


@pytest.mark.parametrize(
    "text",
    [
        "",
        "npm.example.org",
        "ftp://npm.example.org",
        "https://",
        "https://user@npm.example.org",
        "https://npm.example.org?x",
        "https://npm.example.org/#x",
        "https://npm.example.org/a/../b",
        "https://npm.example.org/a//b",
        "https://npm.example.org/a b",
        "https://[::1",
        " https://npm.example.org",
    ],
)
def test_bad_public_urls(text: str) -> None:
    """Whatever could end up in a document as something else is refused with the form that is expected."""
    with pytest.raises(ConfigurationError, match="public URL"):
        parse_public_url(text)


@pytest.mark.parametrize("coding", list(Coding))
def test_compressing_is_repeatable(coding: Coding) -> None:
    """Equal documents give equal bytes, so their tags are equal on every replica."""
    assert compress(b"body" * 1000, coding) == compress(b"body" * 1000, coding)


def test_lists_are_read_up_to_a_limit() -> None:
    """What stands behind the limit is not looked at."""
    assert choose_coding(",".join(["x"] * (MAX_ITEMS - 1) + ["gzip"])) is Coding.GZIP
    assert choose_coding(",".join(["x"] * MAX_ITEMS + ["gzip"])) is Coding.IDENTITY
    assert is_none_match(",".join(['"x"'] * (MAX_ITEMS - 1) + ['"y"']), '"y"')
    assert not is_none_match(",".join(['"x"'] * MAX_ITEMS + ['"y"']), '"y"')
