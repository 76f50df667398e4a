"""The checksum database over HTTP: what is served, for how long caches may keep it, and what clients cannot do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    BudgetExhaustedError,
    IntegrityMismatchError,
    LogLostError,
    StorageUnavailableError,
    UpstreamNotFoundError,
    UpstreamUnreachableError,
)
from mirrorwitness.npm.names import PackageName
from mirrorwitness.server.lookups import MAX_WAITING, Lookups
from mirrorwitness.server.sumdb import make_sumdb_app
from mirrorwitness.server.traffic import Traffic
from mirrorwitness.sumdb.index import parse_index
from mirrorwitness.sumdb.lookups import parse_lookup, parse_package
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, index_key
from mirrorwitness.sumdb.records import Event, parse_record
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.telemetry import Sample, metrics
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.entries import parse_entries
from mirrorwitness.tlog.merkle import Hash, check_inclusion, leaf_hash, root_of
from mirrorwitness.tlog.tile_hashes import TileHashes
from mirrorwitness.tlog.tiles import EntriesTile, Tile, edge_tiles
from tests.fakes.storage import MemoryStorage
from tests.unit.server.asgi_client import AsgiClient
from tests.unit.server.sumdb_world import KEYS, ORIGIN, SumdbWorld, make_record

if TYPE_CHECKING:
    from mirrorwitness.npm.names import Version
    from mirrorwitness.storage import ObjectInfo
    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from tests.fakes.storage import Operation
    from tests.unit.server.asgi_client import Answer

TEXT = "text/plain; charset=utf-8"
FIXED = "public, max-age=31536000, immutable"
SHORT = "public, max-age=5"
VERIFIERS = [key.verifier for key in KEYS]


@pytest.fixture
async def world() -> SumdbWorld:
    """A log of 300 records of one package, one of @s/n@1.0.0 and one of a@2.0.0-rc.1+b, all published."""
    world = SumdbWorld()
    await world.start()
    await world.fill(300)
    await world.grow(make_record("@s/n", "1.0.0"))
    await world.grow(make_record("a", "2.0.0-rc.1+b"))
    return world


def open_tree(note: bytes) -> Checkpoint:
    return open_checkpoint(note, VERIFIERS, origin=ORIGIN).checkpoint


def verify(answer: Answer, *, tree: Checkpoint | None = None) -> Record:
    """Check a look-up as a client does, under its own checkpoint or one that is known; return the record."""
    found = parse_lookup(answer.body, has_checkpoint=tree is None)
    if tree is None:
        assert found.checkpoint is not None
        tree = open_tree(found.checkpoint)
    leaf = leaf_hash(found.record)
    check_inclusion(found.proof, index=found.index, size=tree.size, leaf=leaf, root=tree.root)
    return parse_record(found.record)


def memory(world: SumdbWorld) -> MemoryStorage:
    assert isinstance(world.storage, MemoryStorage)
    return world.storage


def cached(answer: Answer) -> tuple[int, str, str]:
    return answer.status, answer.headers["content-type"], answer.headers["cache-control"]


async def test_the_checkpoint_as_it_is_published(world: SumdbWorld) -> None:
    """With all its lines, for five seconds."""
    answer = await world.client().get("/checkpoint")
    assert cached(answer) == (200, TEXT, SHORT)
    assert open_tree(answer.body).size == 302
    assert answer.body == await StoredLog(world.storage).read_head()


async def test_tiles_and_bundles_from_which_the_root_is_computed(world: SumdbWorld) -> None:
    """As C2SP tlog-tiles has them, full and partial ones for ever."""
    client = world.client()
    tree = open_tree((await client.get("/checkpoint")).body)
    tiles: dict[Tile, bytes] = {}
    for tile in [Tile(0, 0, 256), *edge_tiles(tree.size)]:
        answer = await client.get(f"/{tile}")
        assert cached(answer) == (200, "application/octet-stream", FIXED)
        tiles[tile] = answer.body
    TileHashes(tree.size, tiles).check_root(tree.root)
    bundle = EntriesTile(1, 46)
    entries = parse_entries((await client.get(f"/{bundle}")).body, bundle)
    assert [leaf_hash(entry) for entry in entries] == [
        tiles[Tile(0, 1, 46)][start : start + 32] for start in range(0, 46 * 32, 32)
    ]


@pytest.mark.parametrize("path", ["/lookup/@s/n@1.0.0", "/lookup/@s%2fn@1.0.0", "/lookup/%40s%2Fn@1.0.0"])
async def test_a_look_up_is_proven_under_the_checkpoint_that_comes_with_it(world: SumdbWorld, path: str) -> None:
    """Whoever has the log's key needs nothing else."""
    answer = await world.client().get(path)
    assert cached(answer) == (200, TEXT, SHORT)
    assert verify(answer) == make_record("@s/n", "1.0.0")


@pytest.mark.parametrize("size", [301, 302])
async def test_a_look_up_in_a_tree_that_the_client_knows_never_changes(world: SumdbWorld, size: int) -> None:
    """It has no checkpoint, and caches keep it for ever."""
    client = world.client()
    before = await client.get(f"/lookup/@s/n@1.0.0?size={size}")
    assert cached(before) == (200, TEXT, FIXED)
    await world.grow(make_record("@s/n", "1.0.0", event=Event.UNPUBLISH))
    after = await world.client().get(f"/lookup/@s/n@1.0.0?size={size}")
    assert after.body == before.body
    assert before.body.endswith(b"\n\n")


async def test_every_size_below_the_published_one_can_be_asked_for(world: SumdbWorld) -> None:
    """Also those for which no head was ever signed: the tiles of later trees have them."""
    await world.fill(300, "later")
    client = world.client()
    tiles = await StoredLog(world.storage).read_tiles([Tile(0, 0, 256), Tile(0, 1, 256), Tile(0, 2, 90)])
    hashes = b"".join(tiles[tile] for tile in sorted(tiles, key=lambda tile: tile.index))
    for size in (1, 2, 100, 255, 256, 257, 299, 301, 511, 513, 602):
        root = root_of([Hash(hashes[at : at + 32]) for at in range(0, size * 32, 32)])
        found = parse_lookup((await client.get(f"/lookup/filler@0.0.0?size={size}")).body, has_checkpoint=False)
        leaf = leaf_hash(found.record)
        check_inclusion(found.proof, index=found.index, size=size, leaf=leaf, root=root)


async def test_the_newest_record_of_a_version_is_the_answer(world: SumdbWorld) -> None:
    """Unpublished: it still proves the integrity."""
    await world.grow(make_record("@s/n", "1.0.0", event=Event.UNPUBLISH))
    record = verify(await world.client().get("/lookup/@s/n@1.0.0"))
    assert (record.event, record.integrity) == (Event.UNPUBLISH, make_record("@s/n", "1.0.0").integrity)


async def test_a_version_in_conflict_is_a_409_with_a_proven_record(world: SumdbWorld) -> None:
    """A client that knows no better refuses it by its status, one that does sees both integrities."""
    await world.grow(make_record("@s/n", "1.0.0", content=b"other bytes"))
    client = world.client()
    answer = await client.get("/lookup/@s/n@1.0.0")
    assert answer.status == 409
    record = verify(answer)
    assert record.event is Event.CONFLICT
    assert record.integrity == make_record("@s/n", "1.0.0").integrity
    assert record.other_integrity == make_record("@s/n", "1.0.0", content=b"other bytes").integrity
    assert cached(await client.get("/lookup/@s/n@1.0.0?size=303"))[::2] == (409, FIXED)
    assert (await client.get("/lookup/@s/n@1.0.0?size=302")).status == 200


async def test_all_records_of_a_package(world: SumdbWorld) -> None:
    """In the log's order, each behind its index; limited to a tree where one is named."""
    await world.grow(make_record("@s/n", "1.1.0"), make_record("@s/n", "1.0.0", event=Event.UNPUBLISH))
    client = world.client()
    answer = await client.get("/lookup/@s/n")
    assert cached(answer) == (200, TEXT, SHORT)
    found = [(item.index, parse_record(item.record)) for item in parse_package(answer.body)]
    assert found == [
        (300, make_record("@s/n", "1.0.0")),
        (302, make_record("@s/n", "1.1.0")),
        (303, make_record("@s/n", "1.0.0", event=Event.UNPUBLISH)),
    ]
    limited = await client.get("/lookup/@s/n?size=303")
    assert cached(limited) == (200, TEXT, FIXED)
    assert [item.index for item in parse_package(limited.body)] == [300, 302]
    assert len(parse_package((await client.get("/lookup/filler")).body)) == 300


async def test_a_package_with_too_many_records_for_one_answer(
    world: SumdbWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index and the bundles have them; no answer takes the memory of the server."""
    monkeypatch.setattr("mirrorwitness.server.lookups.MAX_PACKAGE_BYTES", 10_000)
    answer = await world.client().get("/lookup/filler")
    assert (answer.status, b"too many records" in answer.body) == (400, True)


async def test_the_index_of_a_package(world: SumdbWorld) -> None:
    """What is published, and no line more."""
    await world.grow(make_record("@s/n", "1.1.0"), publishes=False)
    answer = await world.client().get("/index/@s%2fn")
    assert cached(answer) == (200, TEXT, SHORT)
    assert [line.version for line in parse_index(answer.body).lines] == ["1.0.0"]


async def test_a_view_shows_the_log_as_it_stood(world: SumdbWorld) -> None:
    """No later tile, record or line; no checkpoint but that of the published tree; all of it for ever."""
    await world.grow(make_record("@s/n", "1.0.0", event=Event.UNPUBLISH))
    old = open_checkpoint(await StoredLog(world.storage).read_head(), VERIFIERS, origin=ORIGIN).checkpoint
    client = world.client()
    view = await client.get("/-/at/301/lookup/@s/n@1.0.0")
    assert (cached(view), parse_record(parse_lookup(view.body, has_checkpoint=False).record).event) == (
        (200, TEXT, FIXED),
        Event.PUBLISH,
    )
    assert [line.index for line in parse_index((await client.get("/-/at/301/index/@s/n")).body).lines] == [300]
    assert len(parse_package((await client.get("/-/at/301/lookup/@s/n")).body)) == 1
    expected = {
        "/-/at/300/lookup/@s/n@1.0.0": 404,
        "/-/at/300/index/@s/n": 404,
        "/-/at/300/lookup/@s/n": 404,
        "/-/at/301/checkpoint": 404,
        f"/-/at/{old.size}/checkpoint": 200,
        "/-/at/301/tile/0/000": 200,
        "/-/at/301/tile/0/001.p/45": 200,
        "/-/at/301/tile/0/001.p/46": 404,
        "/-/at/301/tile/entries/001.p/45": 200,
        "/-/at/301/tile/entries/001.p/46": 404,
        "/-/at/301/lookup/@s/n@1.0.0?size=301": 200,
        "/-/at/301/lookup/@s/n@1.0.0?size=302": 404,
        "/-/at/999/checkpoint": 404,
        "/-/at/999/lookup/@s/n@1.0.0": 404,
        "/lookup/@s/n@1.0.0?size=999": 404,
    }
    assert {path: (await client.get(path)).status for path in expected} == expected


async def test_a_server_that_shows_an_old_tree_shows_nothing_later(world: SumdbWorld) -> None:
    """`--at 301`: as if every path began with it."""
    client = world.client(at=301)
    expected = {
        "/lookup/@s/n@1.0.0": 200,
        "/lookup/a@2.0.0-rc.1+b": 404,
        "/tile/0/001.p/46": 404,
        "/checkpoint": 404,
        "/-/at/300/lookup/@s/n@1.0.0": 404,
        "/-/at/302/lookup/@s/n@1.0.0": 404,
    }
    assert {path: (await client.get(path)).status for path in expected} == expected


async def test_head_has_the_head_of_get(world: SumdbWorld) -> None:
    """With its length, and no body."""
    client = world.client()
    for path in ("/checkpoint", "/tile/0/000", "/lookup/@s/n@1.0.0"):
        get, head = await client.get(path), await client.head(path)
        assert (head.status, head.headers, head.body) == (200, get.headers, b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "text"),
    [
        ("GET", "/", 404, "answers /checkpoint"),
        ("GET", "/lookups/a@1", 404, "answers /checkpoint"),
        ("GET", "/lookup/a@1.0.0", 404, "a@1.0.0 is not logged: this server only reads"),
        ("GET", "/lookup/a@not%20a%20version", 404, "no log has a record of such a version"),
        ("GET", "/lookup/a@", 400, "nothing stands behind the @"),
        ("GET", "/lookup/..%2f..%2fetc", 400, "package name"),
        ("GET", "/lookup/a@1.0.0?size=01", 400, "size '01'"),
        ("GET", "/lookup/a@1.0.0?x=1", 400, "query"),
        ("GET", "/checkpoint?x=1", 400, "a query is not possible here"),
        ("GET", "/healthz?x=1", 400, "a query is not possible here"),
        ("GET", "/index/", 400, "package name"),
        ("GET", "/index/nothing", 404, "has none of nothing"),
        ("GET", "/lookup/nothing", 404, "has none of nothing"),
        ("GET", "/tile/0/000.p/256", 400, "is not the path of a tile"),
        ("GET", "/tile/0/x000/000", 400, "is not the path of a tile"),
        ("GET", "/tile/0/002.p/1", 404, "the log has no tile tile/0/002.p/1"),
        ("GET", "/-/at/1x/checkpoint", 400, "size of the tree in the path"),
        ("GET", "/-/at/1", 404, "answers /checkpoint"),
        ("GET", "/-/at/1/-/at/1/checkpoint", 404, "answers /checkpoint"),
        ("POST", "/lookup/a@1.0.0", 405, "POST is not possible"),
        ("PUT", "/checkpoint", 405, "PUT is not possible"),
        ("GET", "/%zz", 404, "answers /checkpoint"),
    ],
)
async def test_what_is_not_there(world: SumdbWorld, method: str, path: str, status: int, text: str) -> None:
    """One line of text that says why, which nobody keeps."""
    answer = await world.client().request(method, path)
    assert cached(answer) == (status, TEXT, "no-store")
    assert text in answer.body.decode()
    assert answer.body.count(b"\n") == 1


class Registry:
    """What a look-up has logged: one version, after some seconds."""

    def __init__(self, world: SumdbWorld, *, takes: float = 1.0, publishes: bool = True) -> None:
        self.world = world
        self.takes = takes
        self.publishes = publishes
        self.asked: list[tuple[PackageName, Version]] = []
        self.failure: Exception | None = None
        self.reason = ""

    async def bring(self, name: PackageName, version: Version) -> str:
        self.asked.append((name, version))
        await trio.sleep(self.takes)
        if self.failure is not None:
            raise self.failure
        if not self.reason:
            await self.world.grow(make_record(name, version), publishes=self.publishes)
        return self.reason


async def test_a_look_up_grows_the_log(world: SumdbWorld, autojump_clock: trio.testing.MockClock) -> None:
    """What nobody asked for before is logged, published, and answered with its proof."""
    registry = Registry(world)
    client = world.client(bring=registry.bring)
    assert verify(await client.get("/lookup/new@1.0.0")) == make_record("new", "1.0.0")
    assert verify(await client.get("/lookup/new@1.0.0")) == make_record("new", "1.0.0")
    assert registry.asked == [("new", "1.0.0")]


async def test_a_look_up_in_a_known_tree_grows_the_log_and_says_so(
    world: SumdbWorld, autojump_clock: trio.testing.MockClock
) -> None:
    """That tree will never have it; one round trip later the client has it."""
    client = world.client(bring=Registry(world).bring)
    answer = await client.get("/lookup/new@1.0.0?size=302")
    assert (answer.status, answer.headers["cache-control"]) == (404, "no-store")
    assert b"was logged as entry 302" in answer.body
    size = open_tree((await client.get("/checkpoint")).body).size
    assert (await client.get(f"/lookup/new@1.0.0?size={size}")).status == 200


async def test_a_view_grows_nothing(world: SumdbWorld) -> None:
    """The past is not asked of a registry."""
    registry = Registry(world)
    assert (await world.client(bring=registry.bring).get("/-/at/300/lookup/new@1.0.0")).status == 404
    assert registry.asked == []


async def test_until_it_is_published_a_look_up_waits(world: SumdbWorld, autojump_clock: trio.testing.MockClock) -> None:
    """The witnesses take five seconds: so does the answer."""
    registry = Registry(world, publishes=False)

    async def wait_published(size: int) -> None:
        assert size == 303
        await trio.sleep(5)
        await world.log.publish(world.log.head)

    client = world.client(bring=registry.bring, wait_published=wait_published)
    start = trio.current_time()
    assert verify(await client.get("/lookup/new@1.0.0")) == make_record("new", "1.0.0")
    assert trio.current_time() - start == pytest.approx(6, abs=0.5)


async def test_a_look_up_waits_no_longer_than_its_deadline(
    world: SumdbWorld, autojump_clock: trio.testing.MockClock
) -> None:
    """A witness is down: 503 and Retry-After, the old checkpoint stays, and what was published is still answered."""
    registry = Registry(world, publishes=False)

    async def wait_published(size: int) -> None:
        await trio.sleep_forever()

    client = world.client(bring=registry.bring, wait_published=wait_published)
    answer = await client.get("/lookup/new@1.0.0")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert b"being logged" in answer.body
    assert open_tree((await client.get("/checkpoint")).body).size == 302
    assert (await client.get("/lookup/@s/n@1.0.0")).status == 200
    assert (await client.get("/lookup/new@1.0.0")).status == 503, "nor is it asked of the registry again"
    assert registry.asked == [("new", "1.0.0")]
    await world.log.publish(world.log.head)
    assert (await world.client().get("/lookup/new@1.0.0")).status == 200


async def test_a_server_that_does_not_publish_says_when_to_come_back(world: SumdbWorld) -> None:
    """Another process does."""
    await world.grow(make_record("new", "1.0.0"), publishes=False)
    answer = await world.client().get("/lookup/new@1.0.0")
    assert (answer.status, answer.headers["retry-after"]) == (503, "5")
    assert b"logged, and not published yet" in answer.body


@pytest.mark.parametrize(
    ("failure", "reason", "status", "text"),
    [
        (None, "its version has no integrity", 404, "is not logged: its version has no integrity"),
        (UpstreamNotFoundError("the registry\nhas no new"), "", 404, "is not logged: the registry has no new"),
        (UpstreamUnreachableError("no route"), "", 503, "the registry cannot be asked: no route"),
        (BudgetExhaustedError("used up"), "", 503, "the registry cannot be asked: used up"),
        (IntegrityMismatchError("other bytes"), "", 404, "is not logged: other bytes"),
        (LogLostError("another sequencer"), "", 503, "the storage does not answer"),
        (StorageUnavailableError("no answer"), "", 503, "the storage does not answer"),
    ],
)
async def test_what_cannot_be_logged(
    world: SumdbWorld, failure: Exception | None, reason: str, status: int, text: str
) -> None:
    """The registry does not have it, cannot be asked, or has bytes that disagree: nothing is logged."""
    registry = Registry(world, takes=0)
    registry.failure, registry.reason = failure, reason
    answer = await world.client(bring=registry.bring).get("/lookup/new@1.0.0")
    assert (answer.status, "retry-after" in answer.headers) == (status, status == 503)
    assert text in answer.body.decode()
    assert world.log.size == 302


async def test_flood_of_look_ups_for_new_versions(world: SumdbWorld, autojump_clock: trio.testing.MockClock) -> None:
    """So many wait; the others are told to come back at once, and look-ups of what is logged go on."""
    registry = Registry(world, takes=10)
    registry.reason = "nothing there"
    client = world.client(bring=registry.bring)
    statuses: list[int] = []

    async def ask(number: int) -> None:
        statuses.append((await client.get(f"/lookup/new{number}@1.0.0")).status)

    async with trio.open_nursery() as nursery:
        for number in range(MAX_WAITING):
            nursery.start_soon(ask, number)
        await trio.sleep(5)
        answer = await client.get("/lookup/one-more@1.0.0")
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert (await client.get("/lookup/@s/n@1.0.0")).status == 200
    assert statuses == [404] * MAX_WAITING
    assert (await client.get("/lookup/one-more@1.0.0")).status == 404


async def test_an_index_that_leads_to_another_record_is_not_served(world: SumdbWorld) -> None:
    """A hint that was tampered with: a client would refuse it, and we do; the log says more than the answer."""
    storage = memory(world)
    key = index_key(PackageName("@s/n"))
    good = storage.objects[key]
    for body in (good.replace(b"\n300 ", b"\n299 "), good.replace(b" publish ", b" unpublish "), b"nonsense"):
        assert body != good
        storage.set_bytes(key, body)
        answer = await world.client().get("/lookup/@s/n@1.0.0")
        assert cached(answer) == (500, TEXT, "no-store")
        assert answer.body == b"what is stored is damaged, the server's log says more\n"


async def test_a_bundle_that_is_gone_is_our_fault(world: SumdbWorld) -> None:
    """500, and the log says which."""
    storage = memory(world)
    for key in storage.objects:
        if key.startswith("log/tile/entries/001"):
            storage.remove(key)
    assert (await world.client().get("/lookup/@s/n@1.0.0")).status == 500


async def test_a_storage_that_does_not_answer(world: SumdbWorld) -> None:
    """503 and Retry-After; health does not look, readiness does."""
    operations: tuple[Operation, ...] = ("read", "open", "stat")
    for operation in operations:
        memory(world).fail_before(operation, "*", StorageUnavailableError("no answer"), times=1000)
    client = world.client()
    for path in ("/checkpoint", "/tile/0/000", "/lookup/@s/n@1.0.0", "/index/@s/n", "/readyz"):
        answer = await client.get(path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5"), path
    assert (await client.get("/healthz")).status == 200


async def test_a_log_of_which_nothing_is_published() -> None:
    """404, and not ready."""
    world = SumdbWorld()
    await world.start()
    client = world.client()
    statuses = [(await client.get(path)).status for path in ("/checkpoint", "/lookup/a@1.0.0", "/readyz", "/healthz")]
    assert statuses == [404, 404, 503, 200]


async def test_a_storage_that_hangs_is_not_ready(world: SumdbWorld, autojump_clock: trio.testing.MockClock) -> None:
    """Readiness answers within its time."""

    class Hanging(MemoryStorage):
        async def stat(self, key: str) -> ObjectInfo | None:
            assert key == CHECKPOINT_KEY
            await trio.sleep_forever()

    app = make_sumdb_app(storage=Hanging(), lookups=Lookups(storage=world.storage))
    assert (await AsgiClient(app).get("/readyz")).status == 503


async def test_metrics(world: SumdbWorld) -> None:
    """Those of the process, and what was answered."""
    traffic, lookups = Traffic(), Lookups(storage=world.storage)
    app = make_sumdb_app(
        storage=world.storage,
        lookups=lookups,
        samples=lambda: [Sample(metrics.WITNESS_LOGS, 1)],
        traffic=traffic,
    )
    client = AsgiClient(app)
    await client.get("/lookup/@s/n@1.0.0")
    assert "at size 302, 0 waiting" in repr(lookups)
    text = (await client.get("/metrics")).body.decode()
    assert 'mirrorwitness_http_requests_total{route="lookup",status="200"} 1.0' in text
    assert "mirrorwitness_witness_known_logs 1.0" in text


async def test_the_storage_is_asked_for_the_checkpoint_once_a_second(
    world: SumdbWorld, autojump_clock: trio.testing.MockClock
) -> None:
    """A thousand look-ups read it once; a second later what is newer is seen."""
    client = world.client()
    assert verify(await client.get("/lookup/@s/n@1.0.0")).event is Event.PUBLISH
    await world.grow(make_record("@s/n", "1.0.0", event=Event.UNPUBLISH))
    assert verify(await client.get("/lookup/@s/n@1.0.0")).event is Event.PUBLISH
    await trio.sleep(1.1)
    assert verify(await client.get("/lookup/@s/n@1.0.0")).event is Event.UNPUBLISH
