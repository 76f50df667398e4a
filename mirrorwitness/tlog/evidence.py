"""Proof that a log forked, in one file that anybody can check without us. Pure.

    evidence/witness/<hash of the origin>/<digest of the two trees>.json

It holds two checkpoints that the log signed and that contradict each other. Ours carries our cosignature: that is our
statement that we saw it, and when. Either both have one size and two roots; then the hashes that came with the other
one are kept beside them, and prove nothing. Or the other one is larger; then the first hash is the root that its own
tree has at our size, the rest is the consistency proof from there, and that root is not ours.

What it does not do: say which of the two is the right one. Neither is: the log signed both.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from mirrorwitness.errors import UNREADABLE_JSON, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import LOG_KEYS, open_checkpoint, origin_hash, parse_checkpoint, parse_hash
from mirrorwitness.tlog.cosignature import COSIGNER_KEYS, Statement, check_cosignatures
from mirrorwitness.tlog.keys import parse_verifier_key
from mirrorwitness.tlog.merkle import check_consistency
from mirrorwitness.tlog.note import parse_note

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.checkpoint import Checkpoint
    from mirrorwitness.tlog.cosignature import Cosignature
    from mirrorwitness.tlog.keys import VerifierKey
    from mirrorwitness.tlog.merkle import Hash

__all__ = ["EvidenceFile", "ForkProof", "check_evidence", "evidence_key", "make_evidence", "parse_evidence"]

FORMAT: Final = "mirrorwitness-fork/1"


class EvidenceFile(msgspec.Struct, frozen=True, kw_only=True):
    """What is written.

    Attributes:
        format: `FORMAT`.
        origin: the log.
        log_keys: its vkeys.
        witness_keys: vkeys of the witness that kept this.
        ours: the note that it cosigned.
        theirs: the other one.
        proof: base64 of the hashes that came with the other one.
        seen: when, ISO 8601.
    """

    origin: str
    log_keys: tuple[str, ...]
    witness_keys: tuple[str, ...]
    ours: str
    theirs: str
    proof: tuple[str, ...]
    seen: str
    format: str = FORMAT


@dataclass(frozen=True, slots=True)
class ForkProof:
    """What was checked.

    Attributes:
        ours: the tree that the witness cosigned.
        theirs: the other tree of that size.
        log_keys: keys of the log that signed one of them, or both.
        cosignatures: of the witness, on its own.
    """

    ours: Checkpoint
    theirs: Checkpoint
    log_keys: tuple[VerifierKey, ...]
    cosignatures: tuple[Cosignature, ...]


def evidence_key(origin: str, body: bytes) -> str:
    """Return where a piece of evidence is kept: one place for two trees, whoever signs them again, and whenever.

    Raises:
        UpstreamProtocolError: it is none.
    """
    file = parse_evidence(body)
    trees = [parse_checkpoint(parse_note(note.encode()).text) for note in (file.ours, file.theirs)]
    digest = hashlib.sha256("".join(f"{tree}\n" for tree in trees).encode()).hexdigest()
    return f"evidence/witness/{origin_hash(origin)}/{digest}.json"


def make_evidence(
    *,
    log_keys: Sequence[VerifierKey],
    witness_keys: Sequence[VerifierKey],
    origin: str,
    ours: bytes,
    theirs: bytes,
    proof: Sequence[bytes],
    seen: str,
) -> bytes:
    """Write a piece of evidence."""
    file = EvidenceFile(
        origin=origin,
        log_keys=tuple(map(str, log_keys)),
        witness_keys=tuple(map(str, witness_keys)),
        ours=ours.decode(),
        theirs=theirs.decode(),
        proof=tuple([base64.b64encode(item).decode() for item in proof]),
        seen=seen,
    )
    return msgspec.json.format(msgspec.json.encode(file), indent=2) + b"\n"


def parse_evidence(body: bytes) -> EvidenceFile:
    """Read a piece of evidence.

    Raises:
        UpstreamProtocolError: it is none.
    """
    try:
        file = msgspec.json.decode(body, type=EvidenceFile)
    except UNREADABLE_JSON as error:
        raise UpstreamProtocolError(f"not a piece of evidence: {error}") from error
    if file.format != FORMAT:
        raise UpstreamProtocolError(f"the format is {file.format[:100]!r}, expected {FORMAT!r}")
    return file


def check_evidence(file: EvidenceFile) -> ForkProof:
    """Check that the log of these keys signed two trees that contradict each other.

    Whether the keys are the log's is for the reader to say: compare them with those that the log publishes.

    Raises:
        ConfigurationError: a key cannot be read.
        UpstreamProtocolError: a note is no checkpoint of the log.
        SignatureError: a signature does not verify, or the two do not contradict each other.
        ProofError: the hashes do not show what the larger tree was at our size.
    """
    keys = [parse_verifier_key(text, *LOG_KEYS) for text in file.log_keys]
    own = [parse_verifier_key(text, *COSIGNER_KEYS) for text in file.witness_keys]
    ours = open_checkpoint(file.ours.encode(), keys, origin=file.origin)
    theirs = open_checkpoint(file.theirs.encode(), keys, origin=file.origin)
    if not _is_fork(ours.checkpoint, theirs.checkpoint, [parse_hash(text, "proof hash") for text in file.proof]):
        raise SignatureError(f"no fork: {ours.checkpoint} and {theirs.checkpoint} do not contradict each other")
    tree = ours.checkpoint
    statement = Statement(tree.origin, 0, tree.size, tree.root, ours.note.text)
    return ForkProof(
        tree,
        theirs.checkpoint,
        tuple(dict.fromkeys(key for opened in (ours, theirs) for key, _ in opened.signed)),
        check_cosignatures(ours.note.signatures, own, statement),
    )


def _is_fork(ours: Checkpoint, theirs: Checkpoint, proof: Sequence[Hash]) -> bool:
    """Say whether two signed trees cannot be of one log."""
    if theirs.size == ours.size:
        return theirs.root != ours.root
    if theirs.size < ours.size or not proof:
        return False
    before, *rest = proof
    check_consistency(rest, old_size=ours.size, old_root=before, new_size=theirs.size, new_root=theirs.root)
    return before != ours.root
