"""Commands that are imported when they are called."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest

from mirrorwitness.cli import _BELOW, _PLACES, main
from mirrorwitness.cli.commands import Commands, _load

HEAVY = ("trio", "rich", "httpx", "boto3", "cryptography")


def test_every_place_has_the_command_of_its_name() -> None:
    """And groups have those that belong to them."""
    assert {name: command.name for name, command in main.commands.items()} == {name: name for name in _PLACES}
    for group, places in _BELOW.items():
        found = main.commands[group]
        assert isinstance(found, click.Group)
        assert {_load(place).name for place in places} <= found.commands.keys()


@pytest.mark.slow
def test_what_nobody_called_is_not_imported() -> None:
    """A command line that starts quickly stays so."""
    code = "import sys, mirrorwitness.cli; print(' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert [name for name in HEAVY if name in done.stdout.split()] == []


def test_a_command_is_loaded_once_and_can_be_added_and_taken_away() -> None:
    """It is a mapping as `click.Group` wants one."""
    commands = Commands({"check": "check:check"}, {})
    assert commands["check"] is commands["check"]
    other = click.Command("other")
    commands["other"] = other
    assert (list(commands), len(commands), commands["other"]) == (["check", "other"], 2, other)
    del commands["other"]
    assert "other" not in commands
    with pytest.raises(KeyError):
        commands["none"]
