"""The options that say whose witness a command is about, and those of a witness that runs."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click

from mirrorwitness.config.layers import WEBHOOK_VARIABLE
from mirrorwitness.config.quantities import Seconds, parse_quantity
from mirrorwitness.run.witnessing import WitnessWishes

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["read_some_time", "read_time", "running_options", "witness_options"]

_WISHES = (
    *("storage", "anchor", "keys", "logs", "lists"),
    *("refuses_extensions", "signs_subtrees", "rate", "refresh_lists", "webhook"),
)


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
        wishes = WitnessWishes(**{name: given.pop(name) for name in _WISHES if name in given})
        command(wishes=wishes, **given)

    return wrapped


def running_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options of a witness that runs; `witness_options` stands below it, and gives them with the others."""
    for option in (
        click.option(
            "--webhook",
            envvar=WEBHOOK_VARIABLE,
            metavar="URL",
            help="Post the evidence of a fork to it, as JSON. Where it is secret: MIRRORWITNESS_WEBHOOK.",
        ),
        click.option(
            "--refresh-lists",
            callback=read_time,
            default="1 h",
            show_default=True,
            metavar="TIME",
            help="Read --log-list again after this time; 0: on SIGHUP only.",
        ),
    ):
        command = option(command)
    return command


def read_time(_context: click.Context, _option: click.Parameter, value: str) -> float:
    """Read a length of time, ``60 s`` or ``1 h``; 0 is one."""
    try:
        return float(parse_quantity(Seconds, value))
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def read_some_time(context: click.Context, option: click.Parameter, value: str) -> float:
    """Read a length of time that is not 0."""
    found = read_time(context, option, value)
    if not found:
        raise click.BadParameter(f"found {value!r}, expected more than nothing")
    return found
