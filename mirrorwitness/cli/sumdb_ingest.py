"""``mirrorwitness sumdb ingest``: bring a log up to what a registry says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import (
    EXIT_CODES_HELP,
    format_bytes,
    hint,
    list_counts,
    print_facts,
    print_json,
    print_table,
    warn,
)
from mirrorwitness.cli.sumdb_options import growing_options, make_wishes, place_options
from mirrorwitness.run.sumdb import ingest_log

if TYPE_CHECKING:
    from mirrorwitness.mirror.outcome import RunSummary

__all__ = ["ingest"]

SCHEMA: Final = "mirrorwitness-sumdb-ingest-1"

_RECORDS: Final = (
    ("records", "logged"),
    ("known", "known"),
    ("withdrawals", "withdrawn"),
    ("conflicts", "in conflict"),
)


@click.command(epilog=EXIT_CODES_HELP)
@click.argument("names", nargs=-1, metavar="[NAMES]...")
@click.option("--lockfile", multiple=True, type=click.Path(path_type=Path), metavar="FILE", help="Repeatable.")
@click.option("--once", "is_once", is_flag=True, help="Log what the feed shows now, then exit; for scheduled jobs.")
@click.option("--follow", "is_following", is_flag=True, help="Follow the feed until a signal arrives.")
@place_options
@growing_options
@json_option
def ingest(
    *,
    names: tuple[str, ...],
    lockfile: tuple[Path, ...],
    is_once: bool,
    is_following: bool,
    is_json: bool,
    **given: Any,
) -> None:
    """Log every version of packages: those named here or in lockfiles, or all that the feed tells of.

    Each version's bytes are downloaded and checked before its record is written; what the log has costs nothing. One
    process adds to a log at a time: a `sumdb serve` with --feed does the same, and this one loses against it.

    Exits with 4 where a registry shows other bytes than the log has (a conflict is logged), with 3 where versions could
    not be had or wait to be confirmed.

    \b
    Example:
      mirrorwitness sumdb ingest react @babel/core --storage file:sumdb --key sumdb.key --registry URL
      mirrorwitness sumdb ingest --lockfile package-lock.json --storage file:sumdb --key sumdb.key --registry URL
      mirrorwitness sumdb ingest --once --feed URL --storage s3://sumdb --key sumdb.key --registry URL
    """
    is_named = bool(names or lockfile)
    if is_named == (is_once or is_following) or (is_once and is_following):
        raise click.UsageError("give NAMES or --lockfile; or, for the feed, --once or --follow")

    async def work() -> RunSummary:
        wishes = make_wishes({**given, "names": names, "lockfile": lockfile}, is_service=is_following)
        # A line for each package is progress enough.
        is_logged = logging.getLogger("mirrorwitness.run").isEnabledFor(logging.INFO)
        with show_progress("logging", is_quiet=is_json or is_logged, counts_tarballs=False) as progress:
            return await ingest_log(wishes, progress, is_once=not is_following, is_named=is_named)

    summary = run_command(work, schema=SCHEMA, is_json=is_json)
    code = summary.exit_code()
    if is_json:
        print_json(SCHEMA, {**_document(summary), "exit_code": int(code)})
    else:
        _print(summary)
    if summary.fatal is not None:
        click.echo(f"error: the run stopped early: {summary.fatal}", err=True)
    stop_with(code)


def _document(summary: RunSummary) -> dict[str, object]:
    return {
        "counts": dict(sorted(summary.counts.items())),
        "problems": [
            {"name": problem.name, "status": problem.status, "reason": problem.reason} for problem in summary.problems
        ],
        "alarms": summary.alarms,
        "evidence": summary.evidence,
        "stopped_by": None if summary.fatal is None else str(summary.fatal),
        "interrupted": summary.is_interrupted,
    }


def _print(summary: RunSummary) -> None:
    counts = summary.counts
    states = ("updated", "unchanged", "unfinished", "diverged")
    print_facts([
        ("packages", ", ".join(f"{counts[f'packages_{state}']} {state}" for state in states)),
        ("records", ", ".join(f"{counts[f'log_{state}']} {word}" for state, word in _RECORDS)),
        ("refused", list_counts(counts, "log_refused_") or "none"),
        ("downloaded", f"{counts['tarballs_downloaded']} tarballs, {format_bytes(counts['bytes_downloaded'])}"),
    ])
    if summary.problems:
        rows = [(problem.name, str(problem.status), problem.reason) for problem in summary.problems]
        print_table(("package", "status", "reason"), rows)
    for alarm in summary.alarms:
        warn(alarm)
    for key in summary.evidence:
        hint(f"evidence: {key}")
