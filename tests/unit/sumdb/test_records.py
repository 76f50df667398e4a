"""Records: one spelling for each, one error for everything else, and nothing that a line could smuggle in."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError, UpstreamProtocolError
from mirrorwitness.npm.names import PackageName, Version
from mirrorwitness.sumdb.records import (
    MAX_RECORD_BYTES,
    MAX_SIGNATURES,
    Event,
    Record,
    format_record,
    is_recorded_version,
    is_registry,
    is_time,
    normalize_integrity,
    parse_record,
)

if TYPE_CHECKING:
    from hypothesis.strategies import DrawFn


def sri(algorithm: str, content: bytes) -> str:
    digest = hashlib.new(algorithm, content, usedforsecurity=False).digest()
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


RECORD = Record(
    registry="registry.example",
    name=PackageName("@scope/left-pad"),
    version=Version("1.0.0-beta.1"),
    integrity=f"{sri('sha512', b'a')} {sri('sha1', b'a')}",
    tarball_size=1234,
    shasum=hashlib.sha1(b"a", usedforsecurity=False).hexdigest(),
    manifest=hashlib.sha256(b"m").digest(),
    tarball_manifest=hashlib.sha256(b"t").digest(),
    published="2026-01-02T03:04:05.678Z",
    signatures=(("SHA256:abc", "AAAA"), ("SHA256:abc", "AAAB"), ("k", "AA==")),
    attestations=None,
    event=Event.PUBLISH,
)
CONFLICT = replace(
    RECORD, event=Event.CONFLICT, other_integrity=sri("sha512", b"b"), evidence=hashlib.sha256(b"e").digest()
)
TEXT = format_record(RECORD)

_digests = st.none() | st.binary(min_size=32, max_size=32)
_names = st.from_regex(r"(@[a-z][a-z0-9-]{0,9}/)?[A-Za-z][A-Za-z0-9._-]{0,20}", fullmatch=True)
_versions = st.from_regex(r"[0-9A-Za-z][0-9A-Za-z.+_~-]{0,20}", fullmatch=True)
_signatures = st.tuples(
    st.from_regex(r"[!-~]{1,20}", fullmatch=True),
    st.binary(min_size=1, max_size=8).map(lambda raw: base64.b64encode(raw).decode()),
)


@st.composite
def records(draw: DrawFn) -> Record:
    content = draw(st.binary(max_size=4))
    weaker = draw(st.sets(st.sampled_from(["sha384", "sha256", "sha1"])))
    integrity = normalize_integrity(" ".join(sri(algorithm, content) for algorithm in ["sha512", *weaker]))
    event = draw(st.sampled_from(Event))
    is_conflict = event is Event.CONFLICT
    return Record(
        registry=draw(st.sampled_from(["registry.example", "127.0.0.1:4873", "[::1]:80/npm/x", "h/a-b/c%20d"])),
        name=PackageName(draw(_names)),
        version=Version(draw(_versions)),
        integrity=integrity,
        tarball_size=draw(st.integers(0, 2**53 - 1)),
        shasum=draw(st.none() | st.from_regex(r"[0-9a-f]{40}", fullmatch=True)),
        manifest=draw(_digests),
        tarball_manifest=draw(_digests),
        published=draw(st.sampled_from([None, "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.678+02:00"])),
        signatures=tuple(sorted(draw(st.sets(_signatures, max_size=4)))),
        attestations=draw(_digests),
        event=event,
        other_integrity=sri("sha512", content + b"other") if is_conflict else None,
        evidence=draw(st.binary(min_size=32, max_size=32)) if is_conflict else None,
    )


def test_the_text_is_as_documented() -> None:
    """Fixed lines in a fixed order: what other implementations have to reproduce."""
    assert format_record(CONFLICT).decode() == (
        "npm-sumdb/1\n"
        "registry registry.example\n"
        "package @scope/left-pad@1.0.0-beta.1\n"
        f"integrity {sri('sha512', b'a')} {sri('sha1', b'a')}\n"
        "tarball-size 1234\n"
        "shasum 86f7e437faa5a7fce15d1ddcb9eaeaea377667b8\n"
        f"manifest {sri('sha256', b'm')}\n"
        f"tarball-manifest {sri('sha256', b't')}\n"
        "published 2026-01-02T03:04:05.678Z\n"
        "signature SHA256:abc AAAA\n"
        "signature SHA256:abc AAAB\n"
        "signature k AA==\n"
        "attestations -\n"
        "event conflict\n"
        f"other-integrity {sri('sha512', b'b')}\n"
        f"evidence {sri('sha256', b'e')}\n"
    )
    assert (RECORD.identity, str(RECORD)) == (
        ("registry.example", "@scope/left-pad", "1.0.0-beta.1"),
        "publish of @scope/left-pad@1.0.0-beta.1 at registry.example",
    )


@given(records())
@example(RECORD)
@example(CONFLICT)
def test_what_is_written_is_read_again(record: Record) -> None:
    """Formatting and parsing are each other's inverse."""
    body = format_record(record)
    assert parse_record(body) == record
    assert format_record(parse_record(body)) == body


@given(record=records(), at=st.integers(0, 10**6), byte=st.integers(0, 255))
def test_every_changed_byte_is_refused_or_another_record(record: Record, at: int, byte: int) -> None:
    """No two texts are one record."""
    body = bytearray(format_record(record))
    at %= len(body)
    if body[at] == byte:
        return
    body[at] = byte
    try:
        found = parse_record(bytes(body))
    except UpstreamProtocolError:
        return
    assert found != record
    assert format_record(found) == bytes(body)


@given(record=records(), cut=st.integers(0, 10**6), more=st.binary(min_size=0, max_size=30))
def test_every_cut_or_longer_text_is_refused_or_another_record(record: Record, cut: int, more: bytes) -> None:
    """Neither a part of a record nor something behind it goes unnoticed."""
    whole = format_record(record)
    body = whole[: cut % (len(whole) + 1)] + more
    try:
        found = parse_record(body)
    except UpstreamProtocolError:
        assert body != whole
    else:
        assert format_record(found) == body


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: b"npm-sumdb/1\n" + text.encode()))
def test_any_bytes_have_one_error(body: bytes) -> None:
    """Whatever comes over the wire is a record or an `UpstreamProtocolError`."""
    with pytest.raises(UpstreamProtocolError, match="sumdb record: "):
        parse_record(body)


@pytest.mark.parametrize(
    ("line", "other"),
    [
        ("npm-sumdb/1", "npm-sumdb/2"),
        ("registry registry.example", "registry Registry.example"),
        ("registry registry.example", "registry https://registry.example"),
        ("registry registry.example", "registry registry.example/"),
        ("registry registry.example", "registry registry.example/a/../b"),
        ("registry registry.example", "registry registry.example:0"),
        ("registry registry.example", f"registry {'a' * 1025}"),
        ("package @scope/left-pad@1.0.0-beta.1", "package left-pad"),
        ("package @scope/left-pad@1.0.0-beta.1", "package @1.0.0"),
        ("package @scope/left-pad@1.0.0-beta.1", "package a@b@1.0.0"),
        ("package @scope/left-pad@1.0.0-beta.1", "package a@1.0.0 b"),
        ("package @scope/left-pad@1.0.0-beta.1", "package a@"),
        ("package @scope/left-pad@1.0.0-beta.1", f"package a@{'1' * 257}"),
        ("package @scope/left-pad@1.0.0-beta.1", "package node_modules@1.0.0"),
        ("tarball-size 1234", "tarball-size 01234"),
        ("tarball-size 1234", "tarball-size +1234"),
        ("tarball-size 1234", "tarball-size -"),
        ("tarball-size 1234", f"tarball-size {2**53}"),
        ("published 2026-01-02T03:04:05.678Z", "published 2026-13-02T03:04:05.678Z"),
        ("published 2026-01-02T03:04:05.678Z", "published 2026-01-02 03:04:05Z"),
        ("published 2026-01-02T03:04:05.678Z", "published 2026-01-02T03:04:05"),
        ("published 2026-01-02T03:04:05.678Z", "published "),
        ("signature k AA==", "signature k AA="),
        ("signature k AA==", "signature k AB=="),
        ("signature k AA==", "signature k "),
        ("signature k AA==", "signature AA=="),
        ("signature k AA==", "signature SHA256:abc AAAA"),
        ("signature k AA==", "signature  AA=="),
        ("attestations -", "attestations sha256-AAAA"),
        ("attestations -", f"attestations {sri('sha512', b'a')}"),
        ("attestations -", "attestations"),
        ("attestations -", "attestations -\n"),
        ("attestations -", "attestations -\r"),
        ("event publish", "event Publish"),
        ("event publish", "event conflict"),
        ("event publish", f"event publish\nother-integrity {sri('sha512', b'b')}\nevidence {sri('sha256', b'e')}"),
        ("event publish", "event publish\nevent publish"),
    ],
)
def test_a_line_that_is_not_in_its_one_spelling_is_refused(line: str, other: str) -> None:
    """Each rule of the format, broken alone."""
    text = TEXT.decode()
    assert f"{line}\n" in text
    with pytest.raises(UpstreamProtocolError, match="sumdb record: "):
        parse_record(text.replace(f"{line}\n", f"{other}\n").encode())


@pytest.mark.parametrize(
    "integrity",
    [
        sri("sha1", b"a"),
        f"{sri('sha1', b'a')} {sri('sha512', b'a')}",
        f"{sri('sha512', b'a')}  {sri('sha1', b'a')}",
        f"{sri('sha512', b'a')} {sri('sha512', b'b')}",
        f"{sri('sha512', b'a')} {sri('sha1', b'a')} {sri('sha1', b'b')}",
        f"{sri('sha512', b'a')}?opt",
        f"{sri('sha512', b'a')} md5-AAAA",
        "sha512-AAAA",
        "-",
    ],
)
def test_attack_ambiguous_integrity(integrity: str) -> None:
    """A record vouches for one content, in one spelling."""
    with pytest.raises(ConfigurationError, match="integrity"):
        format_record(replace(RECORD, integrity=integrity))


@pytest.mark.parametrize(
    "change",
    [
        {"other_integrity": None},
        {"evidence": None},
        {"other_integrity": RECORD.integrity},
        {"other_integrity": sri("sha256", b"x")},
        {"other_integrity": f"{sri('sha512', b'b')}?x"},
        {"other_integrity": f"{sri('sha512', b'b')} {sri('sha512', b'b')}"},
    ],
)
def test_a_conflict_names_other_bytes_and_its_evidence(change: dict[str, object]) -> None:
    """What is said to contradict the record does so."""
    with pytest.raises(ConfigurationError, match="cannot be written"):
        format_record(replace(CONFLICT, **change))  # type: ignore[arg-type]


def test_a_conflict_may_name_several_digests() -> None:
    """An integrity that gained a digest promises other bytes as well."""
    other = normalize_integrity(f"{sri('sha512', b'b')} {sri('sha512', b'a')}")
    conflict = replace(CONFLICT, other_integrity=other)
    assert parse_record(format_record(conflict)) == conflict


@pytest.mark.parametrize(
    "change",
    [
        {"name": PackageName("a\nevent publish")},
        {"version": Version("1.0.0\nx")},
        {"version": Version("caf\u00e9")},
        {"version": Version("\ud800")},
        {"registry": "a b"},
        {"shasum": "-"},
        {"published": "-"},
        {"manifest": b"short"},
        {"tarball_size": -1},
        {"signatures": (("b", "AAAA"), ("a", "AAAA"))},
        {"signatures": (("a", "AAAA"), ("a", "AAAA"))},
        {"other_integrity": sri("sha512", b"b")},
        {"evidence": hashlib.sha256(b"e").digest()},
    ],
)
def test_what_cannot_be_a_record_is_not_written(change: dict[str, object]) -> None:
    """Nothing that a registry says can add a line, or come back as something else."""
    with pytest.raises(ConfigurationError, match="cannot be written"):
        format_record(replace(RECORD, **change))  # type: ignore[arg-type]


def test_attack_oversized() -> None:
    """Too many signatures, and too many bytes of few of them."""
    many = tuple((f"k{number:03}", "AAAA") for number in range(MAX_SIGNATURES))
    parse_record(format_record(replace(RECORD, signatures=many)))
    with pytest.raises(ConfigurationError, match="33 signatures"):
        format_record(replace(RECORD, signatures=(*many, ("z", "AAAA"))))
    with pytest.raises(ConfigurationError, match=f"more than {MAX_RECORD_BYTES}"):
        format_record(replace(RECORD, signatures=(("z", "A" * 65_536),)))


def test_normalize_integrity() -> None:
    """Strongest first, each once, options and unknown algorithms gone; nothing where nothing is a hash."""
    one, two = sri("sha512", b"a"), sri("sha512", b"b")
    assert normalize_integrity(f" {sri('sha1', b'a')}\t{max(one, two)}?o {min(one, two)} {one} md5-AAAA x") == (
        f"{min(one, two)} {max(one, two)} {sri('sha1', b'a')}"
    )
    assert normalize_integrity("md5-AAAA") == ""


def test_small_questions() -> None:
    """The predicates that others ask before they make a record."""
    assert [is_registry(text) for text in ("h", "h:1/x", "[::1]", "h-", "", "h//x", "h/.")] == [
        True,
        True,
        True,
        *[False] * 4,
    ]
    assert [is_recorded_version(text) for text in ("1", "v1.0.0+x~y_z", "", ".1", "a b")] == [True, True, *[False] * 3]
    assert [is_time(text) for text in ("2026-01-02T03:04:05Z", "2026-02-30T03:04:05Z", "now")] == [True, False, False]


def test_errors_name_the_line_and_what_was_found() -> None:
    """A person can tell what is wrong."""
    with pytest.raises(UpstreamProtocolError, match=re.escape("expected a line 'tarball-size', found 'shasum 86f7")):
        parse_record(TEXT.replace(b"tarball-size 1234\n", b""))
    with pytest.raises(UpstreamProtocolError, match="expected a line 'event', found the end"):
        parse_record(TEXT.replace(b"event publish\n", b""))
    with pytest.raises(UpstreamProtocolError, match="printable ASCII"):
        parse_record(TEXT + b"\xff\n")
    with pytest.raises(UpstreamProtocolError, match="the first line is ''"):
        parse_record(b"")
    with pytest.raises(UpstreamProtocolError, match="conflict without the digest of its evidence"):
        parse_record(format_record(CONFLICT).replace(sri("sha256", b"e").encode(), b"-"))
    with pytest.raises(UpstreamProtocolError, match="shasum 'x'"):
        parse_record(TEXT.replace(b"shasum 86f7e437faa5a7fce15d1ddcb9eaeaea377667b8", b"shasum x"))
