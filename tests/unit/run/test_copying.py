"""A storage is copied whole, in an order that nobody goes on from before its end, and as often as it takes."""

from __future__ import annotations

from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    ExitCode,
    ObjectMissingError,
    RolledBackError,
    StorageUnavailableError,
)
from mirrorwitness.run.copy_report import FIRST_NAMES, CopyReport, CopyStep, CopyWishes, Difference, Found
from mirrorwitness.run.copying import AT_ONCE, copy_address, copy_storage
from mirrorwitness.storage import Put
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local import open_local
from mirrorwitness.storage.local_names import Names
from mirrorwitness.storage.transfer import SMALL_BYTES
from mirrorwitness.witness.records import IDENTITY_KEY, record_key
from tests.fakes.storage import MemoryStorage
from tests.unit.storage.lying import RefusingStorage
from tests.unit.witness.world import LOG, OURS, MeddledStorage, World, read_cosignatures

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from mirrorwitness.storage import Body, ObjectInfo, ObjectReader, Storage

MIRROR = {
    "about/mirror.json": b"{}",
    "npm/@scope/Right/-/Right-1.0.0.tgz": b"right",
    "npm/left/-/left-1.0.0.tgz": bytes(SMALL_BYTES + 1),
    "npm/left/packument.json": b"{...}",
    "state/package/left.json": b"{1}",
    "state/run/last.json": b"{2}",
    "trust/ab/checkpoint": b"a log",
}
SIGNER = {
    "log/checkpoint": b"signed",
    "log/index/left": b"0\n",
    "log/tile/0/000": b"tile",
    "state/sumdb/head.json": b"head",
    "state/sumdb/identity.json": b"who",
    "state/sumdb/staged/1-ab": b"staged",
}


async def copy(
    source: Storage,
    target: Storage | None,
    *,
    replaces: bool = False,
    is_dry: bool = False,
    steps: list[CopyStep] | None = None,
) -> CopyReport:
    wishes = CopyWishes("memory:a", "memory:b", replaces=replaces, is_dry=is_dry)
    told = [] if steps is None else steps
    return await copy_storage(source, lambda: nullcontext(target), wishes, told.append)


def names_in(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def size(objects: dict[str, bytes]) -> int:
    return sum(map(len, objects.values()))


async def test_everything_is_copied_and_told() -> None:
    """Every object under its key, with the type of its bytes; and each step of it."""
    source, target, steps = MemoryStorage(MIRROR), MemoryStorage(), list[CopyStep]()
    report = await copy(source, target, steps=steps)
    assert target.objects == source.objects == MIRROR
    assert report.exit_code() is ExitCode.COMPLETE
    assert (report.source.count, report.copied.count, report.present.count) == (7, 7, 0)
    assert report.source.size == report.copied.size == size(MIRROR)
    assert steps[-1] == CopyStep("copying", 7, 7, size(MIRROR))
    assert (report.is_still, report.signers) == (True, [])
    assert target.content_types == {
        **dict.fromkeys(MIRROR, "application/json"),
        "npm/@scope/Right/-/Right-1.0.0.tgz": "application/octet-stream",
        "npm/left/-/left-1.0.0.tgz": "application/octet-stream",
        "trust/ab/checkpoint": "text/plain; charset=utf-8",
    }


async def test_state_comes_last_and_the_identity_of_a_signer_after_it() -> None:
    """What an unfinished copy lacks is what others go on from."""
    target = MemoryStorage()
    report = await copy(MemoryStorage(SIGNER), target)
    puts = target.keys_of("put")
    assert {key for key in puts[:3] if key.startswith("log/")} == set(puts[:3])
    assert set(puts[3:5]) == {"state/sumdb/head.json", "state/sumdb/staged/1-ab"}
    assert puts[5:] == report.signers == ["state/sumdb/identity.json"]


async def test_leftovers_of_checks_stay_behind() -> None:
    """On neither side is ``state/probe/`` looked at."""
    source = MemoryStorage({"a": b"1", "state/probe/x/y": b"2"})
    target = MemoryStorage({"state/probe/z/y": b"3"})
    report = await copy(source, target)
    assert target.objects == {"a": b"1", "state/probe/z/y": b"3"}
    assert (report.source.count, report.only_in_target.count) == (1, 0)


async def test_a_second_run_writes_nothing() -> None:
    """What is there with the same bytes is read, and left as it is."""
    source, target = MemoryStorage(MIRROR), MemoryStorage(MIRROR)
    report = await copy(source, target)
    assert target.keys_of("put") == []
    assert (report.present.count, report.present.size, report.copied.count) == (7, size(MIRROR), 0)


@pytest.mark.parametrize("body", [b"{8}", b"longer"], ids=["same size", "other size"])
async def test_a_difference_is_refused_before_anything_is_written(body: bytes) -> None:
    """The wrong TO stays what it was; the message has the key, both sizes, and what to do."""
    there = {"state/package/left.json": body}
    target = MemoryStorage(there)
    with pytest.raises(ConfigurationError) as caught:
        await copy(MemoryStorage(MIRROR), target)
    assert f"state/package/left.json (3 bytes in FROM, {len(body)} in TO)" in str(caught.value)
    assert "--replace" in str(caught.value)
    assert target.objects == there


@pytest.mark.parametrize("body", [b"{8}", b"longer"], ids=["same size", "other size"])
async def test_replace_replaces_what_differs_and_nothing_else(body: bytes) -> None:
    """It is counted, and what is the same is not written again."""
    there = {"state/package/left.json": body, "npm/left/packument.json": b"{...}"}
    target = MemoryStorage(there)
    report = await copy(MemoryStorage(MIRROR), target, replaces=True)
    assert target.objects == MIRROR
    assert "npm/left/packument.json" not in target.keys_of("put")
    assert report.differences == [Difference("state/package/left.json", 3, len(body))]
    assert (report.exit_code(), report.copied.count, report.present.count) == (ExitCode.COMPLETE, 6, 1)


async def test_rollback_a_finished_copy_of_a_signer_is_never_replaced() -> None:
    """TO may have signed since; FROM, which did not, would take it back."""
    newer = SIGNER | {"log/checkpoint": b"signed later", "state/sumdb/head.json": b"newer"}
    target = MemoryStorage(newer)
    with pytest.raises(ConfigurationError, match=r"state/sumdb/identity\.json: a copy of this signer was finished"):
        await copy(MemoryStorage(SIGNER), target, replaces=True)
    assert target.objects == newer
    report = await copy(MemoryStorage(SIGNER), target, replaces=True, is_dry=True)
    assert (report.exit_code(), report.copied.count, report.differing.count) == (ExitCode.USAGE, 0, 2)


async def test_an_unfinished_copy_of_a_signer_may_be_replaced() -> None:
    """It has no identity yet, so nothing was started on it."""
    target = MemoryStorage({"state/sumdb/head.json": b"older"})
    report = await copy(MemoryStorage(SIGNER), target, replaces=True)
    assert (target.objects, report.exit_code()) == (SIGNER, ExitCode.COMPLETE)


async def test_what_only_the_target_has_is_left_alone() -> None:
    """Counted, and the first ones named."""
    more = {f"state/more/{number:02}": b"mine" for number in range(FIRST_NAMES + 3)}
    target = MemoryStorage(more)
    report = await copy(MemoryStorage(MIRROR), target)
    assert target.objects == dict(sorted((MIRROR | more).items()))
    assert (report.only_in_target.count, report.only_in_target.size) == (len(more), 4 * len(more))
    assert len(report.only_in_target.first) == FIRST_NAMES
    assert set(report.only_in_target.first) < more.keys()


@pytest.mark.parametrize("replaces", [False, True])
async def test_a_dry_run_writes_nothing_and_says_everything(*, replaces: bool) -> None:
    """How much would be copied, what differs, and the exit code of the command itself."""
    there = {"state/package/left.json": b"other", "npm/left/packument.json": b"{...}", "mine": b"!"}
    target = MemoryStorage(there)
    report = await copy(MemoryStorage(MIRROR), target, replaces=replaces, is_dry=True)
    assert target.keys_of("put") == []
    assert report.differences == [Difference("state/package/left.json", 3, 5)]
    assert report.only_in_target == Found(1, 1, ["mine"])
    assert report.copied.count == (6 if replaces else 5)
    assert report.copied.size == size(MIRROR) - 5 - (0 if replaces else 3)
    assert report.exit_code() is (ExitCode.COMPLETE if replaces else ExitCode.USAGE)


async def test_of_many_differences_the_first_ones_are_named() -> None:
    """A report does not grow with what it is about."""
    keys = [f"npm/{number:02}" for number in range(FIRST_NAMES + 5)]
    source, target = MemoryStorage(dict.fromkeys(keys, b"one")), MemoryStorage(dict.fromkeys(keys, b"another"))
    report = await copy(source, target, is_dry=True)
    assert (report.differing.count, len(report.differences)) == (len(keys), FIRST_NAMES)


async def test_a_dry_run_into_what_is_not_there() -> None:
    """Everything would be copied."""
    report = await copy(MemoryStorage(MIRROR), None, is_dry=True)
    assert (report.copied.count, report.copied.size) == (7, size(MIRROR))


@pytest.mark.parametrize("is_after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("broken", sorted(SIGNER))
async def test_interrupted_anywhere_it_goes_on(broken: str, *, is_after: bool) -> None:
    """A put that failed, or whose answer was lost, at any key: the second run writes the rest, and no more."""
    source, target = MemoryStorage(SIGNER), MemoryStorage()
    (target.fail_after if is_after else target.fail_before)("put", broken, StorageUnavailableError("lost"))
    with pytest.raises(StorageUnavailableError):
        await copy(source, target)
    assert "state/sumdb/identity.json" not in target.objects or broken == "state/sumdb/identity.json"
    there = set(target.objects)
    done = len(target.keys_of("put"))
    report = await copy(source, target)
    assert (target.objects, report.exit_code()) == (SIGNER, ExitCode.COMPLETE)
    assert set(target.keys_of("put")[done:]) == SIGNER.keys() - there


async def test_cancelled_it_goes_on() -> None:
    """Ctrl-C leaves what was copied, and no identity."""
    source, target = MemoryStorage(SIGNER), MeddledStorage()
    with trio.CancelScope() as scope:

        async def interrupt() -> None:
            scope.cancel()
            await trio.lowlevel.checkpoint()

        target.before("put", "state/sumdb/head.json", interrupt)
        await copy(source, target)
    assert scope.cancelled_caught
    assert {"log/checkpoint", "log/tile/0/000"} <= target.objects.keys()
    assert not {"state/sumdb/head.json", "state/sumdb/identity.json"} & target.objects.keys()
    await copy(source, target)
    assert target.objects == SIGNER


EARLY, LATE = "log/checkpoint", "state/sumdb/head.json"


@pytest.mark.parametrize(
    ("when", "change", "changed"),
    [
        (LATE, {"log/tile/0/000": b"changed"}, ["log/tile/0/000"]),
        (LATE, {"log/tile/0/001": b"new"}, ["log/tile/0/001"]),
        (EARLY, {"state/sumdb/staged/2-cd": b"in time"}, []),
        (LATE, {"log/tile/0/000": None}, []),
        (EARLY, {"state/sumdb/staged/1-ab": None}, []),
    ],
    ids=["changed", "new", "new and copied", "removed", "removed before it was copied"],
)
async def test_a_source_that_changes_meanwhile_is_told(
    when: str, change: dict[str, bytes | None], changed: list[str]
) -> None:
    """Exit code 3, what TO lacks by name, and no identity; once it stands still it is completed."""
    source, target = MemoryStorage(SIGNER), MeddledStorage()

    async def work() -> None:
        await trio.lowlevel.checkpoint()
        for key, body in change.items():
            if body is None:
                source.remove(key)
            else:
                source.set_bytes(key, body)

    target.before("put", when, work)
    report = await copy(source, target)
    assert (report.is_still, report.exit_code()) == (False, ExitCode.PARTIAL)
    assert report.changed.first == changed
    assert "state/sumdb/identity.json" not in target.objects
    again = await copy(source, target, replaces=True)
    assert again.exit_code() is ExitCode.COMPLETE
    assert source.objects.items() <= target.objects.items()


async def test_an_object_that_was_removed_since_it_was_listed_is_passed_over() -> None:
    """There is nothing to copy, and FROM did not stand still."""

    class Forgetful(MemoryStorage):
        @asynccontextmanager
        async def open(
            self, key: str, *, start: int = 0, length: int | None = None
        ) -> AsyncGenerator[ObjectReader, None]:
            if key == "log/tile/0/000":
                self.remove(key)
            async with super().open(key, start=start, length=length) as reader:
                yield reader

    target = MemoryStorage()
    report = await copy(Forgetful(SIGNER), target)
    assert (report.is_still, report.changed.count, report.copied.count) == (False, 0, 4)
    assert target.objects.keys() == SIGNER.keys() - {"log/tile/0/000", "state/sumdb/identity.json"}


async def test_an_object_that_vanishes_while_it_is_looked_at_is_told() -> None:
    """It was there when it was listed for the third time, and not any more when it was read."""
    source, target = MemoryStorage({"a": b"1", "b": b"1"}), MeddledStorage({"a": b"1"})

    async def change() -> None:
        await trio.lowlevel.checkpoint()
        source.set_bytes("a", b"2")  # in TO, and of the same size: it is read
        source.fail_before("open", "a", ObjectMissingError("there is no object under a"))

    target.before("put", "b", change)
    report = await copy(source, target)
    assert report.changed == Found(1, 1, ["a"])


async def test_an_identity_that_vanishes_at_the_end_is_told() -> None:
    """After the last survey."""

    class Forgetting(MemoryStorage):
        async def stat(self, key: str) -> ObjectInfo | None:
            self.remove("state/sumdb/identity.json")
            return await super().stat(key)

    target = MemoryStorage()
    report = await copy(Forgetting(SIGNER), target)
    assert report.exit_code() is ExitCode.PARTIAL
    assert "state/sumdb/identity.json" not in target.objects


async def test_an_empty_source_is_refused() -> None:
    """A misspelt prefix must not look like a copy."""
    with pytest.raises(ConfigurationError, match="memory:a holds no objects"):
        await copy(MemoryStorage({"state/probe/x/y": b""}), MemoryStorage())


async def test_a_target_without_conditions() -> None:
    """It is written to without."""
    target = RefusingStorage({"state/package/left.json": b"other"})
    await copy(MemoryStorage(MIRROR), target, replaces=True)
    assert target.objects == MIRROR


async def test_p10_several_at_a_time_and_never_more() -> None:
    """Pages of a listing, and `AT_ONCE` of them in work."""
    busy, most = 0, 0

    class Counting(MemoryStorage):
        async def put(
            self,
            key: str,
            body: Body,
            *,
            if_absent: bool = False,
            if_match: str | None = None,
            content_type: str = "application/octet-stream",
        ) -> ObjectInfo:
            nonlocal busy, most
            busy += 1
            most = max(most, busy)
            await trio.testing.wait_all_tasks_blocked()
            busy -= 1
            return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)

    source = MemoryStorage({f"npm/{number}": b"%d" % number for number in range(3 * AT_ONCE)})
    target = Counting()
    await copy(source, target)
    assert (target.objects, most) == (source.objects, AT_ONCE)


@asynccontextmanager
async def directory(path: Path, names: Names = Names.PLAIN) -> AsyncGenerator[Storage, None]:
    async with open_local(path, fsync=False, names=names) as storage:
        yield storage


async def test_a_cell_becomes_a_plain_object(tmp_path: Path) -> None:
    """What a file copier would take for another file arrives under its key, escaped names too; and goes back."""
    async with directory(tmp_path / "a", Names.ESCAPED) as source, directory(tmp_path / "b") as back:
        await source.put_pair(Put("state/witness/logs/Ab.json", b"1"), Put("witness/Ab/checkpoint", b"c"))
        await source.put_pair(Put("state/witness/logs/Ab.json", b"record"), Put("witness/Ab/checkpoint", b"chk"))
        assert names_in(tmp_path / "a/state/witness/logs") == [".%41b.json.mwcell"]
        target = MemoryStorage()
        await copy(source, target)
        assert target.objects == {"state/witness/logs/Ab.json": b"record", "witness/Ab/checkpoint": b"chk"}
        await copy(target, back)
        assert (tmp_path / "b/state/witness/logs/Ab.json").read_bytes() == b"record"
        report = await copy(source, back)
        assert (report.present.count, report.copied.count) == (2, 0)


async def test_addresses(tmp_path: Path) -> None:
    """Opened as they say; a dry run makes no directory, and neither does what is refused."""
    a, b, c = (f"file:{tmp_path / name}?fsync=off" for name in "abc")
    told: list[CopyStep] = []
    with pytest.raises(ConfigurationError, match="is no storage"):
        await copy_address(CopyWishes(a, b), told.append)
    with pytest.raises(ConfigurationError, match="are one storage"):
        await copy_address(CopyWishes(a, a), told.append)
    assert names_in(tmp_path) == []
    async with open_storage(a) as source:
        with pytest.raises(ConfigurationError, match="holds no objects"):
            await copy_address(CopyWishes(a, b), told.append)
        await source.put("npm/left", b"1")
    report = await copy_address(CopyWishes(a, b, is_dry=True), told.append)
    assert (report.copied.count, (tmp_path / "b").exists()) == (1, False)
    assert (await copy_address(CopyWishes(a, b), told.append)).copied.count == 1
    assert (await copy_address(CopyWishes(a, b, is_dry=True), told.append)).copied.count == 0
    assert (await copy_address(CopyWishes(b, c), told.append)).copied.count == 1
    assert (tmp_path / "c/npm/left").read_bytes() == b"1"


async def cosigning() -> World:
    """Return the world of a witness that cosigned a tree of ten."""
    world = World()
    answer = await (await world.start()).add_checkpoint(LOG.request(0, 10))
    assert answer.status == 200
    return world


async def test_p7_a_witness_goes_on_from_the_copy() -> None:
    """It knows the tree that it cosigned, refuses the fork, and signs what follows."""
    world, target = await cosigning(), MemoryStorage()
    await copy(world.storage, target)
    witness = await world.start(storage=target)
    assert (await witness.add_checkpoint(LOG.request(0, 20))).status == 409
    assert (await witness.add_checkpoint(LOG.fork(6).request(10, 20))).status == 422
    answer = await witness.add_checkpoint(LOG.request(10, 20))
    assert read_cosignatures(answer.body, LOG.tree(20).text, OURS)


@pytest.mark.parametrize("broken", [record_key(LOG.origin), IDENTITY_KEY])
async def test_p7_no_witness_starts_on_an_unfinished_copy(broken: str) -> None:
    """What it published is there before its records, and its identity last of all."""
    world, target = await cosigning(), MemoryStorage()
    target.fail_before("put", broken, StorageUnavailableError("the machine died"))
    with pytest.raises(StorageUnavailableError):
        await copy(world.storage, target)
    with pytest.raises(RolledBackError):
        await world.start(storage=target)
    await copy(world.storage, target)
    await world.start(storage=target)


async def test_p7_rollback_copying_again_after_the_copy_was_started() -> None:
    """Somebody's second run, with --replace: the new witness stays where it is."""
    world, target = await cosigning(), MemoryStorage()
    await copy(world.storage, target)
    assert (await (await world.start(storage=target)).add_checkpoint(LOG.request(10, 20))).status == 200
    before = target.objects
    for replaces in (False, True):
        with pytest.raises(ConfigurationError):
            await copy(world.storage, target, replaces=replaces)
    assert target.objects == before
