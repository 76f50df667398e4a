"""What a client believes of the answers to its look-ups, and what it keeps of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from mirrorwitness.errors import ProofError, SignatureError, UpstreamNotFoundError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.client import LOOKUPS_AT_ONCE, MAX_AGE, NEWER_TREES
from mirrorwitness.sumdb.records import Event, format_record
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.tlog.merkle import leaf_hash
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.proof import parse_proof, verify_proof
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY, POLICY, STRANGER, filler, make_record
from tests.unit.sumdb.checked_log import LEFT, NOW, TERMS, UNWITNESSED, Reader, make_log

if TYPE_CHECKING:
    from mirrorwitness.sumdb.found import Found

NAME, VERSION = LEFT.name, LEFT.version
PATH = "/lookup/left@1.0.0?size=700"


async def look_up(reader: Reader, *, max_age: timedelta = MAX_AGE) -> Found:
    """Look `LEFT` up in a run of its own."""
    client = reader.client(max_age=max_age)
    await client.update()
    found = await client.lookup(NAME, VERSION)
    await client.save()
    return found


async def test_a_version_is_found_with_all_that_shows_it() -> None:
    """What is returned is a tlog-proof that holds for somebody who has only the policy."""
    reader = Reader(make_log())
    found = await look_up(reader)
    assert (found.record, found.index, found.tree) == (LEFT, 5, reader.log.tree())
    proof = parse_proof(found.format_proof())
    assert proof.extra == reader.log.entries[5]
    assert verify_proof(proof, leaf=leaf_hash(proof.extra), policy=TERMS.policy).opened.checkpoint == found.tree
    assert reader.log.asked == [PATH]


async def test_a_look_up_reads_the_head_where_nobody_did() -> None:
    """And every look-up of a run is in that tree."""
    reader = Reader(make_log(700, shown=300))
    client = reader.client()
    assert repr(client) == "<SumdbClient of 'sumdb.example.org', not read>"
    assert (await client.lookup(NAME, VERSION)).tree.size == 300
    reader.log.show(700)
    assert (await client.lookup(PackageName("filler-7"), VERSION)).tree.size == 300
    assert repr(client) == "<SumdbClient of 'sumdb.example.org', at 300>"


async def test_after_a_replay_of_an_old_head_look_ups_are_in_the_newest_tree() -> None:
    """What the log tries to hide is asked for."""
    reader = Reader(make_log())
    await reader.ratchet().advance()
    reader.log.note = reader.log.checkpoint(300)
    assert (await look_up(reader)).tree.size == 700


async def test_a_version_that_was_never_logged() -> None:
    """It is not there, and nothing is kept of that."""
    reader = Reader(make_log())
    client = reader.client()
    with pytest.raises(UpstreamNotFoundError):
        await client.lookup(NAME, Version("9.9.9"))
    await client.save()
    assert not [key for key in _stored(reader).objects if "/lookups/" in key]


def _stored(reader: Reader) -> MemoryStorage:
    assert isinstance(reader.storage, MemoryStorage)
    return reader.storage


async def test_replaced_record() -> None:
    """Another integrity in the place of the logged one: the leaf is another one."""
    reader = Reader(make_log())
    other = make_log()
    other.entries[5] = make_record_bytes("left", b"evil")
    reader.log.bodies[PATH] = other.proof(5, 700)
    with pytest.raises(ProofError, match=r"left@1\.0\.0: the answer is not in the log: inclusion proof of entry 5"):
        await look_up(reader)


def make_record_bytes(name: str, data: bytes) -> bytes:
    return format_record(make_record(name, "1.0.0", data))


async def test_proof_for_another_leaf() -> None:
    """A record that is in the log, of another package."""
    reader = Reader(make_log())
    reader.log.bodies[PATH] = reader.log.proof(6, 700)
    with pytest.raises(ProofError, match=r"left@1\.0\.0: the answer is a record of filler-6@1\.0\.0"):
        await look_up(reader)


async def test_record_of_one_leaf_with_the_proof_of_another() -> None:
    """The index and the hashes are another entry's."""
    reader = Reader(make_log())
    mine, other = reader.log.proof(5, 700).split(b"\n"), reader.log.proof(6, 700).split(b"\n")
    reader.log.bodies[PATH] = b"\n".join([*mine[:2], *other[2:]])
    with pytest.raises(ProofError, match="is not in the log"):
        await look_up(reader)


async def test_replay_of_an_answer_of_an_older_tree() -> None:
    """A proof under a root that is not the one that was verified."""
    reader = Reader(make_log())
    reader.log.bodies[PATH] = reader.log.proof(5, 300)
    with pytest.raises(ProofError, match="has 9 hashes, expected 10"):
        await look_up(reader)


async def test_an_index_beyond_the_tree() -> None:
    """There is no such leaf, whatever the hashes are."""
    reader = Reader(make_log())
    reader.log.bodies[PATH] = reader.log.proof(5, 700).replace(b"\nindex 5\n", b"\nindex 700\n")
    with pytest.raises(ProofError, match="the answer's index is 700, expected one below the tree size 700"):
        await look_up(reader)


@pytest.mark.parametrize("body", [b"", b"<html>", b"c2sp.org/tlog-proof@v1\nindex 5\n\n"])
async def test_an_answer_that_is_none(body: bytes) -> None:
    """An error of whoever answered, and no divergence."""
    reader = Reader(make_log())
    reader.log.bodies[PATH] = body or b"\n"
    with pytest.raises(UpstreamProtocolError):
        await look_up(reader)


async def test_a_leaf_that_is_no_record() -> None:
    """The log has it, and it says nothing."""
    reader = Reader(make_log())
    reader.log.entries[5] = b"something\n"
    reader.log.bodies[PATH] = reader.log.proof(5, 700)
    with pytest.raises(UpstreamProtocolError, match="sumdb record"):
        await look_up(reader)


async def test_the_newest_record_of_a_version_counts() -> None:
    """A withdrawal is a further record."""
    reader = Reader(make_log(100))
    reader.log.append(make_record("left", data=b"left", event=Event.UNPUBLISH))
    found = await look_up(reader)
    assert (found.record.event, found.index) == (Event.UNPUBLISH, 100)


async def test_an_answer_is_kept_for_the_next_run() -> None:
    """It is asked for once, and verified again under the checkpoint that it came under."""
    reader = Reader(make_log(700, shown=300))
    first = await look_up(reader)
    reader.log.show(700)
    reader.log.asked.clear()
    client = reader.client()
    head = await client.update()
    again = await client.lookup(NAME, VERSION)
    assert (again, again.tree.size, head.tree.size, client.remembered) == (first, 300, 700, 1)
    assert not [path for path in reader.log.asked if path.startswith("/lookup/")]


@pytest.mark.parametrize("hours", [24, 25, -1])
async def test_an_answer_that_is_old_is_asked_for_again(hours: int) -> None:
    """A newer record may have followed. A clock that was set back makes an answer old, too."""
    reader = Reader(make_log(100))
    assert (await look_up(reader)).record.event is Event.PUBLISH
    reader.log.append(make_record("left", data=b"left", event=Event.CONFLICT))
    reader.now = NOW + timedelta(hours=hours)
    assert (await look_up(reader)).record.event is Event.CONFLICT


async def test_a_conflict_is_not_kept() -> None:
    """It is asked for in every run."""
    reader = Reader(make_log(100))
    reader.log.append(make_record("left", data=b"left", event=Event.CONFLICT))
    await look_up(reader)
    await look_up(reader)
    assert reader.log.asked.count("/lookup/left@1.0.0?size=101") == 2


async def test_nothing_is_good_enough_where_no_age_is_allowed() -> None:
    """``--max-age 0``."""
    reader = Reader(make_log())
    for _ in range(2):
        await look_up(reader, max_age=timedelta())
    assert reader.log.asked == [PATH, PATH]


async def test_poisoned_cache_is_asked_about_and_never_believed() -> None:
    """Every part of what is kept is verified: record, proof, checkpoint, size. What is wrong is asked for again."""
    reader = Reader(make_log())
    await look_up(reader)
    (key,) = [key for key in _stored(reader).objects if "/lookups/" in key]
    right = _stored(reader).objects[key]
    shard = msgspec.json.decode(right)
    evil = make_log()
    evil.entries[5] = make_record_bytes("left", b"evil")
    poisons = [
        right[:-9],
        b"",
        right.replace(b'"format":1', b'"format":2'),
        right.replace(b'"size":700', b'"size":699'),
        msgspec.json.encode({**shard, "answers": [{**shard["answers"][0], "body": evil.proof(5, 700).decode()}]}),
        msgspec.json.encode({**shard, "answers": [{**shard["answers"][0], "body": "x"}]}),
        msgspec.json.encode({**shard, "notes": {"700": evil.checkpoint(700, STRANGER).decode()}}),
        msgspec.json.encode({**shard, "notes": {"700": "nothing"}}),
        msgspec.json.encode({**shard, "notes": {}}),
    ]
    for poison in poisons:
        reader.log.asked.clear()
        _stored(reader).set_bytes(key, poison)
        assert (await look_up(reader)).record == LEFT
        assert reader.log.asked == [PATH], poison
        assert _stored(reader).objects[key] == right


async def test_what_is_kept_under_a_tree_that_is_larger_than_the_head() -> None:
    """State of another time put under an older head: it is asked for again."""
    reader, other = Reader(make_log(700, shown=300)), Reader(make_log())
    await look_up(other)
    await reader.ratchet().advance()
    for key, body in _stored(other).objects.items():
        if "/lookups/" in key:
            _stored(reader).set_bytes(key, body)
    assert (await look_up(reader)).tree.size == 300


async def test_what_was_kept_without_witnesses_does_not_count_with_them() -> None:
    """The same state, and a stricter policy: asked for again under a cosigned checkpoint."""
    reader = Reader(make_log())
    reader.log.note = reader.log.checkpoint(700, LOG_KEY)
    client = reader.client(UNWITNESSED)
    await client.lookup(NAME, VERSION)
    await client.save()
    with pytest.raises(SignatureError):
        await reader.client().update()
    reader.log.note = None
    reader.log.append(*filler(1))
    assert (await look_up(reader)).tree.size == 701


async def test_many_look_ups_at_once_are_bounded() -> None:
    """No more than `LOOKUPS_AT_ONCE` are on the wire, and each version gets its own answer."""
    reader = Reader(make_log(200))
    client = reader.client()
    await client.update()
    running, most = 0, 0
    plain = reader.log.read_lookup

    async def count(name: PackageName, version: Version, *, size: int) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.testing.wait_all_tasks_blocked()
        running -= 1
        return await plain(name, version, size=size)

    reader.log.read_lookup = count  # type: ignore[method-assign]  # counts what it does
    found: dict[str, Found] = {}

    async def look(number: int) -> None:
        name = PackageName(f"filler-{number}")
        found[name] = await client.lookup(name, VERSION)

    async with trio.open_nursery() as nursery:
        for number in range(100, 150):
            nursery.start_soon(look, number)
    assert {name: item.record.name for name, item in found.items()} == {name: name for name in found}
    assert (len(found), most) == (50, LOOKUPS_AT_ONCE)


async def test_a_policy_of_other_witnesses_is_another_reader() -> None:
    """Terms are the reader's, not the state's."""
    reader = Reader(make_log())
    await look_up(reader)
    alone = make_terms([LOG_KEY.verifier], parse_policy(POLICY.replace(b"group both all", b"group both any")))
    assert (await reader.client(alone).lookup(NAME, VERSION)).record == LEFT


async def test_a_version_that_the_log_has_only_in_a_newer_tree() -> None:
    """The head is read again, compared, and asked at: a log grows by being asked."""
    reader = Reader(make_log(100))
    client = reader.client()
    await client.update()
    reader.log.append(make_record("new", data=b"new"))
    found = await client.lookup(PackageName("new"), VERSION)
    assert (found.index, found.tree.size, client.head and client.head.tree.size) == (100, 101, 101)
    assert (await client.lookup(NAME, VERSION)).tree.size == 101


async def test_a_log_that_grows_for_ever_and_never_has_it() -> None:
    """It is followed for a few trees, and then the answer is no."""
    reader = Reader(make_log(100))
    client = reader.client()
    plain = reader.log.read_lookup

    async def grow(name: PackageName, version: Version, *, size: int) -> bytes:
        reader.log.append(*filler(1))
        return await plain(name, version, size=size)

    reader.log.read_lookup = grow  # type: ignore[method-assign]  # grows first
    with pytest.raises(UpstreamNotFoundError):
        await client.lookup(PackageName("none"), VERSION)
    assert len([path for path in reader.log.asked if path.startswith("/lookup/none")]) == NEWER_TREES + 1


async def test_many_missing_versions_read_the_head_a_few_times() -> None:
    """Those that were answered before a head was read share it."""
    reader = Reader(make_log(100))
    client = reader.client()
    heads = 0
    plain = reader.log.read_head

    async def count() -> bytes:
        nonlocal heads
        heads += 1
        await trio.testing.wait_all_tasks_blocked()
        return await plain()

    reader.log.read_head = count  # type: ignore[method-assign]  # counts what it does

    async def look(number: int) -> None:
        with pytest.raises(UpstreamNotFoundError):
            await client.lookup(PackageName(f"none-{number}"), VERSION)

    await client.update()
    async with trio.open_nursery() as nursery:
        for number in range(64):
            nursery.start_soon(look, number)
    assert heads <= 1 + 64 // LOOKUPS_AT_ONCE * 2
