"""What a log says to a witness and hears from it: read back by the witness's own parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import UpstreamProtocolError
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_PROOF_HASHES, MAX_SIZE, Hash
from mirrorwitness.tlog.witnessing import format_add_checkpoint, format_known_size, parse_known_size
from mirrorwitness.witness.protocol import parse_add_checkpoint
from tests.unit.tlog.signing import LOG, make_checkpoint

HASHES = st.lists(st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES).map(Hash), max_size=MAX_PROOF_HASHES)


@given(st.integers(0, MAX_SIZE), HASHES)
def test_a_request_is_what_a_witness_reads(old: int, proof: list[Hash]) -> None:
    """The old size, the proof and the checkpoint, byte for byte."""
    checkpoint = make_checkpoint(LOG)
    body = format_add_checkpoint(old, proof, checkpoint)
    read = parse_add_checkpoint(body)
    assert (read.old, read.proof, read.note.text) == (old, tuple(proof), checkpoint.partition(b"\n\n")[0] + b"\n")
    assert body.endswith(b"\n\n" + checkpoint)


@given(st.integers(0, MAX_SIZE))
def test_parsing_a_size_that_was_formatted_is_the_identity(size: int) -> None:
    """Every size that a tree can have."""
    assert parse_known_size(format_known_size(size)) == size


@pytest.mark.parametrize("body", [b"", b"7", b"07\n", b"-1\n", b"7\n\n", b"7 \n", b"\xb2\n", b"9223372036854775808\n"])
def test_what_is_no_size_is_refused(body: bytes) -> None:
    """A log that believed it would ask for a proof that nobody can make."""
    with pytest.raises(UpstreamProtocolError, match="the witness's size"):
        parse_known_size(body)
