"""Copying: everything of one storage to another one, which is to take its place.

    survey FROM -> compare what TO has -> copy, state/ last -> survey FROM again -> copy the identities of signers

Rules:

- Nothing is written before everything that is in both was compared: a wrong TO is found while it is as it was.
- An unfinished copy is one that nobody goes on from. ``state/`` comes last: what a mirror's records name is there
  before them, and what a witness published is there before its record. A published checkpoint that is ahead of its
  record, or has none, makes a witness refuse (`mirrorwitness.witness.state`), which is the safe side; a record ahead of
  what was published is a state that a crash leaves behind, and would be gone on from.
- Last of all, and only where FROM stood still, comes the identity of a signer, ``state/…/identity.json``. Without one
  no log starts, and no witness or log mirror whose storage has anything that was published.
- So where TO has an identity, a copy was finished, and something may have been started on it: what differs there may be
  newer than FROM. It is never replaced, whoever asks. That would be the restored backup (P7).
- *Run it again* is the answer to every failure: what is in TO with the same bytes is not written twice.
- What FROM does not have is left alone in TO, and told.
- ``state/probe/`` is what a check of a storage left behind, and is not copied.
- Memory does not grow with the number of objects (P10): one page of a listing, and the sums of a `Fingerprint`.

What it does not do: keep others from writing. Whoever wrote to FROM is found, as FROM is listed again; whoever writes
to TO meets the conditions of our puts, where TO has such.

*Cancellation*: at any time; what is in TO then is an unfinished copy.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, TypeAlias

from mirrorwitness.errors import ConfigurationError, ObjectMissingError
from mirrorwitness.run.copy_report import CopyReport, CopyStep, Difference
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.apart import check_apart, is_begun
from mirrorwitness.storage.fingerprint import Fingerprint
from mirrorwitness.storage.probe_scratch import PROBE_PREFIX
from mirrorwitness.storage.side_by_side import for_each
from mirrorwitness.storage.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    from mirrorwitness.run.copy_report import CopyWishes
    from mirrorwitness.storage import ObjectInfo, Storage

    Told: TypeAlias = Callable[[CopyStep], None]

__all__ = ["copy_address", "copy_storage"]

AT_ONCE: Final = 16
"""Objects in work at a time: they keep a bucket busy, and a temporary directory holds as many of the largest."""

_STATE_PREFIX: Final = "state/"
_IDENTITY: Final = re.compile(r"state/[a-z]+/identity\.json")
"""Whose keys ever signed from here: of a witness, a log, a log mirror (`mirrorwitness.logmirror.roles`)."""

_TEXT_KEY: Final = re.compile(r"(?:log/index|about/summary)/.*|.*(?:/checkpoint|\.note|\.txt|\.tlog-proof)")


async def copy_address(wishes: CopyWishes, told: Told) -> CopyReport:
    """Copy the storage that one address names to the place that another one names.

    Args:
        wishes: what is asked for.
        told: called after each object; must not block.

    Raises:
        ConfigurationError: the two are one, the source is empty, or the target has other bytes; nothing was written.
        StorageError: one of them failed; what is copied stays, and is not written again.
    """
    check_apart(wishes.source, wishes.target)
    if not is_begun(wishes.source):
        raise ConfigurationError(f"{wishes.source} is no storage (no .mirrorwitness file): there is nothing to copy")
    async with open_storage(wishes.source) as source:
        return await copy_storage(source, lambda: _open_target(wishes), wishes, told)


async def copy_storage(
    source: Storage,
    open_target: Callable[[], AbstractAsyncContextManager[Storage | None]],
    wishes: CopyWishes,
    told: Told,
) -> CopyReport:
    """Copy an open storage; as `copy_address`.

    Args:
        source: what is copied.
        open_target: called when there is something to copy; None is a target that a dry run would have to make.
        wishes: what is asked for.
        told: called after each object.
    """
    copy = _Copy(source, CopyReport(wishes), told)
    before = await copy.survey()
    async with open_target() as target:
        if target is not None:
            await copy.compare(target)
            if not wishes.is_dry:
                await copy.write(target, before)
    if wishes.is_dry:
        copy.report.predict()
    return copy.report


@asynccontextmanager
async def _open_target(wishes: CopyWishes) -> AsyncGenerator[Storage | None, None]:
    if wishes.is_dry and not is_begun(wishes.target):
        yield None  # to open a directory is to make it
    else:
        async with open_storage(wishes.target) as target:
            yield target


class _Copy:
    """One copy, from survey to survey.

    Attributes:
        report: filled in by each step.
    """

    def __init__(self, source: Storage, report: CopyReport, told: Told) -> None:
        self.report = report
        self._source = source
        self._told = told
        self._objects = 0
        self._bytes = 0

    async def survey(self) -> Fingerprint:
        """Count what the source has, and find who signs from it.

        Raises:
            ConfigurationError: it has nothing, which is how a misspelt prefix looks.
        """
        seen = Fingerprint()

        def take(info: ObjectInfo) -> None:
            seen.add(info)
            self.report.source.add(info.key, info.size)
            if _IDENTITY.fullmatch(info.key):
                self.report.signers.append(info.key)

        await _count(self._source, take)
        if not self.report.source.count:
            address = self.report.wishes.source
            raise ConfigurationError(f"{address} holds no objects, so there is nothing to copy; is the address right?")
        return seen

    async def compare(self, target: Storage) -> None:
        """Compare everything that both have.

        Raises:
            ConfigurationError: something differs, and is not to be replaced; nothing was written.
        """
        report, transfer = self.report, Transfer(self._source, target)
        is_refused_at_once = not (report.wishes.replaces or report.wishes.is_dry)

        async def look(there: ObjectInfo) -> None:
            here = await self._source.stat(there.key)
            if _IDENTITY.fullmatch(there.key):
                report.target_signers.append(there.key)
            if here is None:
                report.only_in_target.add(there.key, there.size)
            elif here.size == there.size and await transfer.is_same(there.key):
                report.present.add(there.key, there.size)
            else:
                report.differ(Difference(there.key, here.size, there.size))
                if is_refused_at_once:
                    raise ConfigurationError(report.refusal())
            self._tell("comparing", there.size, total=None)

        await _for_all(target, look)
        if report.is_refused and not report.wishes.is_dry:
            raise ConfigurationError(report.refusal())

    async def write(self, target: Storage, before: Fingerprint) -> None:
        """Copy everything, and see whether the source stood still since its survey.

        Raises:
            StorageError: one of the storages failed.
        """
        self._objects = self._bytes = 0
        transfer = Transfer(self._source, target)

        async def copy(info: ObjectInfo) -> None:
            await self._copy(info, target, transfer)

        if self.report.present.count < self.report.source.count:  # else nobody need ask for every object once more
            await _for_all(self._source, copy, wanted=lambda key: not key.startswith(_STATE_PREFIX))
            await _for_all(self._source, copy, prefix=_STATE_PREFIX, wanted=lambda key: not _IDENTITY.fullmatch(key))
        after = Fingerprint()
        await _count(self._source, after.add)
        moved = before.differing(after)
        if moved:
            self.report.is_still = False
            await self._find_changed(target, transfer, lambda key: after.bucket(key) in moved)
            return
        for key in self.report.signers:
            info = await self._source.stat(key)
            if info is None:
                self.report.is_still = False
                return
            await copy(info)

    async def _copy(self, info: ObjectInfo, target: Storage, transfer: Transfer) -> None:
        """Copy one object, where the target does not have it; it was compared before where it has."""
        there = await target.stat(info.key)
        if there is None or (self.report.differing.count and not await transfer.is_same(info.key)):
            over = None if there is None else there.etag
            try:
                size = await transfer.copy(info.key, over=over, content_type=_content_type(info.key))
            except ObjectMissingError:
                return  # removed meanwhile, which the second survey tells
            self.report.copied.add(info.key, size)
        self._tell("copying", info.size, total=self.report.source.count)

    async def _find_changed(self, target: Storage, transfer: Transfer, wanted: Callable[[str], object]) -> None:
        """Find what the target does not have as the source has it now, near the keys that moved."""

        async def look(info: ObjectInfo) -> None:
            there = await target.stat(info.key)
            try:
                is_there = there is not None and there.size == info.size and await transfer.is_same(info.key)
            except ObjectMissingError:
                is_there = False
            if not is_there and not _IDENTITY.fullmatch(info.key):
                self.report.changed.add(info.key, info.size)

        await _for_all(self._source, look, wanted=wanted)

    def _tell(self, doing: str, size: int, *, total: int | None) -> None:
        self._objects += 1
        self._bytes += size
        self._told(CopyStep(doing, self._objects, total, self._bytes))


async def _count(storage: Storage, take: Callable[[ObjectInfo], None]) -> None:
    """Show everything that a storage lists to a function."""
    after: str | None = ""
    while after is not None:
        page, after = await _page(storage, "", after)
        for info in page:
            take(info)


async def _for_all(
    storage: Storage,
    work: Callable[[ObjectInfo], Awaitable[None]],
    *,
    prefix: str = "",
    wanted: Callable[[str], object] = bool,
) -> None:
    """Do something to every object below a prefix whose key is wanted, several at a time."""
    after: str | None = ""
    while after is not None:
        page, after = await _page(storage, prefix, after)
        await for_each([info for info in page if wanted(info.key)], work, at_once=AT_ONCE)


async def _page(storage: Storage, prefix: str, after: str) -> tuple[list[ObjectInfo], str | None]:
    """List a page, without what checks of the storage left behind."""
    page = await storage.list(prefix, after=after)
    return [info for info in page.objects if not info.key.startswith(PROBE_PREFIX)], page.more_after


def _content_type(key: str) -> str:
    """Return what a bucket is told of an object, as whoever wrote it first told it; a directory keeps none."""
    if key.endswith(".json"):
        return "application/json"
    return "text/plain; charset=utf-8" if _TEXT_KEY.fullmatch(key) else "application/octet-stream"
