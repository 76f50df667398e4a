"""Names: npm's rule for old packages, request paths, specs."""

from __future__ import annotations

import pytest

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.names import MAX_NAME_LENGTH, PackageName, decode_name, decode_path, parse_name, parse_spec

OLD_AND_ODD = [
    "react",
    "@babel/core",
    "-",
    "-" * 120,
    "Base64",
    "JSONStream",
    "constructor",
    "then",
    "package.json",
    "path",
    "some~odd'name!(x)*",
    "@Scope/Name",
    "@s/_private",
    "@s/node_modules",
    "a" * MAX_NAME_LENGTH,
    "@s/" + "b" * (MAX_NAME_LENGTH - 3),
    "0",
    "a..b",
]

REFUSED = [
    "",
    ".",
    "..",
    ".bin",
    "_id",
    "__proto__",
    "node_modules",
    "Node_Modules",
    "favicon.ico",
    "a" * (MAX_NAME_LENGTH + 1),
    "a/b",
    "@s",
    "@s/",
    "@/n",
    "@s/n/x",
    "@s//n",
    "@../n",
    "@s/..",
    "@s/.n",
    "@.s/n",
    "a b",
    " a",
    "a ",
    "a\n",
    "a\0",
    "a\\b",
    "a%2fb",
    "a:b",
    "a@b",
    "é",
    "\ud800",
    "/a",
    "a?b",
    "a#b",
]


@pytest.mark.parametrize("name", OLD_AND_ODD)
def test_names_that_exist_are_accepted_unchanged(name: str) -> None:
    """Old and odd names pass, byte for byte."""
    assert parse_name(name) == name


@pytest.mark.parametrize("name", REFUSED)
def test_row_20_names_that_are_paths_or_not_url_safe_are_refused(name: str) -> None:
    """Row 20: no traversal, no control character, no second slash gets through."""
    with pytest.raises(ConfigurationError, match="package name"):
        parse_name(name)


def test_row_22_names_that_differ_in_case_stay_two_names() -> None:
    """Row 22: nothing is lower-cased."""
    assert [parse_name("Buffer"), parse_name("buffer"), parse_name("@Scope/X")] == ["Buffer", "buffer", "@Scope/X"]


def test_a_refusal_names_the_value_and_the_reason() -> None:
    """The message tells what was found, cut to a bearable length and in ASCII."""
    with pytest.raises(ConfigurationError) as caught:
        parse_name("ü" * 300)
    assert str(caught.value) == "package name '" + "\\xfc" * 100 + "\\u2026' has 300 characters, more than 214"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/react", "react"),
        ("react", "react"),
        ("/@s%2fn", "@s/n"),
        ("/@s%2Fn", "@s/n"),
        ("/@s/n", "@s/n"),
        ("/%40s%2Fn", "@s/n"),
        ("/%40s/n", "@s/n"),
        ("/%52eact", "React"),
    ],
)
def test_every_spelling_of_a_request_path_gives_the_name(path: str, name: str) -> None:
    """B 2.4: npm, yarn, pnpm, bun, browsers and cnpmcore write the scope differently."""
    assert decode_name(path) == name


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/react/18.0.0", (PackageName("react"), ("18.0.0",))),
        ("/@s/n/-/n-1.0.0.tgz", (PackageName("@s/n"), ("-", "n-1.0.0.tgz"))),
        ("/@s%2fn/-/n-1.0.0.tgz", (PackageName("@s/n"), ("-", "n-1.0.0.tgz"))),
        ("/-/-/--1.0.0.tgz", (PackageName("-"), ("-", "--1.0.0.tgz"))),
        ("/a/-/%2e%2e%2fb", (PackageName("a"), ("-", "../b"))),
    ],
)
def test_a_path_is_split_into_name_and_decoded_rest(path: str, expected: tuple[PackageName, tuple[str, ...]]) -> None:
    """What follows the name comes back segment by segment."""
    assert decode_path(path) == expected


@pytest.mark.parametrize(
    "path",
    ["", "/", "//", "/@s%252fn", "/%2e%2e", "/a%00", "/a%2fb", "/a%", "/a%2", "/a%zz", "/a%ff", "/@s", "/a/b", "/a/"],
)
def test_row_20_paths_that_name_no_package_are_refused(path: str) -> None:
    """Row 20: one decoding, strict escapes, and the result must be a name."""
    with pytest.raises(ConfigurationError):
        decode_name(path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("react", ("react", None)),
        ("react@^18", ("react", "^18")),
        ("@s/n", ("@s/n", None)),
        ("@s/n@latest", ("@s/n", "latest")),
        (" react@>=1 <2 ", ("react", ">=1 <2")),
        ("a@npm:b@1", ("a", "npm:b@1")),
    ],
)
def test_a_spec_is_split_at_the_at_sign_that_is_not_the_scope(text: str, expected: tuple[str, str | None]) -> None:
    """The first @ may be the scope's."""
    assert parse_spec(text) == expected


@pytest.mark.parametrize("text", ["", "@", "react@", "@s/n@ ", "@latest", "../x@1", "_x@1"])
def test_specs_without_a_name_or_a_version_are_refused(text: str) -> None:
    """A dangling @ or a bad name is the operator's mistake and is said."""
    with pytest.raises(ConfigurationError):
        parse_spec(text)
