"""A mirror's summary stays true through updates, kills and races, and costs what was changed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
import trio

from mirrorwitness.errors import (
    PreconditionFailedError,
    StorageError,
    StorageUnavailableError,
    UnsupportedConditionError,
)
from mirrorwitness.mirror import layout
from mirrorwitness.mirror.catalogue import Catalogue, HeldVersion, PackageRecord
from mirrorwitness.mirror.layout import SUMMARY_HEAD_KEY, node_key
from mirrorwitness.mirror.nodes import GRACE, NodeStore
from mirrorwitness.mirror.notes import Notes, entries_of
from mirrorwitness.mirror.parts import Digests
from mirrorwitness.mirror.summarize import Summarizer
from mirrorwitness.npm.names import PackageName, Version
from tests.fakes.storage import MemoryStorage
from tests.unit.mirror.summaries import MemorySummary, sri

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.mirror.nodes import Head
    from mirrorwitness.storage import Body, ObjectInfo


class World:
    """A mirror that consists of records, and its clock."""

    def __init__(self, storage: MemoryStorage | None = None) -> None:
        self.storage = storage or MemoryStorage()
        self.catalogue = Catalogue(self.storage)
        self.now = datetime(2026, 1, 1, tzinfo=UTC)
        self.records: dict[str, PackageRecord] = {}

    def summarizer(self) -> Summarizer:
        return Summarizer(catalogue=self.catalogue, nodes=NodeStore(self.storage), now=lambda: self.now)

    async def put(self, name: str, versions: Iterable[str], *, content: str = "") -> None:
        """Write a package's record, as a sync would."""
        held = {
            Version(version): HeldVersion(file="f.tgz", size=1, sri=sri(content or f"{name}@{version}"))
            for version in versions
        }
        self.records[name] = PackageRecord(name=PackageName(name), versions=held)
        self.storage.set_bytes(layout.record_key(PackageName(name)), msgspec.json.encode(self.records[name]))

    async def update(self, *names: str) -> Head:
        """Update the summary after a run over these packages; all of them where none is named."""
        with Notes() as notes:
            for name in names or self.records:
                await notes.add(self.records[name])
            return await self.summarizer().update(notes)

    def expected(self) -> MemorySummary:
        """Return what the summary has to be, made in one go."""
        return MemorySummary.of([found for record in self.records.values() for found in entries_of(record)])

    def nodes(self) -> dict[str, bytes]:
        """Return all stored nodes."""
        prefix = "about/summary/"
        return {key[-64:]: body for key, body in self.storage.objects.items() if key.startswith(prefix)}

    def check(self, head: Head) -> None:
        """Hold the stored tree to the records: its root, and every node of it."""
        expected = self.expected()
        assert head.ref == expected.root
        assert head.packages == sum(bool(entries_of(record)) for record in self.records.values())
        assert expected.nodes.items() <= self.nodes().items()


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_update_makes_the_tree_of_all_records(world: World) -> None:
    """Whatever their number; versions that are not served have no entry."""
    assert (await world.update()).versions == 0
    for number in range(200):
        await world.put(f"p{number}", [f"{minor}.0.0" for minor in range(number % 7)])
    await world.put("canary", [f"0.0.0-{number}" for number in range(3000)])
    world.check(await world.update())
    record = world.records["p6"]
    hidden = HeldVersion(file="f.tgz", size=1, sri=sri("x"), served=False)
    damaged = HeldVersion(file="f.tgz", size=1, sri=sri("x"), damaged=True)
    versions = {**record.versions, Version("9.0.0"): hidden, Version("9.0.1"): damaged}
    world.records["p6"] = PackageRecord(name=PackageName("p6"), versions=versions)
    world.check(await world.update("p6"))


@pytest.mark.slow
async def test_any_history_of_updates_gives_the_tree_of_the_last_records(world: World) -> None:
    """Packages come, grow, shrink, go and change bytes; the tree never depends on how it came about."""
    choose = random.Random(7)  # noqa: S311 - a test's history
    for _ in range(15):
        names = choose.sample([f"p{number}" for number in range(40)], 8)
        for name in names:
            count = choose.choice([0, 0, 1, 3, 60, 300])
            await world.put(name, [f"{n}.0.0" for n in range(count)], content=choose.choice(["", "other"]))
        world.now += timedelta(hours=1)
        world.check(await world.update(*names))


async def test_an_update_without_news_writes_nothing(world: World) -> None:
    """A scheduled job over unchanged packages reads leaves and no record."""
    for number in range(300):
        await world.put(f"p{number}", ["1.0.0", "2.0.0"])
    head = await world.update()
    world.storage.operations.clear()
    world.now += timedelta(hours=1)
    assert await world.update() == head
    assert world.storage.keys_of("put") == []
    assert not [key for key in world.storage.keys_of("read") if key.startswith("state/package/")]


async def test_an_update_costs_what_was_changed(world: World) -> None:
    """One package of 2,000: its record, and the nodes on the way to it."""
    for number in range(2000):
        await world.put(f"p{number}", ["1.0.0", "2.0.0"])
    await world.update()
    await world.put("p7", ["1.0.0", "2.0.0", "3.0.0"])
    world.storage.operations.clear()
    world.check(await world.update("p7"))
    nodes = [key for key in world.storage.keys_of("put") if key.startswith("about/summary/")]
    assert len(nodes) <= 4
    assert world.storage.keys_of("read").count("state/package/p7.json") == 1
    assert len(world.storage.keys_of("read")) <= 8


@pytest.mark.slow
async def test_a_new_version_of_a_large_package_costs_a_few_nodes(world: World) -> None:
    """Of 8,000 versions only those near the new one are read and written."""
    await world.put("canary", [f"0.0.0-{number}" for number in range(8_000)])
    await world.update()
    await world.put("canary", [f"0.0.0-{number}" for number in range(8_001)])
    world.storage.operations.clear()
    world.check(await world.update("canary"))
    assert len(world.storage.keys_of("put")) < 16
    assert len(world.storage.keys_of("read")) < 30


@pytest.mark.slow
async def test_thousands_of_notes_go_to_disk_and_come_back(world: World) -> None:
    """More packages than memory holds: the same tree, a part at a time."""
    for number in range(11_000):
        world.records[f"p{number}"] = record = PackageRecord(
            name=PackageName(f"p{number}"),
            versions={Version("1.0.0"): HeldVersion(file="f", size=1, sri=sri(str(number)))},
        )
        world.storage.set_bytes(f"state/package/p{number}.json", msgspec.json.encode(record))
    with Notes() as notes:
        await notes.add_name(PackageName("p3"), "an older note")
        for record in world.records.values():
            await notes.add(record)
        assert not notes.is_small
        assert repr(notes).endswith("<PartFiles in use>>")
        assert await notes.part("no part") == []
        head = await world.summarizer().update(notes)
        assert "NodeStore" in repr(world.summarizer())
    world.check(head)


class DyingStorage(MemoryStorage):
    """Kills whoever writes, at one chosen write.

    Attributes:
        puts: how many were asked for.
        dies_at: number of the one that does not happen.
        scope: what is killed.
    """

    puts = 0
    dies_at = 0
    scope = trio.CancelScope()

    async def put(self, key: str, body: Body, **how: Any) -> ObjectInfo:
        """Put, or die."""
        self.puts += 1
        if self.puts == self.dies_at:
            self.scope.cancel()
            await trio.lowlevel.checkpoint()
        return await super().put(key, body, **how)


async def test_a_mirror_that_is_older_than_its_summary(world: World) -> None:
    """The first update reads all records, whichever packages the run looked at."""
    for number in range(20):
        await world.put(f"p{number}", ["1.0.0"])
    world.check(await world.update("p3"))


@pytest.mark.slow
async def test_many_digests_go_to_disk_and_come_back() -> None:
    """None is lost, none is invented."""
    made = [f"{number * 7919:064x}"[::-1] for number in range(6000)]
    with Digests() as digests:
        for digest in made:
            await digests.add(digest)
        assert repr(digests) == "<Digests 1000 in memory, <PartFiles in use>>"
        found = [digest for number in range(256) for digest in await digests.part(f"{number:02x}")]
        assert sorted(found) == sorted(made)


@pytest.mark.slow
async def test_a_killed_update_leaves_the_older_tree_and_is_made_good() -> None:
    """Killed before each single write of it, in turn; the next run over the same packages gives the same tree."""
    storage = DyingStorage()
    world = World(storage)
    for number in range(90):
        await world.put(f"p{number}", ["1.0.0", "2.0.0"])
    before = await world.update()
    old = world.expected()
    for number in range(0, 90, 3):
        await world.put(f"p{number}", ["1.0.0", "2.0.0", "3.0.0"])
    for dies_at in range(1, 100):
        storage.puts, storage.dies_at = 0, dies_at
        with trio.CancelScope() as storage.scope:
            world.check(await world.update())
            break
        head, _ = await NodeStore(storage).read_head()
        assert head == before
        assert old.nodes.items() <= world.nodes().items()
    assert storage.dies_at > 10


async def test_a_storage_that_fails_is_one_plain_error(world: World) -> None:
    """Not a group of errors, although many writes are under way; the older tree stays."""
    for number in range(200):
        await world.put(f"p{number}", ["1.0.0"])
    world.storage.fail_before("put", "about/summary/*", StorageUnavailableError("gone"), times=20)
    with pytest.raises(StorageUnavailableError, match="gone"):
        await world.update()
    assert await NodeStore(world.storage).read_head() == (None, None)
    with Notes() as notes:
        assert await notes.part("00") == []


async def test_two_runs_at_once_both_count(world: World) -> None:
    """The one that comes second to replace the root begins again from the other's."""
    for number in range(50):
        await world.put(f"p{number}", ["1.0.0"])
    await world.update()
    await world.put("p1", ["1.0.0", "2.0.0"])
    await world.put("p2", ["1.0.0", "2.0.0"])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.update, "p1")
        nursery.start_soon(world.update, "p2")
    head, _ = await NodeStore(world.storage).read_head()
    assert head is not None
    world.check(head)


async def test_a_root_that_others_keep_replacing(world: World) -> None:
    """The run says so in the end; its packages are noted again by the next one."""
    await world.put("p1", ["1.0.0"])
    world.storage.fail_before("put", SUMMARY_HEAD_KEY, PreconditionFailedError("lost"), times=16)
    with pytest.raises(StorageUnavailableError, match="replaced the summary's root 16 times"):
        await world.update()
    world.check(await world.update())


async def test_a_storage_without_conditional_writes(world: World) -> None:
    """The root is replaced all the same; what a race forgets the next run notes again."""
    await world.put("p1", ["1.0.0"])
    world.storage.fail_before("put", SUMMARY_HEAD_KEY, UnsupportedConditionError("no"))
    world.check(await world.update())


async def test_replaced_nodes_stay_for_those_who_read_the_older_tree(world: World) -> None:
    """For six hours; then they are removed, and nothing but the present tree is left."""
    for number in range(200):
        await world.put(f"p{number}", ["1.0.0"])
    await world.update()
    old = world.expected()
    await world.put("p1", ["1.0.0", "2.0.0"])
    await world.update()
    world.now += GRACE
    await world.update()
    assert old.nodes.items() <= world.nodes().items()
    world.now += timedelta(seconds=1)
    await world.update()
    assert world.nodes() == world.expected().nodes
    assert not [key for key in world.storage.objects if key.startswith("state/summary/replaced/")]


async def test_a_node_that_is_needed_again_is_not_removed(world: World) -> None:
    """A version goes and comes back within the grace; so do its nodes, and the list of replaced ones is older."""
    for number in range(200):
        await world.put(f"p{number}", ["1.0.0"])
    await world.update()
    await world.put("p1", [])
    await world.update()
    await world.put("p1", ["1.0.0"])
    await world.update()
    world.now += 2 * GRACE
    head = await world.update()
    world.check(head)
    assert world.nodes() == world.expected().nodes


async def test_a_tree_that_becomes_small_again(world: World) -> None:
    """Leaves are joined, the root is a leaf again, and what was there before goes."""
    for number in range(200):
        await world.put(f"p{number}", ["1.0.0"])
    await world.update()
    for number in range(150):
        await world.put(f"p{number}", [])
    await world.update()
    world.now += 2 * GRACE
    world.check(await world.update())
    assert len(world.nodes()) == 1


@pytest.mark.parametrize("damage", ["missing", "wrong", "head", "format"])
async def test_a_damaged_summary_says_how_it_is_written_anew(world: World, damage: str) -> None:
    """A missing or altered node, and an unreadable root; a rebuild heals each and sweeps the rest."""
    for number in range(200):
        await world.put(f"p{number}", ["1.0.0"])
    head = await world.update()
    match damage:
        case "missing":
            world.storage.remove(node_key(head.root))
        case "wrong":
            world.storage.set_bytes(node_key(head.root), b"mirrorwitness-summary-1 leaf -\n")
        case "head":
            world.storage.set_bytes(SUMMARY_HEAD_KEY, b"{")
        case _:
            world.storage.set_bytes(SUMMARY_HEAD_KEY, world.storage.objects[SUMMARY_HEAD_KEY].replace(b"-1", b"-9"))
    await world.put("p1", ["2.0.0"])
    with pytest.raises(StorageError, match="mirrorwitness summarize"):
        await world.update("p1")
    world.storage.set_bytes(node_key("f" * 64), b"garbage")
    removed = 0
    with Notes() as notes, Digests() as live:
        head = await world.summarizer().rebuild(notes, live.add)
        world.check(head)
        for number in range(256):
            part = f"{number:02x}"
            known = await live.part(part)
            removed += await NodeStore(world.storage).sweep_all(known.__contains__, part=part)
    assert removed >= 1
    assert world.nodes() == world.expected().nodes


async def test_a_rebuild_reads_names_that_are_hashed_in_keys(world: World) -> None:
    """A name that begins with a dot, or is too long for a key, is found in its record; a damaged record is left out."""
    await world.put("@scope/" + "n" * 207, ["1.0.0"])
    await world.put("~" * 100, ["1.0.0"])
    key = "state/package/sha256=" + "0" * 64
    world.storage.set_bytes(key, b"damaged")
    with Notes() as notes, Digests() as live:
        world.check(await world.summarizer().rebuild(notes, live.add))


async def test_a_package_whose_record_is_gone_loses_its_entries(world: World) -> None:
    """The record decides, not the note."""
    await world.put("p1", ["1.0.0"])
    await world.update()
    noted = world.records.pop("p1")
    world.storage.remove("state/package/p1.json")
    with Notes() as notes:
        await notes.add_name(PackageName(noted.name))
        world.check(await world.summarizer().update(notes))
