"""News fragments are what towncrier takes, and the changelog can be made from them (docs/releasing.md)."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from tests.docs.blocks import ROOT

FRAGMENT = re.compile(r"(\+[a-z0-9-]+|[0-9]+)\.(added|changed|fixed)\.md")
FRAGMENTS = sorted((ROOT / "newsfragments").glob("*"))


@pytest.mark.parametrize("name", [path.name for path in FRAGMENTS])
def test_a_fragment_is_one_paragraph_under_a_name_that_towncrier_knows(name: str) -> None:
    """Under another name it would be left out without a word."""
    text = (ROOT / "newsfragments" / name).read_text(encoding="utf-8")
    assert FRAGMENT.fullmatch(name)
    assert text.strip()
    assert "\n\n" not in text.strip()


@pytest.mark.slow
def test_the_changelog_of_a_release_has_every_fragment() -> None:
    """As a draft; nothing is written."""
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9", "--date", "2030-01-01"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "## 9.9.9 (2030-01-01)" in done.stdout
    told = " ".join(done.stdout.split())
    for path in FRAGMENTS:
        assert " ".join(path.read_text(encoding="utf-8").split()) in told, path.name


def test_the_kinds_of_news_are_those_of_the_settings() -> None:
    """Of `pyproject.toml`, and the place in the changelog where they go is there."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["towncrier"]
    assert [each["directory"] for each in settings["type"]] == ["added", "changed", "fixed"]
    assert "<!-- towncrier release notes start -->" in (ROOT / settings["filename"]).read_text(encoding="utf-8")
