"""What has to have cosigned our own checkpoints: flags, policies, and what can never be met."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.sumdb.quorum import KnownWitness, list_witnesses, make_quorum, parse_witness_flags
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.policy import format_policy, parse_policy
from tests.unit.tlog.signing import LOG, LOG_PQ, OTHER_LOG, WITNESSES, A, B, C

OWN = [LOG.verifier, LOG_PQ.verifier]
A_PQ = make_signer_key(A.name, bytes([9] * 32), KeyType.ML_DSA_44)
WITNESS_A = KnownWitness("https://a.example/w", (A.verifier, A_PQ.verifier))
WITNESS_B = KnownWitness("https://b.example", (B.verifier,))


def test_flags() -> None:
    """Keys at one URL are those of one witness; a slash at the end says nothing."""
    flags = [
        f"{A.verifier}=https://a.example/w/",
        f"{B.verifier}=https://b.example",
        f"{A_PQ.verifier}=https://a.example/w",
        f"{A.verifier}=https://a.example/w",
    ]
    assert parse_witness_flags(flags) == (WITNESS_A, WITNESS_B)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([str(A.verifier)], "expected VKEY=URL"),
        ([f"{A.verifier}=ftp://a.example"], "expected VKEY=URL"),
        ([f"{LOG.verifier}=https://a.example"], "its type is 0x01"),
        ([f"{A.verifier}=https://a.example", f"{B.verifier}=https://a.example"], "is that of witness-a.example"),
    ],
)
def test_other_flags_are_refused(flags: list[str], message: str) -> None:
    """A log's key is no witness's, and one URL has one name."""
    with pytest.raises(ConfigurationError, match=message):
        parse_witness_flags(flags)


def test_without_a_policy_every_witness_counts_by_one_of_its_keys() -> None:
    """Two witnesses: two of two; and the result is a policy that a file can hold."""
    policy = make_quorum(OWN, [WITNESS_A, WITNESS_B], None)
    assert [log.key for log in policy.logs] == OWN
    assert policy.is_met([A.verifier, B.verifier])
    assert policy.is_met([A_PQ.verifier, B.verifier])
    assert not policy.is_met([A.verifier, A_PQ.verifier])
    assert parse_policy(format_policy(policy)) == policy


def test_without_witnesses_the_log_s_own_signature_suffices() -> None:
    """Nobody is asked, and the policy says so."""
    policy = make_quorum(OWN, (), None)
    assert (policy.witnesses, policy.quorum, policy.is_met([])) == ((), None, True)


def test_a_policy_file_says_the_quorum_and_this_log_is_the_log() -> None:
    """Whatever logs it names: a file that is made for clients serves as it is."""
    text = f"log {OTHER_LOG.verifier}\n{WITNESSES}group G 1 A B C\nquorum G\n"
    policy = make_quorum(OWN, [WITNESS_B], parse_policy(text.encode()))
    assert [log.key for log in policy.logs] == OWN
    assert policy.is_met([B.verifier])


def test_a_quorum_that_nobody_can_meet_is_refused() -> None:
    """Three of three, of which one is asked: the message names the others."""
    policy = parse_policy(f"log {LOG.verifier}\n{WITNESSES}group G all A B C\nquorum G\n".encode())
    with pytest.raises(ConfigurationError, match=r"can never be met .* A, C did not"):
        make_quorum(OWN, [WITNESS_B], policy)


def test_witnesses_of_a_policy_are_asked_at_their_urls_and_at_those_that_are_given() -> None:
    """A flag wins, one without URL is not asked."""
    text = (
        f"log {LOG.verifier}\nwitness A {A.verifier} https://old.example\nwitness B {B.verifier} https://b.example/\n"
        f"witness C {C.verifier}\nquorum A\n"
    )
    policy = parse_policy(text.encode())
    given = (KnownWitness("https://a.example/w", (A.verifier,)),)
    assert list_witnesses(given, policy) == (*given, WITNESS_B)
    assert list_witnesses(given, None) == given
