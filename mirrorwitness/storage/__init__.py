"""Where a mirror lives: a directory or an S3-compatible bucket behind one Protocol.

What every implementation guarantees (`tests/contract/test_storage.py` holds each of them to it):

- **Atomic**: a reader sees a whole object or none, and never a half-written one. A put that fails, is cancelled or
  dies leaves the old object or nothing under the key; leftovers live where no reader looks.
- **Durable**: when `put` or `delete` returns, the change survives a crash of the process (and, for a directory with
  `fsync` on, of the machine). The one exception is the second object of `put_pair`, and is said there.
- **Read after write**: a `stat`, `read`, `open` or `list` that starts after a `put` returned sees it.
- **Verified**: the bytes stored are the bytes given. A service that cannot say so is asked by reading back.
- **Conditional**: `if_absent` and `if_match` let exactly one of several racing writers win; the others get
  `PreconditionFailedError`. A service that cannot do it raises `UnsupportedConditionError`; one that lies about it is
  found by `mirrorwitness.storage.probe`, not here.
- **Unknown outcomes**: a put that ends in `StorageUnavailableError` may or may not have taken effect. Every caller's
  retry is idempotent; the implementations themselves read back before they report a conditional put as lost.
- **Concurrent**: all methods may be called from any number of tasks and processes at once.
- **Cancellation**: each method is a checkpoint; a cancelled put may have taken effect.

Keys are relative slash-separated paths; `check_key` says which are allowed. What this package does not know: what the
keys mean (`mirrorwitness.mirror.layout`), npm, or verification of anything but its own transport.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from mirrorwitness.errors import ConfigurationError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

__all__ = [
    "MAX_COMPONENT_BYTES",
    "MAX_KEY_BYTES",
    "Body",
    "Listing",
    "ObjectInfo",
    "ObjectReader",
    "Put",
    "Storage",
    "check_key",
    "check_prefix",
]

MAX_COMPONENT_BYTES: Final = 255
"""Longest component of a key in bytes: the limit of common file systems and of SeaweedFS."""

MAX_KEY_BYTES: Final = 1000
"""Longest key in bytes: S3 allows 1,024, and a bucket prefix of the operator's needs room."""

_FORBIDDEN: Final = re.compile(r"[\x00-\x1f\x7f\\\ud800-\udfff]")
"""Control characters, the backslash and lone surrogates: each is changed or refused by some server or file system."""

Body: TypeAlias = bytes | Path
"""What is put: bytes in memory, or the path of a finished temporary file that the caller removes afterwards."""


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a storage knows of one object without reading it.

    Attributes:
        key: the object's key.
        size: its length in bytes.
        etag: an opaque token that changes whenever the object is written again; for `if_match`.
    """

    key: str
    size: int
    etag: str


@dataclass(frozen=True, slots=True)
class Put:
    """One of the two small objects that `Storage.put_pair` writes; the meaning is that of `Storage.put`'s arguments.

    Attributes:
        key: where.
        body: what.
        if_absent: only where there is no object yet.
        if_match: only where the object still has this etag.
        content_type: stored where the storage can.
    """

    key: str
    body: bytes
    if_absent: bool = False
    if_match: str | None = None
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Listing:
    """One page of a listing.

    Directories list in ascending order of the keys' UTF-8 bytes, and so does every bucket tried but SeaweedFS, which
    walks directories. Nothing may depend on the order: only on `more_after` leading through every key once.

    Attributes:
        objects: the objects of this page.
        more_after: pass as `after` for the next page; None on the last one.
    """

    objects: tuple[ObjectInfo, ...]
    more_after: str | None


class ObjectReader(Protocol):
    """An open object: its info, and its bytes in order."""

    @property
    def info(self) -> ObjectInfo:
        """The whole object's info, also where only a range is read."""
        ...

    async def receive_some(self) -> bytes:
        """Return the next piece (at most 1 MiB), or ``b""`` at the end of the object or range.

        Raises:
            StorageUnavailableError: the transfer broke; nothing more comes.
        """
        ...


class Storage(Protocol):
    """A directory or a bucket. The module docstring says what all implementations guarantee."""

    async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
        """Read a whole object of at most `limit` bytes.

        Raises:
            ObjectMissingError: there is none.
            StorageError: it is larger than `limit`, or the storage failed.
        """
        ...

    def open(self, key: str, *, start: int = 0, length: int | None = None) -> AbstractAsyncContextManager[ObjectReader]:
        """Open an object for streaming, from byte `start`, `length` bytes or to its end.

        The bytes all come from one version of the object, also while it is replaced.

        Raises:
            ObjectMissingError: there is none (raised on entering).
            StorageError: `start` is not inside the object, or the storage failed.
        """
        ...

    async def stat(self, key: str) -> ObjectInfo | None:
        """Return an object's info, or None where there is no object."""
        ...

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        """Write a whole object, atomically and durably.

        Args:
            key: where.
            body: what; a path is read, never moved or removed.
            if_absent: only where there is no object yet.
            if_match: only where the object still has this etag. Not together with `if_absent`.
            content_type: stored where the storage can; nothing depends on it.

        Returns:
            The info of what was written.

        Raises:
            PreconditionFailedError: the condition did not hold; nothing was written.
            UnsupportedConditionError: this storage cannot do conditional puts.
            StorageRefusedError: credentials, permission, read-only or full; nothing was written.
            StorageUnavailableError: no usable answer; the outcome is unknown.
        """
        ...

    async def put_pair(self, first: Put, then: Put) -> tuple[ObjectInfo, ObjectInfo | None]:
        """Write an object and, once it is durable, a second one that can be made from it, with one wait for the disk.

        Both are atomic, and seen by whoever reads after this returned. The second one is never there without the first.
        It need not be durable: a crash of the machine, not of the process, may put back what it replaced, or leave an
        empty or cut object under its key. Whoever opens the storage next has to look, and to write it again.

        Args:
            first: what must not be lost.
            then: what only shows it.

        Returns:
            The infos of what was written; None for `then` where its condition did not hold, and only `first` is there.

        Raises:
            PreconditionFailedError: the condition of `first` did not hold; nothing was written.
            UnsupportedConditionError: this storage cannot do conditional puts.
            StorageRefusedError: as for `put`; `first` may be written, `then` is not.
            StorageUnavailableError: no usable answer; the outcome of either is unknown.
        """
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List objects whose keys start with `prefix` (a plain string prefix), going on after the key `after`."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; it is no error where there is none."""
        ...


def check_key(key: str) -> str:
    """Return the key where it is allowed on every storage, and raise where it is not.

    Rules (they hold on every server tried; research/E 1.4): no empty component (so no leading, trailing or double
    slash), no component that begins with a dot, no NUL, control character or backslash, components of at most
    `MAX_COMPONENT_BYTES` and keys of at most `MAX_KEY_BYTES` bytes of UTF-8.

    Raises:
        ConfigurationError: the key breaks a rule; the message says which.
    """
    for component in key.split("/"):
        if not component:
            raise _bad(key, "has an empty component")
        if component.startswith("."):
            raise _bad(key, f"has the component {component!r}, which begins with a dot")
        if len(component.encode("utf-8", "surrogatepass")) > MAX_COMPONENT_BYTES:
            raise _bad(key, f"has a component of more than {MAX_COMPONENT_BYTES} bytes")
    _check_characters(key)
    if len(key.encode()) > MAX_KEY_BYTES:
        raise _bad(key, f"is longer than {MAX_KEY_BYTES} bytes")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix of a listing where it is the beginning of an allowed key (or empty), and raise otherwise."""
    if prefix:
        check_key(prefix.removesuffix("/"))
    return prefix


def _check_characters(key: str) -> None:
    found = _FORBIDDEN.search(key)
    if found:
        raise _bad(key, f"has the character {found.group()!r}")


def _bad(key: str, reason: str) -> ConfigurationError:
    return ConfigurationError(f"storage key {key[:200]!r} {reason}")
