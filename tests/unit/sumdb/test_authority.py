"""Name authority: each name belongs to one registry, and no spelling makes it another's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.names import PackageName
from mirrorwitness.sumdb.authority import Authority, make_authority, registry_of
from mirrorwitness.sumdb.records import is_registry

ACME, OTHER, REST = "npm.acme.example", "other.example:8080/npm", "registry.example"


def authority(**rules: str) -> Authority:
    return make_authority(rules.items())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("left-pad", REST),
        ("exact", ACME),
        ("exact2", REST),
        ("Exact", REST),
        ("tool-x", OTHER),
        ("tool-long-x", ACME),
        ("@acme/tool", ACME),
        ("@acme/tool-x", ACME),
        ("@acme/exact", ACME),
        ("@acme/theirs", OTHER),
        ("@acme2/tool", REST),
        ("@Acme/tool", REST),
        ("@other/x-cli", OTHER),
        ("@other/x", REST),
    ],
)
def test_the_most_exact_rule_decides(name: str, expected: str) -> None:
    """A name, then the longest pattern, then the scope, then all others."""
    rules = {
        "exact": ACME,
        "tool-*": OTHER,
        "tool-long-*": ACME,
        "@acme": ACME,
        "@acme/theirs": OTHER,
        "@other/*-cli": OTHER,
        "*": REST,
    }
    found = authority(**rules)
    assert found.authority_of(PackageName(name)) == expected
    assert found.registries == {ACME, OTHER, REST}


def test_names_that_nothing_fits_belong_to_nobody() -> None:
    """Unless there is a default, which a rule for all others replaces."""
    assert authority(a=ACME).authority_of(PackageName("b")) is None
    assert authority(**{"@acme": ACME}).authority_of(PackageName("acme")) is None
    assert make_authority([("a", ACME)], default=REST).authority_of(PackageName("b")) == REST
    assert make_authority([("*", ACME)], default=REST).authority_of(PackageName("b")) == ACME


def test_spellings_of_a_rule() -> None:
    """A registry may be given as a URL, a scope with ``/*`` behind it."""
    assert make_authority([("@acme/*", "https://npm.acme.example/")]) == Authority({"@acme": ACME})


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([("@acme", ACME), ("@acme", ACME)], "'@acme' stands twice"),
        ([("@acme", ACME), ("@acme/*", OTHER)], r"'@acme/\*' stands twice: for npm.acme.example and for other"),
        ([("a-*", ACME), ("*-b", OTHER)], "a name may fit both"),
        ([("@s/a-*", ACME), ("@s/*-b", OTHER)], "a name may fit both"),
        ([("@acme", "NPM.acme.example")], "is no registry"),
        ([("@acme", "npm.acme.example/")], "is no registry"),
        ([("@acme", "ftp://npm.acme.example")], "expected http"),
        ([("a b", ACME)], "is no name, pattern or scope"),
        ([("@", ACME)], "is no name, pattern or scope"),
        ([("@.", ACME)], "is no name, pattern or scope"),
        ([("", ACME)], "is no name, pattern or scope"),
    ],
)
def test_a_map_that_leaves_a_doubt_is_refused(entries: list[tuple[str, str]], message: str) -> None:
    """Twice the same, two that may fit one name, or no name at all."""
    with pytest.raises(ConfigurationError, match=message):
        make_authority(entries)


@pytest.mark.parametrize(
    "entries",
    [
        [("a-*", ACME), ("b-*", OTHER)],
        [("*-a", ACME), ("*-b", OTHER)],
        [("a-*", ACME), ("*-b", ACME)],
        [("a-*", ACME), ("*-bc", OTHER)],
        [("@*/x", ACME), ("***x", OTHER)],
    ],
)
def test_patterns_that_cannot_be_mistaken_stand_side_by_side(entries: list[tuple[str, str]]) -> None:
    """Of other beginnings or ends, of one registry, of another length, of another shape."""
    assert make_authority(entries).rules == dict(entries)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://registry.example", "registry.example"),
        ("https://Registry.Example:443/", "registry.example"),
        ("http://registry.example:80", "registry.example"),
        ("http://registry.example.:443//", "registry.example:443"),
        ("https://h:8443/a/B%20c/", "h:8443/a/B%20c"),
        ("http://[::1]:4873", "[::1]:4873"),
    ],
)
def test_a_url_as_records_have_it(url: str, expected: str) -> None:
    """No scheme, no default port, no slash at the end."""
    assert registry_of(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "registry.example",
        "https://",
        "https://u@h",
        "https://u:p@h",
        "https://h?x",
        "https://h#x",
        "https://h/../x",
        "https://h:x",
        "https://[::1",
        "file:///x",
        "https://h/ x",
        "https://h:0/",
    ],
)
def test_what_cannot_stand_in_a_record(url: str) -> None:
    """Nothing else is taken for a registry."""
    with pytest.raises(ConfigurationError, match="registry"):
        registry_of(url)


@given(st.from_regex(r"https?://[A-Za-z0-9.:\[\]-]{1,20}(/[a-zA-Z0-9./%-]{0,20})?", fullmatch=True))
def test_every_url_is_a_registry_or_refused(url: str) -> None:
    """What comes out can be written into a record."""
    try:
        found = registry_of(url)
    except ConfigurationError:
        return
    assert is_registry(found)
    assert registry_of(f"https://{found}") == found or ":443" in found or ":80" in found
