"""Whose word counts about a log."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.sumdb.terms import make_terms
from mirrorwitness.tlog.policy import parse_policy
from tests.fakes.sumdb import LOG_KEY, LOG_KEY_PQ, ORIGIN, POLICY, W1, FakeSumdb, filler
from tests.unit.tlog.signing import OTHER_LOG

KEYS = [LOG_KEY.verifier, LOG_KEY_PQ.verifier]


def test_without_a_policy_the_log_alone_counts() -> None:
    """And that is said."""
    terms = make_terms(KEYS, None)
    assert (terms.origin, terms.keys, terms.asks_witnesses) == (ORIGIN, tuple(KEYS), False)
    log = FakeSumdb(filler(3), witnesses=())
    assert terms.check(log.checkpoint()).opened.checkpoint == log.tree()


def test_a_policy_adds_witnesses_to_the_keys_that_were_named() -> None:
    """Its own logs add nothing: the log is the one that was named."""
    given = parse_policy(f"log {LOG_KEY.verifier}\nlog {OTHER_LOG.verifier}\n".encode() + POLICY)
    terms = make_terms(KEYS, given)
    assert ([log.key for log in terms.policy.logs], terms.asks_witnesses) == (KEYS, True)
    assert terms.policy.witnesses == given.witnesses
    assert not make_terms(KEYS, parse_policy(b"quorum none\n")).asks_witnesses


@pytest.mark.parametrize("key", [LOG_KEY, LOG_KEY_PQ])
def test_one_key_of_a_log_is_enough(key: object) -> None:
    """So that it can change its keys."""
    assert key in (LOG_KEY, LOG_KEY_PQ)
    log = FakeSumdb(filler(3), keys=(LOG_KEY if key is LOG_KEY else LOG_KEY_PQ,))
    assert make_terms(KEYS, parse_policy(POLICY)).check(log.checkpoint()).opened.checkpoint == log.tree()


def test_a_policy_that_trusts_other_logs_only() -> None:
    """The wrong file: nothing would ever be accepted, or the wrong thing."""
    given = parse_policy(f"log {OTHER_LOG.verifier}\n".encode() + POLICY)
    with pytest.raises(ConfigurationError, match=r"the policy trusts 'log\.example/b', and no key of 'sumdb"):
        make_terms(KEYS, given)


@pytest.mark.parametrize("keys", [[], [LOG_KEY.verifier, OTHER_LOG.verifier]])
def test_keys_of_no_log_or_of_two(keys: list[object]) -> None:
    """Exactly one log."""
    with pytest.raises(ConfigurationError, match=f"keys of {len(keys)} logs"):
        make_terms(keys, None)  # type: ignore[arg-type]  # keys


def test_a_witness_is_no_log() -> None:
    """Its key cannot stand in for the log's."""
    with pytest.raises(ConfigurationError):
        make_terms([W1.verifier], None)
