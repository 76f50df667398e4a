"""Policies as text: the lines that define whom to trust, and the rules that every such text follows.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<number> <name>...
    quorum <name>|none

Rules:

- A policy is octets: lines that each end in a newline, items with spaces and tabs around them, no other control
  character. Empty lines and lines whose first item begins with ``#`` say nothing. Names are octets and nothing else.
- A line uses only names that lines above it define. Witnesses and groups share their names; each is defined once, is a
  member of one group at most, and is not ``none``. So what a witness says counts once, and groups have no circles.
- No two logs and no two witnesses have the same public key, whatever its name and type.
- There is exactly one quorum. ``quorum none`` asks for no cosignature.

What it does not do: use the URLs, or say what a policy means for a checkpoint (`mirrorwitness.tlog.policy`).

SPEC: C2SP tlog-policy (no version yet).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import LOG_KEYS
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import VerifierKey, parse_verifier_key

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import KeyType

__all__ = [
    "MAX_OF_EACH",
    "MAX_POLICY_BYTES",
    "NO_QUORUM",
    "Group",
    "PolicyLines",
    "PolicyLog",
    "PolicyWitness",
    "format_policy_lines",
    "parse_policy_lines",
    "show_name",
]

MAX_POLICY_BYTES: Final = 1_000_000
"""Largest policy in bytes; over 500 ML-DSA-44 keys fit."""

MAX_OF_EACH: Final = 1_000
"""Most logs, most witnesses and most groups. SPEC: "at least up to 32 logs, 32 witnesses, and 32 groups"."""

NO_QUORUM: Final = b"none"
"""What stands in place of a name where no cosignature is asked for; nothing else has this name."""

_FORBIDDEN: Final = re.compile(rb"[^\t\n\x20-\x7e\x80-\xff]")
_NUMBER: Final = re.compile(rb"[1-9][0-9]{0,5}")
_FORMS: Final = {
    b"log": "log <vkey> [<url>]",
    b"witness": "witness <name> <vkey> [<url>]",
    b"group": "group <name> all|any|<number> <name>...",
    b"quorum": "quorum <name>|none",
}
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class PolicyLog:
    """A log that is trusted to sign checkpoints of its own.

    Attributes:
        key: the log's key; its name is the log's origin.
        url: where the log is, in whatever sense; octets that are not UTF-8 stand in it as lone surrogates (PEP 383).
    """

    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class PolicyWitness:
    """A witness that is trusted to cosign checkpoints.

    Attributes:
        name: what the policy calls it; not the key's name.
        key: its key.
        url: where it is, in whatever sense; as for a log.
    """

    name: bytes
    key: VerifierKey
    url: str | None


@dataclass(frozen=True, slots=True)
class Group:
    """Witnesses and groups, of which some number has to have cosigned.

    Attributes:
        name: what the policy calls it.
        threshold: how many of the members it takes.
        members: names of witnesses and of groups above it.
    """

    name: bytes
    threshold: int
    members: tuple[bytes, ...]


class PolicyLines(NamedTuple):
    """What the lines of a policy say.

    Attributes:
        logs: the logs, in the file's order; may be empty.
        witnesses: the witnesses, in the file's order.
        groups: the groups, in the file's order: members stand before their groups.
        quorum: name of the witness or group that has to have cosigned; None where none has to.
    """

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[Group, ...]
    quorum: bytes | None


def parse_policy_lines(body: bytes) -> PolicyLines:
    """Read the lines of a policy.

    Raises:
        ConfigurationError: it is not a policy; the message says in which line, and what was expected.
    """
    if len(body) > MAX_POLICY_BYTES:
        raise ConfigurationError(f"policy: has {len(body)} bytes, more than {MAX_POLICY_BYTES}")
    reader = _Reader()
    found = _FORBIDDEN.search(body)
    if found:
        reader.line = body.count(b"\n", 0, found.start()) + 1
        raise reader.bad(f"has the octet 0x{found.group().hex()}; expected no control characters but tab and newline")
    *lines, rest = body.split(b"\n")
    for reader.line, line in enumerate(lines, 1):
        items = line.split()  # at spaces and tabs: the others are not there
        if items and not items[0].startswith(b"#"):
            reader.read(items)
    reader.line = len(lines) + 1
    if rest:
        raise reader.bad(f"{_quote(rest)}: expected a newline at its end")
    if ("quorum", b"") not in reader.seen:
        raise reader.bad("the end; expected a line quorum <name>|none before it")
    counts = {"logs": len(reader.logs), "witnesses": len(reader.witnesses), "groups": len(reader.groups)}
    for what, count in counts.items():
        if count > MAX_OF_EACH:
            raise ConfigurationError(f"policy: has {count} {what}, more than {MAX_OF_EACH}")
    return PolicyLines(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)


def format_policy_lines(lines: PolicyLines) -> bytes:
    """Write the lines of a policy in their one canonical form, with thresholds as numbers.

    Nothing is checked: `parse_policy_lines` gives back the same value only where this is one that a file can hold.

    Raises:
        UnicodeEncodeError: a URL has a lone surrogate that stands for no octet.
    """
    texts = [_line(b"log", str(log.key), log.url) for log in lines.logs]
    texts += [_line(b"witness", witness.name, str(witness.key), witness.url) for witness in lines.witnesses]
    texts += [_line(b"group", group.name, str(group.threshold), *group.members) for group in lines.groups]
    return b"".join([*texts, _line(b"quorum", lines.quorum or NO_QUORUM)])


def show_name(name: bytes) -> str:
    """Return a name, or other octets, as a terminal can show it."""
    text = name[:_SHOWN].decode(errors="backslashreplace")
    return "".join([c if c.isprintable() else ascii(c)[1:-1] for c in text])


@dataclass(slots=True)
class _Reader:
    """What the lines so far have defined, and in which line each thing is that can be there once."""

    line: int = 0
    logs: list[PolicyLog] = field(default_factory=list[PolicyLog])
    witnesses: list[PolicyWitness] = field(default_factory=list[PolicyWitness])
    groups: list[Group] = field(default_factory=list[Group])
    quorum: bytes | None = None
    seen: dict[tuple[str, bytes], int] = field(default_factory=dict[tuple[str, bytes], int])

    def read(self, items: list[bytes]) -> None:
        """Take in the items of a line."""
        match items:
            case [b"log", vkey, *url] if len(url) <= 1:
                key = self.parse_key(vkey, LOG_KEYS)
                self.mark("log", key.public, "a log with this public key")
                self.logs.append(PolicyLog(key, _parse_url(url)))
            case [b"witness", name, vkey, *url] if len(url) <= 1:
                key = self.parse_key(vkey, COSIGNER_KEYS)
                self.mark("witness", key.public, "a witness with this public key")
                self.define(name)
                self.witnesses.append(PolicyWitness(name, key, _parse_url(url)))
            case [b"group", name, threshold, first, *more]:
                members = (first, *more)
                for member in members:
                    self.require(member)
                    self.mark("member", member, f"a group with the member {_quote(member)}")
                self.define(name)
                self.groups.append(Group(name, self.parse_threshold(threshold, len(members)), members))
            case [b"quorum", name]:
                self.mark("quorum", b"", "a quorum")
                if name != NO_QUORUM:
                    self.require(name)
                    self.quorum = name
            case _:
                form = _FORMS.get(items[0], "log, witness, group or quorum")
                raise self.bad(f"{_quote(b' '.join(items))}: expected {form}")

    def parse_key(self, item: bytes, kinds: tuple[KeyType, ...]) -> VerifierKey:
        try:  # octets that are not UTF-8 become lone surrogates, which no key's name has
            return parse_verifier_key(item.decode(errors="surrogateescape"), *kinds)
        except ConfigurationError as error:
            raise self.bad(str(error)) from error

    def parse_threshold(self, text: bytes, count: int) -> int:
        value = {b"any": 1, b"all": count}.get(text) or (int(text) if _NUMBER.fullmatch(text) else 0)
        if not 1 <= value <= count:
            raise self.bad(f"threshold {_quote(text)}: expected all, any, or a number from 1 to {count}")
        return value

    def define(self, name: bytes) -> None:
        if name == NO_QUORUM:
            raise self.bad("'none' names no witness and no group; expected another name")
        self.mark("name", name, f"a definition of {_quote(name)}")

    def require(self, name: bytes) -> None:
        if ("name", name) not in self.seen:
            raise self.bad(f"{_quote(name)}: expected the name of a witness or group of a line above")

    def mark(self, kind: str, item: bytes, what: str) -> None:
        """Note in which line something is that can be there once."""
        if (kind, item) in self.seen:
            raise self.bad(f"{what} is in line {self.seen[kind, item]} already; expected it once")
        self.seen[kind, item] = self.line

    def bad(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"policy: line {self.line}: {reason}")


def _parse_url(items: list[bytes]) -> str | None:
    return items[0].decode(errors="surrogateescape") if items else None


def _line(*items: bytes | str | None) -> bytes:
    texts = [
        item.encode(errors="surrogateescape") if isinstance(item, str) else item for item in items if item is not None
    ]
    return b" ".join(texts) + b"\n"


def _quote(name: bytes) -> str:
    return f"'{show_name(name)}'"
