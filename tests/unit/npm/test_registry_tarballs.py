"""Registry against the simulator: tarballs, whole and broken, allowed and not."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio
import trio.testing

from mirrorwitness.errors import (
    IntegrityMismatchError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamUnreachableError,
)
from tests.fakes.registry import Fault, RegistrySimulator, Reply, serve
from tests.unit.npm.registry_helpers import LEFT_PAD, OPTIONS, Fixed, ListSink, make_simulator, registry_of


@pytest.fixture
def sim() -> RegistrySimulator:
    return make_simulator()


async def test_tarball_is_streamed(sim: RegistrySimulator) -> None:
    """The bytes come in pieces, are counted, and are asked for uncompressed."""
    data = sim.publish("big", "1.0.0", data=bytes(range(256)) * 8000)
    async with registry_of(sim) as registry:
        url = sim.packument("big")["versions"]["1.0.0"]["dist"]["tarball"]
        sink = ListSink()
        assert await registry.tarball(url, sink) == len(data)
        assert await registry.tarball_size(url) == len(data)
    assert (sink.data, sink.resets, sink.chunks > 1) == (data, 0, True)
    assert [request.headers["accept-encoding"] for request in sim.requests] == ["identity", "identity"]


@pytest.mark.parametrize(
    ("fault", "resets"),
    [
        (Fault.truncated(), 1),
        (Fault.truncated(0), 0),
        (Fault.reset(), 0),
        (Fault.reset(150), 1),
        (Fault.html(), 0),
        (Fault.status(502), 0),
        (Fault.status(429, retry_after="0"), 0),
    ],
    ids=repr,
)
async def test_row_16_broken_transfer_starts_again(sim: RegistrySimulator, fault: Fault, resets: int) -> None:
    """A transfer that breaks is repeated from the first byte, and the sink told to forget."""
    sim.fail("/left-pad/-/left-pad-1.0.0.tgz", fault)
    sink = ListSink()
    async with registry_of(sim) as registry:
        size = await registry.tarball(f"{registry.base}/left-pad/-/left-pad-1.0.0.tgz", sink)
    assert (sink.data, sink.resets, size) == (sim.tarball("left-pad", "1.0.0"), resets, len(sink.data))


async def test_row_16_slow_tarball_is_given_up(sim: RegistrySimulator, autojump_clock: trio.testing.MockClock) -> None:
    """Attack: a server that drips is cut off each time, and the last error says why."""
    sim.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.drip(1), times=None)
    async with registry_of(sim) as registry:
        with pytest.raises(UpstreamUnreachableError, match="below 1000 bytes/s"):
            await registry.tarball(f"{registry.base}/left-pad/-/left-pad-1.0.0.tgz", ListSink())
    assert len(sim.requests) == 3


async def test_row_07_tarball_404(sim: RegistrySimulator) -> None:
    """A missing tarball is said to be missing, at once."""
    async with registry_of(sim) as registry:
        for call in (
            registry.tarball(f"{registry.base}/a/-/a.tgz", ListSink()),
            registry.tarball_size(f"{registry.base}/a"),
        ):
            with pytest.raises(UpstreamNotFoundError, match=r"status 404"):
                await call


async def test_row_08_wrong_bytes_are_passed_on_for_the_verifier_to_judge(sim: RegistrySimulator) -> None:
    """The client does not judge bytes; an error of the sink's passes at once and is never retried (STYLE 21)."""
    sim.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.wrong_bytes())
    async with registry_of(sim) as registry:
        url = f"{registry.base}/left-pad/-/left-pad-1.0.0.tgz"
        sink = ListSink()
        await registry.tarball(url, sink)
        assert sink.data != sim.tarball("left-pad", "1.0.0")
        with pytest.raises(IntegrityMismatchError):
            await registry.tarball(url, ListSink(error=IntegrityMismatchError("x")))
    assert len(sim.requests) == 2


async def test_tarball_with_content_encoding_keeps_its_raw_bytes() -> None:
    """A server that labels tarballs as gzip-encoded does not change a byte, but its length is not to be trusted."""
    fixed = Fixed(Reply(200, (("content-encoding", "gzip"),), b"\x1f\x8braw"))
    sink = ListSink()
    async with registry_of(fixed) as registry:
        assert await registry.tarball(f"{registry.base}/x.tgz", sink) == 5
        assert await registry.tarball_size(f"{registry.base}/x.tgz") is None
    assert sink.data == b"\x1f\x8braw"


async def test_oversized_tarball_is_refused(sim: RegistrySimulator) -> None:
    """Attack: an endless tarball ends at the cap (P10)."""
    sim.set_tarball("a", "a.tgz", b"x" * 100_000)
    async with registry_of(sim, replace(OPTIONS, max_tarball_bytes=50_000)) as registry:
        with pytest.raises(UpstreamProtocolError, match="more than 50000 bytes"):
            await registry.tarball(f"{registry.base}/a/-/a.tgz", ListSink())


async def test_tarball_size_where_head_is_not_allowed(sim: RegistrySimulator) -> None:
    """A server without HEAD leaves the size unknown."""
    sim.fail("/left-pad/-/left-pad-1.0.0.tgz", Fault.status(405))
    async with registry_of(sim) as registry:
        assert await registry.tarball_size(f"{registry.base}/left-pad/-/left-pad-1.0.0.tgz") is None


@pytest.mark.parametrize(
    "url", ["http://example.com/x.tgz", "https://registry.example/x.tgz", "file:///etc/passwd", ""]
)
async def test_row_19_tarball_on_another_host_is_refused(sim: RegistrySimulator, url: str) -> None:
    """Attack: a packument cannot send us anywhere."""
    async with registry_of(sim) as registry:
        with pytest.raises(UpstreamError):
            await registry.tarball(url, ListSink())
    assert sim.requests == []


async def test_row_18_token_goes_home_only(sim: RegistrySimulator) -> None:
    """The token opens the registry and is not sent to an allowed second host."""
    sim.token = "secret"
    cdn = RegistrySimulator()
    cdn.set_tarball("a", "a.tgz", b"bytes")
    async with (
        serve(cdn) as cdn_base,
        registry_of(sim, replace(OPTIONS, token="secret", allowed_hosts=(cdn_base,))) as home,
    ):
        assert (await home.packument(LEFT_PAD)).body is not None
        await home.tarball(f"{cdn_base}/a/-/a.tgz", ListSink())
        assert "secret" not in repr(home) + repr(home.options)
    assert [request.headers.get("authorization") for request in cdn.requests] == [None]


async def test_cancelled_transfer_leaves_the_registry_usable(sim: RegistrySimulator) -> None:
    """Cancelling in the sink closes the connection; the next request gets its own answer."""

    class Stuck(ListSink):
        async def write(self, chunk: bytes) -> None:  # noqa: ARG002 - the Protocol's
            await trio.sleep_forever()

    async with registry_of(sim) as registry:
        with trio.move_on_after(0.02) as scope:
            await registry.tarball(f"{registry.base}/left-pad/-/left-pad-1.0.0.tgz", Stuck())
        assert scope.cancelled_caught
        assert (await registry.packument(LEFT_PAD)).body is not None
        assert registry.gate.requests == 2
