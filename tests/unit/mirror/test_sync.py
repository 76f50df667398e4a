"""One run over all packages: exit codes, notes, stopping, politeness, memory (P3, P8, P9, P10)."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections import Counter
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import (
    EquivocationError,
    ExitCode,
    MirrorWitnessError,
    StorageRefusedError,
    StorageUnavailableError,
    UpstreamNotFoundError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.attempt import Attempts
from mirrorwitness.mirror.outcome import PROBLEMS_KEPT, Problem, RunSummary
from mirrorwitness.mirror.owed import OwedTerms
from mirrorwitness.mirror.result import PackageResult, Status
from mirrorwitness.mirror.sync import SyncRun
from mirrorwitness.npm.names import PackageName
from tests.fakes.registry import Fault, RegistrySimulator
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.builder import NOW, STAMP, lasting, make_mirror

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mirrorwitness.mirror.progress import Progress

STATUSES = {
    None: st.sampled_from([Status.UNCHANGED, Status.UPDATED]),
    UpstreamNotFoundError: st.just(Status.UNFINISHED),
    UpstreamUnreachableError: st.just(Status.UNFINISHED),
    UpstreamRefusedError: st.just(Status.UNFINISHED),
    StorageUnavailableError: st.just(Status.UNFINISHED),
    EquivocationError: st.just(Status.DIVERGED),
}


@st.composite
def results(draw: st.DrawFn) -> PackageResult:
    kind = draw(st.sampled_from(list(STATUSES)))
    return PackageResult(PackageName("p"), draw(STATUSES[kind]), error=None if kind is None else kind("why"))


class TestExitCode:
    @given(st.lists(results(), max_size=5), st.booleans(), st.booleans())
    def test_p3_zero_means_complete(self, found: list[PackageResult], is_full: bool, is_stopped: bool) -> None:  # noqa: FBT001
        """0 only if nothing is missing; 4 whenever something disagreed; 5 only if nothing could be done at all."""
        summary = RunSummary(fatal=StorageRefusedError("full") if is_full else None, is_interrupted=is_stopped)
        for result in found:
            summary.add(result)
        code = summary.exit_code()
        statuses = {result.status for result in found}
        is_whole = statuses <= {Status.UNCHANGED, Status.UPDATED} and not is_full and not is_stopped
        assert (code is ExitCode.COMPLETE) == is_whole
        assert (code is ExitCode.DIVERGENCE) == (Status.DIVERGED in statuses)
        if code is ExitCode.UPSTREAM:
            assert statuses == {Status.UNFINISHED}
        assert len(summary.problems) == sum(result.problem() is not None for result in found)

    def test_each_reason_alone(self) -> None:
        """The table of P3, one line each."""
        kept = RunSummary(counts=Counter(packages_updated=1))
        assert [
            kept.exit_code(),
            RunSummary().exit_code(),
            RunSummary(counts=Counter(packages_updated=1, packages_unfinished=1)).exit_code(),
            RunSummary(counts=Counter(packages_diverged=1), is_interrupted=True).exit_code(),
            RunSummary(counts=Counter(packages_unfinished=1, packages_upstream_failed=1)).exit_code(),
            RunSummary(is_interrupted=True).exit_code(),
            RunSummary(fatal=StorageRefusedError("full")).exit_code(),
        ] == [0, 0, 3, 4, 5, 130, 3]

    def test_p10_problems_are_kept_up_to_a_bound(self) -> None:
        """More are counted only."""
        summary = RunSummary()
        for number in range(PROBLEMS_KEPT + 10):
            name = PackageName(f"p{number}")
            summary.add(PackageResult(name, Status.UNFINISHED, error=MirrorWitnessError("x"), alarms=["a", "b"]))
        assert len(summary.problems) == len(summary.alarms) == PROBLEMS_KEPT
        assert summary.problems[-1] == Problem(f"p{PROBLEMS_KEPT - 1}", "unfinished", "x")
        assert summary.counts["packages_unfinished"] == PROBLEMS_KEPT + 10


class TestRun:
    async def test_p9_a_run_without_changes_asks_once_and_writes_nothing(self) -> None:
        """At most one conditional request for each package, no body, no write at all."""
        sim = RegistrySimulator()
        for name in ("a", "b", "@s/c"):
            sim.publish(name, "1.0.0")
        mirror = make_mirror(sim, rules=["a", "b", "@s/c"])
        await mirror.sync_well()
        sim.requests.clear()
        mirror.storage.operations.clear()
        summary = await mirror.sync()
        asked = [request for request in sim.requests if request.target != "/-/npm/v1/keys"]
        assert sorted(request.target for request in asked) == ["/@s%2fc", "/a", "/b"]
        assert all("if-none-match" in request.headers for request in asked)
        assert mirror.storage.keys_of("put") + mirror.storage.keys_of("delete") == []
        assert summary.counts["packages_unchanged"] == 3
        assert (summary.counts["versions"], summary.counts["tarballs_downloaded"]) == (3, 0)

    async def test_an_upstream_without_validators_costs_a_body_and_no_write(self) -> None:
        """The registry copy that some machines reach sends no ETag: the digest of the document says the same."""
        sim = RegistrySimulator()
        sim.publish("a", "1.0.0")
        mirror = make_mirror(sim, rules=["a"])
        await mirror.sync_well()
        record = await mirror.record("a")
        forgetful = msgspec.structs.replace(record, etag=None, last_modified=None)
        mirror.storage.set_bytes(layout.record_key(PackageName("a")), msgspec.json.encode(forgetful))
        mirror.storage.operations.clear()
        summary = await mirror.sync()
        assert summary.counts["packages_unchanged"] == 1
        assert mirror.storage.keys_of("put") == []

    async def test_p8_notes_appear_count_and_go_away(self) -> None:
        """One bad package stops no other; its note counts the attempts and goes when it is complete."""
        sim = RegistrySimulator()
        sim.publish("good", "1.0.0")
        sim.publish("bad", "1.0.0")
        sim.fail("bad", Fault.status(404), times=2)
        mirror = make_mirror(sim, rules=["bad", "good"])
        for attempt in (1, 2):
            summary = await mirror.sync()
            assert summary.exit_code() is ExitCode.PARTIAL
            assert mirror.served("good") == ["1.0.0"]
            note = await mirror.note("bad")
            assert note is not None
            assert (note.attempts, note.first, note.kind) == (attempt, STAMP, "UpstreamNotFoundError")
        await mirror.sync_well()
        assert mirror.keys(layout.UNFINISHED_PREFIX) == []

    async def test_a_note_goes_away_although_upstream_is_unchanged(self) -> None:
        """A complete package whose note could not be removed loses it in the next run."""
        sim = RegistrySimulator()
        sim.publish("a", "1.0.0")
        sim.fail("a", Fault.status(404))
        mirror = make_mirror(sim, rules=["a"])
        await mirror.sync()
        mirror.storage.fail_before("delete", "state/unfinished/*", StorageUnavailableError("lost"))
        summary = await mirror.sync()
        assert (summary.exit_code(), len(summary.alarms)) == (ExitCode.COMPLETE, 1)
        assert await mirror.note("a") is not None
        await mirror.sync_well()
        assert await mirror.note("a") is None

    async def test_p3_what_is_asked_for_by_name_and_not_there_is_partial(self) -> None:
        """A pinned version that upstream does not have keeps the run from being complete."""
        sim = RegistrySimulator()
        sim.publish("a", "1.0.0")
        mirror = make_mirror(sim, rules=["a@1.0.0", "a@9.9.9"])
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert summary.problems == [
            Problem("a", "unfinished", "a@9.9.9: pinned, and the registry does not have it (a test)")
        ]
        assert mirror.served("a") == ["1.0.0"]

    async def test_p3_an_upstream_that_is_down_is_exit_5(self) -> None:
        """Nothing could be asked at all; what is stored stays."""
        sim = RegistrySimulator()
        sim.publish("a", "1.0.0")
        mirror = make_mirror(sim, rules=["a"])
        await mirror.sync_well()
        sim.fail("a", Fault.reset(), times=None)
        assert (await mirror.sync()).exit_code() is ExitCode.UPSTREAM
        assert mirror.served("a") == ["1.0.0"]

    async def test_a_refused_note_stops_the_run(self) -> None:
        """A storage that takes no note takes nothing."""
        sim = RegistrySimulator()
        mirror = make_mirror(sim, rules=["a", "b"], workers=1)
        mirror.storage.fail_before("put", "state/unfinished/*", StorageRefusedError("full"))
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert str(summary.fatal) == "full"
        assert summary.counts["packages_unfinished"] == 1

    async def test_a_storage_that_is_gone_stops_the_run(self) -> None:
        """Three packages in a row without an answer, their notes included: no fourth one is asked for."""
        sim = RegistrySimulator()
        names = [f"p{number}" for number in range(6)]
        for name in names:
            sim.publish(name, "1.0.0")
        mirror = make_mirror(sim, rules=names, workers=1)
        mirror.storage.fail_before("put", "*", StorageUnavailableError("no answer"), times=10**6)
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert (str(summary.fatal), summary.counts["packages_unfinished"]) == ("no answer", 3)

    async def test_packages_that_a_storage_cannot_take_stop_no_other(self) -> None:
        """A service may answer 500 for ever to some keys: with a good package in between the run goes on."""
        sim = RegistrySimulator()
        names = ["odd1", "odd2", "good1", "odd3", "odd4", "good2"]
        for name in names:
            sim.publish(name, "1.0.0")
        mirror = make_mirror(sim, rules=names, workers=1)
        mirror.storage.fail_before("put", "*odd*", StorageUnavailableError("500"), times=10**6)
        run = await mirror.make_run()
        summary = await run.run([PackageName(name) for name in names])
        assert (summary.fatal, summary.exit_code()) == (None, ExitCode.PARTIAL)
        assert [mirror.served(name) for name in ("good1", "good2")] == [["1.0.0"], ["1.0.0"]]
        assert summary.counts["packages_unfinished"] == 4

    async def test_a_stop_takes_no_further_package_and_finishes_those_in_work(self) -> None:
        """Exit 130; what was begun is whole."""
        sim = RegistrySimulator()
        for number in range(6):
            sim.publish(f"p{number}", "1.0.0")
        mirror = make_mirror(sim, rules=[f"p{number}" for number in range(6)], workers=1)
        run = await mirror.make_run()

        def names() -> Iterator[PackageName]:
            for number in range(6):
                if number == 3:
                    run.stop()
                yield PackageName(f"p{number}")

        summary = await run.run(names())
        assert (summary.exit_code(), summary.is_interrupted) == (ExitCode.INTERRUPTED, True)
        assert [mirror.served(f"p{number}") for number in range(6)] == [["1.0.0"]] * 3 + [[]] * 3
        assert repr(run) == f"<SyncRun {dict(summary.counts)} stopping>"

    async def test_every_worker_gone_ends_the_intake(self) -> None:
        """All workers stop over a refusing storage while names are left."""
        sim = RegistrySimulator()
        mirror = make_mirror(sim, rules=[f"p{number}" for number in range(50)], workers=3)
        mirror.storage.fail_before("read", "state/package/*", StorageRefusedError("403"), times=1000)
        summary = await mirror.sync()
        assert summary.exit_code() is ExitCode.PARTIAL
        assert 1 <= summary.counts["packages_unfinished"] <= 6

    @pytest.mark.slow
    async def test_two_runs_at_once_leave_what_one_leaves(self) -> None:
        """P8: workers share nothing but the storage."""
        sim = RegistrySimulator()
        for number in range(20):
            sim.publish(f"p{number}", "1.0.0")
            sim.publish(f"p{number}", "1.1.0")
        rules = [f"p{number}" for number in range(20)]
        one, two = make_mirror(sim, rules=rules), make_mirror(sim, rules=rules)
        two.storage = one.storage
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.sync_well)
            nursery.start_soon(two.sync_well)
        alone = make_mirror(sim, rules=rules)
        await alone.sync_well()
        assert list(one.storage.objects) == list(alone.storage.objects)
        left = lasting(one.storage.objects)
        for key, expected in lasting(alone.storage.objects).items():
            body = left[key]
            assert json.loads(body) == json.loads(expected) if key.endswith(".json") else body == expected


class Nothing:
    """A package sync that finds every package unchanged."""

    async def run(self, name: PackageName) -> PackageResult:
        """Return at once."""
        await trio.lowlevel.checkpoint()
        return PackageResult(name, Status.UNCHANGED)


@pytest.mark.slow
async def test_p10_memory_does_not_grow_with_the_number_of_packages() -> None:
    """Ten thousand packages leave counters, no state of their own."""
    mirror = make_mirror(RegistrySimulator(), rules=["a"], storage=MemoryStorage())

    async def held_after(count: int) -> int:
        progress: Progress = _Silent()
        attempts = Attempts(
            storage=mirror.storage,
            packages=Nothing(),  # type: ignore[arg-type]
            catalogue=mirror.catalogue,
            terms=OwedTerms(),
            summary=RunSummary(),
            progress=progress,
            now=lambda: NOW,
        )
        run = SyncRun(attempts=attempts, workers=4)
        gc.collect()
        tracemalloc.start()
        await run.run(PackageName(f"p{number}") for number in range(count))
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert run.summary.counts["packages_unchanged"] == count
        return held

    small, large = await held_after(100), await held_after(10_000)
    assert large - small < 20_000


class _Silent:
    def started(self, packages: int) -> None: ...
    def package_finished(self, name: PackageName, *, problem: str | None) -> None: ...
    def tarball_stored(self, size: int) -> None: ...
    def bytes_checked(self, size: int) -> None: ...
