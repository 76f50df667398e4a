"""One suite for the log over every storage: what is appended is there, proven, checked, and survives a restart."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ConfigurationError, LogLostError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.local import open_local
from mirrorwitness.sumdb.fsck import fsck
from mirrorwitness.sumdb.indexes import read_index
from mirrorwitness.sumdb.log import Fate, Sequenced
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.merkle import check_consistency, check_inclusion, leaf_hash
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import KEYS, ORIGIN, begin_log, make_proposal, make_proposals, reopen

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator
    from pathlib import Path

    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.faults import Fault, Report
    from mirrorwitness.sumdb.log import Log

VERIFIERS = [key.verifier for key in KEYS]


@pytest.fixture(params=["memory", "local", "s3"])
async def storage(
    request: pytest.FixtureRequest, tmp_path: Path, moto_bucket: Iterator[str]
) -> AsyncGenerator[Storage, None]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryStorage()
        elif request.param == "local":
            yield await stack.enter_async_context(open_local(tmp_path / "storage", fsync=False))
        else:
            yield await stack.enter_async_context(open_storage(str(next(moto_bucket))))


async def check(storage: Storage) -> Report:
    """Check the whole log; nothing may be wrong."""
    faults: list[Fault] = []
    report = await fsck(storage, on_fault=faults.append)
    assert faults == []
    return report


async def prove_all(log: Log, storage: Storage, bodies: list[bytes]) -> None:
    """Check each record and its proof under the head, out of what is stored."""
    head = open_checkpoint(log.head, VERIFIERS, origin=ORIGIN).checkpoint
    assert head.size == len(bodies)
    prover = Prover(StoredLog(storage))
    for index, body in enumerate(bodies):
        assert await prover.entry(index, head.size) == body
        proof = await prover.inclusion(index, head.size, root=head.root)
        check_inclusion(proof, index=index, size=head.size, leaf=leaf_hash(body), root=head.root)


async def test_what_is_appended_is_proven_and_survives_a_restart(storage: Storage) -> None:
    """Batches of any size end in one log, whose every head is an earlier state of the last one."""
    log = await begin_log(storage)
    proposals = make_proposals(0, 290)
    heads = [open_checkpoint(log.head, VERIFIERS, origin=ORIGIN).checkpoint]
    for start, end in ((0, 1), (1, 20), (20, 256), (256, 290)):
        done = await log.append(proposals[start:end])
        assert done == tuple([Sequenced(at, Fate.LOGGED) for at in range(start, end)])
        heads.append(open_checkpoint(log.head, VERIFIERS, origin=ORIGIN).checkpoint)
        log = await reopen(storage)
    await prove_all(log, storage, [proposal.body for proposal in proposals])
    prover = Prover(StoredLog(storage))
    for old in heads:
        proof = await prover.consistency(old.size, 290, root=heads[-1].root)
        check_consistency(proof, old_size=old.size, old_root=old.root, new_size=290, new_root=heads[-1].root)
        assert await prover.root(old.size) == old.root
    report = await check(storage)
    assert (report.size, report.root, report.packages, report.staged) == (290, heads[-1].root, 29, 0)


async def test_what_is_known_is_not_logged_again(storage: Storage) -> None:
    """The same records, in the same batch, a later one and after a restart, are answered with their first leaf."""
    log = await begin_log(storage)
    first = make_proposals(0, 12)
    assert await log.append([*first, first[3]]) == (
        *[Sequenced(at, Fate.LOGGED) for at in range(12)],
        Sequenced(3, Fate.KNOWN),
    )
    head = log.head
    assert await (await reopen(storage)).append(first) == tuple([Sequenced(at, Fate.KNOWN) for at in range(12)])
    assert (await reopen(storage)).head == head
    index = await read_index(storage, PackageName("p1"))
    assert [(line.index, line.version) for line in index.lines] == [(10, "1.0.0"), (11, "1.0.1")]


async def test_swapped_bytes_become_a_conflict_whose_evidence_is_kept(storage: Storage) -> None:
    """The conflict names both integrities; the version stays in conflict."""
    log = await begin_log(storage)
    await log.append([make_proposal()])
    assert await log.append([make_proposal(content="swapped")]) == (Sequenced(1, Fate.CONFLICT),)
    assert await log.append([make_proposal()]) == (Sequenced(1, Fate.KNOWN_CONFLICT),)
    latest = (await read_index(storage, PackageName("left"))).latest(Version("1.0.0"))
    assert latest is not None
    assert (latest.index, latest.event) == (1, "conflict")
    await check(storage)


async def test_a_second_sequencer_loses_and_changes_nothing(storage: Storage) -> None:
    """Of two that go on from one head the slower one stops, for good; the log is that of the other."""
    one = await begin_log(storage)
    other = await reopen(storage)
    await one.append([make_proposal("ours")])
    for _ in range(2):
        with pytest.raises(LogLostError, match=r"another one extends the log 'log\.example/npm'"):
            await other.append([make_proposal("theirs")])
    await one.append([make_proposal("ours", "2.0.0")])
    report = await check(storage)
    assert (report.size, report.packages) == (2, 1)
    assert (await read_index(storage, PackageName("theirs"))).lines == ()


async def test_checkpoints_are_published_by_size(storage: Storage) -> None:
    """A published checkpoint is replaced by a larger one; an older one that comes late changes nothing."""
    log = await begin_log(storage)
    source = StoredLog(storage)
    heads = [log.head]
    for number in range(3):
        await log.append(make_proposals(number * 100, (number + 1) * 100))
        heads.append(log.head)
    assert await log.publish(heads[0])
    assert await log.publish(heads[2])
    assert not await log.publish(heads[1])
    assert await source.read_head() == heads[2]
    assert await log.publish(heads[2])
    assert await log.publish(heads[3])
    assert await (await reopen(storage)).publish(heads[3])
    assert await source.read_head() == heads[3]
    await check(storage)


async def test_one_storage_has_one_log(storage: Storage) -> None:
    """A log is never begun anew where there is one."""
    await begin_log(storage)
    with pytest.raises(ConfigurationError, match="has a log already"):
        await begin_log(storage)
