"""``mirrorwitness audit``: read what is stored again, and check it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option, sumdb_options
from mirrorwitness.cli.output import (
    EXIT_CODES_HELP,
    format_bytes,
    hint,
    list_counts,
    print_facts,
    print_json,
    print_table,
)
from mirrorwitness.run.jobs import run_audit

if TYPE_CHECKING:
    from mirrorwitness.run.jobs import AuditSummary

__all__ = ["audit"]

SCHEMA = "mirrorwitness-audit-1"


@click.command(epilog=EXIT_CODES_HELP)
@common_options
@sumdb_options
@click.option(
    "--sample", type=click.IntRange(min=1), metavar="N", help="Check N packages chosen at random; default all."
)
@click.option("--repair", is_flag=True, help="Fetch what is wrong again from upstream, verify it, and check once more.")
@json_option
def audit(*, sample: int | None, repair: bool, is_json: bool, **given: object) -> None:
    """Re-read stored bytes and check them against packuments, signatures and the proofs of a checksum database.

    Exits with 4 when anything is wrong, also what could not be repaired; with 3 when proofs are missing and nothing
    else is wrong; with 0 when everything is right, or was repaired and checked again. Only --repair asks anybody.

    \b
    Example:
      mirrorwitness audit --storage file:mirror
      mirrorwitness audit --sample 100 --json
      mirrorwitness audit --repair
    """
    options = Options.of(given)
    with show_progress("auditing", is_quiet=is_json) as progress:
        summary = run_command(
            lambda: run_audit(options.load(needs_registry=repair), progress, sample=sample, is_repair=repair),
            schema=SCHEMA,
            is_json=is_json,
        )
    code = summary.exit_code()
    if is_json:
        print_json(SCHEMA, {**_document(summary), "exit_code": int(code)})
    else:
        _print(summary, is_repair=repair)
    stop_with(code)


def _document(summary: AuditSummary) -> dict[str, object]:
    return {
        "counts": dict(sorted(summary.counts.items())),
        "findings": [
            {
                "kind": str(finding.kind),
                "name": finding.name,
                "version": finding.version,
                "key": finding.key,
                "reason": finding.reason,
            }
            for finding in summary.findings
        ],
        "repaired": summary.repaired,
        "unrepaired": summary.unrepaired,
    }


def _print(summary: AuditSummary, *, is_repair: bool) -> None:
    counts = summary.counts
    print_facts([
        ("checked", f"{counts['packages']} packages, {counts['tarballs']} tarballs, {format_bytes(counts['bytes'])}"),
        ("signatures", list_counts(counts, "signature_") or "none"),
        *([("proofs", f"{counts['proofs']} checked")] if counts["proofs"] else []),
        ("not served", f"{counts['tarballs_not_served']} tarballs that no document names"),
        ("findings", str(counts["findings"])),
    ])
    if summary.findings:
        click.echo()
        rows = (
            (str(f.kind), f.name if f.version is None else f"{f.name}@{f.version}", f.key, f.reason)
            for f in summary.findings
        )
        print_table(("finding", "package", "key", "why"), rows)
    for name in summary.repaired:
        click.echo(f"repaired {name}")
    for name, reason in summary.unrepaired.items():
        click.echo(f"not repaired {name}: {reason}")
    if summary.findings and not is_repair:
        hint("`mirrorwitness audit --repair` fetches what is wrong again from upstream")
