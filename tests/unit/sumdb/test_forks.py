"""A log that signed two histories: evidence, an error, and no further question."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import ForkError, StorageUnavailableError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.forks import check_known_forks, find_fork_of_one_size
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.sumdb.trust import MAX_EVIDENCE_BYTES, TrustStore
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence
from mirrorwitness.tlog.keys import make_signer_key
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY, ORIGIN, FakeSumdb, filler, make_record
from tests.unit.sumdb.checked_log import LEFT, NOW, TERMS, Reader, make_log

if TYPE_CHECKING:
    from pathlib import Path

    from mirrorwitness.storage import ObjectInfo

PREFIX = f"evidence/{origin_hash(ORIGIN)}/"
KEY = f"{PREFIX}{'0' * 64}.json"
OTHER_KEY = make_signer_key(ORIGIN, bytes([99] * 32))


def evidence(log: FakeSumdb, other: FakeSumdb, *, key: object = LOG_KEY) -> bytes:
    """Return what shows that two logs are one."""
    assert key in (LOG_KEY, OTHER_KEY)
    return make_evidence(
        log_keys=[(LOG_KEY if key is LOG_KEY else OTHER_KEY).verifier],
        witness_keys=[],
        origin=ORIGIN,
        ours=log.checkpoint(),
        theirs=other.checkpoint(),
        proof=(),
        seen="2026-07-01T12:00:00Z",
    )


async def test_a_fork_is_remembered_across_runs() -> None:
    """The log shows the first history again: a new run believes nothing until the evidence is gone."""
    reader = Reader(make_log(300))
    await reader.ratchet().advance()
    honest = reader.log.fork(300)
    reader.log.become(reader.log.fork(200, *filler(500)))
    with pytest.raises(ForkError):
        await reader.ratchet().advance()
    reader.log.become(honest)
    with pytest.raises(ForkError, match=rf"as state/{PREFIX}\w+\.json shows; .* remove it once you know what happened"):
        await reader.ratchet().advance()
    storage = reader.storage
    assert isinstance(storage, MemoryStorage)
    (key,) = [key for key in storage.objects if key.startswith("evidence/")]
    await storage.delete(key)
    assert (await reader.ratchet().advance()).tree.size == 300


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        evidence(make_log(30), make_log(30)),
        evidence(make_log(30), make_log(40)),
        evidence(make_log(30), make_log(29).fork(29, make_record("x")), key=OTHER_KEY),
        evidence(FakeSumdb(filler(30), keys=(OTHER_KEY,)), FakeSumdb(filler(29), keys=(OTHER_KEY,)), key=OTHER_KEY),
        evidence(
            FakeSumdb(filler(30), keys=(OTHER_KEY,)), FakeSumdb([*filler(29), LEFT], keys=(OTHER_KEY,)), key=OTHER_KEY
        ),
        b" " * (MAX_EVIDENCE_BYTES + 1),
    ],
)
async def test_a_file_that_shows_no_fork_stops_nobody(body: bytes) -> None:
    """Damaged, of one history, of keys that nobody trusts, or far too large."""
    reader = Reader(make_log(300))
    await reader.storage.put(KEY, body)
    assert (await reader.ratchet().advance()).tree.size == 300


async def test_evidence_counts_by_the_keys_that_are_trusted_now() -> None:
    """Also evidence that another tool wrote."""
    trust = TrustStore(MemoryStorage(), place="state")
    await trust.storage.put(KEY, evidence(make_log(30), make_log(30).fork(29, make_record("x"))))
    with pytest.raises(ForkError, match=f"state/{KEY}"):
        await check_known_forks(trust, TERMS)
    await check_known_forks(trust, make_terms([OTHER_KEY.verifier], None))


async def test_evidence_that_cannot_be_kept_is_a_fork_all_the_same() -> None:
    """A full disk must not make exit code 3 of it."""

    class Full(MemoryStorage):
        async def put(
            self,
            key: str,
            body: bytes | Path,
            *,
            if_absent: bool = False,
            if_match: str | None = None,
            content_type: str = "text/plain",
        ) -> ObjectInfo:
            if key.startswith("evidence/"):
                raise StorageUnavailableError("no space is left")
            return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)

    reader = Reader(make_log(300), Full())
    await reader.ratchet().advance()
    reader.log.become(reader.log.fork(299, *filler(1)))
    with pytest.raises(ForkError, match=r"signed two histories.* could not be kept \(no space is left\)"):
        await reader.ratchet().advance()


def test_two_roots_of_one_size() -> None:
    """The first pair counts; one tree that was signed twice is no fork."""
    log = make_log(30)
    fork = log.fork(29, make_record("x"))
    ours, theirs, small = (log.checkpoint(), log.tree()), (fork.checkpoint(), fork.tree()), (b"", log.tree(3))
    assert find_fork_of_one_size([]) is None
    assert find_fork_of_one_size([small, ours, (log.checkpoint(30, LOG_KEY), log.tree()), small]) is None
    assert find_fork_of_one_size([small, ours, theirs]) == (ours, theirs)


async def test_attack_a_fork_in_the_kept_answers() -> None:
    """A checkpoint of the head's size that the log signed and the quorum cosigned, in a cache: it is evidence."""
    fork = make_log().fork(699, make_record("evil"))
    other, reader = Reader(fork), Reader(make_log())
    client = other.client()
    await client.lookup(PackageName("left"), Version("1.0.0"))
    await client.save()
    assert isinstance(other.storage, MemoryStorage)
    await reader.ratchet().advance()
    for key, body in other.storage.objects.items():
        if "/lookups/" in key:
            await reader.storage.put(key, body)
    with pytest.raises(ForkError, match=r"size 700 .* size 700 .* The evidence is state/evidence/"):
        await reader.client().lookup(PackageName("left"), Version("1.0.0"))
    ((_, kept),) = await reader.trust.read_evidence(ORIGIN)
    assert check_evidence(parse_evidence(kept)).theirs == make_log().tree()
    assert reader.now == NOW
