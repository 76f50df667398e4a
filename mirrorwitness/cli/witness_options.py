"""The options that say whose witness a command is about."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from mirrorwitness.run.witnessing import WitnessWishes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["witness_options"]


def witness_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say whose witness it is; the command gets them as `WitnessWishes`."""

    @click.option("--storage", required=True, metavar="STORAGE", help="State: file:DIR or s3://BUCKET/PREFIX?…")
    @click.option("--anchor", metavar="STORAGE", help="A second place for what was cosigned, restored on its own.")
    @click.option(
        "--key", "keys", multiple=True, metavar="FILE", help="FILE, env:NAME or awskms:KEYID?name=NAME; repeatable."
    )
    @click.option("--log", "logs", multiple=True, metavar="VKEY[=URL]", help="A log that is cosigned; repeatable.")
    @click.option("--log-list", "lists", multiple=True, metavar="FILE", help="Logs in the witness network's format.")
    @functools.wraps(command)
    def wrapped(**given: Any) -> None:
        names = ("storage", "anchor", "keys", "logs", "lists", "refuses_extensions", "signs_subtrees", "rate")
        wishes = WitnessWishes(**{name: given.pop(name) for name in names if name in given})
        command(wishes=wishes, **given)

    return wrapped
