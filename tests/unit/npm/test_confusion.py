"""Manifest confusion: what an attacker hides is found, and what npm changes when it publishes is not called so."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.npm.confusion import Difference, compare_manifests

BASE: dict[str, Any] = {"name": "left", "version": "1.0.0"}


def compare(manifest: dict[str, Any], tarball: dict[str, Any], *, has_gyp: bool = False) -> tuple[Difference, ...]:
    """Compare what is added to both sides."""
    left, right = json.dumps(BASE | manifest).encode(), json.dumps(BASE | tarball).encode()
    return compare_manifests(left, right, has_gyp=has_gyp)


# ---- attacks


@pytest.mark.parametrize(
    ("manifest", "tarball", "field"),
    [
        ({}, {"name": "right"}, "name"),
        ({}, {"version": "1.0.1"}, "version"),
        ({}, {"version": None}, "version"),
        ({}, {"dependencies": {"evil": "1"}}, "dependencies"),
        ({"dependencies": {"a": "^1"}}, {"dependencies": {"a": "^2"}}, "dependencies"),
        ({"dependencies": {"a": "^1"}}, {}, "dependencies"),
        ({"dependencies": {"a": "1"}}, {"dependencies": {"a": "git+https://evil.example/a.git"}}, "dependencies"),
        ({"dependencies": {"a": "u/a"}}, {"dependencies": {"a": "github:evil/a"}}, "dependencies"),
        ({"dependencies": {"a": "u/a#1"}}, {"dependencies": {"a": "u/a#2"}}, "dependencies"),
        ({"dependencies": {"a": "1"}}, {"optionalDependencies": {"a": "1"}}, "optionalDependencies"),
        ({}, {"devDependencies": {"a": "1"}}, "devDependencies"),
        ({}, {"peerDependencies": {"a": "1"}}, "peerDependencies"),
        ({}, {"bundledDependencies": ["evil"]}, "bundleDependencies"),
        ({}, {"scripts": {"preinstall": "evil"}}, "scripts"),
        ({}, {"scripts": {"install": "evil"}}, "scripts"),
        ({}, {"scripts": {"postinstall": "evil"}}, "scripts"),
        ({}, {"scripts": {"prepare": "evil"}}, "scripts"),
        ({"scripts": {"install": "good"}}, {"scripts": {"install": "evil"}}, "scripts"),
        ({"scripts": {"install": "node-gyp rebuild"}}, {}, "scripts"),
        ({}, {"bin": "evil.js"}, "bin"),
        ({"bin": {"left": "a.js"}}, {"bin": {"left": "b.js"}}, "bin"),
        ({"bin": {"left": "a.js"}}, {"bin": {"npm": "a.js"}}, "bin"),
        ({"os": ["linux"]}, {}, "os"),
        ({"cpu": ["x64"]}, {"cpu": ["arm64"]}, "cpu"),
        ({}, {"libc": ["musl"]}, "libc"),
        ({"engines": {"node": ">=4"}}, {"engines": {"node": ">=20"}}, "engines"),
    ],
)
def test_attack_manifest_confusion(manifest: dict[str, Any], tarball: dict[str, Any], field: str) -> None:
    """The document says one thing, the tarball another: each field that decides what is installed or run."""
    assert field in [found.field for found in compare(manifest, tarball)]


def test_a_difference_says_what_differs_and_no_more() -> None:
    """Of long lists only what is not the same, so that a person sees it."""
    same = {f"d{number}": "1" for number in range(50)}
    (found,) = compare({"dependencies": same | {"a": "1"}}, {"dependencies": same | {"a": "2", "b": "3"}})
    assert found == Difference("dependencies", '{"a": "1"}', '{"a": "2", "b": "3"}')
    assert str(found) == 'dependencies: the document says {"a": "1"}, the tarball {"a": "2", "b": "3"}'
    (found,) = compare({}, {"scripts": {"install": "x" * 1000}})
    assert found.tarball.endswith("x…")
    assert compare({}, {"name": "right"}) == (Difference("name", '"left"', '"right"'),)


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_a_package_json_that_cannot_be_read_is_a_difference(text: bytes) -> None:
    """Npm could not install it either; that the registry has a manifest of it is odd."""
    assert compare_manifests(b"{}", text) == (
        Difference("package.json", "a JSON object", "something that is no JSON object"),
    )
    assert compare_manifests(text, b"{}")[0].manifest == "something that is no JSON object"


# ---- what npm does when it publishes


@pytest.mark.parametrize(
    ("manifest", "tarball"),
    [
        ({}, {"name": " left "}),
        ({}, {"version": "v1.0.0"}),
        ({}, {"version": " =1.0.0"}),
        ({}, {"version": "1.0.0+build.5"}),
        ({"dist": {"x": 1}, "_id": "left@1.0.0", "gitHead": "x", "readme": "y"}, {"files": ["a"], "type": "module"}),
        ({"dependencies": {"b": "1", "a": "2"}}, {"dependencies": {"a": "2", "b": "1"}}),
        (
            {"dependencies": {"a": "1", "o": "2"}, "optionalDependencies": {"o": "2"}},
            {"dependencies": {"a": "1"}, "optionalDependencies": {"o": "2"}},
        ),
        ({"optionalDependencies": {"o": "2"}}, {"dependencies": {"o": "1"}, "optionalDependencies": {"o": "2"}}),
        ({"dependencies": {"a": "1"}}, {"dependencies": {"a": " 1 ", "b": 7}}),
        ({"dependencies": {"a": "", "b": ""}}, {"dependencies": ["a", "b"]}),
        ({"dependencies": {"a": "1", "@s/b": "2"}}, {"dependencies": ["a@1", "@s/b 2", 3]}),
        ({"dependencies": {"a": "", "b": ""}}, {"dependencies": "a, b"}),
        ({"dependencies": {}}, {"dependencies": 7}),
        ({"dependencies": {"a": "github:u/a#semver:^1"}}, {"dependencies": {"a": "u/a#semver:^1"}}),
        (
            {"dependencies": {"a": "git+ssh://git@github.com/u/a.git"}},
            {"dependencies": {"a": "https://github.com/u/a"}},
        ),
        ({"dependencies": {"a": "gitlab:u/a"}}, {"dependencies": {"a": "git@gitlab.com:u/a.git"}}),
        ({"dependencies": {"a": "bitbucket:u/a#x"}}, {"dependencies": {"a": "git@bitbucket.org:u/a#x"}}),
        ({"bundleDependencies": ["b", "a"]}, {"bundledDependencies": ["a", "b"]}),
        (
            {"dependencies": {"a": "1"}, "bundleDependencies": ["a"]},
            {"dependencies": {"a": "1"}, "bundleDependencies": True},
        ),
        (
            {"dependencies": {"a": "1"}, "bundleDependencies": ["a"]},
            {"dependencies": {"a": "1"}, "bundleDependencies": {"a": "1"}},
        ),
        ({}, {"bundleDependencies": False}),
        ({"scripts": {"test": "x"}}, {"scripts": {"test": "y", "build": "z"}}),
        ({"scripts": {"install": "tool"}}, {"scripts": {"install": "./node_modules/.bin/tool"}}),
        ({}, {"scripts": {"install": "", "preinstall": 7}}),
        ({}, {"scripts": "nonsense"}),
        ({"bin": {"left": "cli.js"}}, {"bin": "./cli.js"}),
        ({"bin": {"a": "bin/a.js"}}, {"bin": {"a": "bin\\a.js", "b": 7, "": "x", "c": ""}}),
        ({"bin": {"a": "x/y.js"}}, {"bin": {"@s/a": "./x/../x/y.js"}}),
        ({"bin": {"a.js": "lib/a.js"}}, {"bin": ["lib/a.js"]}),
        ({"bin": {"a": "bin/a"}}, {"directories": {"bin": "bin"}}),
        ({"os": ["linux", "!win32"]}, {"os": ["!win32", "linux"]}),
        ({"os": ["linux"]}, {"os": "linux"}),
        ({"engines": {"node": ">=4"}}, {"engines": {"node": ">=4 ", "x": 1}}),
        ({"engines": ["node >= 0.6"]}, {"engines": ["node >= 0.6"]}),
        ({"engines": None, "os": [], "cpu": None, "bin": {}, "dependencies": {}}, {}),
    ],
)
def test_what_npm_changes_is_no_confusion(manifest: dict[str, Any], tarball: dict[str, Any]) -> None:
    """Each way in which an honest document differs from its tarball."""
    assert compare(manifest, tarball) == ()


def test_the_scope_of_a_name_is_no_part_of_its_command() -> None:
    """``bin`` as text is called by the last part of the name."""
    manifest = {"name": "@scope/tool", "version": "1.0.0", "bin": {"tool": "cli.js"}}
    tarball = {"name": "@scope/tool", "version": "1.0.0", "bin": "cli.js"}
    assert compare_manifests(json.dumps(manifest).encode(), json.dumps(tarball).encode()) == ()


def test_a_gyp_file_is_an_install_script() -> None:
    """Npm writes it down where there is none; one that is hidden behind ``gypfile: false`` is none."""
    rebuilt = {"scripts": {"install": "node-gyp rebuild"}, "gypfile": True}
    assert compare(rebuilt, {}, has_gyp=True) == ()
    assert compare({}, {}, has_gyp=True) == ()
    assert compare({}, {"gypfile": False}) == ()
    assert compare({"scripts": {"preinstall": "x"}}, {"scripts": {"preinstall": "x"}}, has_gyp=True) == ()
    assert [found.field for found in compare(rebuilt, {"gypfile": False}, has_gyp=True)] == ["scripts"]


def test_a_byte_order_mark_is_passed_over() -> None:
    """As npm does."""
    assert compare_manifests(b'{"name": "a"}', b'\xef\xbb\xbf{"name": "a"}') == ()


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KINDS = ["dependencies", "optionalDependencies", "devDependencies", "peerDependencies", "bundledDependencies"]
_OTHERS = ["name", "version", "scripts", "bin", "os", "cpu", "libc", "engines", "directories", "gypfile"]
_fields = st.sampled_from([*_KINDS, *_OTHERS, "bundleDependencies"])
_manifests = st.dictionaries(_fields, _json, max_size=6)


@given(manifest=_manifests, has_gyp=st.booleans())
def test_a_document_agrees_with_itself(manifest: dict[str, Any], has_gyp: bool) -> None:  # noqa: FBT001
    """Whatever shapes its members have."""
    text = json.dumps(manifest).encode()
    assert compare_manifests(text, text, has_gyp=has_gyp) == ()


@given(left=_manifests, right=_manifests)
def test_any_two_documents_are_compared(left: dict[str, Any], right: dict[str, Any]) -> None:
    """In either order the same fields differ, and nothing is raised."""
    one, other = json.dumps(left).encode(), json.dumps(right).encode()
    if isinstance(left.get("directories"), dict) or isinstance(right.get("directories"), dict):
        return  # of the tarball's alone npm makes ``bin``
    assert [found.field for found in compare_manifests(one, other)] == [
        found.field for found in compare_manifests(other, one)
    ]
