"""What must hold for a stored cursor: nothing behind it is unfinished and unnoted (P8). Knows nothing of our code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.fakes.feed_rows import Row

__all__ = ["check_cursor"]


def check_cursor(objects: Mapping[str, bytes], rows: Iterable[Row], *, shard: str = "1-of-1") -> None:
    """Check that every row up to the cursor's position is stored, or noted as unfinished.

    While a sweep is under way nothing is claimed of what it has not compared yet, so nothing is checked.
    """
    body = objects.get(f"state/cursor/{shard}.json")
    cursor: dict[str, Any] = json.loads(body) if body is not None else {}
    if not cursor or "sweep" in cursor:
        return
    position = int(str(cursor["position"]).partition("-")[0])
    for row in rows:
        if row.seq > position or f"state/unfinished/{row.name}.json" in objects:
            continue
        if row.is_deleted:
            assert f"npm/{row.name}/packument.json" not in objects, f"{row} is passed, and the package is served"
            continue
        record = objects.get(f"state/package/{row.name}.json")
        assert record is not None, f"{row} is passed, and nothing of the package is stored"
        assert _number(json.loads(record).get("rev", "0")) >= _number(row.rev), (
            f"{row} is passed, and an older one is stored"
        )


def _number(rev: str) -> int:
    return int(rev.partition("-")[0])
