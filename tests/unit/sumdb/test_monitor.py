"""A monitor over a log in memory: what it tells, what it remembers, and what it is not fooled by."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    ForkError,
    PreconditionFailedError,
    ProofError,
    UpstreamNotFoundError,
)
from mirrorwitness.sumdb.authority import make_authority
from mirrorwitness.sumdb.monitor import Monitor
from mirrorwitness.sumdb.records import Event
from mirrorwitness.sumdb.watching import Kind, News, make_watch
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY, ORIGIN, REGISTRY, STRANGER, FakeSumdb, filler, make_record
from tests.unit.sumdb.checked_log import TERMS, Reader

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.sumdb.authority import Authority

CURSOR = f"monitor/{origin_hash(ORIGIN)}/cursor.json"


class View:
    """A witness that saw what a log shows, perhaps another one than ours."""

    def __init__(self, log: FakeSumdb, url: str = "https://w1.example.org") -> None:
        self.log = log
        self.url = url
        self.note: bytes | None = None
        self.is_silent = False

    async def read_seen(self, origin: str) -> bytes:
        assert origin == ORIGIN
        if self.is_silent:
            raise UpstreamNotFoundError("status 404")
        return self.note or self.log.checkpoint()


class Watched(Reader):
    """One monitor's state, over as many runs as a test wants."""

    def __init__(self, log: FakeSumdb, *watch: str, authority: Authority | None = None) -> None:
        super().__init__(log)
        self.watch = watch or ("left", "@acme/*")
        self.authority = authority
        self.views: Sequence[View] = ()
        self.is_from_now = False

    async def run(self) -> list[News]:
        """Run once, as a new process would; return what it told."""
        news: list[News] = []
        monitor = Monitor(
            terms=TERMS,
            source=self.log,
            ratchet=self.ratchet(),
            trust=self.trust,
            watch=make_watch(self.watch),
            told=news.append,
            now=lambda: self.now,
            authority=self.authority,
            witnesses=self.views,
            is_from_now=self.is_from_now,
        )
        self.done = await monitor.run()
        return news

    async def kinds(self) -> list[tuple[str, str]]:
        return [(str(item.kind), item.subject) for item in await self.run()]

    @property
    def objects(self) -> dict[str, bytes]:
        assert isinstance(self.storage, MemoryStorage)
        return dict(self.storage.objects)


async def test_every_entry_is_read_once() -> None:
    """Whatever the sizes: what is new is told, what was told is not told again, and the rest is read too."""
    log = FakeSumdb([*filler(300), make_record("left", "1.0.0"), *filler(20)])
    watched = Watched(log)
    assert await watched.kinds() == [("published", "left@1.0.0")]
    assert (watched.done.start, watched.done.entries) == (0, 321)
    assert await watched.kinds() == []
    log.append(*filler(5000), make_record("left", "1.1.0"), make_record("@acme/x"), make_record("other"))
    assert await watched.kinds() == [("published", "left@1.1.0"), ("published", "@acme/x@1.0.0")]
    assert (watched.done.start, watched.done.entries) == (321, 5003)
    log.append(make_record("left", "1.0.0", event=Event.UNPUBLISH))
    assert await watched.kinds() == [("unpublished", "left@1.0.0")]


async def test_a_monitor_may_begin_now() -> None:
    """Who starts to watch a log of millions need not read what was."""
    log = FakeSumdb([make_record("left", "1.0.0"), *filler(20)])
    watched = Watched(log)
    watched.is_from_now = True
    assert await watched.kinds() == []
    assert (watched.done.start, watched.done.entries) == (21, 0)
    log.append(make_record("left", "2.0.0"))
    assert await watched.kinds() == [("published", "left@2.0.0")]


async def test_equivocation_over_two_runs() -> None:
    """The first integrity is remembered; a second publish record with another one is an alarm."""
    log = FakeSumdb([make_record("left", "1.0.0", b"one")])
    watched = Watched(log)
    await watched.run()
    log.append(*filler(3), make_record("left", "1.0.0", b"two"))
    (news,) = await watched.run()
    assert (news.kind, news.is_alarm, news.index) == (Kind.EQUIVOCATION, True, 4)
    assert news.reason.startswith("entry 0 says sha512-")


async def test_conflicts_strangers_and_what_is_no_record() -> None:
    """What breaks the log's rules is told, of names that nobody watches too."""
    log = FakeSumdb([make_record("left", "1.0.0"), make_record("left", "1.0.0", event=Event.CONFLICT)])
    log.append(make_record("@acme/x", registry="evil.example"), make_record("quiet"))
    log.entries.append(b"no record")
    log.show(5)
    watched = Watched(log, "left", authority=make_authority([], default=REGISTRY))
    assert await watched.kinds() == [
        ("published", "left@1.0.0"),
        ("conflict", "left@1.0.0"),
        ("no-authority", "@acme/x@1.0.0"),
        ("unreadable", "entry 4"),
    ]


async def test_forged_entries() -> None:
    """Entries that the signed tree does not have are not believed, and the cursor stays."""
    log = FakeSumdb([*filler(300), make_record("left", "1.0.0")])
    watched = Watched(log)
    forged = FakeSumdb([*filler(300), make_record("left", "6.6.6")])
    log.read_entries = forged.read_entries  # type: ignore[method-assign]
    with pytest.raises(ProofError, match="the log's entries do not match its checkpoint of size 301"):
        await watched.run()
    assert CURSOR not in watched.objects


async def test_fork_of_the_log_itself() -> None:
    """A log that shows another history than before: nothing more is read."""
    log = FakeSumdb(filler(10))
    watched = Watched(log)
    await watched.run()
    watched.log.become(log.fork(5, *filler(9)))
    with pytest.raises(ForkError, match="signed two histories"):
        await watched.run()


@pytest.mark.parametrize("size", [4, 10, 14])
async def test_split_view_shown_by_a_witness(size: int) -> None:
    """A witness saw another tree, smaller, of our size or larger: a fork, with evidence that anybody can check."""
    log = FakeSumdb(filler(10))
    twin = log.fork(3, *[make_record(f"twin-{number}") for number in range(11)])
    watched = Watched(log)
    view = View(twin)
    view.note = twin.checkpoint(size)
    watched.views = [view]
    read_tiles = log.read_tiles
    if size > 10:  # the log serves the other tree's tiles to whoever asks for that size
        log.read_tiles = twin.read_tiles  # type: ignore[method-assign]
    news = await watched.run() if size <= 10 else await _expect_fork(watched, log, read_tiles)
    assert [item.kind for item in news] == [Kind.FORK]
    body = watched.objects[news[0].evidence.removeprefix("state/")]
    assert check_evidence(parse_evidence(body)).log_keys == (LOG_KEY.verifier,)
    with pytest.raises(ForkError, match="signed two histories, as state/evidence/"):
        await watched.run()


async def _expect_fork(watched: Watched, log: FakeSumdb, read_tiles: object) -> list[News]:
    calls = 0
    twins = log.read_tiles

    async def read(tiles):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
        nonlocal calls
        calls += 1
        return await (twins if calls == 1 else read_tiles)(tiles)  # type: ignore[operator]

    log.read_tiles = read  # type: ignore[method-assign]
    return await watched.run()


async def test_hidden_head() -> None:
    """A witness that stays ahead of what the log shows: in doubt first, then an alarm with the checkpoint kept."""
    log = FakeSumdb(filler(10), size=8)
    watched = Watched(log)
    view = View(log)
    view.note = log.checkpoint(10)
    watched.views = [view]
    (news,) = await watched.run()
    assert (news.kind, news.is_alarm, news.evidence) == (Kind.WITNESS_AHEAD, False, "")
    watched.now += timedelta(minutes=11)
    (news,) = await watched.run()
    assert (news.kind, news.is_alarm) == (Kind.WITNESS_AHEAD, True)
    assert watched.objects[news.evidence] == view.note
    log.show(10)
    assert await watched.kinds() == []
    log.show(10)
    assert b"ahead" not in watched.objects[CURSOR]


async def test_hidden_head_whose_tiles_are_hidden_too() -> None:
    """Nothing can be compared, and it is told all the same."""
    log = FakeSumdb(filler(10))
    more = FakeSumdb([*filler(10), *filler(4)])
    watched = Watched(log)
    watched.views = [View(more)]
    (news,) = await watched.run()
    assert news.kind is Kind.WITNESS_AHEAD


async def test_a_log_that_publishes_while_we_ask_is_not_behind() -> None:
    """It is read again before a witness is called ahead."""
    log = FakeSumdb(filler(10), size=8)
    watched = Watched(log)
    view = View(log)
    watched.views = [view]

    async def read_seen(origin: str) -> bytes:
        assert origin
        log.show(10)
        return log.checkpoint()

    view.read_seen = read_seen  # type: ignore[method-assign]
    assert await watched.kinds() == []
    assert watched.done.head.tree.size == 10


async def test_witnesses_that_say_nothing_usable() -> None:
    """A witness that is away, or shows what the log never signed, accuses nobody."""
    log = FakeSumdb(filler(10))
    watched = Watched(log)
    gone, liar = View(log, "https://gone.example"), View(log, "https://liar.example")
    gone.is_silent = True
    liar.note = log.checkpoint(10, STRANGER)
    watched.views = [gone, liar, View(log)]
    assert await watched.kinds() == [
        ("witness-silent", "https://gone.example"),
        ("witness-silent", "https://liar.example"),
    ]


async def test_older_head() -> None:
    """A log that shows less than it did is told of; what was read stays read."""
    log = FakeSumdb(filler(10))
    watched = Watched(log)
    await watched.run()
    log.show(6)
    assert await watched.kinds() == [("older-head", ORIGIN)]
    assert (watched.done.head.tree.size, watched.done.entries) == (10, 0)


async def test_a_run_that_died_tells_some_of_it_again_and_accuses_nobody() -> None:
    """Between what is known and the cursor: the same records are no equivocation."""
    log = FakeSumdb([make_record("left", "1.0.0"), make_record("left", "1.1.0")])
    watched = Watched(log)
    assert isinstance(watched.storage, MemoryStorage)
    watched.storage.fail_before("put", CURSOR, ConfigurationError("dead"))
    with pytest.raises(ConfigurationError, match="dead"):
        await watched.run()
    assert await watched.kinds() == []
    assert watched.done.entries == 2


async def test_two_monitors_on_one_state() -> None:
    """The slower one loses and stops."""
    log = FakeSumdb([make_record("left", "1.0.0")])
    watched = Watched(log)
    assert isinstance(watched.storage, MemoryStorage)
    watched.storage.fail_before("put", CURSOR, PreconditionFailedError("lost"))
    with pytest.raises(PreconditionFailedError):
        await watched.run()


@pytest.mark.parametrize("body", [b"{", b'{"size": 99}'])
async def test_damaged_state(body: bytes) -> None:
    """What is remembered and cannot be is an error, not a beginning."""
    watched = Watched(FakeSumdb(filler(10)))
    await watched.run()
    await watched.storage.put(CURSOR, body)
    with pytest.raises(ConfigurationError, match=r"damaged|two places"):
        await watched.run()
