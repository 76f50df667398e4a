"""What logs send to a log mirror: parsed as it comes, given back byte for byte, and bounded."""

from __future__ import annotations

import gzip
import zlib
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, ProofError, UpstreamProtocolError
from mirrorwitness.logmirror.decision import Admitted, Conflict, Known, NeverPending, Pending, admit, check_package
from mirrorwitness.logmirror.inflate import PIECE_BYTES, Inflater
from mirrorwitness.logmirror.paths import checkpoint_key, pending_key, tile_key
from mirrorwitness.logmirror.protocol import (
    MAX_INFO_BYTES,
    MAX_PACKAGE_BYTES,
    MAX_TICKET_BYTES,
    MirrorInfo,
    Package,
    UploadHead,
    UploadParser,
    bundle_start,
    format_head,
    format_info,
    format_package,
    package_spans,
    parse_info,
)
from mirrorwitness.tlog.checkpoint import origin_hash
from mirrorwitness.tlog.merkle import Hash, Range
from mirrorwitness.tlog.tiles import EntriesTile, Tile
from tests.unit.logmirror.world import LAB

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = st.integers(0, 2**63 - 1)
HEADS = st.builds(
    lambda origin, ends, ticket: UploadHead(origin, min(ends), max(ends), ticket),
    st.binary(max_size=40),
    st.tuples(SIZES, SIZES),
    st.binary(max_size=80),
)
HASHES = st.lists(st.binary(min_size=32, max_size=32).map(Hash), max_size=63).map(tuple)
PACKAGES = st.builds(
    lambda start, entries, proof: Package(Range(start, start + len(entries)), tuple(entries), proof),
    st.integers(0, 10),
    st.lists(st.binary(max_size=20), min_size=1, max_size=20),
    HASHES,
)


def parse(pieces: Sequence[bytes], spans: Sequence[Range]) -> tuple[UploadHead | None, list[Package]]:
    """Parse a body that comes in pieces, as far as it goes."""
    parser, waiting = UploadParser(), list(pieces)

    def more() -> bool:
        if waiting:
            parser.receive(waiting.pop(0))
            return True
        return False

    while (head := parser.head()) is None:
        if not more():
            return None, []
    assert parser.head() is head
    found: list[Package] = []
    for span in spans:
        while (package := parser.package(span)) is None:
            if not more():
                return head, found
        found.append(package)
    assert repr(parser).startswith("<UploadParser")
    return head, found


@pytest.mark.slow
@given(head=HEADS, packages=st.lists(PACKAGES, max_size=4), cuts=st.lists(st.integers(0, 3000), max_size=6))
def test_what_was_written_is_parsed_in_any_pieces(head: UploadHead, packages: list[Package], cuts: list[int]) -> None:
    """And formatting what was parsed gives the same bytes."""
    body = format_head(head) + b"".join(map(format_package, packages))
    edges = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    pieces = [body[start:end] for start, end in pairwise(edges)]
    assert parse(pieces, [package.span for package in packages]) == (head, packages)
    short = parse([body[:-1]], [package.span for package in packages])
    assert short == ((head, packages[:-1]) if packages else (None, []))


@pytest.mark.slow
@given(body=st.binary(max_size=300), spans=st.lists(st.integers(1, 5), max_size=4))
def test_any_bytes_are_parsed_or_refused(body: bytes, spans: list[int]) -> None:
    """With one kind of error, and never another."""
    with suppress(UpstreamProtocolError):
        parse([body], [Range(0, span) for span in spans])


@given(start=st.integers(0, 2000), count=st.integers(0, 2000))
def test_packages_lie_in_one_bundle_each(start: int, count: int) -> None:
    """They make up the whole upload, and begin and end at multiples of 256 but at its ends."""
    spans = list(package_spans(start, start + count))
    assert [at for span in spans for at in range(span.start, span.end)] == list(range(start, start + count))
    assert all(bundle_start(span.start) == bundle_start(span.end - 1) for span in spans)
    rounded = (-(-(start + count) // 256) - start // 256) if count else 0
    assert len(spans) == rounded


INFOS = st.builds(MirrorInfo, SIZES, SIZES, st.binary(max_size=100))


@given(info=INFOS)
def test_mirror_info(info: MirrorInfo) -> None:
    """Three lines; parse and format are each other's inverse."""
    body = format_info(info)
    assert body.count(b"\n") == 3
    assert parse_info(body) == info


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"1\n2\n", b"1\n2\n\n\n", b"01\n2\n\n", b"1\n-2\n\n", b"1\n2\nA\n", b"1\n2\n=\n"),
        *(b"1\r\n2\n\n", b"\xff\n2\n\n"),
    ],
)
def test_what_is_no_mirror_info(body: bytes) -> None:
    """Refused: leading zeros, signs, other newlines, base64 with a second spelling."""
    with pytest.raises(UpstreamProtocolError):
        parse_info(body)


def test_limits() -> None:
    """What does not fit is not written; the largest things do."""
    assert len(format_info(MirrorInfo(2**63 - 1, 2**63 - 1, bytes(MAX_TICKET_BYTES)))) < MAX_INFO_BYTES
    largest = Package(Range(0, 256), (bytes(65_535),) * 256, (Hash(bytes(32)),) * 63)
    body = format_package(largest)
    assert len(body) == MAX_PACKAGE_BYTES
    for bad in (
        Package(Range(0, 2), (b"one",), ()),
        Package(Range(0, 1), (bytes(65_536),), ()),
        Package(Range(0, 1), (b"one",), (Hash(bytes(32)),) * 64),
    ):
        with pytest.raises(ConfigurationError):
            format_package(bad)


@pytest.mark.slow
@given(body=st.binary(max_size=5000), cuts=st.lists(st.integers(0, 5000), max_size=5), members=st.integers(1, 3))
def test_gzip_is_unpacked_in_any_pieces(body: bytes, cuts: list[int], members: int) -> None:
    """Also several members behind one another."""
    packed = gzip.compress(body) * members
    edges = [0, *sorted(min(cut, len(packed)) for cut in cuts), len(packed)]
    inflater = Inflater()
    found = b"".join(piece for start, end in pairwise(edges) for piece in inflater.unpack(packed[start:end]))
    assert found == body * members
    assert repr(inflater) == f"<Inflater, {members} members done>"


@pytest.mark.slow
def test_attack_decompression_bomb() -> None:
    """A body that unpacks to a thousand times its length comes out in small pieces, each when it is asked for."""
    packed = zlib.compress(bytes(50_000_000), 9, wbits=31)
    pieces = Inflater().unpack(packed)
    assert [len(next(pieces)) for _ in range(3)] == [PIECE_BYTES] * 3
    assert len(packed) < 60_000


@pytest.mark.parametrize(
    "body",
    [b"nonsense", gzip.compress(b"x") + b"behind", gzip.compress(b"x" * 99)[:-8] + bytes(8)],
    ids=["nonsense", "something behind it", "a wrong checksum"],
)
def test_attack_what_is_no_gzip(body: bytes) -> None:
    """Refused: other bytes, something behind a member, a wrong checksum."""
    with pytest.raises(UpstreamProtocolError, match="not gzip"):
        list(Inflater().unpack(body))


def test_where_things_lie() -> None:
    """Below the hash of the origin, as a tiled log has it."""
    digest = origin_hash("o")
    assert checkpoint_key("o") == f"logmirror/{digest}/checkpoint"
    assert pending_key("o") == f"state/logmirror/{digest}.json"
    assert tile_key("o", Tile(1, 1234, 7)) == f"logmirror/{digest}/tile/1/x001/234.p/7"
    assert tile_key("o", EntriesTile(0, 256)) == f"logmirror/{digest}/tile/entries/000"


def tree(size: int) -> Pending:
    return Pending(size, LAB.root(size), b"")


def always(_pending: Pending) -> bool:
    return True


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (600, 1200, Admitted(tree(1200))),
        (600, 900, Admitted(tree(900))),
        (600, 600, Admitted(tree(600))),
        (1024, 1200, Admitted(tree(1200))),
        (1025, 1200, "the next entry is 1024"),
        (0, 1100, "no pending checkpoint"),
        (0, 300, "below that of the mirror"),
        (700, 1000, Admitted(tree(1000))),
    ],
)
def test_which_uploads_are_taken(start: int, end: int, expected: Admitted | str) -> None:
    """The order is the specification's; 300 is a pending checkpoint that is behind, 1000 that of a ticket."""
    known = Known((tree(300), tree(900), tree(1200)), tree(600), 1024)
    verdict = admit(UploadHead(b"", start, end), known, tree(1000), is_signed=always)
    if isinstance(expected, Admitted):
        assert verdict == expected
    else:
        assert isinstance(verdict, Conflict)
        assert expected in verdict.text
        assert verdict.pending.size == 1200


def test_nothing_is_known_of_a_log() -> None:
    """Then there is nothing to go on from; the mirror checkpoint alone is enough."""
    assert admit(UploadHead(b"", 0, 0), Known((), None, 0), None, is_signed=always) == NeverPending()
    assert admit(UploadHead(b"", 0, 7), Known((), tree(7), 0), None, is_signed=always) == Admitted(tree(7))
    assert Known((tree(5),), tree(7), 0).latest.size == 7
    assert Known((), None, 0).latest.size == 0


@given(
    size=st.integers(1, 700), start=st.integers(0, 699), wrong=st.sampled_from(["", "entry", "kept", "proof", "short"])
)
def test_packages_are_proven(size: int, start: int, wrong: str) -> None:
    """Any package of any tree, begun anywhere in its bundle; a change of one bit of anything is found."""
    start = min(start, size - 1)
    span = next(package_spans(start, size))
    first = bundle_start(start)
    kept = [LAB.entry(at) for at in range(first, start)]
    entries = [LAB.entry(at) for at in range(start, span.end)]
    proof = LAB.subtree_proof(first, span.end, size)
    if wrong == "entry":
        entries[-1] += b"x"
    elif wrong == "kept" and kept:
        kept[0] += b"x"
    elif wrong == "proof" and proof:
        proof[0] = Hash(bytes(32))
    elif wrong == "short" and proof:
        proof = proof[1:]
    else:
        assert check_package(Package(span, tuple(entries), tuple(proof)), kept, tree(size)) == [*kept, *entries]
        return
    with pytest.raises(ProofError):
        check_package(Package(span, tuple(entries), tuple(proof)), kept, tree(size))
