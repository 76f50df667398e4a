"""Policies: which logs and witnesses are trusted, and which of the witnesses have to have cosigned a checkpoint.

Rules:

- Whoever made it, a `Policy` is one that a file can hold: `parse_policy` of `format_policy` gives the same value.
- A checkpoint is valid where a log of its own origin signed it and its cosigners meet the quorum. Lines of all keys of
  the policy have to verify, needed or not; of all others nothing is believed.
- What a witness says counts once, however often it cosigned.

What it does not do: define the text (`mirrorwitness.tlog.policy_text`), use the URLs, judge timestamps (also one of 0
counts), or read files and inclusion proofs (`mirrorwitness.tlog.proof`).

SPEC: C2SP tlog-policy (no version yet); for lines that do not verify C2SP signed-note v1.0.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import OpenedCheckpoint, check_checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import Cosignature, Statement, check_cosignatures
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.policy_text import NO_QUORUM, PolicyLines, format_policy_lines, parse_policy_lines, show_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Note
    from mirrorwitness.tlog.policy_text import Group, PolicyLog, PolicyWitness

__all__ = ["Policy", "PolicyVerdict", "check_policy", "format_policy", "parse_policy"]

_SHOWN: Final = 100
_MISSING_SHOWN: Final = 1_000


@dataclass(frozen=True, slots=True)
class Policy:
    """Whom to trust. A changed one is made with `dataclasses.replace`, and checked as one that was read.

    Attributes:
        logs: the logs, in the file's order; may be empty.
        witnesses: the witnesses, in the file's order.
        groups: the groups, in the file's order: members stand before their groups.
        quorum: name of the witness or group that has to have cosigned; None where none has to.

    Raises:
        ConfigurationError: no file can say this.
    """

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[Group, ...]
    quorum: bytes | None

    def __post_init__(self) -> None:
        """Hold the value to the rules of the file that it makes: they stand in one place."""
        try:
            read = parse_policy_lines(format_policy(self))
        except UnicodeEncodeError as error:
            raise ConfigurationError(f"policy: a URL has the lone surrogate {error.object[error.start]!a}") from error
        if read != (self.logs, self.witnesses, self.groups, self.quorum):
            raise ConfigurationError("policy: no file says this: a name or a URL would be read as something else")

    def is_met(self, witnessed: Iterable[VerifierKey]) -> bool:
        """Say whether cosignatures of these keys meet the quorum; keys of others count for nothing."""
        return self.quorum is None or self.quorum in self._met(witnessed)

    def missing(self, witnessed: Iterable[VerifierKey]) -> list[str]:
        """Say what the quorum lacks, for people, from the quorum downwards; nothing where it is met."""
        met = self._met(witnessed)
        if self.quorum is None or self.quorum in met:
            return []
        needed, lines = {self.quorum}, list[str]()
        for group in reversed(self.groups):
            if group.name in needed and group.name not in met:
                lines.append(_describe(group, met))
                needed.update(group.members)
        return lines or [f"witness {show_name(self.quorum)}: did not cosign"]

    def explain(self, witnessed: Iterable[VerifierKey]) -> list[str]:
        """Say of each witness, each group and the quorum whether it is met, a line each, for people."""
        met = self._met(witnessed)
        found = {True: "cosigned", False: "did not cosign"}
        lines = [f"witness {show_name(witness.name)}: {found[witness.name in met]}" for witness in self.witnesses]
        lines += [_describe(group, met) for group in self.groups]
        quorum = "met" if self.quorum is None or self.quorum in met else "not met"
        return [*lines, f"quorum {show_name(self.quorum or NO_QUORUM)}: {quorum}"]

    def _met(self, witnessed: Iterable[VerifierKey]) -> set[bytes]:
        """Return the names of the witnesses that cosigned and of the groups that are met by them."""
        keys = set(witnessed)
        met = {witness.name for witness in self.witnesses if witness.key in keys}
        for group in self.groups:  # in this order no group comes before its members
            if len(met.intersection(group.members)) >= group.threshold:
                met.add(group.name)
        return met


@dataclass(frozen=True, slots=True)
class PolicyVerdict:
    """A checkpoint that is valid under a policy, and why.

    Attributes:
        opened: the checkpoint, with the lines of the log.
        cosignatures: those of witnesses of the policy, in the note's order; a witness may have more than one.
    """

    opened: OpenedCheckpoint
    cosignatures: tuple[Cosignature, ...]


def parse_policy(body: bytes) -> Policy:
    """Read a policy.

    Raises:
        ConfigurationError: it is not a policy; the message says in which line, and what was expected.
    """
    return Policy(*parse_policy_lines(body))


def format_policy(policy: Policy) -> bytes:
    """Write a policy in its one canonical form, with thresholds as numbers; comments are not kept."""
    return format_policy_lines(PolicyLines(policy.logs, policy.witnesses, policy.groups, policy.quorum))


def check_policy(body: bytes, policy: Policy, *, origin: str | None = None) -> PolicyVerdict:
    """Read a checkpoint and check it under a policy.

    Args:
        body: the signed checkpoint, with cosignatures.
        policy: whom to trust.
        origin: None where the logs' keys have the names of their logs, as the specification has it; else the log that
            the checkpoint has to be of, and each key of the policy's logs may sign for it. Go's ``go.sum database
            tree``, signed by a key of another name, needs this.

    Raises:
        UpstreamProtocolError: it is not a checkpoint, or one of another origin.
        SignatureError: a line of one of the keys does not verify, no log of that origin signed it, or its cosigners do
            not meet the quorum.
        ConfigurationError: the policy has no logs, or two keys with one name and one ID.
    """
    if not policy.logs:
        raise ConfigurationError("policy: has no logs, and a checkpoint can only be checked with the key of its log")
    note = parse_note(body)
    checkpoint = parse_checkpoint(note.text)
    opened = _check_log(note, checkpoint, [log.key for log in policy.logs], origin)
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, note.text)
    found = check_cosignatures(note.signatures, [witness.key for witness in policy.witnesses], statement)
    keys = [cosignature.key for cosignature in found]
    if not policy.is_met(keys):
        raise SignatureError(
            f"checkpoint of {checkpoint.origin[:_SHOWN]!r} at {checkpoint.size}: its cosignatures do not meet the "
            f"quorum: {'; '.join(policy.missing(keys))[:_MISSING_SHOWN]}"
        )
    return PolicyVerdict(opened, found)


def _check_log(note: Note, checkpoint: Checkpoint, keys: list[VerifierKey], origin: str | None) -> OpenedCheckpoint:
    """Check the lines of all logs, and keep those of keys that may sign for this one."""
    found = checkpoint.origin
    if origin is not None and found != origin:
        raise UpstreamProtocolError(f"checkpoint: the origin is {found[:_SHOWN]!r}, expected {origin[:_SHOWN]!r}")
    opened = check_checkpoint(note, checkpoint, keys)
    if origin is not None:
        return opened
    signed = tuple([(key, line) for key, line in opened.signed if key.name == found])
    if not signed:  # SPEC: "This name MUST correspond to the log's origin line"
        names = ", ".join(repr(key.name[:_SHOWN]) for key, _ in opened.signed)
        raise SignatureError(
            f"checkpoint of {found[:_SHOWN]!r}: of the policy's logs it has signatures of {names[:_MISSING_SHOWN]}, "
            "expected one of a key with the origin's name"
        )
    return replace(opened, signed=signed)


def _describe(group: Group, met: set[bytes]) -> str:
    yes = [member for member in group.members if member in met]
    no = [member for member in group.members if member not in met]
    parts = [
        f"{', '.join(map(show_name, names))} {verb}" for names, verb in ((yes, "cosigned"), (no, "did not")) if names
    ]
    state = "met" if group.name in met else f"{len(yes)} of {group.threshold} needed"
    return f"group {show_name(group.name)}: {state} ({'; '.join(parts)})"
