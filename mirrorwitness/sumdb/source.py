"""What a log is read from: the protocols that all readers of a log share.

Implementations: over HTTP (`mirrorwitness.sumdb.logclient`, `mirrorwitness.sumdb.lookupclient`), and in a storage
(`mirrorwitness.sumdb.stored`).

Rules for every implementation:

- What it returns is somebody's bytes. A head is believed under the log's keys, tiles and entries once a root vouches
  for them; only lengths are checked here.
- A full tile or bundle may come in the place of a partial one that is gone.
- All methods may be called by many tasks at once; each is a checkpoint, and may be cancelled at any point.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.tlog.tiles import EntriesTile, Tile

__all__ = ["LogSource", "LookupSource"]


class LogSource(Protocol):
    """Reads one log."""

    async def read_head(self) -> bytes:
        """Return the checkpoint that is published, as it is.

        Raises:
            UpstreamError: the log cannot be reached.
            StorageError: the storage failed.
        """
        ...

    async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
        """Return tiles, each of the length that its name says.

        Raises:
            UpstreamError: one cannot be had, or has another length.
            StorageError: one cannot be read.
        """
        ...

    async def read_entries(self, tiles: Sequence[EntriesTile]) -> dict[EntriesTile, bytes]:
        """Return bundles of entries; `mirrorwitness.tlog.entries` cuts them.

        Raises:
            UpstreamError: one cannot be had, or is too large.
            StorageError: one cannot be read.
        """
        ...


class LookupSource(Protocol):
    """Looks versions up in one checksum database."""

    async def read_lookup(self, name: PackageName, version: Version, *, size: int) -> bytes:
        """Return the answer for one version in the tree of a size (`mirrorwitness.sumdb.lookups`), as it came.

        Raises:
            UpstreamNotFoundError: the log has no record of it; the message says why.
            UpstreamError: nobody can say.
        """
        ...
