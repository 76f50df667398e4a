"""Choice: what a selection wants of one packument, what it asked for in vain, and what is denied."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.mirror.select import (
    Blocked,
    BlockedKind,
    Rule,
    choose,
    make_deny_rule,
    make_rule,
    make_selection,
    parse_rule,
)
from mirrorwitness.npm.names import Version, parse_name
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
