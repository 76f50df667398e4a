"""`sign-subtree`: a cosignature without a time on a part of a tree that this witness cosigned, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mirrorwitness.errors import StorageUnavailableError
from mirrorwitness.tlog.cosignature import Statement, check_cosignatures, timestamp_of
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from mirrorwitness.tlog.note import parse_lines, parse_note
from mirrorwitness.witness.protocol import MAX_BODY_BYTES, Answer, Reason, format_sign_subtree
from mirrorwitness.witness.startup import retire_keys
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    NEXT,
    OTHER,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    World,
    cosign,
    forge,
    grow,
    make_note,
    sign,
)

if TYPE_CHECKING:
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.witness.service import Witness

TEXT = "text/plain; charset=utf-8"
FORK = LOG.fork(6)
BOTH = (OURS, OURS_PQ)


async def make_witness(*sizes: int) -> tuple[World, Witness]:
    """Return a witness with keys of both types that cosigned some sizes."""
    world = World(keys=BOTH)
    witness = await world.start()
    await grow(witness, *(sizes or (14,)))
    return world, witness


def request(world: World, start: int, end: int, *, size: int = 14) -> bytes:
    """Ask for a part of the tree that is published."""
    proof = LOG.subtree_proof(start, end, size)
    published = world.published()
    return format_sign_subtree(
        start, end, LOG.root(start, end), proof, make_note(LOG.tree(size), *published.signatures)
    )


@pytest.mark.parametrize(("start", "end"), [(0, 14), (0, 13), (8, 13), (8, 14), (12, 13), (13, 14), (4, 8), (0, 0)])
async def test_a_subtree_is_cosigned(start: int, end: int) -> None:
    """One line of the ML-DSA-44 key, with the time 0, over exactly that range; nothing is written for it."""
    world, witness = await make_witness()
    before = world.copy()
    answer = await witness.sign_subtree(request(world, start, end))
    assert (answer.status, answer.content_type, answer.reason) == (200, TEXT, None)
    (line,) = parse_lines(answer.body)
    part = Statement(LOG.origin, start, end, LOG.root(start, end))
    (found,) = check_cosignatures([line], [OURS_PQ.verifier], part)
    assert (found.timestamp, timestamp_of(line)) == (0, 0)
    assert world.copy() == before
    assert witness.counts == {"cosigned": 2}


async def test_a_checkpoint_that_is_not_the_latest_any_more() -> None:
    """What we cosigned once is enough, also with the line of one key alone, and only our lines on it."""
    world, witness = await make_witness()
    older = world.published()
    await grow(witness, 30, old=14)
    for line in older.signatures[1:]:
        body = format_sign_subtree(8, 13, LOG.root(8, 13), LOG.subtree_proof(8, 13, 14), make_note(LOG.tree(14), line))
        assert (await witness.sign_subtree(body)).status == 200


OWN = make_note(LOG.tree(14), cosign(OURS, LOG.tree(14).text, START))
PART = LOG.root(8, 13)


def _on_14(*, hash_of: Hash = PART, note: bytes = OWN) -> bytes:
    return format_sign_subtree(8, 13, hash_of, LOG.subtree_proof(8, 13, 14), note)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, Reason.MALFORMED),
        (b"x" * (MAX_BODY_BYTES + 1), 413, Reason.TOO_LARGE),
        (_on_14().replace(b"subtree 8 13", b"subtree 9 13"), 400, Reason.MALFORMED),
        (_on_14().replace(b"subtree 8 13", b"subtree 8 15"), 400, Reason.MALFORMED),
        (_on_14(note=OTHER.note(14, more=[cosign(OURS, OTHER.tree(14).text, START)])), 404, Reason.UNKNOWN_LOG),
        (_on_14(note=LOG.note(14)), 403, Reason.NOT_SIGNED),
        (_on_14(note=make_note(LOG.tree(14), cosign(STRANGER, LOG.tree(14).text, START))), 403, Reason.NOT_SIGNED),
        (_on_14(note=make_note(LOG.tree(14), cosign(OURS, LOG.tree(13).text, START))), 403, Reason.NOT_SIGNED),
        (
            _on_14(
                note=make_note(
                    LOG.tree(14),
                    cosign(OURS, LOG.tree(14).text, START),
                    forge(cosign(OURS_PQ, LOG.tree(14).text, START)),
                )
            ),
            403,
            Reason.NOT_SIGNED,
        ),
        (_on_14(hash_of=LOG.root(8, 12)), 422, Reason.PROOF),
        (_on_14(hash_of=EMPTY_ROOT), 422, Reason.PROOF),
    ],
)
async def test_refusals(body: bytes, status: int, reason: Reason) -> None:
    """Malformed, no subtree, an unknown log, not cosigned by us, or not proven: with the specification's statuses."""
    _, witness = await make_witness()
    answer = await witness.sign_subtree(body)
    assert (answer.status, answer.content_type, answer.reason) == (status, TEXT, reason)
    assert answer.body.endswith(b"\n")


async def test_fork_of_what_was_cosigned() -> None:
    """The log's signature alone is not enough, and a part of a fork is none of our tree."""
    world, witness = await make_witness()
    theirs = FORK.note(14)
    body = format_sign_subtree(8, 13, FORK.root(8, 13), FORK.subtree_proof(8, 13, 14), theirs)
    assert (await witness.sign_subtree(body)).status == 403
    ours = make_note(LOG.tree(14), *world.published().signatures)
    body = format_sign_subtree(8, 13, FORK.root(8, 13), FORK.subtree_proof(8, 13, 14), ours)
    assert (await witness.sign_subtree(body)).status == 422


async def test_a_retired_key_vouches_for_nothing() -> None:
    """Who stole it can cosign a fork with it; the new key does not follow."""
    world = World(keys=(NEXT,))
    await grow(await world.start(NEXT), 14)
    await world.start(NEXT, OURS_PQ)
    await retire_keys(world.storage, None, [NEXT.verifier])
    witness = await world.start(OURS_PQ)
    stolen = make_note(FORK.tree(14), sign(LOG_KEY, FORK.tree(14).text), cosign(NEXT, FORK.tree(14).text, START))
    body = format_sign_subtree(8, 13, FORK.root(8, 13), FORK.subtree_proof(8, 13, 14), stolen)
    assert (await witness.sign_subtree(body)).status == 403


async def test_without_a_key_that_can() -> None:
    """Ed25519 cosigns checkpoints only; an answer without a line would be none."""
    world = World()
    witness = await world.start()
    await grow(witness, 14)
    answer = await witness.sign_subtree(request(world, 8, 13))
    assert answer == Answer(403, b"this witness has no key that cosigns subtrees\n", TEXT, Reason.NOT_SIGNED)


async def test_a_disabled_log() -> None:
    """Nothing is signed for it, of this kind neither."""
    world, _ = await make_witness()
    world.logs = (replace(LOG.witnessed, is_disabled=True),)
    assert (await (await world.start()).sign_subtree(request(world, 8, 13))).status == 404


async def test_a_key_that_does_not_answer() -> None:
    """A key in a service may be away: 503, and the next request goes on."""
    world, _ = await make_witness()

    class Away:
        verifier = OURS_PQ.verifier
        is_away = True

        async def sign(self, message: bytes) -> bytes:
            if self.is_away:
                raise StorageUnavailableError("no answer")
            return OURS_PQ.sign(message)

    signer = Away()
    witness = await world.start()
    witness._signers = [signer]
    for ask in (witness.sign_subtree, witness.add_checkpoint):
        body = request(world, 8, 13) if ask == witness.sign_subtree else LOG.request(14, 20)
        answer = await ask(body)
        assert (answer.status, answer.reason, answer.retry_after) == (503, Reason.STORAGE, 5)
    assert parse_note(world.storage.objects[next(iter(world.copy("witness/")))]).text == LOG.tree(14).text
    signer.is_away = False
    assert (await witness.sign_subtree(request(world, 8, 13))).status == 200
    await grow(witness, 20, old=14)
