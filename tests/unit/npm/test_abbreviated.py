"""The abbreviated document, clause by clause of the rule (research/B 2.2), and the single-version document."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from mirrorwitness.npm.abbreviated import KEPT_MEMBERS, render_abbreviated, render_version
from mirrorwitness.npm.names import Version
from tests.unit.npm.documents import document, encode, manifest, new_url, parse

if TYPE_CHECKING:
    from collections.abc import Iterable

V1 = Version("1.0.0")


def abbreviate(value: object, versions: Iterable[str] | None = None) -> Any:
    found = parse(value)
    wanted = list(found.versions) if versions is None else [Version(version) for version in versions]
    return json.loads(render_abbreviated(found, versions=wanted, tarball_url=new_url))


def abbreviate_one(**extra: Any) -> Any:
    found = abbreviate(document(manifest("1.0.0", **extra)))["versions"]["1.0.0"]
    del found["name"], found["version"], found["dist"]
    return found


def test_the_document_has_four_members() -> None:
    """Name, dist-tags, versions, modified; no time, _rev, _id or readme."""
    found = abbreviate(document("1.0.0", readme="x", maintainers=[], extra=1))
    assert list(found) == ["name", "dist-tags", "versions", "modified"]
    assert (found["name"], found["modified"]) == ("pkg", "2021-01-01T00:00:00.000Z")


@pytest.mark.parametrize("time", [None, {}, {"modified": None}, {"modified": 5}, "x"])
def test_modified_is_left_away_where_upstream_has_none(time: object) -> None:
    """Nothing is invented."""
    assert list(abbreviate(document("1.0.0", time=time))) == ["name", "dist-tags", "versions"]


def test_the_kept_members_are_those_of_the_rule() -> None:
    """The list of the rule, written out once more."""
    assert set(KEPT_MEMBERS) == {
        "name",
        "version",
        "deprecated",
        "dependencies",
        "optionalDependencies",
        "devDependencies",
        "bundleDependencies",
        "peerDependencies",
        "peerDependenciesMeta",
        "bin",
        "directories",
        "dist",
        "engines",
        "_hasShrinkwrap",
        "funding",
        "os",
        "cpu",
        "libc",
        "acceptDependencies",
    }


@pytest.mark.parametrize("member", [name for name in KEPT_MEMBERS if name not in {"name", "version", "dist"}])
@pytest.mark.parametrize("value", [{"a": "1"}, ["x"], "text", True, 0, " ", [[]], {"": ""}])
def test_each_kept_member_is_copied_whatever_its_type(member: str, value: object) -> None:
    """Copied where it is not empty, opaque."""
    assert abbreviate_one(**{member: value}) == {member: value}


@pytest.mark.parametrize("member", [name for name in KEPT_MEMBERS if name not in {"name", "version", "dist"}])
@pytest.mark.parametrize("text", ["{}", "[]", '""', "null", "false", "{ \n}", "[\t]"])
def test_each_kept_member_is_dropped_where_it_is_empty(member: str, text: str) -> None:
    """Empty means {}, [], "", null or false."""
    body = encode(document(manifest("1.0.0", MEMBER=1))).replace(b'"MEMBER":1', f'"{member}":{text}'.encode())
    assert list(abbreviate(body)["versions"]["1.0.0"]) == ["name", "version", "dist"]


@pytest.mark.parametrize(
    "member",
    ["bundledDependencies", "workspaces", "exports", "main", "_id", "_npmUser", "license", "readme", "__proto__"],
)
def test_other_members_are_not_copied(member: str) -> None:
    """Also not the other spelling of bundleDependencies."""
    assert abbreviate_one(**{member: {"a": "1"}}) == {}


@pytest.mark.parametrize("script", ["preinstall", "install", "postinstall"])
def test_an_install_script_is_announced_and_scripts_are_not_copied(script: str) -> None:
    """HasInstallScript is true where npm would run something."""
    assert abbreviate_one(scripts={script: "node x", "test": "y"}) == {"hasInstallScript": True}


@pytest.mark.parametrize("scripts", [{}, None, {"test": "install"}, {"uninstall": "x"}, {"prepare": "x"}, "install"])
def test_without_an_install_script_the_key_is_left_away(scripts: object) -> None:
    """Also where the full document claims it under that name."""
    assert abbreviate_one(scripts=scripts, hasInstallScript=True) == {}


def test_dist_is_copied_whole_but_for_the_tarball() -> None:
    """P4: integrity, signatures and unknown members of dist survive; only the URL is ours."""
    extra = {"signatures": [{"keyid": "K", "sig": "S"}], "fileCount": 3, "x-new": {}, "npm-signature": ""}
    original = document(manifest("1.0.0", dist=extra))["versions"]["1.0.0"]["dist"]
    found = abbreviate(document(manifest("1.0.0", dist=extra)))["versions"]["1.0.0"]["dist"]
    assert list(found.items()) == list({**original, "tarball": new_url(V1)}.items())


def test_p4_kept_members_keep_their_bytes() -> None:
    """P4: the value of a kept member is its original text."""
    body = (
        b'{"name":"pkg","versions":{"1.0.0":{"dist":{"tarball":"u","n":-0},"x":1,"engines": [ 1e400,"\\u00e9\\/" ] ,'
        b'"name":"p\\u006bg"}},"dist-tags": {"latest" :"1.0.0"}}'
    )
    assert render_abbreviated(parse(body), versions=[V1], tarball_url=new_url) == (
        b'{"name":"pkg","dist-tags":{"latest" :"1.0.0"},"versions":{"1.0.0":{"name":"p\\u006bg",'
        b'"dist":{"tarball":"https://mirror.example/pkg/-/pkg-1.0.0.tgz","n":-0},"engines":[ 1e400,"\\u00e9\\/" ]}}}'
    )


def test_p2_only_selected_versions_are_there_and_latest_resolves() -> None:
    """P2, P4: the same selection and the same tags as in the full document."""
    found = abbreviate(document("1.0.0", "1.1.0", "2.0.0"), ["1.1.0", "1.0.0", "7.0.0"])
    assert (list(found["versions"]), found["dist-tags"]) == (["1.0.0", "1.1.0"], {"latest": "1.1.0"})


def test_row_23_refused_versions_are_never_there() -> None:
    """Row 23: a version object that is another version's, or no object at all, is not served."""
    value = document("1.0.0", "2.0.0", "3.0.0")
    value["versions"]["1.0.0"]["version"] = "6.6.6"
    value["versions"]["3.0.0"] = "junk"
    assert list(abbreviate(value)["versions"]) == ["2.0.0"]


def test_row_02_an_unpublished_package_has_an_empty_abbreviated_document() -> None:
    """Row 2: no versions, no tags, no crash."""
    assert abbreviate({"_id": "pkg", "name": "pkg", "time": {"modified": "m", "unpublished": {}}}) == {
        "name": "pkg",
        "dist-tags": {},
        "versions": {},
        "modified": "m",
    }


def test_row_02_lone_surrogates_in_a_stub_are_no_problem() -> None:
    """Rows 2, 25: the slow way finds no versions either."""
    assert abbreviate(b'{"name":"pkg","x":"\\ud800"}') == {"name": "pkg", "dist-tags": {}, "versions": {}}


def test_row_25_lone_surrogates_do_not_change_the_result() -> None:
    """Row 25: the same bytes come out, whichever way the document had to be read."""
    plain = document(manifest("1.0.0", engines={"node": "1"}, scripts={"install": "x"}), "2.0.0")
    cut = json.dumps({**plain, "readme": "\ud83d"}, separators=(",", ":")).encode()
    wanted = [V1, Version("2.0.0")]
    assert render_abbreviated(parse(cut), versions=wanted, tarball_url=new_url) == render_abbreviated(
        parse(plain), versions=wanted, tarball_url=new_url
    )


def test_row_21_a_member_named_proto_below_a_kept_member_survives() -> None:
    """Row 21: hostile keys of dependencies are data."""
    hostile = {"__proto__": "1", "constructor": "2"}
    assert abbreviate_one(dependencies=hostile) == {"dependencies": hostile}


def test_the_document_of_one_version_is_its_manifest_with_another_tarball() -> None:
    """All members, in order."""
    value = document(manifest("1.0.0", scripts={"test": "x"}, zzz=[1]), "2.0.0")
    expected = dict(value["versions"]["1.0.0"])
    expected["dist"] = {**expected["dist"], "tarball": new_url(V1)}
    assert render_version(parse(value), V1, tarball_url=new_url) == encode(expected)


def test_there_is_no_document_of_a_version_that_is_missing_or_refused() -> None:
    """The caller has to ask for what is there."""
    value = document("1.0.0")
    value["versions"]["1.0.0"]["name"] = "other"
    for version in ("1.0.0", "2.0.0"):
        with pytest.raises(KeyError):
            render_version(parse(value), Version(version), tarball_url=new_url)
