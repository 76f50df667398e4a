"""When the storage fails, a document is damaged, clients crowd or leave: what is answered, and how often work is done.

All of it without a clock that runs, and without a storage that is real.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing

from mirrorwitness.errors import ConfigurationError, StorageRefusedError, StorageUnavailableError
from mirrorwitness.mirror.health import HealthTerms
from mirrorwitness.server import ServeOptions, make_app
from mirrorwitness.server.documents import LARGE_BYTES, Documents
from mirrorwitness.server.registry import RegistryServer
from mirrorwitness.server.traffic import Traffic
from mirrorwitness.server.watch import StorageWatch
from tests.fakes.storage import MemoryStorage
from tests.unit.server.asgi_client import AsgiClient
from tests.unit.server.mirror_builder import make_client, make_document, make_manifest, store, store_package

if TYPE_CHECKING:
    from mirrorwitness.storage import ObjectInfo

KEY = "npm/n/packument.json"


def _objects(bodies: int = 1, **extra: Any) -> dict[str, bytes]:
    objects: dict[str, bytes] = {}
    store_package(objects, "n", {f"1.0.{patch}": b"bytes" for patch in range(bodies)}, **extra)
    return objects


@pytest.mark.parametrize("path", ["/n", "/n/latest", "/n/-/n-1.0.0.tgz", "/-/readyz", "/-/about.json"])
async def test_storage_that_does_not_answer_is_503(path: str) -> None:
    """A client is told to come again, and gets its answer then."""
    storage = MemoryStorage(_objects() | {"about/mirror.json": b"{}"})
    storage.fail_before("stat", "*", StorageUnavailableError("secret endpoint is down"))
    client = make_client(storage)
    answer = await client.get(path)
    assert (answer.status, answer.headers["retry-after"], answer.headers["cache-control"]) == (503, "5", "no-store")
    assert answer.json() == {"error": "the mirror's storage does not answer, try again later"}
    assert (await client.get(path)).status == 200


@pytest.mark.parametrize("operation", ["read", "open"])
async def test_storage_that_fails_later_is_503(operation: Any) -> None:
    """The same holds for what comes after the first look."""
    storage = MemoryStorage(_objects())
    storage.fail_before(operation, "*", StorageUnavailableError("down"))
    client = make_client(storage)
    assert (await client.get("/n/-/n-1.0.0.tgz")).status == 503
    assert (await client.get("/n/-/n-1.0.0.tgz")).status == 200


async def test_storage_that_hangs_is_not_ready(autojump_clock: trio.testing.MockClock) -> None:
    """Readiness has a deadline of its own."""

    class Hanging(MemoryStorage):
        async def stat(self, key: str) -> ObjectInfo | None:
            assert key == "about/mirror.json"
            await trio.sleep_forever()

    client = make_client(Hanging())
    assert (await client.get("/-/readyz")).status == 503
    assert trio.current_time() == pytest.approx(5, abs=0.1)
    assert (await client.get("/-/healthz")).status == 200


async def test_storage_that_refuses_is_500_without_its_words(caplog: pytest.LogCaptureFixture) -> None:
    """What the storage says goes to the log; clients learn that it is not their fault."""
    storage = MemoryStorage(_objects())
    storage.fail_before("stat", "*", StorageRefusedError("the key AKIA may not read bucket b"))
    with caplog.at_level(logging.ERROR):
        answer = await make_client(storage).get("/n")
    assert (answer.status, answer.json()) == (500, {"error": "internal error, the mirror's log says more"})
    assert [record.message for record in caplog.records] == ["request_failed"]


@pytest.mark.parametrize("path", ["/n", "/n/1.0.0", "/n/-/n-1.0.0.tgz", "/-/package/n/dist-tags"])
@pytest.mark.parametrize("stored", [b"", b"<html>", b"[]", b'{"name": "other", "versions": {}}', b'{"name": "n"'])
async def test_damaged_document_is_500_that_names_the_key(path: str, stored: bytes) -> None:
    """Nothing is served from a document that is not one, and the operator is told what to do."""
    answer = await make_client(_objects() | {KEY: stored}).get(path)
    assert answer.status == 500
    assert answer.json() == {
        "error": f"the stored object {KEY} is damaged; the mirror's operator can run: mirrorwitness audit"
    }


async def test_bug_in_a_handler_is_500_without_details(caplog: pytest.LogCaptureFixture) -> None:
    """What we did not foresee is not told to strangers."""
    storage = MemoryStorage(_objects())
    storage.fail_before("stat", "*", RuntimeError("/home/secret/path"))
    with caplog.at_level(logging.ERROR):
        answer = await make_client(storage).get("/n")
    assert (answer.status, answer.json()) == (500, {"error": "internal error, the mirror's log says more"})
    assert "/home/secret/path" in caplog.text


@pytest.mark.parametrize("large", [False, True])
async def test_hundred_requests_render_once(*, large: bool) -> None:
    """P10: whoever comes while a document is in work waits for it."""
    storage = MemoryStorage(_objects(readme="x" * (LARGE_BYTES if large else 1)))
    client = make_client(storage)
    answers: list[bytes] = []

    async def ask() -> None:
        answers.append((await client.get("/n", accept_encoding="gzip")).body)

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)
    assert len(set(answers)) == 1
    assert len(answers) == 100
    assert (storage.keys_of("stat"), storage.keys_of("read")) == ([KEY], [KEY])


async def test_error_reaches_everybody_who_waited_and_nobody_later() -> None:
    """A failed piece of work is forgotten at once."""
    gate = trio.Event()

    class Slow(MemoryStorage):
        async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
            await gate.wait()
            return await super().read(key, limit=limit)

    storage = Slow(_objects())
    storage.fail_before("read", "*", StorageUnavailableError("down"))
    client = make_client(storage)
    statuses: list[int] = []

    async def ask() -> None:
        statuses.append((await client.get("/n")).status)

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert statuses == [503] * 5
    assert (await client.get("/n")).status == 200


async def test_cancelled_leader_leaves_the_work_to_a_waiter() -> None:
    """A client that leaves takes nobody else with it."""
    gate = trio.Event()

    class Slow(MemoryStorage):
        async def read(self, key: str, *, limit: int) -> tuple[bytes, ObjectInfo]:
            await gate.wait()
            return await super().read(key, limit=limit)

    client = make_client(Slow(_objects()))
    statuses: list[int] = []
    leader = trio.CancelScope()

    async def lead() -> None:
        with leader:
            await client.get("/n")

    async def follow() -> None:
        statuses.append((await client.get("/n")).status)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lead)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(follow)
        nursery.start_soon(follow)
        await trio.testing.wait_all_tasks_blocked()
        leader.cancel()
        await trio.testing.wait_all_tasks_blocked()
        gate.set()
    assert statuses == [200, 200]


async def test_new_document_is_seen_when_the_old_look_is_too_old(autojump_clock: trio.testing.MockClock) -> None:
    """What is served is at most `fresh_seconds` old, and the storage is asked once in that time."""
    storage = MemoryStorage(_objects())
    client = make_client(storage, fresh_seconds=1.0)
    assert list((await client.get("/n")).json()["versions"]) == ["1.0.0"]
    storage.set_bytes(KEY, _objects(2)[KEY])
    assert list((await client.get("/n")).json()["versions"]) == ["1.0.0"]
    await trio.sleep(1.01)
    assert list((await client.get("/n")).json()["versions"]) == ["1.0.0", "1.0.1"]
    assert storage.keys_of("stat") == [KEY, KEY]


async def test_p2_both_doors_open_together(autojump_clock: trio.testing.MockClock) -> None:
    """P2: a version is downloadable from the moment its document is served."""
    objects = _objects()
    storage = MemoryStorage(objects)
    client = make_client(storage)
    assert (await client.get("/n/-/n-1.0.1.tgz")).status == 404
    for key, body in _objects(2).items():
        storage.set_bytes(key, body)
    await trio.sleep(1.01)
    assert (await client.get("/n/-/n-1.0.1.tgz")).status == 200


async def test_document_that_vanishes_between_two_looks_is_404() -> None:
    """A package removed while it is asked for is not there."""

    class Vanishing(MemoryStorage):
        async def stat(self, key: str) -> ObjectInfo | None:
            info = await super().stat(key)
            if info is not None:
                self.remove(key)
            return info

    paths = ("/n", "/n/latest", "/n/-/n-1.0.0.tgz", "/-/about.json")
    objects = _objects() | {"about/mirror.json": b"{}"}
    assert [(await make_client(Vanishing(objects)).get(path)).status for path in paths] == [404] * 4


async def test_absent_packages_are_remembered_for_a_moment() -> None:
    """Asking for a name that is not there costs the storage one question."""
    storage = MemoryStorage()
    client = make_client(storage)
    assert [(await client.get("/absent")).status for _ in range(3)] == [404] * 3
    assert storage.keys_of("stat") == ["npm/absent/packument.json"]


async def test_p10_cache_is_bounded_in_bytes() -> None:
    """P10: a document larger than the cache is served all the same, and not kept."""
    storage = MemoryStorage(_objects(readme="x" * 10_000))
    client = make_client(storage, cache_bytes=1000)
    assert [(await client.get("/n")).status for _ in range(2)] == [200, 200]
    assert storage.keys_of("read") == [KEY, KEY]


async def test_made_up_versions_cost_no_parsing() -> None:
    """A stranger cannot make us parse a document again for each version that he invents."""
    storage = MemoryStorage(_objects())
    client = make_client(storage)
    for patch in range(50):
        assert (await client.get(f"/n/9.0.{patch}")).status == 404
    assert storage.keys_of("read") == [KEY]


async def test_rendering_that_ends_up_without_the_version_is_404() -> None:
    """The document that is read counts, also where the index was made of an older one."""
    storage = MemoryStorage(_objects())
    client = make_client(storage)
    assert (await client.get("/n/1.0.0")).status == 200
    objects: dict[str, bytes] = {}
    store(objects, make_document("n", {"2.0.0": make_manifest("n", "2.0.0", b"")}))
    storage.set_bytes(KEY, objects[KEY])
    assert (await client.request("GET", "/n/1.0.0", {"host": "other.example"})).status == 404


async def test_public_url_is_checked_at_the_start() -> None:
    """A server with a public URL that is none does not start."""
    with pytest.raises(ConfigurationError, match=r"public URL 'mirror\.example'"):
        make_app(storage=MemoryStorage(), options=ServeOptions(public_url="mirror.example"))


async def test_lifespan_and_websocket_are_answered() -> None:
    """Servers that speak of more than requests are answered as ASGI asks."""
    app = make_app(storage=MemoryStorage(), options=ServeOptions())
    incoming = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[Any] = []

    async def receive() -> Any:
        await trio.lowlevel.checkpoint()
        return next(incoming)

    async def send(message: Any) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    await app({"type": "websocket"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete", "websocket.close"]


async def test_scope_without_raw_path_is_understood() -> None:
    """``raw_path`` is optional in ASGI."""
    app = make_app(storage=MemoryStorage(_objects()), options=ServeOptions())

    async def without_raw(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "raw_path": None}, receive, send)

    client = AsgiClient(without_raw)  # type: ignore[arg-type]  # an application all the same
    assert (await client.get("/n/latest")).status == 200


async def test_large_answer_goes_out_in_pieces() -> None:
    """P10: a slow client is handed a mebibyte at a time."""
    body = b'"' + b"x" * (2 * 1024 * 1024) + b'"'
    answer = await make_client({"about/keys.json": body}).get("/-/npm/v1/keys")
    assert answer.body == body
    assert [len(piece) for piece in answer.pieces] == [1_048_576, 1_048_576, 2]


async def test_long_lived_objects_show_their_state() -> None:
    """Representations say in one line what an object holds."""
    storage = MemoryStorage(_objects())
    documents = Documents(storage=storage, cache_bytes=4000, fresh_seconds=1.0)
    assert repr(documents) == (
        "<Documents renderings=<ByteCache 0 entries, 0 of 4000 bytes> indexes=<ByteCache 0 entries, 0 of 1000 bytes>>"
    )
    terms, traffic = HealthTerms(), Traffic()
    watch = StorageWatch(storage=storage, allowed=0, terms=terms, traffic=traffic, now=lambda: datetime.now(UTC))
    assert (repr(watch), repr(traffic)) == (f"<StorageWatch of {storage!r}>", "<Traffic 0 answers, 0 bytes>")
    server = partial(RegistryServer, storage=storage, watch=watch)
    assert repr(server(options=ServeOptions())).startswith("<RegistryServer as each request names it <Documents")
    assert "https://m.example" in repr(server(options=ServeOptions(public_url="https://m.example/")))
