"""Documents: what registries say of packages, read once for all look-ups that ask at about the same time.

Rules:

- A document is read for the first who needs it; whoever comes within `KEPT` is given the same. So a lockfile with a
  hundred versions of one package costs one document.
- What could not be read is not tried again within `FAILED` by those who wait for it.
- Of documents that nobody uses at most `MAX_KEPT_BYTES` are kept.

*Concurrency*: may be used by any number of tasks. *Cancellation*: at any point; whoever waits next reads it.

What it does not do: say whether a version is logged, or bound how many documents are in use (`AT_ONCE` of
`mirrorwitness.sumdb.demand` does).
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import UpstreamError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from msgspec import Raw

    from mirrorwitness.npm.names import PackageName, Version
    from mirrorwitness.npm.packument import Packument

__all__ = ["KEPT", "Document", "Documents"]

SECONDS: Final = 1.0

KEPT: Final = 5 * SECONDS
"""As long as a client may take between two look-ups, and not so long that a new version is missed by it."""

FAILED: Final = 2 * SECONDS

MAX_KEPT_BYTES: Final = 64 * 1024 * 1024
"""All documents together that nobody uses; most have 100 kB."""


@dataclass(frozen=True, slots=True)
class Document:
    """What a registry says of a package.

    Attributes:
        registry: its name in records.
        packument: the document.
        texts: each version's object in it.
        listed: all versions that it lists.
    """

    registry: str
    packument: Packument
    texts: Mapping[str, Raw]
    listed: frozenset[Version]


@dataclass(slots=True)
class _Shared:
    lock: trio.Lock = field(default_factory=trio.Lock)
    users: int = 0
    until: float = 0.0
    document: Document | None = None
    error: UpstreamError | None = None

    @property
    def size(self) -> int:
        return 0 if self.document is None else self.document.packument.size


class Documents:
    """Shares documents.

    Args:
        read: reads one.
    """

    def __init__(self, read: Callable[[PackageName], Awaitable[Document]]) -> None:
        self._read = read
        self._shared: dict[PackageName, _Shared] = {}

    def __repr__(self) -> str:
        used = sum(each.users > 0 for each in self._shared.values())
        return f"<Documents {used} in use, {len(self._shared) - used} kept>"

    @asynccontextmanager
    async def borrow(self, name: PackageName) -> AsyncGenerator[Document, None]:
        """Use the document of a package for the length of a block.

        Raises:
            MirrorWitnessError: it cannot be read.
        """
        shared = self._shared.pop(name, None) or _Shared()
        self._shared[name] = shared  # the last of those that are kept
        shared.users += 1
        try:
            yield await self._find(name, shared)
        finally:
            shared.users -= 1
            self._trim()

    async def _find(self, name: PackageName, shared: _Shared) -> Document:
        async with shared.lock:
            if trio.current_time() >= shared.until:
                shared.document = shared.error = None
            if shared.error is not None:
                # A new one for each task: two that raise one error would share its traceback.
                raise type(shared.error)(*shared.error.args) from shared.error
            if shared.document is None:
                try:
                    shared.document = await self._read(name)
                except UpstreamError as error:
                    shared.error, shared.until = error, trio.current_time() + FAILED
                    raise
                shared.until = trio.current_time() + KEPT
            return shared.document

    def _trim(self) -> None:
        """Forget what nobody uses and is too old or too much; the oldest first."""
        now = trio.current_time()
        unused = [(key, each) for key, each in self._shared.items() if not each.users]
        total = sum(each.size for _, each in unused)
        for key, each in unused:
            if each.until <= now or each.document is None or total > MAX_KEPT_BYTES:
                total -= each.size
                del self._shared[key]
