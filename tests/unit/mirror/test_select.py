"""Selection: rules, contradictions, patterns, and what they choose from a packument."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.errors import SelectionError
from mirrorwitness.mirror.lockfile import parse_lockfile
from mirrorwitness.mirror.patterns import Globs, parse_pattern
from mirrorwitness.mirror.select import (
    Blocked,
    BlockedKind,
    Rule,
    Selection,
    choose,
    expand,
    make_deny_rule,
    make_rule,
    make_selection,
    parse_names,
    parse_rule,
    rules_of_lockfile,
)
from mirrorwitness.npm.names import PackageName, Version, parse_name
from mirrorwitness.npm.packument import Packument, parse_packument

if TYPE_CHECKING:
    from mirrorwitness.mirror.choice import Choice

CLI = "the command line"
VERSIONS = ("1.0.0", "1.1.0", "2.0.0-rc.1", "2.0.0", "1.2.0", "3.0.0-beta.1")


def sri(text: str, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(hashlib.new(algorithm, text.encode()).digest()).decode()}"


def make_packument(
    *versions: str,
    name: str = "left",
    tags: dict[str, str] | None = None,
    time: dict[str, str] | None = None,
    **dist: Any,
) -> Packument:
    document = {
        "name": name,
        "dist-tags": tags if tags is not None else {"latest": versions[-1]} if versions else {},
        "versions": {
            version: {
                "name": name,
                "version": version,
                "dist": {"tarball": f"https://registry.example/{name}/-/{name}-{version}.tgz"}
                | {"integrity": sri(version)}
                | dist,
            }
            for version in versions
        },
        "time": time or {},
    }
    return parse_packument(json.dumps(document).encode(), name=parse_name(name))


def pick(*specs: str | Rule, packument: Packument | None = None, **options: Any) -> Choice:
    rules = [parse_rule(spec, origin=CLI) if isinstance(spec, str) else spec for spec in specs]
    return choose(make_selection(rules, **options), packument or make_packument(*VERSIONS))


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


class TestChoice:
    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ("left", list(VERSIONS)),
            ("left@^1", ["1.0.0", "1.1.0", "1.2.0"]),
            ("left@*", ["1.0.0", "1.1.0", "2.0.0", "1.2.0"]),
            ("left@>=2.0.0-0 <2.0.0", ["2.0.0-rc.1"]),
            ("left@1.1.0", ["1.1.0"]),
            ("left@latest", ["3.0.0-beta.1"]),
            ("l*", list(VERSIONS)),
        ],
    )
    def test_what_rules_choose(self, spec: str, expected: list[str]) -> None:
        """In document order, and nothing is blocked."""
        choice = pick(spec)
        assert (list(choice.wanted), choice.blocked) == (expected, ())

    @pytest.mark.parametrize(
        ("options", "expected"),
        [
            ({"latest": 1}, ["2.0.0"]),
            ({"latest": 2}, ["2.0.0", "1.2.0"]),
            ({"latest": 99}, ["1.0.0", "1.1.0", "2.0.0", "1.2.0"]),
            ({"latest": 2, "prereleases": True}, ["2.0.0", "3.0.0-beta.1"]),
            ({"latest": 2, "versions": "^1"}, ["1.1.0", "1.2.0"]),
        ],
    )
    def test_latest_goes_by_version_order(self, options: dict[str, Any], expected: list[str]) -> None:
        """1.2.0 was published after 2.0.0 and is older; prereleases count on request only."""
        choice = pick(make_rule("left", origin="x", **options))
        assert (list(choice.wanted), choice.blocked) == (expected, ())

    def test_reasons(self) -> None:
        """Every chosen version says why; the first rule that wants it is named."""
        locked = make_rule("left", pins={Version("1.0.0"): sri("1.0.0")}, origin="package-lock.json")
        choice = pick(locked, "left@^1", "l*@next", packument=make_packument(*VERSIONS, tags={"next": "3.0.0-beta.1"}))
        assert choice.wanted == {
            "1.0.0": "exact version (package-lock.json)",
            "1.1.0": "every version in ^1 (the command line)",
            "1.2.0": "every version in ^1 (the command line)",
            "3.0.0-beta.1": "the tag next (the command line)",
        }

    def test_what_is_asked_for_by_name_and_missing(self) -> None:
        """Range, tag and pin: each says what is missing; an unpublished version says when it was there."""
        packument = make_packument(
            "1.0.0", tags={"latest": "1.0.0", "gone": "0.9.0"}, time={"0.9.0": "2020-01-01T00:00:00.000Z"}
        )
        choice = pick("left@^5", "left@nope", "left@gone", "left@0.9.0", "left@7.0.0", packument=packument)
        assert choice.wanted == {}
        assert choice.blocked == (
            Blocked("^5", BlockedKind.MISSING, f"no version is in this range ({CLI})"),
            Blocked("nope", BlockedKind.MISSING, f"there is no such tag; there are: latest, gone ({CLI})"),
            Blocked("gone", BlockedKind.MISSING, f"the tag points to 0.9.0, which is not there ({CLI})"),
            Blocked(
                "0.9.0",
                BlockedKind.MISSING,
                f"pinned, and it was published at 2020-01-01T00:00:00.000Z and is gone ({CLI})",
            ),
            Blocked("7.0.0", BlockedKind.MISSING, f"pinned, and the registry does not have it ({CLI})"),
        )

    def test_what_a_glob_does_not_find_is_no_fault(self) -> None:
        """Not every package of a scope has every line."""
        choice = pick("l*@^5", "l*@nope", packument=make_packument("1.0.0", tags={}))
        assert [(item.subject, item.kind) for item in choice.blocked] == [
            ("^5", BlockedKind.POLICY),
            ("nope", BlockedKind.POLICY),
        ]
        assert choice.blocked[1].reason == f"there is no such tag; there are: none at all ({CLI})"

    def test_latest_of_nothing_but_prereleases(self) -> None:
        """Nothing is chosen, and the operator learns how to choose."""
        choice = pick(make_rule("left", latest=3, origin="x"), packument=make_packument("1.0.0-a", "1.0.0-b"))
        assert choice.wanted == {}
        assert choice.blocked == (
            Blocked(
                "latest 3", BlockedKind.POLICY, "all 2 versions are prereleases; prereleases = true counts them (x)"
            ),
        )

    def test_row_02_an_unpublished_package_has_no_versions(self) -> None:
        """No crash; a pin is missing, every version of nothing is nothing."""
        body = b'{"name": "left", "time": {"unpublished": {"time": "2020", "versions": ["1.0.0"]}}}'
        packument = parse_packument(body, name=parse_name("left"))
        newest = make_rule("left", latest=1, origin="x")
        assert choose(make_selection([newest]), packument).blocked == ()
        assert pick("left@1.0.0", packument=packument).blocked[0].kind is BlockedKind.MISSING

    def test_other_packages_are_not_concerned(self) -> None:
        """A packument that no rule names gives nothing."""
        choice = pick("right")
        assert (choice.wanted, choice.blocked) == ({}, ())


class TestDeny:
    def test_a_denied_pin_is_blocked_with_the_reason(self) -> None:
        """It is no error: the lockfile is right, and the operator says no."""
        deny = make_deny_rule("left", versions="<1.1", reason="steals keys", origin="mirrorwitness.toml: deny[0]")
        choice = pick("left@1.0.0", "left@1.1.0", denied=[deny])
        assert choice.wanted == {"1.1.0": "exact version (the command line)"}
        assert choice.blocked == (
            Blocked("1.0.0", BlockedKind.POLICY, "denied: steals keys (mirrorwitness.toml: deny[0])"),
        )

    @pytest.mark.parametrize(
        ("versions", "denied"),
        [
            ("<2.0.0", ["1.0.0", "1.1.0", "2.0.0-rc.1", "1.2.0"]),
            (">=1.2.0", ["2.0.0-rc.1", "2.0.0", "1.2.0", "3.0.0-beta.1"]),
            ("<=1.1.0 || 3", ["1.0.0", "1.1.0", "3.0.0-beta.1"]),
            (None, list(VERSIONS)),
        ],
    )
    def test_denied_ranges_take_prereleases_too(self, versions: str | None, denied: list[str]) -> None:
        """A range that stops at the fix also denies the fix's own release candidates."""
        rule = make_deny_rule("l*", versions=versions, reason="no", origin="x")
        choice = pick("left", denied=[rule])
        assert [item.subject for item in choice.blocked] == denied
        assert list(choice.wanted) == [version for version in VERSIONS if version not in denied]

    @pytest.mark.parametrize(
        ("version", "versions", "denied"),
        [
            ("1.2.3-rc.1", "<1.2.3", True),
            ("1.2.3-rc.1", "<1.2.0", False),
            ("1.0.0-rc.1", "<1.0.0", True),
            ("1.2.0-rc.1", "<1.2.0", True),
            ("0.0.0-rc.1", "<0.0.0", False),
            ("0.0.0-rc.1", "0.0.0", True),
            ("1.0.0beta", "1.0.0", True),
            ("nightly", "*", False),
            ("nightly", None, True),
        ],
    )
    def test_prereleases_at_the_edge(self, version: str, versions: str | None, denied: object) -> None:
        """A prerelease is denied with either of its neighbours; what is no version is in no range."""
        rule = make_deny_rule("left", versions=versions, reason="no", origin="x")
        choice = pick("left", packument=make_packument(version), denied=[rule])
        assert bool(choice.blocked) is denied

    def test_latest_falls_back_behind_a_denied_version(self) -> None:
        """A mirror of the newest version has the one before when the newest is denied, and says so."""
        deny = make_deny_rule("left", versions="2.0.0", reason="bad release", origin="x")
        choice = pick(make_rule("left", latest=1, origin="y"), denied=[deny])
        assert list(choice.wanted) == ["1.2.0"]
        assert choice.blocked == (Blocked("2.0.0", BlockedKind.POLICY, "denied: bad release (x)"),)

    def test_row_23_a_malformed_version_never_counts_as_newest(self) -> None:
        """The gate refuses it; the newest sound one is chosen besides."""
        packument = make_packument("1.0.0", "1.1.0", tarball=7)
        good = make_packument("1.0.0", "1.1.0")
        assert packument.versions[Version("1.1.0")].refused is not None
        rule = make_rule("left", latest=1, origin="x")
        assert list(pick(rule, packument=packument).wanted) == ["1.0.0", "1.1.0"]
        assert list(pick(rule, packument=good).wanted) == ["1.1.0"]

    def test_deny_rules_of_other_packages(self) -> None:
        """Neither a name nor a glob of others touches this package."""
        denied = [make_deny_rule(pattern, reason="no", origin="x") for pattern in ("right", "r*")]
        assert pick("left", denied=denied).blocked == ()


class TestPinnedIntegrity:
    @pytest.mark.parametrize(
        ("pin", "dist"),
        [
            (sri("1.0.0"), {}),
            (sri("1.0.0", "sha1"), {"shasum": hashlib.sha1(b"1.0.0").hexdigest()}),  # noqa: S324 (npm's old digest)
            (sri("x", "sha1"), {}),
            (sri("x", "sha1"), {"shasum": "not hex"}),
            (None, {}),
        ],
    )
    def test_what_agrees_or_cannot_be_compared(self, pin: str | None, dist: dict[str, Any]) -> None:
        """An old sha1 is compared with shasum; without anything in common nothing can be said."""
        rule = make_rule("left", pins={Version("1.0.0"): pin}, origin="lock")
        choice = pick(rule, packument=make_packument("1.0.0", **dist))
        assert (list(choice.wanted), choice.blocked) == (["1.0.0"], ())

    def test_row_05_a_lockfile_pins_other_bytes(self) -> None:
        """The registry's bytes and the lockfile's differ: a divergence, whoever else wants the version."""
        rule = make_rule("left", pins={Version("1.0.0"): sri("old")}, origin="package-lock.json")
        choice = pick("left", rule, packument=make_packument("1.0.0", "1.1.0"))
        assert list(choice.wanted) == ["1.1.0"]
        assert choice.blocked == (
            Blocked(
                "1.0.0",
                BlockedKind.EQUIVOCATION,
                f"package-lock.json pins {sri('old')}, the registry promises {sri('1.0.0')}",
            ),
        )
        assert [item.divergence for item in choice.blocked] == [True]

    def test_an_old_lockfile_pins_other_bytes(self) -> None:
        """The same with a sha1 and the registry's shasum."""
        rule = make_rule("left", pins={Version("1.0.0"): sri("old", "sha1")}, origin="lock")
        shasum = hashlib.sha1(b"new").hexdigest()  # noqa: S324 (npm's old digest)
        (block,) = pick(rule, packument=make_packument("1.0.0", shasum=shasum)).blocked
        assert block.reason == f"lock pins {sri('old', 'sha1')}, the registry promises {sri('new', 'sha1')}"


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
