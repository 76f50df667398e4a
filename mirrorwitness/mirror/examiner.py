"""Look into the tarballs of one package as they come, and keep evidence of those that say something else.

Rules:

- A tarball is looked at after its bytes were verified and before they are stored; so what is remembered with a stored
  tarball is about exactly these bytes.
- Archives of more than `IN_THREAD` bytes are read in a thread; smaller ones cost less than the hop.
- Whatever an archive holds, it is no error: one that cannot be read is confusion too.

What this does not do: decide what is served (`mirrorwitness.mirror.gate`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.mirror.confusion import ConfusionPolicy, find_confusion, make_unreadable, sum_up
from mirrorwitness.mirror.gate import Decision, exclude, make_confused
from mirrorwitness.mirror.voucher import Vouched
from mirrorwitness.npm.names import Version
from mirrorwitness.npm.splice import version_texts
from mirrorwitness.npm.tarball import read_tarball

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from msgspec import Raw

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.gate import Wanted
    from mirrorwitness.mirror.vouching import Word
    from mirrorwitness.npm.confusion import Difference
    from mirrorwitness.npm.packument import Packument
    from mirrorwitness.storage import Body
    from mirrorwitness.sumdb.records import Record

__all__ = ["THREADS", "Examination"]

IN_THREAD: Final = 32 * 1024
"""Bytes of a tarball above which reading it leaves the event loop: 0.3 ms of work on average, 3 ms at most; four of
five real tarballs are smaller."""

THREADS: Final = 4
"""Tarballs read in threads at once: unpacking keeps a core busy, and hashing and storing others go on beside it."""

SHOWN: Final = 3
"""Versions named in an alarm; it says how many there are."""


@dataclass(slots=True)
class Examination:
    """Looks into the tarballs of one package.

    Args:
        packument: the registry's document.
        policy: what becomes of confused versions; with `ConfusionPolicy.OFF` nobody looks.
        word: what the log says.
        threads: bounds how many tarballs are read in threads at once, over all packages.

    Attributes:
        found: the differences of each confused version.
    """

    packument: Packument
    policy: ConfusionPolicy
    word: Word
    threads: trio.CapacityLimiter
    found: dict[Version, tuple[Difference, ...]] = field(default_factory=dict[Version, "tuple[Difference, ...]"])
    _texts: Mapping[str, Raw] | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether anybody looks."""
        return self.policy is not ConfusionPolicy.OFF

    async def look(self, item: Wanted, body: Body) -> tuple[str, ...]:
        """Look into one tarball; return the fields in which it is another than its document."""
        if self._texts is None:
            self._texts = version_texts(self.packument)
        manifest = bytes(self._texts[item.version])
        answer = self.word.answers.get(item.version)
        record = answer.record if isinstance(answer, Vouched) else None
        if isinstance(body, Path) or len(body) > IN_THREAD:
            found = await trio.to_thread.run_sync(_look, manifest, body, record, limiter=self.threads)
        else:
            found = _look(manifest, body, record)
        if found:
            self.found[item.version] = found
        return sum_up(found)

    def judge(self, decision: Decision) -> Decision:
        """Take from a decision the versions that came just now and are confused, where that is refused."""
        if self.policy is not ConfusionPolicy.REFUSE:
            return decision
        return exclude(decision, [make_confused(version, sum_up(found)) for version, found in self.found.items()])

    async def tell(self, catalogue: Catalogue) -> list[str]:
        """Keep evidence of every confused version; return sentences for the operator.

        Raises:
            StorageError: it could not be written.
        """
        keys: list[str] = []
        for version, found in self.found.items():
            keys.append(await self._keep_evidence(version, "manifest-confusion", found, catalogue))
        return [self._say(keys)] if keys else []

    async def _keep_evidence(
        self, version: Version, kind: str, found: Sequence[Difference], catalogue: Catalogue
    ) -> str:
        differences = [{"field": item.field, "document": item.manifest, "tarball": item.tarball} for item in found]
        content = {"kind": kind, "differences": differences}
        return await catalogue.add_evidence(self.packument.name, version, content)

    def _say(self, keys: Sequence[str]) -> str:
        told = [f"{version} ({', '.join(sum_up(found))})" for version, found in self.found.items()]
        more = f" and {len(told) - SHOWN} more" if len(told) > SHOWN else ""
        served = "not served" if self.policy is ConfusionPolicy.REFUSE else "served"
        return (
            f"{self.packument.name}: tarballs say something else than the registry's document, and are {served}:"
            f" {', '.join(told[:SHOWN])}{more}; the evidence is {keys[0]}{' and others' if len(keys) > 1 else ''}"
        )


def _look(manifest: bytes, body: Body, record: Record | None) -> tuple[Difference, ...]:
    try:
        read = read_tarball(body)
    except UpstreamProtocolError as error:
        return (make_unreadable(str(error)),)
    return find_confusion(manifest, read, record)
