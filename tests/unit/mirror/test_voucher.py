"""What a record means for a claim, and proof files judged offline: every difference counts."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import (
    EquivocationError,
    MirrorWitnessError,
    ProofError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.mirror.voucher import (
    Claim,
    Contradiction,
    NotLogged,
    Silent,
    Vouched,
    answer_of,
    check_proof,
    find_contradiction,
)
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import Event, Record, format_record
from mirrorwitness.sumdb.terms import Terms, make_terms
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.cosignature import Statement, cosigned_message, make_line
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import Hash, leaf_hash, root_of
from mirrorwitness.tlog.policy import Policy
from mirrorwitness.tlog.policy_text import PolicyLog, PolicyWitness
from mirrorwitness.tlog.proof import TlogProof, format_proof

NAME, V1 = PackageName("left-pad"), Version("1.0.0")
BODY = b"the tarball"
LOG = make_signer_key("sumdb.example", bytes([1] * 32))
WITNESS = make_signer_key("w.example", bytes([2] * 32), KeyType.COSIGNATURE)


def sri(body: bytes = BODY, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, body).digest()).decode()}"


SHASUM = hashlib.sha1(BODY, usedforsecurity=False).hexdigest()
RECORD = Record(
    registry="registry.example",
    name=NAME,
    version=V1,
    integrity=sri(),
    tarball_size=len(BODY),
    shasum=SHASUM,
    manifest=None,
    tarball_manifest=None,
    published=None,
    signatures=(),
    attestations=None,
    event=Event.PUBLISH,
)
CONFLICT = replace(RECORD, event=Event.CONFLICT, other_integrity=sri(b"other"), evidence=bytes(32))
CLAIM = Claim(V1, sri(), SHASUM, sri())
TERMS: Terms = make_terms(
    [LOG.verifier],
    Policy((PolicyLog(LOG.verifier, None),), (PolicyWitness(b"w", WITNESS.verifier, None),), (), b"w"),
)


def make_proof(record: Record = RECORD, *, extra: bytes | None = None, has_extra: bool = True) -> bytes:
    """Return a proof in a tree of two leaves, cosigned."""
    body = format_record(record)
    leaves = [leaf_hash(b"another"), leaf_hash(body)]
    note = sign_checkpoint(Checkpoint("sumdb.example", 2, root_of(leaves)), [LOG], timestamp=1)
    opened = open_checkpoint(note, [LOG.verifier], origin="sumdb.example")
    tree = opened.checkpoint
    statement = Statement(tree.origin, 0, tree.size, tree.root, opened.note.text)
    line = make_line(WITNESS.verifier, 1, WITNESS.sign(cosigned_message(WITNESS.verifier, 1, statement)))
    inside = (body if extra is None else extra) if has_extra else None
    return format_proof(TlogProof(1, (Hash(leaves[0]),), opened.format(line), inside))


PROOF = make_proof()


@pytest.mark.parametrize(
    ("record", "claim", "reason"),
    [
        (RECORD, CLAIM, None),
        (RECORD, Claim(V1, sri(), None), None),
        (RECORD, Claim(V1, None, SHASUM.upper()), None),
        (RECORD, Claim(V1, None, None, sri()), None),
        (replace(RECORD, event=Event.UNPUBLISH), CLAIM, None),
        (RECORD, Claim(V1, sri(b"2"), SHASUM), f"the log has {sri()}, the registry promises {sri(b'2')}"),
        (RECORD, Claim(V1, sri(), SHASUM, sri(b"2")), f"the log has {sri()}, the stored bytes are {sri(b'2')}"),
        (RECORD, Claim(V1, sri(algorithm="sha384"), None), f"the registry promises {sri(algorithm='sha384')}"),
        (RECORD, Claim(V1, f"{sri()} {sri(b'2')}", None), "the registry promises"),
        (RECORD, Claim(V1, None, "0" * 40), f"the log has shasum {SHASUM}, the registry promises {'0' * 40}"),
        (replace(RECORD, shasum=None), Claim(V1, None, SHASUM), "the log has shasum None"),
        (RECORD, Claim(V1, None, None), "the registry promises nothing"),
        (RECORD, Claim(V1, sri(algorithm="sha1"), SHASUM), None),
        (RECORD, Claim(V1, sri(b"2", "sha1"), None), f"the registry promises {sri(b'2', 'sha1')}"),
        (replace(RECORD, shasum=None), Claim(V1, sri(algorithm="sha1"), None), "the registry promises sha1-"),
        (RECORD, Claim(V1, sri(algorithm="sha1"), SHASUM, sri(b"2")), "the stored bytes are"),
        (CONFLICT, CLAIM, f"the log has a conflict: its registry promised {sri()} and {sri(b'other')}"),
    ],
)
def test_what_a_record_means_for_a_claim(record: Record, claim: Claim, reason: str | None) -> None:
    """It vouches for the same content, by the strongest thing that both name; all else contradicts."""
    found = find_contradiction(record, claim)
    assert (found is None) == (reason is None)
    assert reason is None or reason in (found or "")
    answer = answer_of(record, claim, index=7, size=9, proof=b"p")
    if reason is None:
        assert answer == Vouched(7, 9, record, b"p")
    else:
        assert answer == Contradiction(f"left-pad@1.0.0: {found} (leaf 7)", b"p")


def test_a_record_counts_for_its_own_registry() -> None:
    """Also where the bytes are the same; any registry will do where none is expected."""
    assert find_contradiction(RECORD, CLAIM, registry="registry.example") is None
    check_proof(PROOF, name=NAME, claim=CLAIM, terms=TERMS, registry="registry.example")
    with pytest.raises(EquivocationError, match=r"is of registry\.example, expected one of other\.example"):
        check_proof(PROOF, name=NAME, claim=CLAIM, terms=TERMS, registry="other.example")


def test_answers_say_what_they_are() -> None:
    """Sentences for the operator."""
    assert str(NotLogged("404")) == "the log does not have it yet: 404"
    assert str(Silent(UpstreamProtocolError("x"))) == "the log could not be asked: x"


def test_a_sound_proof_gives_its_record() -> None:
    """It needs nothing but the file, the claim and the terms."""
    checked = check_proof(PROOF, name=NAME, claim=CLAIM, terms=TERMS)
    assert (checked.record, checked.index, checked.size) == (RECORD, 1, 2)


@pytest.mark.parametrize(
    ("body", "error", "reason"),
    [
        (b"", UpstreamProtocolError, "first line"),
        (make_proof(has_extra=False), UpstreamProtocolError, "holds no record"),
        (make_proof(extra=b"no record\n"), UpstreamProtocolError, "record"),
        (make_proof(replace(RECORD, version=Version("1.1.0"))), UpstreamProtocolError, "expected left-pad@1.0.0"),
        (make_proof(replace(RECORD, name=PackageName("right"))), UpstreamProtocolError, "is of right@1.0.0"),
        (make_proof(extra=format_record(replace(RECORD, tarball_size=1))), ProofError, "inclusion proof"),
        (make_proof(replace(RECORD, integrity=sri(b"2"))), EquivocationError, "the stored bytes are"),
        (make_proof(CONFLICT), EquivocationError, "has a conflict"),
        (PROOF.rpartition(b"\xe2\x80\x94")[0], SignatureError, "quorum"),
    ],
)
def test_attack_forged_proofs_are_refused(body: bytes, error: type[MirrorWitnessError], reason: str) -> None:
    """Another version's, one with an exchanged record, one without its witness: each is named."""
    with pytest.raises(error, match=reason):
        check_proof(body, name=NAME, claim=CLAIM, terms=TERMS)


@given(st.integers(0, 8 * len(PROOF) - 1))
def test_attack_any_single_bit_of_a_proof(bit: int) -> None:
    """No bit of it can be changed unseen."""
    body = bytearray(PROOF)
    body[bit // 8] ^= 1 << (bit % 8)
    with pytest.raises(MirrorWitnessError):
        check_proof(bytes(body), name=NAME, claim=CLAIM, terms=TERMS)
