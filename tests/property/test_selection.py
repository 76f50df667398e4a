"""Properties of lockfiles and selection over random trees, globs and rules."""

from __future__ import annotations

import base64
import contextlib
import fnmatch
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import LockfileError
from mirrorwitness.mirror.lockfile import parse_lockfile
from mirrorwitness.mirror.patterns import Globs
from mirrorwitness.mirror.select import make_rule, make_selection, rules_of_lockfile

NAMES = st.sampled_from([
    "a",
    "b",
    "B",
    "left",
    "left-pad",
    "JSONStream",
    "@s/a",
    "@s/b",
    "@S/b",
    "x.y_z",
    "then",
    "~a",
])
VERSIONS = st.tuples(*[st.integers(0, 3)] * 3).map(lambda parts: ".".join(map(str, parts)))
TREES: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.just({}),
    lambda children: st.dictionaries(NAMES, st.tuples(VERSIONS, children), max_size=4),
    max_leaves=12,
)


pytestmark = pytest.mark.slow


def sri(name: str, version: str) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(f"{name}@{version}".encode()).digest()).decode()


def as_version_3(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    packages: dict[str, Any] = {}
    for name, (version, children) in tree.items():
        location = f"{prefix}node_modules/{name}"
        packages[location] = {"version": version, "integrity": sri(name, version)}
        packages |= as_version_3(children, f"{location}/")
    return packages


def as_version_1(tree: dict[str, Any]) -> dict[str, Any]:
    return {
        name: {"version": version, "integrity": sri(name, version), "dependencies": as_version_1(children)}
        for name, (version, children) in tree.items()
    }


def flatten(tree: dict[str, Any]) -> set[tuple[str, str, str]]:
    found: set[tuple[str, str, str]] = set()
    for name, (version, children) in tree.items():
        found |= {(name, version, sri(name, version))} | flatten(children)
    return found


@given(TREES)
def test_both_forms_of_a_tree_pin_the_same(tree: dict[str, Any]) -> None:
    """Versions 1 and 3 of one tree give exactly its packages, each once, and skip nothing."""
    forms = [
        {"lockfileVersion": 1, "dependencies": as_version_1(tree)},
        {"lockfileVersion": 3, "packages": as_version_3(tree)},
    ]
    for form in forms:
        lockfile = parse_lockfile(json.dumps(form, indent=2).encode(), path="p")
        found = [(entry.name, entry.version, entry.integrity) for entry in lockfile.entries]
        assert (len(found), set(found), lockfile.skipped) == (len(set(found)), flatten(tree), ())
        pins = {(rule.pattern, version) for rule in rules_of_lockfile(lockfile) for version in rule.pins}
        assert pins == {(name, version) for name, version, _ in flatten(tree)}


@given(TREES, st.floats(0, 1, exclude_max=True))
def test_a_cut_lockfile_is_always_half_written(tree: dict[str, Any], where: float) -> None:
    """Whatever was lost at the end, the error says that the file ends in the middle, or is empty."""
    body = json.dumps({"lockfileVersion": 3, "packages": as_version_3(tree)}, indent=2).encode()
    with pytest.raises(LockfileError, match=r"ends in the middle|is empty"):
        parse_lockfile(body[: int(len(body) * where)], path="p")


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_no_input_raises_anything_else(body: bytes) -> None:
    """A lockfile that cannot be read is a LockfileError, never another one."""
    with contextlib.suppress(LockfileError):
        assert parse_lockfile(body, path="p").path == "p"


@given(st.lists(st.text("ab*?[]!-/@", min_size=1, max_size=8), max_size=5), st.text("ab-/@[]!", max_size=8))
def test_the_alternation_is_fnmatch_for_each_glob(globs: list[str], name: str) -> None:
    """One compiled alternation matches what a loop over fnmatch matches."""
    assert Globs(globs).matches(name) == any(fnmatch.fnmatchcase(name, glob) for glob in globs)


@given(st.lists(st.tuples(NAMES, VERSIONS), min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_the_fingerprint_does_not_depend_on_order(pairs: list[tuple[str, str]], random: Any) -> None:
    """The same rules in another order mean the same for every package."""
    rules = [make_rule(name, versions=f"^{version}", origin=str(index)) for index, (name, version) in enumerate(pairs)]
    shuffled = list(rules)
    random.shuffle(shuffled)
    first, second = make_selection(rules), make_selection(shuffled)
    assert [first.fingerprint(name) for name, _ in pairs] == [second.fingerprint(name) for name, _ in pairs]
