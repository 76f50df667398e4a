"""``mirrorwitness witness logs``: which logs a witness knows, and which of them it does not cosign any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.boundary import run_command
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_json, print_table
from mirrorwitness.run.witnessing import manage_logs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.witness.known import KnownLog

__all__ = ["logs"]

SCHEMA: Final = "mirrorwitness-witness-known-1"
"""``mirrorwitness-witness-logs-1`` is what the conformance suite says of its logs."""


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--storage", required=True, metavar="STORAGE", help="State: file:DIR or s3://BUCKET/PREFIX?…")
@click.option("--disable", metavar="ORIGIN", help="Cosign nothing more of this log.")
@click.option("--enable", metavar="ORIGIN", help="Cosign this log again.")
@json_option
def logs(*, storage: str, disable: str | None, enable: str | None, is_json: bool) -> None:
    """Show which logs a witness knows from lists or cosigned; disable one, or enable it again.

    A disabled log stays disabled whoever names it, a flag or a newer list, and is answered 404. Processes
    that run learn of it within half a minute, or at once where they get SIGHUP, and do not poll it any more. Logs of
    flags are shown once they were cosigned, and without their keys.

    \b
    Example:
      mirrorwitness witness logs --storage file:state --disable log.example.org/2026
    """
    if disable is not None and enable is not None:
        raise click.UsageError("give --disable or --enable, not both")
    found = run_command(lambda: manage_logs(storage, disable=disable, enable=enable), schema=SCHEMA, is_json=is_json)
    if is_json:
        print_json(SCHEMA, {"logs": [_document(log) for log in found], "exit_code": 0})
        return
    print_table(("log", "size", "state", "keys"), map(_row, found), numbers=frozenset({"size"}))


def _document(log: KnownLog) -> dict[str, object]:
    return {
        "origin": log.origin,
        "keys": [str(key) for key in log.keys],
        "disabled": log.is_disabled,
        "size": log.size,
    }


def _row(log: KnownLog) -> Sequence[str]:
    size = "" if log.size is None else str(log.size)
    return (log.origin, size, "disabled" if log.is_disabled else "", " ".join(map(str, log.keys)))
