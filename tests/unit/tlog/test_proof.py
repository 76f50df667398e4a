"""Proofs of logging: the text, proofs that were written by hand or are of our own logs, and what a forger could try."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import (
    ConfigurationError,
    ProofError,
    SecurityError,
    SignatureError,
    UpstreamProtocolError,
)
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.merkle import Hash, leaf_hash, make_proof, plan_inclusion, root_of
from mirrorwitness.tlog.note import MAX_NOTE_BYTES
from mirrorwitness.tlog.policy import check_policy, parse_policy
from mirrorwitness.tlog.proof import (
    MAX_EXTRA_BYTES,
    MAX_FILE_BYTES,
    TlogProof,
    format_proof,
    parse_proof,
    verify_proof,
)
from tests.unit.tlog.naive_merkle import NaiveTree, naive_leaf
from tests.unit.tlog.signing import LOG, LOG_PQ, STRANGER, WITNESSES, A, B, C, make_checkpoint

if TYPE_CHECKING:
    from mirrorwitness.tlog.keys import SignerKey

VECTORS = Path(__file__).parents[2] / "data" / "tlog" / "proof"

HEADER = b"c2sp.org/tlog-proof@v1\n"
HASH = b"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(7)]
TREE = Checkpoint("log.example/a", len(LEAVES), root_of(LEAVES))
ALL = f"{WITNESSES}group G all A B C\nquorum G\n"
POLICY = parse_policy(f"log {LOG.verifier}\n{ALL}".encode())


def prove(index: int, checkpoint: bytes, extra: bytes | None = None) -> TlogProof:
    """Return the proof of an entry of the log that the tests have."""
    proof = make_proof(plan_inclusion(index, TREE.size), lambda span: root_of(LEAVES[span.start : span.end]))
    return TlogProof(index, tuple(proof), checkpoint, extra)


PROOF = prove(5, make_checkpoint(LOG, A, B, C, STRANGER, tree=TREE), b"not signed")


def test_a_file_that_was_written_by_hand() -> None:
    """The last of five entries, extra data, and a checkpoint with a line of each type of Ed25519 key."""
    body = (VECTORS / "small.tlog-proof").read_bytes()
    policy = parse_policy((VECTORS / "small.policy").read_bytes())
    proof = parse_proof(body)
    assert (format_proof(proof), proof.index, proof.extra) == (body, 4, b"not signed")
    tree = NaiveTree([b"", b"one", b"two\n", b"\x03", b"the last one"])
    assert list(proof.proof) == tree.path(4, 0, 5) == [tree.mth(0, 4)]
    verdict = verify_proof(proof, leaf=naive_leaf(b"the last one"), policy=policy)
    assert verdict.opened.checkpoint == Checkpoint("log.example/small", 5, tree.mth(0, 5))
    assert [(one.key, one.timestamp) for one in verdict.cosignatures] == [(policy.witnesses[0].key, 1_700_000_000)]
    for other in (b"the last one\n", b"two\n"):
        with pytest.raises(ProofError, match="inclusion proof of entry 4 in the tree of size 5: leads to"):
            verify_proof(proof, leaf=naive_leaf(other), policy=policy)


@pytest.mark.parametrize(("index", "hashes"), [(768, 2), (767, 10), (0, 10)])
def test_entries_of_a_larger_log(index: int, hashes: int) -> None:
    """Of 769: the proof of the last one has fewer hashes than the tree has levels."""
    entries = NaiveTree([b"entry %d" % number for number in range(769)])
    tree = Checkpoint("log.example/a", 769, entries.mth(0, 769))
    proof = TlogProof(index, tuple(entries.path(index, 0, 769)), make_checkpoint(LOG, tree=tree))
    policy = parse_policy(f"log {LOG.verifier}\nquorum none\n".encode())
    assert len(proof.proof) == hashes
    read = parse_proof(format_proof(proof))
    assert verify_proof(read, leaf=naive_leaf(b"entry %d" % index), policy=policy).opened.checkpoint == tree
    with pytest.raises(ProofError):
        verify_proof(read, leaf=naive_leaf(b"entry %d\n" % index), policy=policy)


@pytest.mark.parametrize(
    ("body", "proof"),
    [
        (HEADER + b"index 0\n\nx", TlogProof(0, (), b"x")),
        (HEADER + b"index 0\n\n\nx\n\ny", TlogProof(0, (), b"\nx\n\ny")),
        (
            HEADER + b"extra AA==\nindex 10\n" + HASH + b"\nx",
            TlogProof(10, (Hash(base64.b64decode(HASH)),), b"x", b"\0"),
        ),
        (HEADER + b"index 9223372036854775807\n\n\xff", TlogProof(2**63 - 1, (), b"\xff")),
    ],
)
def test_the_form_of_a_proof(body: bytes, proof: TlogProof) -> None:
    """The first empty line ends the proof's own part; what follows is the checkpoint, whatever it is."""
    assert parse_proof(body) == proof
    assert format_proof(proof) == body


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "the first line is '', expected 'c2sp.org/tlog-proof@v1'"),
        (b"\n\n\n", "the first line is '', expected 'c2sp.org/tlog-proof@v1'"),
        (b"<!doctype html>", "the first line is '<!doctype html>', expected 'c2sp.org/tlog-proof@v1'"),
        (b"x" * 300, f"the first line is '{'x' * 100}', expected 'c2sp.org/tlog-proof@v1'"),
        (b"c2sp.org/tlog-proof@v2\nindex 0\n\nx", "the first line is 'c2sp.org/tlog-proof@v2', expected"),
        (b" " + HEADER + b"index 0\n\nx", "the first line is ' c2sp.org/tlog-proof@v1', expected"),
        (
            HEADER.replace(b"\n", b"\r\n") + b"index 0\r\n\r\nx",
            "the first line is 'c2sp.org/tlog-proof@v1\\r', expected",
        ),
        (HEADER, "'': expected index <number>"),
        (HEADER + b"\n\nx", "'': expected index <number>"),
        (HEADER + b"extra AA==\n\nx", "'': expected index <number>"),
        (HEADER + HASH + b"index 0\n\nx", "'47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=': expected index <number>"),
        (HEADER + b"Index 0\n\nx", "'Index 0': expected index <number>"),
        (HEADER + b"index\t0\n\nx", "'index\\t0': expected index <number>"),
        (HEADER + b"extra AA==\nextra AA==\nindex 0\n\nx", "'extra AA==': expected index <number>"),
        *(
            (HEADER + b"index " + number + b"\n\nx", f"index {number.decode()!r}: expected a decimal without leading")
            for number in [b"", b"-1", b"+1", b"01", b" 1", b"1 ", b"1_0", b"0x1", b"one", b"9223372036854775808"]
        ),
        (HEADER + b"index \xd9\xa1\n\nx", "byte 29 is not ASCII"),
        (HEADER + b"index 0\nextra AA==\n\nx", "hash 1 'extra AA==': expected base64 of 32 bytes"),
        (HEADER + b"index 0\n" + HASH + HASH[:-2] + b"\n\nx", "hash 2 '47DEQ"),
        (HEADER + b"index 0\n" + HASH.replace(b"U=", b"V=") + b"\nx", "expected base64 of 32 bytes"),
        (HEADER + b"index 0\n" + HASH.replace(b"\n", b" \n") + b"\nx", "expected base64 of 32 bytes"),
        (HEADER + b"index 0\nAA==\n\nx", "hash 1 'AA==': expected base64 of 32 bytes"),
        (HEADER + b"index 0\n" + HASH * 64 + b"\nx", "has 64 hashes, more than 63"),
        (HEADER + b"extra \nindex 0\n\nx", "'extra ': expected extra <base64>, or no such line where there is nothing"),
        (HEADER + b"extra !!\nindex 0\n\nx", "'extra !!': expected extra <base64>"),
        (HEADER + b"extra AB==\nindex 0\n\nx", "'extra AB==': expected extra <base64>"),
        (HEADER + b"extra AA\nindex 0\n\nx", "'extra AA': expected extra <base64>"),
        (HEADER + b"extra  AA==\nindex 0\n\nx", "'extra  AA==': expected extra <base64>"),
        (HEADER + b"index 0", "the checkpoint has 0 bytes, expected an empty line and 1 to 1000000"),
        (HEADER + b"index 0\n\n", "the checkpoint has 0 bytes, expected an empty line and 1 to 1000000"),
    ],
)
def test_refused(body: bytes, reason: str) -> None:
    """Each rule of the form, with what is there and what was expected."""
    with pytest.raises(UpstreamProtocolError, match=f"^tlog-proof: .*{re.escape(reason)}"):
        parse_proof(body)


def test_oversized() -> None:
    """63 hashes, the most extra data and the largest checkpoint are read together; one byte more is not."""
    proof = TlogProof(2**63 - 1, (Hash(bytes(32)),) * 63, b"x" * MAX_NOTE_BYTES, bytes(MAX_EXTRA_BYTES))
    body = format_proof(proof)
    assert parse_proof(body) == proof
    with pytest.raises(
        UpstreamProtocolError, match="the checkpoint has 1000001 bytes, expected an empty line and 1 to"
    ):
        parse_proof(body + b"x")
    with pytest.raises(UpstreamProtocolError, match="has 65537 bytes of extra data, more than 65536"):
        parse_proof(HEADER + b"extra " + base64.b64encode(bytes(65537)) + b"\nindex 0\n\nx")
    with pytest.raises(UpstreamProtocolError, match="has 1100001 bytes, more than 1100000"):
        parse_proof(body.ljust(MAX_FILE_BYTES + 1))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"index": -1}, "index '-1': expected a decimal"),
        ({"index": 2**63}, "index '9223372036854775808': expected a decimal"),
        ({"proof": (b"short",)}, "hash 1 'c2hvcnQ=': expected base64 of 32 bytes"),
        ({"proof": (bytes(32),) * 64}, "has 64 hashes, more than 63"),
        ({"checkpoint": b""}, "the checkpoint has 0 bytes"),
        ({"extra": b""}, "'extra ': expected extra <base64>, or no such line"),
        ({"extra": bytes(MAX_EXTRA_BYTES + 1)}, "has 65537 bytes of extra data"),
    ],
)
def test_what_cannot_be_read_is_not_written(changes: dict[str, Any], reason: str) -> None:
    """A proof out of bounds is the caller's mistake."""
    with pytest.raises(ConfigurationError, match=f"^this proof cannot be written: tlog-proof: .*{re.escape(reason)}"):
        format_proof(replace(PROOF, **changes))


@pytest.mark.parametrize("key", [LOG, LOG_PQ], ids=["ed25519", "ml-dsa-44"])
def test_a_log_of_our_own(key: SignerKey) -> None:
    """Each entry has its proof; no other entry, index or tree has the same."""
    policy = parse_policy(f"log {key.verifier}\n{ALL}".encode())
    checkpoint = make_checkpoint(key, A, B, C, STRANGER, tree=TREE)
    expected = check_policy(checkpoint, policy)
    for index, leaf in enumerate(LEAVES):
        proof = parse_proof(format_proof(prove(index, checkpoint)))
        assert verify_proof(proof, leaf=leaf, policy=policy) == expected
        for other in {*range(TREE.size)} - {index}:
            with pytest.raises(ProofError):
                verify_proof(replace(proof, index=other), leaf=leaf, policy=policy)
            with pytest.raises(ProofError):
                verify_proof(proof, leaf=LEAVES[other], policy=policy)


@pytest.mark.parametrize(
    "proof",
    [
        PROOF.proof[:-1],
        PROOF.proof[1:],
        PROOF.proof[::-1],
        (*PROOF.proof, PROOF.proof[0]),
        (),
        (Hash(PROOF.proof[0] + PROOF.proof[1][:1]), Hash(PROOF.proof[1][1:]), *PROOF.proof[2:]),
    ],
)
def test_a_changed_inclusion_proof(proof: tuple[Hash, ...]) -> None:
    """Cut, turned, longer, absent, or with a byte of one hash in its neighbour."""
    with pytest.raises(ProofError, match="inclusion proof of entry 5 in the tree of size 7"):
        verify_proof(replace(PROOF, proof=proof), leaf=LEAVES[5], policy=POLICY)


@pytest.mark.parametrize("index", [-1, 7, 8, 2**63 - 1])
def test_an_index_outside_of_the_tree(index: int) -> None:
    """A tree without that entry is a proof that fails, not a wrong question."""
    with pytest.raises(ProofError, match=f"^tlog-proof: the index is {index}, expected one below the tree size 7$"):
        verify_proof(replace(PROOF, index=index), leaf=LEAVES[5], policy=POLICY)
    empty = replace(TREE, size=0, root=root_of([]))
    with pytest.raises(ProofError, match="expected one below the tree size 0"):
        verify_proof(TlogProof(index, (), make_checkpoint(LOG, A, B, C, tree=empty)), leaf=LEAVES[5], policy=POLICY)


def test_the_policy_comes_first() -> None:
    """Of a checkpoint that is not valid nothing is said about its tree, right or wrong."""
    for leaf in (LEAVES[5], LEAVES[4]):
        with pytest.raises(SignatureError, match=re.escape("group G: 2 of 3 needed (A, C cosigned; B did not)")):
            verify_proof(prove(5, make_checkpoint(LOG, A, C, tree=TREE)), leaf=leaf, policy=POLICY)
        with pytest.raises(SignatureError, match="no trusted key signed the checkpoint"):
            verify_proof(prove(5, make_checkpoint(A, B, C, tree=TREE)), leaf=leaf, policy=POLICY)
        with pytest.raises(UpstreamProtocolError, match="signed note: "):
            verify_proof(prove(5, b"no note"), leaf=leaf, policy=POLICY)
        with pytest.raises(ConfigurationError, match="policy: has no logs"):
            verify_proof(PROOF, leaf=leaf, policy=replace(POLICY, logs=()))


def test_wrong_origin() -> None:
    """Whoever names the log gets no other; the keys' names do not matter then."""
    assert verify_proof(PROOF, leaf=LEAVES[5], policy=POLICY, origin=TREE.origin).opened.checkpoint == TREE
    with pytest.raises(UpstreamProtocolError, match=r"the origin is 'log\.example/a', expected 'log\.example/b'"):
        verify_proof(PROOF, leaf=LEAVES[5], policy=POLICY, origin="log.example/b")
    tree = replace(TREE, origin="a database")
    proof = prove(5, make_checkpoint(LOG, A, B, C, tree=tree))
    assert verify_proof(proof, leaf=LEAVES[5], policy=POLICY, origin="a database").opened.checkpoint == tree
    with pytest.raises(SignatureError, match="expected one of a key with the origin's name"):
        verify_proof(proof, leaf=LEAVES[5], policy=POLICY)


def test_replaced_bytes_anywhere() -> None:
    """Each changed byte is refused, or changes only what nobody signed: the extra data, and the line of a stranger."""
    proof = prove(5, make_checkpoint(LOG, STRANGER, A, tree=TREE), b"not signed")
    policy = parse_policy(f"log {LOG.verifier}\n{WITNESSES}quorum A\n".encode())
    body = format_proof(proof)
    extra, line = body.index(b"extra ") + len(b"extra "), body.index("\N{EM DASH} stranger".encode())
    unsigned = {*range(extra, body.index(b"\n", extra)), *range(line, body.index(b"\n", line))}
    accepted = set[int]()
    for at in range(len(body)):
        changed = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        try:
            verify_proof(parse_proof(changed), leaf=LEAVES[5], policy=policy)
        except (SecurityError, UpstreamProtocolError):
            continue
        accepted.add(at)
    assert accepted < unsigned
    assert len(accepted) > 80
