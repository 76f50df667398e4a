"""Open who signs for one of the two statements beside a witness's, and the ways out where its state was lost.

Rules:

- What is checked before a witness may sign is checked here as well, under the role's own keys and places
  (`mirrorwitness.logmirror.roles`): whose storage it is, whether state was lost or restored, and that no key or name
  has two roles.
- A message names the commands of the role, though the state is kept by the witness's code.

What it does not do: say what is signed (`mirrorwitness.logmirror.service`, `mirrorwitness.logmirror.attest`).
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, RolledBackError
from mirrorwitness.logmirror.cosigner import Cosigner
from mirrorwitness.logmirror.roles import RoleView, check_retirable, check_roles, in_role
from mirrorwitness.run.inspecting import reading_given
from mirrorwitness.run.relying import open_reliable
from mirrorwitness.run.session import now
from mirrorwitness.run.signers import ask_passphrase, open_signers
from mirrorwitness.run.witnessing import keep_fork
from mirrorwitness.storage.address import open_storage
from mirrorwitness.storage.probe_verdict import Role as StorageRole
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.witness.logs import LogSet, parse_log_flags
from mirrorwitness.witness.startup import (
    check_identity,
    check_kept,
    check_states,
    open_identity,
    restore_identity,
    retire_keys,
)
from mirrorwitness.witness.state import WitnessState

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence

    from mirrorwitness.logmirror.roles import Role
    from mirrorwitness.storage import Storage
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.witness.logs import WitnessedLog
    from mirrorwitness.witness.service import Fork

__all__ = ["CosignerWishes", "OpenedCosigner", "adopt_cosigned", "open_cosigner", "retire_cosigner", "seconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CosignerWishes:
    """What the operator asks of a cosigner of either statement.

    Attributes:
        storage: the address of its storage.
        anchor: the address of a second place for what was cosigned, or None.
        keys: where its keys are, as `mirrorwitness.run.signers` reads them.
        logs: vkeys, each with a URL or without.
        refuses_extensions: refuse checkpoints with extension lines.
    """

    storage: str
    anchor: str | None = None
    keys: tuple[str, ...] = ()
    logs: tuple[str, ...] = ()
    refuses_extensions: bool = False


@dataclass(frozen=True, slots=True)
class OpenedCosigner:
    """A cosigner that may sign.

    Attributes:
        cosigner: signs.
        logs: whom it knows.
        storage: its storage.
        on_fork: keeps a proof of a fork.
        check_kept: checks that its keys may sign on (`mirrorwitness.witness.startup.check_kept`).
    """

    cosigner: Cosigner
    logs: LogSet
    storage: Storage
    on_fork: Callable[[Fork], Awaitable[None]]
    check_kept: Callable[[], Awaitable[None]]

    def check_not_stopped(self) -> None:
        """Check that nothing was found meanwhile for which it had to stop.

        Raises:
            ConfigurationError: a key was retired.
            RolledBackError: the storage does not know any more whose it is.
        """
        if self.cosigner.stopped is not None:
            raise self.cosigner.stopped


@asynccontextmanager
async def open_cosigner(wishes: CosignerWishes, role: Role) -> AsyncGenerator[OpenedCosigner, None]:
    """Open storage and anchor, check everything that has to be known before a key signs, and yield who signs.

    Raises:
        ConfigurationError: keys, logs or the storage do not fit.
        RolledBackError: state was lost, or is older than what was published.
        StorageError: a storage failed.
    """
    if wishes.anchor == wishes.storage:
        raise ConfigurationError(f"--anchor {wishes.anchor} is --storage: restored together, it would tell nothing")
    wanted = _read_logs(wishes)
    async with AsyncExitStack() as stack:
        signers = await stack.enter_async_context(open_signers(wishes.keys, passphrase=ask_passphrase))
        verifiers = [signer.verifier for signer in signers]
        LogSet(wanted, cosigners=verifiers)  # says what is wrong with the flags before anything is written
        storage = await _open(stack, wishes.storage, "--storage", role)
        anchor = None if wishes.anchor is None else await _open(stack, wishes.anchor, "--anchor", role)
        await _check_roles(storage, anchor, role, verifiers)
        view, other = _views(storage, anchor, role, wanted)
        with _speaking(role):
            own = await open_identity(view, other, verifiers)
            logs = LogSet(wanted, cosigners=own)
            state = WitnessState(storage=view, anchor=other, own=own)
            await check_states(view, other, logs, state)
        cosigner = Cosigner(state=state, signers=signers, own=own, now=seconds)
        on_fork = partial(keep_fork, storage, logs, own)
        yield OpenedCosigner(cosigner, logs, storage, on_fork, partial(_check_kept, view, other, role, verifiers))


async def adopt_cosigned(wishes: CosignerWishes, role: Role, *, body: bytes) -> Checkpoint:
    """Make a checkpoint that was cosigned in a role its state again, after that was lost or restored.

    Raises:
        ConfigurationError: keys, logs, the storage or the checkpoint do not fit.
        RolledBackError: a newer cosignature of ours is known, or one that contradicts it.
        SignatureError: the log, or we, did not sign it.
        StorageError: a storage failed.
    """
    wanted = _read_logs(wishes)
    async with AsyncExitStack() as stack:
        signers = await stack.enter_async_context(open_signers(wishes.keys, passphrase=ask_passphrase))
        keys = [signer.verifier for signer in signers]
        storage = await _open(stack, wishes.storage, "--storage", role)
        anchor = None if wishes.anchor is None else await _open(stack, wishes.anchor, "--anchor", role)
        await _check_roles(storage, anchor, role, keys)
        view, other = _views(storage, anchor, role, wanted)
        with _speaking(role):
            own = await check_identity(view, other, keys)
            state = WitnessState(storage=view, anchor=other, own=own)
            with reading_given():
                tree = await state.adopt(body, LogSet(wanted, cosigners=own))
            await restore_identity(view, other, keys)
        return tree


async def retire_cosigner(wishes: CosignerWishes, role: Role) -> tuple[str, ...]:
    """Note that the keys never sign again in a role from this storage; return all that are retired.

    Raises:
        ConfigurationError: a key cannot be read, or has another role here.
        StorageError: a storage failed.
    """
    async with AsyncExitStack() as stack:
        signers = await stack.enter_async_context(open_signers(wishes.keys, passphrase=ask_passphrase))
        storage = await stack.enter_async_context(open_storage(wishes.storage))
        anchor = None if wishes.anchor is None else await stack.enter_async_context(open_storage(wishes.anchor))
        keys = [signer.verifier for signer in signers]
        for place in filter(None, (storage, anchor)):
            await check_retirable(place, role, keys)
        view, other = _views(storage, anchor, role, [])
        return (await retire_keys(view, other, keys)).retired


def seconds() -> float:
    """Return seconds since 1970."""
    return now().timestamp()


def _read_logs(wishes: CosignerWishes) -> list[WitnessedLog]:
    return [replace(log, refuses_extensions=wishes.refuses_extensions) for log in parse_log_flags(wishes.logs)]


def _views(
    storage: Storage, anchor: Storage | None, role: Role, logs: Sequence[WitnessedLog]
) -> tuple[RoleView, RoleView | None]:
    digests = [origin_hash(log.origin) for log in logs]
    return RoleView(storage, role, digests), None if anchor is None else RoleView(anchor, role, digests)


async def _check_roles(storage: Storage, anchor: Storage | None, role: Role, keys: Sequence[VerifierKey]) -> None:
    for place in filter(None, (storage, anchor)):
        await check_roles(place, role, keys)


async def _check_kept(view: RoleView, anchor: RoleView | None, role: Role, keys: Sequence[VerifierKey]) -> None:
    with _speaking(role):
        await check_kept(view, anchor, keys)


async def _open(stack: AsyncExitStack, address: str, flag: str, role: Role) -> Storage:
    who = f"the {role.title}"
    return await stack.enter_async_context(open_reliable(address, flag=flag, role=StorageRole.WITNESS, who=who))


@contextmanager
def _speaking(role: Role) -> Generator[None, None, None]:
    """Let the errors of a cosigner's state name the commands of its role."""
    try:
        yield
    except RolledBackError as error:
        raise RolledBackError(in_role(str(error), role)) from error
