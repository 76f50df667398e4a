"""Documents that lead somewhere: every link resolves, every command and make target that they show exists."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

import click
import pytest

from mirrorwitness.cli import main
from mirrorwitness.config import list_options
from tests.docs.blocks import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IGNORED = {".venv", ".cache", ".git", "node_modules", "mutants", "dist"}
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.rglob("*.md")
    if _IGNORED.isdisjoint(path.relative_to(ROOT).parts) and not path.is_relative_to(ROOT / "newsfragments")
)

_FENCE = re.compile(r"(?ms)^( *)```.*?^\1```")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _headings(path: Path) -> set[str]:
    """Return the anchors of a document, as forges make them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    titles = re.findall(r"(?m)^#+ (.+)$", text)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_resolve(name: str) -> None:
    """Files are there, and so are the headings that anchors name; links outside are not asked."""
    document = ROOT / name
    for link in _LINK.findall(_FENCE.sub("", document.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = document.parent / file if file else document
        assert target.exists(), f"{name}: {link}"
        assert target.resolve().is_relative_to(ROOT), f"{name}: {link} leaves the repository"
        assert not anchor or anchor in _headings(target), f"{name}: {link}"


def test_every_document_can_be_reached_from_the_readme() -> None:
    """Nothing lies in docs/ that nobody finds."""
    seen: set[str] = set()
    wanted = ["README.md"]
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for link in _LINK.findall((ROOT / name).read_text(encoding="utf-8")):
            target = ((ROOT / name).parent / link.partition("#")[0]).resolve()
            if target.suffix == ".md" and target.is_relative_to(ROOT) and target.exists():
                wanted.append(str(target.relative_to(ROOT)))
    assert {name for name in DOCUMENTS if name.startswith("docs/")} - seen == set()


def _command_lines(name: str) -> Iterator[str]:
    text = (ROOT / name).read_text(encoding="utf-8")
    for kind, block in re.findall(r"(?ms)^ *```(console|sh|bash)\n(.*?)^ *```", text):
        for line in block.splitlines():
            if kind != "console" or line.lstrip().startswith("$ "):  # the others are what it prints
                yield line.strip().removeprefix("$ ").partition("  #")[0].strip()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_commands_exist(name: str) -> None:
    """Every `mirrorwitness …` in a console block parses: the command, its flags, their values."""
    for line in _command_lines(name):
        words = shlex.split(line)
        if not words or words[0].rpartition("/")[2] != "mirrorwitness" or words[1:] == ["--version"]:
            continue
        command: click.Command = main
        context = click.Context(main, info_name="mirrorwitness")
        rest = words[1:]
        while isinstance(command, click.Group):
            found = command.get_command(context, rest[0])
            assert found is not None, f"{name}: {line}"
            command, rest = found, rest[1:]
        if "--help" not in rest:
            command.make_context(command.name, list(rest), parent=context)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_make_targets_exist(name: str) -> None:
    """Every `make …` that a document shows is a target of the Makefile."""
    targets = set(re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8")))
    text = (ROOT / name).read_text(encoding="utf-8")
    shown = {line.split()[1] for line in _command_lines(name) if line.startswith("make ")}
    shown |= set(re.findall(r"`make ([a-z-]+)", text))
    assert shown - targets == set()


@pytest.mark.parametrize("name", DOCUMENTS)
def test_options_exist(name: str) -> None:
    """Every `section.option` that a document shows as code is an option of mirrorwitness.toml."""
    known = {option.key for option in list_options()}
    sections = {key.partition(".")[0] for key in known if "." in key}
    shown = set(re.findall(r"`([a-z_]+\.[a-z_]+)(?: = [^`]*)?`", (ROOT / name).read_text(encoding="utf-8")))
    assert {option for option in shown if option.partition(".")[0] in sections} - known == set()
