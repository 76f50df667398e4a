"""P7: a witness never contradicts itself, whatever happens to its processes, its storage, its backups and its clock.

A log that forks, two replicas over one storage, with an anchor or without. A history is a random sequence of
submissions, races, faults of the storage, kills between any two of its operations, restarts, clock steps and restores
from older copies. What was answered with a cosignature is collected; of that no two may contradict each other.

Undetectable, and so not played: the whole storage restored, no anchor, and nobody who shows a newer cosignature
(`mirrorwitness.witness.state`).
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import pytest
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
from mirrorwitness.witness.protocol import format_add_checkpoint
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.service import Witness
from mirrorwitness.witness.signer import LocalSigner
from mirrorwitness.witness.startup import check_states, open_identity
from mirrorwitness.witness.state import WitnessState
from tests.fakes.storage import MemoryStorage
from tests.fault.dying import DyingStorage, run_until_death

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.merkle import Hash
    from mirrorwitness.tlog.note import Signature
    from mirrorwitness.witness.service import Fork

HISTORIES: Final = int(os.environ.get("FUZZ_EXAMPLES") or 2000)
PARTS: Final = 8
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
    has_anchor: bool
    storage: MemoryStorage = field(default_factory=MemoryStorage)
    anchor: MemoryStorage = field(default_factory=MemoryStorage)
    time: float = 1_000_000.0
    given: list[Given] = field(default_factory=list[Given])
    copies: list[Mapping[str, bytes]] = field(default_factory=list["Mapping[str, bytes]"])
    replicas: list[Replica] = field(default_factory=list[Replica])
    told: list[str] = field(default_factory=list[str])
    is_warned: bool = False
    """Whether the whole storage was restored, so that a newer line has to be shown before anything else."""

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

    async def _keep(self, fork: Fork) -> None:
        await trio.lowlevel.checkpoint()
        self.told.append(f"fork of {fork.origin}")

    async def submit(self, replica: Replica, tree: int, old: int, new: int, *, shown: Given | None = None) -> None:
        """Send a checkpoint, perhaps with a line of ours on it."""
        if replica.witness is None:
            return
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

    def check(self) -> None:
        """No two cosignatures contradict each other, and later ones are on larger trees or the same."""
        trees = {given.tree for given in self.given if given.size > FORKED_AT}
        assert len(trees) <= 1, self.told
        ordered = sorted(self.given, key=lambda given: (given.time, given.size))
        assert all(one.size <= two.size for one, two in pairwise(ordered)), self.told


async def play(seed: int) -> World:
    """Play one history."""
    rng = random.Random(seed)  # noqa: S311 - a test
    world = World(rng, has_anchor=rng.random() < 0.5)
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
    """Let the storage fail, before or after an operation took effect, or let somebody else win a swap."""
    is_late = world.rng.random() < 0.5
    error = world.rng.choice([StorageUnavailableError("503"), PreconditionFailedError("lost")])
    keys = world.rng.choice(["state/*", "witness/*", "*"])
    if is_late:
        world.storage.fail_after(world.rng.choice(["put", "read"]), keys, StorageUnavailableError("503"))
    else:
        world.storage.fail_before(world.rng.choice(["put", "read"]), keys, error, times=world.rng.randint(1, 2))
    await _submit(world, replica)
    world.storage._faults.clear()


async def _kill(world: World, replica: Replica) -> None:
    """Kill a process between any two operations of its start or of a request, and start it again."""
    dying = DyingStorage(world.storage, operations=world.rng.randint(1, 9), is_late=world.rng.random() < 0.5)

    async def live() -> None:
        await world.start(replica, dying)
        await _submit(world, replica)

    await run_until_death(dying, live)
    world.told.append("killed")
    await world.start(replica)


async def _restart(world: World, replica: Replica) -> None:
    await world.start(replica)


async def _step_clock(world: World, replica: Replica) -> None:
    await trio.lowlevel.checkpoint()
    replica.ahead += world.rng.choice([-3600.0, -2.0, 2.0, 3600.0])
    world.told.append(f"a clock is {replica.ahead} s ahead")


async def _copy(world: World, _: Replica) -> None:
    await trio.lowlevel.checkpoint()
    world.copies.append(dict(world.storage.objects))


async def _restore(world: World, _: Replica) -> None:
    """Put an older copy back: of the state alone, or of everything where that can be noticed."""
    await trio.lowlevel.checkpoint()
    if not world.copies:
        return
    copy = world.rng.choice(world.copies)
    is_whole = world.rng.random() < 0.5
    if is_whole and not (world.has_anchor or world.given):
        return
    for key in list(world.storage.objects):
        if is_whole or key.startswith("state/"):
            world.storage.remove(key)
    for key, body in copy.items():
        if is_whole or key.startswith("state/"):
            world.storage.set_bytes(key, body)
    world.told.append(f"restored {'everything' if is_whole else 'the state'}")
    world.is_warned = is_whole and not world.has_anchor


async def _submit(world: World, replica: Replica) -> None:
    rng = world.rng
    tree = rng.choice([0, 0, 0, 1])
    known = max((given.size for given in world.given), default=0)
    old = known if rng.random() < 0.75 else rng.randint(0, SIZES)
    new = min(SIZES, old + rng.choice([0, 1, 1, 2, 5])) if rng.random() < 0.9 else rng.randint(0, SIZES)
    shown = rng.choice(world.given) if world.given and rng.random() < 0.1 else None
    await world.submit(replica, tree, old, new, shown=shown)


ACTS: Final = {
    _submit: 45,
    _race: 10,
    _fail: 12,
    _kill: 12,
    _restart: 5,
    _step_clock: 5,
    _copy: 5,
    _restore: 6,
}
"""What may happen next, and how often."""


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.timeout(3600)
async def test_p7_no_history_makes_a_witness_contradict_itself(part: int) -> None:
    """Forks, races, faults, kills, restores and clock steps: no two inconsistent cosignatures."""
    signed = 0
    for number in range(HISTORIES // PARTS):
        seed = part * 1_000_000 + number
        try:
            world = await play(seed)
        except BaseException as error:
            error.add_note(f"history {seed}")
            raise
        signed += len(world.given)
    assert signed > HISTORIES // PARTS, "histories in which nothing is signed prove nothing"
