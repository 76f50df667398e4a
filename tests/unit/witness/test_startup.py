"""Whether a witness may start on a storage: whose it is, rotation, retired keys, and state that was lost (P7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest
import trio

from mirrorwitness.errors import ConfigurationError, PreconditionFailedError, RolledBackError, StorageUnavailableError
from mirrorwitness.witness import startup
from mirrorwitness.witness.records import (
    IDENTITY_KEY,
    PUBLIC_PREFIX,
    RECORD_PREFIX,
    Identity,
    public_key,
    record_key,
)
from mirrorwitness.witness.startup import check_identity, check_states, open_identity, restore_identity, retire_keys
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.unit.witness.world import LOG, NEXT, OTHER, OURS, OURS_PQ, STRANGER, MeddledStorage, World, grow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from mirrorwitness.storage import Listing
    from mirrorwitness.tlog.keys import SignerKey, VerifierKey

A, B, PQ = OURS.verifier, NEXT.verifier, OURS_PQ.verifier
WAYS_OUT = r"witness adopt`\), or give up the key \(`mirrorwitness witness retire"
GONE = StorageUnavailableError("no answer")


def identity_of(storage: MemoryStorage) -> Identity:
    """Return what is written."""
    return msgspec.json.decode(storage.objects[IDENTITY_KEY], type=Identity)


def identity(*keys: SignerKey, retired: tuple[SignerKey, ...] = ()) -> Identity:
    """Return what is expected."""
    return Identity(keys=tuple(str(key.verifier) for key in keys), retired=tuple(str(key.verifier) for key in retired))


async def test_a_new_storage_belongs_to_the_keys_that_came_first() -> None:
    """It is noted, here and in the anchor, before anything is signed."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    assert await open_identity(storage, anchor, [A, PQ]) == (A, PQ)
    assert identity_of(storage) == identity_of(anchor) == identity(OURS, OURS_PQ)
    assert await open_identity(storage, anchor, [A, PQ]) == (A, PQ)
    assert storage.keys_of("put") == anchor.keys_of("put") == [IDENTITY_KEY]


async def test_rotation_a_then_both_then_b() -> None:
    """A new key comes in beside an old one; then the old one may go. All that ever signed stay known."""
    world = World(keys=(OURS,))
    await grow(await world.start(), 10)
    await grow(await world.start(OURS, NEXT), 20, old=10)
    await grow(await world.start(NEXT), 30, old=20)
    assert identity_of(world.storage) == identity(OURS, NEXT)
    witness = await world.start(NEXT)
    assert witness.own == (A, B)
    assert [line.name for line in world.published().signatures] == [LOG.origin, NEXT.name]


class ListMeddledStorage(MeddledStorage):
    """Somebody else is faster than what is listed: does something of the test's behind the first list of a prefix."""

    def __init__(self) -> None:
        super().__init__()
        self.behind: dict[str, Callable[[], Awaitable[object]]] = {}

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Listing:
        """List, and let somebody else do something."""
        page = await super().list(prefix, after=after, limit=limit)
        if prefix in self.behind:
            await self.behind.pop(prefix)()
        return page


@pytest.mark.parametrize("prefix", [PUBLIC_PREFIX, RECORD_PREFIX])
@pytest.mark.parametrize("has_anchor", [False, True])
async def test_race_a_first_cosignature_while_another_process_starts(prefix: str, *, has_anchor: bool) -> None:
    """Its record may be written, and it published, between any two looks: no state is lost, and that is not said."""
    storage = ListMeddledStorage()
    world = World(keys=(OURS,), storage=storage, anchor=MemoryStorage() if has_anchor else None)
    one = await world.start()
    storage.behind[prefix] = lambda: grow(one, 10)
    two = await world.start()
    assert storage.behind == {}
    await grow(two, 20, old=10)


@pytest.mark.parametrize("prefix", [PUBLIC_PREFIX, RECORD_PREFIX])
@pytest.mark.parametrize("has_anchor", [False, True])
async def test_race_two_processes_begin_over_an_empty_storage(prefix: str, *, has_anchor: bool) -> None:
    """The slower one finds what the faster one signed, and whose it is."""
    storage = ListMeddledStorage()
    world = World(keys=(OURS,), storage=storage, anchor=MemoryStorage() if has_anchor else None)

    async def begin() -> None:
        await grow(await world.start(), 10)

    storage.behind[prefix] = begin
    two = await world.start()
    assert storage.behind == {}
    await grow(two, 20, old=10)


@pytest.mark.parametrize("has_anchor", [False, True])
async def test_rotation_with_two_replicas(has_anchor: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """One process after the other, each step in all of them before the next: at any moment both sign."""
    world = World(keys=(OURS,), anchor=MemoryStorage() if has_anchor else None)
    one, two = await world.start(OURS), await world.start(OURS)
    size = 0
    for keys in ((OURS, NEXT), (NEXT,)):
        for _ in range(2):
            for witness in (one, two, two, one):
                await grow(witness, size + 1, old=size)
                size += 1
            one, two = two, await world.start(*keys)
    for witness in (one, two):
        assert witness.own == (A, B)
        await grow(witness, size + 1, old=size)
        size += 1


async def test_rotation_that_skips_a_step_signs_nothing() -> None:
    """A process that has the old key alone reads nothing of one that has the new key alone; restarted, it does."""
    world = World(keys=(OURS,))
    old = await world.start(OURS)
    await grow(old, 10)
    await world.start(OURS, NEXT)
    await grow(await world.start(NEXT), 20, old=10)
    given = await old.add_checkpoint(LOG.request(20, 30))
    assert given.status == 503
    assert b"was a key taken in beside them since this process began? then start it again)" in given.body
    await grow(await world.start(OURS), 30, old=20)


async def test_rotation_starts_beside_an_old_key() -> None:
    """B alone is another witness: its storage would be served under the wrong key."""
    world = World()
    await world.start(OURS)
    with pytest.raises(
        ConfigurationError, match=r"is that of the witness witness\.example/w1, and none of its keys was g"
    ):
        await world.start(NEXT)
    assert identity_of(world.storage) == identity(OURS)


async def test_another_witness_s_anchor_is_refused() -> None:
    """And left as it is."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    await open_identity(anchor, None, [STRANGER.verifier])
    with pytest.raises(ConfigurationError, match=r"the anchor is that of the witness stranger\.example"):
        await open_identity(storage, anchor, [A])
    assert identity_of(anchor) == identity(STRANGER)
    assert storage.objects == {}


async def test_an_anchor_that_comes_later() -> None:
    """It learns whose it is at the next start."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    await open_identity(storage, None, [A])
    await open_identity(storage, anchor, [A, B])
    assert identity_of(storage) == identity_of(anchor) == identity(OURS, NEXT)


@pytest.mark.parametrize("has_anchor", [True, False])
async def test_a_retired_key_never_signs_again(has_anchor: bool) -> None:  # noqa: FBT001 - a parameter
    """Not alone and not beside another one; the other one goes on."""
    world = World(anchor=MemoryStorage() if has_anchor else None)
    await grow(await world.start(OURS, NEXT), 10)
    retired = await retire_keys(world.storage, world.anchor, [A])
    assert retired == identity_of(world.storage) == identity(OURS, NEXT, retired=(OURS,))
    for keys in ((OURS,), (OURS, NEXT)):
        with pytest.raises(ConfigurationError, match=r"the key witness\.example/w1 was retired, and never signs again"):
            await world.start(*keys)
    await grow(await world.start(NEXT), 20, old=10)


async def test_retiring_is_idempotent_and_adds() -> None:
    """Also on a storage that was never used, and key by key."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    assert await retire_keys(storage, anchor, [A]) == identity(OURS, retired=(OURS,))
    assert await retire_keys(storage, anchor, [A]) == identity(OURS, retired=(OURS,))
    assert await retire_keys(storage, anchor, [B]) == identity(OURS, NEXT, retired=(OURS, NEXT))
    assert identity_of(anchor) == identity_of(storage)


async def test_rollback_of_a_retirement_is_noticed_by_the_anchor() -> None:
    """The storage restored from before it: the anchor still knows, and tells the storage."""
    world = World(anchor=MemoryStorage())
    await grow(await world.start(OURS, NEXT), 10)
    copy = world.copy()
    await retire_keys(world.storage, world.anchor, [A])
    world.restore(copy)
    with pytest.raises(ConfigurationError, match="was retired"):
        await world.start(OURS)
    await world.start(NEXT)
    assert identity_of(world.storage) == identity(OURS, NEXT, retired=(OURS,))


async def test_a_retirement_that_the_storage_did_not_take_is_in_the_anchor() -> None:
    """The anchor is written first, so one write is enough."""
    world = World(anchor=MemoryStorage())
    await world.start(OURS, NEXT)
    world.storage.fail_before("put", IDENTITY_KEY, GONE)
    with pytest.raises(StorageUnavailableError):
        await retire_keys(world.storage, world.anchor, [A])
    with pytest.raises(ConfigurationError, match="was retired"):
        await world.start(OURS)


async def test_a_retirement_that_the_anchor_did_not_take_is_nowhere() -> None:
    """It is not half done: the command fails and is given again."""
    world = World(anchor=MemoryStorage())
    assert world.anchor is not None
    await world.start(OURS, NEXT)
    world.anchor.fail_before("put", IDENTITY_KEY, GONE)
    with pytest.raises(StorageUnavailableError):
        await retire_keys(world.storage, world.anchor, [A])
    await world.start(OURS)


async def test_a_damaged_identity_is_not_replaced() -> None:
    """Which keys are retired stands there: it is restored, not guessed."""
    storage = MemoryStorage({IDENTITY_KEY: b'{"keys": 5}'})
    with pytest.raises(RolledBackError, match=r"identity\.json is damaged: .*; restore it from the anchor or a copy"):
        await open_identity(storage, None, [A])
    assert storage.objects[IDENTITY_KEY] == b'{"keys": 5}'


async def test_a_damaged_identity_in_the_anchor_is_not_replaced() -> None:
    """The same for the other copy."""
    anchor = MemoryStorage({IDENTITY_KEY: b"nonsense"})
    with pytest.raises(RolledBackError, match="is damaged"):
        await open_identity(MemoryStorage(), anchor, [A])


async def test_lost_identity_is_refused() -> None:
    """Published checkpoints and nobody's name on them: state was lost, and the ways out are named."""
    world = World()
    await grow(await world.start(), 10)
    world.storage.remove(IDENTITY_KEY)
    with pytest.raises(RolledBackError, match=rf"this storage has published checkpoints, and .*{WAYS_OUT}"):
        await world.start()
    assert IDENTITY_KEY not in world.storage.objects


async def test_lost_identity_beside_records_is_refused() -> None:
    """Also where what was published is gone with it."""
    world = World()
    await grow(await world.start(), 10)
    world.storage.remove(IDENTITY_KEY)
    world.storage.remove(public_key(LOG.origin))
    with pytest.raises(RolledBackError, match=rf"this storage has records of logs, and .*{WAYS_OUT}"):
        await world.start()


@pytest.mark.parametrize("is_published", [True, False])
async def test_lost_storage_beside_an_anchor_is_refused(is_published: bool) -> None:  # noqa: FBT001 - a parameter
    """The anchor knows the witness, with what it published or before that."""
    world = World(anchor=MemoryStorage())
    assert world.anchor is not None
    witness = await world.start()
    if is_published:
        await grow(witness, 10)
    world.restore({})
    said = "the anchor has published checkpoints" if is_published else "the anchor knows this witness, and the storage"
    with pytest.raises(RolledBackError, match=rf"{said}.*{WAYS_OUT}"):
        await world.start()
    assert world.storage.objects == {}


@pytest.mark.parametrize("place", ["this storage", "the anchor"])
async def test_lost_record_is_refused(place: str) -> None:
    """What is published, here or in the anchor, and not in the state."""
    world = World(anchor=MemoryStorage(), logs=(LOG, OTHER))
    await grow(await world.start(), 10)
    world.storage.remove(record_key(LOG.origin))
    if place == "the anchor":
        world.storage.remove(public_key(LOG.origin))
    said = rf"{place} has a published checkpoint of 'log\.example/a', and no state: .*{WAYS_OUT}"
    with pytest.raises(RolledBackError, match=said):
        await world.start()


async def test_lost_record_of_a_log_that_is_not_configured_any_more() -> None:
    """It may come back some day."""
    world = World()
    await grow(await world.start(), 10)
    world.storage.remove(record_key(LOG.origin))
    world.logs = (OTHER,)
    with pytest.raises(RolledBackError, match=r"a log that is not configured any more \([0-9a-f]{64}\), and no state"):
        await world.start()


async def test_a_log_that_is_not_configured_any_more_is_no_reason() -> None:
    """As long as its state is there."""
    world = World()
    await grow(await world.start(), 10)
    world.logs = (OTHER,)
    assert (await (await world.start()).add_checkpoint(LOG.request(10, 11))).status == 404


@pytest.mark.parametrize("damaged", [record_key(LOG.origin), public_key(LOG.origin)])
async def test_damaged_state_is_refused_at_the_start(damaged: str) -> None:
    """The record, or the published checkpoint: with the message that names the ways out."""
    world = World()
    await grow(await world.start(), 10)
    world.storage.set_bytes(damaged, b"nonsense")
    with pytest.raises(RolledBackError, match=rf"'log\.example/a' is damaged: .*{WAYS_OUT}"):
        await world.start()


async def test_of_many_logs_each_is_checked_before_its_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty thousand are not read at the start; what is lost as a whole still is."""
    monkeypatch.setattr(startup, "CHECKED_LOGS", 1)
    world = World(logs=(LOG, OTHER))
    await grow(await world.start(), 10)
    world.storage.set_bytes(record_key(LOG.origin), b"nonsense")
    witness = await world.start()
    answer = await witness.add_checkpoint(LOG.request(10, 11))
    assert answer.status == 503
    assert b"is damaged" in answer.body
    await grow(witness, 10, log=OTHER)
    world.storage.remove(record_key(LOG.origin))
    with pytest.raises(RolledBackError, match="and no state"):
        await world.start()


async def test_lists_of_published_checkpoints_have_pages() -> None:
    """Every one is looked at, also those behind the first thousand."""
    world = World()
    await grow(await world.start(), 10)
    for number in range(1500):
        digest = f"{number:064x}"
        world.storage.set_bytes(f"state/witness/logs/{digest}.json", b"{}")
        world.storage.set_bytes(f"witness/{digest}/checkpoint", b"x")
    await world.start()
    world.storage.remove(f"state/witness/logs/{1499:064x}.json")
    with pytest.raises(RolledBackError, match=f"{1499:064x}"):
        await world.start()


async def test_two_replicas_that_start_at_once() -> None:
    """Both write the same, and both may sign."""
    storage, anchor = MemoryStorage(), MemoryStorage()
    found: list[tuple[VerifierKey, ...]] = []

    async def start() -> None:
        found.append(await open_identity(storage, anchor, [A, PQ]))

    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(start)
    assert found == [(A, PQ)] * 5
    assert identity_of(storage) == identity(OURS, OURS_PQ)


async def test_a_key_that_is_retired_meanwhile() -> None:
    """A replica that starts while a key is retired loses the swap, and does not take it back."""
    storage = MeddledStorage()
    await open_identity(storage, None, [A])
    storage.before("put", IDENTITY_KEY, lambda: retire_keys(storage, None, [A]))
    with pytest.raises(PreconditionFailedError):
        await open_identity(storage, None, [A, B])
    assert identity_of(storage) == identity(OURS, retired=(OURS,))


async def test_an_identity_that_is_removed_meanwhile() -> None:
    """It is an error, not a new storage."""
    storage = MeddledStorage()
    await open_identity(storage, None, [A])

    async def remove() -> None:
        await storage.delete(IDENTITY_KEY)

    storage.before("put", IDENTITY_KEY, remove)
    with pytest.raises(PreconditionFailedError):
        await open_identity(storage, None, [A, B])
    assert storage.objects == {}


async def test_a_failing_storage_is_no_lost_state() -> None:
    """It is what it is, and may answer later."""
    world = World()
    await grow(await world.start(), 10)
    world.storage.fail_before("read", IDENTITY_KEY, GONE)
    with pytest.raises(StorageUnavailableError):
        await world.start()
    world.storage.fail_before("list", "*", GONE)
    with pytest.raises(StorageUnavailableError):
        await world.start()
    await world.start()


async def test_the_way_out_of_a_lost_identity() -> None:
    """It may be looked at without a change, and is written once the operator has said from where to go on."""
    world = World(anchor=MemoryStorage())
    await grow(await world.start(), 10)
    world.storage.remove(IDENTITY_KEY)
    before = world.copy()
    assert await check_identity(world.storage, world.anchor, [A, B]) == (A, B)
    assert world.copy() == before
    await restore_identity(world.storage, world.anchor, [A])
    assert identity_of(world.storage) == identity(OURS)
    await world.start()


async def test_no_logs_at_all() -> None:
    """A witness of nobody is one that only publishes what it has."""
    world = World(logs=())
    await check_states(world.storage, None, world.known(), WitnessState(storage=world.storage, anchor=None, own=[A]))
