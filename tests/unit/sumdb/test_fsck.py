"""Fsck: a log is sound, or every fault is named with its key, what was found and what was expected."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, StorageUnavailableError
from mirrorwitness.npm.names import PackageName
from mirrorwitness.sumdb import fsck_keys
from mirrorwitness.sumdb.faults import Fault, Report, show
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.index import PackageIndex, format_index, make_line, merge, parse_index
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY, STAGED_PREFIX, index_key
from mirrorwitness.sumdb.records import Event
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import KEYS, ORIGIN, begin_log, make_proposal, make_proposals, make_record, reopen

if TYPE_CHECKING:
    from collections.abc import Callable

    from mirrorwitness.sumdb.log import Log

ONE = KEYS[:1]
SIZE = 303
EARLIER = ("log/tile/0/001.p/43", "log/tile/entries/001.p/43")
"""Of the tree before the last batch."""


async def make_log() -> tuple[MemoryStorage, Log]:
    """Return a log of 303 records in three batches, one a conflict, all published."""
    storage = MemoryStorage()
    log = await begin_log(storage, keys=ONE)
    await log.append(make_proposals(0, 100))
    await log.append(make_proposals(100, 299))
    await log.append([make_proposal(), make_proposal(content="swapped"), make_proposal("right"), make_proposal("zero")])
    await log.publish(log.head)
    return storage, log


async def check(storage: MemoryStorage) -> tuple[Report, list[Fault]]:
    faults: list[Fault] = []
    report = await fsck(storage, on_fault=faults.append)
    assert report.faults == len(faults)
    return report, faults


async def keys_of_faults(storage: MemoryStorage) -> set[str]:
    return {fault.key for fault in (await check(storage))[1]}


async def test_a_sound_log_has_no_fault_and_progress_is_told() -> None:
    """Everything is looked at: tiles, indexes, the empty log too."""
    storage, log = await make_log()
    steps: list[tuple[int, int]] = []
    faults: list[Fault] = []
    report = await fsck(storage, on_fault=faults.append, on_progress=lambda done, total: steps.append((done, total)))
    assert faults == []
    root = tree_of(log).root
    assert report == Report(ORIGIN, SIZE, root, tiles=5, packages=33, faults=0, staged=0)
    assert steps == [(0, SIZE), (SIZE, SIZE)]
    empty = MemoryStorage()
    await begin_log(empty)
    assert await check(empty) == (Report(ORIGIN, 0, EMPTY_ROOT, 0, 0, 0, 0), [])


@pytest.mark.slow
async def test_any_flipped_bit_and_any_lost_object_is_named() -> None:
    """Of everything that the log consists of; what an earlier tree had in part may be gone, see pruning."""
    storage, _ = await make_log()
    sound = storage.objects
    for key, body in sound.items():
        if key == "state/sumdb/identity.json":
            continue
        for at in (len(body) // 2, len(body) - 1):
            storage.set_bytes(key, body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
            named = await keys_of_faults(storage)
            assert named, f"byte {at} of {key}"
            storage.set_bytes(key, body)
        storage.remove(key)
        named = await keys_of_faults(storage)
        assert (key in named) is (key not in {CHECKPOINT_KEY, *EARLIER}), key
        storage.set_bytes(key, body)
    assert (await check(storage))[1] == []


async def test_a_lost_bundle_does_not_hide_what_is_behind_it() -> None:
    """The hashes of its tile stand in; where these are lost as well the check of the tree ends there."""
    storage, _ = await make_log()
    storage.remove("log/tile/entries/000")
    storage.set_bytes("log/tile/1/000.p/1", b"x" * 32)
    found = "there is no object under log/tile/entries/000"
    first = bytes(b"x" * 32).hex()
    report, faults = await check(storage)
    assert faults[0] == Fault("log/tile/entries/000", found, "256 records")
    assert [fault.found for fault in faults if fault.key == "log/tile/1/000.p/1"] == [f"hash 0 is {first}"]
    assert report.root is not None
    storage.remove("log/tile/0/000")
    report, faults = await check(storage)
    assert report.root is None
    assert faults[1].expected == "the hashes of the records; nothing behind can be recomputed"


async def test_a_tile_of_another_length_is_named() -> None:
    """It is not compared hash by hash."""
    storage, _ = await make_log()
    storage.set_bytes("log/tile/0/001.p/47", b"short")
    assert Fault("log/tile/0/001.p/47", "5 bytes", "47 hashes of the records below") in (await check(storage))[1]


async def test_a_record_that_is_none_is_named_with_its_leaf() -> None:
    """The tree may vouch for bytes that say nothing."""
    storage, _ = await make_log()
    key = "log/tile/entries/001.p/47"
    storage.set_bytes(key, storage.objects[key].replace(b"npm-sumdb/1", b"npm-sumdb/9", 1))
    named = [str(fault) for fault in (await check(storage))[1] if fault.key == key]
    assert named == [
        f"{key}: entry 256: sumdb record: the first line is 'npm-sumdb/9', expected 'npm-sumdb/1', expected a record"
    ]


async def test_evidence_of_a_conflict_that_is_lost_or_swapped_is_named() -> None:
    """A conflict that cannot be shown proves nothing."""
    storage, _ = await make_log()
    (key,) = (key for key in storage.objects if key.startswith("evidence/"))
    storage.set_bytes(key, b"{}")
    ((fault),) = (await check(storage))[1]
    assert (fault.key, fault.found[:24]) == (key, "a document with SHA-256 ")
    storage.remove(key)
    ((fault),) = (await check(storage))[1]
    assert fault == Fault(key, "nothing", "the document of the conflict of left@1.0.0 at registry.example")


PUBLISH = make_record()
RIGHT = PackageName("right")


async def with_index(change: Callable[[PackageIndex], PackageIndex]) -> list[str]:
    """Return the faults of a log whose index of ``right`` (one record, at leaf 301) was changed."""
    storage, _ = await make_log()
    key = index_key(RIGHT)
    storage.set_bytes(key, format_index(change(parse_index(storage.objects[key]))))
    faults = (await check(storage))[1]
    assert {fault.key for fault in faults} == {key}
    return [f"{fault.found}; {fault.expected}" for fault in faults]


def line(index: int, event: Event = Event.PUBLISH, content: str = "", version: str = "1.0.0") -> str:
    return str(make_line(index, make_record("right", version, content=content, event=event)))


async def test_a_line_that_is_missing_and_lines_that_no_record_has_are_named() -> None:
    """A hidden version, an invented one, and a line that says something else of a leaf."""
    assert await with_index(lambda index: PackageIndex(index.name)) == [f"no line '{line(301)}'; one for each record"]
    invented = make_line(5, make_record("right", "9.9.9"))
    stranger = f"line '{invented}'; none: leaf 5 is the publish of p0@1.0.5 at registry.example"
    assert await with_index(lambda index: merge(index, [invented])) == [stranger]
    other = make_line(301, make_record("right", "1.0.1"))
    assert await with_index(lambda index: PackageIndex(index.name, (other,))) == [
        f"no line '{line(301)}'; one for each record",
        f"line '{other}'; none: leaf 301 is the publish of right@1.0.0 at registry.example",
    ]


@pytest.mark.parametrize(
    ("event", "content", "expected"),
    [
        (Event.PUBLISH, "", "no event twice in a row"),
        (Event.UNPUBLISH, "other", "one integrity for a version"),
    ],
)
async def test_a_history_that_cannot_be_is_named(event: Event, content: str, expected: str) -> None:
    """Somebody with the log's key logged what this log would not."""
    later = make_line(302, make_record("right", content=content, event=event))
    found = await with_index(lambda index: merge(index, [later]))
    assert f"'{later}' behind '{line(301)}'; {expected}" in found


async def test_what_stands_behind_a_conflict_is_named() -> None:
    """Nothing may."""
    storage, _ = await make_log()
    key = index_key(PackageName("left"))
    index = parse_index(storage.objects[key])
    storage.set_bytes(key, format_index(merge(index, [make_line(302, PUBLISH)])))
    expected = {fault.expected for fault in (await check(storage))[1] if fault.key == key}
    assert "nothing behind a conflict" in expected


async def test_an_index_of_another_package_or_of_none_is_named() -> None:
    """Objects at the wrong place lead look-ups astray."""
    storage, _ = await make_log()
    storage.set_bytes(index_key(RIGHT), storage.objects[index_key(PackageName("left"))])
    storage.set_bytes("log/index/_odd", b"")
    faults = (await check(storage))[1]
    assert [(fault.key, fault.found) for fault in faults] == [
        ("log/index/right", f"no line '{line(301)}'"),
        ("log/index/_odd", "package name '_odd' begins with '_'"),
        ("log/index/right", "log/index/right is the index of left, expected right".removeprefix("log/index/right: ")),
        *[(fault.key, fault.found) for fault in faults[3:]],
    ]


async def test_what_lies_beyond_the_tree_is_named() -> None:
    """Tiles and lines of a tree that the head does not know: it was restored from an older copy."""
    storage, log = await make_log()
    old = storage.objects[HEAD_KEY], storage.objects[CHECKPOINT_KEY]
    await log.append(make_proposals(1000, 1300))
    storage.set_bytes(HEAD_KEY, old[0])
    named = await keys_of_faults(storage)
    assert {"log/tile/0/001", "log/tile/0/002.p/91", "log/tile/1/000.p/2", "log/tile/entries/001"} <= named
    assert "log/index/p100" in named
    await log.append([])
    await log.publish(sign_checkpoint(tree_of(log), ONE, timestamp=0))
    named = await keys_of_faults(storage)
    assert HEAD_KEY in named


def tree_of(log: Log) -> Checkpoint:
    """Return what the log signed last."""
    return open_checkpoint(log.head, [ONE[0].verifier], origin=ORIGIN).checkpoint


async def test_other_objects_among_the_tiles_are_named() -> None:
    """Whoever serves the bucket serves them."""
    storage, _ = await make_log()
    storage.set_bytes("log/tile/odd", b"")
    ((fault),) = (await check(storage))[1]
    assert (fault.key, fault.expected) == ("log/tile/odd", "the key of a tile")


async def test_a_partial_tile_that_is_not_the_beginning_of_the_full_one_is_named() -> None:
    """Whoever saw the earlier tree was shown something else."""
    storage = MemoryStorage()
    log = await begin_log(storage, keys=ONE)
    await log.append(make_proposals(0, 10))
    await log.append(make_proposals(10, 20))
    for key, length in (("log/tile/0/000.p/10", 320), ("log/tile/entries/000.p/10", None)):
        body = storage.objects[key]
        storage.set_bytes(key, body[:-1] + b"~")
        ((fault),) = (await check(storage))[1]
        whole = key.replace("p/10", "p/20")
        assert fault == Fault(key, f"{len(body)} bytes", f"the first {length or len(body)} bytes of {whole}")
        storage.set_bytes(key, body)
    assert (await check(storage))[0].tiles == 3


async def test_a_last_batch_that_is_only_staged_is_said_and_checked() -> None:
    """A sequencer was killed: the log is sound, and completed by the next that opens it."""
    storage, log = await make_log()
    storage.fail_before("put", "log/tile/*", StorageUnavailableError("killed"))
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(1000, 1004))
    report, faults = await check(storage)
    assert (report.size, report.staged, faults) == (SIZE, 4, [])
    (staged,) = (key for key in storage.objects if key.startswith(STAGED_PREFIX))
    body = storage.objects[staged]
    storage.set_bytes(staged, body.replace(b"tarball-size 1000", b"tarball-size 1001"))
    ((fault),) = (await check(storage))[1]
    assert fault.key == HEAD_KEY
    storage.set_bytes(staged, body[:-1])
    assert (await check(storage))[1][0].key == staged
    storage.set_bytes(staged, body)
    await reopen(storage, keys=ONE)
    assert (await check(storage))[0].size == SIZE + 4


async def test_a_head_and_a_checkpoint_that_do_not_fit_the_records_are_named() -> None:
    """Signed by the log, and not what the records lead to."""
    storage, log = await make_log()
    lie = sign_checkpoint(Checkpoint(ORIGIN, SIZE, EMPTY_ROOT), ONE, timestamp=0)
    storage.set_bytes(CHECKPOINT_KEY, lie)
    head = storage.objects[HEAD_KEY]
    root = tree_of(log).root.hex()
    assert (await check(storage))[1] == [Fault(CHECKPOINT_KEY, f"root {EMPTY_ROOT.hex()} at {SIZE}", root)]
    storage.set_bytes(CHECKPOINT_KEY, sign_checkpoint(Checkpoint(ORIGIN, SIZE + 1, EMPTY_ROOT), ONE, timestamp=0))
    assert Fault(HEAD_KEY, f"{SIZE} entries", f"at least {SIZE + 1}, which are published") in (await check(storage))[1]
    storage.remove(HEAD_KEY)
    assert await keys_of_faults(storage)
    storage.remove(CHECKPOINT_KEY)
    report, faults = await check(storage)
    assert (report.size, faults[0].key) == (0, HEAD_KEY)
    storage.set_bytes(HEAD_KEY, head)
    assert (await check(storage))[1] == []


async def test_a_log_that_grows_meanwhile_is_checked_up_to_where_it_was() -> None:
    """What is new is no fault."""
    storage, log = await make_log()

    before = storage.objects
    await log.append(make_proposals(1000, 1300))
    after = storage.objects
    storage.set_bytes(HEAD_KEY, before[HEAD_KEY])
    faults: list[Fault] = []
    report = await fsck(
        storage,
        on_fault=faults.append,
        on_progress=lambda done, total: storage.set_bytes(HEAD_KEY, after[HEAD_KEY]) if done == total else None,
    )
    assert (report.size, faults) == (SIZE, [])


async def test_a_storage_without_a_log_is_refused() -> None:
    """There is nothing to check."""
    with pytest.raises(ConfigurationError, match="no log yet"):
        await fsck(MemoryStorage(), on_fault=lambda _fault: None)


def test_faults_are_shown_short() -> None:
    """A hostile value does not fill the screen."""
    assert show("x" * 201) == "x" * 200 + "…"
    assert str(Fault("key", "this", "that")) == "key: this, expected that"


async def test_few_indexes_are_kept_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their lines count, not their number; what is read again gives the same."""
    monkeypatch.setattr(fsck_keys, "LINES_KEPT", 15)
    storage = MemoryStorage()
    log = await begin_log(storage)
    await log.append(make_proposals(0, 55))
    check = fsck_keys.KeyCheck(storage, lambda *fault: pytest.fail(str(fault)))
    for _ in range(2):
        for number in range(6):
            name = PackageName(f"p{number}")
            index = await read_index(storage, name)
            await check.check_lines((name, index.lines))
            assert sum(len(lines) for lines in check._kept.values()) <= 15
