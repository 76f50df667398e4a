"""The follower against a feed that loses, delays and reorders (P6; rows 3 and 26 to 33 of research/B 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    CursorLostError,
    ExitCode,
    FeedDialectError,
    StorageUnavailableError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror.follower import FollowOptions
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.shards import WHOLE
from tests.fakes.registry import Fault
from tests.unit.mirror.following import Following, make_upstream

if TYPE_CHECKING:
    from trio.testing import MockClock

HOUR = 3600.0


async def test_p6_bootstrap_takes_the_head_before_the_names(autojump_clock: MockClock) -> None:
    """What changes while the names are listed is in the feed behind that head, so nothing falls in between."""
    upstream = make_upstream("left", "right", "@s/middle")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(60)
    assert following.missing() == {}
    asked = [request.target.partition("?")[0] for request in upstream.feed.requests]
    assert asked.index("/") < asked.index("/_all_docs") < asked.index("/_changes")


async def test_p6_a_change_is_noticed_within_the_idle_wait(autojump_clock: MockClock) -> None:
    """Published now, mirrored within half a minute."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(600)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(40)
        assert following.mirror.served("left") == ["1.0.0", "1.1.0"]


async def test_p9_idle_is_quiet(autojump_clock: MockClock) -> None:
    """Nothing new costs the feed two requests per half minute and the registry none."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(600)
        upstream.feed.requests.clear()
        following.requests()
        await trio.sleep(600)
        assert following.requests() == []
        assert len(upstream.feed.requests) <= 2 * 600 / 22 + 2


async def test_row_28_a_late_row_behind_the_cursor_is_found_by_reading_again(autojump_clock: MockClock) -> None:
    """It appears two hours later, behind positions that were passed."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.feed.delay("left", until=trio.current_time() + 2 * HOUR)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.publish("right", "1.1.0")
        await trio.sleep(60)
        assert following.missing() == {"left": (["1.0.0"], ["1.0.0", "1.1.0"])}
        await trio.sleep(2 * HOUR + 16 * 60)
        assert following.missing() == {}


async def test_row_29_a_lost_event_is_found_by_the_sweep(autojump_clock: MockClock) -> None:
    """No row ever tells of it; the list of names does."""
    upstream = make_upstream("left", "right")
    following = Following(upstream, options=FollowOptions(sweep_every=6 * HOUR))
    async with following.running():
        await trio.sleep(60)
        upstream.feed.lose("left")
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(5 * HOUR)
        assert following.missing() != {}
        following.requests()
        await trio.sleep(2 * HOUR)
        assert following.missing() == {}
        assert [target for target in following.requests() if "right" in target] == []


async def test_row_30_a_head_that_went_back_is_an_alarm_and_a_resync(autojump_clock: MockClock) -> None:
    """Never a silent wait: the alarm is kept, all names are compared, and the feed is read on from its new head."""
    upstream = make_upstream(*(f"p{number}" for number in range(30)))
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        before = following.cursor()["position"]
        upstream.feed.lose("p1")
        upstream.sim.publish("p1", "1.1.0")
        upstream.feed.regress()
        await trio.sleep(120)
        assert following.missing() == {}
        upstream.sim.publish("p2", "1.1.0")
        await trio.sleep(60)
        assert following.missing() == {}
    cursor = following.cursor()
    assert int(cursor["position"]) < int(before)
    assert cursor["epoch"] == 2
    assert [alarm["kind"] for alarm in cursor["alarms"]] == ["head-regression"]
    assert any("went back" in alarm for alarm in following.summary.alarms)


async def test_row_31_pages_without_last_seq_with_text_and_out_of_order(autojump_clock: MockClock) -> None:
    """A position is opaque, and a page that names none ends at its last row."""
    upstream = make_upstream("left", "right")
    upstream.feed.use_text()
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.feed.omit_last_seq(times=3)
        upstream.feed.repeat(times=2)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.publish("right", "1.1.0")
        await trio.sleep(60)
        upstream.feed.reverse()
        upstream.sim.publish("left", "1.2.0")
        upstream.sim.publish("right", "1.2.0")
        await trio.sleep(60)
        assert following.missing() == {}


async def test_row_32_a_full_page_is_followed_at_once_and_the_end_is_not(autojump_clock: MockClock) -> None:
    """Many changes are read without waiting between their pages."""
    upstream = make_upstream()
    following = Following(upstream, options=FollowOptions(page_rows=100))
    async with following.running():
        await trio.sleep(60)
        for number in range(350):
            upstream.sim.publish(f"p{number}", "1.0.0")
        upstream.feed.requests.clear()
        await trio.sleep(31)
        assert following.missing() == {}
        pages = [request for request in upstream.feed.requests if request.target.startswith("/_changes")]
        assert 4 <= len(pages) <= 7


async def test_row_33_400_is_a_loud_permanent_error(autojump_clock: MockClock) -> None:
    """A feed that changed its dialect ends the follower at once, with the address to check."""
    upstream = make_upstream("left")
    following = Following(upstream)

    async def follow() -> None:
        async with following.running():
            await trio.sleep(60)
            upstream.feed.refuse()
            await trio.sleep(600)

    with pytest.raises(ExceptionGroup) as found:
        await follow()
    assert found.group_contains(FeedDialectError, match="answers 400")


@pytest.mark.parametrize(
    "fault", [Fault.status(429), Fault.status(503), Fault.html(), Fault.truncated(20), Fault.reset(0)]
)
async def test_p6_a_sick_feed_is_an_alarm_and_nothing_is_lost(autojump_clock: MockClock, fault: Fault) -> None:
    """It is asked again, forever; what it had to say meanwhile is mirrored afterwards."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.feed.fail("/_changes", fault, times=None)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(3600)
        upstream.feed.heal()
        await trio.sleep(700)
        assert following.missing() == {}
    assert [alarm["kind"] for alarm in following.cursor()["alarms"]] == ["feed"]


async def test_p3_once_with_a_feed_that_cannot_be_read_is_an_upstream_error(autojump_clock: MockClock) -> None:
    """A scheduled job says so instead of ending green."""
    upstream = make_upstream("left")
    upstream.feed.fail("/", Fault.reset(0), times=None)
    following = Following(upstream)
    with pytest.raises(ExceptionGroup) as found:
        await following.once()
    assert found.group_contains(UpstreamUnreachableError)


async def test_row_26_an_announced_revision_stays_owed_until_it_shows(autojump_clock: MockClock) -> None:
    """The registry answers an older document for an hour: asked again and again, with growing waits, then stored."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.hold_packument("left", until=trio.current_time() + HOUR)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(120)
        note = await following.mirror.note("left")
        assert note is not None
        assert (note.kind, note.expected) == ("owed", upstream.sim.packument("left")["_rev"])
        following.requests()
        await trio.sleep(HOUR)
        assert len(following.requests()) < 12
        await trio.sleep(2 * HOUR)
        assert following.missing() == {}
        assert await following.mirror.note("left") is None


async def test_row_26_what_never_shows_is_given_up_loudly(autojump_clock: MockClock) -> None:
    """After its time an owed revision becomes an alarm, and is asked for no more."""
    upstream = make_upstream("left")
    following = Following(upstream, terms=OwedTerms(owed_for=6 * HOUR))
    async with following.running():
        await trio.sleep(60)
        upstream.feed.announce("left", "999-ffffffffffffffffffffffffffffffff")
        await trio.sleep(9 * HOUR)
        assert await following.mirror.note("left") is None
    assert any("never showed" in alarm for alarm in following.summary.alarms)


async def test_row_03_a_404_alone_deletes_nothing(autojump_clock: MockClock) -> None:
    """A package that the registry does not find is served on for hours, and noted."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.fail("left", Fault.status(404), times=None)
        await trio.sleep(20 * HOUR)
        assert following.mirror.served("left") == ["1.0.0"]
        note = await following.mirror.note("left")
        assert note is not None
        assert note.kind == "UpstreamNotFoundError"


async def test_row_03_a_deletion_counts_when_it_is_confirmed(autojump_clock: MockClock) -> None:
    """The feed's tombstone and two 404s an hour apart: no longer served, bytes kept, tombstone written."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        tarball = following.mirror.tarball("left", "1.0.0")
        upstream.sim.remove("left")
        await trio.sleep(1800)
        assert following.mirror.served("left") == ["1.0.0"]
        await trio.sleep(2 * HOUR)
    assert following.mirror.served("left") == []
    assert following.mirror.tarball("left", "1.0.0") == tarball
    assert [stone["event"] for stone in following.mirror.tombstones()] == ["deleted"]
    assert await following.mirror.note("left") is None


async def test_p3_rows_of_packages_that_never_were_leave_nothing(autojump_clock: MockClock) -> None:
    """A tombstone of a package that we never had is done at once."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.feed.announce("ghost", "2-00000000000000000000000000000000", is_deleted=True)
        upstream.feed.announce("_design/app")
        await trio.sleep(60)
    assert following.mirror.keys("state/unfinished/") == []


async def test_p8_killed_and_restarted_nothing_is_asked_twice(autojump_clock: MockClock) -> None:
    """A restart goes on from the cursor; rows that it repeats cost a look at the record and no request."""
    upstream = make_upstream(*(f"p{number}" for number in range(20)))
    following = Following(upstream)
    async with following.running(is_killed=True):
        await trio.sleep(60)
        for number in range(20):
            upstream.sim.publish(f"p{number}", "1.1.0")
        await trio.sleep(29)
    following.requests()
    async with following.running():
        await trio.sleep(60)
    assert [target for target in following.requests() if target != "/-/npm/v1/keys"] == []
    assert following.missing() == {}


async def test_p8_the_cursor_never_passes_a_package_in_work(autojump_clock: MockClock) -> None:
    """A download that hangs holds the cursor, and a restart reads the row again."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    async with following.running(is_killed=True):
        await trio.sleep(60)
        before = following.cursor()["position"]
        following.mirror.storage.fail_before("put", "npm/left/*", _gone(), times=99)
        following.mirror.storage.fail_before("put", "state/unfinished/*", _gone(), times=99)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.publish("right", "1.1.0")
        await trio.sleep(60)
        assert following.mirror.served("right") == ["1.0.0", "1.1.0"]
        assert following.cursor()["position"] == before
    following.mirror.storage.heal()
    async with following.running():
        await trio.sleep(60)
    assert following.missing() == {}


async def test_p8_two_workers_on_one_shard_one_loses_and_says_so(autojump_clock: MockClock) -> None:
    """The loser names the winner and what to do; nothing is corrupted."""
    upstream = make_upstream("left")
    first, second = Following(upstream), Following(upstream, worker="worker-2")
    second.mirror = first.mirror

    async def duel() -> None:
        async with first.running():
            await trio.sleep(60)
            async with second.running():
                await trio.sleep(60)
                upstream.sim.publish("left", "1.1.0")
                await trio.sleep(60)

    with pytest.raises(ExceptionGroup) as found:
        await duel()
    assert found.group_contains(CursorLostError, match="worker-2.*--shard|worker-1.*--shard")
    assert await first.mirror.audit("left") == []


async def test_p3_once_is_complete_or_says_what_is_owed(autojump_clock: MockClock) -> None:
    """A scheduled job catches up to the head, compares what is due, and tries every note again."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    summary = await following.once()
    assert (summary.exit_code(), following.missing()) == (ExitCode.COMPLETE, {})
    upstream.sim.publish("left", "1.1.0")
    upstream.sim.fail("/left/-/left-1.1.0.tgz", Fault.status(404))
    await following.once()
    assert await following.mirror.note("left") is not None
    upstream.sim.heal()
    await following.once()
    assert following.missing() == {}


async def test_a_changed_selection_is_swept_by_the_next_run(autojump_clock: MockClock) -> None:
    """New rules need no flag; packages that were selected before are not asked for again."""
    upstream = make_upstream("left", "right")
    following = Following(upstream, rules=("left",))
    await following.once()
    assert following.mirror.served("right") == []
    following.mirror.rules = ["left", "r*"]
    following.requests()
    await following.once()
    assert following.mirror.served("right") == ["1.0.0"]
    assert [target for target in following.requests() if target.startswith("/left")] == []


async def test_shards_share_nothing_and_leave_nothing_out(autojump_clock: MockClock) -> None:
    """Four followers of four shards mirror everything, each its part, each with a cursor of its own."""
    upstream = make_upstream(*(f"p{number}" for number in range(40)))
    parts = [Following(upstream, shard=shard, worker=shard.key) for shard in WHOLE.split(4)]
    for part in parts:
        part.mirror = parts[0].mirror
        await part.once()
    assert parts[0].missing() == {}
    assert sum(part.summary.counts["packages_updated"] for part in parts) == 40
    assert len(parts[0].mirror.keys("state/cursor/")) == 4


def _gone() -> Exception:
    return StorageUnavailableError("the storage is away")
