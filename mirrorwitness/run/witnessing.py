"""Put a witness together: keys, logs, storage and anchor, and the server in front of it.

Rules:

- The storage is raced before it is trusted: one that does not do compare-and-swap is no place for a witness (DESIGN 4).
- Everything that P7 wants to be known is checked before the first request is accepted
  (`mirrorwitness.witness.startup`).
- Keys come from wherever they are kept (`mirrorwitness.run.signers`). One that makes another statement, of this storage
  or its anchor, is refused (`mirrorwitness.logmirror.roles`).
- A mistake in a flag is an error, and one in a list a sentence: lists are other people's
  (`mirrorwitness.witness.known`). Only at the start a list has to be readable.
- A running witness goes on with what it has, whatever goes wrong with lists, and ends where its keys may sign no more
  (`mirrorwitness.run.watching`).
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import trio

from mirrorwitness.errors import ConfigurationError, PreconditionFailedError, StorageError
from mirrorwitness.logmirror.roles import WITNESS, check_retirable, check_roles
from mirrorwitness.npm.times import format_time
from mirrorwitness.run.inspecting import reading_given
from mirrorwitness.run.log_lists import complain, read_lists
from mirrorwitness.run.relying import open_reliable
from mirrorwitness.run.serve import format_address, parse_listen
from mirrorwitness.run.serve import serve as serve_app
from mirrorwitness.run.session import now
from mirrorwitness.run.signals import run_until_signal
from mirrorwitness.run.signers import ask_passphrase, open_signers
from mirrorwitness.run.watching import keep_logs_fresh, watch_decisions
from mirrorwitness.run.webhook import check_webhook, open_webhook
from mirrorwitness.server.witness import WitnessApp
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.probe_verdict import Role
from mirrorwitness.tlog.evidence import evidence_key, make_evidence
from mirrorwitness.tlog.keys import KeyType
from mirrorwitness.witness.known import Roster, find_known, list_known, set_disabled
from mirrorwitness.witness.logs import LogSet, parse_log_flags
from mirrorwitness.witness.rates import Rates
from mirrorwitness.witness.service import Witness
from mirrorwitness.witness.startup import (
    check_identity,
    check_kept,
    check_states,
    open_identity,
    publish_again,
    restore_identity,
    retire_keys,
)
from mirrorwitness.witness.state import WitnessState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence

    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.known import KnownLog
    from mirrorwitness.witness.logs import WitnessedLog
    from mirrorwitness.witness.service import Fork
    from mirrorwitness.witness.signer import Signer

__all__ = [
    "RunningWitness",
    "WitnessWishes",
    "adopt_checkpoint",
    "keep_fork",
    "manage_logs",
    "open_witness",
    "retire_witness",
    "serve_witness",
]

_log = logging.getLogger("mirrorwitness.witness")


@dataclass(frozen=True, slots=True, kw_only=True)
class WitnessWishes:
    """What the operator asks of a witness.

    Attributes:
        storage: the address of its storage.
        anchor: the address of a second place, or None.
        keys: where its keys are, as `mirrorwitness.run.signers` reads them.
        logs: vkeys, each with a URL or without.
        lists: files in the witness network's format.
        refuses_extensions: refuse checkpoints with extension lines.
        signs_subtrees: offer ``sign-subtree``.
        rate: requests of one log in a second; 0 sets no limit.
        refresh_lists: seconds after which a running witness reads its lists again; 0: only on SIGHUP.
        webhook: the URL that is told of forks, or None.
    """

    storage: str
    anchor: str | None = None
    keys: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    lists: tuple[str, ...] = ()
    refuses_extensions: bool = False
    signs_subtrees: bool = False
    rate: float = 0.0
    refresh_lists: float = 0.0
    webhook: str | None = None


@dataclass(frozen=True, slots=True)
class RunningWitness:
    """A witness that may sign.

    Attributes:
        witness: decides and signs.
        storage: its storage.
        roster: takes in what lists name.
        on_fork: keeps a proof of a fork, and tells the webhook.
        check_kept: checks that its keys may sign on (`mirrorwitness.witness.startup.check_kept`).
        notes: sentences for the operator.
    """

    witness: Witness
    storage: Storage
    roster: Roster
    on_fork: Callable[[Fork], Awaitable[None]]
    check_kept: Callable[[], Awaitable[None]]
    notes: tuple[str, ...] = ()

    def check_not_stopped(self) -> None:
        """Check that nothing was found meanwhile for which it had to stop.

        Raises:
            ConfigurationError: a key was retired.
            RolledBackError: the storage does not know any more whose it is.
        """
        if self.witness.stopped is not None:
            raise self.witness.stopped


@asynccontextmanager
async def open_witness(wishes: WitnessWishes) -> AsyncGenerator[RunningWitness, None]:
    """Open storage and anchor, check everything that P7 wants to be known, and yield a witness that may sign.

    Raises:
        ConfigurationError: keys, logs or the storage do not fit.
        RolledBackError: state was lost, or is older than what was published.
        StorageError: a storage failed.
    """
    if wishes.anchor == wishes.storage:
        raise ConfigurationError(f"--anchor {wishes.anchor} is --storage: restored together, it would tell nothing")
    wanted, listed = _read_flags(wishes), read_lists(wishes.lists)
    if wishes.webhook is not None:
        check_webhook(wishes.webhook)
    async with AsyncExitStack() as stack:
        signers = await _open_signers(stack, wishes)
        verifiers = [signer.verifier for signer in signers]
        if wishes.signs_subtrees and all(key.kind is not KeyType.ML_DSA_44 for key in verifiers):
            raise ConfigurationError("--sign-subtree needs a key of ML-DSA-44: those of Ed25519 cosign no subtrees")
        storage = await _open(stack, wishes.storage, "--storage")
        anchor = None if wishes.anchor is None else await _open(stack, wishes.anchor, "--anchor")
        LogSet(wanted, cosigners=verifiers)  # says what is wrong with the flags before anything is written
        for place in filter(None, (storage, anchor)):
            await check_roles(place, WITNESS, verifiers)
        own = await open_identity(storage, anchor, verifiers)
        logs = LogSet(wanted, cosigners=own)
        roster = Roster(storage=storage, logs=logs, refuses_extensions=wishes.refuses_extensions)
        notes = (await roster.refresh(listed)).complaints
        state = WitnessState(storage=storage, anchor=anchor, own=own)
        await check_states(storage, anchor, logs, state)
        # Last, as errors that pass through it come in a group.
        tell = None if wishes.webhook is None else await stack.enter_async_context(open_webhook(wishes.webhook))
        on_fork = partial(keep_fork, storage, logs, own, tell=tell)
        rates = Rates(per_second=wishes.rate)
        witness = Witness(logs=logs, state=state, signers=signers, own=own, now=_seconds, rates=rates, on_fork=on_fork)
        yield RunningWitness(witness, storage, roster, on_fork, partial(check_kept, storage, anchor, verifiers), notes)


async def manage_logs(address: str, *, disable: str | None = None, enable: str | None = None) -> tuple[KnownLog, ...]:
    """Return what a storage knows of all logs; or disable or enable one, and return what it knows of that.

    Raises:
        ConfigurationError: the log is not known, or what is stored is damaged.
        RolledBackError: a record is damaged.
        StorageError: the storage failed.
    """
    async with open_storage(address) as storage:
        origin = enable if disable is None else disable
        if origin is None:
            return await list_known(storage)
        if await find_known(storage, origin) is None:
            raise ConfigurationError(f"{address}: no list named the log {origin[:300]!r}, and it was never cosigned")
        await set_disabled(storage, origin, is_disabled=disable is not None)
        found = await find_known(storage, origin)
        return () if found is None else (found,)


async def serve_witness(
    wishes: WitnessWishes, *, listen: str, ready: Callable[[str], None], told: Callable[[str], None]
) -> None:
    """Serve a witness until a signal arrives.

    Args:
        wishes: what the operator asks.
        listen: host and port.
        ready: told the address once requests are accepted.
        told: told sentences for the operator.

    Raises:
        ConfigurationError: keys, logs, the storage or the address do not fit; or a key was retired meanwhile.
        RolledBackError: state was lost, before or meanwhile, or is older than what was published.
        StorageError: a storage failed before requests were accepted.
    """
    host, port = parse_listen(listen)
    shutdown = trio.Event()
    async with open_witness(wishes) as running:
        complain(running.notes, told)
        app = WitnessApp(witness=running.witness, storage=running.storage, signs_subtrees=wishes.signs_subtrees)

        async def work() -> None:
            async with trio.open_nursery() as beside:
                beside.start_soon(partial(keep_logs_fresh, running, wishes, told=told))
                beside.start_soon(partial(watch_decisions, running, stop=shutdown.set))
                beside.start_soon(publish_again, running.witness)
                async with trio.open_nursery() as nursery:
                    start = partial(serve_app, app, host=host, port=port, shutdown=shutdown)
                    ready(format_address(await nursery.start(start)))
                beside.cancel_scope.cancel()

        await run_until_signal(work, stop=shutdown.set)
    running.check_not_stopped()  # out here, as errors that pass through a webhook's tasks come in a group


async def adopt_checkpoint(wishes: WitnessWishes, *, body: bytes) -> Checkpoint:
    """Make a checkpoint that this witness cosigned its state again, after its state was lost or restored.

    Raises:
        ConfigurationError: keys, logs, the storage or the checkpoint do not fit.
        RolledBackError: a newer cosignature of ours is known, or one that contradicts it.
        SignatureError: the log, or this witness, did not sign it.
        StorageError: a storage failed.
    """
    wanted, listed = _read_flags(wishes), read_lists(wishes.lists)
    async with AsyncExitStack() as stack:
        keys = [signer.verifier for signer in await _open_signers(stack, wishes)]
        LogSet(wanted, cosigners=keys)  # says what is wrong with the flags before a storage is opened
        storage = await _open(stack, wishes.storage, "--storage")
        anchor = None if wishes.anchor is None else await _open(stack, wishes.anchor, "--anchor")
        for place in filter(None, (storage, anchor)):
            await check_roles(place, WITNESS, keys)
        own = await check_identity(storage, anchor, keys)
        state = WitnessState(storage=storage, anchor=anchor, own=own)
        logs = LogSet(wanted, cosigners=own)
        await Roster(storage=storage, logs=logs).refresh(listed, writes=False)
        with reading_given():
            tree = await state.adopt(body, logs)
        await restore_identity(storage, anchor, keys)
        return tree


async def retire_witness(wishes: WitnessWishes) -> tuple[str, ...]:
    """Note that the keys never sign again from this storage; return all that are retired.

    Raises:
        ConfigurationError: a key cannot be read, or makes another statement here.
        StorageError: a storage failed.
    """
    async with AsyncExitStack() as stack:
        keys = [signer.verifier for signer in await _open_signers(stack, wishes)]
        storage = await stack.enter_async_context(open_storage(wishes.storage))
        anchor = None if wishes.anchor is None else await stack.enter_async_context(open_storage(wishes.anchor))
        for place in filter(None, (storage, anchor)):
            await check_retirable(place, WITNESS, keys)
        return (await retire_keys(storage, anchor, keys)).retired


async def _open_signers(stack: AsyncExitStack, wishes: WitnessWishes) -> list[Signer]:
    return await stack.enter_async_context(open_signers(wishes.keys, passphrase=ask_passphrase))


async def _open(stack: AsyncExitStack, address: str, flag: str) -> Storage:
    return await stack.enter_async_context(open_reliable(address, flag=flag, role=Role.WITNESS, who="a witness"))


async def keep_fork(
    storage: Storage,
    logs: LogSet,
    own: Sequence[VerifierKey],
    fork: Fork,
    *,
    tell: Callable[[str, bytes], None] | None = None,
) -> None:
    """Keep a proof of a fork, and tell of it where it was not kept before; the storage may fail, the log line stays."""
    log = logs.get(fork.origin)
    body = make_evidence(
        log_keys=log.keys if log is not None else (),
        witness_keys=own,
        origin=fork.origin,
        ours=fork.ours,
        theirs=fork.theirs,
        proof=fork.proof,
        seen=format_time(now()),
    )
    key = evidence_key(fork.origin, body)
    try:
        await storage.put(key, body, if_absent=True, content_type="application/json")
    except PreconditionFailedError:
        return  # it is there already
    except StorageError as error:
        _log.error("evidence_lost", extra={"origin": fork.origin, "error": str(error)})
        return
    _log.error("evidence_kept", extra={"origin": fork.origin, "key": key})
    if tell is not None:
        tell(fork.origin, body)


def _read_flags(wishes: WitnessWishes) -> list[WitnessedLog]:
    return [replace(log, refuses_extensions=wishes.refuses_extensions) for log in parse_log_flags(wishes.logs)]


def _seconds() -> float:
    return now().timestamp()
