"""Terms: whose word counts about one log, as a policy that holds for nothing else. Pure.

Rules:

- The log's keys are those that the user named, never those of a file that came with a policy: a policy that names logs
  has to name this one, and what it says of others does not count.
- All keys of a log have its name, which is the origin of its checkpoints. One of them is enough to sign, so that a log
  can change its keys; every line of one of them has to verify.
- Without a policy no witness is asked: the log could show others another tree, and only who compares would notice.

What it does not do: read files, or verify (`mirrorwitness.tlog.policy`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import LOG_KEYS
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.policy import Policy, check_policy
from mirrorwitness.tlog.policy_text import PolicyLog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.policy import PolicyVerdict

__all__ = ["Terms", "make_terms", "parse_keys"]

_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class Terms:
    """Whom to believe about one log.

    Attributes:
        origin: the log.
        keys: its keys.
        policy: these keys, and which witnesses have to have cosigned.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    policy: Policy

    @property
    def asks_witnesses(self) -> bool:
        """Whether anybody but the log has to have signed."""
        return self.policy.quorum is not None

    def check(self, note: bytes) -> PolicyVerdict:
        """Check that a checkpoint is this log's, and cosigned as the policy says.

        Raises:
            UpstreamProtocolError: it is no checkpoint, or one of another log.
            SignatureError: a line of a trusted key does not verify, the log's is missing, or the quorum is not met.
        """
        return check_policy(note, self.policy, origin=self.origin)


def parse_keys(vkeys: Sequence[str]) -> tuple[VerifierKey, ...]:
    """Read the keys of one log, each once.

    Raises:
        ConfigurationError: one is no log's key, or they have different names.
    """
    keys = tuple(dict.fromkeys(parse_verifier_key(vkey, *LOG_KEYS) for vkey in vkeys))
    names = sorted({key.name for key in keys})
    if len(names) > 1:
        raise ConfigurationError(f"keys of different logs: {', '.join(names)[:_SHOWN]}; expected those of one")
    return keys


def make_terms(keys: Sequence[VerifierKey], given: Policy | None) -> Terms:
    """Join the keys of a log and a policy.

    Args:
        keys: of the log, one at least.
        given: the policy; None where the log's own signature is enough.

    Raises:
        ConfigurationError: the keys have different names, or the policy trusts other logs and not this one.
    """
    names = sorted({key.name for key in keys})
    if len(names) != 1:
        raise ConfigurationError(f"keys of {len(names)} logs ({', '.join(names)[:_SHOWN]}): expected those of one")
    logs = tuple([PolicyLog(key, None) for key in dict.fromkeys(keys)])
    if given is None:
        return Terms(names[0], tuple(dict.fromkeys(keys)), Policy(logs, (), (), None))
    trusted = {log.key for log in given.logs}
    if trusted and not trusted & set(keys):
        known = ", ".join(dict.fromkeys(log.key.name for log in given.logs))
        raise ConfigurationError(
            f"the policy trusts {known[:_SHOWN]!r}, and no key of {names[0][:_SHOWN]!r} that was named: name a key "
            "that the policy has, or add a line `log VKEY` to it"
        )
    return Terms(names[0], tuple(dict.fromkeys(keys)), replace(given, logs=logs))
