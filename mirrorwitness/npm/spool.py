"""Hold one tarball between download and storage: in memory while that is cheap, in a temporary file beyond.

Rules:

- Every byte passes the verifier on its way in; nothing leaves before `finish` checked it (P1).
- Memory is bounded over all spools at once by one `MemoryBudget` (P10): a spool that gets no memory goes to disk at
  once, so no spool ever waits for another and there is no deadlock to think about.
- `reset` makes a spool empty again, for a download that starts over.

What this does not do: decide what is expected (`mirrorwitness.npm.integrity`) or where the bytes go.

Cancellation: every `write` is a checkpoint once bytes go to disk; leaving the ``with`` block removes the file and
returns the memory, whatever happened.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

import trio

from mirrorwitness.errors import StorageRefusedError, UpstreamProtocolError
from mirrorwitness.npm.integrity import Verifier

if TYPE_CHECKING:
    from types import TracebackType
    from typing import BinaryIO

    from mirrorwitness.npm.integrity import Expectation
    from mirrorwitness.storage import Body

__all__ = ["MemoryBudget", "Spool"]

MEMORY_PER_SPOOL: Final = 8 * 1024 * 1024
"""Bytes of one tarball kept in memory at most: 99 % of real tarballs are smaller (research/F 0: p99 is 1.5 MB)."""

WRITE_PIECE: Final = 1024 * 1024
"""Bytes gathered before one thread hop writes them: a hop costs about 50 us, a write of this size about 300 us."""


class MemoryBudget:
    """Bytes of memory that all spools of one run share."""

    def __init__(self, total: int) -> None:
        self._free = total
        self.total = total

    def __repr__(self) -> str:
        return f"<MemoryBudget {self.total - self._free} of {self.total} bytes taken>"

    def take(self, count: int) -> bool:
        """Reserve `count` bytes; False where they are not there."""
        if count > self._free:
            return False
        self._free -= count
        return True

    def give_back(self, count: int) -> None:
        """Return `count` reserved bytes."""
        self._free += count


class Spool:
    """One tarball on its way; a sink for `mirrorwitness.npm.registry.Registry.tarball`.

    Args:
        expectation: what the bytes must match.
        budget: memory shared with all other spools.
        limit: bytes a tarball may have at most.
        what: name for messages, ``name@version``.
        directory: where large ones are spooled; None for the system's.
    """

    def __init__(
        self,
        *,
        expectation: Expectation,
        budget: MemoryBudget,
        limit: int,
        what: str,
        directory: Path | None = None,
    ) -> None:
        self._expectation = expectation
        self._budget = budget
        self._limit = limit
        self._what = what
        self._directory = directory
        self._verifier = Verifier(expectation)
        self._pieces: list[bytes] = []
        self._held = 0  # bytes reserved from the budget
        self._file: BinaryIO | None = None
        self._waiting: list[bytes] = []
        self._waiting_size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    @property
    def size(self) -> int:
        """Bytes received so far."""
        return self._verifier.size

    async def write(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            UpstreamProtocolError: the tarball is larger than the limit.
            StorageRefusedError: the temporary directory is full or not writable.
        """
        self._verifier.update(chunk)
        if self._verifier.size > self._limit:
            raise UpstreamProtocolError(f"{self._what}: the tarball is larger than the limit of {self._limit} bytes")
        # Once a piece waits for the disk, all later ones do: whatever memory became free, the order must not change.
        fits = self._file is None and not self._waiting and self._held + len(chunk) <= MEMORY_PER_SPOOL
        if fits and self._budget.take(len(chunk)):
            self._pieces.append(chunk)
            self._held += len(chunk)
            return
        self._waiting.append(chunk)
        self._waiting_size += len(chunk)
        if self._waiting_size >= WRITE_PIECE:
            await self._flush()

    async def reset(self) -> None:
        """Forget everything received; the download starts over."""
        self._clear()
        self._verifier = Verifier(self._expectation)

    async def finish(self) -> tuple[Body, Verifier]:
        """Check the whole tarball and return it, with the verifier that saw every byte of it.

        The body is valid until the ``with`` block is left.

        Raises:
            IntegrityMismatchError: the bytes are not the expected ones.
            StorageRefusedError: the temporary directory is full or not writable.
        """
        self._verifier.check()
        if self._file is None and not self._waiting:
            if len(self._pieces) > 1:
                self._pieces = [b"".join(self._pieces)]
            return (self._pieces[0] if self._pieces else b""), self._verifier
        await self._flush()
        assert self._file is not None  # noqa: S101 - _flush made it
        return Path(self._file.name), self._verifier

    async def _flush(self) -> None:
        pieces, self._waiting, self._waiting_size = self._waiting, [], 0
        try:
            await trio.to_thread.run_sync(self._append, pieces)
        except OSError as error:
            raise StorageRefusedError(
                f"{self._what}: cannot spool to {self._directory or tempfile.gettempdir()}: {error.strerror};"
                " free some space there or name another directory"
            ) from error

    def _append(self, pieces: list[bytes]) -> None:
        if self._file is None:
            self._file = tempfile.NamedTemporaryFile(prefix="mirrorwitness-", suffix=".tgz", dir=self._directory)  # type: ignore[assignment]  # noqa: SIM115 - closed by _clear
            self._file.writelines(self._pieces)  # type: ignore[union-attr]
            self._release()
        assert self._file is not None  # noqa: S101 - made above
        self._file.writelines(pieces)
        self._file.flush()

    def _release(self) -> None:
        self._pieces = []
        self._budget.give_back(self._held)
        self._held = 0

    def _clear(self) -> None:
        self._release()
        self._waiting, self._waiting_size = [], 0
        if self._file is not None:
            # Closing flushes what a full disk refused before, and refuses again; the file is gone either way.
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
