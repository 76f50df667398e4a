"""The parts of the reference pages that are made from the code: ``make docs`` writes them, a test compares them.

A page holds ``<!-- BEGIN name -->`` … ``<!-- END name -->``; what stands between is a value of `BLOCKS`. All else
in a page is written by hand, and other tests in this folder hold it to the code.
"""

from __future__ import annotations

import inspect
import os
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli import main
from mirrorwitness.config import list_options
from tests.docs.examples import make_examples
from tests.fakes.thread import serve_in_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["BLOCK", "BLOCKS", "PAGES", "ROOT", "fill", "walk_commands"]

ROOT: Final = Path(__file__).resolve().parent.parent.parent
PAGES: Final = ROOT / "docs" / "reference"
BLOCK: Final = re.compile(r"(?s)(<!-- BEGIN ([a-z-]+) -->\n)(.*?)(<!-- END \2 -->\n)")


def walk_commands(command: click.Command = main, path: str = "mirrorwitness") -> Iterator[tuple[str, click.Command]]:
    """Yield every command with the words that call it, groups before what is in them."""
    yield path, command
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from walk_commands(inner, f"{path} {name}")


def make_commands() -> str:
    """Describe every command: what it does, its usage, and each option with its default and meaning."""
    return "\n".join(_describe_command(path, command) for path, command in walk_commands())


def _describe_command(path: str, command: click.Command) -> str:
    context = click.Context(command, info_name=path)
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [f"### `{path}`", "", _prose(command), "", "```", f"{path} {usage}", "```", ""]
    if example := _example(command):
        parts += ["```console", example, "```", ""]
    options = [parameter for parameter in command.params if isinstance(parameter, click.Option)]
    if options:
        parts += ["| option | default | meaning |", "|---|---|---|"]
        parts += [
            f"| {_name(option, context)} | {_default(option)} | {_cell(option.help or '')} |" for option in options
        ]
        parts.append("")
    return "\n".join(parts)


def _prose(command: click.Command) -> str:
    text = inspect.cleandoc(command.help or "").partition("\b")[0].strip()
    return text if text.endswith((".", ":")) else f"{text}."


def _example(command: click.Command) -> str:
    """Return the commands of the help's example."""
    block = inspect.cleandoc(command.help or "").partition("\b")[2].strip("\n").split("\n\n")[0]
    return "\n".join(f"$ {line.strip()}" for line in block.splitlines() if line.startswith("  "))


def _name(option: click.Option, context: click.Context) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    value = "" if option.is_flag else f" `{option.make_metavar(context)}`"
    return _cell(f"{names}{value}{' (repeatable)' if option.multiple else ''}")


def _default(option: click.Option) -> str:
    return f"`{option.default}`" if option.show_default else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def make_options() -> str:
    """List every option of the configuration: key, environment variable, default, meaning with its unit."""
    rows = ["| option | environment variable | default | meaning |", "|---|---|---|---|"]
    for option in list_options():
        default = "required" if option.required else _show_default(option.default)
        variable = "" if option.environment is None else f"`{option.environment}`"
        rows.append(f"| `{option.key}` | {variable} | {default} | {_cell(option.description)} |")
    return "\n".join(rows) + "\n"


def _show_default(value: object) -> str:
    if value in (None, (), {}):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _make_example(name: str) -> Callable[[], str]:
    return lambda: f"```json\n{_examples()[name]}\n```\n"


_CACHE: dict[str, str] = {}


def _examples() -> dict[str, str]:
    """Run the commands once for all blocks."""
    if not _CACHE:
        before = Path.cwd()
        with tempfile.TemporaryDirectory() as folder, serve_in_thread() as registry:
            os.chdir(folder)
            try:
                _CACHE.update(make_examples(registry))
            finally:
                os.chdir(before)
    return _CACHE


EXAMPLES: Final = (
    *("init", "plan", "sync", "status", "why", "release", "audit", "compare", "summarize", "store-check", "store-copy"),
    *("check", "bundle-export", "bundle-import", "sumdb-init", "sumdb-ingest", "sumdb-fsck", "sumdb-monitor"),
    *("logmirror-poll", "logmirror-push", "logmirror-adopt", "logmirror-retire", "logmirror-attest"),
    *("witness-poll", "witness-inspect", "witness-verify", "witness-evidence", "witness-adopt", "witness-retire"),
    *("witness-prove", "witness-logs", "witness-conformance", "witness-conformance-logs", "error", "about"),
)

BLOCKS: Final[dict[str, Callable[[], str]]] = {
    "commands": make_commands,
    "options": make_options,
    **{f"json-{name}": _make_example(name) for name in EXAMPLES},
}


def fill(text: str) -> str:
    """Return a page with its blocks made anew."""
    return BLOCK.sub(lambda found: f"{found[1]}{BLOCKS[found[2]]()}{found[4]}", text)


def write() -> None:
    """Write all blocks anew; what ``make docs`` does."""
    for page in sorted(PAGES.glob("*.md")):
        old = page.read_text(encoding="utf-8")
        new = fill(old)
        if new != old:
            page.write_text(new, encoding="utf-8")
            print(f"wrote {page.relative_to(ROOT)}")  # noqa: T201 - a script's output


if __name__ == "__main__":
    write()
