"""A mirror served over loopback from a thread, for tests of commands that ask mirrors."""

from __future__ import annotations

from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

import trio

from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.server import ServeOptions, make_app
from mirrorwitness.storage.address import open_storage
from tests.fakes.thread import run_in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

__all__ = ["serve_mirror"]


@contextmanager
def serve_mirror(directory: str) -> Iterator[str]:
    """Serve the mirror in a directory until the block ends; gives its URL. What changes on disk is seen at once."""

    @asynccontextmanager
    async def server() -> AsyncGenerator[str, None]:
        shutdown = trio.Event()
        async with open_storage(f"file:{directory}") as storage, trio.open_nursery() as nursery:
            app = make_app(storage=storage, options=ServeOptions(fresh_seconds=0))

            async def start(task_status: Any) -> None:
                await serve_app(app, host="127.0.0.1", port=0, shutdown=shutdown, task_status=task_status)

            _, port = await nursery.start(start)
            yield f"http://127.0.0.1:{port}"
            shutdown.set()

    with run_in_thread(server()) as url:
        yield url
