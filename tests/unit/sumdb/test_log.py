"""The sequencer: what it refuses to open, and what it does when the storage fails or another one extends the log."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import trio

from mirrorwitness.errors import (
    ConfigurationError,
    IntegrityMismatchError,
    LogLostError,
    ObjectMissingError,
    PreconditionFailedError,
    ProofError,
    RolledBackError,
    SignatureError,
    StorageUnavailableError,
    UnsupportedConditionError,
    UpstreamProtocolError,
)
from mirrorwitness.npm.names import PackageName
from mirrorwitness.sumdb import log as log_module
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.head import format_head
from mirrorwitness.sumdb.index import PackageIndex, format_index, make_line
from mirrorwitness.sumdb.log import Fate, Sequenced, create_log
from mirrorwitness.sumdb.paths import CHECKPOINT_KEY, HEAD_KEY, IDENTITY_KEY, STAGED_PREFIX, index_key
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.cosignature import timestamp_of
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import KEYS, ORIGIN, begin_log, make_proposal, make_proposals, make_record, reopen

if TYPE_CHECKING:
    from mirrorwitness.storage import Body, ObjectInfo
    from mirrorwitness.sumdb.faults import Fault
    from mirrorwitness.sumdb.log import Log

VERIFIERS = [key.verifier for key in KEYS]
ONE = KEYS[:1]
LATE = StorageUnavailableError("the answer was lost")


class CancellingStorage(MemoryStorage):
    """Cancels a scope when the first tile is written."""

    cancelled: trio.CancelScope | None = None

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if self.cancelled is not None and key.startswith("log/tile/"):
            self.cancelled.cancel()
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)


def tree_of(note: bytes) -> Checkpoint:
    return open_checkpoint(note, VERIFIERS[:1], origin=ORIGIN).checkpoint


async def check(storage: MemoryStorage) -> None:
    faults: list[Fault] = []
    await fsck(storage, on_fault=faults.append)
    assert faults == []
    assert [key for key in storage.objects if key.startswith(STAGED_PREFIX)] == []


async def grown(size: int = 300) -> tuple[MemoryStorage, Log]:
    """Return a log of one batch, published."""
    storage = MemoryStorage()
    log = await begin_log(storage, keys=ONE)
    await log.append(make_proposals(0, size))
    await log.publish(log.head)
    storage.operations.clear()
    return storage, log


async def test_a_batch_is_written_in_the_order_that_keeps_the_promise() -> None:
    """Staged before the head, the head before tiles, bundles and indexes, and those before anything is removed."""
    storage = MemoryStorage()
    log = await begin_log(storage)
    storage.operations.clear()
    await log.append([make_proposal()])
    writes = [f"{call.operation} {call.key}" for call in storage.operations if call.operation in {"put", "delete"}]
    staged = f"{STAGED_PREFIX}1-{tree_of(log.head).root.hex()}"
    assert [writes[0], writes[1], writes[4], writes[5]] == [
        f"put {staged}",
        f"put {HEAD_KEY}",
        "put log/index/left",
        f"delete {staged}",
    ]
    assert sorted(writes[2:4]) == ["put log/tile/0/000.p/1", "put log/tile/entries/000.p/1"]
    assert len(writes) == 6


async def test_the_head_is_signed_by_all_keys_and_its_time_never_goes_back() -> None:
    """Ed25519 over the text, ML-DSA-44 with a timestamp; a clock that was set back says no earlier time."""
    storage = MemoryStorage()
    log = await begin_log(storage, now=1000.9)
    await log.append([make_proposal()])
    log = await reopen(storage, now=500.0)
    await log.append([make_proposal("right")])
    opened = open_checkpoint(log.head, VERIFIERS, origin=ORIGIN)
    assert [key.kind.title for key, _ in opened.signed] == ["Ed25519", "ML-DSA-44"]
    assert timestamp_of(opened.signed[1][1]) == 1000
    assert (log.origin, log.size, log.verifiers) == (ORIGIN, 2, tuple(VERIFIERS))
    assert repr(log) == "<Log 'log.example/npm' of 2 entries>"


async def test_a_large_offer_is_logged_by_several_swaps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither number nor bytes of one batch grow without bound."""
    monkeypatch.setattr(log_module, "MAX_BATCH", 4)
    storage, log = await grown(1)
    proposals = make_proposals(0, 11)
    done = await log.append(proposals)
    assert done == (Sequenced(0, Fate.KNOWN), *[Sequenced(at, Fate.LOGGED) for at in range(1, 11)])
    assert storage.keys_of("put").count(HEAD_KEY) == 3
    monkeypatch.setattr(log_module, "MAX_BATCH_BYTES", 2 * len(proposals[0].body) + 1)
    await log.append(make_proposals(20, 23))
    assert storage.keys_of("put").count(HEAD_KEY) == 5
    assert await log.append([]) == ()
    await check(storage)


async def test_what_cannot_be_a_logs_is_not_begun() -> None:
    """Keys of other names, and a storage in which a part of a log is left."""
    with pytest.raises(ConfigurationError, match="expected a key of the log's own name"):
        await create_log(MemoryStorage(), origin="other", keys=KEYS, now=0.0)
    storage, _ = await grown()
    storage.remove(IDENTITY_KEY)
    with pytest.raises(ConfigurationError, match="log/checkpoint exists"):
        await create_log(storage, origin=ORIGIN, keys=ONE, now=0.0)
    storage.remove(CHECKPOINT_KEY)
    with pytest.raises(ConfigurationError, match="a part of a log was lost"):
        await create_log(storage, origin=ORIGIN, keys=ONE, now=0.0)


async def test_a_beginning_that_was_interrupted_is_begun_again() -> None:
    """Also with other keys, as each `sumdb init` makes its own; whoever is second loses."""
    storage = MemoryStorage()
    storage.fail_before("put", IDENTITY_KEY, LATE)
    with pytest.raises(StorageUnavailableError):
        await create_log(storage, origin=ORIGIN, keys=[make_signer_key(ORIGIN, b"x" * 32)], now=0.0)
    storage.fail_before("put", HEAD_KEY, PreconditionFailedError("changed"), times=2)
    with pytest.raises(ConfigurationError, match="somebody else begins"):
        await create_log(storage, origin=ORIGIN, keys=ONE, now=0.0)
    storage.fail_before("put", IDENTITY_KEY, PreconditionFailedError("changed"))
    with pytest.raises(ConfigurationError, match="somebody else begins"):
        await create_log(storage, origin=ORIGIN, keys=ONE, now=0.0)
    assert (await begin_log(storage, keys=ONE)).size == 0


async def test_a_log_opens_under_its_own_name_and_keys_only() -> None:
    """No log, another origin, another key, a key too few."""
    with pytest.raises(ConfigurationError, match="no log yet"):
        await reopen(MemoryStorage())
    storage = MemoryStorage()
    await begin_log(storage)
    for keys in (ONE, (), (*KEYS, make_signer_key(ORIGIN, b"x" * 32))):
        with pytest.raises(ConfigurationError, match="has the keys"):
            await reopen(storage, keys=keys)
    with pytest.raises(ConfigurationError, match=r"has the log 'log\.example/npm', expected 'other'"):
        await log_module.open_log(storage, origin="other", keys=KEYS, now=trio.current_time)


async def test_a_head_that_was_lost_or_restored_from_an_older_copy_does_not_open() -> None:
    """To go on from there would sign a second history."""
    storage, log = await grown(10)
    old = storage.objects
    await log.append(make_proposals(10, 300))
    await log.publish(log.head)
    new = storage.objects
    storage.set_bytes(HEAD_KEY, old[HEAD_KEY])
    with pytest.raises(RolledBackError, match="has 10 entries, and 300 are published"):
        await reopen(storage, keys=ONE)
    storage.remove(HEAD_KEY)
    with pytest.raises(RolledBackError, match=r"head\.json is missing"):
        await reopen(storage, keys=ONE)
    storage.set_bytes(HEAD_KEY, new[HEAD_KEY])
    other = sign_checkpoint(Checkpoint(ORIGIN, 10, EMPTY_ROOT), ONE, timestamp=0)
    storage.set_bytes(CHECKPOINT_KEY, other)
    with pytest.raises(RolledBackError, match="parts of two histories"):
        await reopen(storage, keys=ONE)


async def test_a_running_log_notices_that_its_state_was_restored() -> None:
    """After a failure the state is read anew; older than what this process knows is a rollback."""
    storage, log = await grown(10)
    storage.remove(CHECKPOINT_KEY)
    old = storage.objects[HEAD_KEY]
    await log.append(make_proposals(10, 20))
    storage.fail_before("put", f"{STAGED_PREFIX}*", LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(20, 30))
    storage.set_bytes(HEAD_KEY, old)
    with pytest.raises(RolledBackError, match="had 20 entries, and has 10"):
        await log.append(make_proposals(20, 30))


@pytest.mark.parametrize("key", ["log/tile/0/001.p/44", "log/tile/1/000.p/1", "log/tile/entries/001.p/44"])
async def test_an_edge_that_was_changed_or_lost_does_not_open(key: str) -> None:
    """Nothing is appended to what the head does not vouch for."""
    storage, _ = await grown(300)
    body = storage.objects[key]
    storage.set_bytes(key, body[:-2] + b"~\n")
    with pytest.raises((ProofError, RolledBackError)):
        await reopen(storage, keys=ONE)
    storage.remove(key)
    with pytest.raises(ObjectMissingError, match="and in its place"):
        await reopen(storage, keys=ONE)


async def test_staged_records_that_do_not_lead_to_the_head_are_refused() -> None:
    """What is completed is what was signed, or nothing."""
    storage, log = await grown(3)
    storage.fail_before("put", "log/tile/*", LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(3, 5))
    (staged,) = (key for key in storage.objects if key.startswith(STAGED_PREFIX))
    body = storage.objects[staged]
    storage.set_bytes(staged, body.replace(b"tarball-size 1000", b"tarball-size 1001"))
    with pytest.raises(IntegrityMismatchError, match="leads from 3 entries to the root"):
        await reopen(storage, keys=ONE)
    storage.set_bytes(staged, body)
    assert (await reopen(storage, keys=ONE)).size == 5
    await check(storage)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(
    "glob", [f"{STAGED_PREFIX}*", HEAD_KEY, "log/tile/0/*", "log/tile/entries/*", "log/index/*"], ids=str
)
async def test_a_write_that_fails_or_whose_answer_is_lost_is_no_end(glob: str, *, is_late: bool) -> None:
    """Before it took effect, or after: the next batch goes on, and what was offered again is logged once."""
    storage, log = await grown(3)
    fail = storage.fail_after if is_late else storage.fail_before
    fail("put", glob, LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(3, 5))
    done = await log.append(make_proposals(3, 6))
    assert [each.index for each in done] == [3, 4, 5]
    assert log.size == (await reopen(storage, keys=ONE)).size == 6
    await check(storage)


async def test_a_delete_that_fails_leaves_nothing_behind() -> None:
    """What was staged is removed by whoever opens the log."""
    storage, log = await grown(3)
    storage.fail_before("delete", "*", LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(3, 5))
    await reopen(storage, keys=ONE)
    await check(storage)


async def test_a_swap_that_arrives_late_is_ours() -> None:
    """It was given up for lost, another batch was tried, and then it won: no other sequencer is suspected."""
    storage, log = await grown(3)
    before = storage.objects[HEAD_KEY]
    storage.fail_after("put", HEAD_KEY, LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(3, 5))
    late = storage.objects[HEAD_KEY]
    storage.set_bytes(HEAD_KEY, before)
    storage.fail_before("put", f"{STAGED_PREFIX}*", LATE)
    with pytest.raises(StorageUnavailableError, match="answer was lost"):
        await log.append(make_proposals(5, 6))
    known = await log.append(make_proposals(0, 3))  # the state is read anew: nothing of it is there yet
    assert {done.fate for done in known} == {Fate.KNOWN}
    storage.set_bytes(HEAD_KEY, late)
    with pytest.raises(StorageUnavailableError, match="arrived late"):
        await log.append(make_proposals(5, 6))
    assert [each.index for each in await log.append(make_proposals(3, 6))] == [3, 4, 5]
    await check(storage)


async def test_a_swap_that_took_effect_and_says_that_it_lost_is_won() -> None:
    """A client of the storage that tries again by itself meets its own object."""
    storage, log = await grown(3)
    storage.fail_after("put", HEAD_KEY, PreconditionFailedError("etag"))
    assert [each.index for each in await log.append(make_proposals(3, 5))] == [3, 4]
    await check(storage)


async def test_a_storage_without_conditions_is_refused() -> None:
    """Two sequencers on it would fork the log."""
    storage, log = await grown(3)
    storage.fail_before("put", HEAD_KEY, UnsupportedConditionError("no conditions"))
    with pytest.raises(UnsupportedConditionError):
        await log.append(make_proposals(3, 5))


async def test_another_sequencer_is_noticed_after_a_failure_too() -> None:
    """The state is read anew, and it is somebody else's."""
    storage, log = await grown(3)
    storage.fail_before("put", f"{STAGED_PREFIX}*", LATE)
    with pytest.raises(StorageUnavailableError):
        await log.append(make_proposals(3, 5))
    await (await reopen(storage, keys=ONE)).append(make_proposals(7, 9))
    for _ in range(2):
        with pytest.raises(LogLostError, match="not by this sequencer"):
            await log.append(make_proposals(3, 5))
    assert repr(log).endswith("lost>")
    await check(storage)


async def test_another_sequencer_is_noticed_by_its_indexes() -> None:
    """What it has logged is not answered as known: this log cannot prove it."""
    storage, log = await grown(3)
    await (await reopen(storage, keys=ONE)).append(make_proposals(3, 5))
    with pytest.raises(LogLostError):
        await log.append(make_proposals(3, 4))


async def test_an_index_with_leaves_beyond_the_tree_is_damaged() -> None:
    """Where no other sequencer has logged them, the index is named."""
    storage, log = await grown(3)
    index = PackageIndex(PackageName("left"), (make_line(3, make_record()),))
    storage.set_bytes(index_key(index.name), format_index(index))
    with pytest.raises(UpstreamProtocolError, match=r"index of left: has 3 publish .* and the log has 3 entries"):
        await log.append([make_proposal()])


async def test_a_cancelled_batch_is_completed_by_the_next_one() -> None:
    """Cancelled after the swap, before the tiles: nothing is half-way."""
    storage = CancellingStorage()
    log = await begin_log(storage, keys=ONE)
    await log.append(make_proposals(0, 3))
    with trio.CancelScope() as scope:
        storage.cancelled = scope
        await log.append(make_proposals(3, 5))
    storage.cancelled = None
    assert scope.cancelled_caught
    assert b"\\n5\\n" in storage.objects[HEAD_KEY]
    assert log.size == 3
    assert [each.index for each in await log.append(make_proposals(3, 6))] == [3, 4, 5]
    await check(storage)


async def test_only_trees_of_this_log_are_published() -> None:
    """Not one that it does not have yet, not another root, not with extension lines, not signed by somebody else."""
    storage, log = await grown(3)
    tree = tree_of(log.head)
    await log.append(make_proposals(3, 5))
    cases = (
        (replace(tree, size=9), "this log has 5 entries"),
        (replace(tree, root=EMPTY_ROOT), "this log has the root"),
        (replace(tree, extension=("more",)), "this log has the root"),
    )
    for wrong, reason in cases:
        with pytest.raises(ConfigurationError, match=reason):
            await log.publish(sign_checkpoint(wrong, ONE, timestamp=0))
    with pytest.raises(SignatureError):
        await log.publish(sign_checkpoint(tree, [make_signer_key(ORIGIN, b"x" * 32)], timestamp=0))
    assert storage.objects[CHECKPOINT_KEY] == sign_checkpoint(tree, ONE, timestamp=0)


async def test_publishing_meets_other_publishers_and_another_history() -> None:
    """A lost swap is looked at again; another tree of the same size is a rollback."""
    storage, log = await grown(3)
    await log.append(make_proposals(3, 5))
    storage.fail_before("put", CHECKPOINT_KEY, PreconditionFailedError("changed"))
    assert await log.publish(log.head)
    storage.set_bytes(CHECKPOINT_KEY, sign_checkpoint(Checkpoint(ORIGIN, 5, EMPTY_ROOT), ONE, timestamp=0))
    with pytest.raises(RolledBackError, match="log/checkpoint says"):
        await log.publish(log.head)


async def test_partial_tiles_go_once_the_published_tree_has_the_full_ones() -> None:
    """All of a published head stay until then; an unpublished head removes nothing."""
    storage = MemoryStorage()
    log = await begin_log(storage, keys=ONE)
    for end in (10, 100):
        await log.append(make_proposals(log.size, end))
        await log.publish(log.head)
    await log.append(make_proposals(100, 300))
    partial = {key for key in storage.objects if ".p/" in key}
    assert {"log/tile/0/000.p/10", "log/tile/0/000.p/100", "log/tile/entries/000.p/100"} <= partial
    await log.publish(log.head)
    left = {key for key in storage.objects if ".p/" in key}
    assert left == {"log/tile/0/001.p/44", "log/tile/1/000.p/1", "log/tile/entries/001.p/44"}
    assert await (await reopen(storage, keys=ONE)).publish(log.head)
    await check(storage)


async def test_a_head_for_a_format_of_before_is_still_ours() -> None:
    """The head holds the note as it was signed, byte for byte."""
    storage, log = await grown(3)
    assert storage.objects[HEAD_KEY] == format_head(log.head, 0)


async def test_whose_the_newest_head_is() -> None:
    """One that was found is not ours, one that we made is; one that another sequencer made ends this one."""
    storage = MemoryStorage()
    log, other = await begin_log(storage), await reopen(storage)
    found = log.is_own_head
    await log.append([make_proposal("left")])
    assert (found, log.is_own_head) == (False, True)
    await log.check_newest()
    with pytest.raises(LogLostError, match="there can be one only"):
        await other.check_newest()
    with pytest.raises(LogLostError):
        await other.append([make_proposal("right")])


async def test_what_a_witness_showed_is_kept() -> None:
    """Under its digest, so once however often it is shown."""
    storage = MemoryStorage()
    log = await begin_log(storage)
    keys = {await log.keep_shown(b"a note\n") for _ in range(2)}
    assert keys == {f"evidence/sumdb-heads/{hashlib.sha256(b'a note' + bytes([10])).hexdigest()}.txt"}
    assert storage.objects[keys.pop()] == b"a note\n"
