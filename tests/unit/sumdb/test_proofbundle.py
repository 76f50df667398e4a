"""Many proofs in one file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.sumdb import proofbundle
from mirrorwitness.sumdb.lookups import Lookup, parse_lookup
from mirrorwitness.sumdb.proofbundle import ProofGroup, format_bundle, group_proofs, parse_bundle
from mirrorwitness.tlog.proof import parse_proof
from tests.unit.sumdb.checked_log import make_log

LOG = make_log(9)


def proof(index: int, size: int = 9) -> Lookup:
    return parse_lookup(LOG.proof(index, size), has_checkpoint=False)


def make_bundle() -> bytes:
    """Two checkpoints, three proofs."""
    given = [(9, 5), (9, 2), (7, 3), (9, 5)]
    return format_bundle(group_proofs((LOG.checkpoint(size), proof(index, size)) for size, index in given))


def test_proofs_are_in_one_order_whatever_they_come_in() -> None:
    """Checkpoints by size, proofs by index, each once."""
    groups = parse_bundle(make_bundle())
    assert groups == (
        ProofGroup(LOG.checkpoint(7), (proof(3, 7),)),
        ProofGroup(LOG.checkpoint(9), (proof(2), proof(5))),
    )


def test_a_bundle_can_be_taken_apart_without_us() -> None:
    """A proof and the checkpoint above it are a tlog-proof."""
    body = make_bundle()
    assert body.startswith(b"mirrorwitness-proofs/1\ncheckpoint %d\n%b" % (len(LOG.checkpoint(7)), LOG.checkpoint(7)))
    start = body.index(LOG.proof(3, 7))
    whole = parse_proof(body[start : start + len(LOG.proof(3, 7))] + LOG.checkpoint(7))
    assert (whole.index, whole.extra) == (3, LOG.entries[3])


def test_an_empty_bundle_is_one() -> None:
    """Nothing was found: there is nothing to prove."""
    assert parse_bundle(format_bundle(())) == ()


@given(st.data())
def test_every_changed_byte_is_refused_or_another_bundle(data: st.DataObject) -> None:
    """One error type, and what is read is written again as it was."""
    body = bytearray(make_bundle())
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        groups = parse_bundle(bytes(body))
    except UpstreamProtocolError:
        return
    assert format_bundle(groups) == bytes(body)


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda text: b"mirrorwitness-proofs/1\n" + text))
def test_any_bytes(body: bytes) -> None:
    """One error type, never a crash."""
    try:
        assert format_bundle(parse_bundle(body)) == body
    except UpstreamProtocolError:
        return


@given(st.integers(0, 2000))
def test_a_bundle_that_is_cut(end: int) -> None:
    """Half a bundle is none, unless it ends behind a proof."""
    body = make_bundle()[:end]
    try:
        groups = parse_bundle(body)
    except UpstreamProtocolError:
        return
    assert format_bundle(groups) == body


HEAD = b"mirrorwitness-proofs/1\n"
NOTE = b"checkpoint %d\n%b" % (len(LOG.checkpoint(9)), LOG.checkpoint(9))
PROOF = b"proof %d\n%b" % (len(LOG.proof(5, 9)), LOG.proof(5, 9))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "begins with b''"),
        (HEAD + PROOF, "a proof stands before any checkpoint"),
        (HEAD + NOTE, "a checkpoint without proofs"),
        (HEAD + NOTE + PROOF + PROOF, "its proofs are not in order"),
        (HEAD + NOTE + PROOF + NOTE + PROOF, "its checkpoints are not in order"),
        (HEAD + b"checkpoint 5", "expected checkpoint or proof and a length"),
        (HEAD + b"something 5\n12345", "expected checkpoint or proof and a length"),
        (HEAD + b"checkpoint 05\n12345", "expected a decimal without leading zeros"),
        (HEAD + b"checkpoint 6\n12345", "checkpoint of 6 bytes, 5 are left"),
        (HEAD + b"checkpoint 0\n", "checkpoint of 0 bytes"),
        (HEAD + b"checkpoint 5\n12345", "signed note"),
        (HEAD + b"x" * 200, "expected checkpoint or proof and a length"),
    ],
)
def test_what_is_no_bundle(body: bytes, reason: str) -> None:
    """The message says where and why."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_bundle(body)


def test_an_oversized_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused before it is read, and not written either."""
    monkeypatch.setattr(proofbundle, "MAX_BUNDLE_BYTES", 100)
    with pytest.raises(UpstreamProtocolError, match="more than 100"):
        parse_bundle(bytes(101))
    with pytest.raises(ConfigurationError, match="these proofs cannot be written: proof bundle: has"):
        make_bundle()
