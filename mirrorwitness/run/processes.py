"""One process for each of several shards: fork, wait, add up. Processes share nothing but the storage (P8).

Rules:

- Children are forked before any event loop or thread exists, so each begins clean.
- Signals that reach the parent are handed on; each child stops as it does alone.
- The result is the sum of the children's. A child that ended with an error, or died without a word (killed, out of
  memory), is an error that names its shard, told at once; the others go on to their ends.
"""

from __future__ import annotations

import os
import pickle
import selectors
import signal
import sys
import traceback
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mirrorwitness.errors import MirrorWitnessError, StorageUnavailableError, leaves_of
from mirrorwitness.mirror.outcome import RunSummary

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Generator, Sequence
    from types import FrameType

    from mirrorwitness.mirror.shards import Shard

__all__ = ["run_processes"]

_HANDED_ON = (signal.SIGINT, signal.SIGTERM)

_PIECE = 64 * 1024


@dataclass(slots=True)
class _Child:
    shard: Shard
    pid: int
    pipe: int
    body: bytearray = field(default_factory=bytearray)


def run_processes(
    work: Callable[[Shard], RunSummary], shards: Sequence[Shard], *, told: Callable[[str], None] | None = None
) -> RunSummary:
    """Run `work` for each shard in a process of its own, and add the summaries up.

    Args:
        work: what each does.
        shards: one for each process.
        told: told at once of a child that failed while others go on, perhaps for months; writes to standard error
            where None.

    Raises:
        ExceptionGroup: the errors that ended children.
    """
    total = RunSummary()
    errors: list[Exception] = []
    alive: dict[int, _Child] = {}
    with _handing_on(alive), selectors.DefaultSelector() as selector:
        for shard in shards:
            child = _fork(work, shard)
            alive[child.pid] = child
            selector.register(child.pipe, selectors.EVENT_READ, child)
        while alive:
            for key, _ in selector.select():
                child = key.data
                if piece := os.read(child.pipe, _PIECE):
                    child.body += piece
                    continue
                selector.unregister(child.pipe)
                os.close(child.pipe)
                found = _wait(child, alive)
                if isinstance(found, RunSummary):
                    total.merge(found)
                    continue
                errors.append(found)
                if alive:
                    (told or _tell)(f"{'; '.join(map(str, leaves_of(found)))}; {len(alive)} other processes go on")
    if errors:
        raise ExceptionGroup(f"{len(errors)} of {len(shards)} processes failed", errors)
    return total


def _wait(child: _Child, alive: dict[int, _Child]) -> RunSummary | Exception:
    """Wait for a child that has closed its pipe; from here on its id may be anybody's, and gets no signal."""
    del alive[child.pid]
    _, status = os.waitpid(child.pid, 0)
    return _read(bytes(child.body), child.shard, status)


def _tell(text: str) -> None:
    sys.stderr.write(f"error: {text}\n")
    sys.stderr.flush()


def _fork(work: Callable[[Shard], RunSummary], shard: Shard) -> _Child:
    reader, writer = os.pipe()
    # A signal that comes here is delivered when parent and child each know what to do with it.
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _HANDED_ON)
    pid = os.fork()
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writer)
        return _Child(shard, pid, reader)
    status = 1
    try:
        os.close(reader)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        with os.fdopen(writer, "wb") as file:
            file.write(pickle.dumps(_run(work, shard)))
        status = 0
    except BaseException:  # noqa: ASYNC103, BLE001 - nothing may return into the parent's code; no event loop here
        traceback.print_exc()
    finally:
        os._exit(status)


def _run(work: Callable[[Shard], RunSummary], shard: Shard) -> RunSummary | Exception:
    try:
        return work(shard)
    except BaseExceptionGroup as group:
        leaves = leaves_of(group)
        if not all(isinstance(leaf, MirrorWitnessError) for leaf in leaves):
            raise
        return ExceptionGroup(f"shard {shard}", [_named(leaf, shard) for leaf in leaves])
    except MirrorWitnessError as error:
        return _named(error, shard)


def _named(error: BaseException, shard: Shard) -> Exception:
    """Return the error with its shard, as the same kind of error: the exit code depends on it."""
    kind = type(error) if isinstance(error, MirrorWitnessError) else MirrorWitnessError
    return kind(f"shard {shard}: {error}")


def _read(body: bytes, shard: Shard, status: int) -> RunSummary | Exception:
    if body and os.waitstatus_to_exitcode(status) == 0:
        found: object = pickle.loads(body)  # noqa: S301 - written by our own child
        if isinstance(found, RunSummary | Exception):
            return found
    code = os.waitstatus_to_exitcode(status)
    how = f"was killed by signal {-code}" if code < 0 else f"ended with {code}"
    return StorageUnavailableError(f"the process of shard {shard} {how}; its packages go on with the next run")


@contextmanager
def _handing_on(alive: Collection[int]) -> Generator[None]:
    """Hand signals on to the children that are alive while the block runs."""

    def hand_on(number: int, _: FrameType | None) -> None:
        for pid in tuple(alive):
            os.kill(pid, number)

    before = {number: signal.signal(number, hand_on) for number in _HANDED_ON}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
