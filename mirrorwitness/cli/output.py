"""How commands speak: tables or one JSON document on standard output, everything else on standard error.

Rules:

- With ``--json`` standard output holds exactly one JSON document, also where the command fails half-way.
- Every document has ``"schema"``: the command's name and a number that is raised when a field changes its meaning.
- Nothing that only a person needs (progress, warnings, hints) ever goes to standard output.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import click
import orjson

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["EXIT_CODES_HELP", "format_bytes", "hint", "list_counts", "print_facts", "print_json", "print_table", "warn"]

EXIT_CODES_HELP: Final = """
\b
Exit codes:
  0    complete
  2    usage or configuration
  3    partial: named packages are unfinished, the next run tries them again
  4    divergence: bytes, a signature or a log disagree; the evidence is kept
  5    the upstream refused or could not be reached
  130  interrupted
"""

_UNITS: Final = ("kB", "MB", "GB", "TB")
_STEP: Final = 1000
_WIDE: Final = 200
"""Columns of a table that does not go to a terminal: wide enough that no name is cut."""


def format_bytes(count: float) -> str:
    """Return a number of bytes for people, in powers of 1,000: ``14.2 kB``."""
    if count < _STEP:
        return f"{count:.0f} B"
    power = min(len(_UNITS), int(math.log10(count) // 3))
    return f"{count / _STEP**power:.1f} {_UNITS[power - 1]}"


def list_counts(counts: Mapping[str, int], prefix: str) -> str:
    """Return the counters that begin with `prefix` as ``3 unsigned, 1 verified``."""
    return ", ".join(
        f"{count} {name.removeprefix(prefix)}" for name, count in sorted(counts.items()) if name.startswith(prefix)
    )


def print_json(schema: str, content: Mapping[str, object]) -> None:
    """Print the command's one document."""
    click.echo(orjson.dumps({"schema": schema, **content}, option=orjson.OPT_INDENT_2).decode())


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: frozenset[str] = frozenset()
) -> None:
    """Print a table; columns named in `numbers` are aligned to the right."""
    from rich.console import Console  # noqa: PLC0415 - slow to import, and a command that finds nothing has no table
    from rich.table import Table  # noqa: PLC0415 - as above

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(highlight=False, markup=False, emoji=False)
    if console.is_terminal:
        console.print(table)
        return
    console.width = _WIDE
    with console.capture() as capture:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in capture.get().rstrip().splitlines()))


def print_facts(facts: Iterable[tuple[str, str]]) -> None:
    """Print names and values in two columns."""
    facts = list(facts)
    width = max((len(name) for name, _ in facts), default=0)
    for name, value in facts:
        click.echo(f"{name.ljust(width)}  {value}")


def warn(text: str) -> None:
    """Tell a person something that needs attention."""
    click.echo(f"warning: {text}", err=True)


def hint(text: str) -> None:
    """Tell a person what to do next."""
    click.echo(text, err=True)
