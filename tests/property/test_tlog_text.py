"""Properties of policies and of proofs of logging: what is read is written again, and nothing else is believed."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, SecurityError, UpstreamProtocolError
from mirrorwitness.tlog.checkpoint import Checkpoint
from mirrorwitness.tlog.keys import KeyType, VerifierKey, make_signer_key
from mirrorwitness.tlog.merkle import Hash, leaf_hash, make_proof, plan_inclusion, root_of
from mirrorwitness.tlog.policy import Policy, format_policy, parse_policy
from mirrorwitness.tlog.policy_text import Group, PolicyLog, PolicyWitness
from mirrorwitness.tlog.proof import TlogProof, format_proof, parse_proof, verify_proof
from tests.unit.tlog.signing import LOG, LOG_PQ, OTHER_LOG, STRANGER, WITNESSES, A, B, C, make_checkpoint

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn

LOGS = [key.verifier for key in (LOG, LOG_PQ, OTHER_LOG)]
COSIGNERS = [
    make_signer_key(f"w{number}.example", bytes([number] * 32), kind).verifier
    for number in range(20, 24)
    for kind in (KeyType.COSIGNATURE, KeyType.ML_DSA_44)
]

OCTETS = st.sampled_from([*range(0x21, 0x7F), *range(0x80, 0x100)])
ITEMS = st.lists(OCTETS, min_size=1, max_size=5).map(bytes)
NAMES = ITEMS.filter(lambda name: name != b"none")
URLS = st.none() | ITEMS.map(lambda item: item.decode(errors="surrogateescape"))
KEYS = st.sets(st.sampled_from(COSIGNERS))


@st.composite
def policies(draw: DrawFn) -> Policy:
    """Draw a policy: a wood of groups, of which one tree may be the quorum."""
    logs = [PolicyLog(key, draw(URLS)) for key in draw(st.lists(st.sampled_from(LOGS), unique=True))]
    keys = draw(st.lists(st.sampled_from(COSIGNERS), unique=True))
    names = draw(st.lists(NAMES, unique=True, min_size=len(keys), max_size=len(keys) + 5))
    witnesses = [PolicyWitness(name, key, draw(URLS)) for name, key in zip(names, keys, strict=False)]
    groups, free = list[Group](), names[: len(keys)]
    for name in names[len(keys) :] if free else []:
        members = draw(st.lists(st.sampled_from(free), unique=True, min_size=1))
        groups.append(Group(name, draw(st.integers(1, len(members))), tuple(members)))
        free = [*(other for other in free if other not in members), name]
    defined = [*(witness.name for witness in witnesses), *(group.name for group in groups)]
    quorum = draw(st.none() | st.sampled_from(defined)) if defined else None
    return Policy(tuple(logs), tuple(witnesses), tuple(groups), quorum)


def is_witnessed(policy: Policy, name: bytes, keys: set[VerifierKey]) -> bool:
    """Say what the specification says of a name, word by word."""
    for witness in policy.witnesses:
        if witness.name == name:
            return witness.key in keys
    (group,) = [group for group in policy.groups if group.name == name]
    return sum(is_witnessed(policy, member, keys) for member in group.members) >= group.threshold


@given(policies())
def test_a_policy_round_trips(policy: Policy) -> None:
    """What is written is read as the same value."""
    assert parse_policy(format_policy(policy)) == policy


@given(policies(), KEYS, KEYS)
def test_a_quorum_is_what_the_specification_says(
    policy: Policy, some: set[VerifierKey], more: set[VerifierKey]
) -> None:
    """Also with more cosignatures, which never make it worse; the explanations agree."""
    found = [policy.is_met(keys) for keys in (set[VerifierKey](), some, some | more)]
    assert found == sorted(found)
    for keys in (some, some | more):
        is_met = policy.quorum is None or is_witnessed(policy, policy.quorum, keys)
        assert (policy.is_met(keys), not policy.missing(keys)) == (is_met, is_met)
        *entries, last = policy.explain(keys)
        assert last.endswith(": met" if is_met else ": not met")
        names = [*(witness.name for witness in policy.witnesses), *(group.name for group in policy.groups)]
        signs = [": cosigned" in entry or ": met (" in entry for entry in entries]
        assert signs == [is_witnessed(policy, name, keys) for name in names]


SPACES = st.lists(st.text(" \t", min_size=1, max_size=3).map(str.encode), min_size=1, max_size=5)
COMMENTS = st.lists(OCTETS | st.sampled_from([9, 32])).map(lambda octets: b"#" + bytes(octets))
SILENT = st.lists(st.sampled_from([b"", b" ", b"\t#", b" # quorum none"]) | COMMENTS, min_size=1, max_size=5)


@given(policies(), SPACES, SILENT)
def test_spaces_and_comments_say_nothing(policy: Policy, spaces: list[bytes], silent: list[bytes]) -> None:
    """Whatever stands between lines and items, the value is the same."""
    space, other = cycle([*spaces, b" "]), cycle(silent)
    lines = [next(other)]
    for line in format_policy(policy).splitlines():
        items = b"".join([next(space) + item for item in line.split(b" ")])
        lines += [items + next(space), next(other)]
    assert parse_policy(b"".join([line + b"\n" for line in lines])) == policy


WORDS = [b"log", b"witness", b"group", b"quorum", b"none", b"all", b"any", b"1", b"2", b"A", b"B", b"G", b"#", b"x"]
VKEYS = [str(key).encode() for key in (*LOGS[:1], *COSIGNERS[:2])]
SOUP = st.lists(st.lists(st.sampled_from([*WORDS, *VKEYS]), max_size=5).map(b" ".join)).map(b"\n".join)
GOOD_POLICY = f"log {LOG.verifier} x\n{WITNESSES}group G 2 A B C\ngroup H all G\nquorum H\n".encode()
CUTS = st.tuples(st.integers(0, 5000), st.integers(0, 3), st.binary(max_size=3))


def damage(body: bytes, cut: tuple[int, int, bytes]) -> bytes:
    """Replace a few bytes somewhere by others."""
    at = cut[0] % (len(body) + 1)
    return body[:at] + cut[2] + body[at + cut[1] :]


def flip(body: bytes, bit: int) -> bytes:
    """Turn one bit."""
    at, bit = divmod(bit, 8)
    return body[:at] + bytes([body[at] ^ 1 << bit]) + body[at + 1 :]


@given(st.binary() | SOUP.map(lambda body: body + b"\nquorum none\n") | CUTS.map(lambda cut: damage(GOOD_POLICY, cut)))
@example(GOOD_POLICY)
def test_any_bytes_are_a_policy_or_refused(body: bytes) -> None:
    """One way to fail; and what was read is written as something that is read alike."""
    try:
        policy = parse_policy(body)
    except ConfigurationError as error:
        assert str(error).startswith("policy: ")  # noqa: PT017 - whether it is refused is the data's choice
        return
    assert parse_policy(format_policy(policy)) == policy


HASHES = st.binary(min_size=32, max_size=32).map(Hash)
PROOFS = st.builds(
    TlogProof,
    st.integers(0, 2**63 - 1),
    st.lists(HASHES, max_size=4).map(tuple),
    st.binary(min_size=1),
    st.none() | st.binary(min_size=1),
)

LEAVES = [leaf_hash(b"entry %d" % number) for number in range(7)]
TREE = Checkpoint("log.example/a", len(LEAVES), root_of(LEAVES))
POLICY = parse_policy(f"log {LOG.verifier}\n{WITNESSES}group G all A B C\nquorum G\n".encode())
HEAD = make_proof(plan_inclusion(5, 7), lambda span: root_of(LEAVES[span.start : span.end]))
PROOF = TlogProof(5, tuple(HEAD), make_checkpoint(LOG, A, STRANGER, B, C, tree=TREE), b"not signed")
GOOD_PROOF = format_proof(PROOF)
DAMAGED = st.tuples(st.integers(0, len(GOOD_PROOF)), st.integers(0, 3), st.binary(max_size=3)).map(
    lambda cut: damage(GOOD_PROOF, cut)
)


@given(PROOFS)
def test_a_proof_round_trips(proof: TlogProof) -> None:
    """What is written is read as the same value."""
    assert parse_proof(format_proof(proof)) == proof


@given(st.binary() | st.binary().map(lambda body: b"c2sp.org/tlog-proof@v1\n" + body) | DAMAGED)
@example(GOOD_PROOF)
def test_any_bytes_are_a_proof_or_refused(body: bytes) -> None:
    """One way to fail; and what was read is written as it was."""
    try:
        proof = parse_proof(body)
    except UpstreamProtocolError:
        return
    assert format_proof(proof) == body


@given(DAMAGED | st.integers(0, len(GOOD_PROOF) * 8 - 1).map(lambda bit: flip(GOOD_PROOF, bit)))
@example(GOOD_PROOF)
def test_a_damaged_proof_proves_nothing_else(body: bytes) -> None:
    """Whatever is changed, it is refused or says the same of the log: only what nobody signed may differ."""
    try:
        proof = parse_proof(body)
        verdict = verify_proof(proof, leaf=LEAVES[5], policy=POLICY)
    except (UpstreamProtocolError, SecurityError):
        return
    assert (proof.index, proof.proof, verdict.opened.checkpoint) == (5, PROOF.proof, TREE)
    assert [one.key for one in verdict.cosignatures] == [key.verifier for key in (A, B, C)]
