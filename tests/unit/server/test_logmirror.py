"""The log mirror's application without sockets: clients that leave, storages that fail, bugs."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.logmirror.receiving import IDLE_SECONDS
from mirrorwitness.server.answers import BODY_SECONDS
from mirrorwitness.server.logmirror import LogMirrorApp
from mirrorwitness.telemetry import CONTENT_TYPE
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.witness.protocol import MAX_BODY_BYTES
from tests.unit.logmirror.world import LAB, MirrorWorld, add, body_of, check_copy, fill, next_of, pending

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from mirrorwitness.logmirror.service import LogMirror

CHECKPOINT = f"/{origin_hash(LAB.origin)}/checkpoint"
OCTETS = [(b"Content-Type", b"application/octet-stream")]


async def send(
    app: LogMirrorApp, method: str, path: str, messages: Sequence[dict[str, Any]] = (), *, coding: bytes = b"identity"
) -> tuple[int, dict[str, str], bytes]:
    """Send a request, message by message; behind the last one nothing comes."""
    sent: list[MutableMapping[str, Any]] = []
    waiting = list(messages)

    async def receive() -> MutableMapping[str, Any]:
        await trio.lowlevel.checkpoint()
        if not waiting:
            await trio.sleep_forever()
        return waiting.pop(0)

    async def take(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    headers = [*OCTETS, (b"content-encoding", coding)]
    await app({"type": "http", "method": method, "path": path, "headers": headers}, receive, take)
    start, body = sent
    given = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], given, body["body"]


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def start_app() -> tuple[MirrorWorld, LogMirror, LogMirrorApp]:
    world = MirrorWorld()
    mirror = await world.start()
    return world, mirror, LogMirrorApp(mirror=mirror, storage=world.storage)


async def test_a_client_that_leaves_is_no_error_of_ours() -> None:
    """It gets no answer, and what it brought is kept."""
    world, mirror, app = await start_app()
    await pending(mirror, 600)
    gone = {"type": "http.disconnect"}
    for path, body in (("/add-checkpoint", b"old"), ("/add-entries", body_of(0, 600, packages=1))):
        with pytest.raises(ConnectionAbortedError):
            await send(app, "POST", path, [piece(body, more=True), gone])
    assert next_of(world) == 256


async def test_slow_add_checkpoint(autojump_clock: trio.testing.MockClock) -> None:
    """A body that does not come to its end is a 400."""
    _, _, app = await start_app()
    begun = trio.current_time()
    assert (await send(app, "POST", "/add-checkpoint", [piece(b"old 0\n", more=True)]))[0] == 400
    assert trio.current_time() - begun == pytest.approx(BODY_SECONDS)
    assert autojump_clock.rate == 0


async def test_pieces_that_are_empty_are_waited_behind() -> None:
    """Only the last message ends a body."""
    world, mirror, app = await start_app()
    assert (await send(app, "POST", "/add-checkpoint", [piece(b"", more=True), piece(add(0, 300))]))[0] == 200
    body = body_of(0, 300)
    messages = [piece(body[:100], more=True), piece(b"", more=True), piece(body[100:], more=True), piece(b"")]
    assert (await send(app, "POST", "/add-entries", messages))[0] == 200
    check_copy(world, 300)
    assert repr(app) == f"<LogMirrorApp {mirror!r}>"


async def test_storage_that_fails_is_a_503() -> None:
    """For readers and for readiness."""
    world, mirror, app = await start_app()
    await fill(mirror, 300)
    world.storage.fail_before("read", checkpoint_key(LAB.origin), StorageUnavailableError("down"))
    status, headers, _ = await send(app, "GET", CHECKPOINT)
    assert (status, headers["retry-after"]) == (503, "5")
    world.storage.fail_before("stat", "*", StorageUnavailableError("down"))
    assert (await send(app, "GET", "/readyz"))[0] == 503
    status, headers, body = await send(app, "HEAD", CHECKPOINT)
    assert (status, int(headers["content-length"]) > 100, body) == (200, True, b"")


async def test_metrics() -> None:
    """Answers by request and status, all of them from the start; entries, logs, forks."""
    _, mirror, app = await start_app()
    requests = "mirrorwitness_logmirror_requests_total"
    nothing_yet: dict[tuple[str, ...], float] = {
        **{(requests, "add-checkpoint", str(status)): 0 for status in (200, 400, 403, 404, 409, 413, 422, 503)},
        **{(requests, "add-entries", str(status)): 0 for status in (200, 202, 400, 404, 409, 422, 429, 503)},
        ("mirrorwitness_logmirror_stored_entries_total",): 0,
        ("mirrorwitness_logmirror_known_logs",): 2,
        ("mirrorwitness_logmirror_forks_total",): 0,
    }
    assert await _scrape(app) == nothing_yet
    await fill(mirror, 300)
    await send(app, "POST", "/add-checkpoint", [piece(bytes(MAX_BODY_BYTES), more=True), piece(bytes(1), more=True)])
    assert await _scrape(app) == {
        **nothing_yet,
        (requests, "add-checkpoint", "200"): 1,
        (requests, "add-checkpoint", "413"): 1,
        (requests, "add-entries", "200"): 1,
        ("mirrorwitness_logmirror_stored_entries_total",): 300,
    }


async def _scrape(app: LogMirrorApp) -> dict[tuple[str, ...], float]:
    status, headers, body = await send(app, "GET", "/metrics")
    assert (status, headers["content-type"]) == (200, CONTENT_TYPE)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


async def test_a_bug_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a 500 that tells nothing; other kinds of connections are left alone."""
    _, mirror, app = await start_app()
    monkeypatch.setattr(type(mirror), "add_checkpoint", None)
    status, _, body = await send(app, "POST", "/add-checkpoint", [piece(add(0, 300))])
    assert (status, body) == (500, b"internal error, the log mirror's log says more\n")
    await app({"type": "lifespan"}, None, None)  # type: ignore[arg-type]


async def test_what_is_attested_is_served_where_it_lies() -> None:
    """The third statement's checkpoint, below a prefix of its own; 404 before there is one."""
    world, _, app = await start_app()
    path = f"/artifacts{CHECKPOINT}"
    assert (await send(app, "GET", path))[0] == 404
    world.storage.set_bytes(path.removeprefix("/"), b"a checkpoint\n")
    status, headers, body = await send(app, "GET", path)
    assert (status, headers["cache-control"], body) == (200, "public, max-age=5", b"a checkpoint\n")


@pytest.mark.parametrize("left", [0, 40])
async def test_a_checkpoint_that_was_cut_is_not_served(left: int) -> None:
    """A machine that lost power leaves it so; 503 until it is published again (ADR 0023)."""
    world, mirror, app = await start_app()
    await fill(mirror, 300)
    whole = world.storage.objects[checkpoint_key(LAB.origin)]
    assert world.storage.lose_power(cut=left) == [checkpoint_key(LAB.origin)]
    status, headers, body = await send(app, "GET", CHECKPOINT)
    assert (status, headers["retry-after"], body) == (503, "5", b"the published checkpoint is cut\n")
    again = await world.start()
    for log in again.logs:
        await again.publish_again(log)
    assert (await send(app, "GET", CHECKPOINT))[::2] == (200, whole)


async def test_attack_a_body_that_unpacks_to_a_thousand_times_its_length() -> None:
    """It comes in pieces, between which others have their turn; what is no package ends it."""
    world, mirror, app = await start_app()
    await pending(mirror, 600)
    bomb = gzip.compress(body_of(0, 600, packages=0) + bytes(64 * 1024 * 1024))
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        pieces = [piece(bomb[at : at + 16384], more=True) for at in range(0, len(bomb), 16384)]
        status, _, _ = await send(app, "POST", "/add-entries", [*pieces, piece(b"")], coding=b"gzip")
        nursery.cancel_scope.cancel()
    # Empty entries, and a proof of no hashes: a package, which is not the log's.
    assert status == 422
    assert next_of(world) == 0


async def test_attack_a_body_that_unpacks_to_nothing(autojump_clock: trio.testing.MockClock) -> None:
    """Empty members without an end are cut off when the time of a request's piece is over."""
    _, mirror, app = await start_app()
    await pending(mirror, 600)

    async def receive() -> dict[str, Any]:
        await trio.sleep(1)
        return piece(gzip.compress(b"") * 100, more=True)

    sent: list[MutableMapping[str, Any]] = []

    async def take(message: MutableMapping[str, Any]) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    begun = trio.current_time()
    headers = [*OCTETS, (b"content-encoding", b"gzip")]
    await app({"type": "http", "method": "POST", "path": "/add-entries", "headers": headers}, receive, take)
    assert sent[0]["status"] == 400
    assert trio.current_time() - begun == pytest.approx(IDLE_SECONDS)
    assert autojump_clock.rate == 0


@pytest.mark.parametrize(
    ("origin", "start", "end", "status"), [("x.example", 0, 600, 404), ("", 0, 7, 409), ("", 601, 601, 409)]
)
async def test_what_is_wrong_with_the_head_is_said_at_once(origin: str, start: int, end: int, status: int) -> None:
    """SPEC: "without waiting for the entire request body"; nothing that follows is waited for."""
    _, mirror, app = await start_app()
    await pending(mirror, 600)
    head = body_of(start, end, packages=0, origin=origin or None)
    assert (await send(app, "POST", "/add-entries", [piece(head, more=True)]))[0] == status
