"""A log is brought to mirrors over loopback, one by add-entries and one by reading it: both have the same copy."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import SignatureError, UpstreamError, UpstreamProtocolError
from mirrorwitness.fetch import Backoff
from mirrorwitness.logmirror.protocol import ENTRIES_TYPE, INFO_TYPE, MirrorInfo, format_info
from mirrorwitness.logmirror.puller import Puller
from mirrorwitness.logmirror.upload import Uploader
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.sumdb.logclient import LogClient
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.note import format_lines
from mirrorwitness.tlog.tiles import Dialect
from mirrorwitness.witness.feeder import Action
from mirrorwitness.witness.lab import sign_line
from tests.fakes.registry_server import RecordedRequest, Reply
from tests.fakes.serving import serve
from tests.unit.logmirror.sources import LabServer, LabSource, fetching, listening
from tests.unit.logmirror.world import (
    LAB,
    OURS,
    OURS_PQ,
    MirrorWorld,
    body_of,
    check_copy,
    pending,
    witnessed,
)

if TYPE_CHECKING:
    from mirrorwitness.fetch import Fetcher, HostGate
    from mirrorwitness.tlog.checkpoint import OpenedCheckpoint

SECOND = make_signer_key("mirror.example/m2", bytes([43] * 32), KeyType.COSIGNATURE)
DIGEST = origin_hash(LAB.origin)


def head(size: int) -> OpenedCheckpoint:
    """Return a head of the log."""
    return open_checkpoint(LAB.checkpoint(size), [LAB.keys[0].verifier], origin=LAB.origin)


def uploader(url: str, size: int, fetcher: Fetcher, gate: HostGate) -> Uploader:
    """Return what brings the log to a mirror."""
    return Uploader(source=LabSource(LAB, size), url=url, keys=[OURS.verifier], fetcher=fetcher, gate=gate)


@pytest.mark.slow
async def test_pushed_and_pulled_copies_are_equal() -> None:
    """A log is pushed to one mirror; another one reads the first one's copy as it would the log's, and has the same."""
    size = 33 * 256 + 7
    pushed, pulled = MirrorWorld(keys=(OURS, OURS_PQ)), MirrorWorld(keys=(SECOND,))
    app = LogMirrorApp(mirror=await pushed.start(), storage=pushed.storage)
    with trio.fail_after(30):
        async with listening(app) as url, fetching() as (fetcher, gate):
            sender = uploader(url, size, fetcher, gate)
            first = await sender.push(head(300))
            assert [item.key for item in first.cosignatures] == [OURS.verifier]
            done = await sender.push(head(size))
            assert done.requests == 3  # add-checkpoint, 32 packages, and the last one
            mirror = await pulled.start()
            log = witnessed(LAB, f"{url}/{DIGEST}")
            client = LogClient(
                log=log, url=f"{url}/{DIGEST}", dialect=Dialect.TILES, fetcher=fetcher, gate=gate, tries=Backoff()
            )
            puller = Puller(mirror=mirror, log=log, source=client, refresh=60, now=pulled.clock, on_fork=pulled.keep)
            assert (await puller.poll()).action is Action.COSIGNED
    check_copy(pushed, size)
    check_copy(pulled, size)
    tiles = [
        {key: body for key, body in world.storage.objects.items() if "/tile/" in key and ".p/" not in key}
        for world in (pushed, pulled)
    ]
    assert tiles[0] == tiles[1]


async def test_a_log_over_http_is_pulled() -> None:
    """From a server that is not ours, with tiles and bundles."""
    world = MirrorWorld()
    server = LabServer(LabSource(LAB, 700))
    mirror = await world.start()
    with trio.fail_after(30):
        async with serve(server) as url, fetching() as (fetcher, gate):
            log = witnessed(LAB, url)
            client = LogClient(log=log, url=url, dialect=Dialect.TILES, fetcher=fetcher, gate=gate)
            puller = Puller(mirror=mirror, log=log, source=client, refresh=60, now=world.clock, on_fork=world.keep)
            assert (await puller.poll()).action is Action.COSIGNED
    check_copy(world, 700)


async def test_a_mirror_that_others_fed_is_brought_up() -> None:
    """The sender learns size and next entry from the answers, and sends what is missing."""
    world = MirrorWorld()
    mirror = await world.start()
    app = LogMirrorApp(mirror=mirror, storage=world.storage)
    with trio.fail_after(30):
        async with listening(app) as url, fetching() as (fetcher, gate):
            await uploader(url, 300, fetcher, gate).push(head(300))
            await pending(mirror, 400, old=300)
            sender = uploader(url, 900, fetcher, gate)
            assert "Uploader" in repr(sender)
            await sender.push(head(900))
            with pytest.raises(UpstreamProtocolError, match="size 900 already"):
                await uploader(url, 700, fetcher, gate).push(head(700))
    check_copy(world, 900)


class FalseMirror:
    """Answers uploads with what a test says."""

    def __init__(self, *replies: Reply) -> None:
        self.prefix = ""
        self.base = ""
        self.latency = 0.0
        self.replies = list(replies)
        self.asked: list[str] = []

    def answer(self, request: RecordedRequest) -> Reply:
        """Answer a request."""
        self.asked.append(request.target)
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


def info(size: int, at: int, status: int = 409) -> Reply:
    return Reply(status, (("content-type", INFO_TYPE),), format_info(MirrorInfo(size, at)))


OK = Reply(200)
STRANGE = Reply(200, (), format_lines([sign_line(OURS_PQ, LAB.text(300), 5)]))
WRONG = Reply(200, (), format_lines([sign_line(OURS, LAB.text(299), 5)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ([OK, info(300, 0)], "no further than entry 0"),
        ([OK, info(299, 0), OK, info(299, 7), OK], "signature lines"),
        ([OK, STRANGE], "no cosignature of its keys"),
        ([OK, WRONG], "does not verify"),
        ([OK, Reply(422, (), b"\x1b[31m no")], "status 422"),
        ([Reply(404, (), b"unknown")], "status 404"),
        ([OK, Reply(202, (("content-type", "text/plain"),), b"300\n0\n\n")], "status 202"),
        ([OK, Reply(409, (("content-type", INFO_TYPE),), b"300\n-1\n\n")], "next entry"),
        ([Reply(409, (("content-type", "text/x.tlog.size"),), b"7\n")], "moved to another size"),
    ],
)
async def test_attack_a_mirror_that_lies(replies: list[Reply], error: str) -> None:
    """Nothing is believed but its cosignature, and without progress it is given up."""
    false = FalseMirror(*replies)
    with trio.fail_after(30):
        async with serve(false) as url, fetching() as (fetcher, gate):
            with pytest.raises((UpstreamError, SignatureError), match=error) as caught:
                await uploader(url, 300, fetcher, gate).push(head(300))
    assert "\x1b" not in str(caught.value)
    assert len(false.asked) <= 20


async def test_requests_over_loopback() -> None:
    """Content types, codings, methods and headers; tiles for ever, the checkpoint for some seconds."""
    world = MirrorWorld()
    app = LogMirrorApp(mirror=await world.start(), storage=world.storage)
    with trio.fail_after(30):
        async with listening(app) as url, fetching() as (fetcher, _):

            async def ask(
                method: str, path: str, body: bytes | None = None, **headers: str
            ) -> tuple[int, dict[str, str], bytes]:
                fields = {name.replace("_", "-"): value for name, value in headers.items()}
                async with fetcher.request(method, f"{url}{path}", headers=fields, body=body) as response:
                    return response.status, dict(response.headers), await response.read(1_000_000)

            assert (await ask("GET", f"/{DIGEST}/checkpoint"))[0] == 404
            await pending(app._mirror, 300)
            body = body_of(0, 300)
            status, headers, said = await ask("POST", "/add-entries", body, content_type="text/plain")
            assert (status, headers["accept-encoding"]) == (415, "gzip")
            status, headers, said = await ask(
                "POST", "/add-entries", body, content_type=ENTRIES_TYPE, content_encoding="br"
            )
            assert (status, headers["accept-encoding"]) == (415, "gzip")
            status, _, _ = await ask("POST", "/add-entries", body, content_type=ENTRIES_TYPE, content_encoding="gzip")
            assert status == 400
            packed = gzip.compress(body[:5000]) + gzip.compress(body[5000:])
            status, headers, said = await ask(
                "POST", "/add-entries", packed, content_type=f"{ENTRIES_TYPE}; x=y", content_encoding="gzip"
            )
            assert (status, headers["accept-encoding"]) == (200, "gzip")
            assert said.startswith("— mirror.example/m1 ".encode())
            status, headers, said = await ask("POST", "/add-entries", body_of(301, 301), content_type=ENTRIES_TYPE)
            assert (status, headers["content-type"]) == (409, INFO_TYPE)
            status, headers, said = await ask("GET", f"/{DIGEST}/checkpoint")
            assert (status, headers["cache-control"]) == (200, "public, max-age=5")
            for tile in (
                "tile/0/000",
                "tile/0/001.p/44",
                "tile/entries/000",
                "tile/entries/001.p/44",
                "tile/1/000.p/1",
            ):
                status, headers, said = await ask("GET", f"/{DIGEST}/{tile}")
                assert (status, headers["content-type"]) == (200, "application/octet-stream")
                assert "immutable" in headers["cache-control"]
            for path in ("tile/0/001.p/45", "tile/0/1", "tile/64/000", "nothing"):
                assert (await ask("GET", f"/{DIGEST}/{path}"))[0] in {400, 404}
            assert (await ask("GET", f"/{'0' * 64}/checkpoint"))[0] == 404
            assert (await ask("GET", "/add-entries"))[0] == 405
            assert (await ask("POST", f"/{DIGEST}/checkpoint", b""))[0] == 405
            assert (await ask("POST", "/add-checkpoint", bytes(300_000)))[0] == 413
            assert (await ask("GET", "/healthz"))[2] == b"ok\n"
            assert (await ask("GET", "/readyz"))[2] == b"ready\n"
            status, _, said = await ask("GET", "/metrics")
            assert b'mirrorwitness_logmirror_requests_total{request="add-entries",status="200"} 1.0' in said
            assert b"mirrorwitness_logmirror_stored_entries_total 300.0" in said
