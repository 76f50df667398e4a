"""Compare all names with what is stored: the only thing that finds a change whose row was lost (research/B 1.4.5).

Rules:

- Where the selection has globs, the feed's list of all names and revisions is read, page by page; a package whose
  record has the listed revision, under the present wishes, costs one look at the record and no request.
- Where it names packages only, those are asked for conditionally: a list of millions for some hundred names would be
  the larger load on the registry.
- A package that is served and not listed is taken for deleted, and looked at (`mirrorwitness.mirror.absent`).
- A page is the unit of progress: `SweepStep.after` goes into the cursor when all its packages are done.

Known hole: where only names are selected, a package whose deletion no row told of is served on. Its note says 404.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.mirror.absent import find_absent
from mirrorwitness.mirror.owed import Announced
from mirrorwitness.npm.changes import checked_name
from mirrorwitness.npm.feed import MAX_PAGE_ROWS
from mirrorwitness.npm.names import PackageName

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.mirror.catalogue import Catalogue
    from mirrorwitness.mirror.select import Selection
    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.npm.feed import Feed


__all__ = ["Sweep", "SweepStep"]

NAMES_AT_ONCE: Final = 1000
"""Packages of one step where only names are selected."""


@dataclass(frozen=True, slots=True)
class SweepStep:
    """What one page of a sweep has to compare.

    Attributes:
        packages: selected packages of our shard, each with what the list says of it.
        after: where the next page begins; None at the end.
    """

    packages: tuple[tuple[PackageName, Announced], ...]
    after: str | None


class Sweep:
    """Reads what there is to compare.

    Args:
        feed: its list of names.
        catalogue: what is stored, to notice what is not listed.
        selection: its rules, to know whether a list is needed.
        wants: says whether a package is wanted.
        shard: what is ours.
        fingerprint_of: gives the fingerprint of the terms for one name, which is part of the whole's.
    """

    def __init__(
        self,
        *,
        feed: Feed,
        catalogue: Catalogue,
        selection: Selection,
        wants: Callable[[str], bool],
        shard: Shard,
        fingerprint_of: Callable[[PackageName], str],
    ) -> None:
        self._feed = feed
        self._catalogue = catalogue
        self._selection = selection
        self._wants = wants
        self._shard = shard
        self._names = sorted(name for name in selection.names() if shard.owns(name) and wants(name))
        digest = hashlib.sha256()
        for pattern in (*sorted(selection.globs()), *self._names):
            digest.update(f"{pattern}\n{fingerprint_of(PackageName(pattern))}\n".encode())
        if selection.globs():  # what is denied of them is no part of a glob's own fingerprint
            for pattern, versions in sorted({(rule.pattern, rule.range_text or "") for rule in selection.denied}):
                digest.update(f"denied {pattern} {versions}\n".encode())
        self.fingerprint = digest.hexdigest()[:32]
        """Changes when the selection, or what is done with it, changes."""

    def __repr__(self) -> str:
        return f"<Sweep of shard {self._shard}, {self._selection!r}>"

    async def read(self, after: str | None) -> SweepStep:
        """Read the page that begins at `after`.

        Raises:
            StorageError: what is stored cannot be listed.
            UpstreamError: the list cannot be read.
        """
        if not self._selection.globs():
            begin = 0 if after is None else int(after)
            names = self._names[begin : begin + NAMES_AT_ONCE]
            following = begin + NAMES_AT_ONCE
            return SweepStep(
                tuple((name, Announced()) for name in names),
                str(following) if following < len(self._names) else None,
            )
        page = await self._feed.names(after, limit=MAX_PAGE_ROWS)
        packages: list[tuple[PackageName, Announced]] = []
        for row in page.rows:
            name = checked_name(row.id)
            if name is not None and self._is_ours(name):
                packages.append((name, Announced(row.rev)))
        absent = await find_absent(
            self._catalogue, [row.id for row in page.rows], start=after, end=page.next, is_ours=self._is_ours
        )
        packages.extend((name, Announced(deleted=True)) for name in absent)
        if after is None:
            # Names that are asked for and not listed: whether they are missing shows when they are asked for.
            listed = {name for name, _ in packages}
            packages.extend((name, Announced()) for name in self._names if name not in listed)
        return SweepStep(tuple(packages), page.next)

    def _is_ours(self, name: str) -> bool:
        return self._shard.owns(name) and self._wants(name)
