"""add-checkpoint of a log mirror: what becomes pending, and what stops a log for good."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import PreconditionFailedError, ProofError, RolledBackError, StorageUnavailableError
from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.paths import checkpoint_key
from mirrorwitness.logmirror.roles import LOG_MIRROR, RoleView
from mirrorwitness.tlog.checkpoint import open_checkpoint, origin_hash
from mirrorwitness.tlog.evidence import check_evidence, make_evidence, parse_evidence
from mirrorwitness.tlog.keys import make_signer_key
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.witnessing import SIZE_TYPE, format_add_checkpoint
from mirrorwitness.witness.lab import add_lines, sign_line
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, Reason
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import open_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.unit.logmirror.world import (
    LAB,
    OURS,
    MirrorWorld,
    add,
    body_of,
    check_copy,
    fill,
    lines_of,
    next_of,
    pending,
    post,
)
from tests.unit.witness.log_server import make_lab
from tests.unit.witness.world import forge


async def test_answers_are_those_of_a_witness() -> None:
    """404, 400, 409 with the size, 422: as `mirrorwitness.witness.decision` has it."""
    mirror = await MirrorWorld().start()
    await pending(mirror, 300, 600)
    stale = await mirror.add_checkpoint(add(300, 700))
    assert (stale.status, stale.body, stale.content_type) == (409, b"600\n", SIZE_TYPE)
    assert (await mirror.add_checkpoint(add(600, 600))).status == 200
    assert (await mirror.add_checkpoint(format_add_checkpoint(600, [], LAB.checkpoint(700)))).status == 422
    assert (await mirror.add_checkpoint(format_add_checkpoint(700, [], LAB.checkpoint(600)))).status == 400
    assert (await mirror.add_checkpoint(b"old 600\n\n")).status == 400
    assert (await mirror.add_checkpoint(bytes(MAX_BODY_BYTES + 1))).status == 413
    stranger = LAB.fork(0)
    stranger.origin = "stranger.example"
    assert (await mirror.add_checkpoint(add(0, 3, stranger))).status == 404
    assert mirror.counts["add-checkpoint", 200] == 3


async def test_attack_fork_is_refused_and_proven() -> None:
    """Another tree of the pending size is a fork: 422, and both notes are told, which prove it."""
    world = MirrorWorld()
    mirror = await world.start()
    await pending(mirror, 600)
    fork = LAB.fork(300)
    assert (await mirror.add_checkpoint(format_add_checkpoint(600, [], fork.checkpoint(600)))).status == 422
    assert (await mirror.add_checkpoint(add(600, 700, fork))).status == 422
    (told,) = world.forks
    keys = [key.verifier for key in LAB.keys]
    body = make_evidence(
        log_keys=keys,
        witness_keys=[OURS.verifier],
        origin=told.origin,
        ours=told.ours,
        theirs=told.theirs,
        proof=told.proof,
        seen="2026-11-26T00:00:00Z",
    )
    found = check_evidence(parse_evidence(body))
    assert (found.ours.root, found.theirs.root) == (LAB.root(600), fork.root(600))
    lines_of(await post(mirror, body_of(0, 600)), 600)


async def test_a_fork_from_the_mirror_checkpoint_is_refused() -> None:
    """Also where what was pending is lost: what was cosigned stands."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 600)
    world.storage.remove(world.state_key)
    again = await world.start()
    assert (await again.add_checkpoint(add(600, 700, LAB.fork(300)))).status == 422
    assert (await again.add_checkpoint(add(0, 700, LAB.fork(300)))).status == 409
    await pending(again, 700, old=600)


async def test_attack_forged_line_of_our_own_is_not_kept() -> None:
    """A line with our name and ID that does not verify is passed over, and never stored or served."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    forged = forge(sign_line(OURS, LAB.text(600), 7))
    note = add_lines(LAB.checkpoint(600), forged)
    assert (await mirror.add_checkpoint(format_add_checkpoint(300, LAB.proof(300, 600), note))).status == 200
    lines_of(await post(mirror, body_of(300, 600)), 600)
    check_copy(world, 600)
    assert forged not in parse_note(world.storage.objects[checkpoint_key(LAB.origin)]).signatures
    again = await world.start()
    lines_of(await post(again, body_of(600, 600)), 600)


async def test_attack_restored_state_is_found_by_our_own_line() -> None:
    """A cosignature of ours on a tree that the state does not know halts the log for good (P7)."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    copy = dict(world.storage.objects)
    await fill(mirror, 600, start=300)
    newest = world.storage.objects[checkpoint_key(LAB.origin)]
    for key in world.storage.objects:
        world.storage.remove(key)
    for key, body in copy.items():
        world.storage.set_bytes(key, body)
    again = await world.start()
    given = await again.add_checkpoint(format_add_checkpoint(300, LAB.proof(300, 600), newest))
    assert given.status == 503
    assert (await again.add_checkpoint(add(300, 700))).status == 503
    assert b"logmirror adopt" in (await post(again, body_of(300, 300))).body
    with pytest.raises(RolledBackError):
        await world.start()


async def test_attack_our_own_line_is_not_forgotten_where_the_state_cannot_be_read() -> None:
    """A storage that fails just then must not be how a restored state gets away with it."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    copy = dict(world.storage.objects)
    await fill(mirror, 600, start=300)
    newest = world.storage.objects[checkpoint_key(LAB.origin)]
    for key in world.storage.objects:
        world.storage.remove(key)
    for key, body in copy.items():
        world.storage.set_bytes(key, body)
    again = await world.start()
    world.storage.fail_before("read", "state/logmirror/logs/*", StorageUnavailableError("down"), times=1)
    body = format_add_checkpoint(300, LAB.proof(300, 600), newest)
    assert (await again.add_checkpoint(body)).reason is Reason.STORAGE
    fork = LAB.fork(400)
    assert (await again.add_checkpoint(add(300, 500, fork))).reason is Reason.ROLLED_BACK
    with pytest.raises(RolledBackError):
        await world.start()


async def test_attack_restored_state_is_found_by_what_is_published() -> None:
    """With the state alone restored, the published checkpoint is ahead of it: no start."""
    world = MirrorWorld()
    mirror = await world.start()
    await fill(mirror, 300)
    copy = {key: body for key, body in world.storage.objects.items() if key.startswith("state/")}
    await fill(mirror, 600, start=300)
    for key, body in copy.items():
        world.storage.set_bytes(key, body)
    with pytest.raises(RolledBackError, match="restored from an older copy"):
        await world.start()


async def test_attack_restored_storage_is_found_by_the_anchor() -> None:
    """With the whole storage restored, the anchor is ahead of it: no start."""
    world = MirrorWorld(anchor=MemoryStorage())
    mirror = await world.start()
    await fill(mirror, 300)
    copy = dict(world.storage.objects)
    await fill(mirror, 600, start=300)
    for key in world.storage.objects:
        world.storage.remove(key)
    for key, body in copy.items():
        world.storage.set_bytes(key, body)
    with pytest.raises(RolledBackError, match="the anchor"):
        await world.start()


async def test_a_lost_record_of_what_was_cosigned_is_found() -> None:
    """Something is published, and no state: no start."""
    world = MirrorWorld()
    await fill(await world.start(), 300)
    for key in [key for key in world.storage.objects if key.startswith("state/logmirror/logs/")]:
        world.storage.remove(key)
    with pytest.raises(RolledBackError, match="no state"):
        await world.start()


async def test_clock_that_stepped_back_is_waited_for() -> None:
    """A cosignature is never older than the one before; some seconds are overlooked."""
    world = MirrorWorld()
    mirror = await world.start()
    first = lines_of(await fill(mirror, 300), 300)[0].timestamp
    world.clock.at -= 3
    assert lines_of(await post(mirror, body_of(300, 300)), 300)[0].timestamp == first
    world.clock.at -= 60
    assert (await post(mirror, body_of(300, 300))).status == 503


@pytest.mark.parametrize("operation", ["read", "put"])
async def test_storage_that_does_not_answer_is_a_503(operation: str) -> None:
    """And the next try is as good as the first."""
    world = MirrorWorld()
    mirror = await world.start()
    down = StorageUnavailableError("down")
    world.storage.fail_before("read" if operation == "read" else "put", world.state_key, down)
    given = await mirror.add_checkpoint(add(0, 300))
    assert (given.status, given.retry_after) == (503, 5)
    await pending(mirror, 300)


async def test_lost_answer_of_the_storage_is_read_back() -> None:
    """The pending checkpoint was written and the answer lost: the client is told the size, and goes on."""
    world = MirrorWorld()
    mirror = await world.start()
    world.storage.fail_after("put", world.state_key, StorageUnavailableError("lost"))
    assert (await mirror.add_checkpoint(add(0, 300))).status == 503
    assert (await mirror.add_checkpoint(add(0, 300))).status == 409
    lines_of(await post(mirror, body_of(0, 300)), 300)
    assert next_of(world) == 300


async def test_of_two_trees_of_one_size_one_is_cosigned() -> None:
    """Whoever asks for the other one is refused by the cosigner itself."""
    world = MirrorWorld()
    await fill(await world.start(), 300)
    opened = open_checkpoint(LAB.fork(3).checkpoint(300), [LAB.keys[0].verifier], origin=LAB.origin)
    with pytest.raises(ProofError, match="was signed"):
        await (await make_cosigner(world)).cosign(opened)


async def test_a_cosigner_that_loses_every_swap_gives_up() -> None:
    """Nothing of it is valid, and nothing is answered."""
    world = MirrorWorld()
    await fill(await world.start(), 300)
    world.storage.fail_before("put", "state/logmirror/logs/*", PreconditionFailedError("lost"), times=9)
    opened = open_checkpoint(LAB.checkpoint(400), [LAB.keys[0].verifier], origin=LAB.origin)
    with pytest.raises(StorageUnavailableError, match="faster"):
        await (await make_cosigner(world)).cosign(opened)
    assert world.size() == 300


async def make_cosigner(world: MirrorWorld) -> Cosigner:
    """Return another replica's cosigner."""
    view = RoleView(world.storage, LOG_MIRROR, [origin_hash(LAB.origin)])
    own = await open_identity(view, None, [OURS.verifier])
    state = WitnessState(storage=view, anchor=None, own=own)
    cosigner = Cosigner(state=state, signers=[LocalSigner(OURS)], own=own, now=world.clock)
    assert repr(cosigner) == f"<Cosigner {OURS.name}>"
    return cosigner


async def test_what_an_older_key_of_the_log_signed_is_not_cosigned() -> None:
    """The log changed its key: the client is sent to a checkpoint that the new one signed, once there is one."""
    old, new = make_lab("changing"), make_lab("changing")
    new.keys = (make_signer_key(old.origin, bytes([5] * 32)),)
    world = MirrorWorld(labs=(old,))
    await pending(await world.start(), 300, lab=old)
    world.labs = (new,)
    mirror = await world.start()
    assert (await post(mirror, body_of(0, 300, lab=new))).status == 409
    await pending(mirror, 400, old=300, lab=new)
    lines_of(await post(mirror, body_of(0, 400, lab=new)), 400, lab=new)
