"""One process for each of several shards: fork, wait, add up. Processes share nothing but the storage (P8).

Rules:

- Children are forked before any event loop or thread exists, so each begins clean.
- Signals that reach the parent are handed on; each child stops as it does alone.
- The result is the sum of the children's. A child that ended with an error, or died without a word (killed, out of
  memory), is an error that names its shard; the others go on to their ends.
"""

from __future__ import annotations

import os
import pickle
import signal
import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from mirrorwitness.errors import MirrorWitnessError, StorageUnavailableError
from mirrorwitness.mirror.outcome import RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from types import FrameType

    from mirrorwitness.mirror.shards import Shard

__all__ = ["run_processes"]

_HANDED_ON = (signal.SIGINT, signal.SIGTERM)


def run_processes(work: Callable[[Shard], RunSummary], shards: Sequence[Shard]) -> RunSummary:
    """Run `work` for each shard in a process of its own, and add the summaries up.

    Raises:
        ExceptionGroup: the errors that ended children.
    """
    children = [(shard, *_fork(work, shard)) for shard in shards]
    total = RunSummary()
    errors: list[Exception] = []
    with _handing_on([pid for _, pid, _ in children]):
        for shard, pid, pipe in children:
            with os.fdopen(pipe, "rb") as file:
                body = file.read()
            _, status = os.waitpid(pid, 0)
            found = _read(body, shard, status)
            if isinstance(found, RunSummary):
                total.merge(found)
            else:
                errors.append(found)
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(children)} processes failed", errors)
    return total


def _fork(work: Callable[[Shard], RunSummary], shard: Shard) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    status = 1
    try:
        os.close(reader)
        with os.fdopen(writer, "wb") as file:
            file.write(pickle.dumps(_run(work, shard)))
        status = 0
    except BaseException:  # noqa: BLE001 - nothing may return into the parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _run(work: Callable[[Shard], RunSummary], shard: Shard) -> RunSummary | Exception:
    try:
        return work(shard)
    except BaseExceptionGroup as group:
        leaves = _leaves(group)
        if not all(isinstance(leaf, MirrorWitnessError) for leaf in leaves):
            raise
        return ExceptionGroup(f"shard {shard}", [_named(leaf, shard) for leaf in leaves])
    except MirrorWitnessError as error:
        return _named(error, shard)


def _named(error: BaseException, shard: Shard) -> Exception:
    """Return the error with its shard, as the same kind of error: the exit code depends on it."""
    kind = type(error) if isinstance(error, MirrorWitnessError) else MirrorWitnessError
    return kind(f"shard {shard}: {error}")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            leaves.extend(_leaves(cast("BaseExceptionGroup[BaseException]", error)))
        else:
            leaves.append(error)
    return leaves


def _read(body: bytes, shard: Shard, status: int) -> RunSummary | Exception:
    if body and os.waitstatus_to_exitcode(status) == 0:
        found: object = pickle.loads(body)  # noqa: S301 - written by our own child
        if isinstance(found, RunSummary | Exception):
            return found
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    return StorageUnavailableError(f"the process of shard {shard} {how}; its packages go on with the next run")


@contextmanager
def _handing_on(pids: Sequence[int]) -> Generator[None]:
    """Hand signals on to the children while the block runs."""

    def hand_on(number: int, _: FrameType | None) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue  # it has ended

    before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
