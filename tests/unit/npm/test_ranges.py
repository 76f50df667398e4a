"""Ranges and order: npm's rules in examples of our own; `tests/property/test_npm_ranges.py` asks npm itself."""

from __future__ import annotations

import time

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.ranges import MAX_RANGE_LENGTH, is_prerelease, normalize_version, parse_range, version_order

VERSIONS = [
    *("0.0.1", "0.2.3", "0.2.9", "1.0.0-rc.1", "1.0.0", "1.2.3", "1.9.9"),
    *("2.0.0-beta.1", "2.0.0-beta.2", "2.0.0", "2.4.1", "3.0.0-alpha", "3.1.0"),
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("^1.2.0", "1.2.3 1.9.9"),
        ("^0.2.3", "0.2.3 0.2.9"),
        ("^0.0.1", "0.0.1"),
        ("~1.2", "1.2.3"),
        ("~>2", "2.0.0 2.4.1"),
        ("1.x", "1.0.0 1.2.3 1.9.9"),
        ("1.2.3 - 2.4", "1.2.3 1.9.9 2.0.0 2.4.1"),
        (">1 <3", "2.0.0 2.4.1"),
        (">1.0.0 <=2.0.0", "1.2.3 1.9.9 2.0.0"),
        (">= 2.4.1", "2.4.1 3.1.0"),
        ("<0.2", "0.0.1"),
        ("0.0.1 || 3", "0.0.1 3.1.0"),
        ("=v1.2.3", "1.2.3"),
        ("2.0.0-beta.2", "2.0.0-beta.2"),
        (">=2.0.0-beta.2 <2.1", "2.0.0-beta.2 2.0.0"),
        ("^2.0.0-beta", "2.0.0-beta.1 2.0.0-beta.2 2.0.0 2.4.1"),
        ("^2.0.0-beta || *", "0.0.1 0.2.3 0.2.9 1.0.0 1.2.3 1.9.9 2.0.0 2.4.1 3.1.0"),
        ("", "0.0.1 0.2.3 0.2.9 1.0.0 1.2.3 1.9.9 2.0.0 2.4.1 3.1.0"),
        ("latest || 1.2.3", "1.2.3"),
        (">3.1.0 <3.1.0", ""),
    ],
)
def test_a_range_includes_what_npm_would_install(text: str, expected: str) -> None:
    """Each operator, and prereleases only where the range names one of the same numbers."""
    found = parse_range(text)
    assert [version for version in VERSIONS if found.includes(version)] == expected.split()
    assert found.text == text


@pytest.mark.parametrize(
    "text",
    [
        "latest",
        "next || beta",
        "git+https://registry.example/x",
        "npm:other@1",
        "file:../x",
        "^",
        "9007199254740992.0.0",
    ],
)
def test_what_npm_does_not_take_as_a_range_is_refused(text: str) -> None:
    """Tags, URLs and aliases are not ranges; the message shows the text."""
    with pytest.raises(ConfigurationError, match="is not a range that npm reads"):
        parse_range(text)


def test_a_range_that_is_too_long_is_refused_before_it_is_read() -> None:
    """P10: hostile text costs nothing."""
    with pytest.raises(ConfigurationError, match="1025 characters, more than 1024"):
        parse_range("1" * (MAX_RANGE_LENGTH + 1))


@pytest.mark.parametrize(
    "version",
    [
        "",
        "latest",
        "1",
        "1.2",
        "1.2.3.4",
        "1.2.x",
        "a.b.c",
        "9007199254740992.0.0",
        f"{10**18}.0.0",
        "1.0.0-" + "a" * 256,
        "1.2.3\x1c",
        "\uff11.2.3",
        "1.2.3-é",
        "-1.0.0",
        "__proto__",
        "1.0.0 2",
    ],
)
def test_row_14_what_is_no_version_matches_nothing_and_sorts_first(version: str) -> None:
    """Row 14: legacy keys and parts beyond 2^53 are no error, anywhere."""
    assert not parse_range("*").includes(version)
    assert version_order(version) < version_order("0.0.0-0")
    assert (is_prerelease(version), normalize_version(version)) == (False, None)


def test_versions_sort_by_npms_precedence() -> None:
    """Numbers by value, prereleases before their release, words after numbers, longer after shorter."""
    ordered = [
        "not a version",
        "zzz",
        "0.0.0-0",
        "1.0.0-0",
        "1.0.0-2",
        "1.0.0-10",
        "1.0.0-alpha",
        "1.0.0-alpha.1",
        "1.0.0-alpha.beta",
        "1.0.0-beta",
        "1.0.0",
        "1.0.10",
        "1.2.0",
        "10.0.0",
        "9007199254740991.0.0",
    ]
    ordered_again = sorted(sorted(ordered, key=len), key=version_order)
    assert ordered_again == ordered


def test_build_metadata_and_spelling_decide_nothing() -> None:
    """Loose spellings of a version are equal."""
    spellings = ["1.0.0-beta", "v1.0.0-beta", "=1.0.0beta", " 1.0.0-beta+build.5\n", "01.0.0-beta"]
    assert {version_order(text) for text in spellings} == {version_order("1.0.0-beta")}
    assert {normalize_version(text) for text in spellings} == {"1.0.0-beta"}


@pytest.mark.parametrize(
    ("version", "expected"), [("1.0.0", False), ("1.0.0-0", True), ("1.0.0+b-1", False), ("1.0.0beta", True)]
)
def test_prereleases_are_told_apart(version: str, *, expected: bool) -> None:
    """What follows the numbers, not the build."""
    assert is_prerelease(version) is expected


@pytest.mark.slow
def test_row_14_37000_versions_against_a_range_take_under_a_second() -> None:
    """Row 14: processor time, so a busy machine does not fail it."""
    versions = [f"{index // 100}.{index % 100}.{index % 7}" for index in range(37_000)]
    found = parse_range("^18.2.0 || >=20")
    started = time.process_time()
    assert sum(map(found.includes, versions)) == 35_098
    assert time.process_time() - started < 1


@pytest.mark.slow
@pytest.mark.parametrize("text", ["= " * 512, "v" * 1024, "1.2.3 " + "=" * 1018, "||" * 512, "~" * 1024, "1 " * 512])
def test_attack_hostile_ranges_are_read_quickly(text: str) -> None:
    """The library's regular expressions stay bounded by the length limit."""
    started = time.process_time()
    try:
        parse_range(text)
    except ConfigurationError as error:
        assert "range" in str(error)  # noqa: PT017 # either answer will do, but soon
    assert time.process_time() - started < 1
