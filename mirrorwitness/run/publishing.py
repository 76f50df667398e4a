"""Put together what publishes a log: its witnesses, the quorum, and the publisher over both.

Rules:

- Witnesses are asked over connections of their own, with deadlines shorter than a registry's: checkpoints and proofs
  are small.
- The policy file is the one that clients get; `mirrorwitness.sumdb.quorum` says how it counts here.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.fetch import FetchOptions, HostGate, Patience, make_user_agent, open_fetcher
from mirrorwitness.run.files import read_file
from mirrorwitness.run.session import now
from mirrorwitness.sumdb.cosign import Cosigner, WitnessClient
from mirrorwitness.sumdb.proving import Prover
from mirrorwitness.sumdb.publisher import REFRESH_SECONDS, TRIES, Publisher
from mirrorwitness.sumdb.quorum import list_witnesses, make_quorum, parse_witness_flags
from mirrorwitness.sumdb.stored import StoredLog
from mirrorwitness.telemetry import Sample, metrics
from mirrorwitness.tlog.policy import parse_policy
from mirrorwitness.tlog.policy_text import MAX_POLICY_BYTES

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator, Sequence
    from pathlib import Path

    from mirrorwitness.fetch import Backoff
    from mirrorwitness.run.pushing import MirrorPush
    from mirrorwitness.storage import Storage
    from mirrorwitness.sumdb.cosign import Asked
    from mirrorwitness.sumdb.log import Log
    from mirrorwitness.sumdb.quorum import KnownWitness
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.policy import Policy

__all__ = ["PublishWishes", "Quorum", "open_publisher", "read_quorum", "sample_publication"]

SECONDS: Final = 1.0

PATIENCE: Final = Patience(connect=5 * SECONDS, head=10 * SECONDS, grace=10 * SECONDS)
"""Shorter than a registry's: all witnesses together have 15 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishWishes:
    """What the operator asks of whoever publishes.

    Attributes:
        witnesses: ``VKEY=URL``, each.
        mirrors: log mirrors that the log is brought to; the same.
        policy: the file that says the quorum, or None.
        refresh: seconds after which an unchanged head is cosigned again.
        tries: delays between attempts.
        contact: how an operator of a witness reaches ours.
    """

    witnesses: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    policy: Path | None = None
    refresh: float = REFRESH_SECONDS
    tries: Backoff = TRIES
    contact: str | None = None


@dataclass(frozen=True, slots=True)
class Quorum:
    """Whom to ask, and what has to come of it.

    Attributes:
        witnesses: whom to ask.
        policy: what a checkpoint has to fulfil.
        mirrors: the log mirrors that the log is brought to.
    """

    witnesses: tuple[KnownWitness, ...]
    policy: Policy
    mirrors: tuple[KnownWitness, ...] = ()

    def is_counted(self, mirror: str) -> bool:
        """Say whether the policy names the log mirror of this name."""
        return any(witness.key.name == mirror for witness in self.policy.witnesses)

    def notes(self) -> tuple[str, ...]:
        """Return what an operator should know about it, as sentences."""
        if self.policy.quorum is not None:
            return ()
        asked = "their cosignatures are not needed" if self.witnesses else "no witness is asked"
        return (f"{asked}: checkpoints are published on the log's own word; give --witness VKEY=URL",)


def read_quorum(wishes: PublishWishes, own: Sequence[VerifierKey]) -> Quorum:
    """Read flags and policy; opens nothing else.

    Args:
        wishes: what the operator asks.
        own: the log's keys.

    Raises:
        ConfigurationError: one cannot be read, or the quorum can never be met.
    """
    policy = None
    if wishes.policy is not None:
        try:
            policy = parse_policy(read_file(wishes.policy, limit=MAX_POLICY_BYTES))
        except ConfigurationError as error:
            raise ConfigurationError(f"--policy {wishes.policy}: {error}") from error
    mirrors = parse_witness_flags(wishes.mirrors, flag="--mirror")
    witnesses = list_witnesses(parse_witness_flags(wishes.witnesses), policy, mirrors)
    _check_roles(own, witnesses, mirrors)
    if policy is None:
        return Quorum(witnesses, make_quorum(own, witnesses, None), mirrors)
    return Quorum(witnesses, make_quorum(own, [*witnesses, *mirrors], policy), mirrors)


def _check_roles(
    own: Sequence[VerifierKey], witnesses: Sequence[KnownWitness], mirrors: Sequence[KnownWitness]
) -> None:
    """Check that no name stands for two things (`docs/adr/0025-three-statements.md`)."""
    names = {key.name: "the log itself" for key in own}
    for flag, role, group in (("--witness", "a witness", witnesses), ("--mirror", "a log mirror", mirrors)):
        for name in dict.fromkeys(each.keys[0].name for each in group):
            if name in names:
                raise ConfigurationError(f"{flag}: {name} is the name of {names[name]}: no name has two roles")
            names[name] = role


@asynccontextmanager
async def open_publisher(
    wishes: PublishWishes,
    quorum: Quorum,
    *,
    log: Log,
    storage: Storage,
    size: int | None,
    pushes: Sequence[MirrorPush] = (),
) -> AsyncGenerator[Publisher, None]:
    """Open what publishes a log.

    Args:
        wishes: what the operator asks.
        quorum: as it was read.
        log: the open log.
        storage: where it is.
        size: of the tree that is published already; None where none is.
        pushes: bring the log to mirrors; told what is published.

    *Resources*: connections to the witnesses, until the block ends.
    """
    options = FetchOptions(patience=PATIENCE, user_agent=make_user_agent(wishes.contact))
    gate, prover = HostGate(), Prover(StoredLog(storage))
    async with open_fetcher(options) as fetcher:
        clients = [
            WitnessClient(keys=each.keys, log=log.verifiers, url=each.url, fetcher=fetcher, gate=gate)
            for each in quorum.witnesses
        ]
        asked: list[Asked] = [*clients, *(push for push in pushes if quorum.is_counted(push.name))]

        def tell(note: bytes) -> None:
            for push in pushes:
                push.want(note)

        yield Publisher(
            log=log,
            cosigner=Cosigner(witnesses=asked, prove=lambda old, new, root: prover.consistency(old, new, root=root)),
            policy=quorum.policy,
            now=lambda: now().timestamp(),
            size=size,
            refresh=wishes.refresh,
            tries=wishes.tries,
            on_published=tell,
        )


def sample_publication(publisher: Publisher) -> Iterator[Sample]:
    """Yield the metrics of what publishes a log."""
    found = publisher.statistics()
    yield Sample(metrics.SUMDB_LOGGED, found.head)
    if found.size is not None:
        yield Sample(metrics.SUMDB_PUBLISHED, found.size)
    if found.published is not None:
        yield Sample(metrics.SUMDB_PUBLISHED_AT, found.published)
    yield Sample(metrics.SUMDB_UNPUBLISHED, found.waiting)
    for (witness, outcome), count in sorted(publisher.counts.items()):
        yield Sample(metrics.SUMDB_WITNESSES, count, (witness, outcome))
