"""The logs that a witness cosigns, and who they are: origins and keys. Pure.

Rules:

- A log is its origin: state is kept and looked up by it. It has one key or several, so that it can change them.
- An origin is a line of at most `MAX_NAME_BYTES` bytes, which an ML-DSA-44 cosignature can hold.
- A key is there once; of one log's keys no two have the same name and ID, by which its lines are told apart.
- No key, and no name, has two roles: a log's is no cosigner's, and of two logs neither has a key of the other. Two keys
  of one public key are one key, whatever their names and types.
- ``go.sum database tree`` is the first line of every checksum database that copies Go's code: it means Go's own, and is
  accepted with that key alone.
- A set only grows; of a log that is in it nothing changes but whether it is disabled. Each change is one step, so that
  requests which run meanwhile see a log as it was or as it is.

What it does not do: read lists of logs, or keep any state (`mirrorwitness.witness.known`).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import GO_ORIGIN, LOG_KEYS, origin_hash
from mirrorwitness.tlog.cosignature import MAX_NAME_BYTES
from mirrorwitness.tlog.keys import parse_verifier_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["LogSet", "WitnessedLog", "parse_log_flag", "parse_log_flags"]

_GO_PUBLIC: Final = base64.b64decode("zjNy11rR7l7Nr4cnKT1LER2H6zdTHXyG1NMAPw64Cfw=")
"""Go's own Ed25519 key, as its toolchain has it."""

_FLAG: Final = re.compile(r"(?P<vkey>.+?)(?:=(?P<url>https?://\S+))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WitnessedLog:
    """One log.

    Attributes:
        origin: the first line of its checkpoints.
        keys: its keys.
        url: where its checkpoints and tiles are read, for pulling.
        refuses_extensions: whether checkpoints with extension lines are refused.
        is_disabled: known, and not cosigned.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    url: str | None = None
    refuses_extensions: bool = False
    is_disabled: bool = False


class LogSet:
    """All logs of a witness, by origin.

    Args:
        logs: the logs.
        cosigners: our own keys, retired ones included.

    Raises:
        ConfigurationError: a rule of this module is broken; the message names the log.
    """

    def __init__(self, logs: Iterable[WitnessedLog], *, cosigners: Sequence[VerifierKey]) -> None:
        self._by_origin: dict[str, WitnessedLog] = {}
        self._by_hash: dict[str, WitnessedLog] = {}
        self._owners: dict[bytes, str] = {}  # public key → origin
        self._cosigners = {key.public: key.name for key in cosigners}
        self._names = {key.name for key in cosigners}
        if len(self._cosigners) != len(cosigners) or len({(key.name, key.kind) for key in cosigners}) != len(cosigners):
            raise ConfigurationError("two of the witness's keys are the same, or have the same name and type")
        long = next((name for name in self._names if len(name.encode()) > MAX_NAME_BYTES), None)
        if long is not None:
            raise ConfigurationError(f"the witness's name {long[:300]!r} has more than {MAX_NAME_BYTES} bytes")
        for log in logs:
            self.add(log)

    def __len__(self) -> int:
        return len(self._by_origin)

    def __iter__(self) -> Iterator[WitnessedLog]:
        return iter(tuple(self._by_origin.values()))  # a set may grow while somebody looks at it

    def __repr__(self) -> str:
        return f"<LogSet of {len(self)} logs>"

    def add(self, log: WitnessedLog) -> None:
        """Take in a log, or nothing at all of it.

        Raises:
            ConfigurationError: a rule of this module is broken; the message names the log.
        """
        _check_log(log, self._names)
        for key in log.keys:
            cosigner, owner = self._cosigners.get(key.public), self._owners.get(key.public, log.origin)
            if cosigner is not None or owner != log.origin:
                role = f"the log {owner!r}" if cosigner is None else f"the witness {cosigner}"
                raise ConfigurationError(f"log {log.origin!r}: its key {key.name} is also that of {role}")
        if log.origin in self._by_origin:
            raise ConfigurationError(f"log {log.origin!r} is there twice; give all of its keys in one place")
        self._owners.update({key.public: log.origin for key in log.keys})
        self._by_origin[log.origin] = self._by_hash[origin_hash(log.origin)] = log

    def disable(self, origins: Collection[str]) -> tuple[WitnessedLog, ...]:
        """Disable these logs and no others; return those that changed, as they are now."""
        changed = [log for log in self._by_origin.values() if log.is_disabled != (log.origin in origins)]
        found = tuple([replace(log, is_disabled=not log.is_disabled) for log in changed])
        for log in found:
            self._by_origin[log.origin] = self._by_hash[origin_hash(log.origin)] = log
        return found

    def copy(self) -> LogSet:
        """Return a set to try things with."""
        twin = LogSet((), cosigners=())
        twin._by_origin, twin._by_hash = dict(self._by_origin), dict(self._by_hash)
        twin._owners, twin._cosigners, twin._names = dict(self._owners), self._cosigners, self._names
        return twin

    def get(self, origin: str) -> WitnessedLog | None:
        """Return the log of an origin."""
        return self._by_origin.get(origin)

    def by_hash(self, digest: str) -> WitnessedLog | None:
        """Return the log of `origin_hash`."""
        return self._by_hash.get(digest)


def parse_log_flag(text: str) -> WitnessedLog:
    """Read ``VKEY`` or ``VKEY=URL``; the origin is the key's name, or for Go's own key the one that Go's code has.

    Raises:
        ConfigurationError: it is not a log's key.
    """
    found = _FLAG.fullmatch(text)
    key = parse_verifier_key(found["vkey"] if found else text, *LOG_KEYS)
    origin = GO_ORIGIN if key.public == _GO_PUBLIC else key.name
    return WitnessedLog(origin, (key,), found["url"] if found else None)


def parse_log_flags(texts: Iterable[str]) -> list[WitnessedLog]:
    """Read flags; several of one origin are several keys of one log, which has the last of their URLs.

    Raises:
        ConfigurationError: one of them is not a log's key.
    """
    found: dict[str, WitnessedLog] = {}
    for log in map(parse_log_flag, texts):
        before = found.get(log.origin, log)
        keys = tuple(dict.fromkeys((*before.keys, *log.keys)))
        found[log.origin] = replace(log, keys=keys, url=log.url or before.url)
    return list(found.values())


def _check_log(log: WitnessedLog, names: set[str]) -> None:
    if not log.origin or "\n" in log.origin or len(log.origin.encode()) > MAX_NAME_BYTES:
        raise ConfigurationError(f"log {log.origin[:300]!r}: expected an origin of 1 to {MAX_NAME_BYTES} bytes")
    if log.origin in names:
        raise ConfigurationError(f"log {log.origin!r} has the name of this witness: no name has two roles")
    if not log.keys or any(key.kind not in LOG_KEYS for key in log.keys):
        raise ConfigurationError(f"log {log.origin!r}: expected keys of the types that logs have")
    if len({(key.name, key.key_id) for key in log.keys}) != len(log.keys):
        raise ConfigurationError(f"log {log.origin!r}: two of its keys have the same name and the same ID")
    if any(key.name in names for key in log.keys):
        raise ConfigurationError(f"log {log.origin!r}: a key has the name of this witness: no name has two roles")
    if log.origin == GO_ORIGIN and any(key.public != _GO_PUBLIC for key in log.keys):
        raise ConfigurationError(
            f"log {log.origin!r} is Go's own checksum database, and this key is not Go's: a copy of it needs an origin "
            "of its own"
        )
