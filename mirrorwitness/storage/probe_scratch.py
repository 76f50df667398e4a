"""The keys that one check of a storage writes, and their removal: a corner of the storage that is the check's own.

- Everything lies under ``state/probe/<time>-<random>/``; no object of anybody else's is ever read or touched.
- Every key is noted before it is written, so it is removed also where listing is broken or the write's outcome is
  unknown; a listing then finds what else is there.
- `observe` turns errors and deadlines of one probe into an observation, so that one broken promise never hides the
  others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import IntegrityMismatchError, StorageError
from mirrorwitness.storage.probe_verdict import Observation, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.storage import Storage
    from mirrorwitness.storage.probe_verdict import Capability

__all__ = ["CLEAN_UP_SECONDS", "PROBE_PREFIX", "PROBE_SECONDS", "READ_LIMIT_BYTES", "Scratch", "brief", "observe"]

PROBE_PREFIX: Final = "state/probe/"

PROBE_SECONDS: Final = 60
"""Longest one probe may take; the slowest seen is a race of 10 writers against polling locks (SeaweedFS, 10 s)."""

CLEAN_UP_SECONDS: Final = 30
"""How long the removal may take, also while the check is being cancelled."""

READ_LIMIT_BYTES: Final = 1 << 20
"""Largest object a probe reads into memory; all but one of them are under 10 KiB."""

_MESSAGE_CHARACTERS: Final = 200
_RUN: Final = re.compile(r"(\w)\1{20,}")
_PLACE: Final = re.compile(rf"[^\s'\"]*{re.escape(PROBE_PREFIX)}[0-9a-f-]+/")
_PAGES: Final = 20


class Scratch:
    """One check's corner of a storage.

    Attributes:
        storage: the storage under test.
        prefix: where everything is written, with a trailing slash.
    """

    def __init__(self, storage: Storage, *, token: str) -> None:
        self.storage = storage
        self.prefix = f"{PROBE_PREFIX}{token}/"
        self._keys: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"<Scratch {self.prefix} with {len(self._keys)} keys>"

    def key(self, name: str) -> str:
        """Return the key of a name in this corner, and note it for removal."""
        key = self.prefix + name
        self._keys[key] = None
        return key

    async def read(self, key: str) -> bytes:
        """Read a small object's bytes.

        Raises:
            StorageError: as `Storage.read`.
        """
        body, _ = await self.storage.read(key, limit=READ_LIMIT_BYTES)
        return body

    @property
    def left(self) -> tuple[str, ...]:
        """The keys that were written and are not removed yet."""
        return tuple(self._keys)

    async def clean_up(self, *, search: bool) -> None:
        """Remove everything; what could not be removed stays in `left`.

        Args:
            search: also list the corner, and remove what is found there.

        Cancellation:
            At any point; `left` is right then too. The caller gives it a deadline (`CLEAN_UP_SECONDS`) and a shield.
        """
        await self._delete()
        if search and (found := await self._found()) is not None:
            # The listing decides: it shows what has another name than it was put under, and it does not show what
            # could not be deleted because it was never stored.
            self._keys = dict.fromkeys(found)
            await self._delete()
            again = await self._found() if found else None
            self._keys = dict.fromkeys(again if again is not None else self._keys)

    async def _delete(self) -> None:
        for key in reversed(self.left):
            try:
                await self.storage.delete(key)
            except StorageError:
                continue
            del self._keys[key]

    async def _found(self) -> list[str] | None:
        found: dict[str, None] = {}
        after = ""
        for _ in range(_PAGES):
            try:
                page = await self.storage.list(self.prefix, after=after)
            except StorageError:
                return None
            found.update((each.key, None) for each in page.objects)
            if page.more_after is None:
                break
            after = page.more_after
        return list(found)


async def observe(capability: Capability, probe: Callable[[], Awaitable[Observation]]) -> Observation:
    """Run one probe, and return `FAILED` with the reason where it raises a storage's error or takes too long.

    An `IntegrityMismatchError` is what some probes are there to provoke; it ends here, in the report.
    """
    with trio.move_on_after(PROBE_SECONDS):
        try:
            return await probe()
        except (StorageError, IntegrityMismatchError) as error:
            return Observation(capability, Outcome.FAILED, brief(error))
    return Observation(capability, Outcome.FAILED, f"not done within {PROBE_SECONDS} s")


def brief(error: Exception) -> str:
    """Return an error's kind and the beginning of its message."""
    # The place of the check is the same in every message, and long; so is the longest name that it tries.
    text = _RUN.sub(r"\1…\1", _PLACE.sub("…/", " ".join(str(error).split())))
    if len(text) > _MESSAGE_CHARACTERS:
        text = text[:_MESSAGE_CHARACTERS] + "…"
    return f"{type(error).__name__}: {text}"
