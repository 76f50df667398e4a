"""Several processes for several shards: sums, errors that keep their exit codes, children that die (P3, P8)."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from mirrorwitness import errors
from mirrorwitness.errors import (
    ExitCode,
    IntegrityMismatchError,
    MirrorWitnessError,
    StorageUnavailableError,
    UpstreamRefusedError,
    exit_code,
)
from mirrorwitness.mirror.outcome import Problem, RunSummary
from mirrorwitness.mirror.shards import WHOLE, Shard
from mirrorwitness.run.processes import run_processes

if TYPE_CHECKING:
    from collections.abc import Callable

SHARDS = WHOLE.split(3)
LARGE = 1000
"""Problems of one child: more bytes than a pipe holds."""


def every_error() -> list[type[MirrorWitnessError]]:
    """Return the whole tree of errors."""
    kinds = [getattr(errors, name) for name in errors.__all__]
    return [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, MirrorWitnessError)]


def fail_in_last(error: Exception) -> Callable[[Shard], RunSummary]:
    def work(shard: Shard) -> RunSummary:
        if shard == SHARDS[-1]:
            raise error
        return RunSummary()

    return work


def test_p8_summaries_add_up_however_large() -> None:
    """Counts are summed and problems put together, also where one child's are more than a pipe holds."""

    def work(shard: Shard) -> RunSummary:
        summary = RunSummary()
        summary.counts["packages_updated"] = shard.index
        summary.problems = [Problem(f"p{number}", "unfinished", "x" * 300) for number in range(LARGE)]
        return summary

    total = run_processes(work, SHARDS)
    assert total.counts["packages_updated"] == 1 + 2 + 3
    assert len(total.problems) == LARGE


@pytest.mark.parametrize("kind", every_error())
def test_p3_an_error_of_a_child_keeps_its_exit_code(kind: type[MirrorWitnessError]) -> None:
    """Every error of the tree crosses the pipe as its own kind, with its shard in front of its text."""
    with pytest.raises(ExceptionGroup) as found:
        run_processes(fail_in_last(kind("what happened")), SHARDS)
    (error,) = found.value.exceptions
    assert (type(error), str(error)) == (kind, "shard 3/3: what happened")
    assert exit_code(error) == exit_code(kind("x"))


def test_p3_errors_with_attributes_and_in_groups_cross_the_pipe() -> None:
    """A status code, a note, a cause: none of them keeps an error from being told."""
    refused = UpstreamRefusedError("403", status=403)
    refused.add_note("a note")
    refused.__cause__ = OSError(lambda: None)
    group = ExceptionGroup("several", [refused, ExceptionGroup("inner", [IntegrityMismatchError("bytes")])])
    with pytest.raises(ExceptionGroup) as found:
        run_processes(fail_in_last(group), SHARDS)
    assert found.group_contains(UpstreamRefusedError, match="shard 3/3: 403")
    assert found.group_contains(IntegrityMismatchError, match="shard 3/3: bytes")


def test_p3_a_fatal_error_in_a_summary_crosses_the_pipe() -> None:
    """What stopped one child early makes the sum partial."""

    def work(shard: Shard) -> RunSummary:
        return RunSummary(fatal=StorageUnavailableError("gone") if shard.index == 2 else None)

    assert run_processes(work, SHARDS).exit_code() is ExitCode.PARTIAL


@pytest.mark.parametrize("how", ["killed", "bug"])
def test_p8_a_child_that_dies_is_told_at_once_and_the_others_end_well(
    how: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Told while the others still work; the error names shard and signal, and the exit code is 3."""
    told: list[tuple[float, str]] = []

    def work(shard: Shard) -> RunSummary:
        if shard.index != 1:
            time.sleep(0.5)
            return RunSummary()
        if how == "bug":
            raise ZeroDivisionError
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    begin = time.monotonic()
    with pytest.raises(ExceptionGroup) as found:
        run_processes(work, SHARDS, told=lambda text: told.append((time.monotonic() - begin, text)))
    (error,) = found.value.exceptions
    assert isinstance(error, StorageUnavailableError)
    reason = "killed by signal 9" if how == "killed" else "ended with 1"
    assert f"shard 1/3 was {reason}" in str(error) or f"shard 1/3 {reason}" in str(error)
    assert exit_code(error) is ExitCode.PARTIAL
    ((after, text),) = told
    assert after < 0.5
    assert "2 other processes go on" in text
    assert ("ZeroDivisionError" in capfd.readouterr().err) == (how == "bug")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_p3_a_signal_reaches_every_child(number: signal.Signals) -> None:
    """A child stops as it does alone, and the parent waits for all."""

    def work(shard: Shard) -> RunSummary:
        caught: list[int] = []
        signal.signal(number, lambda got, _: caught.append(got))
        if shard == SHARDS[-1]:
            os.kill(os.getppid(), number)
        limit = time.monotonic() + 10
        while not caught and time.monotonic() < limit:
            time.sleep(0.01)
        summary = RunSummary()
        summary.counts["caught"] = len(caught)
        return summary

    before = signal.getsignal(number)
    assert run_processes(_later(work), SHARDS).counts["caught"] == 3
    assert signal.getsignal(number) is before


def _later(work: Callable[[Shard], RunSummary]) -> Callable[[Shard], RunSummary]:
    """Give the last child a moment, so that all have set their handlers."""

    def wait(shard: Shard) -> RunSummary:
        if shard == SHARDS[-1]:
            time.sleep(0.3)
        return work(shard)

    return wait
