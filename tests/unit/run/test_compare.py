"""Comparing over HTTP: races with a mirror's own runs, and answers that no honest mirror gives."""

from __future__ import annotations

import hashlib
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from mirrorwitness.errors import (
    IntegrityMismatchError,
    SecurityError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import HostGate
from mirrorwitness.mirror.about import ABOUT_SCHEMA
from mirrorwitness.mirror.peer import NodeGoneError, Peer
from mirrorwitness.mirror.summary import FORMAT, MAX_NODE_BYTES, Ref, format_inner, format_leaf, package_prefix
from mirrorwitness.run import compare
from tests.unit.mirror.summaries import MemorySummary, entry

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

    from mirrorwitness.mirror.reconcile import Comparison

A, B = "http://a.example", "http://b.example"


class Answer:
    """One HTTP answer, read as `mirrorwitness.fetch.Response` is."""

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.status = status
        self.headers = headers
        self._body = body

    async def read(self, limit: int) -> bytes:
        if len(self._body) > limit:
            raise UpstreamProtocolError(f"body of at most {limit} bytes expected, more came")
        return self._body


class Web:
    """Mirrors as dictionaries of URLs, in the place of a `Fetcher`.

    Attributes:
        bodies: URL → body.
        statuses: URL → a status other than 200 or 404.
        headers: of every answer.
        asked: every URL that was asked for, in order.
        on_ask: called with each URL before it is answered.
    """

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.statuses: dict[str, int] = {}
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.on_ask: Callable[[str], None] = lambda _url: None

    @asynccontextmanager
    async def request(self, _method: str, url: str, **_how: Any) -> AsyncGenerator[Answer, None]:
        self.asked.append(url)
        self.on_ask(url)
        body = self.bodies.get(url)
        status = self.statuses.get(url, 404 if body is None else 200)
        yield Answer(status, body or b"", self.headers)

    def publish(self, base: str, summary: MemorySummary) -> None:
        """Let a mirror have this summary, and say so."""
        for url in [url for url in self.bodies if url.startswith(f"{base}/-/summary/")]:
            del self.bodies[url]
        for digest, body in summary.nodes.items():
            self.bodies[node_url(base, digest)] = body
        said = {"format": FORMAT, "root": summary.root.digest, "versions": summary.root.versions}
        self.bodies[f"{base}/-/about.json"] = orjson.dumps({"schema": ABOUT_SCHEMA, "kind": "partial", "summary": said})

    def peer(self, base: str) -> Peer:
        return Peer(base=base, fetcher=self, gate=HostGate())  # type: ignore[arg-type]  # a fake of the Fetcher


def node_url(base: str, digest: str) -> str:
    return f"{base}/-/summary/{digest[:2]}/{digest}"


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    web = Web()

    @asynccontextmanager
    async def open_web(_options: object) -> AsyncGenerator[Web, None]:
        yield web

    monkeypatch.setattr(compare, "open_fetcher", open_web)
    return web


def summary_of(count: int, *, content: str = "", wrong: frozenset[int] = frozenset()) -> MemorySummary:
    return MemorySummary.of([
        entry(f"p{number}", "1.0.0", "other bytes" if number in wrong else content) for number in range(count)
    ])


async def differences(told: Callable[[int, int], None] = lambda _done, _total: None) -> Comparison:
    done = await compare.compare_mirrors(A, f"{B}/", keys=(), keep=100, told=told)
    return done.found


async def test_only_what_differs_is_read_and_each_once(web: Web) -> None:
    """Progress ends with every version of both accounted for."""
    web.publish(A, summary_of(3000))
    web.publish(B, summary_of(2990, wrong=frozenset({5})))
    steps: list[tuple[int, int]] = []
    found = await differences(lambda done, total: steps.append((done, total)))
    assert (found.same, found.only_a, found.only_b, found.differing) == (2989, 10, 0, 1)
    nodes = [url for url in web.asked if "/summary/" in url]
    assert len(nodes) == len(set(nodes)) < 60
    assert steps[-1] == (5990, 5990)
    assert steps == sorted(steps)


async def test_a_mirror_that_finishes_a_run_meanwhile_is_compared_anew(web: Web) -> None:
    """Its older nodes are gone when they are asked for: the description is read again, and the result is of the new."""
    web.publish(A, summary_of(300))
    web.publish(B, summary_of(300, content="older"))
    root = summary_of(300, content="older").root.digest

    def replace(url: str) -> None:
        if url.endswith(root):
            web.publish(B, summary_of(301))

    web.on_ask = replace
    found = await differences()
    assert (found.same, found.only_b, found.differing) == (300, 1, 0)


async def test_a_mirror_that_never_stops_replacing_its_tree(web: Web) -> None:
    """The comparison ends and says why."""
    web.publish(A, summary_of(300))
    web.publish(B, summary_of(301))
    count = 301

    def replace(url: str) -> None:
        nonlocal count
        if url.startswith(f"{B}/-/summary"):
            count += 1
            web.publish(B, summary_of(count))

    web.on_ask = replace
    with pytest.raises(UpstreamProtocolError, match="replaced their summaries 3 times"):
        await differences()


async def test_withheld_node(web: Web) -> None:
    """A node that the present tree names and that is not there ends the comparison, with the mirror's address."""
    web.publish(A, summary_of(300))
    web.publish(B, summary_of(301))
    root = summary_of(301).root.digest
    del web.bodies[node_url(B, root)]
    with pytest.raises(UpstreamProtocolError, match=f"{B}: node {root} .* still names this tree"):
        await differences()


async def test_replaced_bytes_of_a_node_name_the_mirror(web: Web) -> None:
    """Also where the other mirror is honest."""
    honest, lying = summary_of(300), summary_of(301)
    web.publish(A, honest)
    web.publish(B, lying)
    web.bodies[node_url(B, lying.root.digest)] = honest.nodes[honest.root.digest]
    with pytest.raises(IntegrityMismatchError, match=f"{B}: node of range -"):
        await differences()


async def test_endless_tree(web: Web) -> None:
    """A hundred nodes that each claim to hold the next: refused at the second, which states its range.

    Without that, one node would do for every step, or a few for any number of them.
    """
    web.publish(A, summary_of(300))
    nodes: dict[str, bytes] = {}
    root = Ref(200, "0" * 64)
    for _ in range(100):
        body = format_inner("", {package_prefix("p0")[0]: root})
        root = Ref(200, hashlib.sha256(body).hexdigest())
        nodes[root.digest] = body
    web.publish(B, MemorySummary(root, nodes))
    with pytest.raises(SecurityError, match=f"{B}: the summary contradicts itself at range .: it says .* of range -"):
        await differences()


async def test_a_count_that_is_not_true(web: Web) -> None:
    """A root that claims more versions than there are, so that a small mirror looks large."""
    web.publish(A, summary_of(300))
    leaf = format_leaf("", [entry("a", "1.0.0")])
    digest = hashlib.sha256(leaf).hexdigest()
    web.publish(B, MemorySummary(Ref(100, digest), {digest: leaf}))
    with pytest.raises(SecurityError, match=f"{B}: .* it has 1 entries, its parent says 100"):
        await differences()


async def test_oversized_node(web: Web) -> None:
    """A page larger than any node is not read."""
    web.publish(A, summary_of(300))
    web.publish(B, summary_of(301))
    web.bodies[node_url(B, summary_of(301).root.digest)] = b"x" * (MAX_NODE_BYTES + 1)
    with pytest.raises(UpstreamProtocolError, match=f"at most {MAX_NODE_BYTES} bytes"):
        await differences()


async def test_another_version_of_the_format_behind_a_promising_root(web: Web) -> None:
    """The message names the mirror and both formats."""
    web.publish(A, summary_of(300))
    web.publish(B, summary_of(301))
    web.bodies[node_url(B, summary_of(301).root.digest)] = b"mirrorwitness-summary-2 leaf -\n"
    with pytest.raises(UpstreamProtocolError, match=f"{B}: the summary has the format mirrorwitness-summary-2"):
        await differences()


async def test_a_bucket_that_says_403_for_what_is_not_there(web: Web) -> None:
    """No signed note, so the description is read unsigned; a missing node is a missing node."""
    web.publish(A, summary_of(3))
    web.statuses[f"{A}/-/about.json.note"] = 403
    peer = web.peer(A)
    assert (await peer.read_description()).signed_by is None
    web.statuses[node_url(A, "0" * 64)] = 403
    with pytest.raises(NodeGoneError, match=f"{A}: node 0{{64}} of range ab is not there"):
        await peer.read_node("ab", Ref(1, "0" * 64))
    assert peer.requests == 3
    assert "3 requests" in repr(peer)


@pytest.mark.parametrize(("status", "headers"), [(500, {}), (200, {"content-encoding": "gzip"})])
async def test_an_answer_that_is_none_is_asked_for_again(
    web: Web, status: int, headers: dict[str, str], autojump_clock: object
) -> None:
    """A sick server, or one that compresses unasked: several tries, then an error that names the address."""
    web.publish(A, summary_of(3))
    web.statuses[f"{A}/-/about.json"] = status
    web.statuses[f"{A}/-/about.json.note"] = 404
    web.headers = headers
    with pytest.raises((UpstreamUnreachableError, UpstreamProtocolError), match=f"{A}/-/about.json"):
        await web.peer(A).read_description()
    assert web.asked.count(f"{A}/-/about.json") > 1
