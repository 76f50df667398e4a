"""Tickets: an upload towards a checkpoint that the mirror does not remember any more can be finished."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.logmirror.record import KEPT_PENDINGS
from mirrorwitness.logmirror.ticket import make_ticket, open_ticket
from tests.unit.logmirror.world import (
    LAB,
    OTHER_LAB,
    MirrorWorld,
    body_of,
    check_copy,
    info_of,
    lines_of,
    pending,
    post,
)

LATER = tuple(range(1000, 1000 + KEPT_PENDINGS))
"""So many sizes that none before them is remembered."""


async def forgotten(world: MirrorWorld, *sizes: int) -> bytes:
    """Bring two packages towards the first size, and let so many checkpoints come that it is forgotten."""
    mirror = await world.start()
    first = sizes[0] if sizes else 600
    await pending(mirror, first)
    info = info_of(await post(mirror, body_of(0, first, packages=2)), 202)
    assert (info.size, info.next_entry) == (first, 512)
    await pending(mirror, *LATER, old=first)
    return info.ticket


async def test_a_forgotten_checkpoint_needs_its_ticket() -> None:
    """Without it the client is sent to the current one; with it, the upload ends where it was to end."""
    world = MirrorWorld()
    ticket = await forgotten(world)
    mirror = await world.start()
    info = info_of(await post(mirror, body_of(512, 600)))
    assert (info.size, info.next_entry) == (LATER[-1], 512)
    lines_of(await post(mirror, body_of(512, 600, ticket=ticket)), 600)
    check_copy(world, 600)
    lines_of(await post(mirror, body_of(600, LATER[-1])), LATER[-1])
    check_copy(world, LATER[-1])


async def test_a_ticket_is_good_after_a_restart_and_at_another_replica() -> None:
    """It rests on a secret in the state, not in the process."""
    world = MirrorWorld()
    ticket = await forgotten(world)
    first, second = await world.start(), await world.start()
    lines_of(await post(second, body_of(512, 600, ticket=ticket)), 600)
    lines_of(await post(first, body_of(600, 600, ticket=ticket)), 600)


async def test_a_last_pending_checkpoint_is_remembered_without_a_ticket() -> None:
    """The last several sizes are accepted as they are."""
    world = MirrorWorld()
    mirror = await world.start()
    sizes = range(300, 300 + KEPT_PENDINGS)
    await pending(mirror, *sizes)
    lines_of(await post(mirror, body_of(0, sizes[0])), sizes[0])
    check_copy(world, sizes[0])


async def test_attack_tickets_that_are_not_ours() -> None:
    """Changed by one bit, cut short, of another log, or with a checkpoint that the log signed and nobody proved."""
    world = MirrorWorld()
    ticket = await forgotten(world)
    mirror = await world.start()
    await pending(mirror, 600, *LATER, lab=OTHER_LAB)
    other = info_of(await post(mirror, body_of(0, 1, lab=OTHER_LAB))).ticket
    forged = make_ticket(bytes(32), LAB.origin, LAB.fork(3).checkpoint(600))
    flipped = [ticket[:at] + bytes([ticket[at] ^ 1]) + ticket[at + 1 :] for at in (0, 1, 32, 33, len(ticket) - 1)]
    for bad in (*flipped, ticket[:-1], ticket[:33], ticket[:5], b"", other, forged):
        info = info_of(await post(mirror, body_of(512, 600, ticket=bad)))
        assert (info.size, info.next_entry) == (LATER[-1], 512)
    assert world.published() is None


async def test_attack_a_ticket_does_not_rewind() -> None:
    """A good ticket for a size below the mirror checkpoint is a 409."""
    world = MirrorWorld()
    ticket = await forgotten(world)
    mirror = await world.start()
    lines_of(await post(mirror, body_of(512, LATER[-1])), LATER[-1])
    info = info_of(await post(mirror, body_of(600, 600, ticket=ticket)))
    assert (info.size, info.next_entry) == (LATER[-1], LATER[-1])
    assert world.size() == LATER[-1]


async def test_a_ticket_is_renewed_while_entries_are_missing() -> None:
    """Interrupted again, or begun at a wrong entry, the client still goes on towards its own size."""
    world = MirrorWorld()
    ticket = await forgotten(world, 900)
    mirror = await world.start()
    info = info_of(await post(mirror, body_of(513, 900, ticket=ticket)))
    assert (info.size, info.next_entry) == (900, 512)
    info = info_of(await post(mirror, body_of(512, 900, ticket=info.ticket, packages=1)), 202)
    assert (info.size, info.next_entry) == (900, 768)
    lines_of(await post(mirror, body_of(768, 900, ticket=info.ticket)), 900)
    check_copy(world, 900)


async def test_a_client_that_was_overtaken_is_sent_to_the_current_checkpoint() -> None:
    """Told to begin above its end it could not go on."""
    world = MirrorWorld()
    ticket = await forgotten(world)
    mirror = await world.start()
    body = body_of(512, LATER[-1], packages=1)

    async def other(number: int) -> None:
        if number == 1:
            assert info_of(await post(mirror, body), 202).next_entry == 768

    whole = body_of(256, 600, ticket=ticket, packages=1)
    info = info_of(await post(mirror, whole, b"\0", before=other), 202)
    assert (info.size, info.next_entry) == (LATER[-1], 768)
    info = info_of(await post(mirror, body_of(1024, 1024, ticket=ticket)))
    assert (info.size, info.next_entry) == (LATER[-1], 768)


@given(secret=st.binary(min_size=32, max_size=32), origin=st.text(max_size=20), note=st.binary(max_size=200))
def test_tickets_open_under_their_own_secret_and_log(secret: bytes, origin: str, note: bytes) -> None:
    """And under nothing else."""
    ticket = make_ticket(secret, origin, note)
    assert open_ticket(secret, origin, ticket) == note
    assert open_ticket(secret, f"{origin}x", ticket) is None
    assert open_ticket(bytes([secret[0] ^ 1]) + secret[1:], origin, ticket) is None


@pytest.mark.parametrize("size", [65_535 - 33, 65_535 - 32])
def test_a_note_that_no_ticket_can_hold_gets_an_empty_one(size: int) -> None:
    """Which is allowed, and opens nothing."""
    ticket = make_ticket(bytes(32), "o", bytes(size))
    assert len(ticket) in {0, 65_535}
    assert open_ticket(bytes(32), "o", ticket) == (bytes(size) if ticket else None)
