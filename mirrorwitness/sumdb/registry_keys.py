"""RegistryKeys: the signing keys of one registry, which only ever accumulate.

    state/sumdb/keys/<digest of the registry>.json      the form that npm's clients read

Rules:

- Keys are never forgotten: old versions stay signed with old keys. A registry that shows other bytes under a known
  keyid is an attack, and ends everything (`SignatureError`).
- They are asked for once at the beginning, and again where something is signed with a key that is not known, but not
  more often than every `ASK_AGAIN`. An unreachable endpoint changes nothing; where no key is known at all, nothing can
  be judged, and that is an error.

*Concurrency*: may be used by many tasks; one asks, the others wait for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import ObjectMissingError, PreconditionFailedError
from mirrorwitness.npm.signatures import MAX_KEYS_BYTES, KeyRing, format_keys, parse_keys
from mirrorwitness.storage.swap import swap
from mirrorwitness.sumdb.paths import registry_keys_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.npm.registry import Registry
    from mirrorwitness.storage import Storage

__all__ = ["ASK_AGAIN", "RegistryKeys"]

ASK_AGAIN: Final = 60.0
"""Seconds: a new key is seen within a minute, and a package full of unknown keys costs one request."""


class RegistryKeys:
    """The keys of one registry.

    Args:
        storage: where they are kept.
        registry: the registry.
        prefix: its name in records.
    """

    def __init__(self, *, storage: Storage, registry: Registry, prefix: str) -> None:
        self._storage = storage
        self._registry = registry
        self._key = registry_keys_key(prefix)
        self._ring: KeyRing | None = None
        self._asked = -ASK_AGAIN
        self._lock = trio.Lock()

    def __repr__(self) -> str:
        return f"<RegistryKeys of {self._registry.base}, {'not read' if self._ring is None else len(self._ring.keys)}>"

    async def find(self, keyids: Iterable[str]) -> KeyRing:
        """Return all keys; the registry is asked where one of `keyids` is not among them.

        Raises:
            SignatureError: the registry shows other bytes under a known keyid.
            StorageError: they cannot be read, or written.
            UpstreamError: the registry cannot be asked, and a key of `keyids` is not known.
        """
        wanted = frozenset(keyids)
        async with self._lock:
            ring = await self._load() if self._ring is None else self._ring
            self._ring = ring
            if all(ring.find(keyid) is not None for keyid in wanted):
                return ring
            if trio.current_time() - self._asked >= ASK_AGAIN:
                self._ring = ring = await self._ask(ring)
                self._asked = trio.current_time()
            return ring

    async def _load(self) -> KeyRing:
        return (await self._read())[0]

    async def _read(self) -> tuple[KeyRing, str | None]:
        try:
            body, info = await self._storage.read(self._key, limit=MAX_KEYS_BYTES)
        except ObjectMissingError:
            return KeyRing(), None
        return parse_keys(body), info.etag

    async def _ask(self, known: KeyRing) -> KeyRing:
        body = await self._registry.keys()
        found = KeyRing() if body is None else parse_keys(body)
        if known.merge(found) == known:
            return known
        while True:
            stored, etag = await self._read()
            merged = stored.merge(known).merge(found)
            try:
                await swap(self._storage, self._key, format_keys(merged), etag=etag)
            except PreconditionFailedError:
                continue  # another one keeps keys of this registry here
            return merged
