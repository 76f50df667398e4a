"""The options of commands that add to a checksum database, and how they become `SumdbWishes`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from mirrorwitness.cli.options import Options, log_level_option
from mirrorwitness.cli.witness_options import read_time
from mirrorwitness.errors import ConfigurationError
from mirrorwitness.run.publishing import PublishWishes
from mirrorwitness.run.sumdb import SumdbWishes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["growing_options", "make_wishes", "place_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_OWN: Final = ("keys", "authority", "witnesses", "mirrors", "policy", "refresh")

_SOURCES: Final = (
    click.option(
        "--key", "keys", multiple=True, metavar="FILE", help="FILE or env:NAME, made by `sumdb init`; repeatable."
    ),
    click.option(
        "--registry",
        multiple=True,
        metavar="URL",
        help="Whose versions are logged; repeatable: the first is asked for names that have no other home.",
    ),
    click.option(
        "--authority",
        multiple=True,
        metavar="NAME=URL",
        help="The registry that a name, scope or glob is at home at; one of --registry. Repeatable.",
    ),
    click.option("--feed", metavar="URL", help="The registry's replication feed. Default: [feed] of the file."),
    click.option("--contact", metavar="ADDRESS", help="How an upstream's operator reaches you; in the User-Agent."),
    click.option("--signatures", type=click.Choice(["require", "verify", "off"]), help="Default: verify."),
)
"""The log's keys, and the registries that it is filled from."""

_QUORUM: Final = (
    click.option(
        "--witness",
        "witnesses",
        multiple=True,
        metavar="VKEY=URL",
        help="Who cosigns, and where it is asked; repeatable, also for several keys at one URL.",
    ),
    click.option(
        "--mirror",
        "mirrors",
        multiple=True,
        metavar="VKEY=URL",
        help="A log mirror that gets all entries; counts where --policy names it. Repeatable.",
    ),
    click.option(
        "--policy",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="The quorum (tlog-policy). Default: all that --witness names.",
    ),
    click.option(
        "--refresh",
        callback=read_time,
        default="1 h",
        show_default=True,
        metavar="TIME",
        help="Have an unchanged checkpoint cosigned again after this time.",
    ),
)
"""Who cosigns, and how many have to."""


def place_options(command: _Command) -> _Command:
    """Add the options that say where a database is."""
    for option in reversed((
        click.option(
            "--config", type=click.Path(path_type=Path), metavar="FILE", help="Default: mirrorwitness.toml here."
        ),
        click.option("--storage", metavar="STORAGE", help="file:DIR, or s3://BUCKET/PREFIX?endpoint=URL."),
        log_level_option,
    )):
        command = option(command)
    return command


def growing_options(command: _Command) -> _Command:
    """Add the options of whoever adds records: the log's keys, registries, witnesses and quorum."""
    for option in reversed((*_SOURCES, *_QUORUM)):
        command = option(command)
    return command


def make_wishes(
    given: Mapping[str, Any], *, is_service: bool, at: int | None = None, is_read_only: bool = False
) -> SumdbWishes:
    """Read files and environment, and put everything together.

    Args:
        given: click's keyword arguments of the options above.
        is_service: whether the command goes on until a signal arrives.
        at: the size of the tree that is shown.
        is_read_only: whether nothing is added.

    Raises:
        ConfigurationError: something is wrong or missing.
    """
    # --policy of a log is not that of a client: [sumdb] of the file says whom a *mirror* believes.
    shared = {name: value for name, value in given.items() if name not in _OWN}
    reads_only = is_read_only or at is not None
    session = Options.of(shared).load(needs_registry=not reads_only, is_service=is_service)
    return SumdbWishes(
        session=session,
        keys=given["keys"],
        authority=tuple([_split(text) for text in given["authority"]]),
        publishing=PublishWishes(
            witnesses=given["witnesses"],
            mirrors=given["mirrors"],
            policy=given["policy"],
            refresh=given["refresh"],
            contact=session.config.contact,
        ),
        at=at,
        is_read_only=is_read_only,
    )


def _split(text: str) -> tuple[str, str]:
    name, separator, registry = text.partition("=")
    if not separator or not name or not registry:
        raise ConfigurationError(
            f"--authority {text[:100]!r}: expected NAME=URL, for example @acme=https://npm.example"
        )
    return name, registry
