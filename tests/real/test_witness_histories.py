"""P7 over a real bucket service: the histories of `tests/property`, fewer of them, other walls.

The service answers from many threads and writes to a disk, its tokens are its own, and a put that was on its way when
its sender died takes whatever time it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.property.test_witness_histories import play_all
from tests.property.witness_places import open_buckets

if TYPE_CHECKING:
    from collections.abc import Callable

HISTORIES: Final = 200


async def test_p7_no_history_in_seaweedfs(start_storage: Callable[[str], str]) -> None:
    """Forks, races, faults, kills, late puts, restores and clock steps: no two inconsistent cosignatures."""
    async with open_buckets(start_storage("seaweedfs"), start_storage("seaweedfs")) as place:
        await play_all(0, place, count=HISTORIES)
