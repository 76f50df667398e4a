"""Ways in which the follower once lost a change, or waited for ever; found by a machine or a reader (P3, P6, P8)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.mirror.follower import FollowOptions
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.select import make_deny_rule
from tests.fakes.registry import Fault
from tests.unit.mirror.following import Following, make_upstream

if TYPE_CHECKING:
    from datetime import datetime

    from trio.testing import MockClock

    from mirrorwitness.storage import Body, ObjectInfo

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


def gone() -> Exception:
    return StorageUnavailableError("the storage is away")


async def test_p8_a_package_that_could_not_be_noted_holds_nobody_up_for_ever(autojump_clock: MockClock) -> None:
    """Neither stored nor noted for an hour, it is tried again; then the cursor moves on and later changes are read."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        following.mirror.storage.fail_before("put", "npm/left/*", gone(), times=10**6)
        following.mirror.storage.fail_before("put", "state/unfinished/left*", gone(), times=10**6)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.publish("right", "1.1.0")
        await trio.sleep(HOUR)
        before = following.cursor()["position"]
        following.mirror.storage.heal()
        upstream.sim.publish("right", "1.2.0")
        await trio.sleep(5 * MINUTE)
        assert following.missing() == {}
        await trio.sleep(MINUTE)
        assert int(following.cursor()["position"]) > int(before)


async def test_p8_a_sweep_over_a_package_that_cannot_be_noted_waits_between_its_tries(
    autojump_clock: MockClock,
) -> None:
    """The names are not asked for in a tight loop, and the sweep ends when the storage is back."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    following.mirror.storage.fail_before("put", "npm/left/*", gone(), times=10**6)
    following.mirror.storage.fail_before("put", "state/unfinished/left*", gone(), times=10**6)
    async with following.running():
        await trio.sleep(HOUR)
        asked = [request for request in upstream.feed.requests if request.target.startswith("/_all_docs")]
        assert len(asked) < HOUR / 5
        following.mirror.storage.heal()
        await trio.sleep(5 * MINUTE)
        assert following.missing() == {}
        await trio.sleep(MINUTE)
        assert "sweep" not in following.cursor()


async def test_p8_a_storage_that_is_away_during_a_sweep_ends_no_follower(autojump_clock: MockClock) -> None:
    """Listing what is stored fails for an hour; the follower waits, says so, and goes on."""
    upstream = make_upstream("left", "right")
    following = Following(upstream, options=FollowOptions(sweep_every=6 * HOUR))
    async with following.running():
        await trio.sleep(5.5 * HOUR)
        following.mirror.storage.fail_before("list", "*", gone(), times=10**6)
        upstream.feed.lose("left")
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(HOUR)
        following.mirror.storage.heal()
        await trio.sleep(HOUR)
        assert following.missing() == {}
    assert [alarm["kind"] for alarm in following.cursor()["alarms"]] == ["storage"]


async def test_p8_dead_between_record_and_note_the_missing_tarball_is_still_owed(autojump_clock: MockClock) -> None:
    """The record has the new revision, nobody has a note, and the row is acted upon all the same after a restart."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running(is_killed=True):
        await trio.sleep(60)
        upstream.sim.fail("/left/-/left-1.1.0.tgz", Fault.status(404), times=None)
        following.mirror.storage.fail_before("put", "state/unfinished/*", gone(), times=10**6)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(31)
    assert (await following.mirror.record("left")).rev == upstream.sim.packument("left")["_rev"]
    following.mirror.storage.heal()
    upstream.sim.heal()
    async with following.running():
        await trio.sleep(60)
        assert following.missing() == {}


async def test_row_03_a_deletion_is_not_lost_while_a_cache_still_shows_the_package(autojump_clock: MockClock) -> None:
    """A tombstone is a debt until the registry answers 404: documents are cached for minutes (research/B 2.3)."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.hold_packument("left", until=trio.current_time() + 10 * MINUTE)
        upstream.sim.remove("left")
        await trio.sleep(4 * HOUR)
    assert following.mirror.served("left") == []
    assert await following.mirror.note("left") is None


async def test_row_03_documents_that_no_record_knows_are_withdrawn_too(autojump_clock: MockClock) -> None:
    """A worker died between documents and record, then upstream deleted the package: it is not served for ever."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running(is_killed=True):
        await trio.sleep(60)
    following.mirror.storage.remove("state/package/left.json")
    upstream.sim.remove("left")
    async with following.running():
        await trio.sleep(3 * HOUR)
    assert following.mirror.served("left") == []
    assert await following.mirror.note("left") is None


async def test_row_03_deleted_published_and_deleted_again_with_a_death_in_between(autojump_clock: MockClock) -> None:
    """The record says deleted, documents of the second life are there without a record: they go as well."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running(is_killed=True):
        await trio.sleep(60)
        upstream.sim.remove("left")
        await trio.sleep(3 * HOUR)
        assert following.mirror.served("left") == []
        storage = following.mirror.storage
        put, kill = storage.put, trio.Event()

        async def die_before_record(key: str, body: Body, **conditions: Any) -> ObjectInfo:
            if key == "state/package/left.json" and following.mirror.served("left"):
                kill.set()
                await trio.sleep_forever()
            return await put(key, body, **conditions)

        storage.put = die_before_record  # type: ignore[method-assign]
        upstream.sim.publish("left", "2.0.0")
        await kill.wait()
    storage.put = put  # type: ignore[method-assign]
    assert following.mirror.served("left") == ["2.0.0"]
    upstream.sim.remove("left")
    async with following.running():
        await trio.sleep(3 * HOUR)
    assert following.mirror.served("left") == []


async def test_row_03_published_again_while_the_registry_still_answers_404(autojump_clock: MockClock) -> None:
    """The later row counts, also when its document shows only after the deletion would have been confirmed."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.remove("left")
        await trio.sleep(30 * MINUTE)
        upstream.sim.hold_packument("left", until=trio.current_time() + 2 * HOUR)
        upstream.sim.publish("left", "2.0.0")
        await trio.sleep(HOUR)
        assert following.mirror.served("left") == ["1.0.0"]
        await trio.sleep(3 * HOUR)
        assert following.missing() == {}


async def test_row_03_only_a_404_is_a_first_404(autojump_clock: MockClock) -> None:
    """A registry that was unwell when the tombstone came has not said anything: the hour begins with the first 404."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.fail("left", Fault.status(503), times=2)  # one request and its repetition
        upstream.sim.remove("left")
        await trio.sleep(HOUR)
        assert following.mirror.served("left") == ["1.0.0"]
        await trio.sleep(2 * HOUR)
        assert following.mirror.served("left") == []


async def test_row_03_a_late_tombstone_of_a_package_that_is_noted(autojump_clock: MockClock) -> None:
    """Its note says something else, and does not hide what the row says."""
    upstream = make_upstream("left")
    following = Following(upstream)
    async with following.running():
        await trio.sleep(60)
        upstream.sim.fail("/left/-/left-1.1.0.tgz", Fault.status(404), times=None)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(10 * MINUTE)
        assert await following.mirror.note("left") is not None
        upstream.feed.delay("left", until=trio.current_time() + HOUR)
        upstream.sim.remove("left")
        await trio.sleep(12 * HOUR)
    assert following.mirror.served("left") == []


@pytest.mark.parametrize("name", ["left", "le", "zz"])
async def test_row_29_a_lost_deletion_is_found_by_the_sweep(autojump_clock: MockClock, name: str) -> None:
    """What is served and not listed is taken for deleted, asked for, and withdrawn after the second 404."""
    upstream = make_upstream("left", "le", "l", "right", "zz")
    following = Following(upstream, options=FollowOptions(sweep_every=6 * HOUR))
    async with following.running():
        await trio.sleep(60)
        upstream.feed.lose(name)
        upstream.sim.remove(name)
        await trio.sleep(5 * HOUR)
        assert following.mirror.served(name) == ["1.0.0"]
        await trio.sleep(3 * HOUR)
        assert following.mirror.served(name) == []
        assert following.missing() == {}


async def test_row_26_a_revision_that_never_was_hides_no_later_one(autojump_clock: MockClock) -> None:
    """After it was given up, the next change is noticed as ever, though its number is lower."""
    upstream = make_upstream("left")
    following = Following(upstream, terms=OwedTerms(owed_for=6 * HOUR), options=FollowOptions(sweep_every=0))
    async with following.running():
        await trio.sleep(60)
        upstream.feed.announce("left", "999-ffffffffffffffffffffffffffffffff")
        await trio.sleep(9 * HOUR)
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(60)
        assert following.missing() == {}


async def test_row_26_what_was_announced_stays_owed_over_a_registry_that_was_unwell(autojump_clock: MockClock) -> None:
    """503 when the row came, an old document an hour later: the revision is still owed, and comes."""
    upstream = make_upstream("left")
    following = Following(upstream, options=FollowOptions(sweep_every=0, window=60, reread_every=DAY))
    async with following.running():
        await trio.sleep(60)
        upstream.sim.publish("left", "1.1.0")
        upstream.sim.fail("left", Fault.status(503), times=2)
        upstream.sim.serve_older("left", answers=3)
        await trio.sleep(2 * HOUR)
        assert following.missing() == {}


async def test_row_08_a_package_that_never_was_is_given_up_quietly(autojump_clock: MockClock) -> None:
    """Thousands of rows tell of packages that the registry does not know (research/B 1.4.8); a note lives a week."""
    upstream = make_upstream("left")
    following = Following(upstream, options=FollowOptions(sweep_every=0))
    async with following.running():
        await trio.sleep(60)
        upstream.feed.announce("ghost")
        await trio.sleep(DAY)
        assert await following.mirror.note("ghost") is not None
        await trio.sleep(7 * DAY)
        assert await following.mirror.note("ghost") is None
    assert following.summary.counts["owed_given_up"] == 1


async def test_row_28_a_late_row_is_found_by_a_job_that_runs_once_a_day(autojump_clock: MockClock) -> None:
    """The window reaches back from the last reading, not from now: what was late yesterday lies a day behind."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    await following.once()
    await trio.sleep(DAY)
    upstream.feed.delay("left", until=trio.current_time() + HOUR)
    upstream.sim.publish("left", "1.1.0")
    upstream.sim.publish("right", "1.1.0")
    await following.once()
    assert following.missing() != {}
    await trio.sleep(DAY)
    upstream.sim.publish("right", "1.2.0")
    await following.once()
    assert following.missing() == {}


@pytest.mark.parametrize("step", [-400 * DAY, 400 * DAY])
async def test_p8_a_clock_that_was_wrong_for_a_while_delays_nothing_for_long(
    autojump_clock: MockClock, step: float
) -> None:
    """Retries, the sweep and the window go on after the time of day has jumped by a year and back."""
    upstream = make_upstream("left", "right")
    following = Following(upstream, options=FollowOptions(sweep_every=6 * HOUR))
    skewed = _Skewed(following, step)
    async with skewed.running():
        await trio.sleep(60)
        upstream.sim.fail("/left/-/left-1.1.0.tgz", Fault.status(404))
        upstream.sim.publish("left", "1.1.0")
        await trio.sleep(30)
        skewed.step = 0
        await trio.sleep(9 * HOUR)
        assert following.missing() == {}
        upstream.feed.lose("right")
        upstream.sim.publish("right", "1.1.0")
        await trio.sleep(14 * HOUR)
        assert following.missing() == {}


async def test_a_deny_rule_for_one_name_under_a_glob_is_swept(autojump_clock: MockClock) -> None:
    """What is denied is withdrawn by the next run, without waiting for the package to change."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    await following.once()
    following.mirror.denied = [make_deny_rule("left", reason="bad", origin="a test")]
    await following.once()
    assert (following.mirror.served("left"), following.mirror.served("right")) == ([], ["1.0.0"])


async def test_p3_once_reads_to_the_end_though_pages_are_short(autojump_clock: MockClock) -> None:
    """A service may give two rows where a thousand were asked for."""
    upstream = make_upstream()
    following = Following(upstream)
    await following.once()
    upstream.feed.page_cap = 2
    for number in range(9):
        upstream.sim.publish(f"p{number}", "1.0.0")
    await following.once()
    assert following.missing() == {}


@pytest.mark.parametrize("sweeps", [False, True])
async def test_p8_stop_takes_no_more_of_a_page(autojump_clock: MockClock, sweeps: bool) -> None:  # noqa: FBT001
    """A thousand packages of one page are not all brought after a signal; the cursor stays before them."""
    upstream = make_upstream()
    following = Following(upstream)
    if not sweeps:
        await following.once()
    for number in range(300):
        upstream.sim.publish(f"p{number}", "1.0.0")
    async with following.running() as follower:
        while len(following.mirror.keys("state/package/")) < 5:
            await trio.lowlevel.checkpoint()
        follower.stop()
    assert len(following.mirror.keys("state/package/")) < 20
    await following.once()
    assert following.missing() == {}


async def test_p3_what_could_not_be_noted_is_known(autojump_clock: MockClock) -> None:
    """A run whose package is neither stored nor noted must not end as complete."""
    upstream = make_upstream("left", "right")
    following = Following(upstream)
    following.mirror.storage.fail_before("put", "npm/left/*", gone(), times=10**6)
    following.mirror.storage.fail_before("put", "state/unfinished/left*", gone(), times=10**6)
    follower, workload = await following.make()
    async with trio.open_nursery() as nursery:
        await nursery.start(workload.run)
        await follower.run(is_once=True)
        workload.close()
    assert follower._attempts.unfinished == 1


class _Skewed(Following):
    """A follower whose time of day is wrong."""

    def __init__(self, other: Following, step: float) -> None:
        super().__init__(other.upstream, options=other.options)
        self.mirror, self.step = other.mirror, step

    def now(self) -> datetime:
        """Return the time of day."""
        return super().now() + timedelta(seconds=self.step)
