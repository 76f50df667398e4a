"""What two servers allow at most: a client that does nothing but GET a body here and PUT it there.

    python -m bench.ceiling GET_PORT PUT_PORT BUCKET FILES IN_FLIGHT

It verifies, signs, records and retries nothing; each of the `IN_FLIGHT` workers keeps two connections. What is printed
is tarballs per second, and a mirror over the same servers cannot be faster.
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Connection:
    """One connection that is kept."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """Send a request and return the body of its answer."""
        head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        assert answer[9:10] == b"2", answer
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", answer)
        return await self._reader.readexactly(int(length[1])) if length else b""

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def copy(get_port: int, put_port: int, bucket: str, files: list[str], in_flight: int) -> None:
    """Copy all files and print the rate."""
    left = iter(files)
    begin = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(in_flight):
            group.create_task(_work(get_port, put_port, bucket, left))
    print(f"{len(files) / (time.perf_counter() - begin):.1f}")


async def _work(get_port: int, put_port: int, bucket: str, left: Iterator[str]) -> None:
    limit = 1 << 20
    source = Connection(*await asyncio.open_connection("127.0.0.1", get_port, limit=limit))
    target = Connection(*await asyncio.open_connection("127.0.0.1", put_port, limit=limit))
    for file in left:
        body = await source.ask("GET", f"/{file}")
        await target.ask("PUT", f"/{bucket}/{file}", body)
    source.close()
    target.close()


if __name__ == "__main__":
    first, second, name, listed, count = sys.argv[1:]
    lines = Path(listed).read_text(encoding="utf-8").split()
    asyncio.run(copy(int(first), int(second), name, lines, int(count)))
