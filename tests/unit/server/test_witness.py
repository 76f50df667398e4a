"""The witness over HTTP: routes, statuses, content types, limits; directly as an application, and over loopback."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import h11
import pytest
import trio
from prometheus_client.parser import text_string_to_metric_families

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.run.serve import serve
from mirrorwitness.server import witness as server
from mirrorwitness.server.witness import BODY_SECONDS, WitnessApp
from mirrorwitness.telemetry import CONTENT_TYPE
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.witness.logs import origin_hash
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, format_add_checkpoint, format_sign_subtree
from mirrorwitness.witness.records import IDENTITY_KEY, public_key
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
    from collections.abc import AsyncGenerator, MutableMapping, Sequence

    from trio.testing import MockClock

TEXT = "text/plain; charset=utf-8"
MONITORED = f"/{origin_hash(LOG.origin)}/checkpoint"
GONE = StorageUnavailableError("no answer")
FORK = LOG.fork(6)


@dataclass(frozen=True)
class Reply:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass
class Client:
    """Asks an application directly; what is sent has to be one head and one piece of body, of the length it says."""

    app: WitnessApp

    async def ask(self, method: str, path: str, *pieces: bytes) -> Reply:
        """Send a request whose body comes in pieces."""
        queue: list[dict[str, Any]] = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
        return await self.send(method, path, [*queue, {"type": "http.request", "body": b""}])

    async def send(self, method: str, path: str, queue: Sequence[dict[str, Any]]) -> Reply:
        """Send a request, message by message."""
        sent: list[MutableMapping[str, Any]] = []
        waiting = list(queue)

        async def receive() -> MutableMapping[str, Any]:
            await trio.lowlevel.checkpoint()
            if not waiting:
                await trio.sleep_forever()
            return waiting.pop(0)

        async def send(message: MutableMapping[str, Any]) -> None:
            await trio.lowlevel.checkpoint()
            sent.append(message)

        await self.app({"type": "http", "method": method, "path": path, "headers": []}, receive, send)
        start, body = sent
        assert (start["type"], body["type"]) == ("http.response.start", "http.response.body")
        assert not body.get("more_body", False)
        headers = {name.decode(): value.decode() for name, value in start["headers"]}
        assert len(headers) == len(start["headers"])
        if method != "HEAD":
            assert headers["content-length"] == str(len(body["body"]))
        return Reply(start["status"], headers, body["body"])

    async def post(self, body: bytes, path: str = "/add-checkpoint") -> Reply:
        """Post a request of one piece."""
        return await self.ask("POST", path, body)


async def make_client(world: World | None = None, *, signs_subtrees: bool = False) -> tuple[World, Client]:
    """Return a witness that cosigned nothing yet."""
    world = world or World()
    witness = await world.start()
    return world, Client(WitnessApp(witness=witness, storage=world.storage, signs_subtrees=signs_subtrees))


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
    queue = [{"type": "http.request", "body": whole, "more_body": True}, {"type": "http.disconnect"}]
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

    world.storage.stat = hang  # type: ignore[method-assign, assignment]
    reply = await client.ask("GET", "/readyz")
    assert (reply.status, reply.body) == (503, b"the storage does not answer\n")
    assert (await client.ask("GET", "/healthz")).status == 200


async def test_metrics() -> None:
    """Answers by reason, logs, forks; in the text format."""
    _, client = await make_client(World(logs=(LOG, OTHER)))
    for body in (LOG.request(0, 10), LOG.request(10, 11), LOG.request(0, 5), FORK.request(11, 11), b""):
        await client.post(body)
    reply = await client.ask("GET", "/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, CONTENT_TYPE)
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(reply.body.decode())
        for sample in family.samples
    }
    assert found == {
        ("mirrorwitness_witness_requests_total", "cosigned"): 2,
        ("mirrorwitness_witness_requests_total", "stale"): 1,
        ("mirrorwitness_witness_requests_total", "other-root"): 1,
        ("mirrorwitness_witness_requests_total", "malformed"): 1,
        ("mirrorwitness_witness_known_logs",): 2,
        ("mirrorwitness_witness_forks_total",): 1,
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


@asynccontextmanager
async def listening(app: WitnessApp) -> AsyncGenerator[trio.SocketStream, None]:
    """Serve over loopback, and open one connection."""
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        start = partial(serve, app, host="127.0.0.1", port=0, shutdown=shutdown)
        host, port = await nursery.start(start)
        async with await trio.open_tcp_stream(host, port) as stream:
            yield stream
        shutdown.set()


async def exchange(stream: trio.SocketStream, http: h11.Connection, method: str, path: str, body: bytes) -> Reply:
    """Send one request on a connection that is kept, and read its answer."""
    headers = [("host", "witness.example"), ("content-length", str(len(body)))]
    head = http.send(h11.Request(method=method, target=path, headers=headers)) or b""
    await stream.send_all(head + (http.send(h11.Data(data=body)) or b"") + (http.send(h11.EndOfMessage()) or b""))
    response: h11.Response | None = None
    received = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(await stream.receive_some())
        elif isinstance(event, h11.Response):
            response = event
        elif isinstance(event, h11.Data):
            received += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            break
    assert response is not None
    http.start_next_cycle()
    return Reply(response.status_code, {k.decode(): v.decode() for k, v in response.headers.raw_items()}, received)


async def test_requests_over_loopback_on_one_connection() -> None:
    """Keep-alive: a log that grows, is refused, told its size, and read by a monitor, without a new connection."""
    _, client = await make_client()
    http = h11.Connection(h11.CLIENT)
    with trio.fail_after(10):
        async with listening(client.app) as stream:
            posts = [LOG.request(0, 10), LOG.request(10, 20), LOG.request(0, 30), FORK.request(20, 20), b"nonsense"]
            replies = [await exchange(stream, http, "POST", "/add-checkpoint", body) for body in posts]
            shown = await exchange(stream, http, "GET", MONITORED, b"")
    assert [reply.status for reply in replies] == [200, 200, 409, 422, 400]
    assert {name.lower(): value for name, value in replies[2].headers.items()}["content-type"] == "text/x.tlog.size"
    assert replies[2].body == b"20\n"
    assert shown.body == LOG.note(20) + replies[1].body


async def test_a_client_that_leaves_in_its_body_over_loopback(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is logged as an error of ours, and the next one is answered."""
    _, client = await make_client()
    with trio.fail_after(10):
        async with listening(client.app) as stream:
            await stream.send_all(b"POST /add-checkpoint HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\nold 0\n")
            await stream.aclose()
            await trio.testing.wait_all_tasks_blocked(0.01)
        async with listening(client.app) as stream:
            reply = await exchange(stream, h11.Connection(h11.CLIENT), "POST", "/add-checkpoint", LOG.request(0, 10))
    assert reply.status == 200
    assert [record.message for record in caplog.records if record.name == server._log.name] == []
