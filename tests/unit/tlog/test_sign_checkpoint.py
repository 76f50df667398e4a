"""Signing a checkpoint as its log: what is signed opens under the keys, and nothing else is signed."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.tlog.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from mirrorwitness.tlog.cosignature import timestamp_of
from mirrorwitness.tlog.keys import KeyType, make_signer_key
from mirrorwitness.tlog.merkle import EMPTY_ROOT, Hash

ORIGIN = "log.example/npm"
ED25519 = make_signer_key(ORIGIN, b"e" * 32)
ML_DSA = make_signer_key(ORIGIN, b"m" * 32, KeyType.ML_DSA_44)


@pytest.mark.parametrize("extension", [(), ("an extension",)])
@pytest.mark.parametrize("keys", [[ED25519], [ML_DSA], [ED25519, ML_DSA]], ids=["ed25519", "ml-dsa", "both"])
def test_a_signed_checkpoint_opens_under_the_keys(keys: list[object], extension: tuple[str, ...]) -> None:
    """Each key has its line, in their order; a line of ML-DSA says the time."""
    checkpoint = Checkpoint(ORIGIN, 7, EMPTY_ROOT, extension)
    signers = [key for key in (ED25519, ML_DSA) if key in keys]
    opened = open_checkpoint(
        sign_checkpoint(checkpoint, signers, timestamp=1234), [key.verifier for key in signers], origin=ORIGIN
    )
    assert opened.checkpoint == checkpoint
    assert [key for key, _ in opened.signed] == [key.verifier for key in signers]
    times = [timestamp_of(line) for key, line in opened.signed if key.kind is KeyType.ML_DSA_44]
    assert times == [1234] * (ML_DSA in signers)


@pytest.mark.parametrize(
    ("checkpoint", "reason"),
    [
        (Checkpoint("", 7, EMPTY_ROOT), "cannot be signed"),
        (Checkpoint("two\nlines", 7, EMPTY_ROOT), "cannot be signed"),
        (Checkpoint(ORIGIN, -1, EMPTY_ROOT), "cannot be signed"),
        (Checkpoint(ORIGIN, 7, Hash(b"short")), "cannot be signed"),
        (Checkpoint(ORIGIN, 7, EMPTY_ROOT, ("two\nlines",)), "read again, it is"),
        (Checkpoint(ORIGIN, 7, EMPTY_ROOT, ("",)), "cannot be signed"),
    ],
)
def test_what_is_no_checkpoint_is_not_signed(checkpoint: Checkpoint, reason: str) -> None:
    """A text that reads as another checkpoint, or as none, gets no signature."""
    with pytest.raises(ConfigurationError, match=reason):
        sign_checkpoint(checkpoint, [ED25519], timestamp=0)


def test_keys_that_are_no_logs_do_not_sign() -> None:
    """None at all, one for cosignatures, and a time that no line can say."""
    checkpoint = Checkpoint(ORIGIN, 7, EMPTY_ROOT)
    with pytest.raises(ConfigurationError, match="cannot be signed"):
        sign_checkpoint(checkpoint, [], timestamp=0)
    with pytest.raises(ConfigurationError, match="is no log's"):
        sign_checkpoint(checkpoint, [make_signer_key(ORIGIN, b"c" * 32, KeyType.COSIGNATURE)], timestamp=0)
    with pytest.raises(ConfigurationError, match="timestamp -1"):
        sign_checkpoint(checkpoint, [ML_DSA], timestamp=-1)
