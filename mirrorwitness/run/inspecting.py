"""Say what a note, a checkpoint, a proof or a piece of evidence is, for somebody who has it in hand. No I/O.

What somebody gives us and cannot be read is their mistake (exit code 2), not an upstream's: `reading_given`.
"""

from __future__ import annotations

import base64
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mirrorwitness.errors import ConfigurationError, SecurityError, UpstreamProtocolError
from mirrorwitness.npm.times import describe_time
from mirrorwitness.sumdb.records import format_record, parse_record
from mirrorwitness.tlog.checkpoint import parse_checkpoint
from mirrorwitness.tlog.cosignature import Statement, fits_cosignature, timestamp_of
from mirrorwitness.tlog.evidence import check_evidence, parse_evidence
from mirrorwitness.tlog.keys import KeyType, parse_verifier_key
from mirrorwitness.tlog.note import parse_note
from mirrorwitness.tlog.policy import check_policy, parse_policy
from mirrorwitness.tlog.proof import parse_proof

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from mirrorwitness.sumdb.records import Record
    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.note import Note, Signature

__all__ = [
    "EvidenceReport",
    "NoteReport",
    "Verdict",
    "explain_evidence",
    "explain_note",
    "reading_given",
    "verify_checkpoint",
]

_PROOF = b"c2sp.org/tlog-proof@v1\n"
_COSIGNATURES = {8 + 64: "Ed25519 cosignature", 8 + 2420: "ML-DSA-44 cosignature"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """A checkpoint that a policy accepts.

    Attributes:
        checkpoint: the tree.
        log_key: who of the log signed.
        cosigners: name and time of each witness that cosigned.
        lines: why the quorum is met, for people.
    """

    checkpoint: Checkpoint
    log_keys: tuple[str, ...]
    cosigners: tuple[tuple[str, int], ...]
    lines: tuple[str, ...]

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "checkpoint": _tree(self.checkpoint),
            "log_keys": list(self.log_keys),
            "cosigners": [{"name": name, "time": describe_time(at)} for name, at in self.cosigners],
            "accepted": True,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return it as pairs for a person."""
        cosigners = ", ".join(f"{name} at {describe_time(at) or 'no time'}" for name, at in self.cosigners) or "none"
        return [*_facts(self.checkpoint), ("signed by", ", ".join(self.log_keys)), ("cosigned by", cosigners)]


@dataclass(frozen=True, slots=True)
class NoteReport:
    """What a note says.

    Attributes:
        note: the note.
        checkpoint: the tree, where it is one.
        index: of the entry, where it came in a proof.
        lines: each signature line, with what it seems to be, its time, and whether a given key verified it.
        record: of a checksum database, as it came in a proof's extra data; nobody has verified it.
    """

    note: Note
    checkpoint: Checkpoint | None
    index: int | None
    lines: tuple[tuple[Signature, str, int | None, bool | None], ...]
    record: Record | None = None

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "checkpoint": None if self.checkpoint is None else _tree(self.checkpoint),
            "index": self.index,
            "record": None if self.record is None else format_record(self.record).decode(),
            "text": self.note.text.decode(),
            "signatures": [
                {
                    "name": line.name,
                    "key_id": line.key_id.hex(),
                    "what": what,
                    "time": None if at is None else describe_time(at),
                    "verified": verified,
                }
                for line, what, at, verified in self.lines
            ],
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return it as pairs for a person."""
        if self.checkpoint is None:
            return [("text", self.note.text.decode())]
        index = [] if self.index is None else [("entry", str(self.index))]
        record = self.record
        said = [] if record is None else [("record", str(record)), ("integrity", record.integrity)]
        return [*_facts(self.checkpoint), *index, *said]

    def rows(self) -> list[tuple[str, ...]]:
        """Return the lines as rows of a table."""
        words = {None: "no key given", True: "yes", False: "NO"}
        return [
            (line.name, line.key_id.hex(), what, "" if at is None else describe_time(at) or "none", words[verified])
            for line, what, at, verified in self.lines
        ]


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """A proof of a fork that was checked.

    Attributes:
        ours: the tree that the witness cosigned.
        theirs: the other one.
        log_keys: keys of the log that signed.
        cosigners: name and time of the witness's cosignatures.
        seen: when it was kept.
    """

    ours: Checkpoint
    theirs: Checkpoint
    log_keys: tuple[str, ...]
    cosigners: tuple[tuple[str, int], ...]
    seen: str

    def document(self) -> dict[str, object]:
        """Return it as plain data."""
        return {
            "origin": self.ours.origin,
            "trees": [_tree(self.ours), _tree(self.theirs)],
            "log_keys": list(self.log_keys),
            "cosigners": [{"name": name, "time": describe_time(at)} for name, at in self.cosigners],
            "seen": self.seen,
            "fork": True,
        }

    def facts(self) -> list[tuple[str, str]]:
        """Return it as pairs for a person."""
        cosigners = ", ".join(f"{name} at {describe_time(at)}" for name, at in self.cosigners) or "nobody"
        return [
            ("verdict", "the log forked: it signed two trees that contradict each other"),
            ("origin", self.ours.origin),
            ("one tree", _size_and_root(self.ours)),
            ("cosigned by", cosigners),
            ("other tree", _size_and_root(self.theirs)),
            ("seen", self.seen),
            *[("the log's key", key) for key in self.log_keys],
        ]


@contextmanager
def reading_given() -> Generator[None, None, None]:
    """Let what cannot be read go up as the mistake of whoever gave it.

    Raises:
        ConfigurationError: for an `UpstreamProtocolError`.
    """
    try:
        yield
    except UpstreamProtocolError as error:
        raise ConfigurationError(str(error)) from error


def verify_checkpoint(body: bytes, policy: bytes, *, origin: str | None) -> Verdict:
    """Check a checkpoint against a policy.

    Raises:
        ConfigurationError: the policy cannot be read, or it is no checkpoint.
        SignatureError: the policy does not accept it.
    """
    terms = parse_policy(policy)
    with reading_given():
        verdict = check_policy(body, terms, origin=origin)
    cosigned = verdict.cosignatures
    return Verdict(
        verdict.opened.checkpoint,
        tuple(dict.fromkeys(str(key) for key, _ in verdict.opened.signed)),
        tuple([(item.key.name, item.timestamp) for item in cosigned]),
        tuple(terms.explain([item.key for item in cosigned])),
    )


def explain_note(body: bytes, vkeys: Sequence[str]) -> NoteReport:
    """Say what a note, a checkpoint or a tlog-proof is.

    Raises:
        ConfigurationError: a key cannot be read, or it is none of these.
    """
    keys = [parse_verifier_key(text, *KeyType) for text in vkeys]
    index = record = None
    with reading_given():
        if body.startswith(_PROOF):
            proof = parse_proof(body)
            index, body, record = proof.index, proof.checkpoint, _read_record(proof.extra)
        note = parse_note(body)
    try:
        checkpoint = parse_checkpoint(note.text)
    except UpstreamProtocolError:
        checkpoint = None
    lines = [(line, *_guess(line), _verify(line, note, checkpoint, keys)) for line in note.signatures]
    return NoteReport(note, checkpoint, index, tuple(lines), record)


def explain_evidence(body: bytes) -> EvidenceReport:
    """Check a proof of a fork.

    Raises:
        ConfigurationError: it is no piece of evidence, or proves nothing.
    """
    with reading_given():
        file = parse_evidence(body)
        try:
            proof = check_evidence(file)
        except SecurityError as error:
            raise ConfigurationError(f"this file proves nothing: {error}") from error
    return EvidenceReport(
        proof.ours,
        proof.theirs,
        tuple(map(str, proof.log_keys)),
        tuple([(item.key.name, item.timestamp) for item in proof.cosignatures]),
        file.seen,
    )


def _read_record(extra: bytes | None) -> Record | None:
    """Return the record of a checksum database, where that is what came along."""
    try:
        return None if extra is None else parse_record(extra)
    except UpstreamProtocolError:
        return None


def _guess(line: Signature) -> tuple[str, int | None]:
    """Say what a line seems to be, by its length alone, and its time where it has one."""
    what = _COSIGNATURES.get(len(line.value))
    if what is not None:
        return what, timestamp_of(line)
    return ("Ed25519 signature" if len(line.value) == KeyType.ED25519.signature_bytes else "unknown"), None


def _verify(line: Signature, note: Note, checkpoint: Checkpoint | None, keys: Sequence[VerifierKey]) -> bool | None:
    key = next((key for key in keys if line.is_of(key)), None)
    if key is None:
        return None
    if key.kind is KeyType.ED25519:
        return key.fits(line.value, note.text)
    if checkpoint is None:
        return False
    statement = Statement(checkpoint.origin, 0, checkpoint.size, checkpoint.root, note.text)
    return fits_cosignature(key, line, statement)


def _tree(checkpoint: Checkpoint) -> dict[str, object]:
    return {
        "origin": checkpoint.origin,
        "size": checkpoint.size,
        "root": base64.b64encode(checkpoint.root).decode(),
        "extension": list(checkpoint.extension),
    }


def _size_and_root(checkpoint: Checkpoint) -> str:
    return f"size {checkpoint.size}, root {base64.b64encode(checkpoint.root).decode()}"


def _facts(checkpoint: Checkpoint) -> list[tuple[str, str]]:
    root = base64.b64encode(checkpoint.root).decode()
    extension = [("extension", line) for line in checkpoint.extension]
    return [("origin", checkpoint.origin), ("size", str(checkpoint.size)), ("root", root), *extension]
