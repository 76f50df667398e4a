"""Proof bundles: many proofs in one file, for checks without a network. Pure.

    mirrorwitness-proofs/1
    checkpoint <bytes>
    <a checkpoint, as it was signed and cosigned>
    proof <bytes>
    <a tlog-proof up to and including its empty line, with the record as extra data>
    proof <bytes>
    …

Rules:

- A proof stands below the checkpoint that it is under. Both together, in this order and with nothing between, are a
  tlog-proof of their own: the file can be taken apart without us.
- Canonical: checkpoints by size, proofs by index, none twice, none without its checkpoint, no checkpoint without a
  proof. So `format_bundle` of what was parsed gives back the same bytes, and the same proofs make the same file.
- Nothing in it is trusted: it is evidence, and verified like what comes over a network.

What it does not do: verify (`mirrorwitness.sumdb.offline`).

SPEC: C2SP tlog-proof for the parts; the file is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.sumdb.lookups import MAX_LOOKUP_BYTES, Lookup, format_lookup, parse_lookup
from mirrorwitness.tlog.checkpoint import parse_checkpoint, parse_size
from mirrorwitness.tlog.note import MAX_NOTE_BYTES, parse_note

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["MAX_BUNDLE_BYTES", "ProofGroup", "format_bundle", "group_proofs", "parse_bundle"]

MAX_BUNDLE_BYTES: Final = 256 * 1024 * 1024
"""Largest bundle in bytes: 100,000 versions, far more than any lockfile has."""

_HEADER: Final = b"mirrorwitness-proofs/1\n"
_CHECKPOINT: Final = "checkpoint"
_PROOF: Final = "proof"
_SHOWN: Final = 100


@dataclass(frozen=True, slots=True)
class ProofGroup:
    """Proofs under one checkpoint; nothing of it is trusted.

    Attributes:
        note: the signed checkpoint.
        lookups: the records with their proofs, by index.
    """

    note: bytes
    lookups: tuple[Lookup, ...]


def group_proofs(proofs: Iterable[tuple[bytes, Lookup]]) -> tuple[ProofGroup, ...]:
    """Put proofs into the order of a bundle, each once.

    Args:
        proofs: a signed checkpoint and a proof under it, in any order.

    Raises:
        UpstreamProtocolError: one of the checkpoints is none.
    """
    found: dict[bytes, dict[int, Lookup]] = {}
    for note, lookup in proofs:
        found.setdefault(note, {})[lookup.index] = lookup
    return tuple([
        ProofGroup(note, tuple([found[note][index] for index in sorted(found[note])]))
        for note in sorted(found, key=_order)
    ])


def format_bundle(groups: Sequence[ProofGroup]) -> bytes:
    """Write a bundle.

    Raises:
        ConfigurationError: it could not be read again: too large, or not in a bundle's order (`group_proofs`).
    """
    parts = [_HEADER]
    for group in groups:
        parts.append(_format_part(_CHECKPOINT, group.note))
        parts += [_format_part(_PROOF, format_lookup(lookup)) for lookup in group.lookups]
    body = b"".join(parts)
    try:
        parse_bundle(body)
    except UpstreamProtocolError as error:
        raise ConfigurationError(f"these proofs cannot be written: {error}") from error
    return body


def parse_bundle(body: bytes) -> tuple[ProofGroup, ...]:
    """Read a bundle; `format_bundle` gives back the same bytes.

    Raises:
        UpstreamProtocolError: it is none; the message says what is wrong.
    """
    if len(body) > MAX_BUNDLE_BYTES:
        raise _malformed(f"has {len(body)} bytes, more than {MAX_BUNDLE_BYTES}")
    if not body.startswith(_HEADER):
        raise _malformed(f"begins with {body[:30]!r}, expected {_HEADER!r}")
    groups: list[tuple[bytes, list[Lookup]]] = []
    at = len(_HEADER)
    while at < len(body):
        word, part, at = _read_part(body, at)
        if word == _CHECKPOINT:
            groups.append((part, []))
        elif not groups:
            raise _malformed("a proof stands before any checkpoint")
        else:
            groups[-1][1].append(parse_lookup(part, has_checkpoint=False))
    return _check_order([ProofGroup(note, tuple(lookups)) for note, lookups in groups])


def _read_part(body: bytes, at: int) -> tuple[str, bytes, int]:
    """Return the word before a part, the part, and where the next one begins."""
    end = body.find(b"\n", at, at + _SHOWN)
    line = body[at : end if end >= 0 else at + _SHOWN].decode("latin-1")
    word, space, length = line.partition(" ")
    limit = {_CHECKPOINT: MAX_NOTE_BYTES, _PROOF: MAX_LOOKUP_BYTES}.get(word)
    if end < 0 or not space or limit is None:
        raise _malformed(f"at byte {at}: {line!r}, expected {_CHECKPOINT} or {_PROOF} and a length")
    size = parse_size(length, f"proof bundle: at byte {at}: length")
    start = end + 1
    if not 0 < size <= min(limit, len(body) - start):
        raise _malformed(f"at byte {at}: {word} of {size} bytes, {len(body) - start} are left, at most {limit} allowed")
    return word, body[start : start + size], start + size


def _format_part(word: str, part: bytes) -> bytes:
    return f"{word} {len(part)}\n".encode() + part


def _check_order(groups: list[ProofGroup]) -> tuple[ProofGroup, ...]:
    orders = [_order(group.note) for group in groups]
    if any(one >= other for one, other in pairwise(orders)):
        raise _malformed("its checkpoints are not in order of their sizes, or one is there twice")
    for group in groups:
        if not group.lookups:
            raise _malformed("a checkpoint without proofs")
        if any(one.index >= other.index for one, other in pairwise(group.lookups)):
            raise _malformed("its proofs are not in order of their indices, or one is there twice")
    return tuple(groups)


def _order(note: bytes) -> tuple[int, bytes]:
    return parse_checkpoint(parse_note(note).text).size, note


def _malformed(reason: str) -> UpstreamProtocolError:
    return UpstreamProtocolError(f"proof bundle: {reason}")
