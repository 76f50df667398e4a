"""A small log in memory that grows, forks and signs: what a witness is tested with. Pure.

Rules:

- Everything follows from a seed and a name: keys, entries, hashes. The same log can be made again on any day, so a
  tester needs no memory of what it once sent.
- A log has all sizes at once, from 0 to `MAX_LAB_SIZE`: it "grows" when it is asked for more. A fork shares the first
  entries with its log, and all keys and the origin.
- The keys are made from something that everybody may know. They are for tests, and worth nothing.

What it does not do: send anything, or know what a witness has seen.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import Checkpoint, parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import SEED_BYTES, KeyId, KeyType, make_signer_key
from mirrorwitness.tlog.merkle import (
    Hash,
    Range,
    leaf_hash,
    make_proof,
    node_hash,
    plan_consistency,
    plan_inclusion,
    plan_subtree,
    subtree_hash,
)
from mirrorwitness.tlog.note import Note, Signature, format_lines, format_note, parse_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.keys import SignerKey

__all__ = [
    "LAB_DOMAIN",
    "MAX_LAB_SIZE",
    "ML_DSA_VALUE_BYTES",
    "LabLog",
    "add_lines",
    "break_line",
    "make_log",
    "sign_line",
    "statement_of",
    "stranger_lines",
]

LAB_DOMAIN: Final = "conformance.example"
"""First part of all origins."""

MAX_LAB_SIZE: Final = 1 << 20
"""Most entries of a log: a second of hashing, and more than ten thousand runs of all cases add."""

ML_DSA_VALUE_BYTES: Final = 8 + 2420
"""Length of what follows the key ID in a line of ML-DSA-44."""

_PREFIX_DIGITS: Final = 8


class LabLog:
    """A log, or a fork of one.

    Args:
        origin: its origin.
        keys: who signs its checkpoints; the first does unless others are asked to.
        branches: for each fork on the way here, from which entry on it differs, and its name.
    """

    def __init__(self, origin: str, keys: Sequence[SignerKey], *, branches: Sequence[tuple[int, str]] = ()) -> None:
        self.origin = origin
        self.keys = tuple(keys)
        self._branches = tuple(branches)
        self._nodes: dict[Range, Hash] = {}

    def __repr__(self) -> str:
        forks = "".join(f", forked at {start} ({name})" for start, name in self._branches)
        return f"<LabLog {self.origin}{forks}>"

    def fork(self, start: int, name: str = "fork") -> LabLog:
        """Return a log of the same origin and keys whose entries differ from the one at index `start` on."""
        return LabLog(self.origin, self.keys, branches=(*self._branches, (start, name)))

    def entry(self, index: int) -> bytes:
        """Return an entry."""
        names = [name for start, name in self._branches if index >= start]
        return "/".join([self.origin, *names, str(index)]).encode()

    def leaf(self, index: int) -> Hash:
        """Return the hash of an entry."""
        return leaf_hash(self.entry(index))

    def node(self, span: Range) -> Hash:
        """Return the hash of a complete node."""
        found = self._nodes.get(span)
        if found is None:
            if span.end - span.start == 1:
                found = self.leaf(span.start)
            else:
                middle = (span.start + span.end) // 2
                found = node_hash(self.node(Range(span.start, middle)), self.node(Range(middle, span.end)))
            self._nodes[span] = found
        return found

    def root(self, size: int) -> Hash:
        """Return the root hash at a size."""
        return self.subtree(0, size)

    def subtree(self, start: int, end: int) -> Hash:
        """Return the hash of a subtree.

        Raises:
            ConfigurationError: it is none, or beyond `MAX_LAB_SIZE`.
        """
        if end > MAX_LAB_SIZE:
            raise ConfigurationError(f"{self.origin}: size {end}, expected at most {MAX_LAB_SIZE}")
        return subtree_hash(Range(start, end), self.node)

    def proof(self, old: int, new: int) -> list[Hash]:
        """Return the consistency proof from a size to another; none from size 0."""
        return make_proof(plan_consistency(old, new), self.node)

    def inclusion_proof(self, index: int, size: int) -> list[Hash]:
        """Return the proof that the tree of a size has the entry at an index."""
        return make_proof(plan_inclusion(index, size), self.node)

    def subtree_proof(self, start: int, end: int, size: int) -> list[Hash]:
        """Return the proof that a subtree is part of the tree of a size."""
        return make_proof(plan_subtree(start, end, size), self.node)

    def text(self, size: int, *extension: str) -> bytes:
        """Return the text of the checkpoint at a size, with extension lines where some are given."""
        return Checkpoint(self.origin, size, self.root(size), extension).text

    def checkpoint(self, size: int, *extension: str, timestamp: int = 0) -> bytes:
        """Return the checkpoint at a size, signed by the first key; `timestamp` is what an ML-DSA key says."""
        return self.sign(self.text(size, *extension), timestamp=timestamp)

    def sign(self, text: bytes, *keys: SignerKey, timestamp: int = 0) -> bytes:
        """Return any text as a note, well-formed or not, signed by some keys, or else by the first of the log."""
        lines = tuple([sign_line(key, text, timestamp) for key in keys or self.keys[:1]])
        return format_note(Note(text, lines))


def make_log(seed: bytes, name: str, *kinds: KeyType) -> LabLog:
    """Make the log of a name; its origin is also the name of its keys.

    Args:
        seed: 32 bytes.
        name: last part of the origin.
        kinds: the types of its keys; none: one of `KeyType.ED25519`.

    Raises:
        ConfigurationError: the seed has another length.
    """
    if len(seed) != SEED_BYTES:
        raise ConfigurationError(f"the seed of a lab has {SEED_BYTES} bytes, not {len(seed)}")
    origin = f"{LAB_DOMAIN}/{hashlib.sha256(seed).hexdigest()[:_PREFIX_DIGITS]}/{name}"
    keys = [
        make_signer_key(origin, hashlib.sha256(b"%b%b %d" % (seed, name.encode(), number)).digest(), kind)
        for number, kind in enumerate(kinds or (KeyType.ED25519,))
    ]
    return LabLog(origin, keys)


def sign_line(key: SignerKey, text: bytes, timestamp: int) -> Signature:
    """Return the line by which a key of any type signs the text of a checkpoint, as a log or as a cosigner."""
    if key.verifier.kind is KeyType.ED25519:
        return Signature(key.name, key.verifier.key_id, key.sign(text))
    message = cosigned_message(key.verifier, timestamp, statement_of(text))
    return make_line(key.verifier, timestamp, key.sign(message))


def statement_of(text: bytes) -> Statement:
    """Return what a cosigner says who cosigns the checkpoint of this text.

    Raises:
        UpstreamProtocolError: it is not the text of a checkpoint.
    """
    checkpoint = parse_checkpoint(text)
    return Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, text)


def add_lines(note: bytes, *lines: Signature, first: bool = False) -> bytes:
    """Return a note with more signature lines, behind those that it has or before them."""
    if not first:
        return note + format_lines(lines)
    text, _, rest = note.rpartition(b"\n\n")
    return text + b"\n\n" + format_lines(lines) + rest


def break_line(note: bytes) -> Signature:
    """Return the first signature line of a note with one bit changed: the claim of a key that does not verify."""
    line = parse_note(note).signatures[0]
    return Signature(line.name, line.key_id, line.value[:-1] + bytes([line.value[-1] ^ 1]))


def stranger_lines(count: int, value_bytes: int) -> tuple[Signature, ...]:
    """Return signature lines of keys that nobody knows, each with so many bytes behind the key ID."""
    lines: list[Signature] = []
    for number in range(count):
        name = f"stranger-{number}.example"
        value = hashlib.shake_256(name.encode()).digest(4 + value_bytes)
        lines.append(Signature(name, KeyId(value[:4]), value[4:]))
    return tuple(lines)
