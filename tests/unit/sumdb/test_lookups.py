"""Look-ups: their paths and texts, both ways, and what no server may send."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version, parse_name
from mirrorwitness.sumdb.lookups import (
    MAX_PACKAGE_BYTES,
    IndexedRecord,
    Lookup,
    format_lookup,
    format_package,
    lookup_path,
    parse_lookup,
    parse_lookup_path,
    parse_package,
    parse_size_query,
)
from mirrorwitness.tlog.entries import MAX_ENTRY_BYTES
from mirrorwitness.tlog.merkle import HASH_BYTES, MAX_PROOF_HASHES, MAX_SIZE, Hash

NAMES = st.sampled_from(["a", "lodash", "@s/n", "@babel/core", "A~b!c'(d)*", "-"]).map(parse_name)
VERSIONS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="@"), min_size=1, max_size=30)
HASHES = st.binary(min_size=HASH_BYTES, max_size=HASH_BYTES).map(Hash)
LINES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\n"), min_size=1, max_size=20)
RECORDS = st.lists(LINES, min_size=1, max_size=5).map(lambda lines: "".join(f"{line}\n" for line in lines).encode())
SIZES = st.integers(0, MAX_SIZE)

RECORD = b"npm-sumdb/1\npackage a@1.0.0\n"
LOOKUP = Lookup(7, RECORD, (Hash(b"\1" * HASH_BYTES),), b"a checkpoint\n")
BODY = (
    b"c2sp.org/tlog-proof@v1\nextra bnBtLXN1bWRiLzEKcGFja2FnZSBhQDEuMC4wCg==\nindex 7\n"
    b"AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\na checkpoint\n"
)
HEAD = BODY.removesuffix(b"a checkpoint\n")


def test_a_look_up_is_a_tlog_proof_with_the_record_as_its_extra_data() -> None:
    """Whoever reads C2SP tlog-proof reads our look-ups."""
    assert format_lookup(LOOKUP) == BODY
    assert parse_lookup(BODY, has_checkpoint=True) == LOOKUP


def test_without_a_checkpoint_the_text_ends_with_its_empty_line() -> None:
    """What is asked for at a size never changes: the checkpoint is not in it."""
    bare = Lookup(7, RECORD, LOOKUP.proof)
    assert format_lookup(bare) == HEAD
    assert parse_lookup(HEAD, has_checkpoint=False) == bare


@given(SIZES, RECORDS, st.lists(HASHES, max_size=MAX_PROOF_HASHES), st.none() | st.binary(min_size=1, max_size=100))
def test_parsing_what_was_formatted_is_the_identity(
    index: int, record: bytes, proof: list[Hash], checkpoint: bytes | None
) -> None:
    """Both forms, whatever the record, the proof and the checkpoint."""
    found = Lookup(index, record, tuple(proof), checkpoint)
    body = format_lookup(found)
    assert parse_lookup(body, has_checkpoint=checkpoint is not None) == found
    assert format_lookup(parse_lookup(body, has_checkpoint=checkpoint is not None)) == body


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HEAD.removesuffix(b"\n"), "expected a tlog-proof that ends with its empty line"),
        (BODY, "expected a tlog-proof that ends with its empty line"),
        (b"", "expected a tlog-proof that ends with its empty line"),
        (HEAD.replace(b"index 7", b"index 07"), "expected a decimal without leading zeros"),
        (HEAD.replace(b"extra bnBtLXN1bWRiLzEKcGFja2FnZSBhQDEuMC4wCg==\n", b""), "expected the record"),
        (HEAD.replace(b"bnBtLXN1bWRiLzEKcGFja2FnZSBhQDEuMC4wCg==", base64.b64encode(b"a\n\nb\n")), "an empty line"),
        (HEAD.replace(b"bnBtLXN1bWRiLzEKcGFja2FnZSBhQDEuMC4wCg==", base64.b64encode(b"ab")), "not end in a newline"),
        (HEAD.replace(b"bnBtLXN1bWRiLzEKcGFja2FnZSBhQDEuMC4wCg==", base64.b64encode(b"\n")), "has 1 bytes"),
    ],
)
def test_what_is_no_look_up_is_refused(body: bytes, message: str) -> None:
    """One error type, and the message says what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=message):
        parse_lookup(body, has_checkpoint=False)


@given(body=st.binary(max_size=300), has_checkpoint=st.booleans())
def test_hostile_bytes_raise_one_error_type(body: bytes, *, has_checkpoint: bool) -> None:
    """Whatever a server sends, a parser raises `UpstreamProtocolError` or reads what formats back to it."""
    for text in (body, HEAD + body, HEAD[: len(body)] + body):
        try:
            found = parse_lookup(text, has_checkpoint=has_checkpoint)
        except UpstreamProtocolError:
            continue
        assert format_lookup(found) == text


@pytest.mark.parametrize("record", [b"", b"\n", b"a", b"a\n\nb\n", b"\na\n", b"a" * MAX_ENTRY_BYTES + b"\n"])
def test_a_record_that_no_answer_can_hold_is_not_written(record: bytes) -> None:
    """A server notices before a client does."""
    with pytest.raises(ConfigurationError, match="record"):
        format_lookup(Lookup(0, record, (), b"x"))
    with pytest.raises(ConfigurationError, match="record"):
        format_package([IndexedRecord(0, record)])


@given(NAMES, VERSIONS | st.none())
def test_parsing_a_path_that_was_made_is_the_identity(name: PackageName, version: str | None) -> None:
    """Every name and version survives the path, percent signs and slashes included."""
    wanted = None if version is None else Version(version)
    assert parse_lookup_path(lookup_path(name, wanted)) == (name, wanted)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("lookup/@s/n@1.0.0", ("@s/n", "1.0.0")),
        ("lookup/@s%2fn@1.0.0", ("@s/n", "1.0.0")),
        ("lookup/%40s%2Fn%401.0.0", ("@s/n", "1.0.0")),
        ("lookup/a@1.0.0-rc.1+build", ("a", "1.0.0-rc.1+build")),
        ("lookup/@s/n", ("@s/n", None)),
        ("lookup/a", ("a", None)),
    ],
)
def test_spellings_of_a_path(path: str, expected: tuple[str, str | None]) -> None:
    """A scope's slash may be escaped or not, as npm's clients do."""
    assert parse_lookup_path(path) == expected


@pytest.mark.parametrize(
    "path",
    ["lookup/", "lookup/a@", "lookup/@s/n@", "lookup/@s", "lookup/a@b@1", "lookup/a%", "lookup/../a", "look/a", "a@1"],
)
def test_what_is_no_path_of_a_look_up_is_refused(path: str) -> None:
    """Nothing is guessed."""
    with pytest.raises(ConfigurationError):
        parse_lookup_path(path)


@pytest.mark.parametrize("version", ["", "1@2", "@"])
def test_a_version_that_no_path_can_say_is_refused(version: str) -> None:
    """Asked for as it is, another version would be looked up."""
    with pytest.raises(ConfigurationError, match="expected text without an @"):
        lookup_path(PackageName("a"), Version(version))


def test_the_size_stands_in_the_query() -> None:
    """A path with a size reads back as the path and the size."""
    path, _, query = lookup_path(PackageName("a"), Version("1.0.0"), size=12).partition("?")
    assert (parse_lookup_path(path), parse_size_query(query)) == (("a", "1.0.0"), 12)
    assert parse_size_query("") is None


@pytest.mark.parametrize(
    "query", ["size", "size=", "size=01", "size=-1", "size=1&x=2", "x=1", "size=9223372036854775808"]
)
def test_another_query_is_refused(query: str) -> None:
    """A parameter that is passed over would make two addresses of one answer."""
    with pytest.raises(ConfigurationError):
        parse_size_query(query)


@given(st.lists(st.tuples(SIZES, RECORDS), min_size=1, max_size=5, unique_by=lambda item: item[0]))
def test_parsing_the_records_of_a_package_is_the_identity(items: list[tuple[int, bytes]]) -> None:
    """All records of a package, in the log's order."""
    records = tuple([IndexedRecord(index, record) for index, record in sorted(items)])
    assert parse_package(format_package(records)) == records


def test_records_of_a_package_as_text() -> None:
    """Each behind its index, an empty line between two, as in Go's data tiles."""
    records = [IndexedRecord(3, b"a\nb\n"), IndexedRecord(20, b"c\n")]
    assert format_package(records) == b"3\na\nb\n\n20\nc\n"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected each to end in a newline"),
        (b"1\na", "expected each to end in a newline"),
        (b"\n", "expected a decimal"),
        (b"1\n", "has 1 bytes"),
        (b"1\na\n\n", "has an empty line"),
        (b"2\na\n\n1\nb\n", "index 1 stands behind 2"),
        (b"2\na\n\n2\nb\n", "index 2 stands behind 2"),
        (b"1\n\na\n", "has 1 bytes"),
        (b"\xff\na\n", "expected a decimal"),
        (b"x" * (MAX_PACKAGE_BYTES + 1), "more than"),
    ],
)
def test_what_are_no_records_of_a_package_is_refused(body: bytes, message: str) -> None:
    """One error type, and the message says what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=message):
        parse_package(body)


def test_records_out_of_order_are_not_written() -> None:
    """A server whose index is damaged notices before a client does."""
    with pytest.raises(ConfigurationError, match="index 1 stands behind 1"):
        format_package([IndexedRecord(1, b"a\n"), IndexedRecord(1, b"b\n")])
