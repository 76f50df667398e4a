"""``mirrorwitness witness poll``: cosign logs that do not come to the witness."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import json_option, log_level_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_json, print_table, warn
from mirrorwitness.cli.witness_options import read_some_time, read_time, running_options, witness_options
from mirrorwitness.errors import ExitCode
from mirrorwitness.run.polling import PollWishes, follow_logs, poll_once
from mirrorwitness.telemetry import configure_logs
from mirrorwitness.tlog.tiles import Dialect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mirrorwitness.run.polling import PollResult
    from mirrorwitness.run.witnessing import WitnessWishes
    from mirrorwitness.witness.feeder import Polled

__all__ = ["poll"]

SCHEMA: Final = "mirrorwitness-witness-poll-1"


@click.command(epilog=EXIT_CODES_HELP)
@click.option("--once", is_flag=True, help="Poll every log once, then exit; for scheduled jobs.")
@click.option("--follow", is_flag=True, help="Poll until a signal arrives.")
@click.option(
    "--dialect",
    type=click.Choice([dialect.value for dialect in Dialect]),
    default=Dialect.TILES.value,
    show_default=True,
    help="How the logs name what they serve. Go's own log is read as sumdb in any case.",
)
@click.option(
    "--every",
    callback=read_some_time,
    default="60 s",
    show_default=True,
    metavar="TIME",
    help="With --follow: between two polls of a log.",
)
@click.option(
    "--refresh",
    callback=read_some_time,
    default="1 h",
    show_default=True,
    metavar="TIME",
    help="Cosign a log without news again after this time.",
)
@click.option(
    "--older-head-after",
    "older_after",
    callback=read_time,
    default="10 min",
    show_default=True,
    metavar="TIME",
    help="A head that is older than what was cosigned is an alarm after this time; before it, a slow cache.",
)
@click.option(
    "--distributor",
    "distributors",
    multiple=True,
    metavar="URL",
    help="Put what was cosigned to URL/distributor/v0/…; repeatable.",
)
@click.option("--contact", metavar="ADDRESS", help="How a log's operator reaches you; in the User-Agent.")
@click.option(
    "--refuse-extensions", "refuses_extensions", is_flag=True, help="Refuse checkpoints with extension lines."
)
@log_level_option
@json_option
@running_options
@witness_options
def poll(
    *,
    wishes: WitnessWishes,
    once: bool,
    follow: bool,
    dialect: str,
    every: float,
    refresh: float,
    older_after: float,
    distributors: tuple[str, ...],
    contact: str | None,
    log_level: str | None,
    is_json: bool,
) -> None:
    """Read the checkpoints of logs that do not come to the witness, and cosign those that only grew.

    Polls the logs that are given with a URL, which is what comes before /checkpoint and /tile. Of a log that grew only
    the tiles are read that a consistency proof needs. The storage may be that of a `witness serve` that runs
    meanwhile, and of further polls.

    Exits with 4 where a log contradicts itself, shows an older head than before for some time, or serves what does not
    verify; with 3 where some logs could not be read, or were not cosigned; with 5 where none could be read.

    \b
    Example:
      mirrorwitness witness poll --once --storage file:state --key w1.key --log VKEY=https://log.example.org/2026
      mirrorwitness witness poll --follow --every '5 min' --storage s3://state --key w1.key --log VKEY=URL
    """
    if once == follow:
        raise click.UsageError("give --once for one pass, or --follow to go on until a signal arrives")
    if follow and is_json:
        raise click.UsageError("--json goes with --once; what a --follow does is in its log, one JSON object a line")
    fitting = "error" if once else "info"
    configure_logs(level=log_level or fitting, is_terminal=sys.stderr.isatty())
    asked = PollWishes(
        witness=wishes,
        dialect=Dialect(dialect),
        refresh=refresh,
        older_after=older_after,
        every=every,
        distributors=distributors,
        contact=contact,
    )
    if follow:
        is_finished = run_command(lambda: follow_logs(asked), schema=SCHEMA, is_json=False)
        stop_with(ExitCode.COMPLETE if is_finished else ExitCode.INTERRUPTED)
    result = run_command(lambda: poll_once(asked), schema=SCHEMA, is_json=is_json)
    _show(result, is_json=is_json)
    stop_with(result.exit_code())


def _show(result: PollResult, *, is_json: bool) -> None:
    if is_json:
        print_json(SCHEMA, {**result.document(), "exit_code": int(result.exit_code())})
        return
    print_table(
        ("log", "size before", "size after", "what was done", "why"),
        map(_row, result.logs),
        numbers=frozenset({"size before", "size after"}),
    )
    for note in result.notes:
        warn(note)


def _row(polled: Polled) -> Sequence[str]:
    sizes = ("?" if size is None else str(size) for size in (polled.before, polled.after))
    return (polled.origin, *sizes, polled.action.value, polled.text)
