"""The witness over HTTP: routes, statuses, content types and limits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.server.answers import BODY_SECONDS
from mirrorwitness.telemetry import CONTENT_TYPE
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, Reason, format_add_checkpoint, format_sign_subtree
from mirrorwitness.witness.records import IDENTITY_KEY, public_key
from tests.unit.server.witness_client import MONITORED, make_client
from tests.unit.witness.world import (
    LOG,
    OTHER,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    World,
    cosign,
    grow,
    make_note,
    read_cosignatures,
    sign,
)

if TYPE_CHECKING:
    from trio.testing import MockClock

    from tests.unit.server.witness_client import Client

TEXT = "text/plain; charset=utf-8"
GONE = StorageUnavailableError("no answer")
FORK = LOG.fork(6)


async def test_a_cosignature() -> None:
    """200, text, exactly these headers."""
    _, client = await make_client()
    reply = await client.post(LOG.request(0, 10))
    assert read_cosignatures(reply.body, LOG.tree(10).text, OURS)
    assert (reply.status, reply.headers) == (200, {"content-type": TEXT, "content-length": str(len(reply.body))})


async def test_the_type_of_a_409_is_exactly_the_specification_s() -> None:
    """Clients compare it for equality."""
    _, client = await make_client()
    await client.post(LOG.request(0, 10))
    reply = await client.post(LOG.request(0, 20))
    assert (reply.status, reply.body) == (409, b"10\n")
    assert reply.headers == {"content-type": "text/x.tlog.size", "content-length": "3"}


_BAD = make_note(LOG.tree(11), cosign(STRANGER, LOG.tree(11).text, START))


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"old 010\n\n" + LOG.note(11), 400),
        (LOG.request(12, 11), 400),
        (OTHER.request(0, 5), 404),
        (format_add_checkpoint(10, (), _BAD), 403),
        (format_add_checkpoint(10, (), LOG.note(11)), 422),
        (FORK.request(10, 10), 422),
    ],
)
async def test_refusals_are_text(body: bytes, status: int) -> None:
    """Each status of the specification, with a sentence."""
    _, client = await make_client()
    await client.post(LOG.request(0, 10))
    reply = await client.post(body)
    assert (reply.status, reply.headers["content-type"]) == (status, TEXT)
    assert reply.body.endswith(b"\n")


async def test_what_can_be_tried_again_says_when() -> None:
    """503 with Retry-After, for a clock that is behind and for a storage that does not answer; not for a rollback."""
    world, client = await make_client()
    await client.post(LOG.request(0, 10))
    world.clock.at -= 100
    reply = await client.post(LOG.request(10, 11))
    assert (reply.status, reply.headers["retry-after"]) == (503, "100")
    world.clock.at += 100
    world.storage.fail_before("put", "*", GONE)
    reply = await client.post(LOG.request(10, 11))
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    reply = await client.post(LOG.request(10, 20, more=[cosign(OURS, LOG.tree(20).text, START)]))
    assert (reply.status, "retry-after" in reply.headers) == (503, False)
    assert b"witness adopt" in (await client.post(LOG.request(10, 20))).body


async def test_a_body_in_many_pieces() -> None:
    """It is one request."""
    _, client = await make_client()
    body = LOG.request(0, 10)
    reply = await client.ask("POST", "/add-checkpoint", *[body[at : at + 7] for at in range(0, len(body), 7)])
    assert reply.status == 200


async def test_a_request_of_the_size_that_the_specification_needs() -> None:
    """Over 128 KiB: 60 signatures of post-quantum size and 63 hashes."""
    _, client = await make_client()
    strangers = [replace(sign(LOG.keys[0], b"x"), name=f"s{n}.example", value=bytes(2428)) for n in range(60)]
    body = format_add_checkpoint(0, (), LOG.note(10, more=strangers))
    assert 128 * 1024 < len(body) < MAX_BODY_BYTES
    assert (await client.post(body)).status == 200


@pytest.mark.parametrize("pieces", [(MAX_BODY_BYTES + 1,), (MAX_BODY_BYTES, 1), (1,) * 3 + (MAX_BODY_BYTES,)])
async def test_oversized_bodies(pieces: tuple[int, ...]) -> None:
    """413 as soon as it is known, in one piece or many; a body of just the limit is read."""
    _, client = await make_client()
    reply = await client.ask("POST", "/add-checkpoint", *[bytes(size) for size in pieces])
    assert (reply.status, reply.body) == (413, b"the request has more than 262144 bytes\n")
    assert (await client.ask("POST", "/add-checkpoint", bytes(MAX_BODY_BYTES))).status == 400


async def test_slow_bodies(autojump_clock: MockClock) -> None:
    """A client that sends nothing more is answered after ten seconds, and holds nothing up."""
    _, client = await make_client()
    begin = trio.current_time()
    reply = await client.send("POST", "/add-checkpoint", [{"type": "http.request", "body": b"old", "more_body": True}])
    assert (reply.status, reply.body) == (400, b"the body took more than 10 s\n")
    assert trio.current_time() - begin == pytest.approx(BODY_SECONDS)


async def test_a_client_that_leaves_gets_no_answer() -> None:
    """Half a body is no request: it is not judged, and nobody is told."""
    world, client = await make_client()
    whole = LOG.request(0, 10)
    queue: list[dict[str, Any]] = [
        {"type": "http.request", "body": whole, "more_body": True},
        {"type": "http.disconnect"},
    ]
    with pytest.raises(OSError, match="the client left"):
        await client.send("POST", "/add-checkpoint", queue)
    assert world.published_sizes() == []


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_of_add_checkpoint(method: str) -> None:
    """405, and which one it is."""
    _, client = await make_client()
    reply = await client.ask(method, "/add-checkpoint")
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


async def test_the_monitoring_path() -> None:
    """What was cosigned, as it was answered; caches may keep it for some seconds."""
    world, client = await make_client()
    answer = await client.post(LOG.request(0, 10))
    reply = await client.ask("GET", MONITORED)
    assert reply.body == world.storage.objects[public_key(LOG.origin)] == LOG.note(10) + answer.body
    assert reply.headers == {
        "content-type": TEXT,
        "content-length": str(len(reply.body)),
        "cache-control": "public, max-age=5",
    }
    head = await client.ask("HEAD", MONITORED)
    assert (head.status, head.body, head.headers) == (200, b"", reply.headers)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (MONITORED, b"no checkpoint of this log was cosigned yet\n"),
        (f"/{'0' * 64}/checkpoint", b"this witness knows no log of that origin\n"),
        (f"/{'0' * 63}/checkpoint", b"nothing is here\n"),
        (MONITORED.upper(), b"nothing is here\n"),
        (f"{MONITORED}/", b"nothing is here\n"),
        (f"/x{MONITORED}", b"nothing is here\n"),
        ("/", b"nothing is here\n"),
        ("/add-checkpoint/", b"nothing is here\n"),
        ("/state/witness/identity.json", b"nothing is here\n"),
    ],
)
async def test_what_is_not_there(path: str, said: bytes) -> None:
    """404: a log that was never cosigned, one that is not known, and any other path."""
    _, client = await make_client()
    reply = await client.ask("GET", path)
    assert (reply.status, reply.headers["content-type"], reply.body) == (404, TEXT, said)


async def test_nothing_can_be_written_under_the_monitoring_path() -> None:
    """405 for anything but reading."""
    _, client = await make_client()
    reply = await client.ask("POST", MONITORED, b"x")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")


async def test_a_storage_that_does_not_answer_monitors() -> None:
    """503 and when to come back: it is not a log that was never cosigned."""
    world, client = await make_client()
    await client.post(LOG.request(0, 10))
    world.storage.fail_before("read", "witness/*", GONE)
    reply = await client.ask("GET", MONITORED)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert (await client.ask("GET", MONITORED)).status == 200


@pytest.mark.parametrize("body", [b"", bytes(20), b"log.example/a\n10"])
async def test_a_checkpoint_that_lost_power_cut_is_not_shown(body: bytes) -> None:
    """503 until it is published again: half a checkpoint is nobody's."""
    world, client = await make_client()
    await client.post(LOG.request(0, 10))
    world.storage.set_bytes(public_key(LOG.origin), body)
    reply = await client.ask("GET", MONITORED)
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert reply.body == b"the published checkpoint is cut\n"


async def test_what_is_published_by_another_replica_is_shown() -> None:
    """It is read each time."""
    world, client = await make_client()
    await grow(await world.start(), 10)
    assert (await client.ask("GET", MONITORED)).status == 200


async def test_sign_subtree_where_it_is_offered() -> None:
    """The same rules of HTTP."""
    world, client = await make_client(World(keys=(OURS, OURS_PQ)), signs_subtrees=True)
    await client.post(LOG.request(0, 14))
    proof = LOG.subtree_proof(8, 13, 14)
    body = format_sign_subtree(8, 13, LOG.root(8, 13), proof, world.storage.objects[public_key(LOG.origin)])
    reply = await client.post(body, "/sign-subtree")
    assert (reply.status, [line.name for line in parse_lines(reply.body)]) == (200, [OURS_PQ.name])
    assert (await client.post(b"", "/sign-subtree")).status == 400
    assert (await client.ask("GET", "/sign-subtree")).status == 405


async def test_sign_subtree_where_it_is_not_offered() -> None:
    """As if there was no such thing."""
    _, client = await make_client()
    assert (await client.post(b"", "/sign-subtree")).status == 404


async def test_health_and_readiness(autojump_clock: MockClock) -> None:
    """Healthy as long as it answers; ready as long as the storage does, within five seconds."""
    world, client = await make_client()
    assert (await client.ask("GET", "/healthz")).body == b"ok\n"
    assert (await client.ask("GET", "/readyz")).body == b"ready\n"
    world.storage.fail_before("stat", IDENTITY_KEY, GONE)
    assert (await client.ask("GET", "/readyz")).status == 503

    async def hang(key: str) -> None:
        assert key == IDENTITY_KEY
        await trio.sleep_forever()

    world.storage.stat = hang  # type: ignore[method-assign]
    reply = await client.ask("GET", "/readyz")
    assert (reply.status, reply.body) == (503, b"the storage does not answer\n")
    assert (await client.ask("GET", "/healthz")).status == 200


_NOTHING_YET: dict[tuple[str, ...], float] = {
    **{("mirrorwitness_witness_requests_total", str(reason.value)): 0 for reason in Reason},
    ("mirrorwitness_witness_requests_total", "cosigned"): 0,
    ("mirrorwitness_witness_known_logs",): 2,
    ("mirrorwitness_witness_forks_total",): 0,
}


async def test_metrics() -> None:
    """Answers by what came of them, all words from the start; logs, forks; in the text format."""
    _, client = await make_client(World(logs=(LOG, OTHER)))
    assert await _scrape(client) == _NOTHING_YET
    for body in (LOG.request(0, 10), LOG.request(10, 11), LOG.request(0, 5), FORK.request(11, 11), b""):
        await client.post(body)
    await client.ask("POST", "/add-checkpoint", bytes(MAX_BODY_BYTES), bytes(1))
    assert await _scrape(client) == {
        **_NOTHING_YET,
        ("mirrorwitness_witness_requests_total", "cosigned"): 2,
        ("mirrorwitness_witness_requests_total", "stale"): 1,
        ("mirrorwitness_witness_requests_total", "other-root"): 1,
        ("mirrorwitness_witness_requests_total", "malformed"): 1,
        ("mirrorwitness_witness_requests_total", "too-large"): 1,
        ("mirrorwitness_witness_forks_total",): 1,
    }


async def _scrape(client: Client) -> dict[tuple[str, ...], float]:
    reply = await client.ask("GET", "/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, CONTENT_TYPE)
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }


async def test_a_bug_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The witness's log has it all."""
    world, client = await make_client()

    async def fail(key: str, *, limit: int) -> None:
        await trio.lowlevel.checkpoint()
        raise ZeroDivisionError(key, limit)

    world.storage.read = fail  # type: ignore[method-assign, assignment]
    reply = await client.ask("GET", MONITORED)
    assert (reply.status, reply.body) == (500, b"internal error, the witness's log says more\n")
    assert [record.message for record in caplog.records] == ["witness_failed"]


async def test_what_is_no_http_is_passed_over() -> None:
    """A lifespan is not for us, and a WebSocket gets nothing."""
    _, client = await make_client()

    async def refuse(*_: object) -> Any:
        raise AssertionError

    await client.app({"type": "lifespan"}, refuse, refuse)
    assert repr(client.app) == "<WitnessApp <Witness of 1 logs, {}>>"
