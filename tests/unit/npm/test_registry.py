"""Registry against the simulator: what it asks, what it takes, and what it makes of a misbehaving upstream."""

from __future__ import annotations

import gzip
import json
import time
import tracemalloc
from dataclasses import replace

import pytest
import trio
import trio.testing

from mirrorwitness.errors import (
    ConfigurationError,
    UpstreamError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from mirrorwitness.fetch import open_fetcher
from mirrorwitness.npm.registry import PackumentAnswer, Registry
from tests.fakes.registry import Fault, RecordedRequest, RegistrySimulator, Reply, Signer
from tests.unit.npm.registry_helpers import LEFT_PAD, ONE, OPTIONS, SCOPED, Fixed, make_simulator, registry_of


@pytest.fixture
def sim() -> RegistrySimulator:
    return make_simulator()


async def test_packument_is_asked_for_in_full_and_compressed(sim: RegistrySimulator) -> None:
    """Exactly ``application/json``, gzip, and npm's own spelling of a scoped name, below the registry's path."""
    async with registry_of(sim) as registry:
        answer = await registry.packument(SCOPED)
        assert json.loads(answer.body or b"") == sim.packument("@scope/name")
    request = sim.requests[0]
    assert (request.method, request.target) == ("GET", "/npm/registry/@scope%2fname")
    assert {key: request.headers[key] for key in ("accept", "accept-encoding")} == {
        "accept": "application/json",
        "accept-encoding": "gzip",
    }
    assert registry.base == sim.base


async def test_unchanged_packument_is_not_fetched_again(sim: RegistrySimulator) -> None:
    """Validators give 304 until the document changes."""
    async with registry_of(sim) as registry:
        first = await registry.packument(LEFT_PAD)
        by_tag = await registry.packument(LEFT_PAD, etag=first.etag)
        by_time = await registry.packument(LEFT_PAD, last_modified=first.last_modified)
        sim.set_tag("left-pad", "old", "1.0.0")
        changed = await registry.packument(LEFT_PAD, etag=first.etag, last_modified=first.last_modified)
    unchanged = PackumentAnswer(None, first.etag, first.last_modified)
    assert (by_tag, by_time) == (unchanged, unchanged)
    assert json.loads(changed.body or b"")["dist-tags"] == {"latest": "1.1.0", "old": "1.0.0"}


async def test_unasked_304_is_an_error(sim: RegistrySimulator) -> None:
    """304 without validators is no document and no "unchanged"."""
    sim.fail("left-pad", Fault.status(304), times=None)
    async with registry_of(sim) as registry:
        with pytest.raises(UpstreamProtocolError, match="status 304"):
            await registry.packument(LEFT_PAD)


@pytest.mark.parametrize(
    ("status", "expected", "requests"),
    [
        (404, UpstreamNotFoundError, 1),
        (410, UpstreamNotFoundError, 1),
        (401, UpstreamRefusedError, 1),
        (403, UpstreamRefusedError, 1),
        (400, UpstreamProtocolError, 1),
        (429, UpstreamRefusedError, 3),
        (500, UpstreamUnreachableError, 3),
        (503, UpstreamUnreachableError, 3),
    ],
)
async def test_row_17_error_statuses(
    sim: RegistrySimulator, status: int, expected: type[UpstreamError], requests: int
) -> None:
    """Each status has its error, is repeated or not, and its page is never shown whole."""
    sim.fail("left-pad", Fault.status(status, retry_after="0"), times=None)
    async with registry_of(sim) as registry:
        with pytest.raises(expected, match=f"status {status}") as caught:
            await registry.packument(LEFT_PAD)
    assert (len(sim.requests), "secret" in str(caught.value)) == (requests, False)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.html(),
        Fault.truncated(),
        Fault.truncated(0),
        Fault.short_length(),
        Fault.reset(),
        Fault.reset(200),
        Fault.status(500),
        Fault.status(429, retry_after="0"),
        Fault.status(503),
    ],
    ids=repr,
)
async def test_rows_15_16_17_one_sick_answer_is_survived(sim: RegistrySimulator, fault: Fault) -> None:
    """HTML, cut bodies, resets, 5xx and 429 are tried again, and the right document comes out."""
    sim.fail("left-pad", fault)
    async with registry_of(sim) as registry:
        answer = await registry.packument(LEFT_PAD)
    assert (json.loads(answer.body or b""), len(sim.requests)) == (sim.packument("left-pad"), 2)


@pytest.mark.parametrize("fault", [Fault.gzip_unasked(), Fault.content_type("text/plain"), Fault.chunked()], ids=repr)
async def test_row_15_odd_but_right_answers_are_taken(sim: RegistrySimulator, fault: Fault) -> None:
    """A wrong type, chunks, or gzip nobody asked for do not hide a right document."""
    sim.keys = [Signer().key()]
    sim.fail("/-/npm/v1/keys", fault)
    sim.fail("left-pad", fault)
    async with registry_of(sim) as registry:
        assert json.loads((await registry.packument(LEFT_PAD)).body or b"") == sim.packument("left-pad")
        assert json.loads(await registry.keys() or b"") == {"keys": [Signer().key()]}
    assert len(sim.requests) == 2


async def test_row_15_html_forever_is_a_protocol_error(sim: RegistrySimulator) -> None:
    """A page with status 200 is never "no such package" and never a document."""
    sim.fail("left-pad", Fault.html(), times=None)
    async with registry_of(sim) as registry:
        with pytest.raises(UpstreamProtocolError, match=r"expected a JSON object, found 35 bytes of 'text/html'"):
            await registry.packument(LEFT_PAD)
    assert len(sim.requests) == 3


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "gzip, gzip"])
async def test_row_15_other_encodings_are_refused(encoding: str) -> None:
    """An encoding that nobody asked for and we do not speak is an error."""
    await answer_with(Reply(200, (("content-encoding", encoding),), b"{}"), "Content-Encoding")


_GZIPPED = gzip.compress(b"{}", mtime=0)  # a time would make the tests of two workers differ


@pytest.mark.parametrize("body", [b"not gzip", _GZIPPED[:-4], _GZIPPED + b"rubbish", b""], ids=range(4))
async def test_row_15_broken_gzip_is_refused(body: bytes) -> None:
    """Gzip that is none, is cut, or is followed by something else is an error."""
    await answer_with(Reply(200, (("content-encoding", "gzip"),), body), "gzip")


async def answer_with(reply: Reply, message: str) -> None:
    fixed = Fixed(reply)
    async with registry_of(fixed) as registry:
        with pytest.raises(UpstreamProtocolError, match=message):
            await registry.packument(LEFT_PAD)


async def test_gzip_of_several_members_is_one_document() -> None:
    """Concatenated gzip members are one body (RFC 1952)."""
    body = gzip.compress(b'{"name":') + gzip.compress(b'"left-pad"}')
    fixed = Fixed(Reply(200, (("content-encoding", "gzip"),), body))
    async with registry_of(fixed) as registry:
        assert (await registry.packument(LEFT_PAD)).body == b'{"name":"left-pad"}'


@pytest.mark.slow
async def test_row_15_gzip_bomb_costs_no_memory(sim: RegistrySimulator) -> None:
    """Attack: 256 MiB of spaces in 256 KiB of gzip are refused at the cap, with little more than that in memory."""
    sim.fail("left-pad", Fault.gzip_bomb(), times=None)
    sim.answer(RecordedRequest("GET", "/npm/registry/left-pad"))  # made before anything is measured
    cap = 8 << 20
    async with registry_of(sim, replace(OPTIONS, max_packument_bytes=cap)) as registry:
        tracemalloc.start()
        try:
            with pytest.raises(UpstreamProtocolError, match=f"decompressed to more than {cap} bytes"):
                await registry.packument(LEFT_PAD)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert (len(sim.requests), peak < 2 * cap) == (2, True)


@pytest.mark.slow
async def test_row_14_large_packument_stays_within_its_size(autojump_clock: trio.testing.MockClock) -> None:
    """A document of 32 MiB is held once and hardly more, and the event loop goes on meanwhile (P10)."""
    size = 32 << 20
    body = b'{"name":"left-pad","readme":"' + b"x" * size + b'"}'
    packed = gzip.compress(body, compresslevel=1)

    fixed = Fixed(Reply(200, (("content-encoding", "gzip"),), packed))
    async with registry_of(fixed) as registry:
        tracemalloc.start()
        try:
            answer = await registry.packument(LEFT_PAD)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert answer.body == body
    assert peak < size * 1.5


class LongestStep(trio.abc.Instrument):
    """Measures the longest time that any task held the event loop."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._since = time.process_time()  # the first step is half over when this is added

    def before_task_step(self, _task: trio.lowlevel.Task) -> None:
        self._since = time.process_time()

    def after_task_step(self, _task: trio.lowlevel.Task) -> None:
        self.longest = max(self.longest, time.process_time() - self._since)


@pytest.mark.slow
async def test_row_14_large_packument_does_not_hold_the_event_loop() -> None:
    """Unpacking 64 MiB that compress a thousandfold never keeps other tasks waiting for 100 ms."""
    body = b'{"readme":"' + b"x" * (64 << 20) + b'"}'
    async with registry_of(Fixed(Reply(200, (("content-encoding", "gzip"),), gzip.compress(body)))) as registry:
        instrument = LongestStep()
        trio.lowlevel.add_instrument(instrument)
        answer = await registry.packument(LEFT_PAD)
        trio.lowlevel.remove_instrument(instrument)
    assert (answer.body == body, instrument.longest < 0.1) == (True, True)


@pytest.mark.parametrize("compressed", [True, False])
async def test_row_14_oversized_packument_is_refused(sim: RegistrySimulator, *, compressed: bool) -> None:
    """Attack: a document over the cap is refused at once and not tried again."""
    sim.set_packument("left-pad", b'{"readme":"' + b"x" * 2000 + b'"}')
    if not compressed:
        sim.fail("left-pad", Fault.chunked(), times=None)
    async with registry_of(sim, replace(OPTIONS, max_packument_bytes=1000)) as registry:
        with pytest.raises(UpstreamProtocolError, match="1000 bytes"):
            await registry.packument(LEFT_PAD)
    assert len(sim.requests) == 1


async def test_row_13_keys(sim: RegistrySimulator) -> None:
    """The keys come as received; 404 and 400 mean none; anything else is an error, never "none"."""
    async with registry_of(sim) as registry:
        assert json.loads(await registry.keys() or b"") == {"keys": [Signer().key()]}
        sim.keys = None
        assert await registry.keys() is None
        sim.fail("/-/npm/v1/keys", Fault.status(400))
        assert await registry.keys() is None
        sim.fail("/-/npm/v1/keys", Fault.status(503), times=3)
        with pytest.raises(UpstreamUnreachableError):
            await registry.keys()
        sim.fail("/-/npm/v1/keys", Fault.html(), times=3)
        with pytest.raises(UpstreamProtocolError):
            await registry.keys()


async def test_attestations(sim: RegistrySimulator) -> None:
    """Attestations come as received, for scoped names too; 404 means none."""
    sim.attestations["@scope/name@1.0.0"] = b'{"attestations": []}'
    async with registry_of(sim) as registry:
        assert await registry.attestations(SCOPED, ONE) == b'{"attestations": []}'
        assert await registry.attestations(LEFT_PAD, ONE) is None
    assert sim.requests[0].target == "/npm/registry/-/npm/v1/attestations/@scope%2fname@1.0.0"


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"error": "gone\\u0000away"}', " (gone?away)"),
        (b'{"message": "' + b"x" * 500 + b'"}', f" ({'x' * 120})"),
        (b'"version not found"', " (version not found)"),
        (b'{"error": {"deep": 1}}', ""),
        (b"{}", ""),
        (b"[" * 10_000, ""),
        (b"x" * 20_000, ""),
    ],
)
async def test_reason_is_short(body: bytes, shown: str) -> None:
    """A JSON error body gives at most a short printable reason (STYLE 23)."""
    fixed = Fixed(Reply(404, (), body))
    async with registry_of(fixed) as registry:
        with pytest.raises(UpstreamNotFoundError) as caught:
            await registry.packument(LEFT_PAD)
    assert str(caught.value) == f"{registry.base}/left-pad: status 404{shown}"


@pytest.mark.parametrize("base", ["registry.example", "ftp://registry.example", "https://registry.example/?x=1", ""])
async def test_base_that_cannot_be(base: str) -> None:
    """A base that is no registry URL is the operator's error."""
    async with open_fetcher() as fetcher:
        with pytest.raises(ConfigurationError, match="registry"):
            Registry(base=base, fetcher=fetcher)
