"""Quorum: what has to have cosigned our own log's checkpoints before they are published.

Rules:

- The log in the policy is always this log, by its own keys, whatever a policy file says of logs: a file that is meant
  for clients serves the log as well.
- Without a policy file every witness that is given has to have cosigned, by one of its keys at least; without
  witnesses the log's own signature suffices, and nobody has seen what it signed but the log.
- A policy names log mirrors as it names witnesses; that a key is one of a mirror, a flag says. Without a policy file a
  mirror is not needed.
- Witnesses of a policy that have a URL are asked there; one that is given by hand, at the URL that is given.

What it does not do: ask (`mirrorwitness.sumdb.cosign`).

SPEC: C2SP tlog-policy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS
from mirrorwitness.tlog.keys import VerifierKey, parse_verifier_key
from mirrorwitness.tlog.policy import Policy
from mirrorwitness.tlog.policy_text import Group, PolicyLog, PolicyWitness

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["KnownWitness", "list_witnesses", "make_quorum", "parse_witness_flags"]

_ALL: Final = b"all-witnesses"
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class KnownWitness:
    """A witness that can be asked.

    Attributes:
        url: its submission prefix.
        keys: its keys, at least one, all of one name.
    """

    url: str
    keys: tuple[VerifierKey, ...]


def parse_witness_flags(texts: Iterable[str], *, flag: str = "--witness") -> tuple[KnownWitness, ...]:
    """Read ``VKEY=URL``, each; keys at one URL are those of one witness, or of one log mirror.

    Raises:
        ConfigurationError: one has another form, or the keys at one URL have two names.
    """
    given: list[tuple[str, VerifierKey]] = []
    for text in texts:
        # Base64 ends in up to two equals signs, so the URL begins at the first one that a scheme follows.
        vkey, separator, rest = text.partition("=http")
        if not separator:
            raise ConfigurationError(f"{flag} {text[:_SHOWN]!r}: expected VKEY=URL, the URL with http:// or https://")
        given.append((f"http{rest}", parse_verifier_key(vkey, *COSIGNER_KEYS)))
    return _join(given)


def list_witnesses(
    given: Sequence[KnownWitness], policy: Policy | None, mirrors: Sequence[KnownWitness] = ()
) -> tuple[KnownWitness, ...]:
    """Return which witnesses to ask: those that were given, and those of a policy that have a URL and are no mirrors.

    Raises:
        ConfigurationError: the keys at one URL have two names.
    """
    known = {key for witness in (*given, *mirrors) for key in witness.keys}
    found = [(witness.url, key) for witness in given for key in witness.keys]
    listed = () if policy is None else policy.witnesses
    found += [(named.url, named.key) for named in listed if named.url is not None and named.key not in known]
    return _join(found)


def make_quorum(own: Sequence[VerifierKey], witnesses: Sequence[KnownWitness], policy: Policy | None) -> Policy:
    """Return the policy that a checkpoint has to fulfil before it is published.

    Args:
        own: the log's keys.
        witnesses: those that are asked.
        policy: what the operator wrote, or None.

    Raises:
        ConfigurationError: no answer of the witnesses that are asked can meet it, or two have one key.
    """
    logs = tuple([PolicyLog(key, None) for key in own])
    if policy is None:
        return _require_all(logs, witnesses)
    policy = replace(policy, logs=logs)
    asked = [key for witness in witnesses for key in witness.keys]
    if not policy.is_met(asked):
        raise ConfigurationError(
            f"the policy can never be met by the witnesses that are asked: {'; '.join(policy.missing(asked))[:1000]}; "
            "give --witness VKEY=URL for those that have no URL in it"
        )
    return policy


def _require_all(logs: tuple[PolicyLog, ...], witnesses: Sequence[KnownWitness]) -> Policy:
    named: list[PolicyWitness] = []
    groups: list[Group] = []
    members: list[bytes] = []
    for number, witness in enumerate(witnesses, 1):
        names = [b"witness-%d-key-%d" % (number, at) for at in range(1, len(witness.keys) + 1)]
        named += [PolicyWitness(name, key, None) for name, key in zip(names, witness.keys, strict=True)]
        groups.append(Group(b"witness-%d" % number, 1, tuple(names)))
        members.append(groups[-1].name)
    if not members:
        return Policy(logs, (), (), None)
    groups.append(Group(_ALL, len(members), tuple(members)))
    return Policy(logs, tuple(named), tuple(groups), _ALL)


def _join(given: Iterable[tuple[str, VerifierKey]]) -> tuple[KnownWitness, ...]:
    by_url: dict[str, list[VerifierKey]] = {}
    for url, key in given:
        keys = by_url.setdefault(url.rstrip("/"), [])
        if keys and keys[0].name != key.name:
            raise ConfigurationError(f"witness {key.name}: its URL {url[:_SHOWN]!r} is that of {keys[0].name} as well")
        if key not in keys:
            keys.append(key)
    return tuple([KnownWitness(url, tuple(keys)) for url, keys in by_url.items()])
