"""Head and identity: read as written, believed under the log's keys alone."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError, SignatureError, UpstreamProtocolError
from mirrorwitness.sumdb.head import (
    Head,
    Identity,
    check_keys,
    format_head,
    format_identity,
    parse_head,
    parse_identity,
)
from mirrorwitness.sumdb.paths import staged_key
from mirrorwitness.tlog.checkpoint import Checkpoint, sign_checkpoint
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import EMPTY_ROOT
from tests.unit.sumdb.logs import KEYS, ORIGIN

ED25519, ML_DSA = (key.verifier for key in KEYS)
IDENTITY = Identity(ORIGIN, (ED25519, ML_DSA))
TREE = Checkpoint(ORIGIN, 7, EMPTY_ROOT)
NOTE = sign_checkpoint(TREE, KEYS, timestamp=1234)


def test_an_identity_reads_back() -> None:
    """parse(format) is the identity."""
    assert parse_identity(format_identity(IDENTITY)) == IDENTITY


def test_a_head_reads_back_with_the_time_that_it_says() -> None:
    """What is staged for it follows from its size and root."""
    assert parse_head(format_head(NOTE, 5), IDENTITY) == Head(NOTE, TREE, 5, 1234)
    assert parse_head(format_head(NOTE, 5), IDENTITY).staged == staged_key(7, EMPTY_ROOT)
    only = Identity(ORIGIN, (ED25519,))
    unchanged = parse_head(format_head(sign_checkpoint(TREE, KEYS[:1], timestamp=1), 7), only)
    assert (unchanged.timestamp, unchanged.staged, unchanged.size) == (0, None, 7)


def test_a_head_that_somebody_else_signed_is_refused() -> None:
    """Wrong key, wrong origin, and a tree that shrank."""
    thief = make_signer_key(ORIGIN, b"t" * 32)
    with pytest.raises(SignatureError, match="no trusted key"):
        parse_head(format_head(sign_checkpoint(TREE, [thief], timestamp=0), 5), IDENTITY)
    other = sign_checkpoint(Checkpoint("other", 7, EMPTY_ROOT), KEYS[:1], timestamp=0)
    with pytest.raises(UpstreamProtocolError, match="the origin is 'other'"):
        parse_head(format_head(other, 5), IDENTITY)
    with pytest.raises(UpstreamProtocolError, match="grew from 8 to 7 entries"):
        parse_head(format_head(NOTE, 8), IDENTITY)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"\xff", b'{"format":1}', b'{"format":1,"checkpoint":"","before":1,"x":1}']
)
def test_other_bytes_are_no_head(body: bytes) -> None:
    """One error for whatever lies there."""
    with pytest.raises(UpstreamProtocolError, match=r"state/sumdb/head\.json"):
        parse_head(body, IDENTITY)


def test_a_later_format_is_not_guessed_at() -> None:
    """The version of the program that reads it is named."""
    with pytest.raises(UpstreamProtocolError, match="format 2, this version reads 1"):
        parse_identity(format_identity(IDENTITY).replace(b'"format": 1', b'"format": 2'))


def test_an_identity_with_a_key_that_is_no_logs_is_refused() -> None:
    """It is checked as the keys that are given are."""
    with pytest.raises(UpstreamProtocolError, match=r"identity\.json: .* expected a key of the log's own name"):
        parse_identity(format_identity(Identity("other", (ED25519,))))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ([make_signer_key("other", b"e" * 32).verifier], "expected a key of the log's own name"),
        ([make_signer_key(ORIGIN, b"e" * 32, KeyType.COSIGNATURE).verifier], "is no log's"),
        ([ED25519, ED25519], "given twice"),
        ([ML_DSA], "no key of type Ed25519"),
        ([], "no key of type Ed25519"),
    ],
)
def test_keys_that_are_no_logs_are_refused(keys: list[object], reason: str) -> None:
    """A log has keys of its own name, each once, one of them Ed25519."""
    with pytest.raises(ConfigurationError, match=reason):
        check_keys(ORIGIN, keys)  # type: ignore[arg-type]
