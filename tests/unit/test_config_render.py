"""The file that ``init`` writes: every option stands in it, and it reads back."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from mirrorwitness.config import Config, Registry, list_options, load_config, render_config
from mirrorwitness.config.options import Deny, Feed, Limits, Observe, Select, Serve, Settings, Sumdb
from mirrorwitness.mirror.select import make_rule

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "m.toml"


def load(file: Path, text: str) -> Config:
    file.write_text(text, encoding="utf-8")
    return load_config(file, {})


class TestRender:
    def test_every_option_stands_in_it(self) -> None:
        """With its key, and its meaning above it."""
        text = render_config()
        for option in list_options():
            name = option.key.rpartition(".")[2]
            assert re.search(rf"^# {name} = ", text, re.MULTILINE), option.key
            assert option.description, option.key
            assert " ".join(option.description.split()[:4]) in text.replace("\n# ", " "), option.key

    def test_the_table_is_complete(self) -> None:
        """Every field of every struct is listed once."""
        tables: dict[str, type[msgspec.Struct]] = {
            "": Settings,
            "registry[].": Registry,
            "select[].": Select,
            "deny[].": Deny,
            "feed.": Feed,
            "sumdb.": Sumdb,
            "limits.": Limits,
            "serve.": Serve,
            "observe.": Observe,
        }
        fields = {prefix + field.name for prefix, table in tables.items() for field in msgspec.structs.fields(table)}
        keys = [option.key for option in list_options()]
        assert sorted(keys) == sorted(
            fields - {"registry", "select", "deny", "feed", "sumdb", "limits", "serve", "observe"}
        )

    def test_it_reads_back_as_the_defaults(self, file: Path) -> None:
        """With no comment taken away, nothing is set."""
        assert load(file, render_config()) == Config(path=file)

    def test_it_reads_back_as_what_was_given(self, file: Path) -> None:
        """What ``init`` was told stands in the file, odd characters too."""
        text = render_config(
            storage='file:./a "b"\\c\x7f',
            registries=["https://registry.example", "http://other.example"],
            contact="Zoë <z@example.org>",
            public_url="https://npm.example.org",
            lockfiles=["app/package-lock.json", "b.json"],
            names=["react@^18", "left"],
            scopes={"@corp": "https://npm.corp.example", "@ü": "http://b.example/x"},
        )
        assert load(file, text) == Config(
            path=file,
            storage=f"file:{file.parent}/" + 'a "b"\\c\x7f',
            registries=(Registry(url="https://registry.example"), Registry(url="http://other.example")),
            contact="Zoë <z@example.org>",
            public_url="https://npm.example.org",
            scopes={"@corp": "https://npm.corp.example", "@ü": "http://b.example/x"},
            lockfiles=(file.parent / "app/package-lock.json", file.parent / "b.json"),
            rules=(
                make_rule("react", versions="^18", origin=f"{file}: select[2]"),
                make_rule("left", origin=f"{file}: select[2]"),
            ),
        )

    def test_the_defaults_in_comments_are_the_defaults(self, file: Path) -> None:
        """Taking the comments of ``limits`` and ``serve`` away changes nothing."""
        text, _, observe = render_config().partition("[observe]")
        head, _, tail = text.partition("[limits]")
        bare = re.sub(r"^# ([a-z_]+ = )", r"\1", tail, flags=re.MULTILINE)
        assert len(tomllib.loads("[limits]" + bare)["limits"]) == len(msgspec.structs.fields(Limits))
        assert load(file, f"{head}[limits]{bare}[observe]{observe}") == Config(path=file)

    def test_examples_can_stand_in_the_file(self, file: Path) -> None:
        """Each example is a value that its option takes."""
        for option in list_options():
            for example in option.examples:
                self._try(file, option.key, example)

    @staticmethod
    def _try(file: Path, key: str, example: Any) -> None:
        table, _, name = key.rpartition(".")
        shown = str(example).lower() if isinstance(example, bool | int) else repr(example).replace("': ", "' = ")
        rendered = f"{name} = {shown}\n"
        needed = {
            "registry[]": "url = 'http://a'\n",
            "select[]": "name = 'a'\n",
            "deny[]": "name = 'a'\nreason = 'b'\n",
        }
        lines = [line for line in needed.get(table, "").splitlines(keepends=True) if not line.startswith(f"{name} =")]
        if key == "select[].lockfile":
            lines = []
        if key == "select[].prereleases":
            lines.append("latest = 1\n")
        header = f"[[{table[:-2]}]]\n" if table.endswith("[]") else f"[{table}]\n" if table else ""
        assert load(file, header + rendered + "".join(lines)).path == file
