"""Where bytes come from: peers first, the authority, fallbacks last; what becomes of those that send wrong ones."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import ExitCode, StorageUnavailableError
from mirrorwitness.mirror.package import PackageSync
from mirrorwitness.mirror.sources import ABSENT_MOST, FAILED_MOST, PAUSE, read_dropped, restore_source
from mirrorwitness.mirror.tarballs import TarballOptions
from tests.fakes.registry import Fault, RegistrySimulator
from tests.unit.mirror.builder import NOW, make_mirror

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.unit.mirror.builder import Mirror

PEER = "http://peer.example/npm"


def make_sims(*versions: str, name: str = "left-pad") -> tuple[RegistrySimulator, RegistrySimulator]:
    """Return an authority and a peer with the same package."""
    authority, peer = RegistrySimulator(), RegistrySimulator(prefix="/npm")
    peer.base = PEER
    for sim in (authority, peer):
        for version in versions or ("1.0.0",):
            sim.publish(name, version)
    return authority, peer


def make_peered(*sims: RegistrySimulator, rules: tuple[str, ...] = ("left-pad",)) -> Mirror:
    """Return a mirror whose further registries are all peers; one tarball at a time, so that order is order."""
    return make_mirror(*sims, rules=rules, peers=sims[1:], options=TarballOptions(concurrency=1), workers=1)


def tarballs(sim: RegistrySimulator) -> list[str]:
    """Return the files that were asked for, and forget them."""
    found = [request.target.rpartition("/")[2] for request in sim.requests if "/-/" in request.target[5:]]
    sim.requests.clear()
    return [file for file in found if file.endswith(".tgz")]


async def test_p9_a_peer_spares_the_authority() -> None:
    """Metadata from the authority, every byte from the peer, and the summary says who sent how much."""
    authority, peer = make_sims("1.0.0", "1.1.0")
    mirror = make_peered(authority, peer)
    summary = await mirror.sync_well()
    assert tarballs(authority) == []
    assert tarballs(peer) == ["left-pad-1.0.0.tgz", "left-pad-1.1.0.tgz"]
    assert summary.sources == {PEER: summary.counts["bytes_downloaded"]}
    assert summary.counts["bytes_from_peer"] == summary.counts["bytes_downloaded"]


@pytest.mark.parametrize("fault", [Fault.status(404), Fault.status(500), Fault.status(403), Fault.truncated()])
async def test_a_peer_without_the_file_is_no_error(fault: Fault) -> None:
    """The authority is next; complete, no evidence, no alarm."""
    authority, peer = make_sims()
    peer.fail("/left-pad/-/left-pad-1.0.0.tgz", fault, times=None)
    mirror = make_peered(authority, peer)
    summary = await mirror.sync_well()
    assert (summary.alarms, summary.evidence) == ([], [])
    assert summary.counts["bytes_from_authority"] == summary.counts["bytes_downloaded"]


async def test_row_07_what_nobody_has_is_told_in_the_authoritys_words() -> None:
    """Missing everywhere: withheld, and the reason is what the authority answered, not what some peer did."""
    authority, peer = make_sims()
    authority.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.status(403), times=None)
    peer.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.status(404), times=None)
    summary = await make_peered(authority, peer).sync()
    assert summary.exit_code() is ExitCode.PARTIAL
    assert "http://registry.example/left-pad/-/left-pad-1.0.0.tgz: status 403" in summary.problems[0].reason


async def test_row_08_attack_a_peer_that_serves_wrong_bytes_is_dropped() -> None:
    """Asked twice for the first file and never again; the authority's bytes are served, evidence kept, exit 4."""
    authority, peer = make_sims("1.0.0", "1.1.0", "1.2.0")
    peer.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_peered(authority, peer)
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0", "1.2.0"]
    assert tarballs(peer) == ["left-pad-1.0.0.tgz"] * 2
    assert mirror.tarball("left-pad", "1.0.0") == authority.tarball("left-pad", "1.0.0")
    (evidence,) = mirror.evidence()
    assert (evidence["kind"], evidence["url"]) == ("wrong-bytes", f"{PEER}/left-pad/-/left-pad-1.0.0.tgz")
    assert await mirror.audit() == []
    (alarm,) = summary.alarms
    assert alarm.startswith(f"{PEER} sent wrong bytes on 2026-03-04T05:06:07Z and is not asked until 2026-03-11T")
    assert summary.evidence[0] in alarm


async def test_row_08_one_broken_transfer_drops_nobody() -> None:
    """Wrong once, right the second time: no evidence, and the peer stays."""
    authority, peer = make_sims("1.0.0", "1.1.0")
    peer.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.wrong_bytes())
    mirror = make_peered(authority, peer)
    summary = await mirror.sync_well()
    assert summary.counts["bytes_from_peer"] == summary.counts["bytes_downloaded"]


async def test_p8_a_dropped_peer_is_remembered_until_its_time_has_passed() -> None:
    """The next run, another process, does not ask it and says so; after the documented time it does."""
    authority, peer = make_sims()
    peer.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_peered(authority, peer)
    await mirror.sync()
    for sim in (authority, peer):
        sim.publish("left-pad", "1.1.0")
    peer.requests.clear()
    summary = await mirror.sync_well()
    assert tarballs(peer) == []
    assert "dropped by an earlier run" in summary.alarms[0]
    for sim in (authority, peer):
        sim.publish("left-pad", "1.2.0")
    mirror.now = NOW + timedelta(days=7)
    await mirror.sync_well()
    assert tarballs(peer) == ["left-pad-1.2.0.tgz"]


async def test_p8_a_dropped_peer_is_asked_again_when_an_operator_says_so() -> None:
    """Without a time it stays out for ever; releasing it tells what it was, and twice is once."""
    authority, peer = make_sims()
    peer.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_peered(authority, peer)
    mirror.dropped_for = 0
    await mirror.sync()
    note = await read_dropped(mirror.storage, PEER)
    assert note is not None
    assert (note.url, note.until, note.evidence) == (PEER, "", next(iter(mirror.keys("evidence/"))))
    mirror.now = NOW + timedelta(days=9999)
    for sim in (authority, peer):
        sim.publish("left-pad", "1.1.0")
    summary = await mirror.sync_well()
    assert "until it is released" in summary.alarms[0]
    assert await restore_source(mirror.storage, PEER) == note
    assert await restore_source(mirror.storage, PEER) is None
    for sim in (authority, peer):
        sim.publish("left-pad", "1.2.0")
    peer.requests.clear()
    await mirror.sync_well()
    assert tarballs(peer) == ["left-pad-1.2.0.tgz"]


async def test_row_08_a_drop_that_cannot_be_written_holds_for_this_run() -> None:
    """The storage loses the note's answer: the version is tried again by the next run, the peer is not asked more."""
    authority, peer = make_sims("1.0.0", "1.1.0")
    peer.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_peered(authority, peer)
    mirror.storage.fail_before("put", "state/sources/*", StorageUnavailableError("lost"))
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert tarballs(peer) == ["left-pad-1.0.0.tgz"] * 2
    await mirror.sync()
    assert mirror.served("left-pad") == ["1.0.0", "1.1.0"]


async def test_a_fallback_that_serves_wrong_bytes_is_dropped_too() -> None:
    """Whoever repeats must be exact; only the authority is never dropped."""
    authority, other = make_sims("1.0.0", "1.1.0")
    for version in ("1.0.0", "1.1.0"):
        authority.fail(f"/left-pad/-/left-pad-{version}.tgz", Fault.status(404), times=None)
        other.replace_bytes("left-pad", version, b"evil")
    mirror = make_mirror(authority, other, rules=["left-pad"], options=TarballOptions(concurrency=1))
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert len(set(tarballs(other))) == 1
    assert await read_dropped(mirror.storage, authority.base) is None
    assert await read_dropped(mirror.storage, PEER) is not None


async def test_the_authority_is_never_dropped() -> None:
    """Wrong bytes of the authority are evidence; it is asked for everything else all the same."""
    authority, peer = make_sims("1.0.0", "1.1.0")
    authority.replace_bytes("left-pad", "1.0.0", b"evil")
    for version in ("1.0.0", "1.1.0"):
        peer.fail(f"/left-pad/-/left-pad-{version}.tgz", Fault.status(404), times=None)
    mirror = make_peered(authority, peer)
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert mirror.served("left-pad") == ["1.1.0"]
    assert mirror.keys("state/sources/") == []


async def test_p9_a_peer_that_fails_is_left_alone_for_a_while(autojump_clock: MockClock) -> None:
    """After some failures in a row it costs nothing any more; after the pause one more failure is enough."""
    versions = [f"1.{number}.0" for number in range(FAILED_MOST + 3)]
    authority, peer = make_sims(*versions)
    for version in versions:
        peer.fail(f"/left-pad/-/left-pad-{version}.tgz", Fault.status(500), times=None)
    mirror = make_peered(authority, peer)
    run = await mirror.make_run()
    await run.run(mirror.selection().names())
    assert len(set(tarballs(peer))) == FAILED_MOST
    (alarm,) = run.summary.alarms
    assert alarm.startswith(f"{PEER}: left alone for 300 s at a time, after {FAILED_MOST} failures in a row")
    await trio.sleep(PAUSE)
    for sim in (authority, peer):
        sim.publish("left-pad", "2.0.0")
        sim.publish("left-pad", "2.1.0")
    peer.fail("/left-pad/-/left-pad-2.0.0.tgz", Fault.status(500), times=None)
    again = await mirror.make_run()
    packages, before = again._attempts._packages, run._attempts._packages
    assert isinstance(packages, PackageSync)
    assert isinstance(before, PackageSync)
    packages._tarballs._sources = before._tarballs._sources
    await again.run(mirror.selection().names())
    assert set(tarballs(peer)) == {"left-pad-2.0.0.tgz"}
    assert again.summary.alarms == []


async def test_p9_a_peer_that_has_nothing_of_ours_is_left_alone(autojump_clock: MockClock) -> None:
    """Files that it has not got cost at most that many requests; one that it has begins the count anew."""
    versions = [f"1.{number}.0" for number in range(ABSENT_MOST + 20)]
    authority, peer = make_sims(*versions)
    for version in versions[1:]:
        peer.fail(f"/left-pad/-/left-pad-{version}.tgz", Fault.status(404), times=None)
    mirror = make_peered(authority, peer)
    summary = await mirror.sync_well()
    assert len(tarballs(peer)) == ABSENT_MOST + 1
    assert "100 absent files in a row" in summary.alarms[0]


async def test_attack_private_names_are_told_to_no_peer() -> None:
    """Dependency confusion: a scope that is at home at the authority is asked for there and nowhere else."""
    authority, peer = make_sims("1.0.0", name="@corp/tool")
    peer.replace_bytes("@corp/tool", "1.0.0", b"evil")
    options = TarballOptions(concurrency=1, authority_only=frozenset({"@corp"}))
    mirror = make_mirror(authority, peer, rules=["@corp/tool"], peers=(peer,), options=options)
    await mirror.sync_well()
    assert peer.requests == []


async def test_one_source_costs_no_look_at_the_storage() -> None:
    """P9: without peers there are no notes to read."""
    authority, _ = make_sims()
    mirror = make_mirror(authority, rules=["left-pad"])
    await mirror.sync_well()
    assert [key for key in mirror.storage.keys_of("read") if key.startswith("state/sources/")] == []
    sources = mirror.sources(mirror.upstream())
    assert repr(sources) == "<Sources 1, 0 dropped, authority http://registry.example>"


async def test_a_damaged_note_drops_nobody() -> None:
    """A note that cannot be read is none: bytes are verified whoever sends them."""
    authority, peer = make_sims()
    peer.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_peered(authority, peer)
    await mirror.sync()
    (key,) = mirror.keys("state/sources/")
    mirror.storage.set_bytes(key, b"{")
    assert await read_dropped(mirror.storage, PEER) is None
