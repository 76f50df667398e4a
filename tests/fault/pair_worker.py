"""A process that goes on from pair to pair until it is killed. ``python -m tests.fault.pair_worker DIRECTORY``.

Each pair is a record with the next number, swapped, and what shows it; each number is printed when its pair is there,
as a witness would answer then.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import trio

from mirrorwitness.errors import ObjectMissingError
from mirrorwitness.storage import Put
from mirrorwitness.storage.local import open_local

RECORD, SHOWN = "state/record", "shown/record"


def format_number(number: int) -> bytes:
    """Return a body that is longer than a page, and shows whether it is whole."""
    return b"%010d\n" % number * 500


async def work(directory: Path) -> None:
    """Write pairs for ever."""
    async with open_local(directory) as storage:
        number, etag = 0, None
        try:
            body, info = await storage.read(RECORD, limit=100_000)
            number, etag = int(body[:10]), info.etag
        except ObjectMissingError:
            pass
        while True:
            number += 1
            body = format_number(number)
            first, _ = await storage.put_pair(
                Put(RECORD, body, if_match=etag, if_absent=etag is None), Put(SHOWN, body)
            )
            etag = first.etag
            os.write(1, b"%d\n" % number)


if __name__ == "__main__":
    trio.run(work, Path(sys.argv[1]))
