"""``mirrorwitness plan``: what a sync would download, before it does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mirrorwitness.cli.bars import show_progress
from mirrorwitness.cli.boundary import run_command, stop_with
from mirrorwitness.cli.options import Options, common_options, json_option, selection_options, sumdb_options
from mirrorwitness.cli.output import EXIT_CODES_HELP, format_bytes, hint, print_facts, print_json, print_table
from mirrorwitness.errors import ExitCode
from mirrorwitness.mirror.plan import BYTES_WITHOUT_HINT
from mirrorwitness.run.jobs import make_plan

if TYPE_CHECKING:
    from mirrorwitness.mirror.plan import PackagePlan, Plan

__all__ = ["plan"]

SCHEMA = "mirrorwitness-plan-1"


@click.command(epilog=EXIT_CODES_HELP)
@selection_options
@common_options
@sumdb_options
@click.option("--exact", is_flag=True, help="Ask upstream for the size of every file (one HEAD request each).")
@json_option
def plan(*, exact: bool, is_json: bool, **given: object) -> None:
    """Print packages, versions, files and bytes that a sync would bring, and what is blocked and why.

    Downloads no tarball, and writes nothing but how many requests it sent (state/budget/) and, with --sumdb, the newest
    checkpoint that was verified (trust/). Bytes are exact for files that are stored already (and, with --exact, for
    all); otherwise they are estimated from upstream's unpacked size, and marked so.

    \b
    Example:
      mirrorwitness plan react@^18 '@types/*' --names-from names.txt
      mirrorwitness plan --lockfile package-lock.json --json
    """
    options = Options.of(given)
    with show_progress("planning", is_quiet=is_json) as progress:
        made = run_command(lambda: make_plan(options.load(), progress, ask_sizes=exact), schema=SCHEMA, is_json=is_json)
    code = _exit_code(made)
    if is_json:
        print_json(SCHEMA, {**_document(made), "exit_code": int(code)})
    else:
        _print(made)
    stop_with(code)


def _exit_code(made: Plan) -> ExitCode:
    if made.has_divergence:
        return ExitCode.DIVERGENCE
    return ExitCode.PARTIAL if made.has_gap else ExitCode.COMPLETE


def _document(made: Plan) -> dict[str, object]:
    return {
        "totals": made.totals(),
        "packages": [
            {
                "name": package.name,
                "versions": list(package.versions),
                "held": package.held,
                "held_bytes": package.held_bytes,
                "fetch": {
                    version: {"bytes": size.size, "exact": size.is_exact} for version, size in package.fetch.items()
                },
                "blocked": [
                    {"subject": block.subject, "kind": str(block.kind), "reason": block.reason}
                    for block in package.blocks
                ],
                "problem": package.problem,
            }
            for package in made.packages
        ],
    }


def _print(made: Plan) -> None:
    print_table(
        ("package", "versions", "stored", "to fetch", "bytes to fetch"),
        (_row(package) for package in made.packages if package.versions),
        numbers=frozenset({"stored", "to fetch", "bytes to fetch"}),
    )
    blocked = [
        (f"{package.name}@{block.subject}" if block.subject else package.name, str(block.kind), block.reason)
        for package in made.packages
        for block in package.blocks
    ]
    blocked += [(package.name, "problem", package.problem) for package in made.packages if package.problem is not None]
    if blocked:
        click.echo()
        print_table(("not served", "kind", "why"), blocked)
    click.echo()
    totals = made.totals()
    fetch = f"{totals['files_to_fetch']} files, {format_bytes(totals['bytes_to_fetch_exact'])} exact"
    if totals["files_estimated"]:
        fetch += f" + about {format_bytes(totals['bytes_to_fetch_estimated'])} estimated"
    print_facts([
        ("packages", f"{totals['packages']}, {totals['versions']} versions"),
        ("stored already", f"{totals['files_held']} files, {format_bytes(totals['bytes_held'])}"),
        ("to fetch", fetch),
        ("not served", f"{totals['blocked']} versions blocked, {totals['problems']} packages with a problem"),
    ])
    if totals["files_without_size"]:
        assumed = format_bytes(BYTES_WITHOUT_HINT)
        count = totals["files_without_size"]
        hint(f"upstream gives no size at all for {count} files: {assumed} assumed for each; --exact asks for true ones")


def _row(package: PackagePlan) -> tuple[str, ...]:
    size = sum(item.size for item in package.fetch.values())
    is_exact = all(item.is_exact for item in package.fetch.values())
    shown = list(package.versions[-3:])
    versions = (
        ", ".join(shown) if len(package.versions) <= len(shown) else f"… {', '.join(shown)} ({len(package.versions)})"
    )
    return (
        package.name,
        versions,
        str(package.held),
        str(len(package.fetch)),
        f"{'' if is_exact else '~'}{format_bytes(size)}" if package.fetch else "-",
    )
