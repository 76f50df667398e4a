"""Indexes: one spelling, merged in any order, strict against whatever lies under the key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, PreconditionFailedError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb import index as index_module
from mirrorwitness.sumdb.index import (
    IndexLine,
    PackageIndex,
    content_of,
    format_index,
    make_line,
    merge,
    parse_index,
)
from mirrorwitness.sumdb.indexes import add_lines, read_index, read_known
from mirrorwitness.sumdb.paths import index_key
from mirrorwitness.sumdb.records import Event
from tests.fakes.storage import MemoryStorage
from tests.unit.sumdb.logs import REGISTRY, integrity_of, make_record

LEFT = PackageName("left")
CONTENT = content_of(integrity_of("left@1.0.0"))

lines = st.builds(
    IndexLine,
    index=st.integers(0, 2**63 - 1),
    event=st.sampled_from(list(Event)),
    version=st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+_~-]{0,20}", fullmatch=True).map(Version),
    registry=st.sampled_from([REGISTRY, "npm.example:8080/path", "[::1]:1"]),
    content=st.text("abcXYZ019_-", min_size=22, max_size=22),
)
indexes = st.lists(lines, max_size=20, unique_by=lambda line: line.index).map(
    lambda found: PackageIndex(LEFT, tuple(sorted(found, key=lambda line: line.index)))
)


def line(index: int, version: str = "1.0.0", event: Event = Event.PUBLISH, registry: str = REGISTRY) -> IndexLine:
    return make_line(index, make_record("left", version, event=event, registry=registry))


@given(indexes)
def test_an_index_reads_back_as_it_was_written(index: PackageIndex) -> None:
    """parse(format) is the identity."""
    assert parse_index(format_index(index)) == index


@given(st.one_of(st.binary(max_size=200), indexes.map(format_index)), st.integers(0, 300), st.integers(0, 255))
def test_any_bytes_are_refused_with_one_error_or_are_the_one_spelling(body: bytes, at: int, byte: int) -> None:
    """What is read can be written again, byte for byte."""
    body = body[:at] + bytes([byte]) + body[at + 1 :]
    try:
        index = parse_index(body)
    except UpstreamProtocolError:
        return
    assert format_index(index) == body


@given(st.permutations([line(at, f"1.0.{at}") for at in range(5)]), st.integers(0, 5), st.integers(0, 5))
def test_indexes_merge_to_the_same_in_any_order(order: list[IndexLine], one: int, other: int) -> None:
    """Two writers that each add what they know, also twice, end with the same lines."""
    expected = PackageIndex(LEFT, tuple([line(at, f"1.0.{at}") for at in range(5)]))
    first = merge(PackageIndex(LEFT), order[:one])
    assert merge(merge(first, order[other:]), order) == expected


def test_two_lines_of_one_leaf_contradict_each_other() -> None:
    """A leaf says one thing."""
    with pytest.raises(ConfigurationError, match=r"leaf 3 is 3 publish 1\.0\.0 .* and cannot be 3 publish 2\.0\.0"):
        merge(PackageIndex(LEFT, (line(3),)), [line(3, "2.0.0")])


def test_the_newest_record_of_a_version_below_a_size_and_of_a_registry() -> None:
    """An index answers for every tree that there was."""
    other = line(6, registry="other.example")
    index = PackageIndex(LEFT, (line(1), line(2, "2.0.0"), line(4, event=Event.UNPUBLISH), other))
    version = Version("1.0.0")
    assert index.latest(version) == other
    assert index.latest(version, registry=REGISTRY) == line(4, event=Event.UNPUBLISH)
    assert index.latest(version, below=5) == line(4, event=Event.UNPUBLISH)
    assert index.latest(version, below=4) == line(1)
    assert index.latest(version, below=1) is None
    assert index.latest(Version("3.0.0")) is None


FIRST = "npm-sumdb-index/1 left\n"
BAD = {
    "": "ends in a newline",
    "npm-sumdb-index/2 left\n": "the first line is",
    "npm-sumdb-index/1 \n": "is empty",
    "npm-sumdb-index/1 .left\n": "begins with",
    f"{FIRST}1 publish 1.0.0 {REGISTRY} {CONTENT}": "ends in a newline",
    f"{FIRST}\n": "expected a leaf",
    f"{FIRST}1 publish 1.0.0 {REGISTRY}\n": "expected a leaf",
    f"{FIRST}01 publish 1.0.0 {REGISTRY} {CONTENT}\n": "leading zeros",
    f"{FIRST}1 published 1.0.0 {REGISTRY} {CONTENT}\n": "expected an event and a version",
    f"{FIRST}1 publish .1 {REGISTRY} {CONTENT}\n": "expected an event and a version",
    f"{FIRST}1 publish 1.0.0 {REGISTRY}/ {CONTENT}\n": "expected a registry",
    f"{FIRST}1 publish 1.0.0 {REGISTRY} {CONTENT}A\n": "expected a registry",
    f"{FIRST}{line(2)}\n{line(1)}\n": "leaf 1 stands behind leaf 2",
    f"{FIRST}{line(1)}\n{line(1)}\n": "leaf 1 stands behind leaf 1",
    f"{FIRST}é\n": "ASCII",
}


@pytest.mark.parametrize(("text", "reason"), BAD.items())
def test_what_is_no_index_is_refused(text: str, reason: str) -> None:
    """The message says what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=reason):
        parse_index(text.encode())


def test_an_oversized_index_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing larger than the limit is looked at."""
    monkeypatch.setattr(index_module, "MAX_INDEX_BYTES", 30)
    with pytest.raises(UpstreamProtocolError, match="more than 30"):
        parse_index(b"x" * 31)


async def test_lines_are_added_by_compare_and_swap() -> None:
    """A line that somebody added meanwhile stays; what is known is not written again."""
    storage = MemoryStorage()
    assert await read_known(storage, LEFT) == (PackageIndex(LEFT), None)
    await add_lines(storage, LEFT, [line(1)], known=None)
    old = await read_known(storage, LEFT)
    await add_lines(storage, LEFT, [line(2, "2.0.0")], known=None)
    await add_lines(storage, LEFT, [line(3, "3.0.0")], known=old)
    expected = PackageIndex(LEFT, (line(1), line(2, "2.0.0"), line(3, "3.0.0")))
    assert await read_index(storage, LEFT) == expected
    storage.fail_before("put", "*", PreconditionFailedError("nobody writes"), times=9)
    await add_lines(storage, LEFT, [line(1), line(2, "2.0.0")], known=None)
    assert storage.content_types == {index_key(LEFT): "text/plain; charset=utf-8"}


async def test_the_index_of_another_package_is_refused() -> None:
    """An object moved to another key leads nobody astray."""
    storage = MemoryStorage({index_key(LEFT): format_index(PackageIndex(PackageName("right")))})
    with pytest.raises(UpstreamProtocolError, match="log/index/left is the index of right, expected left"):
        await read_index(storage, LEFT)
