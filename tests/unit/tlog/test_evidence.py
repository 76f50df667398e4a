"""Proofs of forks: what is kept can be checked by anybody, and proves nothing where nothing is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mirrorwitness.errors import ConfigurationError, ProofError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.cosignature import Cosignature
from mirrorwitness.tlog.evidence import (
    EvidenceFile,
    ForkProof,
    check_evidence,
    evidence_key,
    make_evidence,
    parse_evidence,
)
from mirrorwitness.tlog.note import Note, format_note, parse_note
from tests.unit.witness.world import (
    LOG,
    LOG_KEY,
    LOG_PQ,
    OTHER,
    OURS,
    OURS_PQ,
    START,
    STRANGER,
    Log,
    cosign,
    forge,
    sign,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.tlog.keys import SignerKey

FORK = LOG.fork(6)
SEEN = "2026-09-21T14:13:20Z"
LINE = cosign(OURS, LOG.tree(10).text, START)
OURS_NOTE = LOG.note(10, more=[LINE])
THEIRS_NOTE = FORK.note(10)
HASHES = FORK.proof(7, 10)


def make(
    ours: bytes = OURS_NOTE,
    theirs: bytes = THEIRS_NOTE,
    *,
    keys: tuple[SignerKey, ...] = (LOG_KEY,),
    proof: Sequence[bytes] = HASHES,
    seen: str = SEEN,
) -> bytes:
    """Return a piece of evidence."""
    return make_evidence(
        log_keys=[key.verifier for key in keys],
        witness_keys=[OURS.verifier, OURS_PQ.verifier],
        origin=LOG.origin,
        ours=ours,
        theirs=theirs,
        proof=proof,
        seen=seen,
    )


def test_a_fork_is_proven() -> None:
    """Two trees of one size that the log signed, and our statement on one of them."""
    file = parse_evidence(make())
    assert check_evidence(file) == ForkProof(
        LOG.tree(10), FORK.tree(10), (LOG_KEY.verifier,), (Cosignature(OURS.verifier, START, LINE),)
    )
    assert (file.origin, file.seen, len(file.proof)) == (LOG.origin, SEEN, len(HASHES))
    assert file.ours.encode() == OURS_NOTE
    assert file.theirs.encode() == THEIRS_NOTE


def test_the_file_is_json_for_people() -> None:
    """Notes and keys are in it as text; the format is named."""
    document: dict[str, Any] = json.loads(make())
    assert document["format"] == "mirrorwitness-fork/1"
    assert document["log_keys"] == [str(LOG_KEY.verifier)]
    assert document["theirs"] == THEIRS_NOTE.decode()
    assert make().startswith(b"{\n  ")
    assert make().endswith(b"}\n")


def test_a_fork_is_proven_without_our_cosignature() -> None:
    """The log's two signatures are the proof; who kept it does not matter."""
    proof = check_evidence(parse_evidence(make(LOG.note(10))))
    assert proof.cosignatures == ()


def test_each_tree_may_be_signed_by_another_key_of_the_log() -> None:
    """All keys of one log speak for it."""
    proof = check_evidence(parse_evidence(make(OURS_NOTE, Log(LOG_PQ, forks=(6,)).note(10), keys=(LOG_KEY, LOG_PQ))))
    assert proof.log_keys == (LOG_KEY.verifier, LOG_PQ.verifier)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        make().replace(b'"seen"', b'"when"'),
        make().replace(b'"ours": "', b'"ours": 5, "x": "'),
        make()[:-3],
    ],
)
def test_what_is_no_evidence(body: bytes) -> None:
    """Refused with one error."""
    with pytest.raises(UpstreamProtocolError, match="not a piece of evidence"):
        parse_evidence(body)


def test_another_format() -> None:
    """A later format is not read as this one."""
    with pytest.raises(UpstreamProtocolError, match="the format is 'mirrorwitness-fork/2', expected"):
        parse_evidence(make().replace(b"fork/1", b"fork/2"))


@pytest.mark.parametrize(
    ("theirs", "proof"),
    [
        (LOG.note(10), HASHES),
        (LOG.note(10, "extension"), ()),
        (LOG.note(9), ()),
        (FORK.note(9), [FORK.root(0, 9)]),
        (FORK.note(11), ()),
        (LOG.note(11), [LOG.root(0, 10), *LOG.proof(10, 11)]),
    ],
)
def test_two_trees_that_do_not_contradict_each_other(theirs: bytes, proof: Sequence[bytes]) -> None:
    """The same, smaller, larger without a proof, or grown from ours: no fork is proven, whatever else is true."""
    with pytest.raises(SignatureError, match=r"no fork: log\.example/a at 10, root .* do not contradict each other"):
        check_evidence(parse_evidence(make(theirs=theirs, proof=proof)))


def test_a_larger_tree_that_did_not_grow_from_ours_proves_a_fork() -> None:
    """Its own consistency proof shows which root it has at our size, and that is not ours."""
    proof = check_evidence(parse_evidence(make(theirs=FORK.note(20), proof=[FORK.root(0, 10), *FORK.proof(10, 20)])))
    assert (proof.ours, proof.theirs) == (LOG.tree(10), FORK.tree(20))


@pytest.mark.parametrize(
    "proof",
    [
        [FORK.root(0, 10), *FORK.proof(10, 20)[:-1]],
        [FORK.root(0, 10), *LOG.proof(10, 20)],
        [FORK.root(0, 11), *FORK.proof(10, 20)],
        [LOG.root(0, 10), *FORK.proof(10, 20)],
        [FORK.root(0, 10)],
    ],
)
def test_forged_proof_that_a_larger_tree_did_not_grow_from_ours(proof: Sequence[bytes]) -> None:
    """Hashes that do not lead to the larger tree accuse nobody."""
    with pytest.raises(ProofError, match="consistency proof from size 10 to size 20"):
        check_evidence(parse_evidence(make(theirs=FORK.note(20), proof=proof)))


def test_a_hash_that_is_none() -> None:
    """The hashes are read as strictly as everything else."""
    file = msgspec.structs.replace(parse_evidence(make()), proof=("AAAA",))
    with pytest.raises(UpstreamProtocolError, match="proof hash 'AAAA'"):
        check_evidence(file)


UNSIGNED = format_note(Note(FORK.tree(10).text, (cosign(STRANGER, FORK.tree(10).text, START),)))
FORGED = format_note(Note(FORK.tree(10).text, (forge(sign(LOG_KEY, FORK.tree(10).text)),)))
FORGED_OURS = LOG.note(10, more=[forge(LINE)])


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(OURS_NOTE, UNSIGNED), (OURS_NOTE, FORGED), (UNSIGNED, THEIRS_NOTE), (FORGED_OURS, THEIRS_NOTE)],
)
def test_forged_evidence_proves_nothing(ours: bytes, theirs: bytes) -> None:
    """A tree that the log did not sign, or a line of ours that is not: nobody can be accused with it."""
    with pytest.raises(SignatureError):
        check_evidence(parse_evidence(make(ours, theirs)))


@pytest.mark.parametrize("theirs", [OTHER.note(10), b"no note\n", b"text\n\n" + THEIRS_NOTE.partition(b"\n\n")[2]])
def test_wrong_origin_and_no_checkpoint(theirs: bytes) -> None:
    """Both notes are checkpoints of the log that is accused."""
    with pytest.raises(UpstreamProtocolError):
        check_evidence(parse_evidence(make(theirs=theirs)))


@pytest.mark.parametrize("field", ["log_keys", "witness_keys"])
def test_a_key_that_cannot_be_read(field: str) -> None:
    """It is named."""
    file: EvidenceFile = msgspec.structs.replace(parse_evidence(make()), **{field: ("nonsense",)})
    with pytest.raises(ConfigurationError, match="verifier key 'nonsense'"):
        check_evidence(file)


def test_two_trees_have_one_place() -> None:
    """Whoever signs them again, and whenever that is seen: a log cannot fill a storage with one fork."""
    key = evidence_key(LOG.origin, make())
    assert key.startswith(f"evidence/witness/{origin_hash(LOG.origin)}/")
    assert key.endswith(".json")
    later = make(LOG.note(10, more=[cosign(OURS, LOG.tree(10).text, START + 5)]), seen="2027-01-01T00:00:00Z")
    again = make(theirs=Log(LOG_PQ, forks=(6,)).note(10, "extension"))
    assert (evidence_key(LOG.origin, later), evidence_key(LOG.origin, again)) == (key, key)
    other = evidence_key(LOG.origin, make(theirs=LOG.fork(7).note(10)))
    assert other != key


def test_the_notes_are_kept_as_they_were_signed() -> None:
    """Also with letters that JSON may write in two ways."""
    log = Log(LOG_KEY, origin='löġ / \\ "quoted"')
    body = make_evidence(
        log_keys=[LOG_KEY.verifier],
        witness_keys=[],
        origin=log.origin,
        ours=log.note(10),
        theirs=log.fork(5).note(10),
        proof=[],
        seen=SEEN,
    )
    proof = check_evidence(parse_evidence(body))
    assert (proof.ours, proof.theirs) == (log.tree(10), log.fork(5).tree(10))
    assert parse_note(parse_evidence(body).ours.encode()).text == log.tree(10).text
