"""The client of a feed: what it asks for, and what it makes of the answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, FeedDialectError, UpstreamProtocolError
from mirrorwitness.fetch import Backoff
from mirrorwitness.npm.changes import BEGINNING, parse_changes
from mirrorwitness.npm.feed import MAX_PAGE_ROWS, Feed, FeedOptions
from tests.fakes.feed import FeedSimulator
from tests.fakes.registry import Fault, RegistrySimulator
from tests.unit.mirror.direct import DirectFetcher

if TYPE_CHECKING:
    from trio.testing import MockClock

QUICK = FeedOptions(tries=Backoff(attempts=2, base=0.001, cap=0.002))


def make_feed(*names: str) -> tuple[FeedSimulator, Feed]:
    sim = RegistrySimulator()
    for name in names:
        sim.publish(name, "1.0.0")
    simulator = FeedSimulator(sim)
    return simulator, Feed(base=f"{simulator.base}/", fetcher=DirectFetcher(simulator), options=QUICK)


async def test_only_what_the_service_knows_is_sent() -> None:
    """Limits are kept to the largest that is allowed; scopes are asked for by a range of names."""
    simulator, feed = make_feed("left", "@s/a", "@s/b")
    assert (await feed.head()).packages == 3
    assert len((await feed.changes(BEGINNING, limit=1_000_000)).rows) == 3
    page = await feed.names("@s/", limit=100, end="@s0")
    assert [row.id for row in page.rows] == ["@s/a", "@s/b"]
    targets = [request.target for request in simulator.requests]
    assert targets[:2] == ["/", f"/_changes?since=0&limit={MAX_PAGE_ROWS}"]
    assert targets[2] == "/_all_docs?limit=100&startkey=%22%40s%2F%22&endkey=%22%40s0%22"
    assert repr(feed).startswith(f"<Feed {simulator.base}, ")


async def test_row_33_400_is_final_at_once() -> None:
    """Asked once, and told where to look."""
    simulator, feed = make_feed("left")
    simulator.refuse()
    with pytest.raises(FeedDialectError, match=r"mirrorwitness\.toml"):
        await feed.head()
    assert len(simulator.requests) == 1


async def test_an_answer_of_another_shape_is_asked_for_again(autojump_clock: MockClock) -> None:
    """A page that a proxy made up is worth another try, and an error when it stays."""
    simulator, feed = make_feed("left")
    simulator.fail("/_changes", Fault.html())
    assert len((await feed.changes(BEGINNING, limit=10)).rows) == 1
    simulator.fail("/", Fault.html(), times=None)
    with pytest.raises(UpstreamProtocolError):
        await feed.head()


async def test_json_that_is_no_page_is_asked_for_again(autojump_clock: MockClock) -> None:
    """Valid JSON is not enough: here the root of the feed stands where a page was asked for."""
    simulator, feed = make_feed("left")
    with pytest.raises(UpstreamProtocolError, match="expected a page of changes, found"):
        await feed._ask(f"{simulator.base}/", lambda body: parse_changes(body, since=BEGINNING))
    assert len(simulator.requests) == 2


@pytest.mark.parametrize("base", ["", "registry", "ftp://feed.example", "https://user@feed.example"])
def test_an_address_that_cannot_be_asked_is_a_configuration_error(base: str) -> None:
    """It names the address."""
    with pytest.raises(ConfigurationError, match="feed"):
        Feed(base=base, fetcher=DirectFetcher())
