"""Shards divide all packages between them, alike on every machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.mirror.shards import MAX_SHARDS, WHOLE, Shard, parse_shard


@given(st.text(max_size=30), st.integers(1, 9), st.integers(1, 5))
def test_each_package_has_exactly_one_owner(name: str, total: int, parts: int) -> None:
    """Also where a shard is split between processes."""
    owners = [shard for index in range(total) for shard in Shard(index + 1, total).split(parts) if shard.owns(name)]
    assert len(owners) == 1
    assert WHOLE.owns(name)


def test_ownership_is_the_same_for_ever() -> None:
    """A cursor written by one version is right for the next."""
    assert [name for name in ("react", "@babel/core", "Buffer", "buffer") if Shard(1, 2).owns(name)] == [
        "react",
        "Buffer",
    ]


def test_shards_are_read_as_they_are_written() -> None:
    assert parse_shard("2/4") == Shard(2, 4)
    assert (str(Shard(2, 4)), Shard(2, 4).key) == ("2/4", "2-of-4")


@pytest.mark.parametrize("text", ["", "0/1", "2/1", "1", "1/0", "-1/2", "1/2/3", " 1/2", f"1/{MAX_SHARDS + 1}", "01/2"])
def test_what_is_no_shard_says_what_one_is(text: str) -> None:
    """The message has an example."""
    with pytest.raises(ConfigurationError, match="1/4 for the first of four"):
        parse_shard(text)


def test_an_indexed_job_counts_from_0() -> None:
    """Its first pod has the first shard, its last one the last."""
    assert [parse_shard("job/8", job_index=index) for index in ("0", "7")] == [Shard(1, 8), Shard(8, 8)]


@pytest.mark.parametrize("index", [None, "", "-1", "01", "1.0", "x"])
def test_a_job_that_nobody_counts(index: str | None) -> None:
    """The message names the variable and what was found."""
    with pytest.raises(ConfigurationError, match=r"JOB_COMPLETION_INDEX, .* found .*, expected a number from 0"):
        parse_shard("job/8", job_index=index)


def test_an_index_beyond_the_number_of_parts() -> None:
    """A job with more pods than parts is refused."""
    with pytest.raises(ConfigurationError, match="expected I/N"):
        parse_shard("job/8", job_index="8")
