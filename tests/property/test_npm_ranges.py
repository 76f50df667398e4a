"""Ranges and order against npm's own semver, where node and npm are installed."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirrorwitness.errors import ConfigurationError
from mirrorwitness.npm.ranges import is_prerelease, normalize_version, parse_range, version_order

CASES = 1500
VERSIONS_EACH = 12
NUMBERS = ["0", "0", "1", "1", "2", "3", "10", "01", "9007199254740991", "9007199254740992"]
WILD = ["x", "X", "*"]
PRERELEASES = ["", "", "", "-alpha", "-alpha.1", "-beta.2", "-0", "-1", "-rc1", "-01", "beta", "-a-b", "-1a", "--"]
BUILDS = ["", "", "", "+b.1", "+001"]
OPERATORS = ["", "", "^", "~", "~>", ">", ">=", "<", "<=", "=", "==", "> ", "^ ", "~ ", "!"]
ODD = [
    "",
    " ",
    "||",
    "latest",
    "1 ||",
    "|| 2",
    "foo || 1",
    "1.2.3.4",
    "^",
    "1 - ",
    "- 1",
    ">",
    "1 foo",
    "*||",
    "é",
    "1-2",
]

ASK_NPM = """
const semver = require(process.argv[1]);
const cases = JSON.parse(require("fs").readFileSync(0));
console.log(JSON.stringify(cases.map(([range, versions]) => [
  versions.map((version) => semver.satisfies(version, range, {loose: true})),
  versions.map((version) => semver.valid(version, {loose: true})),
  versions.filter((version) => semver.valid(version, {loose: true})).sort((a, b) => semver.compare(a, b, true)),
])));
"""


def find_semver() -> Path | None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        return None
    found = Path(npm).resolve().parents[1] / "node_modules/semver"
    return found if found.is_dir() else None


def make_version(rng: random.Random) -> str:
    number = ".".join(rng.choice("0011223") for _ in range(3))
    return rng.choice(["", "", "", "v", "=", " v"]) + number + rng.choice(PRERELEASES) + rng.choice(BUILDS)


def make_partial(rng: random.Random) -> str:
    # No number behind a wildcard: the known difference that the module names.
    parts = [rng.choice(NUMBERS) for _ in range(rng.randrange(4))][:3]
    if len(parts) == 3:
        return ".".join(parts) + rng.choice(PRERELEASES) + rng.choice(BUILDS)
    return rng.choice(["", "v", "= "]) + ".".join([*parts, *[rng.choice(WILD)] * (not parts or rng.random() < 0.5)])


def make_range(rng: random.Random) -> str:
    if rng.random() < 0.05:
        return rng.choice(ODD)
    alternatives = []
    for _ in range(rng.choice([1, 1, 2, 3])):
        if rng.random() < 0.2:
            alternatives.append(f"{make_partial(rng)} - {make_partial(rng)}")
        else:
            comparators = [rng.choice(OPERATORS) + make_partial(rng) for _ in range(rng.choice([1, 1, 2, 3]))]
            alternatives.append(" ".join(comparators))
    return rng.choice(["||", " || "]).join(alternatives)


def includes(text: str, versions: list[str]) -> list[bool]:
    try:
        found = parse_range(text)
    except ConfigurationError:
        return [False] * len(versions)
    return [found.includes(version) for version in versions]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_ranges_validity_and_order_are_npms(seed: int) -> None:
    """18,000 generated pairs of range and version, and the order of each dozen, agree with npm's semver."""
    semver = find_semver()
    if semver is None:
        pytest.skip("node or npm is not installed")
    rng = random.Random(seed)  # noqa: S311 # a reproducible sample
    cases = [(make_range(rng), [make_version(rng) for _ in range(VERSIONS_EACH)]) for _ in range(CASES)]
    command = ["node", "-e", ASK_NPM, str(semver)]
    answer = subprocess.run(command, input=json.dumps(cases), capture_output=True, text=True, check=True)
    wanted: list[Any] = json.loads(answer.stdout)
    for (text, versions), (satisfied, valid, ordered) in zip(cases, wanted, strict=True):
        assert (text, includes(text, versions)) == (text, satisfied)
        assert [normalize_version(version) for version in versions] == valid
        ours = sorted((version for version in versions if normalize_version(version)), key=version_order)
        assert [version_order(version) for version in ours] == [version_order(version) for version in ordered]


@given(st.text(), st.text())
def test_any_text_is_a_range_or_a_mistake_and_never_a_crash(range_text: str, version: str) -> None:
    """Foreign text has one way to fail, and versions none."""
    assert isinstance(version_order(version), tuple)
    assert is_prerelease(version) in {True, False}
    assert includes(range_text, [version]) in ([True], [False])


@given(st.lists(st.text(alphabet="019.-+avx ", max_size=12)))
def test_order_is_total_and_agrees_with_spelling(versions: list[str]) -> None:
    """Any keys can be sorted together; equal keys are the same version or the same text."""
    ordered = sorted(versions, key=version_order)
    for first, second in pairwise(ordered):
        if version_order(first) == version_order(second):
            assert first == second or normalize_version(first) == normalize_version(second) is not None
