"""Quorums, and checkpoints of others and of our own under a policy."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint, OpenedCheckpoint
from mirrorwitness.tlog.cosignature import Cosignature
from mirrorwitness.tlog.keys import KeyType, SignerKey, VerifierKey, make_signer_key
from mirrorwitness.tlog.merkle import Hash
from mirrorwitness.tlog.note import Signature, parse_note
from mirrorwitness.tlog.policy import Policy, PolicyVerdict, check_policy, parse_policy
from tests.unit.tlog.signing import (
    LOG,
    LOG_PQ,
    OTHER_LOG,
    STRANGER,
    TREE,
    WITNESSES,
    A,
    B,
    C,
    make_checkpoint,
    make_signature,
)

VECTORS = Path(__file__).parents[2] / "data" / "tlog"

SPEC = parse_policy((VECTORS / "policy" / "spec.policy").read_bytes())
SPEC_KEYS = {witness.name.decode(): witness.key for witness in SPEC.witnesses}

UNWITNESSED = parse_policy(f"log {LOG.verifier}\nquorum none\n".encode())
TWO_OF_THREE = parse_policy(f"log {LOG.verifier}\n{WITNESSES}group G 2 A B C\nquorum G\n".encode())


def spec_keys(names: str) -> list[VerifierKey]:
    """Return the keys of some witnesses of the specification's example."""
    return [SPEC_KEYS[name] for name in names.split()]


def test_the_quorum_of_the_specification_s_example() -> None:
    """At least two of the one group and at least one of the other, of all 64 ways to cosign."""
    for count in range(7):
        for names in combinations(SPEC_KEYS, count):
            first, second = sum(name[0] == "X" for name in names), sum(name[0] == "Y" for name in names)
            expected = first >= 2 and second >= 1
            witnessed = [SPEC_KEYS[name] for name in names]
            assert (SPEC.is_met(witnessed), not SPEC.missing(witnessed)) == (expected, expected)


def test_keys_of_others_count_for_nothing() -> None:
    """Neither the log's, nor the same public key with another name or type."""
    key = A.verifier
    policy = parse_policy(f"log {LOG.verifier}\n{WITNESSES}quorum A\n".encode())
    others = [LOG.verifier, B.verifier, replace(key, name="x"), replace(key, kind=KeyType.ED25519)]
    assert (policy.is_met(others), policy.is_met([]), policy.is_met([*others, key])) == (False, False, True)
    assert UNWITNESSED.is_met([])


def test_explanations_for_people() -> None:
    """Each witness, group and quorum in the order of the policy."""
    assert SPEC.explain(spec_keys("X1 Y3 Y1")) == [
        "witness X1: cosigned",
        "witness X2: did not cosign",
        "witness X3: did not cosign",
        "witness Y1: cosigned",
        "witness Y2: did not cosign",
        "witness Y3: cosigned",
        "group X-witnesses: 1 of 2 needed (X1 cosigned; X2, X3 did not)",
        "group Y-witnesses: met (Y1, Y3 cosigned; Y2 did not)",
        "group X-and-Y: 1 of 2 needed (Y-witnesses cosigned; X-witnesses did not)",
        "quorum X-and-Y: not met",
    ]
    assert SPEC.explain(SPEC_KEYS.values())[-4:] == [
        "group X-witnesses: met (X1, X2, X3 cosigned)",
        "group Y-witnesses: met (Y1, Y2, Y3 cosigned)",
        "group X-and-Y: met (X-witnesses, Y-witnesses cosigned)",
        "quorum X-and-Y: met",
    ]
    assert UNWITNESSED.explain([]) == ["quorum none: met"]


def test_what_is_missing() -> None:
    """Only groups that would help, from the quorum downwards; a witness where it is the quorum itself."""
    assert SPEC.missing(spec_keys("X1 Y1")) == [
        "group X-and-Y: 1 of 2 needed (Y-witnesses cosigned; X-witnesses did not)",
        "group X-witnesses: 1 of 2 needed (X1 cosigned; X2, X3 did not)",
    ]
    assert SPEC.missing([]) == [
        "group X-and-Y: 0 of 2 needed (X-witnesses, Y-witnesses did not)",
        "group Y-witnesses: 0 of 1 needed (Y1, Y2, Y3 did not)",
        "group X-witnesses: 0 of 2 needed (X1, X2, X3 did not)",
    ]
    assert replace(SPEC, quorum=b"Y2").missing(spec_keys("Y1")) == ["witness Y2: did not cosign"]
    assert replace(SPEC, quorum=b"Y-witnesses").missing(spec_keys("Y1")) == []
    assert replace(SPEC, quorum=None).missing([]) == []


def test_the_head_of_a_certificate_log_with_its_real_witnesses() -> None:
    """Four of six public witnesses have cosigned it; five would be too many to ask for."""
    body = (VECTORS / "notes" / "arche.note").read_bytes()
    policy = parse_policy((VECTORS / "policy" / "arche.policy").read_bytes())
    verdict = check_policy(body, policy)
    assert verdict.opened.checkpoint.size == 1432088532
    assert [key for key, _ in verdict.opened.signed] == [policy.logs[0].key]
    assert [(cosignature.key.name, cosignature.timestamp) for cosignature in verdict.cosignatures] == [
        ("transparency.dev/DEV:witness-little-garden", 1779573024),
        ("witness1.smartit.nu/witness1", 1779573024),
        ("remora.n621.de", 1779573024),
        ("witness.stagemole.eu", 1779573024),
    ]
    strict = replace(policy, groups=(replace(policy.groups[0], threshold=5),))
    missing = (
        "group staging: 4 of 5 needed (smartit, stagemole, remora, little-garden cosigned; nisse, navigli did not)"
    )
    with pytest.raises(SignatureError, match=re.escape(missing)):
        check_policy(body, strict)


def test_the_head_of_go_s_checksum_database() -> None:
    """Its key has another name than the log, so whoever asks names the log, and gets no other."""
    body = (VECTORS / "notes" / "sumdb.note").read_bytes()
    key = (VECTORS / "notes" / "sumdb.vkeys").read_text().strip()
    policy = parse_policy(f"log {key}\nquorum none\n".encode())
    assert check_policy(body, policy, origin="go.sum database tree").opened.checkpoint.size == 35225469
    with pytest.raises(
        SignatureError, match=r"signatures of 'sum\.golang\.org', expected one of a key with the origin"
    ):
        check_policy(body, policy)
    with pytest.raises(UpstreamProtocolError, match=r"the origin is 'go\.sum database tree', expected 'another'"):
        check_policy(body, policy, origin="another")


@pytest.mark.parametrize("signers", [[LOG], [LOG_PQ], [LOG, LOG_PQ]], ids=["ed25519", "ml-dsa-44", "both"])
def test_any_key_of_the_log_signs(signers: list[SignerKey]) -> None:
    """A log may have keys of both types, and one of them is enough."""
    policy = parse_policy(f"log {LOG.verifier}\nlog {LOG_PQ.verifier}\nquorum none\n".encode())
    body = make_checkpoint(*signers)
    note = parse_note(body)
    signed = tuple((key.verifier, line) for key, line in zip(signers, note.signatures, strict=True))
    assert check_policy(body, policy) == PolicyVerdict(OpenedCheckpoint(TREE, note, signed), ())


def test_cosignatures_of_both_types_meet_a_quorum() -> None:
    """Known lines come back with their keys and times, in the note's order; unknown ones do not."""
    lines = [make_signature(C, timestamp=0), make_signature(STRANGER), make_signature(A, timestamp=5)]
    verdict = check_policy(make_checkpoint(*lines, LOG), TWO_OF_THREE)
    assert verdict.cosignatures == (Cosignature(C.verifier, 0, lines[0]), Cosignature(A.verifier, 5, lines[2]))
    assert [key for key, _ in verdict.opened.signed] == [LOG.verifier]


def test_a_quorum_that_is_not_met() -> None:
    """The message names the log, the size, and who is missing."""
    message = (
        "checkpoint of 'log.example/a' at 7: its cosignatures do not meet the quorum: "
        "group G: 1 of 2 needed (B cosigned; A, C did not)"
    )
    with pytest.raises(SignatureError, match=f"^{re.escape(message)}$"):
        check_policy(make_checkpoint(LOG, B, STRANGER), TWO_OF_THREE)


def test_one_witness_twice_is_one_witness() -> None:
    """Two times of one witness are two cosignatures and one member of the group."""
    twice = [make_signature(A, timestamp=1), make_signature(A, timestamp=2)]
    with pytest.raises(SignatureError, match=re.escape("1 of 2 needed (A cosigned; B, C did not)")):
        check_policy(make_checkpoint(LOG, *twice), TWO_OF_THREE)
    verdict = check_policy(make_checkpoint(LOG, *twice, B), TWO_OF_THREE)
    assert [cosignature.timestamp for cosignature in verdict.cosignatures] == [1, 2, 1_700_000_000]


@pytest.mark.parametrize("key", [LOG, A, B, C], ids=lambda key: key.name)
def test_a_bad_line_of_any_key_refuses_the_checkpoint(key: SignerKey) -> None:
    """Also where the quorum is met without it, and beside a good line of the same key."""
    good = make_signature(key)
    bad = replace(good, value=good.value[:-1] + bytes([good.value[-1] ^ 1]))
    everybody: list[SignerKey | Signature] = [LOG, A, B, C]
    check_policy(make_checkpoint(*everybody), TWO_OF_THREE)
    for signers in ([*everybody, bad], [bad, *everybody], [bad, *(other for other in everybody if other != key)]):
        with pytest.raises(SignatureError, match=r"a signature of the key .* does not verify"):
            check_policy(make_checkpoint(*signers), TWO_OF_THREE)


def test_replayed_cosignatures_of_another_checkpoint() -> None:
    """What witnesses said of another size, root or log counts for nothing here."""
    for other in (replace(TREE, size=6), replace(TREE, root=Hash(bytes(32))), replace(TREE, origin="log.example/b")):
        for key in (A, C):
            with pytest.raises(SignatureError, match="does not verify"):
                check_policy(make_checkpoint(LOG, B, make_signature(key, other)), TWO_OF_THREE)


def test_a_witness_is_no_log() -> None:
    """Without the log's own signature witnesses do not help; the log's does not count as a cosignature."""
    with pytest.raises(SignatureError, match=r"no trusted key signed the checkpoint of 'log\.example/a'"):
        check_policy(make_checkpoint(A, B, C), TWO_OF_THREE)
    with pytest.raises(SignatureError, match=re.escape("0 of 2 needed (A, B, C did not)")):
        check_policy(make_checkpoint(LOG), TWO_OF_THREE)


def test_wrong_origin() -> None:
    """A log signs for itself only, unless the caller says whose keys the policy has."""
    policy = parse_policy(f"log {LOG.verifier}\nlog {OTHER_LOG.verifier}\nquorum none\n".encode())
    with pytest.raises(SignatureError, match=r"it has signatures of 'log\.example/b', expected one of"):
        check_policy(make_checkpoint(OTHER_LOG), policy)
    verdict = check_policy(make_checkpoint(OTHER_LOG, LOG), policy)
    assert [key for key, _ in verdict.opened.signed] == [LOG.verifier]
    verdict = check_policy(make_checkpoint(OTHER_LOG, LOG), policy, origin="log.example/a")
    assert [key for key, _ in verdict.opened.signed] == [OTHER_LOG.verifier, LOG.verifier]


def test_a_bad_line_of_another_log_refuses_the_checkpoint() -> None:
    """SPEC signed-note: what claims to be of a known key has to verify, whether it is needed or not."""
    policy = parse_policy(f"log {LOG.verifier}\nlog {OTHER_LOG.verifier}\nquorum none\n".encode())
    forged = Signature(OTHER_LOG.name, OTHER_LOG.verifier.key_id, bytes(64))
    with pytest.raises(SignatureError, match=r"a signature of the key log.example/b\+.* does not verify"):
        check_policy(make_checkpoint(LOG, forged), policy)


@pytest.mark.parametrize("origin", [None, "log.example/a"])
def test_a_policy_without_logs_checks_no_checkpoint(origin: str | None) -> None:
    """Which log it is has to come from somewhere."""
    policy = Policy((), TWO_OF_THREE.witnesses, TWO_OF_THREE.groups, TWO_OF_THREE.quorum)
    with pytest.raises(ConfigurationError, match="policy: has no logs"):
        check_policy(make_checkpoint(LOG, A, B), policy, origin=origin)


@pytest.mark.parametrize(
    "body", [b"", b"text\n", make_checkpoint(LOG)[:-1], make_checkpoint(LOG).replace(b"\n7\n", b"\n07\n")]
)
def test_malformed(body: bytes) -> None:
    """What is no checkpoint is the upstream's fault, not a bad signature."""
    with pytest.raises(UpstreamProtocolError):
        check_policy(body, UNWITNESSED)


def test_oversized_names_are_cut_in_messages() -> None:
    """Neither long origins nor many members fill a log file."""
    logs = [make_signer_key(f"{number}{'x' * 1000}", bytes([number] * 32)) for number in range(11, 33)]
    names = [f"{number}{'w' * 200}" for number in range(11, 33)]
    keys = [make_signer_key("w.example", bytes([number] * 32), KeyType.COSIGNATURE) for number in range(11, 33)]
    lines = [f"log {key.verifier}\n" for key in logs]
    lines += [f"witness {name} {key.verifier}\n" for name, key in zip(names, keys, strict=True)]
    policy = parse_policy("".join([*lines, f"group G all {' '.join(names)}\nquorum G\n"]).encode())
    trees = (Checkpoint("y" * 5000, 1, TREE.root), Checkpoint(logs[0].name, 1, TREE.root))
    for tree in trees:
        with pytest.raises(SignatureError) as caught:
            check_policy(make_checkpoint(*logs, tree=tree), policy)
        assert len(str(caught.value)) < 1300
