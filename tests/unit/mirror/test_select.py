"""Selection: rules, contradictions, names and globs, fingerprints."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from mirrorwitness.errors import SelectionError
from mirrorwitness.mirror.lockfile import parse_lockfile
from mirrorwitness.mirror.patterns import Globs, parse_pattern
from mirrorwitness.mirror.select import (
    Rule,
    Selection,
    expand,
    make_deny_rule,
    make_rule,
    make_selection,
    parse_names,
    parse_rule,
    rules_of_lockfile,
)
from mirrorwitness.npm.names import PackageName, Version

CLI = "the command line"


def sri(text: str, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, text.encode()).digest()).decode()}"


class TestRules:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("react", make_rule("react", origin=CLI)),
            (" react@^18 ", make_rule("react", versions="^18", origin=CLI)),
            ("react@18.2.0", make_rule("react", pins={Version("18.2.0"): None}, origin=CLI)),
            ("react@v18.2.0-rc.1", make_rule("react", pins={Version("18.2.0-rc.1"): None}, origin=CLI)),
            ("@s/n@1 || 2", make_rule("@s/n", versions="1 || 2", origin=CLI)),
            ("@s/n@next", make_rule("@s/n", tag="next", origin=CLI)),
            ("@babel/", make_rule("@babel/*", origin=CLI)),
            ("babel-*@^7", make_rule("babel-*", versions="^7", origin=CLI)),
            ("babel-*@7.0.0", make_rule("babel-*", versions="7.0.0", origin=CLI)),
            ("JSONStream", make_rule("JSONStream", origin=CLI)),
        ],
    )
    def test_rules_as_people_write_them(self, text: str, expected: Rule) -> None:
        """A name, a range, an exact version, a tag, a scope or a glob."""
        assert parse_rule(text, origin=CLI) == expected

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("react@", "the command line: 'react@' has nothing behind the @: leave it away, or name a version"),
            ("react@a $b", "the command line: react: 'a $b' is neither a range nor a tag"),
            ("@babel", "the command line: '@babel' is a scope without packages: write '@babel/*'"),
            ("!react", "the command line: '!react' begins with '!': what is not wanted is a [[deny]] rule"),
            ("../x", "the command line: package name '../x' begins with '.'"),
            ("", "the command line: package name '' is empty"),
            ("a b*", "the command line: glob 'a b*' has characters that no package name has"),
            (
                "é" * 200 + "*",
                f"the command line: glob {'é' * 100 + '…'!a} has characters that no package name has",
            ),
        ],
    )
    def test_what_is_no_rule(self, text: str, message: str) -> None:
        """The message names the text and where it came from."""
        with pytest.raises(SelectionError) as caught:
            parse_rule(text, origin=CLI)
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"latest": 0}, "x: left: latest = 0 selects nothing: use 1 or more, or a [[deny]] rule"),
            ({"latest": -1}, "x: left: latest = -1 selects nothing: use 1 or more, or a [[deny]] rule"),
            (
                {"latest": 2, "pins": {Version("1.0.0"): None}},
                "x: left: latest and pins contradict each other: keep one of them",
            ),
            ({"versions": "^1", "tag": "next"}, "x: left: versions and tag contradict each other: keep one of them"),
            ({"prereleases": True}, "x: left: prereleases belongs to latest; without it every version is meant"),
            (
                {"versions": "not a range"},
                "x: left: version range 'not a range' is not a range that npm reads",
            ),
        ],
    )
    def test_a_rule_says_one_thing(self, options: dict[str, Any], message: str) -> None:
        """Two wishes in one rule are a contradiction."""
        with pytest.raises(SelectionError) as caught:
            make_rule("left", origin="x", **options)
        assert str(caught.value) == message

    def test_an_exact_version_of_a_glob(self) -> None:
        """Pins belong to one package."""
        with pytest.raises(SelectionError, match="an exact version belongs to one package, not to a glob"):
            make_rule("a-*", pins={Version("1.0.0"): None}, origin="x")

    def test_a_deny_rule_needs_a_reason(self) -> None:
        """Whoever misses the package will ask."""
        with pytest.raises(SelectionError, match="a deny rule needs a reason"):
            make_deny_rule("left", reason=" ", origin="x")

    def test_rules_of_a_lockfile(self) -> None:
        """One rule for each package, with its versions and integrities."""
        packages = {
            "node_modules/left": {"version": "1.0.0", "integrity": sri("1.0.0")},
            "node_modules/right": {"version": "1.0.0"},
            "node_modules/right/node_modules/left": {"version": "2.0.0"},
        }
        body = json.dumps({"lockfileVersion": 3, "packages": packages}).encode()
        assert rules_of_lockfile(parse_lockfile(body, path="a/package-lock.json")) == (
            make_rule(
                "left", pins={Version("1.0.0"): sri("1.0.0"), Version("2.0.0"): None}, origin="a/package-lock.json"
            ),
            make_rule("right", pins={Version("1.0.0"): None}, origin="a/package-lock.json"),
        )


class TestContradictions:
    def test_nothing_selected(self) -> None:
        """An empty selection says what to do."""
        with pytest.raises(SelectionError) as caught:
            make_selection([])
        assert str(caught.value) == (
            "nothing is selected: name packages (`react`, `@babel/*`, `react@^18`), give --lockfile FILE, or write "
            "[[select]] rules into mirrorwitness.toml"
        )

    @pytest.mark.parametrize(
        ("first", "second", "message"),
        [
            (
                make_rule("left", latest=2, origin="a"),
                make_rule("left", latest=5, origin="b"),
                (
                    "two rules contradict each other: the 2 newest of left (a), and the 5 newest of left (b). "
                    "Keep one of them"
                ),
            ),
            (
                make_rule("a-*", versions="^1", latest=2, origin="a"),
                make_rule("a-*", versions="^1", origin="b"),
                (
                    "two rules contradict each other: the 2 newest in ^1 of a-* (a), and every version in ^1 of a-* (b)"
                    ". Keep one of them"
                ),
            ),
            (
                make_rule("left", origin="a"),
                make_rule("left", latest=1, origin="b"),
                (
                    "two rules contradict each other: every version of left (a), and the 1 newest of left (b). "
                    "Keep one of them"
                ),
            ),
            (
                make_rule("left", pins={Version("1.0.0"): sri("a")}, origin="a/package-lock.json"),
                make_rule("left", pins={Version("1.0.0"): sri("b")}, origin="b/package-lock.json"),
                (
                    f"left@1.0.0 is pinned to two contents: {sri('a')} (a/package-lock.json), and {sri('b')} "
                    "(b/package-lock.json). One of the lockfiles was altered"
                ),
            ),
        ],
    )
    def test_the_same_rule_with_different_limits(self, first: Rule, second: Rule, message: str) -> None:
        """The error names both rules and where each came from."""
        with pytest.raises(SelectionError) as caught:
            make_selection([first, second])
        assert str(caught.value) == message

    def test_what_adds_up_is_no_contradiction(self) -> None:
        """Two ranges, a tag, a pin with and without integrity, and the same rule twice."""
        specs = ("left@^1", "left@^2", "left@next", "left@latest", "left@1.0.0", "left@1.0.0", "left@^1")
        locked = make_rule("left", pins={Version("1.0.0"): sri("a")}, origin="lock")
        again = make_rule("left", pins={Version("1.0.0"): f"{sri('a')} {sri('b', 'sha1')}"}, origin="lock2")
        selection = make_selection([*(parse_rule(spec, origin=CLI) for spec in specs), locked, again])
        assert len(selection.rules_for("left")) == 9

    def test_how_rules_read_in_messages(self) -> None:
        """Every kind of rule has words."""
        rules = ("left@1.0.0", "left@next", "left@^1", "left")
        assert [str(parse_rule(text, origin="x")) for text in rules] == [
            "exactly 1.0.0 of left (x)",
            "the tag next of left (x)",
            "every version in ^1 of left (x)",
            "every version of left (x)",
        ]


class TestNames:
    def test_names_and_globs(self) -> None:
        """Exact names keep their order; rules that name a package come first."""
        specs = ("b", "@s/*", "a@^1", "b@^2", "@s/n")
        selection = make_selection([parse_rule(spec, origin=CLI) for spec in specs])
        assert (selection.names(), selection.globs()) == (("b", "a", "@s/n"), ("@s/*",))
        assert [str(rule) for rule in selection.rules_for("@s/n")] == [
            f"every version of @s/n ({CLI})",
            f"every version of @s/* ({CLI})",
        ]
        assert [selection.matches(name) for name in ("a", "@s/x", "@S/x", "c")] == [True, True, False, False]
        assert repr(selection) == "<Selection 3 names, 1 globs, 0 deny rules>"

    def test_row_22_case_counts(self) -> None:
        """`Buffer` and `buffer` are two packages, in names and in globs."""
        selection = make_selection([parse_rule("Buffer", origin=CLI), parse_rule("JSON*", origin=CLI)])
        names = [PackageName(name) for name in ("buffer", "JSONStream", "jsonstream")]
        assert expand(selection, names) == ("Buffer", "JSONStream")

    def test_expand_gives_each_name_once(self) -> None:
        """Exact names first, also those that no list has."""
        selection = make_selection([parse_rule(spec, origin=CLI) for spec in ("z", "a-*", "a-b")])
        names = [PackageName(name) for name in ("a-c", "a-b", "b")]
        assert expand(selection, names) == ("z", "a-b", "a-c")

    def test_names_need_no_list(self) -> None:
        """Only a glob needs to know what there is."""
        assert expand(make_selection([parse_rule("z", origin=CLI)]), None) == ("z",)

    def test_a_glob_without_names(self) -> None:
        """The error says what to do."""
        with pytest.raises(SelectionError) as caught:
            expand(make_selection([parse_rule("a-*", origin=CLI)]), None)
        assert str(caught.value) == (
            "the glob a-* (the command line) needs a list of package names to choose from: give --names-from FILE with "
            "one name on each line, or name the packages"
        )

    def test_a_glob_that_matches_nothing(self) -> None:
        """A misspelt glob is never a complete mirror of nothing (P3)."""
        selection = make_selection([parse_rule(spec, origin=CLI) for spec in ("bable-*", "b-*")])
        with pytest.raises(SelectionError, match=r"no package name matches bable-\* \(the command line\): correct it"):
            expand(selection, [PackageName("b-a")])

    def test_names_from_a_file(self) -> None:
        """One name on each line, comments, Windows line ends, a byte order mark."""
        text = "\ufeffreact\r\n# comment\r\n\r\n@s/n # why\r\nreact\n"
        assert parse_names(text, path="names.txt") == ("react", "@s/n")

    def test_names_from_a_bad_file(self) -> None:
        """The line is named."""
        with pytest.raises(SelectionError) as caught:
            parse_names("react\n../etc\n", path="names.txt")
        assert str(caught.value) == "names.txt: line 2: package name '../etc' begins with '.'"

    def test_no_globs_match_nothing(self) -> None:
        """No alternation at all is not the empty alternation, which would match everything."""
        assert not Globs([]).matches("")
        assert parse_pattern("@s/[ab]?", origin="x") == "@s/[ab]?"


class TestFingerprint:
    @staticmethod
    def of(*rules: Rule, name: str = "left", **options: Any) -> str:
        return Selection(rules, **options).fingerprint(name)

    def test_it_ignores_what_does_not_matter(self) -> None:
        """Origins, reasons, order, repetition and other packages."""
        a, b = make_rule("left", versions="^1", origin="a"), make_rule("left", tag="next", origin="b")
        other = make_rule("right", origin="a")
        moved = make_rule("left", versions="^1", origin="elsewhere")
        deny = [make_deny_rule("left", reason="a", origin="a")]
        denied = [make_deny_rule("l*", reason="b", origin="b")]
        assert self.of(a, b) == self.of(b, other, moved, a)
        assert self.of(a, denied=deny) == self.of(a, denied=denied)
        assert len(self.of(a)) == 64

    def test_it_changes_with_the_meaning(self) -> None:
        """Every wish and every refusal is part of it."""
        wishes: list[dict[str, Any]] = [
            {},
            {"versions": "^1"},
            {"versions": "^2"},
            {"latest": 1},
            {"latest": 2},
            {"latest": 2, "prereleases": True},
            {"tag": "next"},
            {"pins": {Version("1.0.0"): None}},
            {"pins": {Version("1.0.0"): sri("a")}},
            {"pins": {Version("1.0.1"): None}},
        ]
        rule = make_rule("left", origin="x")
        denials = [None, "^1"]
        found = [
            *(self.of(make_rule("left", origin="x", **wish)) for wish in wishes),
            *(self.of(rule, denied=[make_deny_rule("left", versions=v, reason="a", origin="x")]) for v in denials),
            self.of(make_rule("l*", origin="x")),
            self.of(name="left"),
        ]
        assert len(set(found)) == len(found)
