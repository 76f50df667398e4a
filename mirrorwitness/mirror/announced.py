"""Which rows of a feed concern a worker: the hot path of a follower, a million rows a second. Pure.

Rules:

- Selection first: it is one look into sets for most rows, and most rows of a partial mirror are not wanted.
- Then the shard, which costs a digest; then whether the text is a package name at all, for those few that are left.
- No row is judged here: what is wanted is gone and looked at, whatever the row says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mirrorwitness.npm.changes import checked_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mirrorwitness.mirror.shards import Shard
    from mirrorwitness.npm.changes import Change
    from mirrorwitness.npm.names import PackageName

__all__ = ["choose_rows"]


def choose_rows(
    rows: Iterable[Change], *, wants: Callable[[str], bool], shard: Shard
) -> list[tuple[PackageName, Change]]:
    """Return the rows about packages that are wanted and belong to a shard, in their order."""
    found = [row for row in rows if wants(row.id)]
    if shard.total > 1:
        found = [row for row in found if shard.owns(row.id)]
    names = [checked_name(row.id) for row in found]
    return [(name, row) for name, row in zip(names, found, strict=True) if name is not None]
