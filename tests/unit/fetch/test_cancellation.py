"""Cancelling at every checkpoint of a request, and every deadline, leaves the transport as it should be (STYLE 47)."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest
import trio
import trio.testing

from mirrorwitness.errors import UpstreamUnreachableError
from mirrorwitness.fetch import Fetcher, FetchOptions, Patience, open_fetcher
from mirrorwitness.fetch.deadline import Deadline
from tests.unit.fetch.scripted import Handler, listening, read_request, reply

if TYPE_CHECKING:
    from pathlib import Path

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PATIENCE = Patience(connect=5, head=10, grace=20, min_rate=100)


class CountdownInstrument(trio.abc.Instrument):
    """Cancels a scope as soon as its task has been suspended a number of times: at each checkpoint in turn.

    The cancellation is delivered to that very suspension, because the task has just gone to sleep: nothing depends on
    who is scheduled next.
    """

    def __init__(self, task: trio.lowlevel.Task, scope: trio.CancelScope, steps: int) -> None:
        self.task = task
        self.scope = scope
        self.left = steps

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def run_cancelled_after(steps: int, fetcher: Fetcher, base: str, body: bytes | Path | None) -> bool:
    """Run one request that is cancelled at its checkpoint number `steps`; return whether it was."""
    with trio.CancelScope() as scope:
        instrument = CountdownInstrument(trio.lowlevel.current_task(), scope, steps)
        trio.lowlevel.add_instrument(instrument)
        try:
            async with fetcher.request("PUT" if body else "GET", base, body=body) as response:
                assert await response.read(1 << 20) == b"x" * 70_000
        finally:
            # An instrument that raised was removed by trio: the test would test nothing.
            trio.lowlevel.remove_instrument(instrument)
    assert scope.cancel_called == (instrument.left <= 0)
    return scope.cancelled_caught


MOST_CHECKPOINTS = 500
"""More than any request here has: 70,000 bytes come in some tens of pieces at most."""


@pytest.mark.parametrize(("kind", "fewest"), [("fresh", 3), ("kept alive", 2), ("upload", 3)])
async def test_cancelled_at_each_checkpoint(kind: str, fewest: int, tmp_path: Path) -> None:
    """However far a request came, the next one gets its own answer, and no slot or connection is lost.

    Each checkpoint has its turn: the loop ends with the first request that is over before its turn comes. Sockets
    decide how many there are; connecting, sending and receiving have one each.
    """
    (tmp_path / "body").write_bytes(b"y" * 200_000)

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while request := await read_request(stream):
            answer = reply(b"x" * 70_000) if b"/probe" not in request else reply(b"probe")
            await stream.send_all(answer[:10])
            await stream.send_all(answer[10:60_000])
            await stream.send_all(answer[60_000:])

    body = tmp_path / "body" if kind == "upload" else None
    async with listening(handler) as base, open_fetcher(FetchOptions(max_connections=1)) as fetcher:
        steps, is_cancelled = 0, True
        while is_cancelled and steps < MOST_CHECKPOINTS:
            steps += 1
            if kind == "fresh":
                await fetcher.aclose()
                fetcher._transport._closed = False
                for pool in fetcher._transport._origins.values():
                    pool.closed = False
            is_cancelled = await run_cancelled_after(steps, fetcher, base, body)
            now = fetcher.statistics()
            assert (now.in_use, now.waiting, now.idle <= 1) == (0, 0, True)
            async with fetcher.request("GET", f"{base}/probe") as response:
                assert await response.read(100) == b"probe"
    assert fewest < steps < MOST_CHECKPOINTS


async def hang_on_head(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await trio.sleep_forever()


async def hang_in_head(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent")
    await trio.sleep_forever()


async def hang_in_body(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(reply(b"x" * 100)[:-50])
    await trio.sleep_forever()


async def hang_in_chunk(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(CHUNKS + b"5\r\nhel")
    await trio.sleep_forever()


async def drip_body(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(reply(b"x" * 1000)[:-1000])
    for _ in range(1000):
        await trio.sleep(1)
        await stream.send_all(b"x")


async def drip_chunks(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(CHUNKS)
    while True:
        await trio.sleep(1)
        await stream.send_all(b"1\r\nx\r\n")


async def drip_head(stream: trio.SocketStream, _number: int) -> None:
    await read_request(stream)
    await stream.send_all(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await trio.sleep(1)
        await stream.send_all(b"x")


HANGING: dict[Handler, tuple[float, str]] = {
    hang_on_head: (10, "waiting for the response head"),
    hang_in_head: (10, "waiting for the response head"),
    drip_head: (10, "waiting for the response head"),
    hang_in_body: (20 + 1, "receiving the body below 100 bytes/s"),
    hang_in_chunk: (20, "receiving the body below 100 bytes/s"),
    drip_body: (20 + 10, "receiving the body below 100 bytes/s"),
    drip_chunks: (20.2, "receiving the body below 100 bytes/s"),
}


@pytest.mark.parametrize("handler", HANGING)
async def test_row_16_slow_peer_is_cut_off_at_its_deadline(
    handler: Handler, autojump_clock: trio.testing.MockClock
) -> None:
    """Attack: a peer that hangs or drips is cut off after grace + length/min_rate, and its connection closed."""
    seconds, phase = HANGING[handler]
    async with listening(handler) as base, open_fetcher(FetchOptions(patience=PATIENCE)) as fetcher:
        start = trio.current_time()
        with pytest.raises(UpstreamUnreachableError, match=f"deadline passed while {phase}"):
            async with fetcher.request("GET", base) as response:
                await response.read(1 << 20)
        assert trio.current_time() - start == pytest.approx(seconds, abs=0.01)
        assert (fetcher.statistics().in_use, fetcher.statistics().idle) == (0, 0)


async def test_peer_that_takes_no_upload_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    """Attack: a peer that never reads the request body is cut off too."""

    async def handler(_stream: trio.SocketStream, _number: int) -> None:
        await trio.sleep_forever()

    async with listening(handler) as base, open_fetcher(FetchOptions(patience=PATIENCE)) as fetcher:
        start = trio.current_time()
        with pytest.raises(UpstreamUnreachableError, match="deadline passed while sending the request"):
            async with fetcher.request("PUT", base, body=b"x" * 20_000_000):
                pass
        assert trio.current_time() - start == pytest.approx(10 + 20 + 200_000, abs=1)


async def test_connect_that_hangs_is_cut_off(autojump_clock: trio.testing.MockClock) -> None:
    """A host that answers no SYN is given up after the connect deadline."""

    async def connect(_host: str, _port: int, _context: object) -> object:
        await trio.sleep_forever()

    async with open_fetcher(FetchOptions(patience=PATIENCE)) as fetcher:
        fetcher._transport._connect = connect  # type: ignore[assignment]
        start = trio.current_time()
        with pytest.raises(UpstreamUnreachableError, match="deadline passed while connecting"):
            async with fetcher.request("GET", "http://registry.example/"):
                pass
        assert trio.current_time() - start == 5
        assert fetcher.statistics().in_use == 0


async def test_slow_caller_is_not_the_upstream_s_fault(autojump_clock: trio.testing.MockClock) -> None:
    """The clock stands still while the caller works, and while a request waits in line."""

    async def handler(stream: trio.SocketStream, _number: int) -> None:
        while await read_request(stream):
            await stream.send_all(reply(b"x" * 600_000))

    options = FetchOptions(patience=PATIENCE, max_connections=1)
    async with listening(handler) as base, open_fetcher(options) as fetcher:

        async def slow() -> None:
            async with fetcher.request("GET", base) as response:
                size = 0
                while piece := await response.receive_some():
                    size += len(piece)
                    await trio.sleep(80_000)
                assert size == 600_000

        async with trio.open_nursery() as nursery:
            nursery.start_soon(slow)
            nursery.start_soon(slow)


async def test_outer_cancellation_is_not_taken_for_a_deadline() -> None:
    """A cancellation from outside stays one."""
    async with listening(hang_in_body) as base, open_fetcher() as fetcher:
        with trio.move_on_after(0.01) as scope:
            async with fetcher.request("GET", base) as response:
                await response.read(1000)
        assert scope.cancelled_caught
        assert fetcher.statistics().in_use == 0


async def test_waiter_that_is_cancelled_costs_nobody_a_slot(autojump_clock: trio.testing.MockClock) -> None:
    """Leaving the line changes nothing for the others."""
    async with listening(hang_in_body) as base, open_fetcher(FetchOptions(max_connections=1)) as fetcher:
        async with fetcher.request("GET", base):
            with trio.move_on_after(1):
                async with fetcher.request("GET", base):
                    pass
            assert fetcher.statistics().waiting == 0
        with contextlib.suppress(UpstreamUnreachableError):
            async with fetcher.request("GET", base):
                pass
        assert fetcher.statistics().in_use == 0


def test_deadline_says_where_it_is() -> None:
    """The repr names the phase and the time."""
    deadline = Deadline(PATIENCE)
    assert repr(deadline) == "<Deadline waiting for a free connection, at inf>"
