"""The errors that mirrorwitness raises, as one tree ordered by who is at fault.

    MirrorWitnessError
    ├── BudgetExhaustedError          nobody: our own budget of requests is used up, so nobody is asked
    ├── ConfigurationError            the operator: a flag, a file, a setting
    │   ├── LockfileError             a lockfile that cannot be read
    │   └── SelectionError            a selection that contradicts itself or cannot be resolved
    ├── UpstreamError                 the registry or source we read from
    │   ├── UpstreamUnreachableError  no usable answer: refused connection, timeout, cut body, 5xx
    │   ├── UpstreamRefusedError      an answer that says no: 401, 403, 429 that outlived all retries
    │   ├── UpstreamNotFoundError     404 or 410
    │   ├── UpstreamProtocolError     an answer that is not what the protocol promises
    │   │   └── FeedDialectError      a feed that refuses the requests it is there for: 400
    │   └── UpstreamStaleError        a document older than the one that we have
    ├── StorageError                  the directory or bucket
    │   ├── StorageUnavailableError   try again later; the outcome of a write is unknown until read back
    │   ├── StorageRefusedError       credentials, permissions, read-only, full
    │   ├── ObjectMissingError        no object under that key
    │   ├── PreconditionFailedError   a conditional put or delete lost
    │   │   ├── CursorLostError       another worker moved the cursor of our shard
    │   │   ├── LogLostError          another sequencer extended our log
    │   │   └── PackageLostError      another worker changes the same package
    │   └── UnsupportedConditionError the service does not do conditional writes
    ├── RolledBackError               the state of a witness or log is older than what it signed: nothing more is signed
    └── SecurityError                 bytes, signatures or logs disagree; never retried, never caught by a default
        ├── IntegrityMismatchError    bytes are not what their digest says
        ├── SignatureError            a signature that is there and does not verify
        ├── ProofError                a Merkle proof that does not verify
        ├── ForkError                 a log that signed two trees which contradict each other
        └── EquivocationError         one version, two integrities

Rules:

- Names end in ``Error``; every error carries a message that names the thing, the value expected and the value found.
- A boundary (fetch, storage, a parser) lets only errors of this tree out, raised ``from`` their cause.
- A `SecurityError` is evidence. No retry loop, default or ``except Exception`` may swallow one.
- `exit_code` is the one table from error to exit code (DESIGN P3).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, cast

import msgspec

__all__ = [
    "UNREADABLE_JSON",
    "BudgetExhaustedError",
    "ConfigurationError",
    "CursorLostError",
    "EquivocationError",
    "ExitCode",
    "FeedDialectError",
    "ForkError",
    "IntegrityMismatchError",
    "LockfileError",
    "LogLostError",
    "MirrorWitnessError",
    "ObjectMissingError",
    "PackageLostError",
    "PreconditionFailedError",
    "ProofError",
    "RolledBackError",
    "SecurityError",
    "SelectionError",
    "SignatureError",
    "StorageError",
    "StorageRefusedError",
    "StorageUnavailableError",
    "UnsupportedConditionError",
    "UpstreamError",
    "UpstreamNotFoundError",
    "UpstreamProtocolError",
    "UpstreamRefusedError",
    "UpstreamStaleError",
    "UpstreamUnreachableError",
    "exit_code",
    "leaves_of",
]


UNREADABLE_JSON: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding JSON of somebody else raises: of another form, not UTF-8, or nested too deeply."""


class ExitCode(IntEnum):
    """What a command's exit status says (P3); the numbers are a stable contract."""

    COMPLETE = 0
    """Everything asked for is done and verified."""
    USAGE = 2
    """The command line, the configuration or a file of the operator's is wrong; nothing was changed."""
    PARTIAL = 3
    """Named packages are unfinished; the next run tries them again."""
    DIVERGENCE = 4
    """Bytes, a signature or a log disagree; the evidence is kept."""
    UPSTREAM = 5
    """The upstream refused us or could not be reached."""
    INTERRUPTED = 130
    """Stopped by a signal; what was finished is kept."""


class MirrorWitnessError(Exception):
    """Root of every error that mirrorwitness raises on purpose."""


class BudgetExhaustedError(MirrorWitnessError):
    """The month's budget of requests is used up: nothing further is asked until it renews. Never tried again."""


class ConfigurationError(MirrorWitnessError):
    """The operator asked for something that cannot be: a flag, a setting or a file is wrong."""


class LockfileError(ConfigurationError):
    """A lockfile cannot be read; the message gives its path, the line where known, and the reason."""


class SelectionError(ConfigurationError):
    """A selection contradicts itself or cannot be resolved to packages."""


class UpstreamError(MirrorWitnessError):
    """The registry, or another source, is at fault."""


class UpstreamUnreachableError(UpstreamError):
    """No usable answer after all retries: no connection, a timeout, a cut body, a 5xx."""


class UpstreamRefusedError(UpstreamError):
    """The upstream said no.

    Attributes:
        status: the HTTP status, for example 403 or 429; None where a rule of ours refused (host not allowed).
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class UpstreamNotFoundError(UpstreamError):
    """The upstream does not have it (404 or 410). Never by itself a reason to delete anything."""


class UpstreamProtocolError(UpstreamError):
    """An answer that is not what the protocol promises: bad JSON, another package's document, too large."""


class FeedDialectError(UpstreamProtocolError):
    """The feed answers 400 to a request of its own protocol: it speaks another dialect now. Never tried again."""


class UpstreamStaleError(UpstreamError):
    """A document older than the one that we have: a lagging edge. Nothing is replaced; asked again later."""


class StorageError(MirrorWitnessError):
    """The directory or bucket is at fault."""


class StorageUnavailableError(StorageError):
    """The storage gave no usable answer. A write that ends so has an *unknown* outcome: read it back."""


class StorageRefusedError(StorageError):
    """The storage said no: credentials, permissions, read-only file system, disk full."""


class ObjectMissingError(StorageError):
    """There is no object under the key."""


class PreconditionFailedError(StorageError):
    """A conditional put or delete lost: somebody else was first. Nothing was written."""


class CursorLostError(PreconditionFailedError):
    """Another worker follows the same shard of the same mirror, and moved its cursor."""


class LogLostError(PreconditionFailedError):
    """Another sequencer extended the same log: this one stops, and nothing of its last batch was logged."""


class PackageLostError(PreconditionFailedError):
    """Another worker changed a package that we were about to change. Begun anew, it is found as that one left it."""


class UnsupportedConditionError(StorageError):
    """The service answered that it does not do this kind of conditional write."""


class RolledBackError(MirrorWitnessError):
    """What a witness, or a log, remembers is older than what it signed; to go on could contradict it (P7)."""


class SecurityError(MirrorWitnessError):
    """Bytes, a signature or a log disagree. Kept as evidence, reported, exit code 4."""


class IntegrityMismatchError(SecurityError):
    """Bytes whose digest is not the one they were promised under."""


class SignatureError(SecurityError):
    """A signature that is present and does not verify."""


class ProofError(SecurityError):
    """A Merkle proof that does not verify: two tree heads, or an entry and a tree, do not belong together."""


class ForkError(SecurityError):
    """A log signed two trees that contradict each other. Nothing that it says is believed; the evidence is kept."""


class EquivocationError(SecurityError):
    """One name@version with two integrities: somebody was shown other bytes."""


_EXIT_CODES: tuple[tuple[type[BaseException], ExitCode], ...] = (
    (BudgetExhaustedError, ExitCode.PARTIAL),
    (ConfigurationError, ExitCode.USAGE),
    (RolledBackError, ExitCode.DIVERGENCE),
    (SecurityError, ExitCode.DIVERGENCE),
    (UpstreamError, ExitCode.UPSTREAM),
    (StorageRefusedError, ExitCode.USAGE),
    (StorageError, ExitCode.PARTIAL),
    (KeyboardInterrupt, ExitCode.INTERRUPTED),
)


def exit_code(error: BaseException) -> ExitCode | None:
    """Return the exit code for an error that ended a whole command, or None where the error is a bug."""
    return next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), None)


def leaves_of(error: BaseException) -> list[BaseException]:
    """Return the errors of a group, and of the groups in it, in order; of an error that is none, itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    group = cast("BaseExceptionGroup[BaseException]", error)
    return [leaf for inner in group.exceptions for leaf in leaves_of(inner)]
