"""The handbook's commands do what the pages show: ends, and lines of what they print (`tests.docs.handbook`)."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import pytest

from tests.deploy.commands import find_command_fault
from tests.docs.blocks import ROOT
from tests.docs.handbook import Command, Event, read_page, run_page
from tests.docs.stories import STORIES
from tests.docs.test_links import DOCUMENTS

if TYPE_CHECKING:
    from pathlib import Path

RUN = sorted(name for name in DOCUMENTS if "<!-- story: " in (ROOT / name).read_text(encoding="utf-8"))

HANDBOOK_NOT_RUN: dict[str, str] = {
    "docs/bundles.md": "tests/unit/cli/test_bundle.py runs both sides",
}
"""Pages of docs/ with commands of ours that are parsed and not run → why."""


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def commands_of(name: str) -> list[Command]:
    return [piece for piece in read_page(read(name)) if isinstance(piece, Command)]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_parse(name: str) -> None:
    """Every `mirrorwitness …` of a console block is taken by the command line, as the manifests' commands are."""
    for command in commands_of(name):
        words = shlex.split(command.text)
        if words[0] == "mirrorwitness" and not {"--help", "--version"} & set(words):
            assert find_command_fault(words[1:]) is None, f"{name}: {command.text}"


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", RUN)
def test_commands_do_what_the_page_shows(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every command of the page is run, in its order."""
    monkeypatch.chdir(tmp_path)
    for variable in ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("MIRRORWITNESS_KEY_PASSPHRASE", "loopback only")
    monkeypatch.setenv("COLUMNS", "200")
    assert run_page(read(name), STORIES) > 0


def test_pages_that_are_not_run() -> None:
    """Every page of docs/ that shows a command of ours is run, or says why not."""
    pages = [name for name in DOCUMENTS if name.startswith("docs/") and not name.startswith("docs/reference/")]
    shown = {name for name in pages if any(each.text.startswith("mirrorwitness ") for each in commands_of(name))}
    assert shown - set(RUN) == set(HANDBOOK_NOT_RUN)


def test_reading_a_page() -> None:
    """Events and commands in their order; exit codes, comments and output."""
    page = (
        "# A page\n<!-- story: world -->\n\ntext\n\n```console\n$ mirrorwitness status  # a comment\nline 1\n\nline 2\n"
        "$ mirrorwitness audit    # exit code 4\n```\n\n<!-- story: rain -->\n\n```\n$ not a command\n```\n"
    )
    assert list(read_page(page)) == [
        Event("world"),
        Command("mirrorwitness status", 0, ("line 1", "line 2")),
        Command("mirrorwitness audit", 4, ()),
        Event("rain"),
    ]


@pytest.mark.parametrize(
    ("block", "wrong"),
    [
        ("$ mirrorwitness --version    # exit code 3", "exit code 0"),
        ("$ mirrorwitness --version\nno such line", "prints no line"),
        ("$ unheard-of", "nobody runs unheard-of"),
    ],
)
def test_a_wrong_page_is_noticed(block: str, wrong: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another end, a line that is not printed, a program that nobody runs: the message says which command."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match=wrong):
        run_page(f"<!-- story: nothing -->\n```console\n{block}\n```\n", STORIES)
