"""Head and identity: the two small objects that say whose log a storage holds, and how far it has come. Pure.

    state/sumdb/identity.json    {"format": 1, "origin": …, "keys": [vkey, …]}
    state/sumdb/head.json        {"format": 1, "checkpoint": note, "before": size of the tree that it grew from}

Rules:

- The head is believed under the log's keys alone. Its records are staged under its size and root as long as they are
  not all in bundles, tiles and indexes.
- The published checkpoint (``log/checkpoint``) is never ahead of the head, unless the head was rolled back.

What it does not do: read, write or swap them (`mirrorwitness.sumdb.log`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, ConfigurationError, UpstreamProtocolError
from mirrorwitness.sumdb.paths import HEAD_KEY, IDENTITY_KEY, staged_key
from mirrorwitness.tlog.checkpoint import LOG_KEYS, open_checkpoint
from mirrorwitness.tlog.cosignature import timestamp_of
from mirrorwitness.tlog.keys import KeyType, parse_verifier_key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey

__all__ = ["Head", "Identity", "check_keys", "format_head", "format_identity", "parse_head", "parse_identity"]

FORMAT: Final = 1

_Form = TypeVar("_Form", "_IdentityForm", "_HeadForm")


class _IdentityForm(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    origin: str
    keys: tuple[str, ...]


class _HeadForm(msgspec.Struct, forbid_unknown_fields=True):
    format: int
    checkpoint: str
    before: int


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose log a storage holds.

    Attributes:
        origin: the first line of its checkpoints.
        keys: its keys.
    """

    origin: str
    keys: tuple[VerifierKey, ...]


@dataclass(frozen=True, slots=True)
class Head:
    """The newest tree that the log signed.

    Attributes:
        note: the signed checkpoint.
        checkpoint: what it says.
        before: the size of the tree that it grew from.
        timestamp: the newest time that one of the signatures says; 0 where none does.
    """

    note: bytes
    checkpoint: Checkpoint
    before: int
    timestamp: int

    @property
    def size(self) -> int:
        """The size of the tree."""
        return self.checkpoint.size

    @property
    def staged(self) -> str | None:
        """Return the key of what it added; None where that is nothing."""
        return None if self.size == self.before else staged_key(self.size, self.checkpoint.root)


def check_keys(origin: str, keys: Sequence[VerifierKey]) -> None:
    """Check that keys can be those of a log.

    Raises:
        ConfigurationError: one has another name than the origin or is no log's, one is there twice, or none is Ed25519.
    """
    for key in keys:
        if key.name != origin:
            raise ConfigurationError(f"key {key.name!r} of the log {origin!r}: expected a key of the log's own name")
        if key.kind not in LOG_KEYS:
            raise ConfigurationError(f"a key of the log {origin!r} is of type {key.kind.title}, and is no log's")
    if len({key.public for key in keys}) != len(keys):
        raise ConfigurationError(f"a key of the log {origin!r} is given twice")
    # SPEC: tlog-tiles: a log that witnesses and the public read MUST have an Ed25519 signature.
    if not any(key.kind is KeyType.ED25519 for key in keys):
        raise ConfigurationError(
            f"the log {origin!r} has no key of type {KeyType.ED25519.title}: expected at least one"
        )


def format_identity(identity: Identity) -> bytes:
    """Write an identity."""
    return _encode(_IdentityForm(FORMAT, identity.origin, tuple([str(key) for key in identity.keys])))


def parse_identity(body: bytes) -> Identity:
    """Read an identity.

    Raises:
        UpstreamProtocolError: it is none that this version reads.
    """
    form = _decode(body, _IdentityForm, IDENTITY_KEY)
    try:
        keys = tuple([parse_verifier_key(text, *LOG_KEYS) for text in form.keys])
        check_keys(form.origin, keys)
    except ConfigurationError as error:
        raise UpstreamProtocolError(f"{IDENTITY_KEY}: {error}") from error
    return Identity(form.origin, keys)


def format_head(note: bytes, before: int) -> bytes:
    """Write a head: its signed checkpoint, and the size of the tree that it grew from."""
    return _encode(_HeadForm(FORMAT, note.decode(), before))


def parse_head(body: bytes, identity: Identity) -> Head:
    """Read a head, and check that the log signed it.

    Raises:
        UpstreamProtocolError: it is none that this version reads, or that of another log.
        SignatureError: the log did not sign it.
    """
    form = _decode(body, _HeadForm, HEAD_KEY)
    note = form.checkpoint.encode()
    opened = open_checkpoint(note, identity.keys, origin=identity.origin)
    if not 0 <= form.before <= opened.checkpoint.size:
        raise UpstreamProtocolError(f"{HEAD_KEY}: grew from {form.before} to {opened.checkpoint.size} entries")
    times = [timestamp_of(line) for key, line in opened.signed if key.kind is KeyType.ML_DSA_44]
    return Head(note, opened.checkpoint, form.before, max(times, default=0))


def _encode(form: msgspec.Struct) -> bytes:
    return msgspec.json.format(msgspec.json.encode(form), indent=1) + b"\n"


def _decode(body: bytes, kind: type[_Form], key: str) -> _Form:
    try:
        form = msgspec.json.decode(body, type=kind)
    except UNREADABLE_JSON as error:
        raise UpstreamProtocolError(f"{key}: {error}") from error
    if form.format != FORMAT:
        raise UpstreamProtocolError(f"{key}: format {form.format}, this version reads {FORMAT}")
    return form
