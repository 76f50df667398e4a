"""The targets of the fuzzer hold without it: they accept their seeds, and nothing breaks near these."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import RolledBackError, UpstreamProtocolError
from mirrorwitness.tlog.evidence import parse_evidence
from mirrorwitness.witness.records import parse_record
from tests.fuzz.targets import TARGETS

NAMES = sorted(TARGETS)


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_accepted(name: str) -> None:
    """A target that accepts nothing would prove nothing."""
    target = TARGETS[name]
    assert target.seeds
    assert [target.run(seed) for seed in target.seeds] == [True] * len(target.seeds)


@pytest.mark.parametrize("name", NAMES)
@given(st.data())
def test_damaged_seeds_break_nothing(name: str, data: st.DataObject) -> None:
    """A few bytes replaced by others, or any bytes at all."""
    target = TARGETS[name]
    seed = data.draw(st.sampled_from(target.seeds))
    at, gone = data.draw(st.integers(0, len(seed))), data.draw(st.integers(0, 3))
    target.run(seed[:at] + data.draw(st.binary(max_size=3)) + seed[at + gone :])
    target.run(data.draw(st.binary(max_size=200)))


UNREADABLE = pytest.mark.parametrize(
    "body", [b'{"origin":"\x80"}', b'{"x":' + b"[" * 5000], ids=["not UTF-8", "nested"]
)


@UNREADABLE
def test_record_that_no_json_reader_takes(body: bytes) -> None:
    """It is damaged, as one is that is no JSON."""
    with pytest.raises(RolledBackError):
        parse_record(body, origin="log.example/a")


@UNREADABLE
def test_evidence_that_no_json_reader_takes(body: bytes) -> None:
    """It is none, as one is that is no JSON."""
    with pytest.raises(UpstreamProtocolError):
        parse_evidence(body)
