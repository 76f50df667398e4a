"""Tarballs: fetch the bytes of a version, check them against everything that is said of them, and look inside.

Rules:

- Bytes count only where they match the SHA-512, every weaker digest, and the SHA-1 that stand beside it. A client that
  knows only the weaker one must not be able to get others.
- Bytes that do not match are fetched once more: it may have been a broken transfer.
- At most `concurrency` are in work at once; memory is bounded over all of them; larger ones are spooled to disk and go
  again when they were looked at. Nothing is unpacked to a disk, and a tarball that cannot be read inside is logged
  without the hash of its package.json.

*Cancellation*: at any point; files and memory are given back.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import IntegrityMismatchError, UpstreamProtocolError
from mirrorwitness.npm.integrity import Expectation, Verifier, make_expectation, parse_integrity
from mirrorwitness.npm.spool import MemoryBudget, Spool
from mirrorwitness.npm.tarball import read_tarball

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.npm.registry import Registry
    from mirrorwitness.storage import Body
    from mirrorwitness.sumdb.claims import Claim

__all__ = ["Found", "TarballLimits", "Tarballs"]

ATTEMPTS_ON_MISMATCH: Final = 2

SMALL_BYTES: Final = 4 * 1024
"""Tarballs up to here are looked at without a thread: at worst they unpack to 4 MB, in some 10 ms."""

LOOKED_INTO_AT_ONCE: Final = 4
"""Larger tarballs that are unpacked at once, in threads of their own: a few that unpack to gigabytes, which anybody may
publish, must not take the threads that documents and disks need."""

_READ_BYTES: Final = 1024 * 1024
_STRONGEST: Final = "sha512"


@dataclass(frozen=True, slots=True, kw_only=True)
class TarballLimits:
    """Limits of downloads.

    Attributes:
        concurrency: tarballs in work at once, over all packages.
        size: bytes of the largest that is looked at.
        memory: bytes held in memory at once, over all in work.
        directory: where larger ones are spooled; None for the system's temporary directory.
    """

    concurrency: int = 64
    size: int = 2 * 1024**3
    memory: int = 32 * 1024**2
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """What was found in the bytes of a version.

    Attributes:
        size: how many there are.
        manifest: SHA-256 of their package.json; None where none can be found.
    """

    size: int
    manifest: bytes | None


class Tarballs:
    """Looks at tarballs.

    Args:
        limits: how much at once.
    """

    def __init__(self, limits: TarballLimits) -> None:
        self._limits = limits
        self._limiter = trio.CapacityLimiter(limits.concurrency)
        self._budget = MemoryBudget(limits.memory)
        self._threads = trio.CapacityLimiter(LOOKED_INTO_AT_ONCE)

    def __repr__(self) -> str:
        return f"<Tarballs {self._limiter.borrowed_tokens:g} in work, {self._budget!r}>"

    async def look(self, claim: Claim, registry: Registry) -> Found:
        """Fetch and check the bytes of a version.

        Raises:
            IntegrityMismatchError: they are not what is claimed.
            UpstreamError: they cannot be had.
            StorageRefusedError: the temporary directory is full or not writable.
            BudgetExhaustedError: nothing may be asked any more.
        """
        async with self._limiter:
            with Spool(
                expectation=make_expectation(claim.integrity, None),
                budget=self._budget,
                limit=self._limits.size,
                what=str(claim),
                directory=self._limits.directory,
            ) as spool:
                body, verifier = await self._receive(claim, registry, spool)
                if isinstance(body, bytes) and len(body) <= SMALL_BYTES:
                    return Found(verifier.size, _look_inside(body, _weaker(claim)))
                look = partial(_look_inside, body, _weaker(claim))
                return Found(verifier.size, await trio.to_thread.run_sync(look, limiter=self._threads))

    async def _receive(self, claim: Claim, registry: Registry, spool: Spool) -> tuple[Body, Verifier]:
        attempts_left = ATTEMPTS_ON_MISMATCH
        while True:
            attempts_left -= 1
            await registry.tarball(claim.url, spool)
            try:
                return await spool.finish()
            except IntegrityMismatchError as error:
                if not attempts_left:
                    raise IntegrityMismatchError(f"{claim}: {error}") from error
            await spool.reset()


def _weaker(claim: Claim) -> tuple[Expectation, ...]:
    """Return all digests beside the strongest, each to be checked for itself."""
    weaker = [str(found) for found in parse_integrity(claim.integrity).hashes if found.algorithm != _STRONGEST]
    found = [make_expectation(text, None) for text in weaker]
    return (*found, make_expectation(None, claim.shasum)) if claim.shasum else tuple(found)


def _look_inside(body: Body, weaker: Sequence[Expectation]) -> bytes | None:
    for expectation in weaker:
        verifier = Verifier(expectation)
        _feed(body, verifier)
        verifier.check()
    try:
        manifest = read_tarball(body)
    except UpstreamProtocolError:
        return None
    return None if manifest.text is None else hashlib.sha256(manifest.text).digest()


def _feed(body: Body, verifier: Verifier) -> None:
    if not isinstance(body, Path):
        verifier.update(body)
        return
    with body.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            verifier.update(piece)
