"""The copy of a log: what it refuses, and what it makes of a storage that is not as it was left."""

from __future__ import annotations

import pytest
import trio

from mirrorwitness.errors import IntegrityMismatchError, StorageRefusedError, StorageUnavailableError
from mirrorwitness.logmirror.copy import LogCopy
from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.paths import tile_key
from mirrorwitness.logmirror.reading import TreeReader
from mirrorwitness.logmirror.receiving import Upload
from mirrorwitness.logmirror.state import MirrorState
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.partials import Partials
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.fakes.storage import MemoryStorage
from tests.unit.logmirror.sources import LabSource
from tests.unit.logmirror.world import LAB, MirrorWorld, body_of, check_copy, fill, lines_of, pending, post, receiver


def entries(start: int, end: int) -> list[bytes]:
    return [LAB.entry(at) for at in range(start, end)]


async def test_entries_are_stored_without_a_gap() -> None:
    """From the beginning of a bundle; what is here already is skipped, what is too far on is refused."""
    copy = LogCopy(MemoryStorage(), LAB.origin, stored=0)
    assert await copy.cut(0) == EMPTY_ROOT
    assert await copy.store(0, entries(0, 300)) == 300
    assert await copy.store(0, entries(0, 200)) == 300
    assert await copy.store(256, entries(256, 400)) == 400
    assert await copy.cut(400) == LAB.root(400)
    assert await copy.cut(299) == LAB.root(299)
    assert await copy.read_entries(257, 390) == tuple(entries(257, 390))
    with pytest.raises(StorageRefusedError, match="entry 512 was sent, the next one is 400"):
        await copy.store(512, entries(512, 600))
    with pytest.raises(StorageRefusedError, match="a tree of 401 entries, and 400 are stored"):
        await copy.cut(401)
    assert repr(copy) == f"<LogCopy of {LAB.origin!r}, 400 entries>"


async def test_attack_other_entries_than_are_stored() -> None:
    """Whoever proved them: they are not those of the tree that is here."""
    copy = LogCopy(MemoryStorage(), LAB.origin, stored=0)
    await copy.store(0, entries(0, 300))
    with pytest.raises(IntegrityMismatchError, match="damaged"):
        await copy.store(256, [b"other", *entries(257, 400)])
    assert await copy.cut(300) == LAB.root(300)


async def test_another_replica_is_learnt_from() -> None:
    """It goes on from there, out of what is stored; what it knows already changes nothing."""
    storage = MemoryStorage()
    first, second = (LogCopy(storage, LAB.origin, stored=0) for _ in range(2))
    await first.store(0, entries(0, 1500))
    await second.learn(1500)
    await second.learn(7)
    assert await second.store(1280, entries(1280, 1600)) == 1600
    assert await second.cut(1600) == LAB.root(1600)


async def test_many_long_entries_are_hashed_in_a_thread() -> None:
    """With the same result."""
    storage = MemoryStorage()
    copy = LogCopy(storage, LAB.origin, stored=0)
    await copy.store(0, [bytes(65_535)] * 20)
    assert (await LogCopy(storage, LAB.origin, stored=20).cut(20)) == await copy.cut(20)


@pytest.mark.parametrize("tile", [Tile(0, 1, 256), EntriesTile(2, 188)])
async def test_a_copy_that_is_not_whole_is_named(tile: Tile | EntriesTile) -> None:
    """The message has the key, and says what to do."""
    storage = MemoryStorage()
    await LogCopy(storage, LAB.origin, stored=0).store(0, entries(0, 700))
    storage.remove(tile_key(LAB.origin, tile))
    with pytest.raises(StorageRefusedError, match=r"is missing, though 700 entries .* restore it"):
        await LogCopy(storage, LAB.origin, stored=700).cut(700)
    storage.set_bytes(tile_key(LAB.origin, Tile(0, 1, 256)), b"short")
    with pytest.raises(StorageRefusedError, match=r"has 5 bytes, not 8192|is missing"):
        await LogCopy(storage, LAB.origin, stored=700).cut(700)


async def test_a_storage_that_fails_leaves_the_copy_as_it_was() -> None:
    """And the next try is as good as the first."""
    storage = MemoryStorage()
    copy = LogCopy(storage, LAB.origin, stored=0)
    storage.fail_after("put", "*/tile/entries/*", StorageUnavailableError("lost"))
    with pytest.raises(StorageUnavailableError):
        await copy.store(0, entries(0, 300))
    assert copy.size == 0
    assert await copy.store(0, entries(0, 300)) == 300


def test_what_things_are_called() -> None:
    """In one line, for logs."""
    state = MirrorState(storage=MemoryStorage(), cosigner=Cosigner(state=None, signers=[], own=[], now=float))  # type: ignore[arg-type]
    assert repr(state) == "<MirrorState of 0 logs>"
    reader = TreeReader(LabSource(LAB, 3), parse_checkpoint(LAB.text(3)))
    assert repr(reader).endswith("0 tiles kept>")


async def test_an_upload_has_a_name() -> None:
    """Which says how far it is."""
    mirror = await MirrorWorld().start()
    assert repr(Upload(mirror, receiver())) == "<Upload <UploadParser None, 0 bytes that are not parsed>>"


def partials_of(storage: MemoryStorage) -> list[str]:
    """Return what is partial, without the log's own folder."""
    return sorted(key.split("/", 2)[2] for key in storage.objects if ".p/" in key)


async def test_partial_tiles_go_when_the_full_ones_are_served() -> None:
    """A log that grows by a few entries leaves no trail; what the served tree needs stays, also after a restart."""
    world = MirrorWorld()
    mirror, size = await world.start(), 0
    for grown in (100, 200, 250, 255):
        await fill(mirror, grown, start=size)
        size = grown
    assert len(partials_of(world.storage)) == 8
    mirror = await world.start()
    await pending(mirror, 300, old=255)
    given = await post(mirror, body_of(255, 300, packages=1))
    assert given.status == 202
    assert len(partials_of(world.storage)) == 8, "255 is still served"
    check_copy(world, 255)
    lines_of(await post(mirror, body_of(256, 300)), 300)
    assert partials_of(world.storage) == ["tile/0/001.p/44", "tile/1/000.p/1", "tile/entries/001.p/44"]
    check_copy(world, 300)


async def test_a_storage_that_removes_nothing_costs_no_cosignature() -> None:
    """The next commit goes on with it."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 100)
    world.storage.fail_before("delete", "*", StorageRefusedError("not allowed"))
    await fill(mirror, 300, start=100)
    assert "tile/0/000.p/100" in partials_of(world.storage)
    await fill(mirror, 310, start=300)
    assert "tile/0/000.p/100" not in partials_of(world.storage)


@pytest.mark.parametrize("times", [1, 3])
async def test_race_a_partial_tile_that_another_replica_removes(times: int) -> None:
    """Between the put that finds it there and the look at it: it is written again, and no bytes are called wrong."""
    world = MirrorWorld()
    await fill(await world.start(), 100)
    tile = Tile(0, 0, 100)
    key = tile_key(LAB.origin, tile)
    body = world.storage.objects[key]

    async def remove() -> None:
        await trio.lowlevel.checkpoint()
        world.storage.remove(key)

    async def bring_back() -> None:
        await trio.lowlevel.checkpoint()
        world.storage.set_bytes(key, body)

    for _ in range(times):
        world.storage.before("put", key, bring_back)
        world.storage.before("read", key, remove)
    copy = LogCopy(world.storage, LAB.origin, stored=100)
    if times < 3:
        assert await copy.cut(100) == LAB.root(100)
        assert world.storage.objects[key] == body
    else:
        with pytest.raises(StorageUnavailableError, match="was there and was not, 3 times"):
            await copy.cut(100)


def test_what_is_partial_somewhere() -> None:
    """Each level of the edge, and the bundle; of a tree of full ones nothing."""
    partials = Partials()
    for size in (0, 256, 65536):
        partials.note(size)
    assert repr(partials) == "<Partials at 2 places>"  # the tiles of level 1 and 2 with one hash
    partials.note(300)
    assert partials.unneeded(511) == []
    assert set(partials.unneeded(512)) == {Tile(0, 1, 256), EntriesTile(1, 256)}
