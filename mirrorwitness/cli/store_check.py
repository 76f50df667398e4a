"""``mirrorwitness store-check``: what a storage really enforces."""

from __future__ import annotations

import click

from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import json_option
from mirrorwitness.cli.output import EXIT_CODES_HELP, print_json, print_table
from mirrorwitness.errors import ExitCode
from mirrorwitness.storage.probe import DEFAULT_WRITERS, StoreReport, check_storage, format_report, report_document
from mirrorwitness.storage.probe_verdict import Role, Verdict

__all__ = ["store_check"]

SCHEMA = "mirrorwitness-store-check-1"


@click.command(name="store-check", epilog=EXIT_CODES_HELP)
@click.argument("storage", metavar="STORAGE")
@click.option("--short", is_flag=True, help="Only what `sync` asks once per storage.")
@click.option("--writers", default=DEFAULT_WRITERS, show_default=True, type=click.IntRange(2, 64), help="That race.")
@json_option
def store_check(*, storage: str, short: bool, writers: int, is_json: bool) -> None:
    """Report what a storage really enforces, by trying it: conditional writes under a race, checksums, key shapes.

    Writes below state/probe/ only, and removes it again. Exits with 2 when the storage is no place for a mirror, else
    with 0; what that means for a witness or a checksum database stands in the report.

    \b
    Example:
      mirrorwitness store-check file:mirror
      mirrorwitness store-check 's3://bucket/npm?endpoint=http://127.0.0.1:8333' --json
    """

    async def work() -> StoreReport:
        return await check_storage(storage, short=short, writers=writers)

    report = run_command(work, schema=SCHEMA, is_json=is_json)
    code = ExitCode.USAGE if report.verdict_for(Role.MIRROR) is Verdict.REFUSED else ExitCode.COMPLETE
    if is_json:
        print_json(SCHEMA, {**report_document(report), "exit_code": int(code)})
    else:
        print_table(
            ("capability", "verdict", "seen, and what it means"),
            (
                (r.capability, r.verdict, f"{r.seen}\n→ {r.meaning}" if r.meaning else r.seen)
                for r in format_report(report)
            ),
        )
    stop_with(code)
