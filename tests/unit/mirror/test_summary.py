"""The summary's format: what it is to the byte, and what is refused."""

from __future__ import annotations

import hashlib

import pytest

from mirrorwitness.errors import IntegrityMismatchError, SecurityError, UpstreamProtocolError
from mirrorwitness.mirror.subtree import EMPTY, make_subtree
from mirrorwitness.mirror.summary import (
    LEAF_MAX,
    MAX_NODE_BYTES,
    Inner,
    Leaf,
    Ref,
    format_inner,
    format_leaf,
    make_entry,
    package_prefix,
    parse_node,
)
from tests.unit.mirror.summaries import MemorySummary, entry, sri

SRI = sri("bytes")


def ref_of(body: bytes, versions: int) -> Ref:
    return Ref(versions, hashlib.sha256(body).hexdigest())


def test_the_format_is_what_its_description_says() -> None:
    """Built here by the description alone, for a leaf and an inner node, to the byte."""
    entries = [entry(f"p{number}", "1.0.0") for number in range(LEAF_MAX + 1)]
    nodes: dict[str, bytes] = {}
    root = make_subtree("", entries, nodes.__setitem__)
    lines: dict[str, list[str]] = {}
    for number in range(LEAF_MAX + 1):
        digit = hashlib.sha256(f"p{number}".encode()).hexdigest()[0]
        lines.setdefault(digit, []).append(f"p{number}@1.0.0 {sri(f'p{number}@1.0.0')}\n")
    expected = "mirrorwitness-summary-1 inner -\n"
    for digit, part in sorted(lines.items()):
        leaf = f"mirrorwitness-summary-1 leaf {digit}\n{''.join(sorted(part))}".encode()
        assert leaf in nodes.values()
        expected += f"{digit} {len(part)} {hashlib.sha256(leaf).hexdigest()}\n"
    assert root.body == expected.encode()
    assert EMPTY.body == b"mirrorwitness-summary-1 leaf -\n"


def test_positions_keep_a_package_together_and_spread_packages() -> None:
    """8 digits of the name, 56 of name and version."""
    made = entry("@scope/name", "1.0.0")
    whole = hashlib.sha256(b"@scope/name@1.0.0").hexdigest()
    assert made.position == hashlib.sha256(b"@scope/name").hexdigest()[:8] + whole[:56]
    assert package_prefix("@scope/name") == made.position[:8]


@pytest.mark.parametrize(
    ("name", "version", "line"),
    [
        ("left-pad", "1.0.0-rc.1+build", "left-pad@1.0.0-rc.1+build"),
        ("@s/n", "1.0.0", "@s/n@1.0.0"),
        ("a", "1@2", "a@1%402"),
        ("a", "1 2\n%", "a@1%202%0A%25"),
        ("a", "é", "a@%C3%A9"),
        ("a", "\ud800", "a@%ED%A0%80"),
        ("a", "", "a@"),
        ("~!*'()", "~!*'()", "~!*'()@~!*'()"),
    ],
)
def test_every_version_has_one_line(name: str, version: str, line: str) -> None:
    """Whatever registries call versions, nothing breaks a line, and it reads back."""
    made = make_entry(name, version, SRI)
    assert made is not None
    assert made.line == f"{line} {SRI}"
    body = format_leaf("", [made])
    assert parse_node(body, "", ref_of(body, 1)) == Leaf((made,))


def test_an_endless_version_has_no_entry() -> None:
    """So a node of 128 entries has a largest size."""
    assert make_entry("a", "1" * 2000, SRI) is None
    longest = make_entry("a", "1" * (2000 - len(SRI) - 4), SRI)
    assert longest is not None
    assert len(format_leaf("0" * 64, [longest] * LEAF_MAX)) <= MAX_NODE_BYTES


def test_inner_nodes_read_back() -> None:
    """Whole value."""
    children = {"0": Ref(100, "0" * 64), "f": Ref(29, "f" * 64)}
    body = format_inner("ab", children)
    assert parse_node(body, "ab", ref_of(body, 129)) == Inner(children)


def test_replaced_bytes_of_a_node() -> None:
    """A node whose digest is not the promised one is named, with both digests."""
    summary = MemorySummary.of([entry("a", "1.0.0"), entry("b", "1.0.0")])
    (body,) = summary.nodes.values()
    forged = body.replace(sri("b@1.0.0").encode(), sri("other").encode())
    with pytest.raises(IntegrityMismatchError, match=f"expected sha256 {summary.root.digest}, found"):
        parse_node(forged, "", summary.root)


def test_another_version_of_the_format() -> None:
    """It is said which one is there, before anything about digests."""
    body = EMPTY.body or b""
    with pytest.raises(UpstreamProtocolError, match="format mirrorwitness-summary-2, this program reads"):
        parse_node(body.replace(b"-1 ", b"-2 "), "", EMPTY.ref)


@pytest.mark.parametrize("body", [b"", b"<!doctype html>\n", b"mirrorwitness-summary-1 leaf\n", b"\xff\x00"])
def test_not_a_node(body: bytes) -> None:
    """A page of a portal is no forgery: nothing is said about digests."""
    with pytest.raises(UpstreamProtocolError, match="expected a node of a summary"):
        parse_node(body, "", ref_of(body, 0))


def lines(*entries: str, kind: str = "leaf", prefix: str = "-") -> bytes:
    return "\n".join([f"mirrorwitness-summary-1 {kind} {prefix}", *entries, ""]).encode()


A, B = f"a@1.0.0 {SRI}", f"b@1.0.0 {SRI}"
CHILD = f"0 129 {'0' * 64}"


@pytest.mark.parametrize(
    ("body", "prefix", "versions", "reason"),
    [
        (lines(A, prefix="0"), "", 1, "it is the node of range 0"),
        (lines(A), "0", 1, "it is the node of range -"),
        (lines(A, prefix="0"), "0", 1, "a@1.0.0 does not belong there"),
        (lines(A), "", 2, "it has 1 entries, its parent says 2"),
        (lines(B, A), "", 2, "is not in order"),
        (lines(A, A), "", 2, "is not in order"),
        (lines(A, f"a@1.0.0 {sri('other')}"), "", 2, "(is there twice|is not in order)"),
        (lines(f"a@1.0.0 {min(SRI, sri('x'))}", f"a@1.0.0 {max(SRI, sri('x'))}"), "", 2, "is there twice"),
        (lines(f"a {SRI}"), "", 1, "is not an entry"),
        (lines(f"a@1.0.0  {SRI}"), "", 1, "is not an entry"),
        (lines(f"a@1.0.0 {SRI} "), "", 1, "is not an entry"),
        (lines(f"a@1.0.0 {SRI[:-3]}R=="), "", 1, "is not an entry"),
        (lines("a@1.0.0 sha1-AAAAAAAAAAAAAAAAAAAAAAAAAAA="), "", 1, "is not an entry"),
        (lines(f"a@1%2E0 {SRI}"), "", 1, "is not an entry"),
        (lines(f"%61@1.0 {SRI}"), "", 1, "is not an entry"),
        (lines(f"a@1%2a {SRI}"), "", 1, "is not an entry"),
        (lines(f"a@{'1' * 2000} {SRI}"), "", 1, "is not an entry"),
        (lines(A)[:-1], "", 1, "its last line does not end"),
        (lines(A, ""), "", 1, "is not an entry"),
        (lines(A), "", LEAF_MAX + 1, "a range of 129 entries is not written as leaf"),
        (lines(f"0 1 {'0' * 64}", kind="inner"), "", 1, "a range of 1 entries is not written as inner"),
        (lines(CHILD, kind="inner"), "", 130, "it has 129 entries, its parent says 130"),
        (lines(CHILD, CHILD, kind="inner"), "", 258, "its child 0 is not in order"),
        (lines(f"1 129 {'0' * 64}", CHILD, kind="inner"), "", 258, "its child 0 is not in order"),
        (lines(f"0 0 {'0' * 64}", CHILD, kind="inner"), "", 129, "is not a child"),
        (lines(f"0 0129 {'0' * 64}", kind="inner"), "", 129, "is not a child"),
        (lines(f"0 99999999999 {'0' * 64}", kind="inner"), "", 129, "is not a child"),
        (lines(CHILD, kind="inner", prefix="0" * 64), "0" * 64, 129, "it goes on behind the last digit"),
    ],
)
def test_a_tree_that_contradicts_itself(body: bytes, prefix: str, versions: int, reason: str) -> None:
    """The digest is right, so whoever made the parent made this on purpose."""
    with pytest.raises(SecurityError, match=reason) as caught:
        parse_node(body, prefix, ref_of(body, versions))
    assert type(caught.value) is SecurityError
