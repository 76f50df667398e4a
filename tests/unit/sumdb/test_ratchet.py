"""What a client believes of a log's checkpoints, and what a log can try."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    ForkError,
    ProofError,
    SignatureError,
    StorageUnavailableError,
    UpstreamNotFoundError,
    UpstreamProtocolError,
)
from mirrorwitness.sumdb.comparison import plan_comparison
from mirrorwitness.tlog.checkpoint import Checkpoint, origin_hash
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.tiles import Tile
from tests.fakes.storage import MemoryStorage
from tests.fakes.sumdb import LOG_KEY, ORIGIN, STRANGER, W1, W2, FakeSumdb, filler
from tests.unit.sumdb.checked_log import UNWITNESSED, Reader, make_log

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.storage import Body, ObjectInfo
    from mirrorwitness.tlog.keys import SignerKey

HEAD_KEY = f"trust/{origin_hash(ORIGIN)}/checkpoint"


def stored(reader: Reader) -> MemoryStorage:
    assert isinstance(reader.storage, MemoryStorage)
    return reader.storage


async def test_the_first_head_is_believed_and_kept_as_it_was_published() -> None:
    """There is nothing to compare it with; that is told."""
    reader = Reader(make_log(700, shown=300))
    head = await reader.ratchet().advance()
    assert (head.tree, head.is_first, head.shown) == (reader.log.tree(300), True, None)
    assert [item.key for item in head.verdict.cosignatures] == [W1.verifier, W2.verifier]
    assert stored(reader).objects == {HEAD_KEY: reader.log.checkpoint(300)}


@pytest.mark.parametrize(("old", "new"), [(1, 2), (255, 257), (256, 512), (300, 300), (300, 700), (512, 700), (0, 700)])
async def test_a_log_that_grew_goes_on_from_what_was_verified(old: int, new: int) -> None:
    """The newer checkpoint is kept, and the same one is no news."""
    reader = Reader(make_log(700, shown=old))
    await reader.ratchet().advance()
    reader.log.show(new)
    head = await reader.ratchet().advance()
    assert (head.tree, head.is_first, head.shown) == (reader.log.tree(new), False, None)
    assert stored(reader).objects[HEAD_KEY] == reader.log.checkpoint(new)


async def test_fork_of_another_size_stops_everything_and_leaves_evidence() -> None:
    """The evidence proves it to somebody who has only the file, and what was verified stays."""
    reader = Reader(make_log(300))
    await reader.ratchet().advance()
    before = reader.log.checkpoint()
    reader.log.become(reader.log.fork(200, *filler(500)))
    with pytest.raises(ForkError, match=r"signed two histories: size 300 .* size 700") as caught:
        await reader.ratchet().advance()
    key = re.search(r"state/(evidence/\S+\.json)", str(caught.value))
    assert key
    proof = check_evidence(parse_evidence(stored(reader).objects[key[1]]))
    assert (proof.ours.size, proof.theirs.size, proof.log_keys) == (300, 700, (LOG_KEY.verifier,))
    assert [item.key for item in proof.cosignatures] == [W1.verifier, W2.verifier]
    assert stored(reader).objects[HEAD_KEY] == before


async def test_fork_of_the_same_size() -> None:
    """Two roots of one size need no tiles."""
    reader = Reader(make_log(300))
    await reader.ratchet().advance()
    reader.log.become(reader.log.fork(299, *filler(1)))
    reader.log.asked.clear()
    with pytest.raises(ForkError):
        await reader.ratchet().advance()
    assert reader.log.asked == []
    (evidence,) = [body for key, body in stored(reader).objects.items() if key.startswith("evidence/")]
    assert check_evidence(parse_evidence(evidence)).theirs.size == 300


async def test_fork_below_what_was_verified() -> None:
    """A smaller tree of another history: the larger one's tiles show it; in the evidence the smaller one is first."""
    reader = Reader(make_log(700))
    await reader.ratchet().advance()
    reader.log.note = reader.log.fork(200, *filler(100)).checkpoint()
    with pytest.raises(ForkError, match=r"size 300 .* size 700"):
        await reader.ratchet().advance()
    (evidence,) = [body for key, body in stored(reader).objects.items() if key.startswith("evidence/")]
    assert check_evidence(parse_evidence(evidence)).ours.size == 300


async def test_the_same_fork_is_kept_once() -> None:
    """Every run fails, and the evidence does not pile up."""
    reader = Reader(make_log(300))
    await reader.ratchet().advance()
    reader.log.become(reader.log.fork(200, *filler(500)))
    for hours in range(3):
        reader.now = reader.now.replace(hour=hours)
        with pytest.raises(ForkError):
            await reader.ratchet().advance()
    assert len([key for key in stored(reader).objects if key.startswith("evidence/")]) == 1


async def test_replay_of_an_old_head_is_told_and_not_believed() -> None:
    """It is of the same history; the newest that was verified stays the head."""
    reader = Reader(make_log(700))
    await reader.ratchet().advance()
    reader.log.note = reader.log.checkpoint(300)
    head = await reader.ratchet().advance()
    assert (head.tree, head.shown) == (reader.log.tree(700), reader.log.tree(300))
    assert head.note == reader.log.checkpoint(700) == stored(reader).objects[HEAD_KEY]


async def test_rollback_of_a_log_that_lost_its_newest_tiles() -> None:
    """The old head cannot be compared: the newest that was verified stays the head all the same."""
    reader = Reader(make_log(700))
    await reader.ratchet().advance()
    reader.log.entries = reader.log.entries[:300]
    reader.log.show(300)
    head = await reader.ratchet().advance()
    assert (head.tree.size, head.shown) == (700, reader.log.tree(300))


async def test_a_head_that_was_verified_without_witnesses_is_compared_and_not_believed_with_them() -> None:
    """The newest one was cosigned by nobody: under a policy the older one, which was, is the head."""
    reader = Reader(make_log(700))
    reader.log.note = reader.log.checkpoint(700, LOG_KEY)
    assert (await reader.ratchet(UNWITNESSED).advance()).tree.size == 700
    reader.log.note = reader.log.checkpoint(300)
    head = await reader.ratchet().advance()
    assert (head.tree, head.shown) == (reader.log.tree(300), reader.log.tree(300))
    reader.log.entries = reader.log.entries[:300]
    reader.storage = MemoryStorage({HEAD_KEY: stored(reader).objects[HEAD_KEY]})
    with pytest.raises(UpstreamNotFoundError):  # neither compared nor cosigned: nothing is left to believe
        await reader.ratchet().advance()


async def test_wrong_origin() -> None:
    """The checkpoint of another log, whoever signed it."""
    reader = Reader(make_log(300))
    reader.log.note = reader.log.checkpoint().replace(ORIGIN.encode(), b"other.example.org", 1)
    with pytest.raises(UpstreamProtocolError, match=r"the origin is 'other\.example\.org', expected"):
        await reader.ratchet().advance()


@pytest.mark.parametrize("signers", [(LOG_KEY, W1), (LOG_KEY,), (LOG_KEY, W1, STRANGER)])
async def test_stripped_cosignature_and_quorum_not_met(signers: Sequence[SignerKey]) -> None:
    """Both witnesses have to have cosigned; a stranger is none of them. Nothing is kept."""
    reader = Reader(make_log(300))
    reader.log.note = reader.log.checkpoint(300, *signers)
    with pytest.raises(SignatureError, match="do not meet the quorum: group both: "):
        await reader.ratchet().advance()
    assert stored(reader).objects == {}


async def test_a_head_that_the_log_did_not_sign() -> None:
    """Witnesses alone are no log."""
    reader = Reader(make_log(300))
    reader.log.note = reader.log.checkpoint(300, W1, W2)
    with pytest.raises(SignatureError, match="no trusted key signed"):
        await reader.ratchet().advance()


async def test_tiles_of_another_tree_are_no_evidence() -> None:
    """Nobody signed them: whoever serves them is wrong, and nothing is kept."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    reader.log.show(700)
    reader.log.bodies["/tile/0/002.p/188"] = bytes(188 * 32)
    with pytest.raises(ProofError, match="the log's tiles do not match its checkpoint of size 700"):
        await reader.ratchet().advance()
    assert list(stored(reader).objects) == [HEAD_KEY]


def test_an_empty_tree_with_a_root() -> None:
    """The root of nothing is known, and another one is a lie."""
    tree = make_log(3).tree()
    false = Checkpoint(tree.origin, 0, Hash(bytes(32)))
    with pytest.raises(ProofError, match="an empty tree has another root"):
        plan_comparison(tree, false).find_fork({})


async def test_verified_tiles_are_kept_and_not_asked_for_again() -> None:
    """The second comparison asks only for what changed."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    reader.log.show(650)
    await reader.ratchet().advance()
    assert sorted(reader.log.asked) == ["tile/0/001", "tile/0/002.p/138", "tile/1/000.p/2"]
    reader.log.asked.clear()
    reader.log.show(700)
    await reader.ratchet().advance()
    assert reader.log.asked == ["tile/0/002.p/188"]


async def test_a_damaged_tile_is_dropped_and_read_again() -> None:
    """A cache is never the reason why a log is called a liar."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    reader.log.show(650)
    await reader.ratchet().advance()
    (key,) = [key for key in stored(reader).objects if key.endswith("/tiles/1/000.p/2")]
    right = stored(reader).objects[key]
    stored(reader).set_bytes(key, bytes([right[0] ^ 1]) + right[1:])
    reader.log.show(700)
    assert (await reader.ratchet().advance()).tree.size == 700
    assert stored(reader).objects[key] == right
    stored(reader).set_bytes(key, right[:-1])
    reader.log.append(*filler(1))
    assert (await reader.ratchet().advance()).tree.size == 701


async def test_a_full_tile_that_stands_in_is_kept_without_what_no_root_vouched_for() -> None:
    """What is beyond the tree is cut off."""
    reader = Reader(make_log(700, shown=200))
    await reader.ratchet().advance()

    class Grown(FakeSumdb):
        async def read_tiles(self, tiles: Sequence[Tile]) -> dict[Tile, bytes]:
            assert tiles == (Tile(0, 0, 220),) or list(tiles) == [Tile(0, 0, 220)]
            return {Tile(0, 0, 256): self.tile(Tile(0, 0, 256))}

    grown = Grown(())
    grown.entries = reader.log.entries
    grown.show(220)
    reader.log = grown
    assert (await reader.ratchet().advance()).tree.size == 220
    (key,) = [key for key in stored(reader).objects if "/tiles/" in key]
    assert (key.rpartition("/tiles/")[2], stored(reader).objects[key]) == (
        "0/000.p/220",
        grown.tile(Tile(0, 0, 220)),
    )


async def test_a_damaged_head_is_an_error_that_says_what_to_do() -> None:
    """Going on without it would forget what the log once showed."""
    reader = Reader(make_log(300))
    await reader.ratchet().advance()
    stored(reader).set_bytes(HEAD_KEY, b"nothing\n")
    with pytest.raises(ConfigurationError, match=rf"state/{HEAD_KEY}, .* cannot be used: .* remove it"):
        await reader.ratchet().advance()


async def test_another_process_that_was_first_is_compared_with() -> None:
    """The swap is lost, the other's head is read, and ours goes on from it."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    racing = reader.storage = Racing(stored(reader).objects, [reader.log.checkpoint(500)])
    reader.log.show(700)
    assert (await reader.ratchet().advance()).tree.size == 700
    assert racing.objects[HEAD_KEY] == reader.log.checkpoint(700)


async def test_another_process_that_was_first_with_a_newer_head() -> None:
    """Then ours is the older one."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    racing = reader.storage = Racing(stored(reader).objects, [reader.log.checkpoint(700)])
    reader.log.show(500)
    head = await reader.ratchet().advance()
    assert (head.tree.size, head.shown) == (700, reader.log.tree(500))
    assert racing.objects[HEAD_KEY] == reader.log.checkpoint(700)


async def test_another_process_that_was_first_with_a_fork() -> None:
    """Of two runs that meet two histories at once, the second one sees it."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    fork = reader.log.fork(300, *filler(100))
    reader.storage = Racing(stored(reader).objects, [fork.checkpoint()])
    reader.log.show(700)
    with pytest.raises(ForkError):
        await reader.ratchet().advance()


async def test_processes_that_are_always_first() -> None:
    """It ends, and says why."""
    reader = Reader(make_log(700, shown=300))
    await reader.ratchet().advance()
    reader.storage = Racing(stored(reader).objects, [reader.log.checkpoint(301 + number) for number in range(9)])
    reader.log.show(700)
    with pytest.raises(StorageUnavailableError, match="5 times meanwhile"):
        await reader.ratchet().advance()
    assert ORIGIN in repr(reader.ratchet())


class Racing(MemoryStorage):
    """A storage in which another process is a moment faster, as often as it has a checkpoint."""

    def __init__(self, objects: dict[str, bytes], notes: list[bytes]) -> None:
        super().__init__(objects)
        self._notes = notes

    async def put(
        self,
        key: str,
        body: Body,
        *,
        if_absent: bool = False,
        if_match: str | None = None,
        content_type: str = "application/octet-stream",
    ) -> ObjectInfo:
        if key == HEAD_KEY and self._notes:
            self.set_bytes(key, self._notes.pop(0))
        return await super().put(key, body, if_absent=if_absent, if_match=if_match, content_type=content_type)
