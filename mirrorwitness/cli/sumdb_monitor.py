"""``mirrorwitness sumdb monitor``: read everything that a log gains, and tell what matters."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click
import orjson

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.check import default_state
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_facts, print_json, warn
from mirrorwitness.cli.witness_options import read_time
from mirrorwitness.run.files import read_file
from mirrorwitness.run.monitoring import MonitorReport, MonitorWishes, follow_log, monitor_once

if TYPE_CHECKING:
    from mirrorwitness.errors import UpstreamError
    from mirrorwitness.sumdb.watching import News

__all__ = ["monitor"]

SCHEMA: Final = "mirrorwitness-sumdb-monitor-1"

_FILE: Final = click.Path(path_type=Path)


@click.command(epilog=EXIT_CODES_HELP)
@click.option(
    "--sumdb",
    multiple=True,
    required=True,
    metavar="VKEY=URL",
    help="The log: its keys, and what is before /checkpoint.",
)
@click.option("--policy", type=_FILE, metavar="FILE", help="Who has to have cosigned (tlog-policy). Default: nobody.")
@click.option(
    "--watch",
    multiple=True,
    required=True,
    metavar="NAME|PATTERN|FILE",
    help="react, @scope/*, * for all, or a file with one a line; repeatable.",
)
@click.option("--witness", "witnesses", multiple=True, metavar="URL", help="Ask it what it saw of the log; repeatable.")
@click.option("--registry", metavar="URL", help="Whose names all are that --authority does not give to another one.")
@click.option("--authority", multiple=True, metavar="NAME=URL", help="Whose a name, scope or pattern is; repeatable.")
@click.option("--state", type=_FILE, metavar="DIR", help="What was read before. Default: in the user's cache.")
@click.option("--once", "is_once", is_flag=True, help="Read what is new, then exit; for scheduled jobs.")
@click.option("--follow", "is_following", is_flag=True, help="Go on until a signal arrives.")
@click.option(
    "--every",
    callback=read_time,
    default="60 s",
    show_default=True,
    metavar="TIME",
    help="With --follow: between passes.",
)
@click.option(
    "--witness-ahead-for",
    "ahead_for",
    callback=read_time,
    default="10 min",
    show_default=True,
    metavar="TIME",
    help="A witness that saw more than the log shows is an alarm after this time; before it, in doubt.",
)
@click.option("--from-now", "is_from_now", is_flag=True, help="The first time, begin with the present tree.")
@click.option("--contact", metavar="ADDRESS", help="How the log's operator reaches you; in the User-Agent.")
@json_option
def monitor(
    *,
    sumdb: tuple[str, ...],
    policy: Path | None,
    watch: tuple[str, ...],
    witnesses: tuple[str, ...],
    registry: str | None,
    authority: tuple[str, ...],
    state: Path | None,
    is_once: bool,
    is_following: bool,
    every: float,
    ahead_for: float,
    is_from_now: bool,
    contact: str | None,
    is_json: bool,
) -> None:
    """Read every entry that a log gains, and tell what happened to the names that you watch.

    New versions, withdrawals and conflicts of watched names are told; so are records that cannot both be true, records
    of registries that have no authority for a name (with --registry or --authority), and entries that are no records.
    Each --witness is asked which tree it saw: one that does not belong to ours is a fork, with evidence.

    With --follow and --json each piece of news is a line of JSON. Exits with 4 where something disagrees, with 3 where
    a witness could not be asked, or something may be nothing yet; with 5 where the log cannot be read.

    \b
    Example:
      mirrorwitness sumdb monitor --once --sumdb VKEY=URL --policy FILE --watch react --watch '@babel/*'
      mirrorwitness sumdb monitor --follow --sumdb VKEY=URL --watch names.txt --witness https://w1.example.org --json
    """
    if is_once == is_following:
        raise click.UsageError("give --once for one pass, or --follow to go on until a signal arrives")

    def make_wishes() -> MonitorWishes:
        return MonitorWishes(
            sumdb=sumdb,
            watch=watch,
            state=state or default_state(os.environ, sys.platform),
            policy=None if policy is None else read_file(policy),
            witnesses=witnesses,
            registry=registry,
            authority=authority,
            is_from_now=is_from_now,
            ahead_for=ahead_for,
            every=every,
            contact=contact,
        )

    async def work() -> MonitorReport:
        if is_following:
            return await follow_log(make_wishes(), _print_line if is_json else _print_news, _print_failure)
        return await monitor_once(make_wishes(), _keep if is_json else _print_news)

    report = run_command(work, schema=SCHEMA, is_json=is_json and is_once)
    code = report.exit_code()
    if not is_json:
        _print_report(report)
    elif is_once:
        print_json(SCHEMA, {**report.document(), "exit_code": int(code)})
    stop_with(code)


def _keep(_news: News) -> None:
    """Leave it to the document at the end."""


def _print_line(news: News) -> None:
    click.echo(orjson.dumps(news.document()).decode())


def _print_news(news: News) -> None:
    place = "" if news.index is None else f" (entry {news.index}, {news.registry or 'no registry'})"
    click.echo(f"{'ALARM ' if news.is_alarm else ''}{news.kind}: {news.subject}: {news.reason}{place}")
    if news.evidence:
        click.echo(f"  evidence: {news.evidence}")


def _print_failure(error: UpstreamError) -> None:
    warn(f"the log could not be read, tried again later: {error}")


def _print_report(report: MonitorReport) -> None:
    told = ", ".join(f"{count} {kind}" for kind, count in report.counts.items()) or "nothing"
    print_facts([
        ("log", report.origin),
        ("size", f"{report.size:,}"),
        ("read", f"{report.entries:,} entries, all of them verified"),
        ("told", told),
    ])
    if not report.asks_witnesses:
        warn(
            "no witness had to have cosigned (no --policy with a quorum): the log alone says that it shows all the same"
        )
