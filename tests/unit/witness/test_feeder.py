"""Feeding logs to a witness: growth, forks and wrong tiles, over HTTP on loopback."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mirrorwitness.errors import ProofError, SignatureError
from mirrorwitness.tlog.checkpoint import open_checkpoint
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence
from mirrorwitness.tlog.merkle import Hash, check_consistency, nodes_needed, plan_consistency
from mirrorwitness.tlog.tiles import Dialect, tiles_to_trust
from mirrorwitness.witness.feeder import Action, plan_proof
from mirrorwitness.witness.lab import add_lines, sign_line
from mirrorwitness.witness.records import public_key
from tests.fakes.registry_server import Fault
from tests.unit.witness.feeding import LAB, REFRESH, paths, scene
from tests.unit.witness.log_server import make_lab
from tests.unit.witness.world import OURS


@pytest.mark.parametrize("dialect", list(Dialect))
@pytest.mark.parametrize(
    ("old", "new"), [(1, 2), (100, 256), (200, 300), (256, 257), (256, 512), (512, 1000), (700, 3000), (2999, 3000)]
)
async def test_growth_reads_the_tiles_of_the_proof_and_nothing_else(dialect: Dialect, old: int, new: int) -> None:
    """Cosigned, published, and every request accounted for."""
    async with scene(old, dialect=dialect) as found:
        found.server.grow(new)
        polled = await found.feeder.poll()
        assert (polled.action, polled.before, polled.after, polled.text) == (Action.COSIGNED, old, new, "")
        assert sorted(found.server.asked) == sorted(paths(dialect, old, new))
        assert polled.checkpoint == found.world.storage.objects[public_key(LAB.origin)]
        assert [item.timestamp for item in found.cosignatures(polled.checkpoint)] == [found.world.clock.at]


async def test_the_first_poll_needs_no_proof() -> None:
    """Nothing was cosigned before: the head alone is read."""
    async with scene() as found:
        found.server.grow(700)
        assert await found.poll() == (Action.COSIGNED, 0, 700)
        assert found.server.asked == ["/checkpoint"]


async def test_an_empty_log_is_cosigned_once() -> None:
    """Size 0 is a tree too; it grows from there without a proof."""
    async with scene() as found:
        assert await found.poll() == (Action.COSIGNED, 0, 0)
        assert await found.poll() == (Action.UNCHANGED, 0, 0)
        found.server.grow(5)
        assert await found.poll() == (Action.COSIGNED, 0, 5)
        assert found.server.asked == ["/checkpoint"] * 3


async def test_nothing_new_is_cosigned_again_only_after_a_while() -> None:
    """Young: only the head is read. An hour old: the same tree with a newer time."""
    async with scene(300) as found:
        found.world.clock.at += REFRESH - 1
        assert await found.poll() == (Action.UNCHANGED, 300, 300)
        found.world.clock.at += 1
        polled = await found.feeder.poll()
        assert (polled.action, polled.before, polled.after) == (Action.REFRESHED, 300, 300)
        assert [item.timestamp for item in found.cosignatures(polled.checkpoint)] == [found.world.clock.at]
        assert await found.poll() == (Action.UNCHANGED, 300, 300)
        assert found.server.asked == ["/checkpoint"] * 3


async def test_a_fork_of_the_same_size() -> None:
    """The witness decides, and keeps both; the next poll does not bring it the same fork again."""
    async with scene(300) as found:
        found.server.grow(300, LAB.fork(7))
        assert [await found.poll() for _ in range(3)] == [(Action.FORKED, 300, 300)] * 3
        assert "another tree of size 300" in (await found.feeder.poll()).text
        assert found.witness.counts["other-root"] == 1
        assert len(found.world.forks) == 1
        assert found.forks == []


@pytest.mark.parametrize("old", [1, 255, 256, 300, 1024])
async def test_a_fork_that_grew(old: int) -> None:
    """Another history under a signed root: what is kept proves it to anybody, and is kept once."""
    async with scene(old) as found:
        fork = LAB.fork(old // 2)
        found.server.grow(1500, fork)
        polled = await found.feeder.poll()
        assert (polled.action, polled.before, polled.after) == (Action.FORKED, old, old)
        assert polled.text == (
            f"the log signed a tree of size 1500 whose first {old} entries have the root {fork.root(old).hex()}, and "
            f"{LAB.root(old).hex()} was cosigned"
        )
        (kept,) = found.forks
        other, *proof = [Hash(item) for item in kept.proof]
        ours, theirs = (
            open_checkpoint(note, found.server.log.keys, origin=LAB.origin) for note in (kept.ours, kept.theirs)
        )
        assert (ours.checkpoint.size, ours.checkpoint.root) == (old, LAB.root(old))
        assert other == fork.root(old)
        check_consistency(proof, old_size=old, old_root=other, new_size=1500, new_root=theirs.checkpoint.root)
        assert len(found.cosignatures(kept.ours)) == 1
        file = parse_evidence(
            make_evidence(
                log_keys=found.server.log.keys,
                witness_keys=[OURS.verifier],
                origin=kept.origin,
                ours=kept.ours,
                theirs=kept.theirs,
                proof=kept.proof,
                seen="",
            )
        )
        assert check_evidence(file).theirs == theirs.checkpoint
        with pytest.raises(SignatureError, match="no fork"):
            check_evidence(replace(file, proof=()))
        with pytest.raises(ProofError):
            check_evidence(replace(file, proof=file.proof[:-1]))
        found.server.asked.clear()
        assert await found.poll() == (Action.FORKED, old, old)
        assert (found.server.asked, found.witness.counts["proof"], len(found.forks)) == (["/checkpoint"], 1, 1)


async def test_another_fork_of_a_forked_log_is_a_fork_again() -> None:
    """What is remembered is one head, not a verdict on the log; and what goes on from ours is still cosigned."""
    async with scene(300) as found:
        for lab in (LAB.fork(7), LAB.fork(8)):
            found.server.grow(400, lab)
            assert await found.poll() == (Action.FORKED, 300, 300)
        assert len(found.forks) == 2
        found.server.grow(400, LAB)
        assert await found.poll() == (Action.COSIGNED, 300, 400)


@pytest.mark.parametrize("path", ["/tile/0/001", "/tile/0/003.p/232", "/tile/1/000.p/3"])
async def test_replaced_bytes_of_a_tile(path: str) -> None:
    """One bit in any of the tiles: an error of whoever serves them, nothing is cosigned, and no fork is claimed."""
    async with scene(300) as found:
        found.server.grow(1000)
        found.server.fail(path, Fault.wrong_bytes())
        polled = await found.feeder.poll()
        assert (polled.action, polled.before, polled.after) == (Action.UNVERIFIED, 300, 300)
        assert polled.text.startswith("the log's tiles do not match its head of size 1000: ")
        assert (found.witness.counts, found.forks) == ({"cosigned": 1}, [])
        assert path in found.server.asked
        found.server.heal()
        assert await found.poll() == (Action.COSIGNED, 300, 1000)


async def test_tiles_of_another_history_under_an_honest_head() -> None:
    """A cache that serves a fork's tiles: no evidence against the log."""
    async with scene(300) as found:
        found.server.grow(1000, LAB.fork(7))
        found.server.bodies["/checkpoint"] = LAB.checkpoint(1000)
        assert await found.poll() == (Action.UNVERIFIED, 300, 300)
        assert (found.forks, found.world.forks) == ([], [])


async def test_a_head_with_a_bad_signature() -> None:
    """A line of the log's key that does not verify, and a head that it did not sign at all: no mere hiccup."""
    async with scene(300) as found:
        found.server.bodies["/checkpoint"] = LAB.sign(LAB.text(400), make_lab("b").keys[0])
        assert await found.poll() == (Action.UNVERIFIED, 300, 300)
        found.server.bodies["/checkpoint"] = LAB.checkpoint(400).replace(b"\n400\n", b"\n401\n")
        assert await found.poll() == (Action.UNVERIFIED, 300, 300)
        assert found.witness.counts == {"cosigned": 1}


async def test_an_empty_tree_with_a_root() -> None:
    """A log that signs what no tree can be: refused by the witness, and no matter of a next try."""
    async with scene() as found:
        text = LAB.text(0).replace(LAB.text(0).split(b"\n")[2], LAB.text(1).split(b"\n")[2])
        found.server.bodies["/checkpoint"] = LAB.sign(text)
        assert await found.poll() == (Action.UNVERIFIED, 0, 0)
        assert found.witness.counts == {"empty-root": 1}


async def test_a_head_that_carries_our_own_newer_line() -> None:
    """Our state is older than what we signed (P7): the log is halted, and stays so for the next poll."""
    async with scene(300) as found:
        text = LAB.text(400)
        line = sign_line(OURS, text, int(found.world.clock.at))
        found.server.grow(400)
        found.server.bodies["/checkpoint"] = add_lines(LAB.sign(text), line)
        polled = await found.feeder.poll()
        assert polled.action is Action.ROLLED_BACK
        assert "400" in polled.text
        found.server.asked.clear()
        polled = await found.feeder.poll()
        assert (polled.action, found.server.asked) == (Action.ROLLED_BACK, [])


def test_thirty_five_million_entries_need_seven_tiles() -> None:
    """The size of Go's own log: three of the right edge above each other, and at most one path of four down to ours."""
    old = 35_225_469
    for new in (old + 1, old + 300, old + 100_000, 2 * old, 1_000_000_000):
        plan = plan_proof(old, new)
        levels = -(-new.bit_length() // 8)
        assert len(plan.tiles) <= 2 * levels - 1 <= 7
        assert sum(tile.byte_size for tile in plan.tiles) <= 7 * 8192
    assert plan_proof(old, old).tiles == plan_proof(0, old).tiles == ()


@given(st.integers(1, 2**63 - 1), st.integers(1, 2**63 - 1))
def test_the_root_at_our_size_costs_no_tile(one: int, other: int) -> None:
    """What shows a fork that grew is in the tiles that the proof needs anyway."""
    old, new = sorted((one, other))
    spans = plan_consistency(old, new)
    plan = plan_proof(old, new)
    assert plan.spans == tuple(spans)
    assert set(plan.tiles) == (set(tiles_to_trust(nodes_needed(spans), new)) if spans else set())
