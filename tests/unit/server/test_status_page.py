"""The status page: what it shows, that nothing from outside becomes HTML, and that it asks nobody for anything."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.mirror.catalogue import Unfinished
from mirrorwitness.mirror.cursor import Alarm, CursorRecord
from mirrorwitness.mirror.health import HealthTerms, ShardCursor
from mirrorwitness.mirror.shards import Shard
from mirrorwitness.mirror.snapshot import MirrorSnapshot, read_snapshot
from mirrorwitness.server.chart import DAY, draw_bar, draw_lag
from mirrorwitness.server.page import PAGE_POLICY, SHARDS_SHOWN, render_status
from tests.fakes.status_example import ATTACK, fill
from tests.fakes.storage import MemoryStorage
from tests.unit.server.mirror_builder import make_client

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 9, 17, 14, 5, 9, tzinfo=UTC)
VOID = {"meta", "br"}
ALLOWED = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "h3", "p", "time", "main", "dl", "div",
    "dd", "dt", "section", "article", "figure", "figcaption", "svg", "path", "text", "circle", "rect", "table", "thead",
    "tbody", "tr", "th", "td", "strong", "code", "ul", "li", "span", "br", "footer", "a",
}  # fmt: skip


class Page(HTMLParser):
    """Reads a page strictly: every element is closed in order, and only elements and attributes that we write occur."""

    def __init__(self, body: bytes) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(body.decode())
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        if tag not in VOID:
            self.open.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


async def example(*, is_hostile: bool = False, lag_most: float = 3600) -> MirrorSnapshot:
    storage = MemoryStorage()
    await fill(storage, now=NOW, is_hostile=is_hostile)
    terms = HealthTerms(saved_within=3600, lag_most=lag_most)
    return await read_snapshot(storage, at=NOW, allowed=4_500_000, terms=terms, notes=20)


async def test_what_a_person_wants_to_know() -> None:
    """Whether it works, how far it is behind, how much there is, what is unfinished and why, alarms, budget, keys."""
    text = Page(render_status(await example())).text
    for part in (
        "npm mirror working as of 2026-09-17 14:05:09 UTC",
        "18 s behind its registry",
        "48,210 packages 731,455 versions 412.9 GB of tarballs 3 unfinished packages 1 owed revisions",
        "Shard 1/2 lag over the last 24 hours",
        "position 140233411 owed revisions 1 unfinished 2 all names compared 3.2 d ago cursor saved 4 s ago",
        "now (periodic): 12,400 so far, 3 behind",
        "3,295,130 of 4,500,000 left; 1,204,870 taken in 2026-09. Renews 2026-10-01.",
        "@types/node the feed announced revision 8114-b2",
        "2026-09-17 12:05 · shard 1/2 owed left-pad: revision 12-5f was announced and never showed; given up",
        "SHA256:DhQ8wR5APBvFHLF/+Tc+AYvPOdTpcIDqOhxsBHRwC7U no expiry",
    ):
        assert part in text
    assert "Why it is stuck" not in text


async def test_a_stuck_mirror_says_why_at_the_top() -> None:
    """Before all numbers, and in words, not in colour alone."""
    text = Page(render_status(await example(lag_most=5))).text
    assert text.startswith("stuck: mirrorwitness npm mirror stuck")
    assert text.index("shard 1/2: lags 9 s behind its feed, more than 5 s") < text.index("behind its registry")


def test_an_empty_mirror() -> None:
    """A page that says that nothing is there yet, and what would change that."""
    text = Page(render_status(MirrorSnapshot(at=NOW))).text
    assert "no feed behind its registry" in text
    assert "not counted packages" in text
    assert "follows no feed; sync --once brings it up to date" in text
    assert "Nothing: every package is complete." in text
    assert "Requests to upstream" not in text


def test_a_mirror_at_its_beginning() -> None:
    """Not caught up is not "0 s behind"; one shard is called the whole mirror."""
    record = CursorRecord(feed="f", selection="s", position="5", head="900")
    snapshot = MirrorSnapshot(at=NOW, cursors=(ShardCursor(Shard(1, 1), record),))
    text = Page(render_status(snapshot)).text
    assert "not caught up yet behind its registry" in text
    assert "The whole mirror" in text
    assert "position 5 of 900" in text
    assert "all names compared never yet cursor saved unknown" in text


async def test_attack_markup_in_names_and_reasons() -> None:
    """Scripts, attributes, turned text and escapes of terminals from upstream are words, and nothing else."""
    body = render_status(await example(is_hostile=True))
    page = Page(body)
    assert "<script" not in body.decode()
    assert "</td></table><script>alert(1)</script><img src=x onerror=alert(2)>" in page.text
    assert "\\u202egnirts\\x1b[31m" in page.text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]", body.decode())


@given(st.text(max_size=60), st.text(max_size=500))
def test_attack_any_text(name: str, reason: str) -> None:
    """Whatever comes, the page has the same elements and attributes as with harmless words."""

    def make(one: str, two: str) -> Page:
        note = Unfinished(name=one, reason=two, kind=two, first=two, next_try=two)
        record = CursorRecord(
            feed=two, selection=two, position=two, head=one, saved=two, worker=one, alarms=(Alarm(one, two, two),)
        )
        return Page(
            render_status(
                MirrorSnapshot(
                    at=NOW,
                    troubles=(one, two),
                    unfinished=(note,),
                    unfinished_total=1,
                    cursors=(ShardCursor(Shard(1, 1), record),),
                )
            )
        )

    assert make(name, reason).attributes == make("name", "reason").attributes


async def test_it_asks_nobody() -> None:
    """No address outside of this server stands in an attribute, and the policy would not let one be asked."""
    page = Page(render_status(await example(is_hostile=True)))
    assert [value for tag, name, value in page.attributes if name in {"href", "src"}] == [
        "about.json", "metrics", "readyz",
    ]  # fmt: skip
    assert {name for _, name, _ in page.attributes}.isdisjoint({"style", "srcset", "action", "xlink:href", "onload"})


async def test_its_policy_allows_its_own_style_only() -> None:
    """The digest in the header is that of the sheet in the page; scripts, frames and forms are not allowed."""
    client = make_client(MemoryStorage())
    answer = await client.get("/-/status")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert answer.headers["cache-control"] == "no-store"
    sheet = re.search(rb"(?s)<style>(.*?)</style>", answer.body)
    assert sheet is not None
    digest = base64.b64encode(hashlib.sha256(sheet[1]).digest()).decode()
    assert f"style-src 'sha256-{digest}';" in PAGE_POLICY
    assert PAGE_POLICY.startswith("default-src 'none';")
    assert "script" not in PAGE_POLICY
    assert (await client.get("/-/ping")).headers["content-security-policy"].startswith("default-src 'none'; frame-anc")


async def test_the_page_is_bounded() -> None:
    """A thousand shards and long reasons make no page of megabytes; what lags most is shown."""
    shards = tuple(
        ShardCursor(
            Shard(index, 1000),
            CursorRecord(
                feed="f",
                selection="s",
                position="1",
                caught_up=NOW.timestamp() - index,
                history=tuple((NOW.timestamp() - 600 * step, float(step)) for step in range(143, 0, -1)),
            ),
        )
        for index in range(1, 1001)
    )
    note = Unfinished(name="n" * 214, reason="r" * 100_000, kind="k")
    body = render_status(
        MirrorSnapshot(at=NOW, cursors=shards, unfinished=(note,) * 20, unfinished_total=10_000, is_total_exact=False)
    )
    text = Page(body).text
    assert len(body) < 400_000
    assert text.count("lag over the last 24 hours, at most") == SHARDS_SHOWN
    assert "Shard 1000/1000" in text
    assert "Shard 7/1000" not in text
    assert "968 more shards lag less" in text
    assert "10,000 or more unfinished packages" in text
    assert "9,980 more: mirrorwitness status lists them." in text


# ---- drawings


def _path(svg: str, kind: str) -> list[str]:
    return re.findall(rf'<path class="{kind}" d="([^"]*)"', svg)


def test_lag_is_drawn_from_left_to_right_and_longer_is_higher() -> None:
    """A day from edge to edge; a minute, an hour and a day have lines where they are reached."""
    now = NOW.timestamp()
    history = [(now - DAY + step * 600, 20.0 if step != 70 else 7200.0) for step in range(144)]
    svg = draw_lag(history, now, 20.0)
    (line,) = _path(svg, "line")
    places = [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", line)]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert (places[0][0], places[-1][0]) == (38.0, 436.0)
    assert min(range(145), key=lambda index: places[index][1]) == 70
    assert all(8 <= y <= 126 for _, y in places)
    assert [label for label in ("1 min", "1 h", "1 d") if f">{label}<" in svg] == ["1 min", "1 h"]
    assert "at most 2 h" in svg


def test_a_gap_is_left_where_nobody_followed() -> None:
    """Two lines; a point that stands alone is a dot; what is older than a day, or from the future, is not there."""
    now = NOW.timestamp()
    history = [(now - 2 * DAY, 5.0), (now - 9000, 5.0), (now - 8400, 5.0), (now + 60, 1e9)]
    svg = draw_lag(history, now, 5.0)
    assert len(_path(svg, "line")) == 2
    assert svg.count("<circle") == 1
    assert "at most 5 s" in svg


def test_nothing_to_draw() -> None:
    """No history and no lag: the grid, and words that say so."""
    svg = draw_lag((), NOW.timestamp(), None)
    assert "no lag is known yet" in svg
    assert _path(svg, "line") == []


@given(
    st.lists(st.tuples(st.floats(-1e12, 1e12), st.floats(-1e9, 1e12)), max_size=20),
    st.none() | st.floats(0, 1e12),
)
def test_any_history_is_drawn_inside_the_drawing(history: Sequence[tuple[float, float]], lag: float | None) -> None:
    """Clocks that stepped and damaged numbers move no line out of its box."""
    svg = draw_lag(sorted(history), NOW.timestamp(), lag)
    for line in _path(svg, "line"):
        for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", line):
            assert 38 <= float(x) <= 436
            assert 8 <= float(y) <= 126


@pytest.mark.parametrize(("share", "width"), [(-1, "0.0"), (0.25, "110.0"), (7, "440.0")])
def test_bar(share: float, width: str) -> None:
    """A share of the width, and never more than all of it."""
    assert f'class="used" width="{width}"' in draw_bar(share)


def test_sizes_for_people() -> None:
    """Decimal units, as everywhere."""
    from mirrorwitness.server.page import _bytes  # noqa: PLC0415 - white box

    assert [_bytes(count) for count in (0, 999, 1000, 2.5e15, 3e19)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.5 PB",
        "30000.0 PB",
    ]


async def test_an_older_snapshot_shows_when_it_was() -> None:
    """The time on the page is the snapshot's."""
    snapshot = replace(await example(), at=NOW + timedelta(hours=1))
    assert "as of 2026-09-17 15:05:09 UTC" in Page(render_status(snapshot)).text
    assert ATTACK not in Page(render_status(snapshot)).text
