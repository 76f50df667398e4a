"""Whether our own command line takes what a manifest or a page says, without running anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from mirrorwitness.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence

VARIABLE = re.compile(r"\$\([A-Z_]+\)")
"""What Kubernetes puts the value of a variable in place of."""


def find_command_fault(args: Sequence[str]) -> str | None:
    """Return why the arguments would be refused, None where they are taken.

    Only the parser looks at them: options and how many arguments, not whether files are there.
    """
    command: click.Command = main
    words = list(args)
    while isinstance(command, click.Group):
        if not words:
            return "a command is missing"
        following = command.commands.get(words[0])
        if following is None:
            return f"no command {words[0]!r}"
        command, words = following, words[1:]
    try:
        parser = command.make_parser(click.Context(command))
        options, rest, _ = parser.parse_args([VARIABLE.sub("value", word) for word in words])
    except click.UsageError as error:
        return error.format_message()
    if rest:
        return f"left over: {rest}"
    missing = [each.name for each in command.params if each.required and not options.get(each.name or "")]
    return f"missing: {missing}" if missing else None
