"""Transfer: single objects on their way from one storage to another.

Rules:

- A small object goes through memory, a larger one through a temporary file: a put takes a whole body, and nobody has
  gigabytes of memory.
- Two objects are the same where their bytes are. Etags of different storages say nothing about each other, so both are
  read.
- Nothing in the target is replaced unseen: a put is under the condition that was looked at. A service that does no
  conditional writes is written to without; it is for whoever copies to keep others away then.

What it does not do: decide what is copied, and in which order (`mirrorwitness.run.copying`).

*Cancellation*: at any time; the temporary file is removed, and a put may have taken effect.
"""

from __future__ import annotations

import os
import tempfile
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import StorageRefusedError, UnsupportedConditionError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from mirrorwitness.storage import Body, ObjectReader, Storage

__all__ = ["SMALL_BYTES", "Transfer"]

SMALL_BYTES: Final = 1024 * 1024
"""Largest object that goes through memory: one piece of a stream, and more than all but the tarballs have."""


class Transfer:
    """Copies and compares objects of two storages. Safe to use from several tasks.

    Args:
        source: read, never written.
        target: where the objects go.
    """

    def __init__(self, source: Storage, target: Storage) -> None:
        self._source = source
        self._target = target
        self._is_conditional = True

    def __repr__(self) -> str:
        how = "" if self._is_conditional else ", without conditions"
        return f"<Transfer {self._source!r} to {self._target!r}{how}>"

    async def is_same(self, key: str) -> bool:
        """Tell whether both storages have the same bytes under a key, by reading them.

        Raises:
            ObjectMissingError: one of them has none.
            StorageError: one of them failed.
        """
        return await _digest(self._source, key) == await _digest(self._target, key)

    async def copy(self, key: str, *, over: str | None, content_type: str) -> int:
        """Copy an object, and return how many bytes it has.

        Args:
            key: the object, as it is when it is opened.
            over: the etag of what it replaces in the target; None where there is nothing.
            content_type: what the target is told of it.

        Raises:
            ObjectMissingError: the source has none.
            PreconditionFailedError: the target has something else than was said; it is as it was.
            StorageError: one of them failed, or the directory for temporary files did.
        """
        async with self._source.open(key) as reader, _whole(reader) as body:
            await self._put(key, body, over=over, content_type=content_type)
            return reader.info.size

    async def _put(self, key: str, body: Body, *, over: str | None, content_type: str) -> None:
        if self._is_conditional:
            try:
                await self._target.put(key, body, if_absent=over is None, if_match=over, content_type=content_type)
            except UnsupportedConditionError:
                self._is_conditional = False
            else:
                return
        await self._target.put(key, body, content_type=content_type)


def _append(descriptor: int, piece: bytes) -> None:
    rest = memoryview(piece)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


async def _digest(storage: Storage, key: str) -> bytes:
    digest = blake2b()
    async with storage.open(key) as reader:
        while piece := await reader.receive_some():
            digest.update(piece)
    return digest.digest()


@asynccontextmanager
async def _whole(reader: ObjectReader) -> AsyncGenerator[Body, None]:
    """Receive an open object whole; the body is there as long as the block runs."""
    if reader.info.size <= SMALL_BYTES:
        pieces: list[bytes] = []
        while piece := await reader.receive_some():
            pieces.append(piece)
        yield b"".join(pieces)
        return
    with tempfile.NamedTemporaryFile(prefix="mirrorwitness-", suffix=".object") as file:
        while piece := await reader.receive_some():
            try:
                await trio.to_thread.run_sync(_append, file.fileno(), piece)
            except OSError as error:
                raise StorageRefusedError(
                    f"{reader.info.key}: cannot spool its {reader.info.size:,} bytes to {tempfile.gettempdir()}: "
                    f"{error.strerror}; free some space there, or set TMPDIR to another directory"
                ) from error
        yield Path(file.name)
