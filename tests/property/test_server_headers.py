"""Properties of the header parsers: they answer for any text, and agree with a plain reading of the grammar."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.server.byterange import ByteRange, WithoutRange, parse_range
from mirrorwitness.server.negotiate import (
    CODINGS,
    Coding,
    choose_coding,
    is_match,
    is_none_match,
    wants_abbreviated,
)
from mirrorwitness.server.origin import parse_host

SIZES = st.integers(min_value=0, max_value=10**12)
QUALITIES = st.integers(min_value=0, max_value=1000)
HEADER = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200)


@given(first=st.integers(0, 10**20), last=st.integers(0, 10**20) | st.none(), size=SIZES)
def test_range_from_a_first_byte(first: int, last: int | None, size: int) -> None:
    """A range is cut to the object, is refused behind its end, and is ignored where it runs backwards."""
    found = parse_range(f"bytes={first}-{'' if last is None else last}", size)
    if size == 0 or (last is not None and last < first < 10**18):
        assert found is WithoutRange.WHOLE
    elif first >= size:
        assert found in {WithoutRange.UNSATISFIABLE, WithoutRange.WHOLE}
    else:
        end = size - 1 if last is None else min(last, size - 1)
        assert found == ByteRange(first, end - first + 1)


@given(length=st.integers(0, 10**20), size=SIZES)
def test_range_of_a_suffix(length: int, size: int) -> None:
    """A suffix is at most the whole object."""
    found = parse_range(f"bytes=-{length}", size)
    if size == 0:
        assert found is WithoutRange.WHOLE
    elif length == 0:
        assert found is WithoutRange.UNSATISFIABLE
    else:
        assert found == ByteRange(size - min(length, size), min(length, size))


@given(header=HEADER | st.from_regex(r"bytes=[0-9, -]{0,60}", fullmatch=True), size=SIZES)
@example(header="bytes=" + "9" * 10_000 + "-" + "9" * 10_000, size=10)
@example(header="bytes=-" + "0" * 10_000 + "1", size=10)
@example(header="bytes=٣-", size=10)
def test_any_range_lies_inside_the_object(header: str, size: int) -> None:
    """Whatever is asked, what is sent is a part of the object, and several ranges are never honoured."""
    found = parse_range(header, size)
    if isinstance(found, ByteRange):
        assert 0 <= found.start < found.start + found.length <= size
        assert "," not in header
        assert found.format_content_range(size).endswith(f"/{size}")


@given(
    qualities=st.dictionaries(st.sampled_from([*(coding.value for coding in Coding), "deflate", "*"]), QUALITIES),
    spaces=st.sampled_from(["", " ", "\t"]),
    order=st.randoms(use_true_random=False),
)
@example(qualities={"*": 0}, spaces="", order=None)
@example(qualities={"identity": 0}, spaces="", order=None)
def test_chosen_coding_is_the_best_acceptable_one(qualities: dict[str, int], spaces: str, order: object) -> None:
    """No acceptable coding has a higher q than the chosen one, and none that is refused is chosen."""
    items = [f"{name}{spaces};{spaces}q={quality / 1000:.3f}" for name, quality in qualities.items()]
    chosen = choose_coding(f"{spaces},{spaces}".join(items))
    weights = {coding: qualities.get(coding, qualities.get("*", 0)) for coding in CODINGS}
    if chosen is Coding.IDENTITY:
        assert max(weights.values()) == 0 or max(weights.values()) < qualities.get("identity", 0)
    else:
        assert weights[chosen] == max(weights.values()) > 0
        assert weights[chosen] >= qualities.get("identity", 0)
        assert all(weights[better] < weights[chosen] for better in CODINGS[: CODINGS.index(chosen)])


@given(header=HEADER)
@example(header="gzip;q=1.5, br;q=-1, zstd;q=nan, *;q=inf")
@example(header=",;;q,=;q=" * 100)
def test_any_header_has_an_answer(header: str) -> None:
    """No text breaks the parsers, and a q that is none makes its item count for nothing."""
    assert choose_coding(header) in Coding
    assert wants_abbreviated(header) in {True, False}
    host = parse_host(header)
    assert host is None or host == header.lower()


@given(
    tags=st.lists(st.tuples(st.booleans(), st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=9))),
    ours=st.from_regex(r'"[0-9a-f]{4}"', fullmatch=True),
    included=st.sampled_from([None, "", "W/"]),
)
def test_entity_tags_match_as_listed(tags: list[tuple[bool, str]], ours: str, included: str | None) -> None:
    """A tag in the list matches weakly in any form, strongly only where it is strong."""
    others = [("W/" if weak else "") + '"' + text.replace('"', "").replace(ours[1:5], "") + '"' for weak, text in tags]
    listed = [*others, *([] if included is None else [included + ours])]
    header = ", ".join(listed[-60:])
    assert is_none_match(header, ours) == (included is not None)
    assert is_match(header, ours) == (included == "")
