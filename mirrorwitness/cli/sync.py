"""``mirrorwitness sync``: download, verify, store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option, selection_options
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
from mirrorwitness.run.jobs import run_sync

if TYPE_CHECKING:
    from mirrorwitness.mirror.outcome import RunSummary

__all__ = ["sync"]

SCHEMA = "mirrorwitness-sync-1"


@click.command(epilog=EXIT_CODES_HELP)
@selection_options
@common_options
@click.option("--once", is_flag=True, help="One pass over the selection, then exit; for scheduled jobs.")
@click.option("--dry-run", is_flag=True, help="Print the plan instead: the same as `mirrorwitness plan`.")
@json_option
@click.pass_context
def sync(context: click.Context, /, *, once: bool, dry_run: bool, is_json: bool, **given: object) -> None:
    """Bring the mirror up to date: every selected version's tarball, verified, then the documents that name it.

    Safe to interrupt and to run again at any time; what is stored stays consistent at every instant.

    \b
    Example:
      mirrorwitness sync --once
      mirrorwitness sync --once --lockfile package-lock.json --storage file:mirror
      mirrorwitness sync --once --storage 's3://bucket/mirror?endpoint=http://127.0.0.1:8333'
    """
    if dry_run:
        from mirrorwitness.cli.plan import plan  # noqa: PLC0415 - only here, and only in this case

        context.invoke(plan, exact=False, is_json=is_json, **given)
    if not once:
        raise click.UsageError("give --once; following the feed (--follow) is not built yet")
    options = Options.of(given)
    with show_progress("mirroring", is_quiet=is_json) as progress:
        summary = run_command(lambda: run_sync(options.load(), progress), schema=SCHEMA, is_json=is_json)
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
        ("downloaded", f"{counts['tarballs_downloaded']} tarballs, {format_bytes(counts['bytes_downloaded'])}"),
        ("mirror holds", f"{counts['versions']} versions, {format_bytes(counts['bytes'])}"),
        ("signatures", list_counts(counts, "signature_") or "none"),
        ("not served", list_counts(counts, "blocked_") or "nothing"),
    ])
    if summary.problems:
        click.echo()
        print_table(("package", "state", "why"), ((p.name, p.status, p.reason) for p in summary.problems))
    for alarm in summary.alarms:
        warn(alarm)
    for key in summary.evidence:
        hint(f"evidence: {key}")
