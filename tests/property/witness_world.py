"""One witness, one log that forks, and everything that may happen to them: the histories of P7.

Two replicas over one storage, with an anchor or without. A history is a random sequence of submissions, races, faults
of the storage, kills between any two of its operations, puts of dead processes that arrive late, machines that lose
power, restarts, clock steps and restores from older copies. What was answered with a cosignature is collected
(`World.given`); of that no two may contradict each other (`World.check`).

Undetectable, and so not played: the whole storage restored, no anchor, and nobody who shows a newer cosignature; state
that is restored within the half minute before power is lost, or after it before anything ran
(`mirrorwitness.witness.state`).
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import trio

from mirrorwitness.errors import (
    ConfigurationError,
    PreconditionFailedError,
    RolledBackError,
    StorageError,
    StorageUnavailableError,
)
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.cosignature import timestamp_of
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import Range, leaf_hash, make_proof, plan_consistency, root_of
from mirrorwitness.tlog.note import Note, format_note, parse_lines, parse_note, sign_note
from mirrorwitness.witness.logs import LogSet, WitnessedLog
from mirrorwitness.witness.protocol import Reason, format_add_checkpoint
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.service import Witness
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import check_states, open_identity, publish_again
from mirrorwitness.witness.state import WitnessState
from tests.fault.dying import run_until_death
from tests.property.witness_places import FailingStorage, LingeringStorage, copy_objects, restore_objects

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from mirrorwitness.storage import ObjectInfo, Storage
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.protocol import Answer
    from mirrorwitness.witness.service import Fork
    from tests.property.witness_places import Operation, Place

__all__ = ["World", "play"]

STEPS: Final = 14
SIZES: Final = 20
FORKED_AT: Final = 6

LOG = make_signer_key("log.example", bytes(range(32)))
OURS = make_signer_key("witness.example", bytes(range(1, 33)), KeyType.COSIGNATURE)


def _leaves(name: bytes) -> list[Hash]:
    same = [leaf_hash(b"same %d" % number) for number in range(FORKED_AT)]
    return same + [leaf_hash(b"%b %d" % (name, number)) for number in range(FORKED_AT, SIZES + 1)]


TREES: Final = (_leaves(b"one"), _leaves(b"other"))
NOTES: Final = {
    (tree, size): sign_note(Checkpoint(LOG.name, size, root_of(leaves[:size])).text, [LOG])
    for tree, leaves in enumerate(TREES)
    for size in range(SIZES + 1)
}


def _proof(tree: int, old: int, new: int) -> list[Hash]:
    def hash_of(node: Range) -> Hash:
        return root_of(TREES[tree][node.start : node.end])

    return make_proof(plan_consistency(old, new), hash_of) if old <= new else []


PROOFS: Final = {
    (tree, old, new): _proof(tree, old, new)
    for tree in range(len(TREES))
    for old in range(SIZES + 1)
    for new in range(SIZES + 1)
}


@dataclass(frozen=True)
class Given:
    """A cosignature that somebody has."""

    tree: int
    size: int
    time: int
    line: Signature


@dataclass
class Replica:
    """One process: its own way to the storage, its own clock."""

    ahead: float
    witness: Witness | None = None


@dataclass
class World:
    """Everything that outlives a process."""

    rng: random.Random
    place: Place
    has_anchor: bool
    time: float = 1_000_000.0
    given: list[Given] = field(default_factory=list[Given])
    copies: list[Mapping[str, bytes]] = field(default_factory=list["Mapping[str, bytes]"])
    replicas: list[Replica] = field(default_factory=list[Replica])
    told: list[str] = field(default_factory=list[str])
    late: list[Callable[[], Awaitable[ObjectInfo]]] = field(default_factory=list["Callable[[], Awaitable[ObjectInfo]]"])
    """Puts of dead processes that are still on their way."""
    is_warned: bool = False
    """Whether the whole storage was restored, so that a newer line has to be shown before anything else."""

    def __post_init__(self) -> None:
        self.storage = FailingStorage(self.place.storage)
        self.anchor = FailingStorage(self.place.anchor)

    async def start(self, replica: Replica, storage: Storage | None = None) -> None:
        """Start a process; one that refuses to start is down."""
        storage = self.storage if storage is None else storage
        anchor = self.anchor if self.has_anchor else None
        replica.witness = None
        try:
            own = await open_identity(storage, anchor, [OURS.verifier])
            logs = LogSet([WitnessedLog(LOG.name, (LOG.verifier,))], cosigners=own)
            state = WitnessState(storage=storage, anchor=anchor, own=own)
            await check_states(storage, anchor, logs, state)
        except (RolledBackError, StorageError, ConfigurationError) as error:
            self.told.append(f"refused to start: {type(error).__name__}")
            return
        replica.witness = Witness(
            logs=logs,
            state=state,
            signers=[LocalSigner(OURS)],
            own=own,
            now=lambda: self.time + replica.ahead,
            rates=Rates(per_second=0),
            on_fork=self._keep,
        )

    async def serve(self, replica: Replica) -> None:
        """Start a process that serves monitors too."""
        await self.start(replica)
        if replica.witness is not None:
            await publish_again(replica.witness)

    async def _keep(self, fork: Fork) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(f"fork of {fork.origin}")

    async def submit(
        self, replica: Replica, tree: int, old: int, new: int, *, shown: Given | None = None
    ) -> Answer | None:
        """Send a checkpoint, perhaps with a line of ours on it; a process that is down answers nothing."""
        if replica.witness is None:
            return None
        note = NOTES[tree, new]
        if shown is not None:
            parsed = parse_note(NOTES[shown.tree, shown.size])
            note, new, tree = format_note(Note(parsed.text, (*parsed.signatures, shown.line))), shown.size, shown.tree
        body = format_add_checkpoint(old, PROOFS[tree, min(old, new), new], note)
        answer = await replica.witness.add_checkpoint(body)
        self.told.append(f"submitted tree {tree}, {old} to {new}: {answer.status} {answer.reason}")
        if answer.status == 200:
            (line,) = parse_lines(answer.body)
            self.given.append(Given(tree, new, timestamp_of(line), line))
        return answer

    def check(self) -> None:
        """No two cosignatures contradict each other, and later ones are on larger trees or the same."""
        trees = {given.tree for given in self.given if given.size > FORKED_AT}
        assert len(trees) <= 1, self.told
        ordered = sorted(self.given, key=lambda given: (given.time, given.size))
        assert all(one.size <= two.size for one, two in pairwise(ordered)), self.told


async def play(seed: int, place: Place) -> World:
    """Play one history, in a place of which nothing that it holds is left."""
    for storage in (place.storage, place.anchor):
        await restore_objects(storage, {})
    rng = random.Random(seed)  # noqa: S311 - a test
    world = World(rng, place, has_anchor=rng.random() < 0.5)
    world.replicas = [Replica(0.0), Replica(rng.choice([0.0, 3.0, -3.0, 60.0]))]
    for replica in world.replicas:
        await world.start(replica)
    for _ in range(STEPS):
        world.time += rng.choice([0.0, 0.5, 1.0, 30.0])
        await _step(world)
        world.check()
    return world


async def _step(world: World) -> None:
    replica = world.rng.choice(world.replicas)
    if world.is_warned:
        await _show_newest(world)
        return
    (act,) = world.rng.choices(list(ACTS), weights=list(ACTS.values()))
    await act(world, replica)


async def _show_newest(world: World) -> None:
    """Somebody who has our newest line shows it to every process before anything else is asked."""
    newest = max(world.given, key=lambda given: (given.time, given.size))
    for each in world.replicas:
        await world.start(each)
        await world.submit(each, newest.tree, newest.size, newest.size, shown=newest)
    world.is_warned = False


async def _race(world: World, _: Replica) -> None:
    async with trio.open_nursery() as nursery:
        for each in world.replicas:
            nursery.start_soon(_submit, world, each)


async def _fail(world: World, replica: Replica) -> None:
    """Let the storage or the anchor fail, before or after it took effect, or let somebody else win a swap."""
    rng = world.rng
    if world.place.trouble is not None and rng.random() < 0.5:
        world.place.trouble(rng)
        await _submit(world, replica)
        return
    operations: list[Operation] = ["put", "read"]
    operation, keys = rng.choice(operations), rng.choice(["state/*", "witness/*", "*"])
    failing = world.anchor if world.has_anchor and rng.random() < 0.3 else world.storage
    if rng.random() < 0.5:
        failing.fail(operation, keys, StorageUnavailableError("503"), is_late=True)
    else:
        error = rng.choice([StorageUnavailableError("503"), PreconditionFailedError("lost")])
        failing.fail(operation, keys, error, is_late=False, times=rng.randint(1, 2))
    await _submit(world, replica)
    failing.heal()


async def _kill(world: World, replica: Replica) -> None:
    """Kill a process between any two operations of its start or of a request, and start it again; others go on."""
    dying = LingeringStorage(world.storage, operations=world.rng.randint(1, 9), is_late=world.rng.random() < 0.5)

    async def live() -> None:
        await world.start(replica, dying)
        await _submit(world, replica)

    async with trio.open_nursery() as nursery:
        if world.rng.random() < 0.3:
            for each in world.replicas:
                if each is not replica:
                    nursery.start_soon(_submit, world, each)
        await run_until_death(dying, live)
    world.told.append("killed")
    if dying.on_its_way is not None:
        world.late.append(dying.on_its_way)
    await world.start(replica)


async def _arrive(world: World, _: Replica) -> None:
    """Let a put of a dead process arrive, at last or once more."""
    await trio.lowlevel.checkpoint()
    if not world.late:
        return
    put = world.late.pop(world.rng.randrange(len(world.late)))
    try:
        info = await put()
    except StorageError as error:
        world.told.append(f"a late put is refused: {type(error).__name__}")
    else:
        world.told.append(f"a late put of {info.key} arrives")


async def _lose_power(world: World, _: Replica) -> None:
    """The machine of both replicas goes down and comes up again."""
    await trio.lowlevel.checkpoint()
    if world.place.lose_power is not None:
        world.told.append(f"power lost, and with it {world.place.lose_power(world.rng)}")
        for each in world.replicas:
            await world.serve(each)


async def _restart(world: World, replica: Replica) -> None:
    await world.start(replica)


async def _step_clock(world: World, replica: Replica) -> None:
    await trio.lowlevel.checkpoint()
    replica.ahead += world.rng.choice([-3600.0, -2.0, 2.0, 3600.0])
    world.told.append(f"a clock is {replica.ahead} s ahead")


async def _copy(world: World, _: Replica) -> None:
    world.copies.append(await copy_objects(world.place.storage))


async def _restore(world: World, replica: Replica) -> None:
    """Put an older copy back, perhaps under a request: of the state, or of everything where that can be noticed."""
    await trio.lowlevel.checkpoint()
    if not world.copies:
        return
    copy = world.rng.choice(world.copies)
    is_whole = world.rng.random() < 0.5
    if is_whole and not (world.has_anchor or world.given):
        return
    can_be_noticed_meanwhile = world.has_anchor or not is_whole
    async with trio.open_nursery() as nursery:
        if can_be_noticed_meanwhile and world.rng.random() < 0.3:
            nursery.start_soon(_submit, world, replica)
        await restore_objects(world.place.storage, copy, "" if is_whole else "state/")
    world.place.settle()
    world.told.append(f"restored {'everything' if is_whole else 'the state'}")
    world.is_warned = is_whole and not world.has_anchor


async def _submit(world: World, replica: Replica) -> None:
    """Submit something; whoever is told another size goes on from there, as clients do, perhaps on the other tree."""
    rng = world.rng
    tree = rng.choice([0, 0, 0, 1])
    known = max((given.size for given in world.given), default=0)
    old = known if rng.random() < 0.75 else rng.randint(0, SIZES)
    new = min(SIZES, old + rng.choice([0, 1, 1, 2, 5])) if rng.random() < 0.9 else rng.randint(0, SIZES)
    shown = rng.choice(world.given) if world.given and rng.random() < 0.1 else None
    answer = await world.submit(replica, tree, old, new, shown=shown)
    if answer is not None and answer.reason is Reason.STALE:
        told = int(answer.body)
        await world.submit(replica, rng.choice([tree, 1 - tree]), told, rng.randint(told, SIZES))


ACTS: Final = {
    _submit: 45,
    _race: 10,
    _fail: 12,
    _kill: 12,
    _arrive: 5,
    _lose_power: 5,
    _restart: 5,
    _step_clock: 5,
    _copy: 7,
    _restore: 8,
}
"""What may happen next, and how often."""
