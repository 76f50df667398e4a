"""Bringing tarballs: sources in order, adoption, races, storages without conditions, refusals (P1, P5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import (
    ExitCode,
    PreconditionFailedError,
    StorageRefusedError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.tarballs import TarballOptions
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fakes.storage import MemoryStorage
from tests.fault.invariants import check_invariants
from tests.unit.mirror.builder import make_mirror, spool_directory

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.storage import Body, ObjectInfo

FILE = "/left-pad/-/left-pad-1.0.0.tgz"


def make_sims() -> tuple[RegistrySimulator, RegistrySimulator]:
    """Return an authority and a mirror of it, with one package."""
    first, second = RegistrySimulator(), RegistrySimulator(prefix="/repository/npm")
    second.base = "http://second.example/repository/npm"
    for sim in (first, second):
        sim.publish("left-pad", "1.0.0")
    return first, second


def files_in(directory: Path) -> list[Path]:
    return list(directory.iterdir())


class Stubborn(MemoryStorage):
    """A storage that answers conditional puts in its own way."""

    def __init__(self, error: Exception, *, appears: bytes | None = None) -> None:
        super().__init__()
        self._error = error
        self._appears = appears

    async def put(self, key: str, body: Body, *, if_absent: bool = False, **options: Any) -> ObjectInfo:
        """Refuse the condition, perhaps because somebody else wrote a moment ago."""
        if if_absent and "/-/" in key:
            if self._appears is not None:
                self.set_bytes(key, self._appears)
            raise self._error
        return await super().put(key, body, **options)


@pytest.mark.parametrize("fault", [Fault.status(404), Fault.status(500), Fault.status(403), Fault.truncated()])
async def test_a_second_source_supplies_what_the_authority_has_not(fault: Fault) -> None:
    """Anybody may supply bytes, since they are verified: complete, without evidence."""
    first, second = make_sims()
    first.fail(FILE, fault, times=None)
    mirror = make_mirror(first, second, rules=["left-pad"])
    await mirror.sync_well()
    assert mirror.evidence() == []
    assert [request.target for request in second.requests] == ["/repository/npm/left-pad/-/left-pad-1.0.0.tgz"]


async def test_row_08_wrong_bytes_of_the_authority_are_evidence_although_another_source_helps() -> None:
    """The version is served from the second source's bytes; the run exits with 4 and names the evidence."""
    first, second = make_sims()
    first.replace_bytes("left-pad", "1.0.0", b"evil")
    mirror = make_mirror(first, second, rules=["left-pad"])
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert mirror.tarball("left-pad", "1.0.0") == second.tarball("left-pad", "1.0.0")
    assert summary.problems[0].reason == f"left-pad: a source disagreed, the evidence is {summary.evidence[0]}"
    note = await mirror.note("left-pad")
    assert note is not None
    assert (note.kind, note.versions) == ("diverged", {})
    await mirror.sync_well()
    assert await mirror.note("left-pad") is None


async def test_row_08_wrong_bytes_weigh_more_than_an_absent_file() -> None:
    """Two sources, one with other bytes, one without the file: a divergence, whatever the order."""
    for wrong in (0, 1):
        sims = make_sims()
        sims[wrong].replace_bytes("left-pad", "1.0.0", b"evil")
        sims[1 - wrong].fail(FILE, Fault.status(404), times=None)
        mirror = make_mirror(*sims, rules=["left-pad"])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.DIVERGENCE
        assert mirror.served("left-pad") == []
        assert len(mirror.evidence()) == 1


async def test_p5_stored_bytes_are_never_overwritten() -> None:
    """Other bytes lie under the key already, from nobody knows where: they stay, and are evidence."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    mirror = make_mirror(sim, rules=["left-pad"])
    key = mirror.tarball_key("left-pad", "1.0.0")
    mirror.storage.set_bytes(key, b"who put this here")
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.DIVERGENCE
    assert mirror.storage.objects[key] == b"who put this here"
    assert "other bytes are stored under npm/left-pad/-/left-pad-1.0.0.tgz already" in summary.problems[0].reason
    assert mirror.evidence()[0]["kind"] == "stored-bytes"
    assert [request.target for request in sim.requests if request.target == FILE] == []


@pytest.mark.parametrize("is_good", [True, False])
async def test_p5_a_lost_race_adopts_what_the_winner_stored(is_good: bool) -> None:  # noqa: FBT001
    """Another worker was first: its bytes are verified, never replaced."""
    sim = RegistrySimulator()
    good = sim.publish("left-pad", "1.0.0")
    storage = Stubborn(PreconditionFailedError("lost"), appears=good if is_good else b"evil")
    mirror = make_mirror(sim, rules=["left-pad"], storage=storage)
    summary = await mirror.sync()
    assert summary.exit_code() is (ExitCode.COMPLETE if is_good else ExitCode.DIVERGENCE)
    assert mirror.tarball("left-pad", "1.0.0") == (good if is_good else b"evil")
    assert mirror.served("left-pad") == (["1.0.0"] if is_good else [])


@pytest.mark.parametrize("appears", [None, b"evil"])
async def test_p5_without_conditional_puts_it_looks_first(appears: bytes | None) -> None:
    """A storage that knows no conditions: stored where nothing is, adopted (or refused) where something is."""
    sim = RegistrySimulator()
    good = sim.publish("left-pad", "1.0.0")
    storage = Stubborn(UnsupportedConditionError("501"), appears=appears)
    mirror = make_mirror(sim, rules=["left-pad"], storage=storage)
    summary = await mirror.sync()
    assert mirror.tarball("left-pad", "1.0.0") == (appears or good)
    assert summary.exit_code() is (ExitCode.DIVERGENCE if appears else ExitCode.COMPLETE)


async def test_a_listing_in_pages_finds_everything_that_is_stored() -> None:
    """More stored tarballs than a page of a listing: all are adopted, none is downloaded."""
    sim = RegistrySimulator()
    for number in range(1010):
        sim.publish("left-pad", f"1.0.{number}", data=f"{number}".encode())
    mirror = make_mirror(sim, rules=["left-pad"])
    await mirror.sync_well()
    mirror.storage.remove(layout.record_key(PackageName("left-pad")))
    summary = await mirror.sync_well()
    assert (summary.counts["tarballs_downloaded"], summary.counts["versions"]) == (0, 1010)


async def test_tarballs_that_go_to_disk_are_the_same(tmp_path: Path) -> None:
    """P10: without memory everything is spooled; nothing is left in the directory."""
    sim = RegistrySimulator()
    body = sim.publish("left-pad", "1.0.0", files={"data.bin": bytes(range(256)) * 10_000})
    mirror = make_mirror(sim, rules=["left-pad"], options=spool_directory(tmp_path))
    await mirror.sync_well()
    assert mirror.tarball("left-pad", "1.0.0") == body
    assert files_in(tmp_path) == []


async def test_a_spool_directory_that_is_full_or_gone_stops_the_run(tmp_path: Path) -> None:
    """P3: trying on would only repeat it; exit 3 with the directory in the message."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    mirror = make_mirror(sim, rules=["left-pad"], options=spool_directory(tmp_path / "gone"))
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.PARTIAL
    assert summary.fatal is not None
    assert str(tmp_path / "gone") in str(summary.fatal)


async def test_attack_oversized_tarball_is_withheld() -> None:
    """P10: larger than the limit: never stored, and no other version suffers."""
    sim = RegistrySimulator()
    sim.publish("left-pad", "1.0.0")
    sim.publish("left-pad", "2.0.0", data=b"x" * 1001)
    mirror = make_mirror(sim, rules=["left-pad"], options=TarballOptions(size_limit=1000))
    summary = await mirror.sync()
    assert summary.exit_code() is ExitCode.PARTIAL
    assert mirror.served("left-pad") == ["1.0.0"]
    assert "larger than the limit of 1000 bytes" in summary.problems[0].reason


async def test_a_refusal_ends_the_package_and_a_lost_answer_one_version() -> None:
    """A refusing storage is asked no further; an unavailable one withholds what it was about, to be adopted later."""
    for error, code in ((StorageRefusedError("full"), ExitCode.PARTIAL), (StorageUnavailableError("lost"), None)):
        sim = RegistrySimulator()
        for number in range(20):
            sim.publish("left-pad", f"1.0.{number}")
        mirror = make_mirror(sim, rules=["left-pad"], options=TarballOptions(concurrency=1))
        mirror.storage.fail_after("put", "npm/left-pad/-/left-pad-1.0.0.tgz", error)
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert (summary.fatal is error) == (code is not None)
        assert len(mirror.served("left-pad")) == (0 if code is not None else 19)
        check_invariants(mirror.storage.objects)
        await mirror.sync_well()


async def test_a_repr_shows_what_is_in_flight() -> None:
    """One line for whoever debugs (STYLE 42)."""
    sim = RegistrySimulator()
    packages = await make_mirror(sim, rules=["left-pad"]).packages()
    shown = "<Tarballs 0/8 in flight, <MemoryBudget 0 of 33554432 bytes taken>>"
    assert repr(packages._tarballs) == shown
