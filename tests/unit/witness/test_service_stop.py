"""A witness that was stopped while it runs: nothing is signed any more, whatever is in work."""

from __future__ import annotations

import trio

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.note import parse_lines
from mirrorwitness.witness.protocol import Reason, format_sign_subtree
from mirrorwitness.witness.records import record_key
from tests.unit.witness.world import LOG, OURS, OURS_PQ, MeddledStorage, World, grow

RETIRED = ConfigurationError("the key w1 was retired")


async def test_a_request_that_reads_the_state_meanwhile() -> None:
    """It is refused, and nothing is written; a log that nobody knows is told so as before."""
    storage = MeddledStorage()
    world = World(storage=storage)
    await grow(await world.start(), 10)
    witness = await world.start()
    before = storage.objects

    async def meddle() -> None:
        await trio.lowlevel.checkpoint()
        witness.stop(RETIRED)

    witness._state.forget(LOG.origin)
    storage.before("read", record_key(LOG.origin), meddle)
    for _ in range(2):
        answer = await witness.add_checkpoint(LOG.request(10, 11))
        assert (answer.status, answer.reason, answer.retry_after) == (503, Reason.STOPPED, None)
        assert answer.body == b"this witness signs nothing more: the key w1 was retired\n"
    assert (storage.objects, witness.counts) == (before, {"stopped": 2})
    assert witness.stopped is RETIRED
    stranger = LOG.request(0, 5).replace(LOG.origin.encode(), b"nobody")
    assert (await witness.add_checkpoint(stranger)).reason is Reason.UNKNOWN_LOG


async def test_subtrees() -> None:
    """Not signed either."""
    world = World(keys=(OURS, OURS_PQ))
    witness = await world.start()
    (answer,) = await grow(witness, 10)
    note = LOG.note(10, more=parse_lines(answer.body))
    request = format_sign_subtree(4, 8, LOG.root(4, 8), LOG.subtree_proof(4, 8, 10), note)
    assert (await witness.sign_subtree(request)).status == 200
    witness.stop(RETIRED)
    answer = await witness.sign_subtree(request)
    assert (answer.status, answer.reason) == (503, Reason.STOPPED)
