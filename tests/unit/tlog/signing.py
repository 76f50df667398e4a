"""Logs and witnesses of the tests, with keys of all types, and what they sign."""

from __future__ import annotations

from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, SignerKey, make_signer_key
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import Note, Signature, format_note

LOG = make_signer_key("log.example/a", bytes([1] * 32))
LOG_PQ = make_signer_key("log.example/a", bytes([2] * 32), KeyType.ML_DSA_44)
OTHER_LOG = make_signer_key("log.example/b", bytes([3] * 32))
A = make_signer_key("witness-a.example", bytes([4] * 32), KeyType.COSIGNATURE)
B = make_signer_key("witness-b.example", bytes([5] * 32), KeyType.COSIGNATURE)
C = make_signer_key("witness-c.example", bytes([6] * 32), KeyType.ML_DSA_44)
STRANGER = make_signer_key("stranger.example", bytes([7] * 32), KeyType.COSIGNATURE)

WITNESSES = f"witness A {A.verifier}\nwitness B {B.verifier}\nwitness C {C.verifier}\n"
"""Lines of a policy that define the three witnesses, two with a key of Ed25519 and one of ML-DSA-44."""

TREE = Checkpoint("log.example/a", 7, Hash(bytes(range(32))), ("an extension",))


def make_signature(key: SignerKey, tree: Checkpoint = TREE, timestamp: int = 1_700_000_000) -> Signature:
    """Return the line of a log or of a witness under a checkpoint, as its type of key signs."""
    if key.verifier.kind is KeyType.ED25519:
        return Signature(key.name, key.verifier.key_id, key.sign(tree.text))
    statement = Statement(tree.origin, 0, tree.size, tree.root, tree.text)
    return make_line(key.verifier, timestamp, key.sign(cosigned_message(key.verifier, timestamp, statement)))


def make_checkpoint(*signers: SignerKey | Signature, tree: Checkpoint = TREE) -> bytes:
    """Return a checkpoint with lines of some keys, and lines that are there as they are."""
    lines = [make_signature(signer, tree) if isinstance(signer, SignerKey) else signer for signer in signers]
    return format_note(Note(tree.text, tuple(lines)))
