"""What a log has of single packages, as its sequencer sees it: indexes and records in its own storage.

Only records below the log's size count: those of a batch that is being logged are told by the log itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from mirrorwitness.sumdb.index import PackageIndex
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.stored import StoredLog

if TYPE_CHECKING:
    from mirrorwitness.npm.names import PackageName
    from mirrorwitness.storage import Storage

__all__ = ["Logged", "Sized"]


class Sized(Protocol):
    """A log whose size is known: `mirrorwitness.sumdb.log.Log`."""

    @property
    def size(self) -> int:
        """How many records are logged, durable and complete."""
        ...


class Logged:
    """Reads what a log has of packages.

    Args:
        storage: where the log is.
        log: says how many records it has.
    """

    def __init__(self, storage: Storage, log: Sized) -> None:
        self._storage = storage
        self._log = log
        self._prover = Prover(StoredLog(storage))

    def __repr__(self) -> str:
        return f"<Logged {self._log!r}>"

    async def index(self, name: PackageName) -> PackageIndex:
        """Return the index of a package.

        Raises:
            StorageError: the storage failed.
            UpstreamProtocolError: the index is damaged.
        """
        index = await read_index(self._storage, name)
        size = self._log.size
        return PackageIndex(name, tuple([line for line in index.lines if line.index < size]))

    async def record(self, index: int) -> bytes:
        """Return the bytes of a record.

        Raises:
            StorageError: the storage failed.
            UpstreamProtocolError: its bundle is damaged.
        """
        return await self._prover.entry(index, self._log.size)
